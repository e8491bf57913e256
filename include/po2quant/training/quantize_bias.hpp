#pragma once
/// Float biases to the 16- or 32-bit codes that layers take, checked against the accumulators they will be added to.
#include <cmath>
#include <span>
#include <vector>

#include <po2quant/tensor/convolution.hpp>
#include <po2quant/training/channel_quantizer.hpp>

namespace po2quant {

struct bias_quantization {
    int bits = 16;  ///< 16: codes with exponents of their own; 32: codes on the accumulator's grid
    std::span<const int> exponents = {};  ///< of 16-bit codes: 1 for all or one per channel; empty: from the biases
    bool per_channel = false;             ///< exponents from the biases: one for each instead of one for all
    int max_k = 128;                      ///< exponents from the biases: see exponent_for; the original caps k at 3
    rounding mode = rounding::half_up;    ///< not stochastic
    /// 16-bit codes that do not fit saturate, as fake_quantize's do; otherwise they are refused.
    bool saturate = false;
};

/// Codes and exponents for a layer: conv2d(shape, weights, b.codes(), {… .bias_exponents = b.exponents …}).
struct quantized_bias {
    std::vector<std::int16_t> i16;  ///< empty where bits is 32
    std::vector<std::int32_t> i32;  ///< empty where bits is 16
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
///   16 bits   q = clamp(round(b · 2^−e_b), −2^15, 2^15 − 1) with the given e_b, or exponent_for(max |b|, int16), the
///             original project's rule. Layers align q to e_acc by align_bias.
///   32 bits   q = round(b · 2^−e_acc): nothing is left to align. e_acc must be inside [min_exponent, max_exponent].
/// A bias of exactly +2^k that gave its exponent by the rule is one code too large and saturates. Throws
/// std::invalid_argument for a bias that is not finite, for one that would saturate by more than that code (unless
/// `saturate`) or, aligned, not fit an int32, and for arguments out of range. What the sums with it need, the layer's
/// certificate says.
inline quantized_bias quantize_bias(std::span<const float> bias, std::span<const int> accumulator_exponents,
                                    const bias_quantization& options = {}) {
    constexpr const char* function = "quantize_bias";
    if (options.bits != 16 && options.bits != 32)
        detail::fail(function, "bits", std::to_string(options.bits), "16 and 32");
    detail::check_range(function, "mode", static_cast<int>(options.mode), 0, static_cast<int>(rounding::floor));
    detail::check_span(function, "bias", bias, bias.size());
    const bool wide = options.bits == 32;
    if (accumulator_exponents.size() != 1 && accumulator_exponents.size() != bias.size())
        detail::fail(function, "accumulator_exponents.size()", std::to_string(accumulator_exponents.size()),
                     detail::text("1 or the number of biases, ", bias.size()));
    detail::check_span(function, "accumulator_exponents", accumulator_exponents, accumulator_exponents.size());
    if (wide) detail::check_either(function, "accumulator_exponents", accumulator_exponents, bias.size());
    if (wide && !options.exponents.empty())
        detail::fail(function, "exponents.size()", std::to_string(options.exponents.size()), "0 for 32 bits");
    if (!options.exponents.empty()) detail::check_either(function, "exponents", options.exponents, bias.size());
    for (std::size_t i = 0; i < bias.size(); ++i)
        if (!std::isfinite(bias[i]))
            detail::fail(function, detail::text("bias[", i, "]"), std::to_string(bias[i]), "finite numbers");

    quantized_bias result;
    if (bias.empty()) return result;
    const auto pick = [](std::span<const int> all, std::size_t i) { return all[all.size() == 1 ? 0 : i]; };
    if (wide) {
        result.exponents.assign(accumulator_exponents.begin(), accumulator_exponents.end());
    } else if (!options.exponents.empty()) {
        result.exponents.assign(options.exponents.begin(), options.exponents.end());
    } else {
        float largest = 0;
        for (const float b : bias) {
            if (options.per_channel) result.exponents.push_back(exponent_for(std::fabs(b), int16, options.max_k));
            largest = std::max(largest, std::fabs(b));
        }
        if (!options.per_channel) result.exponents.push_back(exponent_for(largest, int16, options.max_k));
    }
    const std::int64_t most = wide ? std::int64_t{1} << 31 : std::int64_t{1} << 15;
    for (std::size_t i = 0; i < bias.size(); ++i) {
        const int e = pick(result.exponents, i);
        // Exact; far beyond the codes it is held, so that rounding stays defined.
        const double v = clamp(static_cast<double>(bias[i]) * exp2_double(-e), -0x1p40, 0x1p40);
        const std::int64_t code = round_to_integer(v, options.mode);
        const std::string name = detail::text("bias[", i, "]");
        const bool fits = -most <= code && code <= (wide ? most - 1 : most);
        if (!fits && (wide || !options.saturate))
            detail::fail(function, name, std::to_string(bias[i]),
                         detail::text("codes of ", options.bits, " bits times 2^", e));
        if (wide) {
            result.i32.push_back(static_cast<std::int32_t>(code));
            continue;
        }
        result.i16.push_back(saturate<std::int16_t>(code));
        const std::int64_t aligned = align_bias(result.i16.back(), e, pick(accumulator_exponents, i));
        if (aligned != saturate<std::int32_t>(aligned))
            detail::fail(function, name, std::to_string(bias[i]),
                         detail::text("what fits int32 times 2^", pick(accumulator_exponents, i),
                                      ", the accumulator's exponent"));
    }
    return result;
}

}  // namespace po2quant
