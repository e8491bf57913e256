#pragma once
/// The integers between a sum of products and its output code: bias, shift, clamp, and the proof that int32 holds them.
#include <bit>
#include <cstdint>

#include <po2quant/numerics/exponent.hpp>
#include <po2quant/numerics/format.hpp>
#include <po2quant/numerics/saturate.hpp>

namespace po2quant {

/// What is applied to the output, before it is quantized; a clamp of codes afterwards is the same because 0 is on the
/// grid and rounding is monotone.
enum class activation : std::uint8_t { none, relu, relu6 };

/// Inclusive limits of output codes.
struct code_range {
    int low;
    int high;
    friend constexpr bool operator==(const code_range&, const code_range&) = default;
};

/// The output codes that an activation leaves: 6 in units of 2^exponent, rounded as the outputs are.
PO2Q_INLINE constexpr code_range clamp_range(activation a, integer_format format, int exponent, rounding mode) {
    code_range range{format.qmin(), format.qmax()};
    if (a != activation::none && range.low < 0) range.low = 0;
    if (a == activation::relu6) {
        const std::int32_t six = shift_right(6, exponent, mode == rounding::stochastic ? rounding::half_up : mode);
        if (six < range.high) range.high = six;
    }
    return range;
}

/// A bias code of exponent e_b on the accumulator's grid e_acc: shifted left, or right with floor. The floor is exact
/// for the output: floor((n + f) / 2^s) = floor(n / 2^s) for integers n, s >= 1 and 0 <= f < 1 (half_up, floor).
/// 64 bits wide, so that the caller sees what does not fit. Every difference of exponents is defined.
PO2Q_INLINE constexpr std::int64_t align_bias(std::int32_t bias, int bias_exponent, int accumulator_exponent) {
    const std::int64_t shift = std::int64_t{bias_exponent} - accumulator_exponent;
    if (shift <= 0) return shift_right_floor(bias, shift < -31 ? 31 : static_cast<int>(-shift));
    // 32, not 31: −1 * 2^31 would look as if it fitted.
    return bias * (std::int64_t{1} << (shift > 32 ? 32 : shift));
}

/// The finest exponent e_w that a channel's weights may have beside its bias b, as it will be added (q · 2^e_b), and
/// inputs of exponent e_x: the least with
///
///   |b| <= 2^bits · 2^(e_x + e_w),   e_w = ceil(log2 |b|) − bits − e_x
///
/// inside [min_exponent, max_exponent]; min_exponent for a bias of 0. That leaves half of an accumulator for products:
/// of the integers that float32 holds exactly with 23 bits, of int32 with 30. Only weights that are all but zeros, of
/// pruned and dead channels, have ranges that ask for less (zeros for min_exponent), and a layer refuses their bias,
/// shifted to so fine a grid. std::max of this and exponent_for of the range keeps them: their weights become 0, or
/// codes of fewer bits. Where an 8-bit output holds b, one step of it is then 2^(bits − 7) of the products or more.
/// Requires a finite bias, |input_exponent| <= 200 and bits 0..31.
PO2Q_INLINE constexpr int least_weight_exponent(float bias, int input_exponent, int bits = 23) {
    if (bias == 0) return min_exponent;
    return clamp(ceil_log2(bias < 0 ? -bias : bias) - bits - input_exponent, min_exponent, max_exponent);
}

/// y = clamp(round(accumulator / 2^shift), low, high).
PO2Q_INLINE constexpr std::int32_t requantize(std::int32_t accumulator, int shift, rounding mode, code_range range) {
    return clamp<std::int32_t>(shift_right(accumulator, shift, mode), range.low, range.high);
}

/// The float32 next to accumulator * 2^exponent + addend, ties to even: the exact sum rounded once, subnormals and
/// overflow to ±∞ included; a sum of 0 is +0. Requires |exponent| <= 200 and a finite addend.
///
/// The sum of two doubles is rounded to odd, by its error: what a second rounding, to less than half of its bits,
/// cannot tell from the exact sum.
PO2Q_INLINE constexpr float scaled_sum(std::int32_t accumulator, int exponent, float addend) {
    const double a = static_cast<double>(accumulator) * exp2_double(exponent);
    const double b = addend;
    const double sum = a + b;
    const double of_b = sum - a;
    const double error = (a - (sum - of_b)) + (b - of_b);
    const auto bits = std::bit_cast<std::int64_t>(sum);
    if (error == 0 || (bits & 1) != 0) return static_cast<float>(sum);
    return static_cast<float>(std::bit_cast<double>((error > 0) == (sum > 0) ? bits + 1 : bits - 1));
}

/// The extreme values of a sum of products over every input of the format: interval arithmetic in integers.
/// Padding and any order of summation stay inside, since 0 is an input of every format and each term's interval holds
/// 0.
struct accumulator_bounds {
    std::int64_t low = 0;
    std::int64_t high = 0;

    constexpr void add_product(std::int32_t weight, integer_format input) {
        const std::int64_t a = std::int64_t{weight} * input.qmin();
        const std::int64_t b = std::int64_t{weight} * input.qmax();
        low += a < b ? a : b;
        high += a < b ? b : a;
    }
    constexpr std::int64_t magnitude() const { return -low > high ? -low : high; }
};

}  // namespace po2quant
