#pragma once
/// The training loop, the same in float32 and with fake quantization.
#include <functional>
#include <string>
#include <vector>

#include "network.hpp"
#include "progress.hpp"

namespace quickstart {

inline constexpr std::int64_t training_batch = 128;

struct training_options {
    std::string phase;
    double seconds = 60;     ///< of wall clock; the learning rate falls to 0 on a cosine over them
    std::int64_t steps = 0;  ///< unless 0: that many, whatever the time: the same every time; several processes need it
    std::int64_t batch = training_batch;
    float learning_rate = 2e-3F;
    bool flip = true;  ///< mirror images left to right at random
    std::uint64_t seed = 1;
    double begins_at = 0;  ///< which part of the whole run this is, for the progress line
    double ends_at = 1;
};

/// One point of the curves.
struct curve_point {
    double seconds;
    double loss;
    double train_accuracy;  ///< percent, over the steps since the last point
    double test_accuracy;   ///< percent, of the first images of the test set
};

struct training_result {
    std::vector<curve_point> curve;
    std::int64_t steps = 0;
    double epochs = 0;
    double seconds = 0;
};

/// `before_step(fraction done)` may change the graph; `evaluate` gives the test accuracy for the curve.
training_result train(training_graph& graph, network& net, const labelled_images& images,
                      const training_options& options, progress_line& progress,
                      const std::function<void(double)>& before_step, const std::function<double()>& evaluate);

/// Pixels as floats in [0, 1): pixel / 256.
void load_images(const labelled_images& images, std::int64_t first, std::span<float> to);

}  // namespace quickstart
