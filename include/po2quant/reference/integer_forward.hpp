#pragma once
/// The forward pass of a fake-quantized convolution as textbook loops: the specification of
/// inference/integer_forward.hpp. A depthwise convolution is one with as many groups as input channels.
#include <cstdint>
#include <span>

#include <po2quant/numerics/accumulator.hpp>
#include <po2quant/numerics/quantizer.hpp>
#include <po2quant/tensor/convolution.hpp>

namespace po2quant::reference {

/// y = Σ x·w + bias, rounded to float32 once; x and w are codes of floats, element i of each by random number i where
/// rounding is stochastic. `weight_exponents` has one exponent, or one per output channel; sums must fit int32.
inline void integer_forward_conv2d(const conv2d_shape& s, std::span<const float> input, const quantizer& input_q,
                                   std::span<const float> weights, const quantizer& weight_q,
                                   std::span<const int> weight_exponents, weight_layout layout,
                                   std::span<const float> bias, std::span<float> output) {
    const nhwc out = s.output();
    const window2d& w = s.window;
    std::size_t at = 0;
    for (std::int64_t n = 0; n < out.batch; ++n)
        for (std::int64_t y = 0; y < out.height; ++y)
            for (std::int64_t x = 0; x < out.width; ++x)
                for (std::int64_t o = 0; o < s.outputs; ++o) {
                    const auto channel = static_cast<std::size_t>(o);
                    quantizer q = weight_q;
                    q.exponent = weight_exponents[weight_exponents.size() == 1 ? 0 : channel];
                    const std::int64_t first = o / s.group_outputs() * s.group_inputs();
                    std::int64_t sum = 0;
                    for (std::int64_t ky = 0; ky < w.kernel.height; ++ky)
                        for (std::int64_t kx = 0; kx < w.kernel.width; ++kx) {
                            const std::int64_t iy = y * w.stride.height - w.padding.top + ky * w.dilation.height;
                            const std::int64_t ix = x * w.stride.width - w.padding.left + kx * w.dilation.width;
                            if (iy < 0 || iy >= s.input.height || ix < 0 || ix >= s.input.width) continue;
                            for (std::int64_t c = 0; c < s.group_inputs(); ++c) {
                                const auto i = static_cast<std::size_t>(
                                    ((n * s.input.height + iy) * s.input.width + ix) * s.input.channels + first + c);
                                const auto k = static_cast<std::size_t>(s.weight_index(layout, ky, kx, c, o));
                                sum += std::int64_t{quantize(input[i], input_q, i)} * quantize(weights[k], q, k);
                            }
                        }
                    output[at++] = scaled_sum(static_cast<std::int32_t>(sum), input_q.exponent + q.exponent,
                                              bias.empty() ? 0.0F : bias[channel]);
                }
}

}  // namespace po2quant::reference
