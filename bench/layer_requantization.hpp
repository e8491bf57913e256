#pragma once
/// How the sums of every layer that is measured become codes: by 2^-7, half up, relu6, which is 0..96 on a grid of
/// 2^-4.
#include <po2quant/inference/requantization.hpp>

namespace po2quant::bench {

inline constexpr int weight_exponents[] = {-7};
inline constexpr int bias_exponents[] = {-11};
inline constexpr int shift = 7;

inline requantization layer_requantization(integer_format input = int8, rounding mode = rounding::half_up) {
    return {.input_exponent = -4,
            .weight_exponents = weight_exponents,
            .bias_exponents = bias_exponents,
            .output_exponent = -4,
            .clamp = activation::relu6,
            .mode = mode,
            .input_format = input};
}

}  // namespace po2quant::bench
