#pragma once
/// Registers of 16-bit integers, as wide as those of floats, and 16-bit floats compared as such.
#include <po2quant/numerics/quantizer.hpp>
#include <po2quant/numerics/storage.hpp>
#include <po2quant/simd/mask.hpp>

namespace po2quant::simd {

/// The bits of a bfloat16 or float16 as an integer that is larger where the value is: −NaN, −∞ … −0 is −1, +0 is 0 …
/// ∞, NaN.
PO2Q_INLINE constexpr std::int16_t ordered(std::uint16_t bits) {
    const auto value = static_cast<std::int16_t>(bits);
    return static_cast<std::int16_t>(value ^ (value >> 15 & 0x7fff));
}

/// The bits of one, whatever a host's own type there is.
PO2Q_INLINE std::uint16_t bits_at(const void* p) {
    std::uint16_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return bits;
}

/// An interval of ordered values, both ends included; empty where low > high.
struct word_interval {
    std::int16_t low;
    std::int16_t high;
    PO2Q_INLINE constexpr bool contains(std::uint16_t bits) const {
        const std::int16_t v = ordered(bits);
        return low <= v && v <= high;
    }
};

/// The values of Half that `floats`, not NaN, contains; either zero is both.
template <half_type Half>
PO2Q_INLINE constexpr word_interval words_of(float_interval floats) {
    if constexpr (std::same_as<Half, bfloat16>) {
        // Floats ordered in the same way: a bfloat16 is one whose lower half is all 0, or for negative ones all 1.
        const auto ordered_float = [](float v) PO2Q_INLINE_LAMBDA {
            const auto float_bits = std::bit_cast<std::int32_t>(v);
            return std::int64_t{float_bits ^ (float_bits >> 31 & 0x7fffffff)};
        };
        const std::int64_t from = floats.low == 0 ? -1 : ordered_float(floats.low);
        const std::int64_t to = floats.high == 0 ? 0 : ordered_float(floats.high);
        return {static_cast<std::int16_t>((from < 0 ? from : from + 0xffff) >> 16),
                static_cast<std::int16_t>((to < 0 ? to - 0xffff : to) >> 16)};
    }
    const Half low = to_storage<Half>(floats.low);
    const Half high = to_storage<Half>(floats.high);
    return {floats.low == 0 ? std::int16_t{-1}
                            : static_cast<std::int16_t>(ordered(low.bits) + (to_float(low) < floats.low)),
            floats.high == 0 ? std::int16_t{0}
                             : static_cast<std::int16_t>(ordered(high.bits) - (to_float(high) > floats.high))};
}

/// Vectors of the compiler's own: what is done with them is an instruction or two on every target. (g++ 12 takes no
/// size that depends on a template's argument.)
template <std::size_t Bytes>
struct word_vector;
template <>
struct word_vector<16> {
    using type [[gnu::vector_size(16)]] = std::int16_t;
    using unsigned_type [[gnu::vector_size(16)]] = std::uint16_t;
    static constexpr type bit = {1, 2, 4, 8, 16, 32, 64, 128};
};
template <>
struct word_vector<32> {
    using type [[gnu::vector_size(32)]] = std::int16_t;
    using unsigned_type [[gnu::vector_size(32)]] = std::uint16_t;
    static constexpr type bit = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, -32768};
};
template <>
struct word_vector<64> {
    using type [[gnu::vector_size(64)]] = std::int16_t;
    using unsigned_type [[gnu::vector_size(64)]] = std::uint16_t;
};

template <class Arch>
struct words {
    static constexpr std::size_t bytes = f32<Arch>::size * sizeof(float);
    static constexpr std::size_t lanes = bytes / 2;
    using reg = typename word_vector<bytes>::type;

    static PO2Q_INLINE reg load(const void* p) {
        reg v;
        __builtin_memcpy(&v, p, bytes);
        return v;
    }
    /// In a register from here on, as simd::keep.
    static PO2Q_INLINE reg keep(reg v) {
#if (defined(__x86_64__) || defined(__i386__)) && !defined(__clang__)
        asm("" : "+v"(v));
#endif
        return v;
    }
    static PO2Q_INLINE void store(void* p, reg v) { __builtin_memcpy(p, &v, bytes); }
    /// Past the caches; p is aligned to the vector.
    static PO2Q_INLINE void stream(void* p, reg v) {
#if defined(__AVX512F__)
        if constexpr (bytes == 64) return _mm512_stream_si512(static_cast<__m512i*>(p), reinterpret_cast<__m512i>(v));
#endif
#if defined(__AVX2__)
        if constexpr (bytes == 32) return _mm256_stream_si256(static_cast<__m256i*>(p), reinterpret_cast<__m256i>(v));
#endif
#if defined(__SSE2__)
        if constexpr (bytes == 16) return _mm_stream_si128(static_cast<__m128i*>(p), reinterpret_cast<__m128i>(v));
#endif
        store(p, v);
    }
    // g++ 12 makes comparisons and selections of these in 512 bits.
    static PO2Q_INLINE reg min(reg a, reg b) {
#if defined(__AVX512BW__)
        if constexpr (bytes == 64)
            return reinterpret_cast<reg>(_mm512_min_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#endif
        return a < b ? a : b;
    }
    static PO2Q_INLINE reg max(reg a, reg b) {
#if defined(__AVX512BW__)
        if constexpr (bytes == 64)
            return reinterpret_cast<reg>(_mm512_max_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#endif
        return a > b ? a : b;
    }
    static PO2Q_INLINE reg unsigned_max(reg a, reg b) {
#if defined(__AVX512BW__)
        if constexpr (bytes == 64)
            return reinterpret_cast<reg>(_mm512_max_epu16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#endif
        using unsigned_reg = typename word_vector<bytes>::unsigned_type;
        const auto p = reinterpret_cast<unsigned_reg>(a);
        const auto q = reinterpret_cast<unsigned_reg>(b);
        return reinterpret_cast<reg>(p > q ? p : q);
    }
    /// v[i] where x[i], 16-bit floats, is inside, else 0.
    static PO2Q_INLINE reg select_inside(reg x, word_interval inside, reg v) {
        const reg value = x ^ (x >> 15 & 0x7fff);
        return v & ~((value < inside.low) | (value > inside.high));
    }
    /// v[i] where bit i is set, else 0.
    static PO2Q_INLINE reg select_bits(std::uint32_t bits, reg v) {
#if defined(__AVX512BW__)
        if constexpr (bytes == 64)
            return reinterpret_cast<reg>(_mm512_maskz_mov_epi16(bits, reinterpret_cast<__m512i>(v)));
#endif
        if constexpr (bytes == 64) {  // 32 lanes: more than bits of one
            typename word_vector<32>::type half[2];
            __builtin_memcpy(half, &v, sizeof half);
            half[0] &= (word_vector<32>::bit & static_cast<std::int16_t>(bits)) != 0;
            half[1] &= (word_vector<32>::bit & static_cast<std::int16_t>(bits >> 16)) != 0;
            __builtin_memcpy(&v, half, sizeof half);
            return v;
        } else {
            return v & ((word_vector<bytes>::bit & static_cast<std::int16_t>(bits)) != 0);
        }
    }
};

}  // namespace po2quant::simd
