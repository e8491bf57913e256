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

inline void certify_channel(certificate& all, const channel_proof& c) {
    // Held inside ±2^62, far beyond what is refused, so that sums with it stay defined.
    const std::int64_t far = std::int64_t{1} << 62;
    const std::int64_t aligned =
        c.has_bias ? clamp(align_bias(c.bias, c.bias_exponent, c.accumulator_exponent), -far, far) : 0;
    const std::int64_t constant = rounding_constant(c.shift, c.mode);
    // The bias is added first and the sum may stop anywhere, so the bias alone counts as well.
    const accumulator_bounds total{c.products.low + (aligned < 0 ? aligned : 0),
                                   c.products.high + (aligned > 0 ? aligned : 0) + constant};
    const std::int64_t magnitude = total.magnitude();
    if (magnitude > all.worst) {
        all.worst = magnitude;
        all.worst_channel = all.magnitude.size();
    }
    all.magnitude.push_back(magnitude);
    all.bits = certificate::accumulator_bits(all.worst);
    all.int32_safe = all.worst < std::int64_t{1} << 31;

    // In float32 the sums live on the finer of the two grids.
    const int finer =
        c.has_bias && c.bias_exponent < c.accumulator_exponent ? c.accumulator_exponent - c.bias_exponent : 0;
    const std::int64_t products = c.products.magnitude();
    const std::int64_t limit = std::int64_t{1} << 24;
    const std::int64_t bias = c.has_bias ? (c.bias < 0 ? -std::int64_t{c.bias} : std::int64_t{c.bias}) : 0;
    bool exact = products < limit && finer < 24;
    const int unit = c.accumulator_exponent - finer;
    exact = exact && -126 <= unit && unit <= 104;  // 2^unit .. 2^24 * 2^unit: nothing is subnormal or infinite
    if (exact) {
        const std::int64_t bias_units = finer > 0 ? bias : (aligned < 0 ? -aligned : aligned);
        exact = products * (std::int64_t{1} << finer) + bias_units < limit;
    }
    const bool bias_loses_bits =
        finer > 0 && (finer > 31 ? c.bias != 0 : (c.bias & ((std::int64_t{1} << finer) - 1)) != 0);
    const bool floor_is_exact = c.shift >= 1 && (c.mode == rounding::half_up || c.mode == rounding::floor);
    all.channel_float32_exact.push_back(exact && (!bias_loses_bits || floor_is_exact));
    all.float32_exact = all.float32_exact && all.channel_float32_exact.back();
}

}  // namespace detail
}  // namespace po2quant
