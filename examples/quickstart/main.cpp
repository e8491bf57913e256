/// Trains a small network in float32, fine-tunes it on power-of-two grids, and runs it by integers with the same bits.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "float_graph.hpp"
#include "report.hpp"

using namespace quickstart;

namespace {

struct arguments {
    std::filesystem::path data;
    std::filesystem::path out = "out/quickstart";
    double seconds = 130;
    std::int64_t steps = 0;
    std::uint64_t seed = 1;
    bool shapes = false;
};

void print_help() {
    std::printf(
        "quickstart: train, quantize to powers of two, run by integers\n"
        "  --data DIR     folder of Fashion-MNIST's four .gz files; without it "
        "$PO2QUANT_DATA_DIR/datasets/fashion-mnist,\n"
        "                 and where neither is there, shapes drawn by this program\n"
        "  --shapes       the drawn shapes, whatever is there\n"
        "  --seconds N    time for training, 130 by default; about 15 s more for everything else\n"
        "  --steps N      N steps of training in float32 and N/2 of fine-tuning instead: the same result every time\n"
        "  --seed N       another shuffle and other first weights\n"
        "  --out DIR      where the report, the pictures and the C header go: out/quickstart by default\n");
}

template <class Number>
Number number(const char* option, const char* text, Number low) {
    char* end = nullptr;
    const double value = std::strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= static_cast<double>(low)) || value > 1e9)
        throw std::invalid_argument(std::string(option) + " is " + text + ", allowed: numbers from " +
                                    std::to_string(low) + " on");
    return static_cast<Number>(value);
}

arguments read_arguments(int count, char** given) {
    arguments a;
    for (int i = 1; i < count; ++i) {
        const std::string option = given[i];
        if (option == "--help") {
            print_help();
            std::exit(0);
        }
        if (option == "--shapes") {
            a.shapes = true;
            continue;
        }
        const bool known = option == "--data" || option == "--out" || option == "--seconds" || option == "--steps" ||
                           option == "--seed";
        if (!known) throw std::invalid_argument(option + " is not an option; see --help");
        if (++i == count) throw std::invalid_argument(option + " lacks its value; see --help");
        if (option == "--data") a.data = given[i];
        if (option == "--out") a.out = given[i];
        if (option == "--seconds") a.seconds = number<double>("--seconds", given[i], 1);
        if (option == "--steps") a.steps = number<std::int64_t>("--steps", given[i], 2);
        if (option == "--seed") a.seed = number<std::uint64_t>("--seed", given[i], 0);
    }
    return a;
}

dataset load_data(const arguments& a) {
    if (!a.shapes)
        if (const auto folder = find_fashion_mnist(a.data)) return load_fashion_mnist(*folder);
    return draw_shapes(a.seed);
}

std::string percent(double accuracy) {
    char text[64];
    std::snprintf(text, sizeof(text), "%.2f %% of the test images right", accuracy);
    return text;
}

constexpr double float_share = 0.65;  ///< of the training time
constexpr std::int64_t curve_images = 2000;
constexpr std::uint64_t calibration_steps = 20;

int run(const arguments& a) {
    progress_line progress;
    const dataset data = load_data(a);
    report r{.data = data.name, .seed = a.seed, .test_images = data.test.count()};
    progress.finish("data", data.name + ": " + std::to_string(data.train.count()) + " images to learn from, " +
                                std::to_string(data.test.count()) + " to test with");

    // (a) Training in float32 with batch norm.
    network net = make_network(a.seed);
    {
        float_graph graph(net);
        const auto evaluate = [&] {
            network folded = fold_batch_norm(net);
            float_graph inference(folded);
            return accuracy(inference, data.test, curve_images);
        };
        r.float_training = train(
            graph, net, data.train,
            {.phase = "training in float32",
             .seconds = a.seconds * float_share,
             .steps = a.steps,
             .learning_rate = 3e-3F,
             .seed = a.seed,
             .ends_at = 0.62},
            progress, [](double) {}, evaluate);
    }

    // (b) Batch norm folded into weights and biases; ranges watched; everything put on its grid.
    net = fold_batch_norm(net);
    float_graph float_inference(net);
    r.float_accuracy = accuracy(float_inference, data.test, data.test.count());
    r.float_milliseconds = milliseconds(float_inference, data.test);
    progress.finish("float32", percent(r.float_accuracy));
    quantized_graph graph(net, calibration_steps);
    for (std::uint64_t step = 0; step < calibration_steps; ++step) {
        load_images(data.train, static_cast<std::int64_t>(step) * 100, graph.input(100));
        graph.forward();
    }
    const auto evaluate = [&](std::int64_t images) {
        graph.set_tracking(false);
        const double result = accuracy(graph, data.test, images);
        graph.set_tracking(true);
        return result;
    };
    r.post_training_accuracy = evaluate(data.test.count());
    progress.finish("post-training quantization", percent(r.post_training_accuracy));

    // (c) Fine-tuning with fake quantization; the ranges rest for the last fifth, so that what is learned then fits
    // them.
    r.qat = train(
        graph, net, data.train,
        {.phase = "fine-tuning on 2^e grids",
         .seconds = a.seconds * (1 - float_share),
         .steps = a.steps / 2,
         .learning_rate = 2e-4F,
         .seed = a.seed + 1,
         .begins_at = 0.65,
         .ends_at = 0.96},
        progress,
        [&](double done) {
            if (done > 0.8) graph.freeze();
        },
        [&] { return evaluate(curve_images); });
    graph.freeze();
    r.qat_accuracy = evaluate(data.test.count());
    progress.finish("fine-tuned", percent(r.qat_accuracy));

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
    std::printf("  written     report.json, curves.svg, histograms.svg, network.h to %s\n", a.out.c_str());
    std::printf("  time        %.0f s\n", progress.seconds());
    if (r.bits.differing() == 0) return 0;
    std::fprintf(stderr, "quickstart: the integer network differs from the fake-quantized one\n");
    return 1;
}

}  // namespace

int main(int count, char** given) {
    try {
        return run(read_arguments(count, given));
    } catch (const std::exception& e) {
        std::fprintf(stderr, "\nquickstart: %s\n", e.what());
        return 2;
    }
}
