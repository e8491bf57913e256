#pragma once
/// Squared errors of fake quantization, one by one: the specification of kernels/squared_error.hpp and of the tree that
/// adds up a tensor's blocks.
#include <cmath>
#include <span>
#include <vector>

#include <po2quant/numerics/quantizer.hpp>

namespace po2quant::reference {

/// Σ (x − fake_quantize(x))^2 over the finite x. Blocks of 32768 elements have 16 lanes each; lanes and then blocks are
/// added pairwise, each to its neighbour at half the width of the lanes, at distance 1, 2, 4, … of the blocks.
inline double squared_error(std::span<const float> data, const quantizer& q) {
    constexpr std::size_t block = 32768;
    std::vector<double> sums;
    for (std::size_t begin = 0; begin < data.size(); begin += block) {
        double lane[16] = {};
        for (std::size_t i = begin; i < data.size() && i < begin + block; ++i) {
            if (!std::isfinite(data[i])) continue;
            const float error = data[i] - fake_quantize(data[i], q);
            lane[i % 16] += static_cast<double>(error) * static_cast<double>(error);
        }
        for (std::size_t width = 8; width > 0; width /= 2)
            for (std::size_t k = 0; k < width; ++k) lane[k] += lane[k + width];
        sums.push_back(lane[0]);
    }
    for (std::size_t distance = 1; distance < sums.size(); distance *= 2)
        for (std::size_t b = 0; b + distance < sums.size(); b += 2 * distance) sums[b] += sums[b + distance];
    return sums.empty() ? 0.0 : sums[0];
}

}  // namespace po2quant::reference
