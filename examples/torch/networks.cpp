#include "networks.hpp"

namespace po2quant_torch {
namespace {

constexpr struct {
    std::int64_t outputs, stride;
} blocks[] = {{16, 1},  {32, 2},  {32, 1},  {64, 2},  {64, 1},  {128, 1}, {128, 1},
              {128, 1}, {128, 1}, {128, 1}, {128, 1}, {256, 2}, {256, 1}};

torch::nn::Sequential mobilenet_features(std::int64_t channels, const std::optional<Scheme>& scheme) {
    constexpr auto relu6 = po2quant::activation::relu6;
    torch::nn::Sequential layers;
    OutputQuantizer source = nullptr;
    const auto add = [&](const Conv2dOptions& options) {
        const Conv2d layer(options, scheme, source);
        layers->push_back(layer);
        source = layer->output;
    };
    std::int64_t width = 8;
    add({.inputs = channels,
         .outputs = width,
         .kernel = 3,
         .stride = 2,
         .activation = relu6,
         .weight_bits = first_and_last_bits});
    for (const auto& [outputs, stride] : blocks) {
        add({.inputs = width, .outputs = width, .kernel = 3, .stride = stride, .depthwise = true, .activation = relu6});
        add({.inputs = width, .outputs = outputs, .activation = relu6});
        width = outputs;
    }
    return layers;
}

}  // namespace

MobileNetV1Impl::MobileNetV1Impl(std::int64_t channels, std::int64_t classes, const std::optional<Scheme>& scheme)
    : features(register_module("features", mobilenet_features(channels, scheme))),
      pool(register_module("pool", GlobalAveragePool(scheme))),
      classifier(register_module("classifier", Linear(256, classes, scheme, first_and_last_bits, pool->output))) {}

}  // namespace po2quant_torch
