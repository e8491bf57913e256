#pragma once
/// Packed weights of 4 and 2 bits: an eighth or less of float's memory in files and on the wire. conv2d,
/// depthwise_conv2d and fully_connected take them, unpack them once, and run the int8 kernels.
#include <span>
#include <vector>

#include <po2quant/kernels/pack_codes.hpp>
#include <po2quant/simd/arch.hpp>
#include <po2quant/tensor/check.hpp>
#include <po2quant/tensor/packed_codes.hpp>

namespace po2quant {

namespace detail {

inline void check_packed_bits(const char* function, int bits) {
    if (bits != 2 && bits != 4) fail(function, "bits", std::to_string(bits), "2 and 4");
}

inline void check_packed_codes(const char* function, const packed_codes& packed, std::uint64_t n) {
    check_packed_bits(function, packed.bits);
    check_span(function, "bytes", packed.bytes, packed_bytes(n, packed.bits));
}

}  // namespace detail

/// Packs codes, each of which must be inside −2^(bits−1) .. 2^(bits−1) − 1, into packed_bytes(codes.size(), bits)
/// bytes. Throws std::invalid_argument, before anything is written, for other codes, bits and sizes, null spans and
/// overlap.
template <class Arch = default_arch>
void pack_codes(std::span<const std::int8_t> codes, int bits, std::span<std::byte> packed) {
    constexpr const char* function = "pack_codes";
    detail::check_packed_bits(function, bits);
    detail::check_span(function, "codes", codes, codes.size());
    detail::check_span(function, "packed", packed, packed_bytes(codes.size(), bits));
    detail::check_overlap(function, "packed", packed, codes, false);
    const int most = (1 << (bits - 1)) - 1;
    for (std::size_t i = 0; i < codes.size(); ++i)
        if (codes[i] > most || codes[i] < -most - 1)
            detail::fail(function, detail::text("codes[", i, "]"), std::to_string(codes[i]),
                         detail::text(-most - 1, "..", most));
    auto* bytes = reinterpret_cast<std::uint8_t*>(packed.data());
    if (bits == 2) kernels::pack_codes<Arch, 2>(codes.data(), bytes, codes.size());
    else kernels::pack_codes<Arch, 4>(codes.data(), bytes, codes.size());
}

/// Unpacks codes.size() codes. Throws std::invalid_argument, before anything is written, for other sizes and bits, null
/// spans and overlap.
template <class Arch = default_arch>
void unpack_codes(const packed_codes& packed, std::span<std::int8_t> codes) {
    constexpr const char* function = "unpack_codes";
    detail::check_packed_codes(function, packed, codes.size());
    detail::check_span(function, "codes", codes, codes.size());
    detail::check_overlap(function, "codes", codes, packed.bytes, false);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(packed.bytes.data());
    if (packed.bits == 2) kernels::unpack_codes<Arch, 2>(bytes, codes.data(), codes.size());
    else kernels::unpack_codes<Arch, 4>(bytes, codes.data(), codes.size());
}

namespace detail {

/// A layer's packed weights as int8; `function` is whose errors they are.
inline std::vector<std::int8_t> unpacked_weights(const char* function, const packed_codes& weights, std::int64_t n) {
    check_packed_bits(function, weights.bits);
    check_span(function, "weights.bytes", weights.bytes, packed_bytes(static_cast<std::uint64_t>(n), weights.bits));
    std::vector<std::int8_t> codes(static_cast<std::size_t>(n));
    unpack_codes<default_arch>(weights, codes);
    return codes;
}

}  // namespace detail
}  // namespace po2quant
