#include "network.hpp"

#include <cmath>

#include "random.hpp"

namespace quickstart {
namespace {

/// Rows and columns of zeros so that a stride of 1 keeps the size; none for pools.
pq::window2d window(std::int64_t kernel, std::int64_t stride, bool padded = true) {
    const std::int64_t around = padded ? kernel / 2 : 0;
    return {.kernel = {kernel, kernel}, .stride = {stride, stride}, .padding = {around, around, around, around}};
}

}  // namespace

std::vector<parameter*> network::parameters() {
    std::vector<parameter*> all;
    for (layer& l : layers)
        for (parameter* p : {&l.weights, &l.bias, &l.gamma})
            if (!p->value.empty()) all.push_back(p);
    return all;
}

std::int64_t network::macs() const {
    std::int64_t sum = 0;
    for (const layer& l : layers)
        if (l.learns()) sum += l.shape.output().elements() * l.shape.fan_in();
    return sum;
}

network make_network(std::uint64_t seed) {
    random_source random(seed);
    network net;
    pq::nhwc at{1, image_side, image_side, 1};
    const auto add = [&](const char* name, op kind, std::int64_t outputs, pq::window2d w, pq::activation clamp) {
        layer l;
        if (kind == op::fully_connected) at = {1, 1, 1, at.elements()};
        l.shape = {name, kind, at, outputs, w, clamp};
        l.weights = parameter(l.shape.weights(), 0.0F);
        if (kind != op::average_pool) l.bias = parameter(outputs, 0.0F);
        // Variance 2 / fan-in keeps the size of activations behind a ReLU.
        const float deviation = std::sqrt(2.0F / static_cast<float>(l.shape.fan_in()));
        for (float& v : l.weights.value) v = deviation * random.normal();
        if (kind == op::conv2d || kind == op::depthwise_conv2d) {
            l.gamma = parameter(outputs, 1.0F);
            l.mean.assign(static_cast<std::size_t>(outputs), 0.0F);
            l.variance.assign(static_cast<std::size_t>(outputs), 1.0F);
        }
        at = l.shape.output();
        net.layers.push_back(std::move(l));
    };
    using enum pq::activation;
    add("conv1 3x3", op::conv2d, 16, window(3, 1), relu);
    add("dw1 3x3/2", op::depthwise_conv2d, 16, window(3, 2), relu);
    add("pw1 1x1", op::conv2d, 32, window(1, 1), relu);
    add("conv2 3x3/2", op::conv2d, 64, window(3, 2), relu);
    add("dw2 3x3", op::depthwise_conv2d, 64, window(3, 1), relu);
    add("pw2 1x1", op::conv2d, 128, window(1, 1), relu);
    add("pool 3x3/2", op::average_pool, 128, window(3, 2, false), none);
    add("classes", op::fully_connected, class_count, window(1, 1), none);
    return net;
}

network fold_batch_norm(const network& trained) {
    network folded = trained;
    for (layer& l : folded.layers) {
        if (!l.normalized()) continue;
        const std::size_t outputs = l.gamma.value.size();
        for (std::size_t o = 0; o < outputs; ++o) {
            const float scale = l.gamma.value[o] / std::sqrt(l.variance[o] + batch_norm_epsilon);
            // Output channels are innermost in the weights of standard and of depthwise layers.
            for (std::size_t i = o; i < l.weights.value.size(); i += outputs) l.weights.value[i] *= scale;
            l.bias.value[o] -= scale * l.mean[o];
        }
        l.gamma = {};
        l.mean.clear();
        l.variance.clear();
    }
    for (parameter* p : folded.parameters()) {
        p->first.assign(p->value.size(), 0.0F);
        p->second.assign(p->value.size(), 0.0F);
    }
    return folded;
}

}  // namespace quickstart
