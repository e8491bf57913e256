#pragma once
/// Whether a layer's integers on a target are those of this library, for every input.
#include <bit>
#include <cstdint>
#include <limits>

#include <po2quant/inference/requantization.hpp>
#include <po2quant/numerics/target.hpp>
#include <po2quant/numerics/target_requantize.hpp>

namespace po2quant {

/// What of a layer fits a target. If all does, the target's codes are ours, whatever the input and the order of its
/// sums. Only what is false may differ.
struct target_fit {
    bool accumulators = true;   ///< no sum can overflow or saturate there
    bool rounding = true;       ///< the same mode, or nothing is shifted out
    bool shifts = true;         ///< 0..31, or negative where the target shifts left
    bool bias = true;           ///< the aligned bias can be written with the target's bits and grid
    bool exponents = true;      ///< weights have one exponent, or the target takes one per channel
    std::int64_t channel = -1;  ///< the first output channel where something does not fit

    constexpr bool exact() const { return accumulators && rounding && shifts && bias && exponents; }
};

namespace detail {

/// Whether an aligned bias is c or, on coarser grids, c · 2^t with a code c of `bits` bits.
constexpr bool bias_fits(std::int64_t aligned, std::int32_t code, int bits, bias_grid grid) {
    std::int64_t c = aligned;
    if (grid == bias_grid::any) c = code;
    if (grid == bias_grid::coarser && aligned != 0)
        c = aligned >> std::countr_zero(static_cast<std::uint64_t>(aligned));
    return saturate_bits(c, bits) == c;
}

}  // namespace detail

/// Compares a layer, as its constructor was given it and with the certificate that it returned, with a target. Sums fit
/// where a channel's worst accumulator is below 2^(accumulator_bits − 1); the certificate counts the rounding constant
/// and every partial sum, so this holds at every step and in any order. For the ESP32-S3 that means: below 2^19 its
/// saturating sums are int32's. Clamps other than to all codes and ReLU are not looked at. Throws std::invalid_argument
/// where the numbers of channels differ.
inline target_fit fit_target(const target_preset& target, const certificate& proof, const requantization& q,
                             const bias_codes& bias = {}) {
    constexpr const char* function = "fit_target";
    const auto outputs = static_cast<std::int64_t>(proof.magnitude.size());
    detail::check_range(function, "number of output channels", outputs, 1, std::numeric_limits<std::int64_t>::max());
    detail::check_requantization(function, q, bias, outputs);
    target_fit result;
    for (std::size_t o = 0; o < proof.magnitude.size(); ++o) {
        const int accumulator_exponent = q.input_exponent + detail::per_channel(q.weight_exponents, o);
        const int shift = q.output_exponent - accumulator_exponent;
        const bool rounding_fits = shift <= 0 || q.mode == target.requantize;
        const bool shift_fits = shift <= 31 && (shift >= 0 || target.left_shifts);
        const bool exponent_fits =
            target.weight_exponents_per_channel || detail::per_channel(q.weight_exponents, o) == q.weight_exponents[0];
        const bool sums_fit = proof.magnitude[o] < std::int64_t{1} << (target.accumulator_bits - 1);
        bool bias_fits = true;
        if (!bias.empty()) {
            const std::int64_t aligned =
                align_bias(bias[o], detail::per_channel(q.bias_exponents, o), accumulator_exponent);
            bias_fits = detail::bias_fits(aligned, bias[o], target.bias_bits, target.bias_exponents);
        }
        result.rounding = result.rounding && rounding_fits;
        result.shifts = result.shifts && shift_fits;
        result.exponents = result.exponents && exponent_fits;
        result.accumulators = result.accumulators && sums_fit;
        result.bias = result.bias && bias_fits;
        if (result.channel < 0 && !result.exact()) result.channel = static_cast<std::int64_t>(o);
    }
    return result;
}

}  // namespace po2quant
