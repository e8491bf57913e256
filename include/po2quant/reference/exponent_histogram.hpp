#pragma once
/// Exponents counted by the C library's names for them: the specification of kernels/exponent_histogram.hpp.
#include <cmath>
#include <cstdint>
#include <span>

namespace po2quant::reference {

/// Adds to counts[256]: bin 0 for zeros and subnormals, e + 127 for 2^e <= |x| < 2^(e+1), bin 255 for NaN and ±∞.
inline void exponent_histogram(std::span<const float> data, std::span<std::uint64_t> counts) {
    for (const float x : data) {
        if (!std::isfinite(x)) ++counts[255];
        else if (std::isnormal(x)) ++counts[static_cast<std::size_t>(std::ilogb(x) + 127)];
        else ++counts[0];
    }
}

}  // namespace po2quant::reference
