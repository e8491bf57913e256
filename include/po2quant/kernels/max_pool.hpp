#pragma once
/// Max pooling of a rectangle of output pixels that see the same taps: the largest code under the window, byte by byte,
/// channels in lanes. Padding never wins; a window without a valid tap gives −128.
#include <po2quant/kernels/average_pool.hpp>

namespace po2quant::kernels {

template <class Arch>
void max_pool(const pool_rectangle& r) {
    using ops = simd::integer<Arch>;
    constexpr std::int64_t width = 4 * ops::lanes;
    constexpr std::int8_t lowest = -128;
    for (std::int64_t y = 0; y < r.rows; ++y) {
        for (std::int64_t x = 0; x < r.columns; ++x) {
            const std::int8_t* in = r.input + y * r.input_row + x * r.input_column;
            auto* out = static_cast<std::int8_t*>(r.output) + y * r.output_row + x * r.output_column;
            if (r.tap_count == 0) {
                for (std::int64_t c = 0; c < r.channels; ++c) out[c] = lowest;
                continue;
            }
            std::int64_t c = 0;
            for (; c + width <= r.channels; c += width) {
                auto best = ops::load_bytes(in + r.taps[0] + c);
                for (std::int64_t t = 1; t < r.tap_count; ++t)
                    best = ops::max_bytes(best, ops::load_bytes(in + r.taps[t] + c));
                ops::store_bytes(out + c, best);
            }
            for (; c < r.channels; ++c) {
                std::int8_t best = in[r.taps[0] + c];
                for (std::int64_t t = 1; t < r.tap_count; ++t) {
                    const std::int8_t v = in[r.taps[t] + c];
                    best = v > best ? v : best;
                }
                out[c] = best;
            }
        }
    }
}

}  // namespace po2quant::kernels
