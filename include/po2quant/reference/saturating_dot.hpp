#pragma once
/// Sums of products in an accumulator of few bits that saturates at every step, as the ESP32-S3's vector unit has them.
#include <cstdint>
#include <span>

#include <po2quant/numerics/target_requantize.hpp>

namespace po2quant::reference {

/// bias + Σ inputs[i] * weights[i], held inside `bits` bits after the bias and after each product, in the order given:
/// once a step saturates, the result depends on that order. The ESP32-S3 sums int8 products in lanes of 20 bits
/// (160-bit halves of QACC) and loads the bias there; the order is that of its kernels: rows, columns, channels of the
/// window. Where Σ |inputs[i] * weights[i]| + |bias| < 2^(bits − 1), as a certificate shows for all inputs, no step can
/// saturate and the order is none.
inline std::int32_t saturating_dot(std::span<const std::int8_t> inputs, std::span<const std::int8_t> weights,
                                   std::int32_t bias, int bits = 20) {
    std::int64_t accumulator = saturate_bits(bias, bits);
    for (std::size_t i = 0; i < inputs.size(); ++i)
        accumulator = saturate_bits(accumulator + inputs[i] * weights[i], bits);
    return static_cast<std::int32_t>(accumulator);
}

}  // namespace po2quant::reference
