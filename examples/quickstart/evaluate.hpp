#pragma once
/// What the networks are worth: accuracy, bit-for-bit comparison, time.
#include "integer_network.hpp"

namespace quickstart {

inline constexpr std::int64_t evaluation_batch = 100;

/// Percent of the first `count` images that a float graph gets right; its processes share them.
double accuracy(training_graph& graph, const labelled_images& images, std::int64_t count);
/// The same, and the ranges are not changed by it.
double accuracy(quantized_graph& graph, const labelled_images& images, std::int64_t count);

/// One tensor, over the whole test set.
struct tensor_comparison {
    std::string name;
    std::int64_t compared = 0;
    std::int64_t differing = 0;
};

struct comparison {
    std::vector<tensor_comparison> tensors;  ///< the input, every layer's output, the logits last
    double integer_accuracy = 0;             ///< percent

    std::int64_t compared() const;
    std::int64_t differing() const;
};

/// Runs both networks on all images and compares every activation: the float of the fake-quantized graph, by float32
/// convolutions, must be the integer's code times 2^exponent.
comparison compare(quantized_graph& graph, integer_network& net, const labelled_images& images);

/// A training step, forward and backward, with float32 convolutions in the forward pass and with integer ones.
struct step_comparison {
    double float_milliseconds = 0;
    double integer_milliseconds = 0;
    std::int64_t compared = 0;  ///< values of all layers' outputs before they are rounded
    std::int64_t differing = 0;
};

/// Medians of 15 steps each, in turn, on one batch; changes no parameters and no ranges, but all gradients.
step_comparison compare_steps(quantized_graph& graph, const labelled_images& images);

/// Milliseconds for all images, without loading them.
double milliseconds(training_graph& graph, const labelled_images& images);
double milliseconds(integer_network& net, const labelled_images& images);

}  // namespace quickstart
