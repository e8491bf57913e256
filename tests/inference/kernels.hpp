#pragma once
/// The kernels of this executable's instruction set, PO2QUANT_ISA, compiled once for all of its tests.
#include <po2quant/inference/depthwise_conv2d.hpp>
#include <po2quant/inference/fully_connected.hpp>
#include <po2quant/inference/integer_forward.hpp>
#include <po2quant/inference/layer_kernels.hpp>

#define PO2QUANT_JOIN_(a, b) a##b
#define PO2QUANT_JOIN(a, b) PO2QUANT_JOIN_(a, b)

namespace po2quant {

extern const layer_kernels PO2QUANT_JOIN(PO2QUANT_ISA, _layers);

namespace test {

inline const layer_kernels& layers = PO2QUANT_JOIN(PO2QUANT_ISA, _layers);

inline conv2d make_layer(const conv2d_shape& s, std::span<const std::int8_t> weights, const bias_codes& bias,
                         const requantization& q, weight_layout layout = weight_layout::hwio) {
    return conv2d(s, weights, bias, q, layout, layers.conv2d);
}
inline depthwise_conv2d make_layer(const depthwise_conv2d_shape& s, std::span<const std::int8_t> weights,
                                   const bias_codes& bias, const requantization& q,
                                   weight_layout layout = weight_layout::hwio) {
    return depthwise_conv2d(s, weights, bias, q, layout, layers.depthwise_conv2d);
}

}  // namespace test
}  // namespace po2quant
