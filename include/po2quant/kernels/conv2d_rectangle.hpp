#pragma once
/// What a convolution kernel is called with: a rectangle of output pixels that see the same taps, and a block of
/// outputs.
#include <cstdint>

#include <po2quant/kernels/epilogue.hpp>

namespace po2quant::kernels {

/// One run of inputs of every pixel, and its weights, as distances in elements.
struct conv2d_tap {
    std::int64_t input;    ///< from the pixel's first tap
    std::int64_t weights;  ///< from the block's first weight, per output lane
};

template <class Input>
struct conv2d_rectangle {
    const Input* input;          ///< first tap of the first pixel, first channel of the group
    std::int64_t input_row;      ///< elements from a pixel's input to that of the pixel below
    std::int64_t input_column;   ///< … and to that of the pixel beside
    void* output;                ///< first channel of the block at the first pixel: int8 codes, int32 sums or floats
    std::int64_t output_row;     ///< elements
    std::int64_t output_column;  ///< elements
    std::int64_t rows;
    std::int64_t columns;
    const conv2d_tap* taps;
    std::int64_t tap_count;
    std::int64_t run;          ///< elements per tap
    const void* weights;       ///< the block's packed weights, aligned to 64 bytes
    const std::int32_t* bias;  ///< the block's, in lane order
    int outputs;               ///< channels of the block that exist
    requantize_block requantize;
};

}  // namespace po2quant::kernels
