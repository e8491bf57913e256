#pragma once
/// Codes of 4 or 2 bits, packed into bytes. Plain data and arithmetic.
///
///   byte i of 4-bit codes   bits 0..3 code 2i, bits 4..7 code 2i + 1
///   byte i of 2-bit codes   bits 0..1 code 4i, 2..3 code 4i + 1, 4..5 code 4i + 2, 6..7 code 4i + 3
/// Two's complement: −8..7 and −2..1. The codes are those of one array, without a gap between rows or channels; bits of
/// the last byte that belong to no code are written as 0 and not read.
#include <cstddef>
#include <cstdint>
#include <span>

#include <po2quant/config.hpp>

namespace po2quant {

/// Packed codes and how many bits each has.
struct packed_codes {
    std::span<const std::byte> bytes = {};
    int bits = 4;  ///< 4 or 2
};

/// Bytes that n codes of 4 or 2 bits take; n >= 0.
PO2Q_INLINE constexpr std::uint64_t packed_bytes(std::uint64_t n, int bits) {
    const std::uint64_t per_byte = bits == 2 ? 4 : 2;
    return n / per_byte + (n % per_byte != 0 ? 1 : 0);
}

/// Code k of a byte.
PO2Q_INLINE constexpr std::int8_t code_of_byte(std::uint8_t byte, int k, int bits) {
    // Up against the sign, and back by an arithmetic shift.
    const auto high = static_cast<std::int8_t>(static_cast<std::uint8_t>(byte << (8 - bits - k * bits)));
    return static_cast<std::int8_t>(high >> (8 - bits));
}

/// The byte with `code` at position k and 0 elsewhere.
PO2Q_INLINE constexpr std::uint8_t byte_of_code(std::int8_t code, int k, int bits) {
    return static_cast<std::uint8_t>((static_cast<std::uint8_t>(code) & ((1U << bits) - 1U)) << (k * bits));
}

}  // namespace po2quant
