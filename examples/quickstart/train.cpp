#include "train.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <numeric>

#include "random.hpp"

namespace quickstart {
namespace {

/// Softmax and cross entropy: the loss, how many are right, and the gradient of the mean loss.
struct verdict {
    double loss = 0;
    std::int64_t right = 0;
};

verdict judge(std::span<const float> logits, std::span<const std::uint8_t> labels, std::span<float> gradient) {
    verdict all;
    const float share = 1.0F / static_cast<float>(labels.size());
    for (std::size_t n = 0; n < labels.size(); ++n) {
        const float* z = logits.data() + n * class_count;
        float* d = gradient.data() + n * class_count;
        const float* top = std::max_element(z, z + class_count);
        float sum = 0;
        for (int c = 0; c < class_count; ++c) sum += d[c] = std::exp(z[c] - *top);
        for (int c = 0; c < class_count; ++c) d[c] *= share / sum;
        d[labels[n]] -= share;
        all.loss += std::log(sum) + *top - z[labels[n]];
        all.right += top - z == labels[n];
    }
    return all;
}

/// Adam with the usual constants.
class adam {
public:
    void step(const std::vector<parameter*>& parameters, float learning_rate) {
        constexpr float beta1 = 0.9F;
        constexpr float beta2 = 0.999F;
        ++steps_;
        const auto t = static_cast<float>(steps_);
        const float rate = learning_rate * std::sqrt(1.0F - std::pow(beta2, t)) / (1.0F - std::pow(beta1, t));
        for (parameter* p : parameters) {
            for (std::size_t i = 0; i < p->value.size(); ++i) {
                const float g = p->gradient[i];
                p->first[i] += (1.0F - beta1) * (g - p->first[i]);
                p->second[i] += (1.0F - beta2) * (g * g - p->second[i]);
                p->value[i] -= rate * p->first[i] / (std::sqrt(p->second[i]) + 1e-8F);
            }
        }
    }

private:
    std::int64_t steps_ = 0;
};

/// Every image once in a random order, then again in another.
class shuffled_images {
public:
    shuffled_images(const labelled_images& images, const training_options& options)
        : images_(images), random_(options.seed), flip_(options.flip), order_(images.labels.size()) {
        std::iota(order_.begin(), order_.end(), 0);
        next_ = order_.size();
    }

    void fill(std::span<float> pixels, std::span<std::uint8_t> labels) {
        for (std::size_t n = 0; n < labels.size(); ++n) {
            if (next_ == order_.size()) shuffle();
            const std::int64_t i = order_[next_++];
            labels[n] = images_.labels[static_cast<std::size_t>(i)];
            const bool mirrored = flip_ && (random_.bits() & 1) != 0;
            const std::uint8_t* from = images_.image(i);
            float* to = pixels.data() + n * image_pixels;
            for (int y = 0; y < image_side; ++y)
                for (int x = 0; x < image_side; ++x)
                    to[y * image_side + x] =
                        static_cast<float>(from[y * image_side + (mirrored ? image_side - 1 - x : x)]) * 0x1p-8F;
        }
    }

private:
    void shuffle() {
        for (std::size_t i = order_.size(); i > 1; --i)
            std::swap(order_[i - 1], order_[static_cast<std::size_t>(random_.below(static_cast<std::int64_t>(i)))]);
        next_ = 0;
    }

    const labelled_images& images_;
    random_source random_;
    bool flip_;
    std::vector<std::int64_t> order_;
    std::size_t next_;
};

}  // namespace

void load_images(const labelled_images& images, std::int64_t first, std::span<float> to) {
    const std::uint8_t* from = images.image(first);
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<float>(from[i]) * 0x1p-8F;
}

training_result train(training_graph& graph, network& net, const labelled_images& images,
                      const training_options& options, progress_line& progress,
                      const std::function<void(double)>& before_step, const std::function<double()>& evaluate) {
    constexpr int points = 12;  // of the curve
    shuffled_images source(images, options);
    adam optimizer;
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(options.batch));
    std::vector<float> gradient(labels.size() * class_count);
    training_result result;
    const stopwatch watch;
    verdict since_point;
    std::int64_t point_images = 0;
    for (;;) {
        const double done = options.steps > 0 ? static_cast<double>(result.steps) / static_cast<double>(options.steps)
                                              : watch.seconds() / options.seconds;
        const bool last = done >= 1.0;
        if (point_images > 0 && (last || done * points >= static_cast<double>(result.curve.size() + 1))) {
            const auto count = static_cast<double>(point_images);
            result.curve.push_back({watch.seconds(), since_point.loss / count,
                                    100 * static_cast<double>(since_point.right) / count, evaluate()});
            since_point = {};
            point_images = 0;
        }
        if (last) break;

        before_step(done);
        source.fill(graph.input(options.batch), labels);
        const verdict v = judge(graph.forward(), labels, gradient);
        graph.backward(gradient);
        // A short rise, then a cosine down to 0.
        const double rise = std::min(1.0, static_cast<double>(result.steps + 1) / 100.0);
        const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * std::min(done, 1.0)));
        optimizer.step(net.parameters(), options.learning_rate * static_cast<float>(rise * cosine));

        ++result.steps;
        since_point.loss += v.loss;
        since_point.right += v.right;
        point_images += options.batch;
        char text[96];
        std::snprintf(text, sizeof(text), "epoch %5.2f  loss %.3f",
                      static_cast<double>(result.steps * options.batch) / static_cast<double>(images.count()),
                      v.loss / static_cast<double>(options.batch));
        progress.show(options.phase, options.begins_at + done * (options.ends_at - options.begins_at), text);
    }
    result.seconds = watch.seconds();
    result.epochs = static_cast<double>(result.steps * options.batch) / static_cast<double>(images.count());
    return result;
}

}  // namespace quickstart
