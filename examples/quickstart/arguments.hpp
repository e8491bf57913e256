#pragma once
/// The command line of the quickstart and of its data-parallel form.
#include <filesystem>

#include "recipe.hpp"

namespace quickstart {

struct arguments {
    std::filesystem::path data = {};
    std::filesystem::path out = {};
    bool shapes = false;
    bool thresholds = false;  ///< fine-tuning trains thresholds instead of following ranges
    recipe training = {};
};

/// Reads the options that `help` lists into `given`; throws std::invalid_argument for others. --help prints it and
/// exits.
arguments read_arguments(int count, char** texts, const std::string& help, arguments given);

/// The data set that the arguments ask for.
dataset load_data(const arguments& a);

}  // namespace quickstart
