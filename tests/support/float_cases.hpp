#pragma once
/// Inputs on which quantization can go wrong.
#include <bit>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <po2quant/numerics/quantizer.hpp>

#include "random.hpp"

namespace po2quant::test {

inline constexpr rounding all_roundings[] = {rounding::half_up, rounding::half_even, rounding::half_away,
                                             rounding::floor, rounding::stochastic};
inline constexpr ste all_estimators[] = {ste::clip_code, ste::clip_range, ste::plain, ste::pact};

inline const char* name_of(rounding mode) {
    constexpr const char* names[] = {"half_up", "half_even", "half_away", "floor", "stochastic"};
    return names[static_cast<int>(mode)];
}
inline const char* name_of(ste estimator) {
    constexpr const char* names[] = {"clip_code", "clip_range", "plain", "pact"};
    return names[static_cast<int>(estimator)];
}
inline std::string name_of(integer_format f) {
    return std::string(f.is_signed ? "int" : "uint") + std::to_string(f.bits) + (f.narrow_range ? " narrow" : "");
}
inline std::string name_of(const quantizer& q) {
    return name_of(q.format) + ", exponent " + std::to_string(q.exponent) + ", " + name_of(q.mode);
}

/// 2..16 bits: signed, narrow and unsigned.
inline std::vector<integer_format> all_formats() {
    std::vector<integer_format> formats;
    for (int bits = min_bits; bits <= max_bits; ++bits) {
        formats.push_back({.bits = bits});
        formats.push_back({.bits = bits, .narrow_range = true});
        formats.push_back({.bits = bits, .is_signed = false});
    }
    return formats;
}

/// NaN of both signs, quiet and signalling, ±∞, ±0, subnormals, and the ends of the normal floats.
inline const std::vector<float>& special_values() {
    static const std::vector<float> values = [] {
        std::vector<float> v;
        for (const std::uint32_t bits :
             {0x00000000U, 0x00000001U, 0x00000002U, 0x00400000U, 0x007fffffU, 0x00800000U, 0x00800001U,
              0x3f7fffffU, 0x3f800000U, 0x3f800001U, 0x4affffffU, 0x4b000000U, 0x4b000001U, 0x4f000000U,
              0x5f000000U, 0x7f7fffffU, 0x7f800000U, 0x7f800001U, 0x7fc00000U, 0x7fffffffU, 0x7fd5aa55U}) {
            v.push_back(std::bit_cast<float>(bits));
            v.push_back(std::bit_cast<float>(bits | 0x80000000U));
        }
        return v;
    }();
    return values;
}

/// Every code of the format and every tie between codes, from 2 codes below qmin to 2 above qmax, each with its
/// neighbouring floats.
inline std::vector<float> ties_and_codes(integer_format format, int exponent) {
    std::vector<float> values;
    const float infinity = std::numeric_limits<float>::infinity();
    for (int twice = 2 * (format.qmin() - 2); twice <= 2 * (format.qmax() + 2); ++twice) {
        const float v = std::ldexp(static_cast<float>(twice), exponent - 1);
        values.push_back(std::nextafter(v, -infinity));
        values.push_back(v);
        values.push_back(std::nextafter(v, infinity));
    }
    return values;
}

/// A value for a grid: mostly spread over the codes and beyond, else at or beside a tie, or special, or any bits.
inline float random_value(random_source& random, integer_format format, int exponent) {
    const std::uint64_t choice = random.bits() % 16;
    if (choice == 0) return random.one_of(special_values());
    if (choice == 1) return std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
    const double span = format.qmax() - format.qmin() + 1;
    if (choice < 6) {
        const auto twice = static_cast<float>(
            std::floor(random.uniform(2 * (format.qmin() - span / 4 - 1), 2 * (format.qmax() + span / 4 + 1))));
        const float v = std::ldexp(twice, exponent - 1);
        return std::nextafter(v, choice == 2 ? -HUGE_VALF : choice == 3 ? HUGE_VALF : v);
    }
    return std::ldexp(static_cast<float>(random.uniform(format.qmin() - span / 4, format.qmax() + span / 4)), exponent);
}

/// An exponent as layers have them, now and then an extreme one.
inline int random_exponent(random_source& random) {
    return static_cast<int>(random.bits() % 8 == 0 ? random.integer(min_exponent, max_exponent)
                                                   : random.integer(-12, 4));
}

/// Values of data [outer][channels][inner] with one exponent per channel (or one for all, with 1 channel).
inline void fill_values(std::span<float> data, random_source& random, integer_format format,
                        std::span<const int> exponents, std::size_t inner = 1) {
    for (std::size_t i = 0; i < data.size(); ++i)
        data[i] = random_value(random, format, exponents[i / inner % exponents.size()]);
}

}  // namespace po2quant::test
