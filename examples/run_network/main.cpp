// Runs networks of integers in the format of FORMAT.md: loads, packs once, runs, compares, measures, evaluates.
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "arguments.hpp"
#include "golden.hpp"
#include "isa_kernels.hpp"
#include "npy.hpp"
#include "report.hpp"
#include "task.hpp"

namespace run_network {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;

const char* name_of(pool_form form) {
    return form == pool_form::exact ? "exact" : form == pool_form::int16 ? "int16" : "int8";
}

/// Some codes, where nothing else is at hand: the time of a network does not depend on them.
void fill_with_noise(std::span<std::byte> bytes) {
    std::uint32_t state = 1;
    for (std::byte& b : bytes) b = static_cast<std::byte>((state = state * 1664525 + 1013904223) >> 24);
}

class program {
public:
    explicit program(const arguments& a) : a_(a), isa_(kernels_of(a.isa)), model_(read_model(a.folder)) {
        const int bits = a.input_bits == 0 ? model_.input_bits : a.input_bits;
        if (a.golden) goldens_.emplace(model_, bits);
        if (a.input_exponent) model_.input_exponent = *a.input_exponent;
        else if (goldens_) model_.input_exponent = goldens_->input_exponent();
        else if (bits == 16 && model_.input_bits == 8) model_.input_exponent -= 4;
        model_.input_bits = bits;
        net_.emplace(model_, isa_.layers, a.pool);
        task_ = read_task(a.task, model_);
    }

    /// The program's exit code.
    int run() {
        json root = {{"network", model_.name},
                     {"isa", isa_.layers.arch},
                     {"threads", a_.threads},
                     {"input_bits", model_.input_bits},
                     {"input_exponent", model_.input_exponent},
                     {"pool", name_of(a_.pool)}};
        std::printf("%s: %s kernels, %d thread%s, int%d input of exponent %d\n", model_.name.c_str(), isa_.layers.arch,
                    a_.threads, a_.threads == 1 ? "" : "s", model_.input_bits, model_.input_exponent);
        const std::vector<comparison> compared = compare();
        if (a_.images.empty() && !goldens_) fill_with_noise(net_->input());
        run_images();
        root["results"] = std::move(results_);
        const timings times = measure(*net_, isa_, executor_, a_.seconds);
        root.update(layer_json(*net_, times, compared));
        std::fputs(layer_table(*net_, times, compared).c_str(), stdout);
        std::printf(
            "%d runs, spread %.0f %%; the roof, dot products in registers of one thread: %.1f GMAC/s; tensors: %zu "
            "KB\n",
            times.runs, 100 * times.spread, 1e-9 * times.peak, net_->memory_bytes() / 1024);
        bool good = true;
        if (goldens_) {
            const std::int64_t all = root["compared"];
            const std::int64_t differing = root["differing"];
            std::printf("%zu images: %lld values compared, %lld differ\n", goldens_->images(),
                        static_cast<long long>(all), static_cast<long long>(differing));
            root["images"] = goldens_->images();
            if (labelled_ > 0) {
                std::printf("%zu of %zu labels right, %.4f\n", right_, labelled_,
                            static_cast<double>(right_) / static_cast<double>(labelled_));
                root["right"] = right_;
                root["labelled"] = labelled_;
            }
            good = differing == 0 && all > 0;
        }
        if (a_.cifar10) root["accuracy"] = evaluate_cifar10();
        if (a_.json) {
            const std::string text = root.dump(1) + "\n";
            write_file(*a_.json, std::as_bytes(std::span(text.data(), text.size())));
        }
        return good ? 0 : 1;
    }

private:
    /// What the goldens say of each op, over all their images; findings of the first are printed.
    std::vector<comparison> compare() {
        std::vector<comparison> all;
        if (!goldens_) return all;
        all.resize(net_->layers().size());
        for (std::size_t image = 0; image < goldens_->images(); ++image) {
            const auto input = goldens_->input(image);
            std::memcpy(net_->input().data(), input.data(), input.size());
            net_->run(executor_, [&](std::size_t i) {
                const layer& l = net_->layers()[i];
                const comparison c = goldens_->compare(l, net_->value(l.value), a_.pool, image);
                all[i] = {all[i].compared + c.compared, all[i].differing + c.differing};
            });
            constexpr std::size_t most_lines = 16;
            const bool printed = image < most_lines;
            if (printed || a_.json) results_.push_back(findings(goldens_->name_of(image), boxes(), printed));
            if (const int label = goldens_->label_of(image); label >= 0) {
                ++labelled_;
                right_ += largest_of(net_->value(model_.outputs.front())) == static_cast<std::size_t>(label);
            }
        }
        return all;
    }

    /// What the network has found in an image, and `boxes` where that is its task; printed if asked for.
    json findings(const std::string& image, const std::vector<detection>& boxes, bool printed) const {
        json found = json::array();
        std::string line;
        for (const finding& f : findings_of(model_, *net_, task_, boxes)) {
            char text[160];
            std::snprintf(text, sizeof text, "%s%s %.3f", line.empty() ? "" : ", ", f.label.c_str(), f.value);
            line += text;
            found.push_back({{"label", f.label}, {"value", f.value}});
        }
        for (std::size_t i = 0; i < boxes.size(); ++i)
            found[i]["box"] = {boxes[i].top, boxes[i].left, boxes[i].bottom, boxes[i].right};
        if (printed) std::printf("%s: %s\n", image.c_str(), line.empty() ? "nothing" : line.c_str());
        return {{"image", image}, {"found", std::move(found)}};
    }

    std::vector<detection> boxes() const {
        return task_.kind == task_kind::boxes ? detections_of(model_, *net_, task_) : std::vector<detection>();
    }

    void take(const picture& p, const std::string& name) {
        const auto& shape = model_.input_shape;
        if (shape.size() != 3 || p.channels != shape[2])
            throw std::invalid_argument(name + ": has " + std::to_string(p.channels) +
                                        " channels; the network needs an image of " + std::to_string(shape.back()));
        to_codes(resized(p, shape[0], shape[1], task_.resize), model_.input_exponent, net_->input());
    }

    void run_images() {
        if (a_.draw) fs::create_directories(*a_.draw);
        for (const fs::path& file : a_.images) {
            picture p = read_picture(file);
            take(p, file.string());
            net_->run(executor_);
            const std::vector<detection> found = boxes();
            results_.push_back(findings(file.filename().string(), found, true));
            for (const detection& d : found)
                std::printf("  %s %.3f: rows %.0f..%.0f, columns %.0f..%.0f\n",
                            task_.labels[static_cast<std::size_t>(d.label)].c_str(), d.score,
                            d.top * static_cast<double>(p.height), d.bottom * static_cast<double>(p.height),
                            d.left * static_cast<double>(p.width), d.right * static_cast<double>(p.width));
            if (!a_.draw || task_.kind != task_kind::boxes) continue;
            draw(p, found);
            const fs::path to = *a_.draw / file.filename().replace_extension(".ppm");
            write_ppm(to, p);
            std::printf("  drawn: %s\n", to.string().c_str());
        }
    }

    json evaluate_cifar10() {
        const auto share = [&](const std::vector<labelled_picture>& all, std::size_t first, const char* name) -> json {
            std::size_t correct = 0;
            for (std::size_t i = first; i < all.size(); ++i) {
                take(all[i].image, name);
                net_->run(executor_);
                correct += largest_of(net_->value(model_.outputs.front())) == static_cast<std::size_t>(all[i].label);
            }
            const std::size_t images = all.size() - first;
            const double accuracy = static_cast<double>(correct) / static_cast<double>(images);
            std::printf("CIFAR-10, %s: %zu of %zu right, %.4f\n", name, correct, images, accuracy);
            return {{"correct", correct}, {"images", images}, {"accuracy", accuracy}};
        };
        const std::vector<labelled_picture> third = read_cifar10(*a_.cifar10 / "data_batch_3.bin");
        if (third.size() != 10000)
            throw std::runtime_error((*a_.cifar10 / "data_batch_3.bin").string() + ": has " +
                                     std::to_string(third.size()) + " pictures; 10000 are needed");
        json all;
        all["original_test"] = share(third, 5500, "the original's test pictures");
        all["test"] = share(read_cifar10(*a_.cifar10 / "test_batch.bin"), 0, "the official test pictures");
        return all;
    }

    const arguments& a_;
    const isa_kernels isa_;
    model model_;
    std::optional<goldens> goldens_;
    std::optional<network> net_;
    task task_;
    executor executor_{a_.threads};
    json results_ = json::array();  ///< findings by image
    std::size_t right_ = 0;         ///< of golden images, those whose label is the largest value
    std::size_t labelled_ = 0;      ///< of golden images, those that have a label
};

}  // namespace
}  // namespace run_network

int main(int count, char** texts) {
    try {
        const run_network::arguments a = run_network::read_arguments(count, texts);
        return run_network::program(a).run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "run_network: %s\n", error.what());
        return 1;
    }
}
