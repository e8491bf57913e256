#pragma once
/// Average pooling of a row of output pixels that see the same taps: the int32 sum of the codes under the window, or
/// its mean rounded half up (rounded_mean of tensor/pool.hpp).
///
/// Channels in lanes: two taps at a time are widened to int16, interleaved and summed into int32 by a multiplication
/// with 1, as in kernels/depthwise_conv2d.hpp; sums leave in channel order through channel_of.
#include <po2quant/kernels/depthwise_conv2d.hpp>
#include <po2quant/tensor/pool.hpp>

namespace po2quant::kernels {

struct pool_rectangle {
    const std::int8_t* input;    ///< first tap of the first pixel
    std::int64_t input_row;      ///< elements from a pixel's input to that of the pixel below
    std::int64_t input_column;   ///< … and to that of the pixel beside
    void* output;                ///< first channel of the first pixel
    std::int64_t output_row;     ///< elements
    std::int64_t output_column;  ///< elements
    std::int64_t rows;
    std::int64_t columns;
    const std::int64_t* taps;  ///< elements from the pixel's first tap
    std::int64_t tap_count;
    std::int64_t channels;
};

/// Output: int32_t for sums, int16_t and int8_t for means. A mean of no taps is 0.
template <class Arch, class Output>
void average_pool(const pool_rectangle& r) {
    using ops = simd::integer<Arch>;
    constexpr int width = 2 * ops::lanes;
    constexpr int fraction_bits = sizeof(Output) == 2 ? 8 : 0;
    alignas(64) std::int16_t one[width];
    for (std::int16_t& v : one) v = 1;
    const auto ones = ops::load_words(one);
    for (std::int64_t y = 0; y < r.rows; ++y) {
        for (std::int64_t x = 0; x < r.columns; ++x) {
            const std::int8_t* in = r.input + y * r.input_row + x * r.input_column;
            Output* out = static_cast<Output*>(r.output) + y * r.output_row + x * r.output_column;
            for (std::int64_t c = 0; c < r.channels; c += width) {
                const int count = r.channels - c < width ? static_cast<int>(r.channels - c) : width;
                const auto load = [&](const std::int8_t* p) PO2Q_INLINE_LAMBDA {
                    return count == width ? ops::widen(p) : ops::widen_first(p, count);
                };
                auto low = ops::set(0);
                auto high = low;
                for (std::int64_t t = 0; t < r.tap_count; t += 2) {
                    const auto a = load(in + r.taps[t] + c);
                    const auto b = t + 1 < r.tap_count ? load(in + r.taps[t + 1] + c) : ops::zero_words();
                    low = ops::multiply_add(low, ops::interleave_low(a, b), ones);
                    high = ops::multiply_add(high, ops::interleave_high(a, b), ones);
                }
                alignas(64) std::int32_t sums[width];
                ops::store(sums, low);
                ops::store(sums + ops::lanes, high);
                for (int v = 0; v < 2; ++v)
                    for (int lane = 0; lane < ops::lanes; ++lane) {
                        const int channel = ops::channel_of(2, v, lane);
                        if (channel >= count) continue;
                        const std::int32_t sum = sums[v * ops::lanes + lane];
                        if constexpr (sizeof(Output) == 4) out[c + channel] = sum;
                        else
                            out[c + channel] = r.tap_count == 0
                                                   ? Output{0}
                                                   : static_cast<Output>(rounded_mean(sum, r.tap_count, fraction_bits));
                    }
            }
        }
    }
}

}  // namespace po2quant::kernels
