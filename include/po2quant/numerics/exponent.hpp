#pragma once
/// Exponents: 2^e as a float, and the exponent that a range asks for, exact to the last bit.
#include <bit>
#include <cstdint>

#include <po2quant/numerics/format.hpp>

namespace po2quant {

/// Exponents e that the library takes. Within them 2^e, 2^−e, every code times 2^e and every boundary between codes
/// (code ± 1/2) times 2^e, and their neighbours, are normal floats, so scaling loses nothing.
inline constexpr int min_exponent = -100;
inline constexpr int max_exponent = 100;

/// 2^e as a float, for −126 <= e <= 127.
PO2Q_INLINE constexpr float exp2_float(int e) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(e + 127) << 23);
}

/// 2^e as a double, for −1022 <= e <= 1023.
PO2Q_INLINE constexpr double exp2_double(int e) {
    return std::bit_cast<double>(static_cast<std::uint64_t>(e + 1023) << 52);
}

/// floor(log2(v)) of a finite v > 0, subnormals included, read from the bits of the float: no logarithm is computed.
PO2Q_INLINE constexpr int floor_log2(float v) {
    const auto bits = std::bit_cast<std::uint32_t>(v);
    const int biased = static_cast<int>(bits >> 23) & 0xff;
    if (biased != 0) return biased - 127;
    return std::bit_width(bits & 0x7fffffU) - 150;  // subnormal: mantissa * 2^−149
}

/// ceil(log2(v)) of a finite v > 0. 2^k gives k: the original's float32 log(v)/log(2) gives k+1 at 2^−13, 2^−15, ….
PO2Q_INLINE constexpr int ceil_log2(float v) {
    const int below = floor_log2(v);
    const bool power_of_two = std::popcount(std::bit_cast<std::uint32_t>(v) & 0x7fffffU) == 0
                                  ? below >= -126
                                  : below < -126 && std::popcount(std::bit_cast<std::uint32_t>(v)) == 1;
    return power_of_two ? below : below + 1;
}

/// The exponent for values of magnitude up to `magnitude` by the original project's rule:
///
///   k = ceil(log2(magnitude)),  e = k − (bits − 1) for signed formats, k − bits for unsigned ones
///
/// A magnitude of exactly 2^k makes +2^k one code too large: it saturates to qmax (the rule is the original's).
/// The result is held inside [min_exponent, max_exponent]; magnitude 0 (nothing seen) gives min_exponent.
/// `max_k` caps k; the original caps weights and biases at 3 (they saturate at ±8).
/// Requires a finite magnitude >= 0.
PO2Q_INLINE constexpr int exponent_for(float magnitude, integer_format format, int max_k = 128) {
    if (!(magnitude > 0)) return min_exponent;
    int k = ceil_log2(magnitude);
    if (k > max_k) k = max_k;
    const int e = k - format.magnitude_bits();
    return e < min_exponent ? min_exponent : (e > max_exponent ? max_exponent : e);
}

}  // namespace po2quant
