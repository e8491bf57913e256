#pragma once
/// The kernels of this executable's instruction set. They are compiled once per set, in kernels.cpp; tests take them
/// from there.
#include <po2quant/inference/depthwise_conv2d.hpp>
#include <po2quant/inference/fully_connected.hpp>
#include <po2quant/inference/integer_forward.hpp>

namespace po2quant::test {

const kernels::conv2d_table& conv2d_kernels();
const kernels::depthwise_table& depthwise_kernels();
const kernels::quantize_table& quantize_kernels();

inline conv2d make_layer(const conv2d_shape& s, std::span<const std::int8_t> weights, const bias_codes& bias,
                         const requantization& q, weight_layout layout = weight_layout::hwio) {
    return conv2d(s, weights, bias, q, layout, conv2d_kernels());
}
inline depthwise_conv2d make_layer(const depthwise_conv2d_shape& s, std::span<const std::int8_t> weights,
                                   const bias_codes& bias, const requantization& q,
                                   weight_layout layout = weight_layout::hwio) {
    return depthwise_conv2d(s, weights, bias, q, layout, depthwise_kernels());
}

}  // namespace po2quant::test
