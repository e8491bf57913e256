#pragma once
/// Convolutions as textbook loops: the specification of kernels/conv2d.hpp and kernels/depthwise_conv2d.hpp.
#include <cstdint>
#include <span>

#include <po2quant/tensor/convolution.hpp>

namespace po2quant::reference {

/// Bias of channel o on the accumulator's grid, and its shift.
struct channel_rule {
    std::int64_t bias;
    int shift;
};

inline channel_rule rule_of(std::size_t o, const bias_codes& bias, const requantization& q) {
    const auto pick = [o](std::span<const int> v) { return v.size() == 1 ? v[0] : v[o]; };
    const int e_acc = q.input_exponent + pick(q.weight_exponents);
    return {bias.empty() ? 0 : align_bias(bias[o], pick(q.bias_exponents), e_acc), q.output_exponent - e_acc};
}

/// sums[n][y][x][o] = bias[o] + Σ input · weight, padding 0.
template <class Input>
void conv2d_sums(const conv2d_shape& s, std::span<const Input> input, std::span<const std::int8_t> weights,
                 const bias_codes& bias, const requantization& q, weight_layout layout, std::span<std::int32_t> sums) {
    const nhwc out = s.output();
    const window2d& w = s.window;
    std::size_t at = 0;
    for (std::int64_t n = 0; n < out.batch; ++n)
        for (std::int64_t y = 0; y < out.height; ++y)
            for (std::int64_t x = 0; x < out.width; ++x)
                for (std::int64_t o = 0; o < s.outputs; ++o) {
                    std::int64_t sum = rule_of(static_cast<std::size_t>(o), bias, q).bias;
                    const std::int64_t first = o / s.group_outputs() * s.group_inputs();
                    for (std::int64_t ky = 0; ky < w.kernel.height; ++ky)
                        for (std::int64_t kx = 0; kx < w.kernel.width; ++kx) {
                            const std::int64_t iy = y * w.stride.height - w.padding.top + ky * w.dilation.height;
                            const std::int64_t ix = x * w.stride.width - w.padding.left + kx * w.dilation.width;
                            if (iy < 0 || iy >= s.input.height || ix < 0 || ix >= s.input.width) continue;
                            for (std::int64_t c = 0; c < s.group_inputs(); ++c) {
                                const std::int64_t i =
                                    ((n * s.input.height + iy) * s.input.width + ix) * s.input.channels + first + c;
                                sum += std::int64_t{input[static_cast<std::size_t>(i)]} *
                                       weights[static_cast<std::size_t>(s.weight_index(layout, ky, kx, c, o))];
                            }
                        }
                    sums[at++] = static_cast<std::int32_t>(sum);
                }
}

inline void depthwise_conv2d_sums(const depthwise_conv2d_shape& s, std::span<const std::int8_t> input,
                                  std::span<const std::int8_t> weights, const bias_codes& bias, const requantization& q,
                                  weight_layout layout, std::span<std::int32_t> sums) {
    const nhwc out = s.output();
    const window2d& w = s.window;
    std::size_t at = 0;
    for (std::int64_t n = 0; n < out.batch; ++n)
        for (std::int64_t y = 0; y < out.height; ++y)
            for (std::int64_t x = 0; x < out.width; ++x)
                for (std::int64_t o = 0; o < s.outputs(); ++o) {
                    std::int64_t sum = rule_of(static_cast<std::size_t>(o), bias, q).bias;
                    for (std::int64_t ky = 0; ky < w.kernel.height; ++ky)
                        for (std::int64_t kx = 0; kx < w.kernel.width; ++kx) {
                            const std::int64_t iy = y * w.stride.height - w.padding.top + ky * w.dilation.height;
                            const std::int64_t ix = x * w.stride.width - w.padding.left + kx * w.dilation.width;
                            if (iy < 0 || iy >= s.input.height || ix < 0 || ix >= s.input.width) continue;
                            const std::int64_t i =
                                ((n * s.input.height + iy) * s.input.width + ix) * s.input.channels + o / s.multiplier;
                            sum += std::int64_t{input[static_cast<std::size_t>(i)]} *
                                   weights[static_cast<std::size_t>(s.weight_index(layout, ky, kx, o))];
                        }
                    sums[at++] = static_cast<std::int32_t>(sum);
                }
}

/// codes = clamp(round(sums / 2^shift)), channel by channel.
inline void requantize_sums(std::span<const std::int32_t> sums, std::span<std::int8_t> codes, std::int64_t channels,
                            const requantization& q) {
    const code_range range = clamp_range(q.clamp, q.output_format, q.output_exponent, q.mode);
    for (std::size_t i = 0; i < sums.size(); ++i) {
        const channel_rule rule = rule_of(i % static_cast<std::size_t>(channels), {}, q);
        codes[i] = static_cast<std::int8_t>(po2quant::requantize(sums[i], rule.shift, q.mode, range));
    }
}

}  // namespace po2quant::reference
