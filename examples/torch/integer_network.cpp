#include "integer_network.hpp"

#include <po2quant/inference/average_pool.hpp>
#include <po2quant/inference/conv2d.hpp>
#include <po2quant/inference/depthwise_conv2d.hpp>
#include <po2quant/inference/fully_connected.hpp>
#include <po2quant/inference/requantize.hpp>
#include <po2quant/training/quantize.hpp>

#include <cmath>
#include <memory>
#include <span>

#include "host.hpp"
#include "training.hpp"

namespace po2quant_torch {
namespace {

namespace pq = po2quant;

/// The same quantizers as in training, but integers come out.
template <class Code>
std::vector<Code> codes_of(const Tensor& values, std::span<const int> exponents, std::int64_t bits) {
    const Tensor rows = values.detach().contiguous();
    std::vector<Code> codes(static_cast<std::size_t>(rows.numel()));
    pq::quantize(elements<const float>("values", rows), codes,
                 pq::channel_quantizer{.format = {.bits = static_cast<int>(bits)},
                                       .exponents = exponents,
                                       .inner = rows.numel() / static_cast<std::int64_t>(exponents.size())});
    return codes;
}

/// A layer's weights and biases, [outputs][…] each.
struct parameters {
    Tensor weight_exponents;
    Tensor bias_exponents;
    std::vector<std::int8_t> weights;
    std::vector<std::int16_t> bias;

    parameters(const quantized_parameters& given, std::int64_t weight_bits, const Tensor& b)
        : weight_exponents(given.exponents),
          bias_exponents(ops::exponents_for(ops::observe(b), bias_bits)),
          weights(
              codes_of<std::int8_t>(given.weights, elements<const int>("exponents", weight_exponents), weight_bits)),
          bias(codes_of<std::int16_t>(given.bias, elements<const int>("exponents", bias_exponents), bias_bits)) {}

    pq::requantization between(int input, int output) const {
        return {.input_exponent = input,
                .weight_exponents = elements<const int>("exponents", weight_exponents),
                .bias_exponents = elements<const int>("exponents", bias_exponents),
                .output_exponent = output};
    }
};

/// What a layer reads.
struct grid {
    int exponent;
    pq::integer_format format = pq::int8;
};

pq::nhwc shape_of(at::IntArrayRef sizes) {
    return {.batch = sizes[0], .height = sizes[2], .width = sizes[3], .channels = sizes[1]};
}

Tensor codes_like(const pq::nhwc& shape) {
    return torch::empty({shape.batch, shape.channels, shape.height, shape.width}, at::kChar,
                        at::MemoryFormat::ChannelsLast);
}

template <class Layer>
IntegerLayer convolution(const std::string& name, const Conv2d& from, const Layer& layer) {
    const Tensor output = codes_like(layer.output());
    return {.name = name,
            .fake_quantized = [module = from.ptr()](const Tensor& x) { return module->forward(x); },
            .exponent = from->output->exponent(),
            .exact = layer.certificate().float32_exact,
            .output = output,
            .compute =
                [layer = std::make_shared<const Layer>(layer), output](const Tensor& input) {
                    layer->run(elements<const std::int8_t>("input", input), elements<std::int8_t>("output", output),
                               torch_threads{});
                }};
}

IntegerLayer convolution(const std::string& name, Conv2d from, at::IntArrayRef sizes, const grid& input) {
    const Conv2dOptions& o = from->options;
    const std::int64_t pad = o.kernel / 2;
    const pq::window2d window{.kernel = {o.kernel, o.kernel},
                              .stride = {o.stride, o.stride},
                              .padding = {.top = pad, .bottom = pad, .left = pad, .right = pad}};
    const parameters p(from->deployed(), from->weight->bits, from->offset());
    pq::requantization q = p.between(input.exponent, from->output->exponent());
    q.clamp = o.activation;
    q.input_format = input.format;
    constexpr auto layout = pq::weight_layout::oihw;
    if (o.depthwise)
        return convolution(
            name, from,
            pq::depthwise_conv2d({.input = shape_of(sizes), .window = window}, p.weights, p.bias, q, layout));
    return convolution(
        name, from,
        pq::conv2d({.input = shape_of(sizes), .outputs = o.outputs, .window = window}, p.weights, p.bias, q, layout));
}

IntegerLayer pooling(const std::string& name, const GlobalAveragePool& from, at::IntArrayRef sizes, const grid& input) {
    const pq::pool_shape shape{.input = shape_of(sizes), .window = {.kernel = {sizes[2], sizes[3]}}};
    const std::int64_t area = sizes[2] * sizes[3];
    TORCH_CHECK(area <= 256 && (area & (area - 1)) == 0, name, ": a mean of ", area,
                " values is not exact, those of a power of two up to 256 are");
    const Tensor output = codes_like(shape.output());
    const int exponent = from->output->exponent();
    return {.name = name,
            .fake_quantized = [module = from.ptr()](const Tensor& x) { return module->forward(x); },
            .exponent = exponent,
            .exact = true,
            .output = output,
            .compute =
                [=, means = torch::empty_like(output, at::kShort)](const Tensor& codes) {
                    pq::average_pool(shape, elements<const std::int8_t>("input", codes),
                                     elements<std::int16_t>("means", means), torch_threads{});
                    pq::requantize(
                        elements<const std::int16_t>("means", means), elements<std::int8_t>("output", output),
                        {.input_exponent = input.exponent - 8, .output_exponent = exponent}, torch_threads{});
                }};
}

/// Sums and bias keep their own grids, as nothing rounds behind them.
IntegerLayer classification(const std::string& name, Linear from, std::int64_t batch, const grid& input) {
    const std::int64_t outputs = from->weight.size(0);
    const auto [w, exponents] = from->quantizer(from->weight);
    const parameters p({w, quantized_bias(from->bias), exponents}, from->quantizer->bits, from->bias);
    pq::requantization q = p.between(input.exponent, input.exponent);
    q.input_format = input.format;
    const auto layer = std::make_shared<const pq::fully_connected>(batch, from->weight.size(1), outputs, p.weights,
                                                                   pq::bias_codes{}, q, pq::weight_layout::oihw);
    const double scale = std::ldexp(1.0, input.exponent + p.weight_exponents.item<int>());
    const Tensor bias = quantized_bias(from->bias).to(at::kDouble);
    const Tensor sums = torch::empty({batch, outputs}, at::kInt);
    const Tensor output = torch::empty({batch, outputs}, at::kFloat);
    return {.name = name,
            .fake_quantized = [module = from.ptr()](const Tensor& x) { return module->forward(x); },
            .exponent = 0,
            .exact = layer->certificate().float32_exact,
            .output = output,
            .compute =
                [=](const Tensor& codes) {
                    layer->accumulate(elements<const std::int8_t>("input", codes), elements<std::int32_t>("sums", sums),
                                      torch_threads{});
                    output.copy_(sums.to(at::kDouble) * scale + bias);
                }};
}

}  // namespace

std::vector<IntegerLayer> integer_layers(MobileNetV1 network, at::IntArrayRef sizes) {
    network->eval();
    const torch::NoGradGuard without_gradients;
    std::vector<IntegerLayer> layers;
    grid input{image_exponent};
    std::vector<std::int64_t> shape = sizes.vec();
    const auto add = [&](IntegerLayer layer) {
        // Behind a ReLU nothing is negative.
        input = {layer.exponent, pq::uint7};
        shape = layer.output.sizes().vec();
        layers.push_back(std::move(layer));
    };
    for (const auto& child : network->features->named_children())
        add(convolution("features." + child.key(), Conv2d(std::dynamic_pointer_cast<Conv2dImpl>(child.value())), shape,
                        input));
    add(pooling("pool", network->pool, shape, input));
    add(classification("classifier", network->classifier, shape[0], input));
    return layers;
}

}  // namespace po2quant_torch
