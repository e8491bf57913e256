#pragma once
/// Gradients of fake_quantize with respect to its input (straight-through estimators).
#include <span>

#include <po2quant/kernels/fake_quantize_backward.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/tensor/mask.hpp>
#include <po2quant/tensor/storage.hpp>
#include <po2quant/training/channel_quantizer.hpp>
#include <po2quant/training/streaming.hpp>

namespace po2quant {

/// How the gradient of the rounding is taken.
struct gradient_options {
    ste estimator = ste::clip_code;
};

namespace detail {

template <class Storage, class Quantizer>
void check_backward(std::span<const Storage> input, std::span<const Storage> grad_output, std::span<Storage> grad_input,
                    const Quantizer& q, gradient_options options) {
    constexpr const char* function = "fake_quantize_backward";
    check_quantizer(function, q, input.size());
    check_estimator(function, options.estimator);
    check_span(function, "input", input, input.size());
    check_span(function, "grad_output", grad_output, input.size());
    check_span(function, "grad_input", grad_input, input.size());
    check_overlap(function, "grad_input", grad_input, input, true);
    check_overlap(function, "grad_input", grad_input, grad_output, true);
}

/// Whether a gradient goes past the caches: it is large, and not in the memory of what it is computed from.
template <class Storage>
bool streams_gradient(std::span<Storage> grad_input, const Storage* input, const Storage* grad_output) {
    return streams(grad_input.size_bytes()) && grad_input.data() != input && grad_input.data() != grad_output;
}

template <class Arch, class Storage, class Executor>
void fake_quantize_backward(std::span<const Storage> input, std::span<const Storage> grad_output,
                            std::span<Storage> grad_input, const quantizer& q, gradient_options options,
                            const Executor& run) {
    check_backward(input, grad_output, grad_input, q, options);
    const float_interval codes = pass_interval(q.format, q.mode, options.estimator);
    const float scale = exp2_float(q.exponent);
    const bool stream = streams_gradient(grad_input, input.data(), grad_output.data());
    run.parallel_for(task_count(input.size()), [&](std::int64_t task) {
        const auto [begin, end] = task_range(task, input.size());
        const Storage* x = input.data() + begin;
        const Storage* dy = grad_output.data() + begin;
        Storage* dx = grad_input.data() + begin;
        if (passes_by_code(q.mode, options.estimator))
            kernels::pass_gradient_stochastic<Arch>(x, dy, dx, end - begin, q.exponent, kernels::grid_of(q, begin),
                                                    stream);
        else kernels::pass_gradient<Arch>(x, dy, dx, end - begin, {codes.low * scale, codes.high * scale}, stream);
    });
}

template <class Arch, class Storage, class Executor>
void fake_quantize_backward(std::span<const Storage> input, std::span<const Storage> grad_output,
                            std::span<Storage> grad_input, const channel_quantizer& q, gradient_options options,
                            const Executor& run) {
    check_backward(input, grad_output, grad_input, q, options);
    const float_interval codes = pass_interval(q.format, q.mode, options.estimator);
    const std::size_t channels = q.exponents.size();
    const auto inner = static_cast<std::size_t>(q.inner);
    const bool by_code = passes_by_code(q.mode, options.estimator);
    const bool stream = streams_gradient(grad_input, input.data(), grad_output.data());
    run.parallel_for(task_count(input.size()), [&](std::int64_t task) {
        const auto part = task_range(task, input.size());
        const Storage* x = input.data();
        const Storage* dy = grad_output.data();
        Storage* dx = grad_input.data();
        if (inner == 1) {
            const auto run_channels = [&](auto kernel, const auto& inside) {
                kernel(x + part.begin, dy + part.begin, dx + part.begin, part.size(), q.exponents.data(), channels,
                       part.begin % channels, inside);
            };
            if (by_code)
                run_channels(kernels::pass_gradient_stochastic_channels<Arch, Storage>,
                             kernels::grid_of(q, part.begin));
            else run_channels(kernels::pass_gradient_channels<Arch, Storage>, codes);
            return;
        }
        for_each_run(part, inner, channels, [&](std::size_t i, std::size_t count, std::size_t channel) {
            const int e = q.exponents[channel];
            if (by_code)
                kernels::pass_gradient_stochastic<Arch>(x + i, dy + i, dx + i, count, e, kernels::grid_of(q, i),
                                                        stream);
            else
                kernels::pass_gradient<Arch>(x + i, dy + i, dx + i, count,
                                             {codes.low * exp2_float(e), codes.high * exp2_float(e)}, stream);
        });
    });
}

}  // namespace detail

/// grad_input[i] = input[i] passes ? grad_output[i] : +0, with `input` the x that fake_quantize was given; NaN never
/// passes. `grad_input` may be `grad_output` or `input` itself; in memory of its own it is written past the caches from
/// 32 MB on (not where channels are innermost or lie in runs of less than 1024 elements). All three are of one storage
/// type; nothing is rounded. Errors as fake_quantize's.
template <class Arch = default_arch, storage_range Input = std::span<const float>,
          readable_like<Input> Upstream = std::span<const storage_of<Input>>,
          writable_like<Input> Output = std::span<storage_of<Input>>, executor Executor = serial_executor>
void fake_quantize_backward(const Input& input, const Upstream& grad_output, Output&& grad_input, const quantizer& q,
                            gradient_options options = {}, const Executor& run = {}) {
    detail::fake_quantize_backward<Arch, storage_of<Input>>(input, grad_output, grad_input, q, options, run);
}

/// The same with one exponent per channel.
template <class Arch = default_arch, storage_range Input = std::span<const float>,
          readable_like<Input> Upstream = std::span<const storage_of<Input>>,
          writable_like<Input> Output = std::span<storage_of<Input>>, executor Executor = serial_executor>
void fake_quantize_backward(const Input& input, const Upstream& grad_output, Output&& grad_input,
                            const channel_quantizer& q, gradient_options options = {}, const Executor& run = {}) {
    detail::fake_quantize_backward<Arch, storage_of<Input>>(input, grad_output, grad_input, q, options, run);
}

/// grad_input[i] = bit i of `mask` ? grad_output[i] : +0, with the mask that the forward pass left
/// (forward_outputs::mask): a thirty-second of reading the input again, a sixteenth for 16-bit storage. `grad_input`
/// may be `grad_output`. Throws std::invalid_argument, before anything is written, for sizes that differ and partial
/// overlap.
template <class Arch = default_arch, storage_range Upstream = std::span<const float>,
          writable_like<Upstream> Output = std::span<storage_of<Upstream>>, executor Executor = serial_executor>
void fake_quantize_backward(std::span<const std::uint8_t> mask, const Upstream& grad_output, Output&& grad_input,
                            const Executor& run = {}) {
    constexpr const char* function = "fake_quantize_backward";
    using storage = storage_of<Upstream>;
    const std::span<const storage> dy(grad_output);
    const std::span<storage> dx(grad_input);
    const std::size_t n = dy.size();
    detail::check_span(function, "mask", mask, mask_bytes(n));
    detail::check_span(function, "grad_output", dy, n);
    detail::check_span(function, "grad_input", dx, n);
    detail::check_overlap(function, "grad_input", dx, dy, true);
    detail::check_overlap(function, "grad_input", dx, mask, false);
    const bool stream = detail::streams_gradient<storage>(dx, nullptr, dy.data());
    run.parallel_for(detail::task_count(n), [&](std::int64_t task) {
        const auto [begin, end] = detail::task_range(task, n);
        kernels::pass_gradient_masked<Arch>(mask.data(), begin, dy.data() + begin, dx.data() + begin, end - begin,
                                            stream);
    });
}

}  // namespace po2quant
