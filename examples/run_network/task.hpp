#pragma once
/// What a network's outputs mean: classes, attributes or boxes, from a small file (tasks/).
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "network.hpp"
#include "pictures.hpp"

namespace run_network {

/// Anchors of an SSD: per cell of square grids, `aspect_ratios` at the layer's scale and, as the last one, a square at
/// the mean of it and the next one's. Boxes are coded against them, as Faster R-CNN does, by y, x, height and width.
struct box_rule {
    std::string boxes;   ///< the value [anchors][4]: ty, tx, th, tw
    std::string scores;  ///< the value [anchors][labels], probabilities; label 0 is the background
    std::vector<std::int64_t> grids = {};
    double min_scale = 0.2;
    double max_scale = 0.95;
    std::vector<double> aspect_ratios = {};
    double coder[4] = {10, 10, 5, 5};
    double score_threshold = 0.3;
    double iou_threshold = 0.6;  ///< two boxes of a label that overlap more are one
};

enum class task_kind { values, classes, attributes, boxes };

struct task {
    task_kind kind = task_kind::values;
    std::vector<std::string> labels = {};
    resize_method resize = resize_method::bilinear;
    box_rule boxes = {};
};

/// The file, or by default task.json of the network's folder, or tasks/<its name>.json; a task of plain values where
/// there is none. Throws bad_model.
task read_task(const std::optional<std::filesystem::path>& file, const model& m);

/// A box in pixels of a picture of 1x1: the corners, each 0..1.
struct detection {
    int label;
    double score;
    double top, left, bottom, right;
};

/// The boxes of a network that has run, the best first. Throws bad_model where its values do not fit the rule.
std::vector<detection> detections_of(const model& m, const network& net, const task& t);

/// One finding about an image: a label, or an output's element, and its value or probability.
struct finding {
    std::string label;
    double value;
};

/// The class of the largest value (the first of equal ones), the attributes above 0, the `boxes`, which detections_of
/// found, or the largest value of each output.
std::vector<finding> findings_of(const model& m, const network& net, const task& t,
                                 const std::vector<detection>& boxes);

/// Index of the largest value of a tensor, the first of equal ones.
std::size_t largest_of(const tensor& t);

/// Outlines in the picture, a colour for each label.
void draw(picture& p, const std::vector<detection>& boxes);

}  // namespace run_network
