#pragma once
/// Fake quantization in autograd: the passes of ops.hpp with their gradients; functions.py has the same.
#include <utility>

#include "ops.hpp"

namespace po2quant_torch {

using at::Tensor;

/// x on the grid of given exponents. The gradient passes where the mask of one bit per element says so.
Tensor fake_quantize(const Tensor& x, const Tensor& exponents, std::int64_t axis = 0, std::int64_t bits = 8,
                     bool is_signed = true, const std::string& rounding = "half_up",
                     const std::string& estimator = "clip_code");

/// The same and the range of x, which the same pass finds.
std::pair<Tensor, Tensor> fake_quantize_observing(const Tensor& x, const Tensor& exponents, std::int64_t axis = 0,
                                                  std::int64_t bits = 8);

/// x on the grid of the thresholds 2^⌈log2_t⌉, with the gradients of x and of log2_t (TQT).
Tensor trained_threshold(const Tensor& x, const Tensor& log2_t, std::int64_t axis = 0, std::int64_t bits = 8,
                         bool is_signed = true, const std::string& rounding = "half_up");

}  // namespace po2quant_torch
