#include "quantized_graph.hpp"

#include <po2quant/numerics/accumulator.hpp>
#include <po2quant/training/fake_quantize.hpp>
#include <po2quant/training/fake_quantize_backward.hpp>
#include <po2quant/training/threshold_gradient.hpp>

#include <algorithm>
#include <stdexcept>

#include "channels.hpp"

namespace quickstart {
namespace {

pq::channel_quantizer weight_quantizer(const layer_grids& g) {
    return {.format = pq::int8, .exponents = g.weight_exponents};
}
pq::channel_quantizer bias_quantizer(const layer_grids& g) {
    return {.format = pq::int16, .exponents = g.bias_exponents};
}
pq::quantizer output_quantizer(const layer_grids& g) { return {.format = pq::int8, .exponent = g.output_exponent}; }

/// How many exponents a layer's weights have. Depthwise layers hold few weights per channel, and folding batch norm
/// leaves each channel its own range: one exponent per channel. All others get one per tensor.
std::size_t weight_channels(const layer_shape& s) {
    return s.kind == op::depthwise_conv2d ? static_cast<std::size_t>(s.outputs) : 1;
}

}  // namespace

quantized_graph::quantized_graph(network& net, std::uint64_t calibration_steps, const process_group& group)
    : training_graph(group), net_(net), layers_(net.layers.size()) {
    pq::integer_format codes = pq::int8;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        layers_[i].grids.range.delay = calibration_steps;
        layers_[i].codes = codes;
        if (net.layers[i].shape.clamp != pq::activation::none) codes = pq::uint7;
    }
}

void quantized_graph::freeze() {
    for (tensors& t : layers_) t.grids.range.frozen = true;
    for (pq::tqt_threshold& t : thresholds_) t.state.frozen = true;
}

void quantized_graph::train_thresholds() {
    if (group().share(2).count != 2) throw std::logic_error("thresholds are trained by one process");
    thresholds_.clear();
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        const layer& l = net_.layers[i];
        tensors& t = layers_[i];
        t.weight_threshold = thresholds_.size();
        std::vector<pq::range> ranges(l.learns() ? weight_channels(l.shape) : 0);
        if (l.learns()) pq::observe_channels(l.weights.value, 1, ranges);
        for (const pq::range& r : ranges)
            thresholds_.push_back(pq::tqt_threshold_of(static_cast<double>(r.magnitude())));
        t.grids.range.frozen = true;
        if (l.shape.kind == op::fully_connected) continue;
        t.output_threshold = thresholds_.size();
        thresholds_.push_back(pq::tqt_threshold_of(static_cast<double>(t.grids.range.current().magnitude())));
    }
    threshold_gradients_.clear();
}

void quantized_graph::update_thresholds(std::int64_t batch) {
    if (threshold_gradients_.empty()) return;
    const auto images = static_cast<std::uint64_t>(batch);
    const double rate = pq::tqt_threshold_rate(images).at(threshold_steps_);
    for (std::size_t i = 0; i < thresholds_.size(); ++i)
        thresholds_[i] = pq::tqt_update(thresholds_[i], threshold_gradients_[i], {.learning_rate = rate});
    ++threshold_steps_;
    pq::freeze_next(thresholds_, threshold_steps_, pq::tqt_freezing(images));
}

std::span<float> quantized_graph::input(std::int64_t batch) {
    images_ = group().share(batch).count;
    input_.resize(static_cast<std::size_t>(images_ * net_.layers.front().shape.input.elements()));
    return input_;
}

/// Chooses exponents from the ranges of today's weights and bias and puts both on their grids.
void quantized_graph::quantize_parameters(const layer& l, tensors& t) const {
    layer_grids& g = t.grids;
    std::vector<pq::range> ranges(weight_channels(l.shape));
    std::vector<pq::range> biases(ranges.size());
    g.weight_exponents.resize(ranges.size());
    g.bias_exponents.resize(ranges.size());

    pq::observe_channels(l.weights.value, 1, ranges);
    pq::observe_channels(l.bias.value, 1, biases);
    for (std::size_t c = 0; c < ranges.size(); ++c) {
        const int e = thresholds_.empty() ? pq::exponent_for(ranges[c], pq::int8)
                                          : thresholds_[t.weight_threshold + c].exponent(pq::int8);
        g.weight_exponents[c] = std::max(e, pq::least_weight_exponent(biases[c].magnitude(), g.input_exponent));
    }
    t.weights.resize(l.weights.value.size());
    pq::fake_quantize(l.weights.value, t.weights, weight_quantizer(g));

    // The bias has 16 bits and its own exponent, but none finer than the accumulators': those bits would be rounded
    // off.
    for (std::size_t c = 0; c < ranges.size(); ++c)
        g.bias_exponents[c] =
            std::max(pq::exponent_for(biases[c], pq::int16), g.input_exponent + g.weight_exponents[c]);
    t.bias.resize(l.bias.value.size());
    pq::fake_quantize(l.bias.value, t.bias, bias_quantizer(g));
}

/// Observes the outputs, picks their exponent, rounds them. The exponent comes from a range that this step's outputs
/// are part of, so processes merge their ranges here, layer by layer, before anything is rounded.
void quantized_graph::quantize_outputs(const layer& l, tensors& t) const {
    layer_grids& g = t.grids;
    t.output.resize(t.clamped.size());
    if (l.shape.kind == op::average_pool && g.range.quantizing())
        // The integer pool's 16-bit form: means in 1/256 of the input's grid.
        pq::fake_quantize(t.clamped, t.clamped, {.format = pq::int16, .exponent = g.input_exponent - 8}, threads);
    const bool quantizing = g.range.quantizing();
    if (tracking_ && !g.range.frozen) {
        pq::range seen = pq::observe(t.clamped, threads);
        group().all_reduce(seen);
        g.range.update(seen);
    }
    if (quantizing && l.shape.kind != op::fully_connected) {
        g.output_exponent =
            thresholds_.empty() ? g.range.exponent(pq::int8) : thresholds_[t.output_threshold].exponent(pq::int8);
        pq::fake_quantize(t.clamped, t.output, output_quantizer(g), threads);
    } else {
        std::copy(t.clamped.begin(), t.clamped.end(), t.output.begin());  // logits stay sums
    }
}

/// clamp(x*w + bias) in float32.
void quantized_graph::convolve(const layer& l, tensors& t, std::span<const float> x) const {
    const layer_shape& s = l.shape;
    const std::int64_t in = s.input.elements();
    const std::int64_t out = s.output().elements();
    const float low = lower_limit(s.clamp);
    const float high = upper_limit(s.clamp);
    for_each_slot(images_, [&](std::int64_t, std::int64_t first, std::int64_t count) {
        float* y = t.clamped.data() + first * out;
        quickstart::forward(s, count, x.data() + first * in, t.weights.data(), y);
        if (!l.learns()) return;
        for_each_channels(s.outputs, [&](std::int64_t c, auto zero) {
            using lanes = decltype(zero);
            const lanes bias = lanes::Map(t.bias.data() + c);
            for (std::int64_t at = c; at < count * out; at += s.outputs)
                lanes::Map(y + at) = (lanes::Map(y + at) + bias).max(low).min(high);
        });
    });
}

/// The same of quantized tensors on the integer kernels, made anew where the number of images has changed.
void quantized_graph::convolve_by_integers(const layer& l, tensors& t, std::span<const float> x) const {
    if (images_ == 0) return;  // a small batch that other processes share
    const layer_shape& s = l.shape;
    pq::nhwc input = s.input;
    input.batch = images_;
    const pq::quantizer input_q{.format = t.codes, .exponent = t.grids.input_exponent};
    const auto run = [&](auto& op, const auto& shape) {
        if (!op || op->shape().input.batch != images_) op.emplace(shape, t.codes);
        op->run(x, input_q, l.weights.value, weight_quantizer(t.grids), t.bias, t.clamped, threads);
    };
    if (s.kind == op::depthwise_conv2d)
        run(t.depthwise_conv2d, pq::depthwise_conv2d_shape{.input = input, .window = s.window});
    else run(t.conv2d, pq::conv2d_shape{.input = input, .outputs = s.outputs, .window = s.window});
    const float low = lower_limit(s.clamp);
    const float high = upper_limit(s.clamp);
    for_each_slot(images_, [&](std::int64_t, std::int64_t first, std::int64_t count) {
        const std::int64_t out = s.output().elements();
        for_each_channels(out * count, [&](std::int64_t at, auto zero) {
            using lanes = decltype(zero);
            float* y = t.clamped.data() + first * out + at;
            lanes::Map(y) = lanes::Map(y).max(low).min(high);
        });
    });
}

std::span<const float> quantized_graph::forward() {
    pq::fake_quantize(input_, input_, input_quantizer, threads);
    const std::vector<float>* x = &input_;
    int input_exponent = input_quantizer.exponent;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        const layer& l = net_.layers[i];
        tensors& t = layers_[i];
        const layer_shape& s = l.shape;
        t.grids.input_exponent = input_exponent;
        if (l.learns() && t.grids.range.quantizing()) {
            quantize_parameters(l, t);
        } else {
            t.weights = l.weights.value;
            t.bias = l.bias.value;
        }
        t.clamped.resize(static_cast<std::size_t>(images_ * s.output().elements()));
        if (integer_forward_ && l.learns() && t.grids.range.quantizing()) convolve_by_integers(l, t, *x);
        else convolve(l, t, *x);
        quantize_outputs(l, t);
        x = &t.output;
        input_exponent = t.grids.output_exponent;
    }
    return *x;
}

void quantized_graph::backward(std::span<const float> logits_gradient) {
    layers_.back().gradient.assign(logits_gradient.begin(), logits_gradient.end());
    threshold_gradients_.assign(thresholds_.size(), 0.0);
    for (std::size_t i = layers_.size(); i-- > 0;) {
        layer& l = net_.layers[i];
        tensors& t = layers_[i];
        const layer_shape& s = l.shape;
        const std::int64_t in = s.input.elements();
        const std::int64_t out = s.output().elements();
        const std::int64_t slots = slot_count(images_);
        // Straight through the rounding of the outputs, where they did not saturate. The pool's 16-bit means never do.
        const bool quantized = t.grids.range.quantizing();
        const bool rounded = quantized && s.kind != op::fully_connected;
        if (rounded && thresholds_.empty()) {
            pq::fake_quantize_backward(t.clamped, t.gradient, t.gradient, output_quantizer(t.grids), {}, threads);
        } else if (rounded) {
            const double sum = pq::fake_quantize_backward_threshold(
                t.clamped, t.gradient, t.gradient, output_quantizer(t.grids), pq::threshold_term::error, {}, threads);
            threshold_gradients_[t.output_threshold] = pq::tqt_gradient(sum, t.grids.output_exponent);
        }

        const std::size_t weights = l.weights.value.size();
        const std::size_t biases = l.bias.value.size();
        const float low = lower_limit(s.clamp);
        const float high = upper_limit(s.clamp);
        const std::vector<float>& x = i > 0 ? layers_[i - 1].output : input_;
        std::vector<float>& dx = i > 0 ? layers_[i - 1].gradient : input_gradient_;
        dx.resize(x.size());
        t.partial.resize(static_cast<std::size_t>(slots) * (weights + biases));
        for_each_slot(images_, [&](std::int64_t slot, std::int64_t first, std::int64_t count) {
            float* dy = t.gradient.data() + first * out;
            const float* y = t.clamped.data() + first * out;
            float* dw = t.partial.data() + static_cast<std::size_t>(slot) * weights;
            float* db =
                t.partial.data() + static_cast<std::size_t>(slots) * weights + static_cast<std::size_t>(slot) * biases;
            for_each_channels(l.learns() ? s.outputs : 0, [&](std::int64_t c, auto zero) {
                using lanes = decltype(zero);
                lanes total = zero;
                for (std::int64_t at = c; at < count * out; at += s.outputs) {
                    const lanes d = clamp_gradient<lanes>(lanes::Map(y + at), lanes::Map(dy + at), low, high);
                    lanes::Map(dy + at) = d;
                    total += d;
                }
                lanes::Map(db + c) = total;
            });
            quickstart::backward(s, count, x.data() + first * in, t.weights.data(), dy,
                                 i > 0 ? dx.data() + first * in : nullptr, dw);
        });
        if (!l.learns()) continue;
        const std::span partial(t.partial);
        add_slots(partial.first(static_cast<std::size_t>(slots) * weights), slots, group(), l.weights.gradient);
        add_slots(partial.subspan(static_cast<std::size_t>(slots) * weights), slots, group(), l.bias.gradient);
        if (!quantized) continue;
        // Straight through the rounding of weights and bias.
        const pq::channel_quantizer weight_q = weight_quantizer(t.grids);
        if (thresholds_.empty()) {
            pq::fake_quantize_backward(l.weights.value, l.weights.gradient, l.weights.gradient, weight_q);
        } else {
            const std::span sums =
                std::span(threshold_gradients_).subspan(t.weight_threshold, weight_q.exponents.size());
            pq::fake_quantize_backward_threshold(l.weights.value, l.weights.gradient, l.weights.gradient, weight_q,
                                                 pq::threshold_term::error, sums);
            for (std::size_t c = 0; c < sums.size(); ++c) sums[c] = pq::tqt_gradient(sums[c], weight_q.exponents[c]);
        }
        pq::fake_quantize_backward(l.bias.value, l.bias.gradient, l.bias.gradient, bias_quantizer(t.grids));
    }
}

}  // namespace quickstart
