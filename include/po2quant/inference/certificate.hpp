#pragma once
/// The proof that a layer's accumulators fit, computed from its integers before it runs.
#include <bit>
#include <cstdint>
#include <vector>

#include <po2quant/numerics/accumulator.hpp>

namespace po2quant {

/// Worst cases over every input of the format, whatever the order of summation.
struct certificate {
    /// Per output channel: max |Σ x·w + b + rounding constant|, in units of the accumulator, 2^(e_x + e_w).
    std::vector<std::int64_t> magnitude;
    /// Per output channel: what float32_exact says of the layer.
    std::vector<bool> channel_float32_exact;
    std::int64_t worst = 0;         ///< the largest magnitude
    std::size_t worst_channel = 0;  ///< the first channel that has it
    int bits = 1;                   ///< two's complement bits that hold the worst, sign included
    bool int32_safe = true;         ///< worst < 2^31
    /// A float32 convolution of the fake-quantized tensors, bias added in float32, is exact, and requantizing it gives
    /// the integers' codes: all sums stay below 2^24 in units of the finest exponent involved, these units and sums are
    /// normal floats, and the bias's alignment loses nothing that rounding would see. Then the training forward pass
    /// and the integers agree bit for bit.
    bool float32_exact = true;

    std::size_t channels() const { return magnitude.size(); }
    /// Two's complement bits that hold a channel's sums, sign included: the narrowest accumulator that is safe.
    int channel_bits(std::size_t channel) const { return accumulator_bits(magnitude[channel]); }
    bool channel_int32_safe(std::size_t channel) const { return channel_bits(channel) <= 32; }

    /// The fewest bits that hold ±magnitude, sign included; 1 for 0.
    static constexpr int accumulator_bits(std::int64_t magnitude) {
        return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(magnitude))) + 1;
    }
};

namespace detail {

/// What one output channel adds to a certificate.
struct channel_proof {
    accumulator_bounds products;
    bool has_bias = false;
    std::int32_t bias = 0;
    int bias_exponent = 0;
    int accumulator_exponent = 0;
    int shift = 0;
    rounding mode = rounding::half_up;
};

/// The constant that half_up adds before its shift; 0 where nothing is shifted out.
constexpr std::int64_t rounding_constant(int shift, rounding mode) {
    return mode == rounding::half_up && 1 <= shift && shift <= 31 ? std::int64_t{1} << (shift - 1) : 0;
}

/// The bias on the accumulator's grid, held inside ±2^62: far beyond what is refused, so that sums with it stay
/// defined.
constexpr std::int64_t aligned_bias(const channel_proof& c) {
    constexpr std::int64_t far = std::int64_t{1} << 62;
    return c.has_bias ? clamp(align_bias(c.bias, c.bias_exponent, c.accumulator_exponent), -far, far) : 0;
}

/// How many bits finer than the accumulator's the bias's grid is; 0 where it is not.
constexpr int finer_bits(const channel_proof& c) {
    return c.has_bias && c.bias_exponent < c.accumulator_exponent ? c.accumulator_exponent - c.bias_exponent : 0;
}

/// Whether float32 sums of products and bias are exact: they stay below 2^24 on the finer of the two grids, and nothing
/// is subnormal or infinite.
constexpr bool float32_sums_are_exact(const channel_proof& c) {
    const std::int64_t limit = std::int64_t{1} << 24;
    const int finer = finer_bits(c);
    const int unit = c.accumulator_exponent - finer;
    const std::int64_t products = c.products.magnitude();
    if (products >= limit || finer >= 24 || unit < -126 || unit > 104) return false;
    const std::int64_t bias = finer > 0 ? std::int64_t{c.bias} : aligned_bias(c);
    return products * (std::int64_t{1} << finer) + (bias < 0 ? -bias : bias) < limit;
}

/// Adds a channel whose sums reach `magnitude`.
inline void add_channel(certificate& all, std::int64_t magnitude, bool float32_exact) {
    if (magnitude > all.worst) {
        all.worst = magnitude;
        all.worst_channel = all.magnitude.size();
    }
    all.magnitude.push_back(magnitude);
    all.bits = certificate::accumulator_bits(all.worst);
    all.int32_safe = all.worst < std::int64_t{1} << 31;
    all.channel_float32_exact.push_back(float32_exact);
    all.float32_exact = all.float32_exact && float32_exact;
}

inline void certify_channel(certificate& all, const channel_proof& c) {
    const std::int64_t aligned = aligned_bias(c);
    // The bias is added first and the sum may stop anywhere, so the bias alone counts as well.
    const accumulator_bounds total{c.products.low + (aligned < 0 ? aligned : 0),
                                   c.products.high + (aligned > 0 ? aligned : 0) + rounding_constant(c.shift, c.mode)};
    const int finer = finer_bits(c);
    const bool bias_loses_bits =
        finer > 0 && (finer > 31 ? c.bias != 0 : (c.bias & ((std::int64_t{1} << finer) - 1)) != 0);
    const bool floor_is_exact = c.shift >= 1 && (c.mode == rounding::half_up || c.mode == rounding::floor);
    add_channel(all, total.magnitude(), float32_sums_are_exact(c) && (!bias_loses_bits || floor_is_exact));
}

}  // namespace detail
}  // namespace po2quant
