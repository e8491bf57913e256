#pragma once
/// Shapes of per-channel data.
#include <algorithm>
#include <string>
#include <vector>

#include "float_cases.hpp"

namespace po2quant::test {

/// Data [outer][channels][inner].
struct layout {
    std::size_t outer;
    std::size_t channels;
    std::size_t inner;

    std::size_t size() const { return outer * channels * inner; }
    std::string name() const {
        return "[" + std::to_string(outer) + "][" + std::to_string(channels) + " channels][" + std::to_string(inner) +
               "]";
    }
};

/// Few and many channels, around the limit of the kernels' pattern (1024), innermost, in the middle and outermost; some
/// are cut into several tasks.
inline std::vector<layout> layouts_worth_trying() {
    std::vector<layout> all;
    for (const std::size_t channels : {1, 2, 3, 5, 16, 17, 64, 1023, 1024, 1025, 3000}) {
        for (const std::size_t inner : {1, 2, 7, 33}) {
            all.push_back({1, channels, inner});
            all.push_back({std::max<std::size_t>(2, 3001 / (channels * inner)), channels, inner});
        }
        all.push_back({1, channels, 3 * 3 * 5});
    }
    all.push_back({0, 3, 1});
    return all;
}

/// Each over several tasks (32768 elements), with ends of rows and channels inside them.
inline std::vector<layout> large_layouts() {
    return {{33001, 3, 1}, {6007, 17, 1}, {31, 3000, 1}, {1501, 17, 4}, {1, 2, 50021}, {7, 64, 225}};
}

inline std::vector<int> random_exponents(random_source& random, std::size_t channels) {
    std::vector<int> exponents(channels);
    for (int& e : exponents) e = random_exponent(random);
    return exponents;
}

}  // namespace po2quant::test
