#pragma once
/// Gradients of fake_quantize with respect to its input (straight-through estimators).
#include <span>

#include <po2quant/kernels/fake_quantize_backward.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/tensor/mask.hpp>
#include <po2quant/training/channel_quantizer.hpp>

namespace po2quant {

/// How the gradient of the rounding is taken.
struct gradient_options {
    ste estimator = ste::clip_code;
};

namespace detail {

template <class Quantizer>
void check_backward(std::span<const float> input, std::span<const float> grad_output, std::span<float> grad_input,
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

}  // namespace detail

/// grad_input[i] = input[i] passes ? grad_output[i] : +0, with `input` the x that fake_quantize was given; NaN never
/// passes. `grad_input` may be `grad_output` or `input` itself. Errors as fake_quantize's.
template <class Arch = default_arch, executor Executor = serial_executor>
void fake_quantize_backward(std::span<const float> input, std::span<const float> grad_output,
                            std::span<float> grad_input, const quantizer& q, gradient_options options = {},
                            const Executor& run = {}) {
    detail::check_backward(input, grad_output, grad_input, q, options);
    const float_interval codes = pass_interval(q.format, q.mode, options.estimator);
    const float scale = exp2_float(q.exponent);
    run.parallel_for(detail::task_count(input.size()), [&](std::int64_t task) {
        const auto [begin, end] = detail::task_range(task, input.size());
        const float* x = input.data() + begin;
        const float* dy = grad_output.data() + begin;
        float* dx = grad_input.data() + begin;
        if (detail::passes_by_code(q.mode, options.estimator))
            kernels::pass_gradient_stochastic<Arch>(x, dy, dx, end - begin, q.exponent, kernels::grid_of(q, begin));
        else kernels::pass_gradient<Arch>(x, dy, dx, end - begin, {codes.low * scale, codes.high * scale});
    });
}

/// The same with one exponent per channel.
template <class Arch = default_arch, executor Executor = serial_executor>
void fake_quantize_backward(std::span<const float> input, std::span<const float> grad_output,
                            std::span<float> grad_input, const channel_quantizer& q, gradient_options options = {},
                            const Executor& run = {}) {
    detail::check_backward(input, grad_output, grad_input, q, options);
    const float_interval codes = pass_interval(q.format, q.mode, options.estimator);
    const std::size_t channels = q.exponents.size();
    const auto inner = static_cast<std::size_t>(q.inner);
    const bool by_code = detail::passes_by_code(q.mode, options.estimator);
    run.parallel_for(detail::task_count(input.size()), [&](std::int64_t task) {
        const auto part = detail::task_range(task, input.size());
        const float* x = input.data();
        const float* dy = grad_output.data();
        float* dx = grad_input.data();
        if (inner == 1 && !by_code) {
            kernels::pass_gradient_channels<Arch>(x + part.begin, dy + part.begin, dx + part.begin, part.size(),
                                                  q.exponents.data(), channels, part.begin % channels, codes);
            return;
        }
        detail::for_each_run(part, inner, channels, [&](std::size_t i, std::size_t count, std::size_t channel) {
            const int e = q.exponents[channel];
            if (by_code)
                kernels::pass_gradient_stochastic<Arch>(x + i, dy + i, dx + i, count, e, kernels::grid_of(q, i));
            else
                kernels::pass_gradient<Arch>(x + i, dy + i, dx + i, count,
                                             {codes.low * exp2_float(e), codes.high * exp2_float(e)});
        });
    });
}

/// grad_input[i] = bit i of `mask` ? grad_output[i] : +0, with the mask that the forward pass left
/// (forward_outputs::mask): a thirty-second of reading the input again. `grad_input` may be `grad_output`. Throws
/// std::invalid_argument, before anything is written, for sizes that differ and partial overlap.
template <class Arch = default_arch, executor Executor = serial_executor>
void fake_quantize_backward(std::span<const std::uint8_t> mask, std::span<const float> grad_output,
                            std::span<float> grad_input, const Executor& run = {}) {
    constexpr const char* function = "fake_quantize_backward";
    const std::size_t n = grad_output.size();
    detail::check_span(function, "mask", mask, mask_bytes(n));
    detail::check_span(function, "grad_output", grad_output, n);
    detail::check_span(function, "grad_input", grad_input, n);
    detail::check_overlap(function, "grad_input", grad_input, grad_output, true);
    detail::check_overlap(function, "grad_input", grad_input, mask, false);
    run.parallel_for(detail::task_count(n), [&](std::int64_t task) {
        const auto [begin, end] = detail::task_range(task, n);
        kernels::pass_gradient_masked<Arch>(mask.data(), begin, grad_output.data() + begin, grad_input.data() + begin,
                                            end - begin);
    });
}

}  // namespace po2quant
