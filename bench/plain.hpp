#pragma once
/// Plain loops, compiled by themselves at −O3 −march=native: what a user has without the library.
#include <cstddef>
#include <cstdint>

#include <po2quant/tensor/convolution.hpp>

namespace po2quant::bench::plain {

void fake_quantize(const float* in, float* out, std::size_t n);
/// By random_bits(0, i); n < 2^32.
void fake_quantize_stochastic(const float* in, float* out, std::size_t n);
void fake_quantize_backward(const float* x, const float* dy, float* dx, std::size_t n);
float minmax(const float* in, std::size_t n);
void quantize(const float* in, std::int8_t* out, std::size_t n);
void dequantize(const std::int8_t* in, float* out, std::size_t n);
void add(const std::int8_t* a, const std::int8_t* b, std::int8_t* out, std::size_t n);
/// half_up by `shift`, clamped to 0..96; weights HWIO (depthwise: HWC), bias int32 on the accumulator's grid.
void conv2d(const conv2d_shape& s, const std::int8_t* in, const std::int8_t* weights, const std::int32_t* bias,
            int shift, std::int8_t* out, std::int32_t* sums);
void depthwise_conv2d(const depthwise_conv2d_shape& s, const std::int8_t* in, const std::int8_t* weights,
                      const std::int32_t* bias, int shift, std::int8_t* out, std::int32_t* sums);

}  // namespace po2quant::bench::plain
