#pragma once
/// Rounding: one enum for float → integer and for shifts of integers, so that what is trained is what is deployed.
#include <cstdint>
#include <type_traits>

#include <po2quant/config.hpp>

namespace po2quant {

/// How a real value becomes an integer. Rounding is that of the exact real value, never of a float sum such as x +
/// 0.5f.
enum class rounding : std::uint8_t {
    half_up,     ///< floor(v + 1/2): the original TensorFlow fork, CMSIS-NN q7, NNoM, ESP32/S3, Vitis activations
    half_even,   ///< nearest, ties to even: TQT, PyTorch per tensor, ESP32-P4, oneDNN
    half_away,   ///< nearest, ties away from zero: Vitis weights and biases
    floor,       ///< toward −∞: truncating microcontroller runtimes
    stochastic,  ///< up with the probability of the fraction, from a counter: the same for any thread count
};

/// 32 random bits for element `index` of a stream `seed`: a counter-based generator (two rounds of the 32-bit
/// multiply-xorshift mixer "lowbias32"), so any element can be computed by any thread, in any order.
///
///   key  = mix(low(seed) ^ mix(high(seed) ^ mix(high(index) ^ golden)))        bits = mix(mix(low(index) ^ key) + key)
///
/// golden = 2^32 / 1.618… keeps seed 0, the default, from giving element 0 the bits 0, which always round up.
PO2Q_INLINE constexpr std::uint32_t mix_bits(std::uint32_t x) {
    x ^= x >> 16;
    x *= 0x7feb352dU;
    x ^= x >> 15;
    x *= 0x846ca68bU;
    x ^= x >> 16;
    return x;
}

/// The part of random_bits that 2^32 neighbouring elements share.
PO2Q_INLINE constexpr std::uint32_t random_key(std::uint64_t seed, std::uint32_t index_high) {
    return mix_bits(static_cast<std::uint32_t>(seed) ^
                    mix_bits(static_cast<std::uint32_t>(seed >> 32) ^ mix_bits(index_high ^ 0x9e3779b9U)));
}

PO2Q_INLINE constexpr std::uint32_t random_bits(std::uint64_t seed, std::uint64_t index) {
    const std::uint32_t key = random_key(seed, static_cast<std::uint32_t>(index >> 32));
    return mix_bits(mix_bits(static_cast<std::uint32_t>(index) ^ key) + key);
}

/// floor of a double with |v| < 2^62.
PO2Q_INLINE constexpr double floor_exact(double v) {
    const auto whole = static_cast<double>(static_cast<std::int64_t>(v));  // toward zero
    return whole > v ? whole - 1.0 : whole;
}

/// The integer next to v by `mode`; exact for every double with |v| < 2^51. `random` is read by stochastic only:
/// v is rounded up iff its fraction, rounded to the 24 bits of a float32, exceeds random / 2^32 cut to 24 bits.
///
/// Example: v = −2.5 gives −2 (half_up), −2 (half_even), −3 (half_away), −3 (floor).
PO2Q_INLINE constexpr std::int64_t round_to_integer(double v, rounding mode, std::uint32_t random = 0) {
    const double whole = floor_exact(v);
    const double fraction = v - whole;  // in [0, 1]; exact but where −1/2 < v < 0
    bool up = false;
    switch (mode) {
    case rounding::half_up: up = fraction >= 0.5; break;
    case rounding::half_even:
        up = fraction > 0.5 || (fraction == 0.5 && (static_cast<std::int64_t>(whole) & 1) != 0);
        break;
    case rounding::half_away: up = v > 0 ? fraction >= 0.5 : v > whole + 0.5; break;  // −(1/2 − tiny) is no tie
    case rounding::floor: break;
    case rounding::stochastic: {
        const float uniform = static_cast<float>(random >> 8) * 0x1p-24F;
        up = uniform == 0 ? fraction > 0 : static_cast<float>(fraction) > uniform;  // what float32 has as 0 is above 0
        break;
    }
    }
    return static_cast<std::int64_t>(whole) + (up ? 1 : 0);
}

/// f(std::integral_constant<rounding, mode>): a mode as a template argument, of those that shifts know; stochastic,
/// which they do not, as half_up.
template <class F>
PO2Q_INLINE constexpr decltype(auto) with_shift_rounding(rounding mode, F&& f) {
    switch (mode) {
    case rounding::half_even: return f(std::integral_constant<rounding, rounding::half_even>{});
    case rounding::half_away: return f(std::integral_constant<rounding, rounding::half_away>{});
    case rounding::floor: return f(std::integral_constant<rounding, rounding::floor>{});
    default: return f(std::integral_constant<rounding, rounding::half_up>{});
    }
}

}  // namespace po2quant
