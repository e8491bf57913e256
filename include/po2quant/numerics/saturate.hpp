#pragma once
/// Saturation and shifts of integers, defined for every value and every shift count.
#include <cstdint>
#include <limits>

#include <po2quant/numerics/rounding.hpp>

namespace po2quant {

/// v held inside [lo, hi].
template <class T>
PO2Q_INLINE constexpr T clamp(T v, T lo, T hi) {
    return v < lo ? lo : (hi < v ? hi : v);
}

/// v held inside the range of the integer type To.
template <class To>
PO2Q_INLINE constexpr To saturate(std::int64_t v) {
    return static_cast<To>(clamp<std::int64_t>(v, std::numeric_limits<To>::min(), std::numeric_limits<To>::max()));
}

/// a * 2^shift, saturated to int32, for every shift >= 0.
PO2Q_INLINE constexpr std::int32_t shift_left(std::int32_t a, int shift) {
    if (a == 0) return 0;
    if (shift >= 31) return a > 0 ? std::numeric_limits<std::int32_t>::max() : std::numeric_limits<std::int32_t>::min();
    return saturate<std::int32_t>(static_cast<std::int64_t>(a) * (std::int64_t{1} << shift));
}

/// floor(a / 2^shift) for every shift >= 0: what an arithmetic right shift gives, beyond 31 too.
PO2Q_INLINE constexpr std::int32_t shift_right_floor(std::int32_t a, int shift) {
    return a >> (shift > 31 ? 31 : shift);
}

/// a / 2^shift rounded by `mode`, for every int32 a and every int shift; shift <= 0 shifts left, saturated to int32.
/// `random` is read by stochastic only: floor(a / 2^shift + random / 2^32).
///
/// Example: a = 20, shift = 3 is 2.5: half_up 3, half_even 2, half_away 3, floor 2.
PO2Q_INLINE constexpr std::int32_t shift_right(std::int32_t a, int shift, rounding mode, std::uint32_t random = 0) {
    // −shift would overflow for INT_MIN; any shift left by 31 or more gives the same.
    if (shift <= 0) return shift_left(a, shift < -31 ? 31 : -shift);
    if (mode == rounding::stochastic) {
        const auto wide = static_cast<std::int64_t>(a);
        // Random bits below the last that can matter are dropped; beyond 32 the value itself is below one of 2^32
        // parts.
        if (shift <= 32) return static_cast<std::int32_t>((wide + (random >> (32 - shift))) >> shift);
        return static_cast<std::int32_t>((shift_right_floor(a, shift - 32) + static_cast<std::int64_t>(random)) >> 32);
    }
    if (shift > 40) shift = 40;  // |a| / 2^shift < 1/2: the result no longer changes
    const auto wide = static_cast<std::int64_t>(a);
    const std::int64_t half = std::int64_t{1} << (shift - 1);
    std::int64_t bump = 0;  // what is added before the floor
    switch (mode) {
    case rounding::half_up: bump = half; break;
    case rounding::half_even: bump = half - 1 + ((wide >> shift) & 1); break;
    case rounding::half_away: bump = half - (a < 0 ? 1 : 0); break;
    case rounding::floor:
    case rounding::stochastic: break;
    }
    return static_cast<std::int32_t>((wide + bump) >> shift);
}

}  // namespace po2quant
