#pragma once
/// int8 codes to packed codes of 4 or 2 bits and back; tensor/packed_codes.hpp has the layout.
///
///   codes    int8 [n]; pack_codes keeps their low bits
///   packed   ⌈n · Bits / 8⌉ bytes; any alignment, sharing nothing with codes
/// Plain loops without a step that depends on another, which compilers vectorize: layers unpack once, when they are
/// made.
///
/// Guarantees: reads and writes exactly the extents above; no allocation, no exceptions.
#include <cstddef>

#include <po2quant/tensor/packed_codes.hpp>

namespace po2quant::kernels {

template <class Arch, int Bits>
void pack_codes(const std::int8_t* codes, std::uint8_t* packed, std::size_t n) {
    constexpr std::size_t per_byte = 8 / Bits;
    for (std::size_t i = 0; i < n / per_byte; ++i) {
        std::uint8_t byte = 0;
        for (std::size_t k = 0; k < per_byte; ++k)
            byte = static_cast<std::uint8_t>(byte | byte_of_code(codes[i * per_byte + k], static_cast<int>(k), Bits));
        packed[i] = byte;
    }
    if (n % per_byte == 0) return;
    std::uint8_t last = 0;
    for (std::size_t k = 0; k < n % per_byte; ++k)
        last = static_cast<std::uint8_t>(last |
                                         byte_of_code(codes[n / per_byte * per_byte + k], static_cast<int>(k), Bits));
    packed[n / per_byte] = last;
}

template <class Arch, int Bits>
void unpack_codes(const std::uint8_t* packed, std::int8_t* codes, std::size_t n) {
    constexpr std::size_t per_byte = 8 / Bits;
    for (std::size_t i = 0; i < n / per_byte; ++i)
        for (std::size_t k = 0; k < per_byte; ++k)
            codes[i * per_byte + k] = code_of_byte(packed[i], static_cast<int>(k), Bits);
    for (std::size_t i = n / per_byte * per_byte; i < n; ++i)
        codes[i] = code_of_byte(packed[i / per_byte], static_cast<int>(i % per_byte), Bits);
}

}  // namespace po2quant::kernels
