#pragma once
/// Training with fake quantization: where the library's kernels plug into a host's loop. Every call of pq:: in the .cpp
/// is one line that a real framework's layer would hold too.
#include <po2quant/inference/integer_forward.hpp>
#include <po2quant/training/range_trackers.hpp>
#include <po2quant/training/threshold.hpp>

#include <optional>

#include "network.hpp"

namespace quickstart {

/// Pixels are p / 256 with codes of int8 and exponent −7: round(p / 2), at most 127.
inline constexpr pq::quantizer input_quantizer{.format = pq::int8, .exponent = -7};

/// The grids of one layer.
struct layer_grids {
    pq::ema_range range{.decay = 0.99F};  ///< of the outputs, before they are rounded
    int input_exponent = 0;
    int output_exponent = 0;
    std::vector<int> weight_exponents;  ///< one, or one per output channel
    std::vector<int> bias_exponents;    ///< as many
};

class quantized_graph final : public training_graph {
public:
    /// `net` without batch norm. Ranges are watched for `calibration_steps` forward passes; from then on all is
    /// quantized.
    quantized_graph(network& net, std::uint64_t calibration_steps, const process_group& group = one_process);

    std::span<float> input(std::int64_t batch) override;
    std::span<const float> forward() override;
    void backward(std::span<const float> logits_gradient) override;

    /// Whether forward passes change ranges; off for evaluation.
    void set_tracking(bool on) { tracking_ = on; }
    /// Whether convolutions of quantized tensors are computed by integers, as they are unless this says otherwise, or
    /// in float32. The bits are the same.
    void set_integer_forward(bool on) { integer_forward_ = on; }
    /// Instead of following ranges, exponents come from trained thresholds (TQT) from now on: one for each layer's
    /// outputs, and those of its weights. They begin at today's ranges. For one process.
    void train_thresholds();
    /// A step of the thresholds by the gradients of the last backward pass, then of the published schedule for batches
    /// of `batch` images. Without trained thresholds, and before the first backward pass, nothing.
    void update_thresholds(std::int64_t batch);
    std::span<const pq::tqt_threshold> thresholds() const { return thresholds_; }
    /// Ranges and thresholds, and so the activations' exponents, stay as they are from now on.
    void freeze();

    const network& net() const { return net_; }
    const layer_grids& grids(std::size_t layer) const { return layers_[layer].grids; }
    /// Of the last forward pass: the quantized input, a layer's output, and the same before it was rounded.
    std::span<const float> quantized_input() const { return input_; }
    std::span<const float> output(std::size_t layer) const { return layers_[layer].output; }
    std::span<const float> clamped(std::size_t layer) const { return layers_[layer].clamped; }

private:
    struct tensors {
        layer_grids grids;
        std::vector<float> weights;  ///< on their grid
        std::vector<float> bias;     ///< on its grid
        std::vector<float> clamped;  ///< clamp(x*w + bias)
        std::vector<float> output;   ///< clamped, on its grid: the next layer's input
        std::vector<float> gradient;
        std::vector<float> partial;
        std::optional<pq::integer_forward_conv2d> conv2d;
        std::optional<pq::integer_forward_depthwise_conv2d> depthwise_conv2d;
        pq::integer_format codes = pq::int8;  ///< of its inputs: behind a clamp nothing negative
        std::size_t weight_threshold = 0;     ///< the first of the weights', in thresholds_
        std::size_t output_threshold = 0;     ///< of outputs that are rounded: all but logits
    };

    void quantize_parameters(const layer& l, tensors& t) const;
    void convolve(const layer& l, tensors& t, std::span<const float> x) const;
    void convolve_by_integers(const layer& l, tensors& t, std::span<const float> x) const;
    void quantize_outputs(const layer& l, tensors& t) const;

    network& net_;
    std::int64_t images_ = 0;
    bool tracking_ = true;
    bool integer_forward_ = true;
    std::vector<float> input_;
    std::vector<float> input_gradient_;
    std::vector<tensors> layers_;
    std::vector<pq::tqt_threshold> thresholds_;  ///< of all layers; empty unless they are trained
    std::vector<double> threshold_gradients_;    ///< of the last backward pass
    std::uint64_t threshold_steps_ = 0;
};

}  // namespace quickstart
