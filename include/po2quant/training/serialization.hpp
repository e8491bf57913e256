#pragma once
/// What all serialized states of training begin with: four letters that say what they are, and a version.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include <po2quant/tensor/check.hpp>

namespace po2quant::detail {

static_assert(std::endian::native == std::endian::little, "serialization writes the bytes as they lie in memory");

inline constexpr std::size_t header_size = 8;

inline void write_header(std::byte* bytes, const char (&tag)[5], std::uint32_t version) {
    std::memcpy(bytes, tag, 4);
    std::memcpy(bytes + 4, &version, 4);
}

/// Refuses bytes of another size, of something else, and of another version.
inline void check_header(const char* function, std::span<const std::byte> bytes, std::size_t size, const char (&tag)[5],
                         std::uint32_t version) {
    check_span(function, "bytes", bytes, size);
    char given_tag[5] = {};
    std::memcpy(given_tag, bytes.data(), 4);
    if (std::memcmp(given_tag, tag, 4) != 0) fail(function, "tag", text("\"", given_tag, "\""), tag);
    std::uint32_t given_version = 0;
    std::memcpy(&given_version, bytes.data() + 4, 4);
    check_range(function, "version", given_version, version, version);
}

}  // namespace po2quant::detail
