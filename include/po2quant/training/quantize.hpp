#pragma once
/// Floats to integer codes and back: what export and integer engines need.
#include <limits>
#include <span>

#include <po2quant/kernels/quantize.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/tensor/codes.hpp>
#include <po2quant/training/channel_quantizer.hpp>
#include <po2quant/training/streaming.hpp>

namespace po2quant {

namespace detail {

template <class Code, class Quantizer>
void check_quantize(std::span<const float> input, std::span<Code> codes, const Quantizer& q) {
    check_quantizer("quantize", q, input.size());
    using limits = std::numeric_limits<Code>;
    check_code_range("quantize", q.format, limits::min(), limits::max());
    check_span("quantize", "input", input, input.size());
    check_span("quantize", "output", codes, input.size());
    check_overlap("quantize", "output", codes, input, false);
}

/// Elements `part` of the tensor `input` to output[0] and following, by the kernels of `table`.
template <class Code>
void quantize_part(const kernels::quantize_table& table, std::span<const float> input, Code* output, element_range part,
                   const quantizer& q) {
    const auto mode = static_cast<std::size_t>(q.mode);
    const kernels::grid g = kernels::grid_of(q, part.begin);
    const auto run = [&](auto kernel, auto* to) {
        kernel(input.data() + part.begin, to, part.size(), q.exponent, g, is_far(input));
    };
    if constexpr (sizeof(Code) == 2) run(table.tensor16[mode], output);
    else run(table.tensor8[mode], reinterpret_cast<std::int8_t*>(output));
}
template <class Code>
void quantize_part(const kernels::quantize_table& table, std::span<const float> input, Code* output, element_range part,
                   const channel_quantizer& q) {
    const std::size_t channels = q.exponents.size();
    const auto inner = static_cast<std::size_t>(q.inner);
    const auto mode = static_cast<std::size_t>(q.mode);
    if (inner == 1) {
        const kernels::grid g = kernels::grid_of(q, part.begin);
        const auto run = [&](auto kernel, auto* to) {
            kernel(input.data() + part.begin, to, part.size(), q.exponents.data(), channels, part.begin % channels, g);
        };
        if constexpr (sizeof(Code) == 2) run(table.channels16[mode], output);
        else run(table.channels8[mode], reinterpret_cast<std::int8_t*>(output));
        return;
    }
    for_each_run(part, inner, channels, [&](std::size_t i, std::size_t count, std::size_t channel) {
        quantize_part(table, input, output + (i - part.begin), {i, i + count},
                      quantizer{q.format, q.exponents[channel], q.mode, q.seed});
    });
}

}  // namespace detail

/// output[i] = clamp(round(input[i] * 2^−e), qmin, qmax); NaN gives 0, ±∞ saturate. The elements of `output` are
/// int8_t, uint8_t or int16_t and must hold qmin..qmax. Throws std::invalid_argument, before anything is written, for
/// sizes that differ, null or overlapping spans, and a quantizer out of range.
template <class Arch = default_arch, codes_range Codes, executor Executor = serial_executor>
requires writable_range<Codes>
void quantize(std::span<const float> input, Codes&& output, const quantizer& q, const Executor& run = {}) {
    const std::span codes(output);
    detail::check_quantize(input, codes, q);
    run.parallel_for(detail::task_count(input.size()), [&](std::int64_t task) {
        const auto part = detail::task_range(task, input.size());
        detail::quantize_part(kernels::quantize_table_of<Arch>, input, codes.data() + part.begin, part, q);
    });
}

/// The same with one exponent per channel.
template <class Arch = default_arch, codes_range Codes, executor Executor = serial_executor>
requires writable_range<Codes>
void quantize(std::span<const float> input, Codes&& output, const channel_quantizer& q, const Executor& run = {}) {
    const std::span codes(output);
    detail::check_quantize(input, codes, q);
    run.parallel_for(detail::task_count(input.size()), [&](std::int64_t task) {
        const auto part = detail::task_range(task, input.size());
        detail::quantize_part(kernels::quantize_table_of<Arch>, input, codes.data() + part.begin, part, q);
    });
}

/// output[i] = input[i] * 2^exponent, exact; the elements of `input` are int8_t, uint8_t or int16_t.
template <class Arch = default_arch, codes_range Codes, executor Executor = serial_executor>
void dequantize(const Codes& input, std::span<float> output, int exponent, const Executor& run = {}) {
    const std::span<const element_of<Codes>> codes(input);
    detail::check_exponent("dequantize", "exponent", exponent);
    detail::check_span("dequantize", "input", codes, codes.size());
    detail::check_span("dequantize", "output", output, codes.size());
    detail::check_overlap("dequantize", "output", output, codes, false);
    run.parallel_for(detail::task_count(codes.size()), [&](std::int64_t task) {
        const auto [begin, end] = detail::task_range(task, codes.size());
        kernels::dequantize<Arch>(codes.data() + begin, output.data() + begin, end - begin, exponent);
    });
}

/// The same with one exponent per channel; format, mode and seed of q are not read.
template <class Arch = default_arch, codes_range Codes, executor Executor = serial_executor>
void dequantize(const Codes& input, std::span<float> output, const channel_quantizer& q, const Executor& run = {}) {
    const std::span<const element_of<Codes>> codes(input);
    detail::check_channel_exponents("dequantize", q, codes.size());
    detail::check_span("dequantize", "input", codes, codes.size());
    detail::check_span("dequantize", "output", output, codes.size());
    detail::check_overlap("dequantize", "output", output, codes, false);
    const std::size_t channels = q.exponents.size();
    const auto inner = static_cast<std::size_t>(q.inner);
    run.parallel_for(detail::task_count(codes.size()), [&](std::int64_t task) {
        const auto part = detail::task_range(task, codes.size());
        if (inner == 1) {
            kernels::dequantize_channels<Arch>(codes.data() + part.begin, output.data() + part.begin, part.size(),
                                               q.exponents.data(), channels, part.begin % channels);
            return;
        }
        detail::for_each_run(part, inner, channels, [&](std::size_t i, std::size_t count, std::size_t channel) {
            kernels::dequantize<Arch>(codes.data() + i, output.data() + i, count, q.exponents[channel]);
        });
    });
}

}  // namespace po2quant
