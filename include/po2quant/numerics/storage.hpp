#pragma once
/// What tensors of floats are stored as: float itself, or 16 bits that are converted where they are read and written.
///
///              sign, exponent, fraction   largest finite        smallest normal, smallest
///   bfloat16   1, 8, 7 bits               (2 − 2^−7) · 2^127    2^−126, 2^−133
///   float16    1, 5, 10 bits              65504                 2^−14, 2^−24              IEEE 754's binary16
///
/// A rule for floats applies to 16-bit storage through conversion: what is read becomes a float, which is exact; the
/// rule is applied to it as it stands; the result is rounded to the storage once, to nearest, ties to even. So codes,
/// masks, ranges and gradients are those of the converted floats, and only fake_quantize's y can be rounded: where
/// holds_grid says that the storage has every value of the grid, it is not.
#include <bit>
#include <concepts>
#include <cstdint>

#include <po2quant/numerics/exponent.hpp>
#include <po2quant/numerics/format.hpp>
#include <po2quant/numerics/rounding.hpp>

namespace po2quant {

/// The upper half of a float: at::BFloat16, std::bfloat16_t, __bf16.
struct bfloat16 {
    static constexpr int fraction_bits = 7;
    static constexpr int smallest_exponent = -133;  ///< of the smallest subnormal number
    static constexpr std::uint16_t infinity = 0x7f80;

    std::uint16_t bits;
};

/// IEEE half precision: at::Half, std::float16_t, _Float16, __half.
struct float16 {
    static constexpr int fraction_bits = 10;
    static constexpr int smallest_exponent = -24;
    static constexpr std::uint16_t infinity = 0x7c00;

    std::uint16_t bits;
};

/// The two types of 16 bits.
template <class T>
concept half_type = std::same_as<T, bfloat16> || std::same_as<T, float16>;

/// What training ops read and write.
template <class T>
concept storage_type = std::same_as<T, float> || half_type<T>;

/// The same value; NaN stays NaN.
PO2Q_INLINE constexpr float to_float(float v) { return v; }
PO2Q_INLINE constexpr float to_float(bfloat16 v) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(v.bits) << 16);
}
PO2Q_INLINE constexpr float to_float(float16 v) {
    const std::uint32_t sign = (v.bits & 0x8000U) << 16;
    const std::uint32_t magnitude = v.bits & 0x7fffU;
    const std::uint32_t normal = (magnitude << 13) + ((127U - 15U) << 23);
    if (magnitude >= float16::infinity) return std::bit_cast<float>(sign | 0x7f800000U | normal);
    const float value = magnitude < 0x400 ? static_cast<float>(magnitude) * 0x1p-24F : std::bit_cast<float>(normal);
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(value));
}

/// The value of Storage next to v, ties to the even fraction: subnormal numbers as they are, ±∞ from half a step beyond
/// the largest finite value on, NaN a quiet NaN.
///
/// Example: to_storage<bfloat16>(1 + 3 · 2^−8) is 1 + 2^−6, and to_storage<float16>(65520) is ∞.
template <storage_type Storage>
PO2Q_INLINE constexpr Storage to_storage(float v) {
    if constexpr (std::same_as<Storage, float>) {
        return v;
    } else {
        const auto bits = std::bit_cast<std::uint32_t>(v);
        const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000U);
        const auto signed_bits = [&](std::uint32_t magnitude) PO2Q_INLINE_LAMBDA {
            return Storage{static_cast<std::uint16_t>(sign | magnitude)};
        };
        if (v != v) return signed_bits(Storage::infinity | 1U << (Storage::fraction_bits - 1));
        const float magnitude = std::bit_cast<float>(bits & 0x7fffffffU);
        if (magnitude == 0) return signed_bits(0);
        // In steps of its binade, or of the subnormal numbers'. Rounded up to the next binade, the fraction's carry
        // counts the exponent on, up to infinity.
        const int own = floor_log2(magnitude) - Storage::fraction_bits;
        if (own > 127 - Storage::fraction_bits) return signed_bits(Storage::infinity);
        const int step = own < Storage::smallest_exponent ? Storage::smallest_exponent : own;
        const double steps = static_cast<double>(magnitude) * exp2_double(-step);
        const auto rounded = static_cast<std::uint32_t>(round_to_integer(steps, rounding::half_even));
        const auto binade = static_cast<std::uint32_t>(step - Storage::smallest_exponent) << Storage::fraction_bits;
        return signed_bits(binade + rounded < Storage::infinity ? binade + rounded : Storage::infinity);
    }
}

/// Whether Storage has every code · 2^exponent of a format: bfloat16 where codes are within ±256, so signed formats of
/// up to 9 bits and unsigned ones of up to 8, at every exponent of the library; float16 where they are within ±2048,
/// exponent >= −24, and the largest magnitude times 2^exponent <= 65504. float always.
template <storage_type Storage>
constexpr bool holds_grid(integer_format format, int exponent) {
    if constexpr (std::same_as<Storage, float>) {
        return true;
    } else {
        const int most = -format.qmin() > format.qmax() ? -format.qmin() : format.qmax();
        const float largest = to_float(Storage{static_cast<std::uint16_t>(Storage::infinity - 1)});
        return most <= 2 << Storage::fraction_bits && exponent >= Storage::smallest_exponent &&
               most * exp2_double(exponent) <= static_cast<double>(largest);
    }
}

}  // namespace po2quant
