#pragma once
/// Layers whose weights, biases and outputs are on power-of-two grids, or in float32 where they are given no scheme.
/// layers.py has the same: a state of one loads in the other, and values and gradients are the same bits.
#include <torch/nn.h>

#include <po2quant/numerics/accumulator.hpp>

#include <cstdint>
#include <optional>

#include "ops.hpp"

namespace po2quant_torch {

using at::Tensor;

inline constexpr std::int64_t bias_bits = 16;
inline constexpr int image_exponent = -7;

/// How a network is quantized.
struct Scheme {
    std::int64_t weight_bits = 8;
    bool trained = false;     ///< thresholds: learned (TQT), or from ranges, the original project's method
    std::int64_t delay = 50;  ///< training steps that only watch ranges
    double decay = 0.99;      ///< of the moving averages of ranges
};

/// Weights on the grid of their own range, of today; or of a trained threshold, which starts as three times their root
/// mean square. One exponent, or one per output channel; none below those of channels given.
class WeightQuantizerImpl : public torch::nn::Module {
public:
    WeightQuantizerImpl(const Scheme& scheme, std::int64_t bits, std::int64_t channels = 1);
    /// w on the grid, and its exponents.
    std::pair<Tensor, Tensor> forward(const Tensor& w, const Tensor& least_of_channels = {});

    std::int64_t bits;
    c10::optional<std::int64_t> axis;
    Tensor log2_t;  ///< undefined where exponents come from ranges
};
TORCH_MODULE(WeightQuantizer);

/// Activations, int8, on the grid of a moving average of their range; or of a trained threshold, which starts as that
/// average. Training steps are watched; for the first ones, the delay, nothing more is done.
class OutputQuantizerImpl : public torch::nn::Module {
public:
    explicit OutputQuantizerImpl(const Scheme& scheme);
    bool quantizing() const { return ops::ema_range_quantizing(range); }
    int exponent() const;
    Tensor forward(const Tensor& x);

    Tensor range;
    Tensor log2_t;  ///< undefined where the exponent comes from the range
    bool frozen = false;

private:
    const Tensor& started_threshold() const;
};
TORCH_MODULE(OutputQuantizer);

/// 16-bit codes with an exponent of their own.
Tensor quantized_bias(const Tensor& bias);

/// Weights and bias of a layer on their grids, and the exponents of the weights.
struct quantized_parameters {
    Tensor weights;
    Tensor bias;
    Tensor exponents;
};

struct Conv2dOptions {
    std::int64_t inputs;
    std::int64_t outputs;
    std::int64_t kernel = 1;
    std::int64_t stride = 1;
    bool depthwise = false;
    po2quant::activation activation = po2quant::activation::none;
    std::optional<std::int64_t> weight_bits = {};  ///< where they are not the scheme's
};

/// Convolution, batch norm, activation. Quantized, the norm is folded into the weights:
///
///   w_q = the grid's γ·w/σ_M                             of the moving averages: it does not jitter
///   y = conv(x, w_q) · σ_M/σ_B + β − γ·μ_B/σ_B           the batch's own normalization, while norms are not frozen
///   y = conv(x, w_q) + the grid's (β − γ·μ_M/σ_M)        frozen, and outside of training: what is deployed
///
/// Its inputs are the outputs that `source` quantizes, or images.
class Conv2dImpl : public torch::nn::Module {
public:
    explicit Conv2dImpl(const Conv2dOptions& options, const std::optional<Scheme>& scheme = {},
                        OutputQuantizer source = nullptr);
    Tensor scaled_weights() const;  ///< γ·w/σ_M
    Tensor offset() const;          ///< β − γ·μ_M/σ_M
    /// Channels whose weights are all but zeros, pruned or dead, have ranges that leave no room for the bias in sums of
    /// that grid: they get larger ones.
    quantized_parameters on_grids();
    /// The same, the bias as integers add it, to sums on the grids 2^(exponents of weights and inputs): floored to
    /// these. Where outputs are coarser that changes none of them, and the bias stays as it is; where they are not, the
    /// floor is computed here.
    quantized_parameters deployed();
    Tensor forward(const Tensor& x);

    const Conv2dOptions options;
    torch::nn::Conv2d conv{nullptr};
    torch::nn::BatchNorm2d norm{nullptr};
    WeightQuantizer weight{nullptr};
    OutputQuantizer output{nullptr};
    bool frozen_norm = false;

private:
    int input_exponent() const;
    Tensor moving_sigma() const;
    Tensor normalized(const Tensor& x);
    Tensor convolve(const Tensor& x, const Tensor& w, const Tensor& b = {}) const;
    Tensor folded(const Tensor& x);
    Tensor activated(const Tensor& x) const;

    OutputQuantizer source_;  // not a part of this module
};
TORCH_MODULE(Conv2d);

/// The classifier: weights and bias on their grids, sums as they are. It quantizes when its source does.
class LinearImpl : public torch::nn::LinearImpl {
public:
    LinearImpl(std::int64_t inputs, std::int64_t outputs, const std::optional<Scheme>& scheme = {},
               std::optional<std::int64_t> weight_bits = {}, OutputQuantizer source = nullptr);
    Tensor forward(const Tensor& x);

    WeightQuantizer quantizer{nullptr};

private:
    OutputQuantizer source_;  // not a part of this module
};
TORCH_MODULE(Linear);

class GlobalAveragePoolImpl : public torch::nn::Module {
public:
    explicit GlobalAveragePoolImpl(const std::optional<Scheme>& scheme = {});
    Tensor forward(const Tensor& x);

    OutputQuantizer output{nullptr};
};
TORCH_MODULE(GlobalAveragePool);

/// From now on the moving averages normalize, and stay what they are.
void freeze_norms(torch::nn::Module& network, bool frozen = true);

/// From now on ranges and thresholds stay what they are.
void freeze_ranges(torch::nn::Module& network);

}  // namespace po2quant_torch
