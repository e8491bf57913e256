#pragma once
/// The command line.
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "network.hpp"

namespace run_network {

struct arguments {
    std::filesystem::path folder = {};
    bool golden = false;
    std::vector<std::filesystem::path> images = {};
    std::optional<std::filesystem::path> draw = {};
    std::optional<std::filesystem::path> cifar10 = {};
    std::optional<std::filesystem::path> task = {};
    std::optional<std::filesystem::path> json = {};
    std::string isa = {};  ///< empty: what PO2QUANT_ISA names, or the best
    int threads = 1;
    int input_bits = 0;  ///< 0: the model's
    std::optional<int> input_exponent = {};
    pool_form pool = pool_form::exact;
    double seconds = 0.3;
};

/// Throws std::invalid_argument for what it does not know; prints the help and exits for --help.
arguments read_arguments(int count, char** texts);

}  // namespace run_network
