#include "evaluate.hpp"

#include <po2quant/training/quantize.hpp>

#include <algorithm>
#include <cmath>

#include "progress.hpp"
#include "train.hpp"

namespace quickstart {
namespace {

template <class T>
std::int64_t count_right(std::span<const T> logits, const std::uint8_t* labels) {
    std::int64_t right = 0;
    for (std::size_t n = 0; n < logits.size() / class_count; ++n) {
        const T* z = logits.data() + n * class_count;
        right += std::max_element(z, z + class_count) - z == labels[n];
    }
    return right;
}

void count_differences(tensor_comparison& all, std::span<const float> expected, std::span<const float> given) {
    all.compared += static_cast<std::int64_t>(expected.size());
    if (given.size() != expected.size()) {
        all.differing += all.compared;
        return;
    }
    for (std::size_t i = 0; i < expected.size(); ++i) all.differing += !(expected[i] == given[i]);
}

/// The sum over all batches of the shortest of three runs each, so that other programs on the machine disturb little.
template <class Load, class Run>
double best_milliseconds(const labelled_images& images, std::int64_t batch, Load&& load, Run&& run) {
    double sum = 0;
    for (std::int64_t i = 0; i + batch <= images.count(); i += batch) {
        load(i);
        double best = INFINITY;
        for (int round = 0; round < 3; ++round) {
            const stopwatch watch;
            run();
            best = std::min(best, watch.seconds());
        }
        sum += best;
    }
    return 1000 * sum;
}

}  // namespace

double accuracy(training_graph& graph, const labelled_images& images, std::int64_t count) {
    std::int64_t right = 0;
    for (std::int64_t i = 0; i < count; i += evaluation_batch) {
        const std::int64_t size = std::min(evaluation_batch, count - i);
        const std::int64_t first = i + graph.group().share(size).first;
        load_images(images, first, graph.input(size));
        right += count_right(graph.forward(), images.labels.data() + first);
    }
    auto all = static_cast<float>(right);  // exact: data sets have fewer than 2^24 images
    graph.group().all_reduce(std::span(&all, 1));
    return 100.0 * static_cast<double>(all) / static_cast<double>(count);
}

double accuracy(quantized_graph& graph, const labelled_images& images, std::int64_t count) {
    graph.set_tracking(false);
    const double result = accuracy(static_cast<training_graph&>(graph), images, count);
    graph.set_tracking(true);
    return result;
}

std::int64_t comparison::compared() const {
    std::int64_t sum = 0;
    for (const tensor_comparison& t : tensors) sum += t.compared;
    return sum;
}

std::int64_t comparison::differing() const {
    std::int64_t sum = 0;
    for (const tensor_comparison& t : tensors) sum += t.differing;
    return sum;
}

comparison compare(quantized_graph& graph, integer_network& net, const labelled_images& images) {
    const std::vector<integer_layer>& layers = net.layers();
    comparison all;
    all.tensors.push_back({"input"});
    for (const integer_layer& l : layers) all.tensors.push_back({l.shape.name});
    const std::int64_t batch = net.batch();
    std::vector<float> pixels(static_cast<std::size_t>(batch * image_pixels));
    std::vector<std::int8_t> codes(pixels.size());
    std::vector<float> values;
    std::int64_t right = 0;
    graph.set_integer_forward(false);
    for (std::int64_t i = 0; i + batch <= images.count(); i += batch) {
        load_images(images, i, pixels);
        std::ranges::copy(pixels, graph.input(batch).begin());
        const std::span<const float> float_logits = graph.forward();

        pq::quantize(pixels, codes, input_quantizer);
        const std::span<const std::int32_t> logits = net.run(codes);
        right += count_right(logits, images.labels.data() + i);

        values.resize(codes.size());
        pq::dequantize(codes, values, input_quantizer.exponent);
        count_differences(all.tensors[0], graph.quantized_input(), values);
        for (std::size_t l = 0; l + 1 < layers.size(); ++l) {
            values.resize(layers[l].output.size());
            pq::dequantize(layers[l].output, values, layers[l].output_exponent, threads);
            count_differences(all.tensors[l + 1], graph.output(l), values);
        }
        values.resize(logits.size());
        for (std::size_t n = 0; n < logits.size(); ++n)
            values[n] = std::ldexp(static_cast<float>(logits[n]), layers.back().output_exponent);
        count_differences(all.tensors.back(), float_logits, values);
    }
    graph.set_integer_forward(true);
    all.integer_accuracy = 100.0 * static_cast<double>(right) / static_cast<double>(images.count());
    return all;
}

step_comparison compare_steps(quantized_graph& graph, const labelled_images& images) {
    graph.set_tracking(false);
    const auto forward = [&](bool by_integers) {
        graph.set_integer_forward(by_integers);
        load_images(images, 0, graph.input(training_batch));  // a step rounds its input in place
        return graph.forward();
    };
    step_comparison all;
    const std::span<const float> logits = forward(false);
    const std::vector<float> gradient(logits.size(), 0x1p-7F);
    std::vector<std::vector<float>> floats;
    for (std::size_t l = 0; l < graph.net().layers.size(); ++l)
        floats.emplace_back(graph.clamped(l).begin(), graph.clamped(l).end());
    forward(true);
    for (std::size_t l = 0; l < floats.size(); ++l) {
        all.compared += static_cast<std::int64_t>(floats[l].size());
        for (std::size_t i = 0; i < floats[l].size(); ++i) all.differing += !(graph.clamped(l)[i] == floats[l][i]);
    }
    std::vector<double> times[2];
    for (int round = 0; round < 15; ++round)
        for (const bool by_integers : {false, true}) {
            const stopwatch watch;
            forward(by_integers);
            graph.backward(gradient);
            times[by_integers].push_back(1000 * watch.seconds());
        }
    for (std::vector<double>& t : times) std::ranges::nth_element(t, t.begin() + 7);
    all.float_milliseconds = times[0][7];
    all.integer_milliseconds = times[1][7];
    graph.set_tracking(true);
    return all;
}

double milliseconds(training_graph& graph, const labelled_images& images) {
    return best_milliseconds(
        images, evaluation_batch, [&](std::int64_t i) { load_images(images, i, graph.input(evaluation_batch)); },
        [&] { graph.forward(); });
}

double milliseconds(integer_network& net, const labelled_images& images) {
    std::vector<float> pixels(static_cast<std::size_t>(net.batch() * image_pixels));
    std::vector<std::int8_t> codes(pixels.size());
    return best_milliseconds(
        images, net.batch(),
        [&](std::int64_t i) {
            load_images(images, i, pixels);
            pq::quantize(pixels, codes, input_quantizer);
        },
        [&] { net.run(codes); });
}

}  // namespace quickstart
