#pragma once
/// What a run leaves behind: figures, pictures and the integer network as C.
#include <filesystem>

#include "evaluate.hpp"
#include "train.hpp"

namespace quickstart {

struct report {
    std::string data;
    std::uint64_t seed = 0;
    std::int64_t test_images = 0;
    double float_accuracy = 0;  ///< percent, as the following
    double post_training_accuracy = 0;
    double qat_accuracy = 0;
    double float_milliseconds = 0;  ///< for all test images
    double integer_milliseconds = 0;
    training_result float_training = {};
    training_result qat = {};
    std::size_t thresholds = 0;        ///< trained ones, of weights and outputs
    std::size_t moved_thresholds = 0;  ///< of these, with another exponent than untrained
    step_comparison steps = {};
    comparison bits = {};
};

/// How often each code of a tensor was used, and where the values were before they were rounded.
struct histogram {
    std::string title;
    int low = 0;                       ///< the smallest code
    std::vector<std::int64_t> codes;   ///< one count per code
    std::vector<std::int64_t> before;  ///< four bins per code, of the values in units of codes
};

/// Weights and activations of every layer of the graph's last forward pass.
std::vector<histogram> histograms(const quantized_graph& graph);

void write_json(const std::filesystem::path& file, const report& r);
void write_curves_svg(const std::filesystem::path& file, const report& r);
void write_histograms_svg(const std::filesystem::path& file, const std::vector<histogram>& all);
/// Arrays, shapes, exponents and shifts: what a program in C needs to run the network.
void write_c_header(const std::filesystem::path& file, const integer_network& net);

/// "-6" or "-8..-5": exponents as the table shows them.
std::string exponent_range(const std::vector<int>& exponents);

/// The tables at the end of a run.
void print_report(const report& r, const integer_network& net);

}  // namespace quickstart
