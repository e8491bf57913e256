#include "layers.hpp"

#include <limits>

#include "functions.hpp"

namespace po2quant_torch {
namespace {

constexpr double not_yet = std::numeric_limits<double>::quiet_NaN();

Tensor thresholds(std::int64_t count) { return torch::full({count}, not_yet, at::kDouble); }

void start(const Tensor& log2_t, const Tensor& magnitudes) {
    const torch::NoGradGuard without_gradients;
    log2_t.copy_(magnitudes.log2());
}

}  // namespace

WeightQuantizerImpl::WeightQuantizerImpl(const Scheme& scheme, std::int64_t weight_bits, std::int64_t channels)
    : bits(weight_bits) {
    if (channels != 1) axis = 0;
    if (scheme.trained) log2_t = register_parameter("log2_t", thresholds(channels));
}

std::pair<Tensor, Tensor> WeightQuantizerImpl::forward(const Tensor& w, const Tensor& least_of_channels) {
    const bool limited = least_of_channels.defined();
    const Tensor least = limited && !axis ? least_of_channels.amax(0, /*keepdim=*/true) : least_of_channels;
    if (!log2_t.defined()) {
        Tensor exponents = ops::exponents_for(ops::observe(w, axis), bits);
        if (limited) exponents = torch::maximum(exponents, least);
        return {fake_quantize(w, exponents, 0, bits), exponents};
    }
    if (log2_t.isnan().any().item<bool>()) {
        const Tensor rows = w.detach().to(at::kDouble).reshape({log2_t.numel(), -1});
        start(log2_t, (3 * rows.square().mean(1).sqrt()).clamp_min(0x1p-20));
    }
    const Tensor used = limited ? torch::maximum(log2_t, (least + (bits - 1)).to(at::kDouble)) : log2_t;
    return {trained_threshold(w, used, 0, bits), ops::tqt_exponents(used, bits)};
}

OutputQuantizerImpl::OutputQuantizerImpl(const Scheme& scheme)
    : range(register_buffer("range", ops::new_ema_range(scheme.decay, scheme.delay))) {
    if (scheme.trained) log2_t = register_parameter("log2_t", thresholds(1));
}

const Tensor& OutputQuantizerImpl::started_threshold() const {
    if (log2_t.isnan().any().item<bool>()) start(log2_t, ops::ema_range_current(range).slice(1, 0, 2).abs().amax(1));
    return log2_t;
}

int OutputQuantizerImpl::exponent() const {
    const Tensor of_all =
        log2_t.defined() ? ops::tqt_exponents(started_threshold()) : ops::exponents_for(ops::ema_range_current(range));
    return of_all.item<int>();
}

Tensor OutputQuantizerImpl::forward(const Tensor& x) {
    const bool watching = is_training() && !frozen;
    if (!quantizing()) {
        if (watching) ops::ema_range_update(range, ops::observe(x));
        return x;
    }
    if (log2_t.defined()) return trained_threshold(x, started_threshold());
    const Tensor exponents = ops::exponents_for(ops::ema_range_current(range));
    if (!watching) return fake_quantize(x, exponents);
    // The exponent comes from the steps before this one, so one pass does for both.
    const auto [y, seen] = fake_quantize_observing(x, exponents);
    ops::ema_range_update(range, seen);
    return y;
}

Tensor quantized_bias(const Tensor& bias) {
    return fake_quantize(bias, ops::exponents_for(ops::observe(bias), bias_bits), 0, bias_bits);
}

Conv2dImpl::Conv2dImpl(const Conv2dOptions& given, const std::optional<Scheme>& scheme, OutputQuantizer source)
    : options(given), source_(std::move(source)) {
    conv = register_module("conv", torch::nn::Conv2d(torch::nn::Conv2dOptions(given.inputs, given.outputs, given.kernel)
                                                         .stride(given.stride)
                                                         .padding(given.kernel / 2)
                                                         .groups(given.depthwise ? given.inputs : 1)
                                                         .bias(false)));
    norm = register_module("norm", torch::nn::BatchNorm2d(given.outputs));
    if (!scheme) return;
    // Depthwise layers hold few weights per channel, and folding leaves each channel its own range.
    weight = register_module("weight", WeightQuantizer(*scheme, given.weight_bits.value_or(scheme->weight_bits),
                                                       given.depthwise ? given.outputs : 1));
    output = register_module("output", OutputQuantizer(*scheme));
}

Tensor Conv2dImpl::moving_sigma() const { return (norm->running_var + norm->options.eps()).sqrt(); }

Tensor Conv2dImpl::scaled_weights() const { return conv->weight * (norm->weight / moving_sigma()).view({-1, 1, 1, 1}); }

Tensor Conv2dImpl::offset() const { return norm->bias - norm->running_mean * norm->weight / moving_sigma(); }

int Conv2dImpl::input_exponent() const { return source_ ? source_->exponent() : image_exponent; }

quantized_parameters Conv2dImpl::on_grids() {
    const Tensor b = quantized_bias(offset());
    const auto [w, exponents] = weight(scaled_weights(), ops::least_weight_exponents(b.detach(), input_exponent()));
    return {w, b, exponents};
}

quantized_parameters Conv2dImpl::deployed() {
    const auto [w, b, exponents] = on_grids();
    const Tensor sums = exponents + input_exponent();
    const Tensor step = sums.to(at::kDouble).exp2().to(at::kFloat);
    const Tensor floored = (b.detach() / step).floor() * step;
    return {w, torch::where(sums < output->exponent(), b, b + (floored - b).detach()), exponents};
}

/// In float32, as every step before the quantization.
Tensor Conv2dImpl::normalized(const Tensor& x) {
    const bool batch = is_training() && !frozen_norm;
    return torch::batch_norm(conv(x), norm->weight, norm->bias, norm->running_mean, norm->running_var, batch,
                             norm->options.momentum().value(), norm->options.eps(), /*cudnn_enabled=*/false);
}

Tensor Conv2dImpl::convolve(const Tensor& x, const Tensor& w, const Tensor& b) const {
    return torch::conv2d(x, w, b, options.stride, options.kernel / 2, /*dilation=*/1,
                         options.depthwise ? options.inputs : 1);
}

Tensor Conv2dImpl::folded(const Tensor& x) {
    if (frozen_norm || !is_training()) {
        const quantized_parameters p = deployed();
        return convolve(x, p.weights, p.bias);
    }
    const Tensor w = on_grids().weights;
    const Tensor sigma = moving_sigma();
    const auto [variance, mean] = torch::var_mean(conv(x), {0, 2, 3}, /*unbiased=*/false);
    const Tensor batch_sigma = (variance + norm->options.eps()).sqrt();
    {
        const torch::NoGradGuard without_gradients;
        const double momentum = norm->options.momentum().value();
        norm->running_mean.lerp_(mean, momentum);
        norm->running_var.lerp_(variance, momentum);
    }
    const Tensor shift = norm->bias - mean * norm->weight / batch_sigma;
    return torch::addcmul(shift.view({-1, 1, 1}), convolve(x, w), (sigma / batch_sigma).view({-1, 1, 1}));
}

Tensor Conv2dImpl::activated(const Tensor& x) const {
    switch (options.activation) {
    case po2quant::activation::relu: return torch::relu(x);
    case po2quant::activation::relu6: return torch::relu6(x);
    case po2quant::activation::none: break;
    }
    return x;
}

Tensor Conv2dImpl::forward(const Tensor& x) {
    if (!output) return activated(normalized(x));
    return output(activated(output->quantizing() ? folded(x) : normalized(x)));
}

LinearImpl::LinearImpl(std::int64_t inputs, std::int64_t outputs, const std::optional<Scheme>& scheme,
                       std::optional<std::int64_t> weight_bits, OutputQuantizer source)
    : torch::nn::LinearImpl(inputs, outputs), source_(std::move(source)) {
    if (scheme)
        quantizer = register_module("quantizer", WeightQuantizer(*scheme, weight_bits.value_or(scheme->weight_bits)));
}

Tensor LinearImpl::forward(const Tensor& x) {
    if (!source_ || !source_->quantizing()) return torch::nn::LinearImpl::forward(x);
    return torch::linear(x, quantizer(weight).first, quantized_bias(bias));
}

GlobalAveragePoolImpl::GlobalAveragePoolImpl(const std::optional<Scheme>& scheme) {
    if (scheme) output = register_module("output", OutputQuantizer(*scheme));
}

Tensor GlobalAveragePoolImpl::forward(const Tensor& x) {
    const Tensor means = x.mean({2, 3});
    return output ? output(means) : means;
}

void freeze_norms(torch::nn::Module& network, bool frozen) {
    for (const auto& module : network.modules())
        if (auto* layer = module->as<Conv2dImpl>()) layer->frozen_norm = frozen;
}

void freeze_ranges(torch::nn::Module& network) {
    for (const auto& module : network.modules()) {
        if (auto* outputs = module->as<OutputQuantizerImpl>()) {
            outputs->frozen = true;
            if (outputs->log2_t.defined()) outputs->log2_t.set_requires_grad(false);
        }
        if (auto* weights = module->as<WeightQuantizerImpl>())
            if (weights->log2_t.defined()) weights->log2_t.set_requires_grad(false);
    }
}

}  // namespace po2quant_torch
