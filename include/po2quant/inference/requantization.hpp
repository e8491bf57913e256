#pragma once
/// A convolution's requantization checked and worked out per output channel; shared by conv2d and depthwise_conv2d.
#include <algorithm>
#include <climits>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <po2quant/inference/certificate.hpp>
#include <po2quant/kernels/epilogue.hpp>
#include <po2quant/numerics/exponent.hpp>
#include <po2quant/tensor/check.hpp>
#include <po2quant/tensor/convolution.hpp>

namespace po2quant {

namespace detail {

/// A layer's requantization worked out per output channel.
struct requantize_plan {
    std::vector<std::int32_t> bias;  ///< aligned, the rounding constant not in it
    std::vector<std::int32_t> shift;
    std::vector<std::int32_t> constant;  ///< the rounding constant to fold into the bias; 0 but for shift
    code_range range{};
    int input_exponent = 0;
    int output_exponent = 0;
    integer_format input_format = int8;
    rounding mode = rounding::half_up;
    kernels::epilogue kind = kernels::epilogue::shift_words;
    certificate proof;
};

inline int per_channel(std::span<const int> values, std::size_t channel) {
    return values[values.size() == 1 ? 0 : channel];
}

inline void check_exponents(const char* function, const char* argument, std::span<const int> exponents,
                            std::int64_t channels) {
    if (exponents.size() != 1 && exponents.size() != static_cast<std::size_t>(channels))
        fail(function, text(argument, ".size()"), std::to_string(exponents.size()),
             text("1 or the number of output channels, ", channels));
    if (exponents.data() == nullptr) fail(function, text(argument, ".data()"), "null", "an address");
    for (std::size_t i = 0; i < exponents.size(); ++i)
        check_range(function, text(argument, "[", i, "]").c_str(), exponents[i], min_exponent, max_exponent);
}

inline void check_activation(const char* function, activation a) {
    check_range(function, "clamp", static_cast<int>(a), 0, static_cast<int>(activation::relu6));
}

/// Formats whose codes signed elements of 8 or 16 bits hold.
inline void check_code_format(const char* function, const char* argument, integer_format format, int element_bits) {
    if (!format.valid() || format.signed_bits() > element_bits)
        fail(function, argument, text(format.is_signed ? "signed " : "unsigned ", format.bits, " bits"),
             text("signed formats of ", min_bits, "..", element_bits, " bits, or unsigned ones of ", min_bits, "..",
                  element_bits - 1));
}

inline void check_requantization(const char* function, const requantization& q, const bias_codes& bias,
                                 std::int64_t outputs) {
    check_range(function, "input_exponent", q.input_exponent, min_exponent, max_exponent);
    check_range(function, "output_exponent", q.output_exponent, min_exponent, max_exponent);
    check_exponents(function, "weight_exponents", q.weight_exponents, outputs);
    check_range(function, "mode", static_cast<int>(q.mode), 0, static_cast<int>(rounding::floor));
    check_activation(function, q.clamp);
    check_code_format(function, "input_format", q.input_format, 16);
    check_code_format(function, "output_format", q.output_format, 8);
    if (bias.empty()) return;
    if (bias.size() != static_cast<std::size_t>(outputs))
        fail(function, "bias.size()", std::to_string(bias.size()),
             text("0 or the number of output channels, ", outputs));
    if (bias.null()) fail(function, "bias.data()", "null", "an address");
    check_exponents(function, "bias_exponents", q.bias_exponents, outputs);
}

/// The bounds of every output channel's sums of products.
inline std::vector<accumulator_bounds> product_bounds(const conv2d_shape& s, std::span<const std::int8_t> weights,
                                                      weight_layout layout, integer_format input) {
    std::vector<accumulator_bounds> all(static_cast<std::size_t>(s.outputs));
    for (std::int64_t ky = 0; ky < s.window.kernel.height; ++ky)
        for (std::int64_t kx = 0; kx < s.window.kernel.width; ++kx)
            for (std::int64_t c = 0; c < s.group_inputs(); ++c)
                for (std::int64_t o = 0; o < s.outputs; ++o)
                    all[static_cast<std::size_t>(o)].add_product(
                        weights[static_cast<std::size_t>(s.weight_index(layout, ky, kx, c, o))], input);
    return all;
}
inline std::vector<accumulator_bounds> product_bounds(const depthwise_conv2d_shape& s,
                                                      std::span<const std::int8_t> weights, weight_layout layout,
                                                      integer_format input) {
    std::vector<accumulator_bounds> all(static_cast<std::size_t>(s.outputs()));
    for (std::int64_t ky = 0; ky < s.window.kernel.height; ++ky)
        for (std::int64_t kx = 0; kx < s.window.kernel.width; ++kx)
            for (std::int64_t o = 0; o < s.outputs(); ++o)
                all[static_cast<std::size_t>(o)].add_product(
                    weights[static_cast<std::size_t>(s.weight_index(layout, ky, kx, o))], input);
    return all;
}

/// What output channel o adds to a certificate.
inline channel_proof channel_of(const requantization& q, const bias_codes& bias, const accumulator_bounds& products,
                                std::size_t o) {
    channel_proof channel{.products = products, .has_bias = !bias.empty(), .mode = q.mode};
    channel.accumulator_exponent = q.input_exponent + per_channel(q.weight_exponents, o);
    channel.shift = q.output_exponent - channel.accumulator_exponent;
    if (channel.has_bias) {
        channel.bias = bias[o];
        channel.bias_exponent = per_channel(q.bias_exponents, o);
    }
    return channel;
}

/// The shift by at most 31 that is as good for sums of up to `magnitude`, where there is one.
inline int short_shift(int shift, rounding mode, std::int64_t magnitude) {
    const bool same = mode == rounding::floor || magnitude < std::int64_t{1} << 30;  // 0, or −1 by floor
    return same ? std::min(shift, 31) : shift;
}

/// The simplest way out for sums of up to `magnitude`.
inline kernels::epilogue epilogue_of(int shift, rounding mode, std::int64_t magnitude) {
    if (shift < -31 || shift > 31) return kernels::epilogue::any;
    if (shift >= 0 && (mode == rounding::half_up || mode == rounding::floor))
        return kernels::words_suffice(shift, magnitude) ? kernels::epilogue::shift_words : kernels::epilogue::shift;
    const std::int64_t nudged = shift < 0 ? magnitude << -shift : magnitude + (std::int64_t{1} << shift) / 2;
    return nudged <= INT32_MAX ? kernels::epilogue::round : kernels::epilogue::any;
}

/// Works out bias, shift and certificate of every channel; `products[o]` are the bounds of channel o's sums.
/// Throws where an accumulator could overflow int32.
inline requantize_plan plan_requantization(const char* function, const requantization& q, const bias_codes& bias,
                                           std::span<const accumulator_bounds> products) {
    requantize_plan plan;
    plan.range = clamp_range(q.clamp, q.output_format, q.output_exponent, q.mode);
    plan.mode = q.mode;
    plan.input_exponent = q.input_exponent;
    plan.output_exponent = q.output_exponent;
    plan.input_format = q.input_format;
    for (std::size_t o = 0; o < products.size(); ++o) {
        const channel_proof channel = channel_of(q, bias, products[o], o);
        const std::int64_t aligned =
            channel.has_bias ? align_bias(channel.bias, channel.bias_exponent, channel.accumulator_exponent) : 0;
        certify_channel(plan.proof, channel);
        if (!plan.proof.int32_safe)
            fail(function, text("the worst accumulator of output channel ", o),
                 std::to_string(plan.proof.magnitude.back()),
                 "below 2^31: use smaller weights, bias or input_format; where weights are all but zeros, a larger "
                 "exponent of theirs (least_weight_exponent)");
        plan.bias.push_back(static_cast<std::int32_t>(aligned));
        const int shift = short_shift(channel.shift, q.mode, plan.proof.magnitude.back());
        plan.shift.push_back(shift);
        plan.constant.push_back(static_cast<std::int32_t>(rounding_constant(shift, q.mode)));
        plan.kind = std::max(plan.kind, epilogue_of(shift, q.mode, plan.proof.magnitude.back()));
    }
    if (plan.kind >= kernels::epilogue::round) std::fill(plan.constant.begin(), plan.constant.end(), 0);
    return plan;
}

}  // namespace detail
}  // namespace po2quant
