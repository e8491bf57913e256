#include "recipe.hpp"

#include "float_graph.hpp"

namespace quickstart {
namespace {

constexpr double float_share = 0.65;  ///< of the training time

}  // namespace

training_result train_float32(network& net, const dataset& data, const recipe& how, progress_line& progress,
                              const process_group& group) {
    float_graph graph(net, group);
    const auto evaluate = [&] {
        network folded = fold_batch_norm(net);
        float_graph inference(folded, group);
        return accuracy(inference, data.test, how.curve_images);
    };
    return train(
        graph, net, data.train,
        {.phase = "training in float32",
         .seconds = how.seconds * float_share,
         .steps = how.steps,
         .learning_rate = 3e-3F,
         .seed = how.seed,
         .ends_at = 0.62},
        progress, [](double) {}, evaluate);
}

void calibrate(quantized_graph& graph, const labelled_images& images) {
    constexpr std::int64_t batch = 100;
    const image_range mine = graph.group().share(batch);
    for (std::uint64_t step = 0; step < calibration_steps; ++step) {
        load_images(images, static_cast<std::int64_t>(step) * batch + mine.first, graph.input(batch));
        graph.forward();
    }
}

training_result fine_tune(quantized_graph& graph, network& net, const dataset& data, const recipe& how,
                          progress_line& progress) {
    const training_result result = train(
        graph, net, data.train,
        {.phase = "fine-tuning on 2^e grids",
         .seconds = how.seconds * (1 - float_share),
         .steps = how.steps / 2,
         .learning_rate = 2e-4F,
         .seed = how.seed + 1,
         .begins_at = 0.65,
         .ends_at = 0.96},
        progress,
        [&](double done) {
            graph.update_thresholds(training_batch);  // by the step before
            // The ranges rest for the last fifth, so that what is learned then fits them.
            if (done > 0.8) graph.freeze();
        },
        [&] { return accuracy(graph, data.test, how.curve_images); });
    graph.freeze();
    return result;
}

}  // namespace quickstart
