/// Trains a small network in float32, fine-tunes it on power-of-two grids, and runs it by integers with the same bits.
#include <cstdio>

#include "arguments.hpp"
#include "checkpoint.hpp"
#include "float_graph.hpp"
#include "report.hpp"

using namespace quickstart;

namespace {

constexpr const char* help =
    "quickstart: train, quantize to powers of two, run by integers\n"
    "  --data DIR     folder of Fashion-MNIST's four .gz files; without it "
    "$PO2QUANT_DATA_DIR/datasets/fashion-mnist,\n"
    "                 and where neither is there, shapes drawn by this program\n"
    "  --shapes       the drawn shapes, whatever is there\n"
    "  --seconds N    time for training, 130 by default; about 15 s more for everything else\n"
    "  --steps N      N steps of training in float32 and N/2 of fine-tuning instead: the same result every time\n"
    "  --thresholds   fine-tuning trains the thresholds of weights and outputs (TQT) instead of following ranges\n"
    "  --seed N       another shuffle and other first weights\n"
    "  --out DIR      where the report, the pictures, the C header and the checkpoint go: out/quickstart by default\n";

std::string percent(double accuracy) {
    char text[64];
    std::snprintf(text, sizeof(text), "%.2f %% of the test images right", accuracy);
    return text;
}

std::vector<int> threshold_exponents(const quantized_graph& graph) {
    std::vector<int> exponents(graph.thresholds().size());
    pq::tqt_exponents(graph.thresholds(), pq::int8, exponents);
    return exponents;
}

int run(const arguments& a) {
    progress_line progress;
    const dataset data = load_data(a);
    report r{.data = data.name, .seed = a.training.seed, .test_images = data.test.count()};
    progress.finish("data", data.name + ": " + std::to_string(data.train.count()) + " images to learn from, " +
                                std::to_string(data.test.count()) + " to test with");

    // (a) Training in float32 with batch norm.
    network net = make_network(a.training.seed);
    r.float_training = train_float32(net, data, a.training, progress);

    // (b) Batch norm folded into weights and biases; ranges watched; everything put on its grid.
    net = fold_batch_norm(net);
    float_graph float_inference(net);
    r.float_accuracy = accuracy(float_inference, data.test, data.test.count());
    r.float_milliseconds = milliseconds(float_inference, data.test);
    progress.finish("float32", percent(r.float_accuracy));
    quantized_graph graph(net, calibration_steps);
    calibrate(graph, data.train);
    r.post_training_accuracy = accuracy(graph, data.test, data.test.count());
    progress.finish("post-training quantization", percent(r.post_training_accuracy));

    // (c) Fine-tuning with fake quantization.
    if (a.thresholds) graph.train_thresholds();
    const std::vector<int> untrained = threshold_exponents(graph);
    r.qat = fine_tune(graph, net, data, a.training, progress);
    const std::vector<int> trained = threshold_exponents(graph);
    r.thresholds = trained.size();
    for (std::size_t i = 0; i < trained.size(); ++i) r.moved_thresholds += trained[i] != untrained[i];
    r.qat_accuracy = accuracy(graph, data.test, data.test.count());
    progress.finish("fine-tuned", percent(r.qat_accuracy));
    r.steps = compare_steps(graph, data.train);

    // (d) Export, and the integer kernels alone; every activation of every layer compared over the whole test set.
    integer_network integers(graph, evaluation_batch);
    r.bits = compare(graph, integers, data.test);
    r.integer_milliseconds = milliseconds(integers, data.test);
    progress.finish("integers", percent(r.bits.integer_accuracy));
    print_report(r, integers);

    std::filesystem::create_directories(a.out);
    write_json(a.out / "report.json", r);
    write_curves_svg(a.out / "curves.svg", r);
    write_histograms_svg(a.out / "histograms.svg", histograms(graph));
    write_c_header(a.out / "network.h", integers);
    write_checkpoint(a.out, tracker_bytes(graph), weight_bytes(net));
    std::printf("  written     report.json, curves.svg, histograms.svg, network.h, trackers.bin, weights.bin to %s\n",
                a.out.c_str());
    std::printf("  time        %.0f s\n", progress.seconds());
    if (r.bits.differing() == 0 && r.steps.differing == 0) return 0;
    std::fprintf(stderr, "quickstart: integers differ from the fake-quantized network\n");
    return 1;
}

}  // namespace

int main(int count, char** given) {
    try {
        return run(read_arguments(count, given, help, {.out = "out/quickstart"}));
    } catch (const std::exception& e) {
        std::fprintf(stderr, "\nquickstart: %s\n", e.what());
        return 2;
    }
}
