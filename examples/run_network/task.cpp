#include "task.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>

#include <nlohmann/json.hpp>

namespace run_network {

namespace fs = std::filesystem;
using json = nlohmann::json;

task read_task(const std::optional<fs::path>& given, const model& m) {
    fs::path file = given ? *given : m.folder / "task.json";
    if (!given && !fs::exists(file)) file = fs::path(PO2QUANT_TASKS_DIR) / (m.name + ".json");
    task t;
    if (!given && !fs::exists(file)) return t;
    const auto fail = [&](const std::string& what) { throw bad_model(file.string() + ": " + what); };
    std::ifstream stream(file);
    if (!stream) fail("cannot be opened");
    try {
        const json all = json::parse(stream);
        const std::string kind = all.at("task");
        if (kind == "classes") t.kind = task_kind::classes;
        else if (kind == "attributes") t.kind = task_kind::attributes;
        else if (kind == "boxes") t.kind = task_kind::boxes;
        else fail("task: is '" + kind + "'; allowed: classes, attributes, boxes");
        t.labels = all.at("labels").get<std::vector<std::string>>();
        const std::string resize = all.value("resize", "bilinear");
        if (resize != "bilinear" && resize != "nearest")
            fail("resize: is '" + resize + "'; allowed: bilinear, nearest");
        t.resize = resize == "nearest" ? resize_method::nearest : resize_method::bilinear;
        if (t.kind == task_kind::boxes) {
            box_rule& b = t.boxes;
            b.boxes = all.at("boxes");
            b.scores = all.at("scores");
            b.grids = all.at("grids").get<std::vector<std::int64_t>>();
            b.min_scale = all.at("min_scale");
            b.max_scale = all.at("max_scale");
            b.aspect_ratios = all.at("aspect_ratios").get<std::vector<double>>();
            const auto coder = all.at("coder").get<std::vector<double>>();
            if (coder.size() != 4) fail("coder: has " + std::to_string(coder.size()) + " numbers; 4 are needed");
            std::copy(coder.begin(), coder.end(), b.coder);
            b.score_threshold = all.value("score_threshold", b.score_threshold);
            b.iou_threshold = all.value("iou_threshold", b.iou_threshold);
        }
    } catch (const json::exception& error) {
        fail(error.what());
    }
    return t;
}

namespace {

struct anchor {
    double y, x, height, width;
};

std::vector<anchor> anchors_of(const box_rule& rule) {
    std::vector<anchor> all;
    const std::size_t layers = rule.grids.size();
    const auto scale = [&](std::size_t i) {
        if (i >= layers) return 1.0;
        const double steps = layers > 1 ? static_cast<double>(layers - 1) : 1.0;
        return rule.min_scale + (rule.max_scale - rule.min_scale) * static_cast<double>(i) / steps;
    };
    for (std::size_t i = 0; i < layers; ++i)
        for (std::int64_t y = 0; y < rule.grids[i]; ++y)
            for (std::int64_t x = 0; x < rule.grids[i]; ++x) {
                const double cell = 1.0 / static_cast<double>(rule.grids[i]);
                const double cy = (static_cast<double>(y) + 0.5) * cell;
                const double cx = (static_cast<double>(x) + 0.5) * cell;
                for (const double ratio : rule.aspect_ratios)
                    all.push_back({cy, cx, scale(i) / std::sqrt(ratio), scale(i) * std::sqrt(ratio)});
                const double between = std::sqrt(scale(i) * scale(i + 1));
                all.push_back({cy, cx, between, between});
            }
    return all;
}

double intersection_over_union(const detection& a, const detection& b) {
    const double height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
    const double width = std::min(a.right, b.right) - std::max(a.left, b.left);
    if (height <= 0 || width <= 0) return 0;
    const auto area = [](const detection& d) { return (d.bottom - d.top) * (d.right - d.left); };
    return height * width / (area(a) + area(b) - height * width);
}

const tensor& value_named(const model& m, const network& net, const std::string& name, const char* field) {
    for (const int output : m.outputs)
        if (m.name_of(output) == name) return net.value(output);
    throw bad_model(std::string("the task's ") + field + ": is '" + name + "', which is no output of the network");
}

}  // namespace

std::vector<detection> detections_of(const model& m, const network& net, const task& t) {
    const tensor& boxes = value_named(m, net, t.boxes.boxes, "boxes");
    const tensor& scores = value_named(m, net, t.boxes.scores, "scores");
    const std::vector<anchor> anchors = anchors_of(t.boxes);
    const auto count = static_cast<std::int64_t>(anchors.size());
    const auto labels = static_cast<std::int64_t>(t.labels.size());
    if (boxes.elements() != 4 * count || scores.elements() != labels * count)
        throw bad_model("the task's grids: have " + std::to_string(count) + " anchors of " + std::to_string(labels) +
                        " labels; the network gives " + std::to_string(boxes.elements()) + " values of boxes and " +
                        std::to_string(scores.elements()) + " of scores");
    std::vector<detection> all;
    for (std::size_t i = 0; i < anchors.size(); ++i)
        for (std::size_t label = 1; label < t.labels.size(); ++label) {
            const double score = scores.real(i * t.labels.size() + label);
            if (score < t.boxes.score_threshold) continue;
            const auto code = [&](std::size_t k) { return boxes.real(4 * i + k) / t.boxes.coder[k]; };
            const double y = code(0) * anchors[i].height + anchors[i].y;
            const double x = code(1) * anchors[i].width + anchors[i].x;
            const double height = std::exp(code(2)) * anchors[i].height / 2;
            const double width = std::exp(code(3)) * anchors[i].width / 2;
            const auto inside = [](double v) { return std::clamp(v, 0.0, 1.0); };
            all.push_back({static_cast<int>(label), score, inside(y - height), inside(x - width), inside(y + height),
                           inside(x + width)});
        }
    std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
    std::vector<detection> kept;
    for (const detection& d : all) {
        const bool known = std::any_of(kept.begin(), kept.end(), [&](const detection& k) {
            return k.label == d.label && intersection_over_union(k, d) > t.boxes.iou_threshold;
        });
        if (!known) kept.push_back(d);
    }
    return kept;
}

std::size_t largest_of(const tensor& t) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < static_cast<std::size_t>(t.elements()); ++i)
        if (t.real(i) > t.real(best)) best = i;
    return best;
}

std::vector<finding> findings_of(const model& m, const network& net, const task& t,
                                 const std::vector<detection>& boxes) {
    std::vector<finding> all;
    const auto label = [&](std::size_t i) { return i < t.labels.size() ? t.labels[i] : std::to_string(i); };
    if (t.kind == task_kind::boxes) {
        for (const detection& d : boxes) all.push_back({label(static_cast<std::size_t>(d.label)), d.score});
    } else if (t.kind == task_kind::attributes) {
        const tensor& out = net.value(m.outputs.front());
        // Above 0 as a logit; behind a sigmoid, above a half.
        const int value = m.outputs.front();
        const bool probabilities = value > 0 && m.ops[static_cast<std::size_t>(value) - 1].kind == op_kind::sigmoid;
        const double threshold = probabilities ? 0.5 : 0;
        for (std::size_t i = 0; i < static_cast<std::size_t>(out.elements()); ++i)
            if (out.real(i) > threshold) all.push_back({label(i), out.real(i)});
    } else if (t.kind == task_kind::classes) {
        const std::size_t best = largest_of(net.value(m.outputs.front()));
        all.push_back({label(best), net.value(m.outputs.front()).real(best)});
    } else {
        for (const int output : m.outputs) {
            const std::size_t best = largest_of(net.value(output));
            all.push_back({m.name_of(output) + "[" + std::to_string(best) + "]", net.value(output).real(best)});
        }
    }
    return all;
}

void draw(picture& p, const std::vector<detection>& boxes) {
    static constexpr std::uint8_t colours[][3] = {
        {255, 64, 64}, {64, 224, 64}, {64, 128, 255}, {255, 208, 0}, {224, 64, 224}};
    if (p.channels != 3) return;
    const auto dot = [&](std::int64_t y, std::int64_t x, int label) {
        if (y < 0 || x < 0 || y >= p.height || x >= p.width) return;
        for (std::size_t c = 0; c < 3; ++c)
            p.pixels[static_cast<std::size_t>((y * p.width + x) * 3) + c] = colours[label % 5][c];
    };
    for (const detection& d : boxes) {
        const auto pixel = [](double share, std::int64_t size) {
            return std::min(size - 1, static_cast<std::int64_t>(share * static_cast<double>(size)));
        };
        const std::int64_t top = pixel(d.top, p.height);
        const std::int64_t bottom = pixel(d.bottom, p.height);
        const std::int64_t left = pixel(d.left, p.width);
        const std::int64_t right = pixel(d.right, p.width);
        for (std::int64_t x = left; x <= right; ++x)
            for (const std::int64_t y : {top, bottom}) dot(y, x, d.label);
        for (std::int64_t y = top; y <= bottom; ++y)
            for (const std::int64_t x : {left, right}) dot(y, x, d.label);
    }
}

}  // namespace run_network
