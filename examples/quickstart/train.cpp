#include "train.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <numeric>

#include "random.hpp"

namespace quickstart {
namespace {

/// Of a batch or several.
struct verdict {
    double loss = 0;
    double right = 0;
};

/// Softmax and cross entropy: the loss, how many are right, and the gradient of the mean loss. Logits, labels and
/// gradient are those of this process's share of the batch.
verdict judge(std::span<const float> logits, std::span<const std::uint8_t> labels, std::int64_t batch,
              const process_group& group, std::span<float> gradient) {
    const std::int64_t slots = slot_count(static_cast<std::int64_t>(labels.size()));
    std::vector<float> partial(static_cast<std::size_t>(slots) * 2);
    const float share = 1.0F / static_cast<float>(batch);
    for (std::size_t n = 0; n < labels.size(); ++n) {
        const float* z = logits.data() + n * class_count;
        float* d = gradient.data() + n * class_count;
        const float* top = std::max_element(z, z + class_count);
        float sum = 0;
        for (int c = 0; c < class_count; ++c) sum += d[c] = std::exp(z[c] - *top);
        for (int c = 0; c < class_count; ++c) d[c] *= share / sum;
        d[labels[n]] -= share;
        float* of_slot = partial.data() + n / slot_images * 2;
        of_slot[0] += std::log(sum) + *top - z[labels[n]];
        of_slot[1] += top - z == labels[n] ? 1.0F : 0.0F;
    }
    float sums[2];
    add_slots(partial, slots, group, sums);
    return {static_cast<double>(sums[0]), static_cast<double>(sums[1])};
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

    /// Draws a batch and fills in the share `mine` of it.
    void fill(std::int64_t batch, image_range mine, std::span<float> pixels, std::span<std::uint8_t> labels) {
        for (std::int64_t n = 0; n < batch; ++n) {
            if (next_ == order_.size()) shuffle();
            const std::int64_t i = order_[next_++];
            const bool mirrored = flip_ && (random_.bits() & 1) != 0;
            const std::int64_t at = n - mine.first;
            if (at < 0 || at >= mine.count) continue;
            labels[static_cast<std::size_t>(at)] = images_.labels[static_cast<std::size_t>(i)];
            const std::uint8_t* from = images_.image(i);
            float* to = pixels.data() + at * image_pixels;
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
    const image_range mine = graph.group().share(options.batch);
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(mine.count));
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
            result.curve.push_back(
                {watch.seconds(), since_point.loss / count, 100 * since_point.right / count, evaluate()});
            since_point = {};
            point_images = 0;
        }
        if (last) break;

        before_step(done);
        source.fill(options.batch, mine, graph.input(options.batch), labels);
        const verdict v = judge(graph.forward(), labels, options.batch, graph.group(), gradient);
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
