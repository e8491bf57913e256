#pragma once
/// Fully connected layer: a 1×1 convolution of 1×1 images.
#include <po2quant/inference/conv2d.hpp>

namespace po2quant {

/// The shape of a conv2d that is a fully connected layer: input [batch][inputs], output [batch][outputs], weights
/// [inputs][outputs] in the layout hwio or [outputs][inputs] in ohwi and oihw.
constexpr conv2d_shape fully_connected_shape(std::int64_t batch, std::int64_t inputs, std::int64_t outputs) {
    return {.input = {.batch = batch, .height = 1, .width = 1, .channels = inputs}, .outputs = outputs};
}

/// conv2d under the name of what it is used for.
class fully_connected : public conv2d {
public:
    template <class... Arguments>
    fully_connected(std::int64_t batch, std::int64_t inputs, std::int64_t outputs, std::span<const std::int8_t> weights,
                    const bias_codes& bias, const requantization& q, const Arguments&... layout_and_arch)
        : conv2d(fully_connected_shape(batch, inputs, outputs), weights, bias, q, layout_and_arch...) {}
    template <class... Arguments>
    fully_connected(std::int64_t batch, std::int64_t inputs, std::int64_t outputs, const packed_codes& weights,
                    const bias_codes& bias, const requantization& q, const Arguments&... layout_and_arch)
        : conv2d(fully_connected_shape(batch, inputs, outputs), weights, bias, q, layout_and_arch...) {}
};

}  // namespace po2quant
