#pragma once
/// Packing of codes bit by bit: the specification of kernels/pack_codes.hpp.
#include <cstddef>
#include <cstdint>
#include <span>

namespace po2quant::reference {

/// Bit j of the array's bits · n is bit j % bits of code j / bits, and bit j % 8 of byte j / 8.
inline void pack_codes(std::span<const std::int8_t> codes, int bits, std::span<std::byte> packed) {
    for (std::byte& byte : packed) byte = std::byte{0};
    const auto width = static_cast<std::size_t>(bits);
    for (std::size_t j = 0; j < codes.size() * width; ++j)
        if ((codes[j / width] >> (j % width) & 1) != 0) packed[j / 8] |= std::byte{1} << (j % 8);
}

/// Σ of a code's bits, the last of which counts negatively.
inline void unpack_codes(std::span<const std::byte> packed, int bits, std::span<std::int8_t> codes) {
    const auto width = static_cast<std::size_t>(bits);
    for (std::size_t i = 0; i < codes.size(); ++i) {
        int code = 0;
        for (std::size_t k = 0; k < width; ++k) {
            const std::size_t j = i * width + k;
            const int bit = std::to_integer<int>(packed[j / 8] >> (j % 8) & std::byte{1});
            code += bit * (k + 1 == width ? -(1 << k) : 1 << k);
        }
        codes[i] = static_cast<std::int8_t>(code);
    }
}

}  // namespace po2quant::reference
