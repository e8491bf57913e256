#pragma once
/// One value onto the grid and back: the rules that every kernel of quantization equals bit for bit.
///
///   special values      quantize   fake_quantize         gradient (every choice of ste)
///   NaN                 0          NaN                   0
///   +∞ / −∞             qmax/qmin  qmax·2^e / qmin·2^e   0 (all but plain), dy (plain)
///   −0, codes of 0      0          +0                    dy
///   subnormals          by value   by value              by value
///
/// The table holds under the default floating-point environment: round to nearest, subnormals kept.
#include <cstdint>

#include <po2quant/numerics/exponent.hpp>
#include <po2quant/numerics/format.hpp>
#include <po2quant/numerics/rounding.hpp>
#include <po2quant/numerics/saturate.hpp>

namespace po2quant {

/// How floats become integers q of one format and exponent: real value = q * 2^exponent.
struct quantizer {
    integer_format format = int8;
    int exponent = 0;  ///< min_exponent..max_exponent
    rounding mode = rounding::half_up;
    std::uint64_t seed = 0;  ///< stochastic only: element i of a call uses random_bits(seed, i)
};

/// Which inputs let the gradient through (straight-through estimators).
enum class ste : std::uint8_t {
    clip_code,   ///< iff the rounded code is inside [qmin, qmax]: PyTorch, TQT, ESP-PPQ
    clip_range,  ///< iff x is inside [qmin·2^e, qmax·2^e]: TensorFlow, the original
    plain,       ///< always, but for NaN
    pact,        ///< iff 0 <= x < α = qmax·2^e: PACT, whose y is clip(x, 0, α) on the grid
};

/// What dy is multiplied with in the gradient of a threshold, with r = round(x · 2^−e):
///
///   error    in units of codes: r − x·2^−e where r is inside [qmin, qmax], else the end that it is cut to. LSQ's
///            d y / d s; TQT's d y / d log2 t is 2^e · ln 2 times it
///   beyond   1 where x >= qmax·2^e, else 0: PACT's d y / d α
/// NaN gives 0. The difference is rounded to float once, and exact where rounding is to the nearest.
enum class threshold_term : std::uint8_t { error, beyond };

/// q = clamp(round(x * 2^−e), qmin, qmax); NaN gives 0. x * 2^−e is exact: float32 times a power of two, in double.
PO2Q_INLINE constexpr std::int32_t quantize(float x, const quantizer& q, std::uint64_t index = 0) {
    if (x != x) return 0;
    // Beyond 2^20 everything saturates; holding v there keeps the conversion to an integer defined, for ±∞ too.
    const double v = clamp(static_cast<double>(x) * exp2_double(-q.exponent), -0x1p20, 0x1p20);
    const std::uint32_t random = q.mode == rounding::stochastic ? random_bits(q.seed, index) : 0;
    return static_cast<std::int32_t>(
        clamp<std::int64_t>(round_to_integer(v, q.mode, random), q.format.qmin(), q.format.qmax()));
}

/// q * 2^e, exact for codes of up to 24 bits; code 0 gives +0.
PO2Q_INLINE constexpr float dequantize(std::int32_t code, int exponent) {
    return static_cast<float>(code) * exp2_float(exponent);
}

/// dequantize(quantize(x)); NaN stays NaN (of any payload), so that training sees divergence.
PO2Q_INLINE constexpr float fake_quantize(float x, const quantizer& q, std::uint64_t index = 0) {
    return x != x ? x : dequantize(quantize(x, q, index), q.exponent);
}

/// An interval of inputs, both ends included.
struct float_interval {
    float low;
    float high;
    constexpr bool contains(float x) const { return low <= x && x <= high; }  // false for NaN
};

/// The next float above (step = +1) or below (−1) a finite normal v ≠ 0 in magnitude order of v's neighbours.
PO2Q_INLINE constexpr float next_float(float v, int step) {
    const auto bits = std::bit_cast<std::int32_t>(v);
    return std::bit_cast<float>(v > 0 ? bits + step : bits - step);
}

/// The inputs whose gradient passes, in units of codes (x * 2^−e): each deterministic choice is one interval.
/// clip_code asks round(v) <= qmax, that is v < or <= qmax + 1/2 as the tie falls; an excluded end becomes its
/// neighbour. Not for clip_code with stochastic rounding, where the codes themselves decide.
PO2Q_INLINE constexpr float_interval pass_interval(integer_format format, rounding mode, ste estimator) {
    const auto qmin = static_cast<float>(format.qmin());
    const auto qmax = static_cast<float>(format.qmax());
    const float infinity = std::bit_cast<float>(0x7f800000U);
    if (estimator == ste::plain) return {-infinity, infinity};
    if (estimator == ste::clip_range) return {qmin, qmax};
    if (estimator == ste::pact) return {0.0F, next_float(qmax, -1)};
    if (mode == rounding::floor) return {qmin, next_float(qmax + 1.0F, -1)};
    const float low = qmin - 0.5F;
    const float high = qmax + 0.5F;
    // Does the tie above qmax fall back on qmax, and the tie below qmin rise to qmin?
    const bool high_inside = mode == rounding::half_even && format.qmax() % 2 == 0;
    const bool low_inside = mode == rounding::half_up || (mode == rounding::half_even && format.qmin() % 2 == 0);
    return {low_inside ? low : next_float(low, +1), high_inside ? high : next_float(high, -1)};
}

/// Gradient of fake_quantize with respect to x, for the gradient dy of its result: dy where it passes, else +0.
PO2Q_INLINE constexpr float fake_quantize_gradient(float x, float dy, const quantizer& q, ste estimator,
                                                   std::uint64_t index = 0) {
    if (x != x) return 0.0F;
    if (estimator == ste::clip_code && q.mode == rounding::stochastic) {
        const double v = clamp(static_cast<double>(x) * exp2_double(-q.exponent), -0x1p20, 0x1p20);
        return q.format.contains(round_to_integer(v, q.mode, random_bits(q.seed, index))) ? dy : 0.0F;
    }
    const float_interval pass = pass_interval(q.format, q.mode, estimator);
    const float scale = exp2_float(q.exponent);
    return pass.low * scale <= x && x <= pass.high * scale ? dy : 0.0F;
}

}  // namespace po2quant
