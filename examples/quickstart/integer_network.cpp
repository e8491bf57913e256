#include "integer_network.hpp"

#include <po2quant/inference/requantize.hpp>
#include <po2quant/training/quantize.hpp>

namespace quickstart {

const pq::certificate* integer_layer::certificate() const {
    if (conv2d) return &conv2d->certificate();
    if (depthwise_conv2d) return &depthwise_conv2d->certificate();
    if (fully_connected) return &fully_connected->certificate();
    return nullptr;
}

integer_network::integer_network(const quantized_graph& graph, std::int64_t batch) : batch_(batch) {
    const std::vector<layer>& learned = graph.net().layers;
    layers_.resize(learned.size());
    pq::integer_format codes = pq::int8;  // what a layer's input may be: behind a ReLU nothing negative
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        const layer_grids& grids = graph.grids(i);
        integer_layer& l = layers_[i];
        l.shape = learned[i].shape;
        l.input_exponent = grids.input_exponent;
        l.output_exponent = grids.output_exponent;
        l.weight_exponents = grids.weight_exponents;
        l.bias_exponents = grids.bias_exponents;

        // The same quantizers as in training, but integers come out.
        l.weights.resize(learned[i].weights.value.size());
        l.bias.resize(learned[i].bias.value.size());
        if (learned[i].learns()) {
            pq::quantize(learned[i].weights.value, l.weights,
                         pq::channel_quantizer{.format = pq::int8, .exponents = l.weight_exponents});
            pq::quantize(learned[i].bias.value, l.bias,
                         pq::channel_quantizer{.format = pq::int16, .exponents = l.bias_exponents});
        }

        const pq::requantization q{.input_exponent = l.input_exponent,
                                   .weight_exponents = l.weight_exponents,
                                   .bias_exponents = l.bias_exponents,
                                   .output_exponent = l.output_exponent,
                                   .clamp = l.shape.clamp,
                                   .input_format = codes};
        if (l.shape.clamp != pq::activation::none) codes = pq::uint7;
        pq::nhwc input = l.shape.input;
        input.batch = batch;
        switch (l.shape.kind) {
        case op::conv2d:
            l.conv2d.emplace(pq::conv2d_shape{.input = input, .outputs = l.shape.outputs, .window = l.shape.window},
                             l.weights, l.bias, q);
            break;
        case op::depthwise_conv2d:
            l.depthwise_conv2d.emplace(pq::depthwise_conv2d_shape{.input = input, .window = l.shape.window}, l.weights,
                                       l.bias, q);
            break;
        case op::average_pool:
            l.pool = {.input = input, .window = l.shape.window};
            means_.resize(static_cast<std::size_t>(l.pool.output().elements()));
            break;
        case op::fully_connected:
            l.output_exponent = l.input_exponent + l.weight_exponents.front();
            l.fully_connected.emplace(batch, input.channels, l.shape.outputs, l.weights, l.bias, q);
            logits_.resize(static_cast<std::size_t>(batch * l.shape.outputs));
            continue;
        }
        l.output.resize(static_cast<std::size_t>(batch * l.shape.output().elements()));
    }
}

std::span<const std::int32_t> integer_network::run(std::span<const std::int8_t> images) {
    std::span<const std::int8_t> x = images;
    for (integer_layer& l : layers_) {
        if (l.conv2d) l.conv2d->run(x, l.output, threads);
        if (l.depthwise_conv2d) l.depthwise_conv2d->run(x, l.output, threads);
        if (l.shape.kind == op::average_pool) {
            pq::average_pool(l.pool, x, means_, threads);
            pq::requantize(means_, l.output,
                           {.input_exponent = l.input_exponent - 8, .output_exponent = l.output_exponent});
        }
        if (l.fully_connected) l.fully_connected->accumulate(x, logits_, threads);
        x = l.output;
    }
    return logits_;
}

}  // namespace quickstart
