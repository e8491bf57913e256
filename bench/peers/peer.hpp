#pragma once
/// What a peer is to the comparison: a convolution made once from shape, weights and bias, then run many times.
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <po2quant/tensor/convolution.hpp>

namespace po2quant::bench {

/// One layer, the same for all: inputs are codes 0..127, as after ReLU; outputs clamp(round((acc + bias) / 2^shift), 0,
/// 96).
struct peer_layer {
    nhwc input;
    std::int64_t outputs;  ///< 0: depthwise
    window2d window;
    int shift;
    const std::int8_t* codes;    ///< input, NHWC
    const std::int8_t* weights;  ///< HWIO; depthwise HWC
    const std::int32_t* bias;    ///< on the accumulator's grid
    std::int8_t* output;         ///< NHWC

    bool depthwise() const { return outputs == 0; }
    std::int64_t output_channels() const { return depthwise() ? input.channels : outputs; }
    std::int64_t output_elements() const {
        const extent2d e = output_extent(input, window);
        return input.batch * e.height * e.width * output_channels();
    }
    /// Weight (ky, kx, c, o); depthwise: c is 0, o the channel.
    std::int8_t weight(std::int64_t ky, std::int64_t kx, std::int64_t c, std::int64_t o) const {
        const std::int64_t inputs = depthwise() ? 1 : input.channels;
        return weights[((ky * window.kernel.width + kx) * inputs + c) * output_channels() + o];
    }
};

/// A layer that is ready to run on one thread; nothing where the peer has no such layer.
using runner = std::optional<std::function<void()>>;

struct peer {
    std::string name;
    std::string version;
    std::function<runner(const peer_layer&)> make;
};

peer onednn_peer();
peer xnnpack_peer();
peer gemmlowp_peer();

}  // namespace po2quant::bench
