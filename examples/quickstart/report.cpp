#include "report.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

namespace quickstart {
namespace {

nlohmann::json curve_json(const training_result& t) {
    nlohmann::json points = nlohmann::json::array();
    for (const curve_point& p : t.curve)
        points.push_back({{"seconds", p.seconds},
                          {"loss", p.loss},
                          {"train_accuracy", p.train_accuracy},
                          {"test_accuracy", p.test_accuracy}});
    return {{"steps", t.steps}, {"epochs", t.epochs}, {"seconds", t.seconds}, {"curve", points}};
}

void rule() { std::printf("%s\n", std::string(78, '-').c_str()); }

std::string window_text(const layer_shape& s) {
    if (s.kind == op::fully_connected) return "-";
    const pq::window2d& w = s.window;
    const bool strided = w.stride.height > 1;
    return std::to_string(w.kernel.height) + "x" + std::to_string(w.kernel.width) +
           (strided ? " /" + std::to_string(w.stride.height) : "");
}

}  // namespace

std::string exponent_range(const std::vector<int>& exponents) {
    if (exponents.empty()) return "-";
    const auto [low, high] = std::ranges::minmax(exponents);
    return low == high ? std::to_string(low) : std::to_string(low) + ".." + std::to_string(high);
}

void write_json(const std::filesystem::path& file, const report& r) {
    nlohmann::json tensors = nlohmann::json::array();
    for (const tensor_comparison& t : r.bits.tensors)
        tensors.push_back({{"name", t.name}, {"compared", t.compared}, {"differing", t.differing}});
    const nlohmann::json all = {
        {"data", r.data},
        {"seed", r.seed},
        {"test_images", r.test_images},
        {"accuracy",
         {{"float32", r.float_accuracy},
          {"post_training", r.post_training_accuracy},
          {"qat", r.qat_accuracy},
          {"integer", r.bits.integer_accuracy}}},
        {"activations", {{"compared", r.bits.compared()}, {"differing", r.bits.differing()}, {"tensors", tensors}}},
        {"milliseconds", {{"float32", r.float_milliseconds}, {"integer", r.integer_milliseconds}}},
        {"training_step",
         {{"float32_milliseconds", r.steps.float_milliseconds},
          {"integer_forward_milliseconds", r.steps.integer_milliseconds},
          {"compared", r.steps.compared},
          {"differing", r.steps.differing}}},
        {"thresholds", {{"trained", r.thresholds}, {"moved", r.moved_thresholds}}},
        {"training", {{"float32", curve_json(r.float_training)}, {"qat", curve_json(r.qat)}}},
    };
    std::ofstream(file) << all.dump(2) << '\n';
}

void print_report(const report& r, const integer_network& net) {
    std::printf("\n%-14s %-8s %-8s %10s  %10s  %10s  %8s  %s\n", "layer", "kernel", "output", "weights 2^", "bias 2^",
                "outputs 2^", "acc bits", "values compared, differing");
    rule();
    const std::vector<integer_layer>& layers = net.layers();
    std::printf("%-14s %-8s %-8s %10s  %10s  %10d  %8s  %11lld %5lld\n", "input", "-", "28x28x1", "-", "-",
                input_quantizer.exponent, "-", static_cast<long long>(r.bits.tensors[0].compared),
                static_cast<long long>(r.bits.tensors[0].differing));
    for (std::size_t i = 0; i < layers.size(); ++i) {
        const integer_layer& l = layers[i];
        const pq::nhwc out = l.shape.output();
        const std::string shape =
            std::to_string(out.height) + "x" + std::to_string(out.width) + "x" + std::to_string(out.channels);
        const std::string bits = l.certificate() ? std::to_string(l.certificate()->bits) : "-";
        std::printf("%-14s %-8s %-8s %10s  %10s  %10d  %8s  %11lld %5lld\n", l.shape.name.c_str(),
                    window_text(l.shape).c_str(), shape.c_str(), exponent_range(l.weight_exponents).c_str(),
                    exponent_range(l.bias_exponents).c_str(), l.output_exponent, bits.c_str(),
                    static_cast<long long>(r.bits.tensors[i + 1].compared),
                    static_cast<long long>(r.bits.tensors[i + 1].differing));
    }
    rule();
    std::printf("\n%s, %lld test images\n", r.data.c_str(), static_cast<long long>(r.test_images));
    std::printf("  accuracy    float32                     %6.2f %%   (%.1f epochs, %.0f s)\n", r.float_accuracy,
                r.float_training.epochs, r.float_training.seconds);
    std::printf("              post-training quantization  %6.2f %%\n", r.post_training_accuracy);
    std::printf("              after fine-tuning on 2^e    %6.2f %%   (%.1f epochs, %.0f s)\n", r.qat_accuracy,
                r.qat.epochs, r.qat.seconds);
    std::printf("              integers alone              %6.2f %%\n", r.bits.integer_accuracy);
    if (r.thresholds != 0)
        std::printf("  thresholds  %zu of weights and outputs trained, %zu of them to another exponent\n", r.thresholds,
                    r.moved_thresholds);
    std::printf("  same bits   %lld activations compared, %lld differ\n", static_cast<long long>(r.bits.compared()),
                static_cast<long long>(r.bits.differing()));
    std::printf(
        "  training    step by float32 convolutions %.1f ms, with integer forward passes %.1f ms; %lld outputs "
        "compared, %lld differ\n",
        r.steps.float_milliseconds, r.steps.integer_milliseconds, static_cast<long long>(r.steps.compared),
        static_cast<long long>(r.steps.differing));
    std::printf("  inference   float32 (Eigen) %.0f ms, integer (%s) %.0f ms, %.1f times as fast\n",
                r.float_milliseconds, net.layers().front().conv2d->arch(), r.integer_milliseconds,
                r.float_milliseconds / r.integer_milliseconds);
}

}  // namespace quickstart
