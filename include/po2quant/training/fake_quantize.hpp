#pragma once
/// Fake quantization: floats onto the grid that the deployed integers will use, in one pass.
#include <span>

#include <po2quant/kernels/fake_quantize.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/training/channel_quantizer.hpp>

namespace po2quant {

/// output[i] = clamp(round(input[i] * 2^−e), qmin, qmax) * 2^e; NaN stays NaN, codes of 0 give +0, ±∞ saturate.
/// `output` may be `input` itself. Any size, any alignment. Throws std::invalid_argument, before anything is written,
/// for sizes that differ, null spans, partial overlap, and a quantizer out of range.
template <class Arch = default_arch, executor Executor = serial_executor>
void fake_quantize(std::span<const float> input, std::span<float> output, const quantizer& q,
                   const Executor& run = {}) {
    detail::check_quantizer("fake_quantize", q, input.size());
    detail::check_span("fake_quantize", "input", input, input.size());
    detail::check_span("fake_quantize", "output", output, input.size());
    detail::check_overlap("fake_quantize", "output", output, input, true);
    detail::with_rounding(q.mode, [&]<rounding Mode>(std::integral_constant<rounding, Mode>) {
        run.parallel_for(detail::task_count(input.size()), [&](std::int64_t task) {
            const auto [begin, end] = detail::task_range(task, input.size());
            kernels::fake_quantize<Arch, Mode>(input.data() + begin, output.data() + begin, end - begin, q.exponent,
                                               kernels::grid_of(q, begin));
        });
    });
}

/// The same with one exponent per channel; see channel_quantizer for the layouts.
template <class Arch = default_arch, executor Executor = serial_executor>
void fake_quantize(std::span<const float> input, std::span<float> output, const channel_quantizer& q,
                   const Executor& run = {}) {
    detail::check_quantizer("fake_quantize", q, input.size());
    detail::check_span("fake_quantize", "input", input, input.size());
    detail::check_span("fake_quantize", "output", output, input.size());
    detail::check_overlap("fake_quantize", "output", output, input, true);
    const std::size_t channels = q.exponents.size();
    const auto inner = static_cast<std::size_t>(q.inner);
    detail::with_rounding(q.mode, [&]<rounding Mode>(std::integral_constant<rounding, Mode>) {
        run.parallel_for(detail::task_count(input.size()), [&](std::int64_t task) {
            const auto part = detail::task_range(task, input.size());
            const float* in = input.data();
            float* out = output.data();
            if (inner == 1) {
                kernels::fake_quantize_channels<Arch, Mode>(in + part.begin, out + part.begin, part.size(),
                                                            q.exponents.data(), channels, part.begin % channels,
                                                            kernels::grid_of(q, part.begin));
                return;
            }
            detail::for_each_run(part, inner, channels, [&](std::size_t i, std::size_t count, std::size_t channel) {
                kernels::fake_quantize<Arch, Mode>(in + i, out + i, count, q.exponents[channel],
                                                   kernels::grid_of(q, i));
            });
        });
    });
}

}  // namespace po2quant
