#pragma once
/// Exponents from the ends of a range by the rules of other tools, each exact for every finite float: mantissas and
/// exponents are compared, no logarithm is computed.
#include <po2quant/numerics/exponent.hpp>
#include <po2quant/numerics/quantizer.hpp>

namespace po2quant {

/// How the ends of a range, or its magnitude m = max(|min|, |max|), become an exponent e. A format's codes reach from
/// qmin to qmax; b = bits for unsigned formats, bits − 1 for signed ones.
///
///   int8, magnitude    63.5   64     90     91     127    127.5   128    129
///   ceil_log2           −1    −1      0      0      0      0       0      1     no rule below gives more
///   no_clip             −1     0      0      0      0      1       1      1     0 where the end is −128
///   round_log2          −1    −1     −1      0      0      0       0      0
///   esp_ppq             −1     0      0      0      0      0       1      1
///   vitis               −1     0      0      0      0      0       1      1     0 down to −128.5
enum class exponent_rule : std::uint8_t {
    /// The original's: e = ceil(log2 m) − b. A value of exactly +2^(e + b) is cut by one code. NNoM, TQT and what was
    /// used with CMSIS-NN q7 are the same.
    ceil_log2,
    /// The smallest e with max <= qmax·2^e and min >= qmin·2^e: no value is cut. Unsigned formats cut what is negative
    /// whatever e is, so only max counts.
    no_clip,
    /// e = floor(log2 m + 1/2) − b: magnitudes from 2^k to √2·2^k are cut to 2^k; no float lies on the tie. ESP-PPQ
    /// behind its histograms, QKeras auto_po2.
    round_log2,
    /// 2^e = 2^ceil(log2(2·m / (qmax − qmin))): what is beyond qmax by up to half a code is cut. ESP-PPQ's minimum and
    /// maximum observer, which knows signed formats; unsigned ones get no_clip.
    esp_ppq,
    /// step = max(min / (−2^b − 1/2), max / (2^b − 1/2)), e = −floor(log2(1 / step)), −18 where step <= 2^−126: what
    /// is beyond the ends by up to half a code is cut. Vitis AI's start of its search (non-overflow), which knows
    /// signed formats; unsigned ones get no_clip. Vitis computes step and its logarithm in float32, whose rounding can
    /// give one less a few ulps above a step of 2^e.
    vitis,
};

namespace detail {

/// The smallest e with v <= limit * 2^e, for a finite v > 0 and a limit in [1/2, 2^17] of up to 18 bits: both as
/// m · 2^k with 1 <= m < 2, exact in double, and the larger mantissa decides.
PO2Q_INLINE constexpr int smallest_exponent(float v, double limit) {
    const int k = floor_log2(v);
    const int j = floor_log2(static_cast<float>(limit));
    const bool fits = static_cast<double>(v) * exp2_double(-k) <= limit * exp2_double(-j);
    return k - j + (fits ? 0 : 1);
}

/// floor(log2(v) + 1/2) of a normal v > 0, floats with subnormals among them, from its bits: up iff the mantissa's
/// square exceeds 2. No double is √2, so there is no tie, and no logarithm is computed.
PO2Q_INLINE constexpr int round_log2(double v) {
    const auto bits = std::bit_cast<std::uint64_t>(v);
    const int k = static_cast<int>(bits >> 52) - 1023;
    // The largest 53-bit mantissa whose square is below 2: 0x16a09e667f3bcc² < 2^105 < 0x16a09e667f3bcd².
    return (bits & 0xfffffffffffffU) > 0x6a09e667f3bccU ? k + 1 : k;
}

PO2Q_INLINE constexpr int within_exponents(int e) {
    return e < min_exponent ? min_exponent : (e > max_exponent ? max_exponent : e);
}

}  // namespace detail

/// The exponent for values from seen.low to seen.high by a rule, held inside [min_exponent, max_exponent]. Where both
/// ends are 0, and where low > high (nothing seen), it is min_exponent; by vitis it is −18 in signed formats.
/// Requires finite ends, or low > high.
PO2Q_INLINE constexpr int exponent_for(float_interval seen, integer_format format, exponent_rule rule) {
    const bool nothing = seen.low > seen.high;
    const float below = nothing || !(seen.low < 0) ? 0.0F : -seen.low;   // how far values reach to the left of 0
    const float above = nothing || !(seen.high > 0) ? 0.0F : seen.high;  // and to the right
    const float magnitude = below > above ? below : above;
    if (rule == exponent_rule::ceil_log2) return exponent_for(magnitude, format);
    if (rule == exponent_rule::round_log2) {
        if (!(magnitude > 0)) return min_exponent;
        const int k = detail::round_log2(static_cast<double>(magnitude));
        return detail::within_exponents(k - format.magnitude_bits());
    }
    // The others say how many codes each side has: the smallest e that makes both suffice.
    double codes_below = -static_cast<double>(format.qmin());
    double codes_above = static_cast<double>(format.qmax());
    if (rule == exponent_rule::esp_ppq && format.is_signed) {
        codes_below = (codes_below + codes_above) / 2;
        codes_above = codes_below;
    }
    if (rule == exponent_rule::vitis && format.is_signed) {
        codes_below = exp2_double(format.bits - 1) + 0.5;
        codes_above = exp2_double(format.bits - 1) - 0.5;
        const double least_step = 0x1p-126;  // FLT_MIN; its products with 17 bits are exact
        if (static_cast<double>(below) <= codes_below * least_step &&
            static_cast<double>(above) <= codes_above * least_step)
            return -18;
    }
    int e = min_exponent;
    if (above > 0) {
        const int needed = detail::smallest_exponent(above, codes_above);
        if (needed > e) e = needed;
    }
    if (below > 0 && format.is_signed) {
        const int needed = detail::smallest_exponent(below, codes_below);
        if (needed > e) e = needed;
    }
    return detail::within_exponents(e);
}

}  // namespace po2quant
