#pragma once
/// The network as a device would hold it: codes, exponents and the library's integer kernels; no float anywhere.
#include <po2quant/inference/average_pool.hpp>
#include <po2quant/inference/conv2d.hpp>
#include <po2quant/inference/depthwise_conv2d.hpp>
#include <po2quant/inference/fully_connected.hpp>

#include <optional>

#include "quantized_graph.hpp"

namespace quickstart {

struct integer_layer {
    layer_shape shape;
    int input_exponent = 0;
    int output_exponent = 0;  ///< of the last layer: that of its int32 sums
    std::vector<int> weight_exponents;
    std::vector<int> bias_exponents;
    std::vector<std::int8_t> weights;
    std::vector<std::int16_t> bias;
    std::vector<std::int8_t> output;  ///< of the last run, for a whole batch

    // The kernel, packed for this machine; which of them is there depends on shape.kind.
    std::optional<pq::conv2d> conv2d;
    std::optional<pq::depthwise_conv2d> depthwise_conv2d;
    std::optional<pq::fully_connected> fully_connected;
    pq::pool_shape pool;

    const pq::certificate* certificate() const;
};

class integer_network {
public:
    /// Exports what `graph` has learned, for runs of `batch` images at a time.
    integer_network(const quantized_graph& graph, std::int64_t batch);

    std::int64_t batch() const { return batch_; }
    const std::vector<integer_layer>& layers() const { return layers_; }
    /// Input codes of input_quantizer, `batch` images; the result are the int32 logits. Allocates nothing.
    std::span<const std::int32_t> run(std::span<const std::int8_t> images);

private:
    std::int64_t batch_;
    std::vector<integer_layer> layers_;
    std::vector<std::int16_t> means_;  ///< the pool's 16-bit form
    std::vector<std::int32_t> logits_;
};

}  // namespace quickstart
