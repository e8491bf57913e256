#pragma once
/// Float biases to the codes that layers and targets take, checked against the accumulators they will be added to.
#include <cmath>
#include <span>
#include <vector>

#include <po2quant/numerics/target.hpp>
#include <po2quant/numerics/target_requantize.hpp>
#include <po2quant/tensor/convolution.hpp>
#include <po2quant/training/channel_quantizer.hpp>

namespace po2quant {

struct bias_quantization {
    int bits = 16;                        ///< 2..32; more than 16 are on the accumulator's grid
    std::span<const int> exponents = {};  ///< 1 for all or one per channel; empty: from the biases
    bool per_channel = false;             ///< exponents from the biases: one for each instead of one for all
    int max_k = 128;                      ///< exponents from the biases: see exponent_for; the original caps k at 3
    rounding mode = rounding::half_up;    ///< not stochastic
    /// Codes of up to 16 bits that do not fit saturate, as fake_quantize's do; otherwise they are refused.
    bool saturate = false;
    bias_grid grid = bias_grid::any;  ///< of codes of up to 16 bits
};

/// What a target's tools do with biases.
constexpr bias_quantization bias_quantization_for(const target_preset& target) {
    return {.bits = target.bias_bits,
            .per_channel = target.weight_exponents_per_channel,
            .max_k = target.weight_exponents.max_k,
            .mode = target.bias,
            .grid = target.bias_exponents};
}

/// Codes and exponents for a layer: conv2d(shape, weights, b.codes(), {… .bias_exponents = b.exponents …}).
struct quantized_bias {
    std::vector<std::int16_t> i16;  ///< of up to 16 bits
    std::vector<std::int32_t> i32;  ///< of more
    std::vector<int> exponents;     ///< 1 for all, or one per channel

    bias_codes codes() const {
        if (!i16.empty()) return i16;
        if (!i32.empty()) return i32;
        return {};
    }
};

namespace detail {

/// 1 exponent for all channels or one for each, inside the library's range.
inline void check_either(const char* function, const char* argument, std::span<const int> exponents,
                         std::size_t channels) {
    if (exponents.size() != 1 && exponents.size() != channels)
        fail(function, text(argument, ".size()"), std::to_string(exponents.size()),
             text("1 or the number of biases, ", channels));
    check_span(function, argument, exponents, exponents.size());
    for (std::size_t i = 0; i < exponents.size(); ++i)
        check_range(function, text(argument, "[", i, "]").c_str(), exponents[i], min_exponent, max_exponent);
}

}  // namespace detail

/// The codes of float biases for accumulators of the exponents e_acc = e_x + e_w, 1 for all or one per channel.
///
///   q = clamp(round(b · 2^−e_b), −2^(bits − 1), 2^(bits − 1) − 1)
///
///   any       the given e_b, or exponent_for(max |b|, bits), the original project's rule: 16 bits
///   coarser   the same, but e_acc at least, of one e_b for all channels their largest: CMSIS-NN, NNoM, Vitis, 8 bits
///   sums      e_b = e_acc: ESP-DL, 20 and 32 bits
/// with e_acc inside [min_exponent, max_exponent] for the last two.
/// Layers align q to e_acc by align_bias: exact but for `any`. A bias of exactly +2^k that gave its exponent by the
/// rule is one code too large and saturates. Throws std::invalid_argument for a bias that is not finite, for one that
/// would saturate by more than that code (unless `saturate`) or, aligned, not fit an int32, and for arguments out of
/// range. What the sums with it need, the layer's certificate says.
inline quantized_bias quantize_bias(std::span<const float> bias, std::span<const int> accumulator_exponents,
                                    const bias_quantization& options = {}) {
    constexpr const char* function = "quantize_bias";
    detail::check_range(function, "bits", options.bits, 2, 32);
    detail::check_range(function, "grid", static_cast<int>(options.grid), 0, static_cast<int>(bias_grid::sums));
    detail::check_range(function, "mode", static_cast<int>(options.mode), 0, static_cast<int>(rounding::floor));
    detail::check_span(function, "bias", bias, bias.size());
    const bool wide = options.bits > 16;
    const bool on_sums = wide || options.grid == bias_grid::sums;
    if (accumulator_exponents.size() != 1 && accumulator_exponents.size() != bias.size())
        detail::fail(function, "accumulator_exponents.size()", std::to_string(accumulator_exponents.size()),
                     detail::text("1 or the number of biases, ", bias.size()));
    detail::check_span(function, "accumulator_exponents", accumulator_exponents, accumulator_exponents.size());
    if (wide || options.grid != bias_grid::any)
        detail::check_either(function, "accumulator_exponents", accumulator_exponents, bias.size());
    if (on_sums && !options.exponents.empty())
        detail::fail(function, "exponents.size()", std::to_string(options.exponents.size()),
                     "0 on the accumulator's grid");
    if (!options.exponents.empty()) detail::check_either(function, "exponents", options.exponents, bias.size());
    for (std::size_t i = 0; i < bias.size(); ++i)
        if (!std::isfinite(bias[i]))
            detail::fail(function, detail::text("bias[", i, "]"), std::to_string(bias[i]), "finite numbers");

    quantized_bias result;
    if (bias.empty()) return result;
    const auto pick = [](std::span<const int> all, std::size_t i) { return all[all.size() == 1 ? 0 : i]; };
    if (on_sums) {
        result.exponents.assign(accumulator_exponents.begin(), accumulator_exponents.end());
    } else if (!options.exponents.empty()) {
        result.exponents.assign(options.exponents.begin(), options.exponents.end());
    } else {
        const integer_format format{.bits = options.bits};
        float largest = 0;
        for (const float b : bias) {
            if (options.per_channel) result.exponents.push_back(exponent_for(std::fabs(b), format, options.max_k));
            largest = std::max(largest, std::fabs(b));
        }
        if (!options.per_channel) result.exponents.push_back(exponent_for(largest, format, options.max_k));
    }
    if (!on_sums && options.grid == bias_grid::coarser)
        for (std::size_t i = 0; i < bias.size(); ++i) {
            const std::size_t own = result.exponents.size() == 1 ? 0 : i;
            const int least = pick(accumulator_exponents, i);
            if (result.exponents[own] >= least) continue;
            if (!options.exponents.empty())
                detail::fail(function, detail::text("exponents[", own, "]"), std::to_string(result.exponents[own]),
                             detail::text(least, ", the accumulator's, or more"));
            result.exponents[own] = least;
        }
    const std::int64_t most = std::int64_t{1} << (options.bits - 1);
    for (std::size_t i = 0; i < bias.size(); ++i) {
        const int e = pick(result.exponents, i);
        // Exact; far beyond the codes it is held, so that rounding stays defined.
        const double v = clamp(static_cast<double>(bias[i]) * exp2_double(-e), -0x1p40, 0x1p40);
        const std::int64_t code = round_to_integer(v, options.mode);
        const std::string name = detail::text("bias[", i, "]");
        const bool fits = -most <= code && code <= (on_sums ? most - 1 : most);
        if (!fits && (wide || !options.saturate))
            detail::fail(function, name, std::to_string(bias[i]),
                         detail::text("codes of ", options.bits, " bits times 2^", e));
        if (wide) {
            result.i32.push_back(static_cast<std::int32_t>(code));
            continue;
        }
        result.i16.push_back(static_cast<std::int16_t>(saturate_bits(code, options.bits)));
        const std::int64_t aligned = align_bias(result.i16.back(), e, pick(accumulator_exponents, i));
        if (aligned != saturate<std::int32_t>(aligned))
            detail::fail(function, name, std::to_string(bias[i]),
                         detail::text("what fits int32 times 2^", pick(accumulator_exponents, i),
                                      ", the accumulator's exponent"));
    }
    return result;
}

}  // namespace po2quant
