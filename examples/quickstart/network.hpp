#pragma once
/// The network's layers and parameters, as a host would hold them.
#include <cstdint>
#include <span>
#include <vector>

#include "data.hpp"
#include "float_ops.hpp"

namespace quickstart {

/// Values that are learned, with their gradient and the two averages that Adam keeps.
struct parameter {
    std::vector<float> value;
    std::vector<float> gradient;
    std::vector<float> first;
    std::vector<float> second;

    parameter() = default;
    parameter(std::int64_t count, float start)
        : value(static_cast<std::size_t>(count), start),
          gradient(value.size()),
          first(value.size()),
          second(value.size()) {}
};

/// A layer with batch norm computes clamp(gamma * (x*w − mean) / deviation + bias), one without clamp(x*w + bias).
struct layer {
    layer_shape shape;
    parameter weights;
    parameter bias;
    parameter gamma;          ///< empty without batch norm
    std::vector<float> mean;  ///< moving averages of batch norm
    std::vector<float> variance;

    bool normalized() const { return !gamma.value.empty(); }
    bool learns() const { return !weights.value.empty(); }
};

inline constexpr float batch_norm_epsilon = 1e-3F;

struct network {
    std::vector<layer> layers;

    std::vector<parameter*> parameters();
    std::int64_t macs() const;
};

/// Two standard convolutions, each followed by a depthwise and a pointwise one, an average pool and a fully connected
/// layer; weights random.
network make_network(std::uint64_t seed);

/// The same function without batch norm, for inference: w·gamma/deviation and bias − gamma·mean/deviation.
network fold_batch_norm(const network& trained);

/// What trains: fill input(batch), then forward, then backward with the gradient of forward's result. All three hold
/// this process's share of the batch; what is summed or observed over images is that of the whole batch.
class training_graph {
public:
    explicit training_graph(const process_group& group) : group_(group) {}
    virtual ~training_graph() = default;

    const process_group& group() const { return group_; }
    virtual std::span<float> input(std::int64_t batch) = 0;
    virtual std::span<const float> forward() = 0;
    /// Overwrites the gradients of all parameters.
    virtual void backward(std::span<const float> logits_gradient) = 0;

private:
    const process_group& group_;
};

}  // namespace quickstart
