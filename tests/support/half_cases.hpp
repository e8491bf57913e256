#pragma once
/// 16-bit floats for tests: all of a type, floats around its ties, and vectors there and back.
#include <bit>
#include <span>
#include <vector>

#include <po2quant/numerics/storage.hpp>

namespace po2quant::test {

template <half_type Half>
constexpr const char* name_of_type() {
    return std::same_as<Half, bfloat16> ? "bfloat16" : "float16";
}

/// All 65536.
template <half_type Half>
std::vector<Half> all_halves() {
    std::vector<Half> all;
    for (std::uint32_t bits = 0; bits < 65536; ++bits) all.push_back(Half{static_cast<std::uint16_t>(bits)});
    return all;
}

template <half_type Half>
std::vector<float> to_floats(std::span<const Half> halves) {
    std::vector<float> floats;
    floats.reserve(halves.size());
    for (const Half h : halves) floats.push_back(to_float(h));
    return floats;
}
template <half_type Half>
std::vector<Half> to_halves(std::span<const float> floats) {
    std::vector<Half> halves;
    halves.reserve(floats.size());
    for (const float v : floats) halves.push_back(to_storage<Half>(v));
    return halves;
}

/// Both signs of the middle between every two neighbours, up to half a step beyond the largest, and of the floats
/// beside it.
template <half_type Half>
std::vector<float> ties_of() {
    std::vector<float> ties;
    for (std::uint16_t bits = 0; bits < Half::infinity; ++bits) {
        const auto low = static_cast<double>(to_float(Half{bits}));
        // The step above is that below: at a power of two minus a step the next is that power.
        const double step = bits == 0 ? static_cast<double>(to_float(Half{1}))
                                      : low - static_cast<double>(to_float(Half{static_cast<std::uint16_t>(bits - 1)}));
        const bool power = bits >> Half::fraction_bits > 1 && bits % (1 << Half::fraction_bits) == 0;
        const auto tie = std::bit_cast<std::uint32_t>(static_cast<float>(low + step / (power ? 1 : 2)));
        for (const std::uint32_t near : {tie - 1, tie, tie + 1}) {
            ties.push_back(std::bit_cast<float>(near));
            ties.push_back(std::bit_cast<float>(near | 0x80000000U));
        }
    }
    return ties;
}

}  // namespace po2quant::test
