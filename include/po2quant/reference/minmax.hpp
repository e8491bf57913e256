#pragma once
/// Extremes of the finite values, one by one: the specification of kernels/minmax.hpp.
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

namespace po2quant::reference {

struct extremes {
    float min = std::numeric_limits<float>::infinity();
    float max = -std::numeric_limits<float>::infinity();
    std::uint64_t finite = 0;
    std::uint64_t non_finite = 0;
};

/// Every `stride`-th value from `first` on; zeros of either sign count as +0.
inline extremes minmax(std::span<const float> data, std::size_t first = 0, std::size_t stride = 1) {
    extremes e;
    for (std::size_t i = first; i < data.size(); i += stride) {
        const float v = data[i] + 0.0F;
        if (!std::isfinite(v)) {
            ++e.non_finite;
            continue;
        }
        ++e.finite;
        if (v < e.min) e.min = v;
        if (v > e.max) e.max = v;
    }
    return e;
}

}  // namespace po2quant::reference
