#pragma once
/// Pools as textbook loops: the specification of kernels/average_pool.hpp and kernels/max_pool.hpp.
#include <cstdint>
#include <span>

#include <po2quant/tensor/pool.hpp>

namespace po2quant::reference {

/// Calls visit(output index, input index) for every tap inside the image, and finish(output index) after the last.
template <class Visit, class Finish>
void for_each_tap(const pool_shape& s, Visit visit, Finish finish) {
    const nhwc out = s.output();
    const window2d& w = s.window;
    std::size_t at = 0;
    for (std::int64_t n = 0; n < out.batch; ++n)
        for (std::int64_t y = 0; y < out.height; ++y)
            for (std::int64_t x = 0; x < out.width; ++x)
                for (std::int64_t c = 0; c < out.channels; ++c, ++at) {
                    for (std::int64_t ky = 0; ky < w.kernel.height; ++ky)
                        for (std::int64_t kx = 0; kx < w.kernel.width; ++kx) {
                            const std::int64_t iy = y * w.stride.height - w.padding.top + ky * w.dilation.height;
                            const std::int64_t ix = x * w.stride.width - w.padding.left + kx * w.dilation.width;
                            if (iy < 0 || iy >= s.input.height || ix < 0 || ix >= s.input.width) continue;
                            visit(at, static_cast<std::size_t>(
                                          ((n * s.input.height + iy) * s.input.width + ix) * s.input.channels + c));
                        }
                    finish(at);
                }
}

template <class Output>
void average_pool(const pool_shape& s, std::span<const std::int8_t> input, std::span<Output> output) {
    std::int64_t sum = 0;
    std::int64_t area = 0;
    for_each_tap(
        s,
        [&](std::size_t, std::size_t i) {
            sum += input[i];
            ++area;
        },
        [&](std::size_t at) {
            if constexpr (sizeof(Output) == 4) output[at] = static_cast<Output>(sum);
            else
                output[at] =
                    area == 0 ? Output{0} : static_cast<Output>(rounded_mean(sum, area, sizeof(Output) == 2 ? 8 : 0));
            sum = 0;
            area = 0;
        });
}

inline void max_pool(const pool_shape& s, std::span<const std::int8_t> input, std::span<std::int8_t> output) {
    std::int8_t best = -128;
    for_each_tap(
        s, [&](std::size_t, std::size_t i) { best = input[i] > best ? input[i] : best; },
        [&](std::size_t at) {
            output[at] = best;
            best = -128;
        });
}

}  // namespace po2quant::reference
