#pragma once
/// Histogram of the exponents of n floats: how many have each of the 256 values of the exponent field.
///
///   in    float [n], any alignment          counts   uint64 [256], added to
/// One value at a time; a template on Arch so that each instruction set has its own copy.
/// Guarantees: reads exactly n elements; no allocation, no exceptions.
#include <cstddef>
#include <cstdint>

#include <po2quant/config.hpp>

namespace po2quant::kernels {

template <class Arch>
void exponent_histogram(const float* in, std::size_t n, std::uint64_t* counts) {
    for (std::size_t i = 0; i < n; ++i) {
        std::uint32_t bits = 0;
        __builtin_memcpy(&bits, in + i, sizeof(bits));
        ++counts[bits >> 23 & 0xff];
    }
}

}  // namespace po2quant::kernels
