#pragma once
/// The training passes on tensors, without gradients: functions.hpp has those.
///
/// Tensors are dense float32 ones on the CPU, in any order of dimensions: contiguous and channels_last ones are read as
/// they lie. Exponents are int32, one for the whole tensor or one for each index of the dimension `axis`. Ranges are
/// float64 [n][4]: smallest and largest finite value, how many values were finite, how many were not; they merge by the
/// minimum, the maximum and two sums, so an all-reduce over them is exact. A moving average is the bytes of
/// po2quant::serialize. Thresholds are float64. Throws c10::Error or std::invalid_argument for anything else.
#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <tuple>

namespace po2quant_torch::ops {

using at::Tensor;

// ---- ranges and exponents -------------------------------------------------------------------------------------------

/// The range of the tensor, or one for each index of `axis`.
Tensor observe(const Tensor& input, c10::optional<std::int64_t> axis = c10::nullopt);
Tensor exponents_for(const Tensor& ranges, std::int64_t bits = 8, bool is_signed = true, std::int64_t max_k = 128);
/// Those of least squared error, of the tensor or of each index of `axis`: no-clip's and up to three finer ones.
Tensor least_error_exponents(const Tensor& input, c10::optional<std::int64_t> axis = c10::nullopt,
                             std::int64_t bits = 8, bool is_signed = true);
Tensor tqt_exponents(const Tensor& log2_t, std::int64_t bits = 8, bool is_signed = true);
/// The finest exponents that weights of each output channel may have beside its bias, as it is added; any beside one
/// that is not finite.
Tensor least_weight_exponents(const Tensor& bias, std::int64_t input_exponent);

// ---- moving averages ------------------------------------------------------------------------------------------------

Tensor new_ema_range(double decay = 0.999, std::int64_t delay = 0);
void ema_range_update(const Tensor& state, const Tensor& seen);
Tensor ema_range_current(const Tensor& state);
bool ema_range_quantizing(const Tensor& state);

// ---- passes ---------------------------------------------------------------------------------------------------------

/// What is on the grid; a mask of one bit per element, whether its gradient passes; with `observing` the range of
/// input, or of each channel where there are several exponents.
std::tuple<Tensor, Tensor, Tensor> fake_quantize(const Tensor& input, const Tensor& exponents, std::int64_t axis = 0,
                                                 std::int64_t bits = 8, bool is_signed = true,
                                                 const std::string& rounding = "half_up",
                                                 const std::string& estimator = "clip_code", bool observing = false);
Tensor fake_quantize_backward(const Tensor& mask, const Tensor& grad_output);
/// The gradient of the input, and d loss / d log2 t of each threshold.
std::tuple<Tensor, Tensor> fake_quantize_backward_threshold(const Tensor& input, const Tensor& grad_output,
                                                            const Tensor& exponents, std::int64_t axis = 0,
                                                            std::int64_t bits = 8, bool is_signed = true,
                                                            const std::string& rounding = "half_up");

}  // namespace po2quant_torch::ops
