#pragma once
/// Training in float32 with batch norm: the host's own business, before any quantization.
#include "network.hpp"

namespace quickstart {

class float_graph final : public training_graph {
public:
    explicit float_graph(network& net, const process_group& group = one_process)
        : training_graph(group), net_(net), layers_(net.layers.size()) {}

    std::span<float> input(std::int64_t batch) override;
    std::span<const float> forward() override;
    void backward(std::span<const float> logits_gradient) override;

private:
    struct tensors {
        std::vector<float> sums;      ///< x*w
        std::vector<float> output;    ///< clamped: the next layer's input
        std::vector<float> gradient;  ///< of output, then of sums, in place
        std::vector<float> scale;     ///< batch norm as sums * scale + shift
        std::vector<float> shift;
        std::vector<float> mean;
        std::vector<float> inverse;  ///< 1 / deviation of this batch
        std::vector<float> partial;  ///< one row per slot
    };

    void normalize(layer& l, tensors& t) const;
    void normalize_backward(layer& l, tensors& t) const;

    network& net_;
    std::int64_t batch_ = 0;   ///< images of all processes
    std::int64_t images_ = 0;  ///< of this one
    std::int64_t steps_ = 0;
    std::vector<float> input_;
    std::vector<float> input_gradient_;
    std::vector<tensors> layers_;
};

}  // namespace quickstart
