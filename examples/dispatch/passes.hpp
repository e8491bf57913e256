#pragma once
#include <cstdint>
#include <vector>

// Defined in passes.cpp, which is compiled once for each instruction set.
template <class Arch>
struct passes {
    static std::vector<float> on_grid(const std::vector<float>& x, int exponent);
    static std::vector<std::int8_t> doubled_codes(const std::vector<float>& x, int exponent);
};
