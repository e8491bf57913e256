#pragma once
/// Rescaling and addition of codes, one by one: the specification of kernels/requantize.hpp.
#include <cstdint>
#include <span>

#include <po2quant/numerics/accumulator.hpp>

namespace po2quant::reference {

template <class In, class Out>
void requantize(std::span<const In> input, std::span<Out> output, int shift, rounding mode, code_range range) {
    for (std::size_t i = 0; i < input.size(); ++i)
        output[i] = static_cast<Out>(po2quant::requantize(input[i], shift, mode, range));
}

/// Exponents differ by up to 22.
inline void add(std::span<const std::int8_t> a, std::span<const std::int8_t> b, std::span<std::int8_t> output,
                int a_exponent, int b_exponent, int output_exponent, rounding mode, code_range range) {
    const int finer = a_exponent < b_exponent ? a_exponent : b_exponent;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const std::int32_t sum = a[i] * (1 << (a_exponent - finer)) + b[i] * (1 << (b_exponent - finer));
        output[i] = static_cast<std::int8_t>(po2quant::requantize(sum, output_exponent - finer, mode, range));
    }
}

}  // namespace po2quant::reference
