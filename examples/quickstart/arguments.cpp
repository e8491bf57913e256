#include "arguments.hpp"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace quickstart {
namespace {

template <class Number>
Number number(const std::string& option, const char* text, Number low) {
    char* end = nullptr;
    const double value = std::strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= static_cast<double>(low)) || value > 1e9)
        throw std::invalid_argument(option + " is " + text + ", allowed: numbers from " + std::to_string(low) + " on");
    return static_cast<Number>(value);
}

}  // namespace

arguments read_arguments(int count, char** texts, const std::string& help, arguments given) {
    for (int i = 1; i < count; ++i) {
        const std::string option = texts[i];
        if (option == "--help") {
            std::fputs(help.c_str(), stdout);
            std::exit(0);
        }
        const bool known = option.starts_with("--") && help.find("\n  " + option + " ") != std::string::npos;
        if (!known) throw std::invalid_argument(option + " is not an option; see --help");
        if (option == "--shapes" || option == "--thresholds") {
            (option == "--shapes" ? given.shapes : given.thresholds) = true;
            continue;
        }
        if (++i == count) throw std::invalid_argument(option + " lacks its value; see --help");
        if (option == "--data") given.data = texts[i];
        if (option == "--out") given.out = texts[i];
        if (option == "--seconds") given.training.seconds = number<double>(option, texts[i], 1);
        if (option == "--steps") given.training.steps = number<std::int64_t>(option, texts[i], 2);
        if (option == "--seed") given.training.seed = number<std::uint64_t>(option, texts[i], 0);
    }
    return given;
}

dataset load_data(const arguments& a) {
    if (!a.shapes)
        if (const auto folder = find_fashion_mnist(a.data)) return load_fashion_mnist(*folder);
    return draw_shapes(a.training.seed);
}

}  // namespace quickstart
