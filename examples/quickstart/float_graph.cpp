#include "float_graph.hpp"

#include <algorithm>
#include <cmath>

#include "channels.hpp"

namespace quickstart {
namespace {

std::size_t size_of(const layer_shape& s, std::int64_t images) {
    return static_cast<std::size_t>(s.output().elements() * images);
}

}  // namespace

std::span<float> float_graph::input(std::int64_t batch) {
    batch_ = batch;
    images_ = group().share(batch).count;
    input_.resize(static_cast<std::size_t>(images_ * net_.layers.front().shape.input.elements()));
    return input_;
}

std::span<const float> float_graph::forward() {
    const std::vector<float>* x = &input_;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        layer& l = net_.layers[i];
        tensors& t = layers_[i];
        const layer_shape& s = l.shape;
        const std::int64_t in = s.input.elements();
        const std::int64_t out = s.output().elements();
        t.output.resize(size_of(s, images_));
        t.sums.resize(t.output.size());
        // Sum and sum of squares of every channel, taken while a slot's results are still in cache.
        t.partial.resize(static_cast<std::size_t>(slot_count(images_) * 2 * s.outputs));
        for_each_slot(images_, [&](std::int64_t slot, std::int64_t first, std::int64_t count) {
            float* y = t.sums.data() + first * out;
            quickstart::forward(s, count, x->data() + first * in, l.weights.value.data(), y);
            if (!l.normalized()) return;
            float* sum = t.partial.data() + slot * 2 * s.outputs;
            float* square = sum + s.outputs;
            for_each_channels(s.outputs, [&](std::int64_t c, auto zero) {
                using lanes = decltype(zero);
                lanes total = zero;
                lanes squares = zero;
                for (std::int64_t at = c; at < count * out; at += s.outputs) {
                    const lanes v = lanes::Map(y + at);
                    total += v;
                    squares += v * v;
                }
                lanes::Map(sum + c) = total;
                lanes::Map(square + c) = squares;
            });
        });
        normalize(l, t);
        const float low = lower_limit(s.clamp);
        const float high = upper_limit(s.clamp);
        for_each_slot(images_, [&](std::int64_t, std::int64_t first, std::int64_t count) {
            const float* y = t.sums.data() + first * out;
            float* a = t.output.data() + first * out;
            for_each_channels(s.outputs, [&](std::int64_t c, auto zero) {
                using lanes = decltype(zero);
                const lanes scale = lanes::Map(t.scale.data() + c);
                const lanes shift = lanes::Map(t.shift.data() + c);
                for (std::int64_t at = c; at < count * out; at += s.outputs)
                    lanes::Map(a + at) = (lanes::Map(y + at) * scale + shift).max(low).min(high);
            });
        });
        x = &t.output;
    }
    ++steps_;
    return *x;
}

/// scale and shift of this batch, and the moving averages that folding will use.
void float_graph::normalize(layer& l, tensors& t) const {
    const auto outputs = static_cast<std::size_t>(l.shape.outputs);
    t.scale.assign(outputs, 1.0F);
    t.shift.assign(outputs, 0.0F);
    if (!l.normalized()) {
        if (l.learns()) t.shift = l.bias.value;
        return;
    }
    std::vector<float> sums(2 * outputs);
    add_slots(t.partial, slot_count(images_), group(), sums);
    const float count = static_cast<float>(size_of(l.shape, batch_) / outputs);
    t.mean.resize(outputs);
    t.inverse.resize(outputs);
    // A plain mean over the first 50 steps, then a moving average.
    const float momentum = std::min(0.98F, 1.0F - 1.0F / static_cast<float>(steps_ + 1));
    for (std::size_t c = 0; c < outputs; ++c) {
        t.mean[c] = sums[c] / count;
        const float variance = std::max(0.0F, sums[outputs + c] / count - t.mean[c] * t.mean[c]);
        t.inverse[c] = 1.0F / std::sqrt(variance + batch_norm_epsilon);
        t.scale[c] = l.gamma.value[c] * t.inverse[c];
        t.shift[c] = l.bias.value[c] - t.mean[c] * t.scale[c];
        l.mean[c] = momentum * l.mean[c] + (1.0F - momentum) * t.mean[c];
        l.variance[c] = momentum * l.variance[c] + (1.0F - momentum) * variance;
    }
}

void float_graph::backward(std::span<const float> logits_gradient) {
    layers_.back().gradient.assign(logits_gradient.begin(), logits_gradient.end());
    for (std::size_t i = layers_.size(); i-- > 0;) {
        layer& l = net_.layers[i];
        tensors& t = layers_[i];
        const layer_shape& s = l.shape;
        const std::int64_t in = s.input.elements();
        const std::int64_t out = s.output().elements();
        normalize_backward(l, t);
        const std::vector<float>& x = i > 0 ? layers_[i - 1].output : input_;
        std::vector<float>& dx = i > 0 ? layers_[i - 1].gradient : input_gradient_;
        dx.resize(x.size());
        const std::size_t weights = l.weights.value.size();
        t.partial.resize(static_cast<std::size_t>(slot_count(images_)) * weights);
        for_each_slot(images_, [&](std::int64_t slot, std::int64_t first, std::int64_t count) {
            quickstart::backward(s, count, x.data() + first * in, l.weights.value.data(),
                                 t.gradient.data() + first * out,
                                 i > 0 || s.kind != op::conv2d ? dx.data() + first * in : nullptr,
                                 t.partial.data() + static_cast<std::size_t>(slot) * weights);
        });
        add_slots(t.partial, slot_count(images_), group(), l.weights.gradient);
    }
}

/// From the gradient of the output to that of the sums, in place; gradients of gamma and bias on the way.
void float_graph::normalize_backward(layer& l, tensors& t) const {
    if (!l.learns()) return;
    const layer_shape& s = l.shape;
    const auto outputs = static_cast<std::size_t>(s.outputs);
    const std::int64_t out = s.output().elements();
    const float low = lower_limit(s.clamp);
    const float high = upper_limit(s.clamp);
    t.partial.resize(static_cast<std::size_t>(slot_count(images_)) * 2 * outputs);
    for_each_slot(images_, [&](std::int64_t slot, std::int64_t first, std::int64_t count) {
        float* dy = t.gradient.data() + first * out;
        const float* y = t.sums.data() + first * out;
        const float* a = t.output.data() + first * out;
        float* sum = t.partial.data() + static_cast<std::size_t>(slot) * 2 * outputs;
        float* product = sum + outputs;
        for_each_channels(s.outputs, [&](std::int64_t c, auto zero) {
            using lanes = decltype(zero);
            lanes total = zero;
            lanes products = zero;
            for (std::int64_t at = c; at < count * out; at += s.outputs) {
                const lanes d = clamp_gradient<lanes>(lanes::Map(a + at), lanes::Map(dy + at), low, high);
                lanes::Map(dy + at) = d;
                total += d;
                products += d * lanes::Map(y + at);
            }
            lanes::Map(sum + c) = total;
            lanes::Map(product + c) = products;
        });
    });
    std::vector<float> sums(2 * outputs);
    add_slots(t.partial, slot_count(images_), group(), sums);
    std::copy_n(sums.begin(), outputs, l.bias.gradient.begin());
    if (!l.normalized()) return;
    // dsums = scale * (d − mean(d) − x̂ · mean(d · x̂)), x̂ = (sums − mean) * inverse, as d * scale + sums * p + q.
    const float count = static_cast<float>(size_of(l.shape, batch_) / outputs);
    std::vector<float> p(outputs);
    std::vector<float> q(outputs);
    for (std::size_t c = 0; c < outputs; ++c) {
        l.gamma.gradient[c] = (sums[outputs + c] - t.mean[c] * sums[c]) * t.inverse[c];
        p[c] = -t.scale[c] * l.gamma.gradient[c] * t.inverse[c] / count;
        q[c] = -t.scale[c] * sums[c] / count - p[c] * t.mean[c];
    }
    for_each_slot(images_, [&](std::int64_t, std::int64_t first, std::int64_t slot_size) {
        float* dy = t.gradient.data() + first * out;
        const float* y = t.sums.data() + first * out;
        for_each_channels(s.outputs, [&](std::int64_t c, auto zero) {
            using lanes = decltype(zero);
            const lanes scale = lanes::Map(t.scale.data() + c);
            const lanes slope = lanes::Map(p.data() + c);
            const lanes shift = lanes::Map(q.data() + c);
            for (std::int64_t at = c; at < slot_size * out; at += s.outputs)
                lanes::Map(dy + at) = lanes::Map(dy + at) * scale + (lanes::Map(y + at) * slope + shift);
        });
    });
}

}  // namespace quickstart
