#pragma once
/// Magnitudes counted by their place between two bounds: the specification of kernels/magnitude_histogram.hpp.
#include <cmath>
#include <cstdint>
#include <span>

namespace po2quant::reference {

/// Adds to counts[2048]: bin i holds the finite x with i * 2^(k−11) <= |x| < (i + 1) * 2^(k−11), the last one also what
/// is above.
inline void magnitude_histogram(std::span<const float> data, int bound_log2, std::span<std::uint64_t> counts) {
    for (const float x : data) {
        if (!std::isfinite(x)) continue;
        const double bin = std::floor(std::ldexp(std::fabs(static_cast<double>(x)), 11 - bound_log2));
        ++counts[bin > 2047 ? 2047 : static_cast<std::size_t>(bin)];
    }
}

}  // namespace po2quant::reference
