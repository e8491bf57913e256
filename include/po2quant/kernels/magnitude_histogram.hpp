#pragma once
/// Linear histogram of the magnitudes of n floats, up to a bound of 2^k.
///
///   bin = floor(|x| * 2^(11 − k)), the last one for |x| >= 2^k; NaN and ±∞ are skipped
///
///   in    float [n], any alignment          counts   uint64 [2048], added to
/// Numerics. |x| times a power of two is exact in double. One value at a time.
/// Guarantees: reads exactly n elements; no allocation, no exceptions.
#include <cstddef>
#include <cstdint>

#include <po2quant/numerics/exponent.hpp>

namespace po2quant::kernels {

inline constexpr int magnitude_bins_log2 = 11;
inline constexpr std::size_t magnitude_bins = std::size_t{1} << magnitude_bins_log2;

template <class Arch>
void magnitude_histogram(const float* in, std::size_t n, int bound_log2, std::uint64_t* counts) {
    const double bins_per_unit = exp2_double(magnitude_bins_log2 - bound_log2);
    for (std::size_t i = 0; i < n; ++i) {
        if (!__builtin_isfinite(in[i])) continue;
        const double bin = static_cast<double>(in[i] < 0 ? -in[i] : in[i]) * bins_per_unit;
        ++counts[bin < magnitude_bins - 1 ? static_cast<std::size_t>(bin) : magnitude_bins - 1];
    }
}

}  // namespace po2quant::kernels
