#pragma once
/// Integer formats: how many bits a code has and which codes are used.
#include <cstdint>

#include <po2quant/config.hpp>

namespace po2quant {

/// A symmetric integer format of 2..16 bits. There is no zero point.
///
///   signed   qmin = −2^(bits−1)   qmax = 2^(bits−1) − 1     narrow range: qmin = −qmax
///   unsigned qmin = 0             qmax = 2^bits − 1         narrow range has no meaning and is refused
struct integer_format {
    int bits = 8;
    bool is_signed = true;
    bool narrow_range = false;

    constexpr int qmax() const { return is_signed ? (1 << (bits - 1)) - 1 : (1 << bits) - 1; }
    constexpr int qmin() const { return is_signed ? (narrow_range ? -qmax() : -qmax() - 1) : 0; }
    /// Bits of a code without its sign: codes reach to 2^magnitude_bits, exclusive.
    constexpr int magnitude_bits() const { return bits - (is_signed ? 1 : 0); }
    /// Bits of a signed integer that holds all its codes.
    constexpr int signed_bits() const { return bits + (is_signed ? 0 : 1); }
    constexpr bool contains(std::int64_t code) const { return qmin() <= code && code <= qmax(); }
    constexpr bool valid() const { return 2 <= bits && bits <= 16 && (is_signed || !narrow_range); }

    friend constexpr bool operator==(const integer_format&, const integer_format&) = default;
};

inline constexpr int min_bits = 2;
inline constexpr int max_bits = 16;

/// −2..1, or narrow −1..1.
inline constexpr integer_format int2{.bits = 2};
inline constexpr integer_format int2_narrow{.bits = 2, .narrow_range = true};
inline constexpr integer_format int4{.bits = 4};
inline constexpr integer_format int4_narrow{.bits = 4, .narrow_range = true};
inline constexpr integer_format int8{.bits = 8};
inline constexpr integer_format int16{.bits = 16};
inline constexpr integer_format uint4{.bits = 4, .is_signed = false};
/// 0..127: what int8 activations are behind a ReLU.
inline constexpr integer_format uint7{.bits = 7, .is_signed = false};
inline constexpr integer_format uint8{.bits = 8, .is_signed = false};
inline constexpr integer_format uint16{.bits = 16, .is_signed = false};
/// −127..127: what some accelerators want of weights.
inline constexpr integer_format int8_narrow{.bits = 8, .narrow_range = true};

}  // namespace po2quant
