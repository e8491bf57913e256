#pragma once
/// Kernels compiled once for all tests of this executable: for its flags' instruction set, or for PO2QUANT_LAYERS.
#include <po2quant/inference/depthwise_conv2d.hpp>
#include <po2quant/inference/fully_connected.hpp>
#include <po2quant/inference/integer_forward.hpp>
#include <po2quant/inference/layer_kernels.hpp>

namespace po2quant::test {

#if defined(PO2QUANT_LAYERS)
inline const layer_kernels& layers = compiled_layer_kernels{}(arch::PO2QUANT_LAYERS{});
#else
inline const layer_kernels& layers = compiled_layer_kernels{}(default_arch{});
#endif

inline conv2d make_layer(const conv2d_shape& s, std::span<const std::int8_t> weights, const bias_codes& bias,
                         const requantization& q, weight_layout layout = weight_layout::hwio) {
    return conv2d(s, weights, bias, q, layout, layers.conv2d);
}
inline depthwise_conv2d make_layer(const depthwise_conv2d_shape& s, std::span<const std::int8_t> weights,
                                   const bias_codes& bias, const requantization& q,
                                   weight_layout layout = weight_layout::hwio) {
    return depthwise_conv2d(s, weights, bias, q, layout, layers.depthwise_conv2d);
}

}  // namespace po2quant::test
