#pragma once
/// Kernels of one instruction set as function pointers; isa_kernels.cpp is compiled once for each.
#include <cstddef>
#include <cstdint>

#include <po2quant/inference/layer_kernels.hpp>
#include <po2quant/numerics/storage.hpp>

namespace po2quant::bench {

struct kernel_table {
    const char* name;
    void (*fake_quantize)(const float* in, float* out, std::size_t n);
    void (*fake_quantize_backward)(const float* x, const float* dy, float* dx, std::size_t n);
    void (*fake_quantize_stochastic)(const float* in, float* out, std::size_t n);
    void (*fake_quantize_bfloat16)(const bfloat16* in, bfloat16* out, std::size_t n);
    void (*fake_quantize_float16)(const float16* in, float16* out, std::size_t n);
    void (*backward_bfloat16)(const bfloat16* x, const bfloat16* dy, bfloat16* dx, std::size_t n);
    void (*backward_float16)(const float16* x, const float16* dy, float16* dx, std::size_t n);
    void (*fake_quantize_observe_mask)(const float* in, float* out, std::uint8_t* mask, std::size_t n);
    void (*fake_quantize_channels_inner)(const float* in, float* out, std::size_t n);  ///< 64 channels
    void (*fake_quantize_channels_outer)(const float* in, float* out, std::size_t n);  ///< 64 channels, n / 64 each
    void (*backward_mask)(const std::uint8_t* mask, const float* dy, float* dx, std::size_t n);
    double (*backward_tqt)(const float* x, const float* dy, float* dx, std::size_t n);
    void (*histogram)(const float* in, std::size_t n, std::uint64_t* counts);
    float (*minmax)(const float* in, std::size_t n);
    void (*quantize)(const float* in, std::int8_t* out, std::size_t n);
    void (*dequantize)(const std::int8_t* in, float* out, std::size_t n);
    void (*add)(const std::int8_t* a, const std::int8_t* b, std::int8_t* out, std::size_t n);
    const layer_kernels& layers;

    /// Roofs: int8 multiply-accumulates by the set's best dot product, in registers; reads; reads and writes in place;
    /// reads of two and writes of one.
    std::int64_t (*dot_products)(std::int64_t repetitions);  ///< returns the multiply-accumulates done
    void (*read)(const float* in, std::size_t n);
    void (*read_write)(float* in_place, std::size_t n);
    void (*read2_write1)(const float* a, const float* b, float* out, std::size_t n);
};

struct compiled_kernels {
    template <class Arch>
    kernel_table operator()(Arch) const;
};

}  // namespace po2quant::bench
