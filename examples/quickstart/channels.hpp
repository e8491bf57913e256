#pragma once
/// Loops over [pixels][channels] of floats that keep what belongs to a channel in registers.
#include <Eigen/Core>
#include <cmath>

#include "float_ops.hpp"

namespace quickstart {

inline float lower_limit(pq::activation clamp) { return clamp == pq::activation::none ? -INFINITY : 0.0F; }
inline float upper_limit(pq::activation clamp) { return clamp == pq::activation::relu6 ? 6.0F : INFINITY; }

/// Calls f(first channel, zeros) for 16 channels at a time, and one by one where fewer are left; `zeros` is an Eigen
/// array of as many lanes. Pixels are f's inner loop.
template <class F>
void for_each_channels(std::int64_t channels, F&& f) {
    std::int64_t c = 0;
    for (; c + 16 <= channels; c += 16) f(c, Eigen::Array<float, 16, 1>(Eigen::Array<float, 16, 1>::Zero()));
    for (; c < channels; ++c) f(c, Eigen::Array<float, 1, 1>(Eigen::Array<float, 1, 1>::Zero()));
}

/// dy where low < y < high, else 0: the gradient of a clamp, given its result. (Eigen 3.4's select is not vectorized;
/// compilers vectorize this loop.)
template <class Lanes>
Lanes clamp_gradient(const Lanes& y, Lanes dy, float low, float high) {
    for (int k = 0; k < Lanes::SizeAtCompileTime; ++k) dy[k] = y[k] > low && y[k] < high ? dy[k] : 0.0F;
    return dy;
}

}  // namespace quickstart
