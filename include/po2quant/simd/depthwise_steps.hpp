#pragma once
/// Steps of depthwise convolution, channels in lanes: neighbouring taps of a channel are brought side by side into its
/// int32 lane, so that one instruction multiplies and sums them.
///
///   tap t     a0 a1 a2 a3 …        interleaved    a0 b0 a1 b1 …        multiplied and summed    a0·w0 + b0·v0, …
///   tap t+1   b0 b1 b2 b3 …
///
/// Where a layer moves by two pixels of few channels, a vector's lanes are blocks of `block` codes, every other one of
/// its input (`spread`): of 2·lanes codes from p on.
#include <algorithm>
#include <cstring>

#include <po2quant/simd/integer.hpp>

namespace po2quant::simd {

/// Of `rows` rows of `elements` codes each, `count` codes from element `first` on, and zeros up to Count and where a
/// row has none. Rows follow each other by `step` and `to_step`.
template <class Arch, std::int64_t Count>
PO2Q_INLINE void copy_inside(std::int8_t* to, std::int64_t to_step, const std::int8_t* row, std::int64_t step,
                             std::int64_t rows, std::int64_t first, std::int64_t elements, std::int64_t count) {
    const std::int64_t begin = std::clamp<std::int64_t>(-first, 0, count);
    const std::int64_t end = std::clamp<std::int64_t>(elements - first, begin, count);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    if constexpr (Count % 32 == 0) {
        constexpr std::int64_t width = Count % 64 == 0 ? 64 : 32;
        for (std::int64_t i = 0; i < Count; i += width) {
            const std::int64_t from = std::max(begin - i, std::int64_t{0});
            const std::int64_t bits = std::min(end - i, width) - from;
            const std::uint64_t inside = bits <= 0 ? 0 : ~std::uint64_t{0} >> (64 - bits) << from;
            // Where nothing is inside, an address that is.
            const std::int8_t* p = inside == 0 ? row : row + (first + i);
            std::int8_t* out = to + i;
            for (std::int64_t r = 0; r < rows; ++r, p += step, out += to_step) {
                if constexpr (width == 64) _mm512_storeu_si512(out, _mm512_maskz_loadu_epi8(inside, p));
                else
                    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                                        _mm256_maskz_loadu_epi8(static_cast<__mmask32>(inside), p));
            }
        }
        return;
    }
#endif
    for (std::int64_t r = 0; r < rows; ++r, row += step, to += to_step) {
        if (begin == 0 && end == Count) {
            std::memcpy(to, row + first, Count);
            continue;
        }
        std::memset(to, 0, Count);
        if (begin < end) std::memcpy(to + begin, row + (first + begin), static_cast<std::size_t>(end - begin));
    }
}

template <class Arch>
PO2Q_INLINE void copy_bytes(char* to, const char* from, std::int64_t bytes) {
#if defined(__AVX512BW__)
    for (; bytes > 0; bytes -= 64, to += 64, from += 64) {
        const __mmask64 inside = ~std::uint64_t{0} >> (bytes < 64 ? 64 - bytes : 0);
        _mm512_mask_storeu_epi8(to, inside, _mm512_maskz_loadu_epi8(inside, from));
    }
#else
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
#endif
}

/// Output rows at most whose sums leave registers for codes that stay from one input row to the next. Where products
/// are one instruction, g++ 12 keeps the sums of 5 rows in 16 registers, but would spill 3 of them beside such codes.
template <class Arch>
inline constexpr int most_slots_apart = 5;
#if defined(__x86_64__) || defined(__i386__)
template <>
inline constexpr int most_slots_apart<arch::avx_vnni> = 3;
#endif

/// By pairs of taps, widened to int16: one product fits int16 (2^14), two need not (2^15), their sum is int32.
///
///   channels   `vectors`·lanes codes of one tap, widened
///   pairs      one register of int32 lanes, each with `taps` codes of its channel
template <class Arch>
struct depthwise_steps {
    using isa = Arch;
    using ops = integer<Arch>;
    using reg = typename ops::reg;
    using channels = typename ops::words;
    using lane_taps = typename ops::words;

    static constexpr int taps = 2;     ///< taps in a lane
    static constexpr int vectors = 2;  ///< registers of int32 lanes that one register of channels spreads over
    static constexpr int lanes = vectors * ops::lanes;
    static constexpr int input_offset = 0;
    static constexpr bool halves_apart = simd::halves_apart<ops>;
    /// Weights stay in registers while they fit beside sums and inputs.
    static constexpr int weight_registers = ops::registers - 16;

    /// Lanes [begin, end) of a vector at the border of a row.
    struct part {
        int begin;
        int end;
    };
    static PO2Q_INLINE part part_of(std::int64_t begin, std::int64_t end) {
        return {static_cast<int>(begin), static_cast<int>(end)};
    }
    static PO2Q_INLINE channels load(const std::int8_t* p) { return ops::widen(p); }
    /// Codes of rows outside the image: their products are 0, input_offset included.
    static PO2Q_INLINE channels none() { return ops::zero_words(); }
    /// Reads the part's codes only; the others are 0.
    static PO2Q_INLINE channels load(const std::int8_t* p, part k) {
        if (k.begin == 0 && k.end == lanes) return ops::widen(p);
        std::int8_t codes[lanes] = {};
        for (int i = k.begin; i < k.end; ++i) codes[i] = p[i];
        return ops::widen(codes);
    }
#if defined(__AVX2__)
    /// For blocks of half a vector or less, of a multiple of 8 codes: 8 where a vector has 16.
    struct spread {
        std::int64_t block;
#if defined(__AVX512VL__)
        __m256i index;  ///< of 64 bits: which of two registers' are the blocks
#endif
        PO2Q_INLINE explicit spread(std::int64_t codes) : block(codes) {
#if defined(__AVX512VL__)
            alignas(32) std::int64_t at[4];
            for (std::int64_t q = 0; q < 4; ++q) at[q] = (8 * q / block * 2 * block + 8 * q % block) / 8;
            index = _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
#endif
        }
    };
    static constexpr bool spreads = lanes >= 16;
    static PO2Q_INLINE channels load(const std::int8_t* p, [[maybe_unused]] const spread& s) requires spreads {
#if defined(__AVX512VL__)
        if constexpr (lanes == 32) {
            const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
            const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32));
            return _mm512_cvtepi8_epi16(_mm256_permutex2var_epi64(low, s.index, high));
        } else
#endif
        {
            const __m128i low = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
            const __m128i high = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 16));
            return _mm256_cvtepi8_epi16(_mm_unpacklo_epi64(low, high));
        }
    }
#endif
    static PO2Q_INLINE void interleave(const channels (&x)[taps], lane_taps (&out)[vectors]) {
        out[0] = ops::interleave_low(x[0], x[1]);
        out[1] = ops::interleave_high(x[0], x[1]);
    }
    static PO2Q_INLINE lane_taps load_weights(const std::int32_t* p) {
        return ops::load_words(reinterpret_cast<const std::int16_t*>(p));
    }
    /// acc + Σ_k (x[lane][k] + input_offset) * w[lane][k]
    static PO2Q_INLINE reg dot(reg acc, lane_taps x, lane_taps w) { return ops::multiply_add(acc, x, w); }
    static PO2Q_INLINE reg dot(reg acc, lane_taps x, const std::int32_t* w) { return dot(acc, x, load_weights(w)); }
};

/// The steps for codes of 0..127, where others are faster.
template <class Arch>
struct depthwise_unsigned {
    using steps = depthwise_steps<Arch>;
};

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
/// By four taps as bytes, offset by 128 as vpdpbusd wants them.
template <class Arch>
requires is_at_least<arch::avx512_vnni, Arch>
struct depthwise_steps<Arch> {
    using isa = Arch;
    using ops = integer<Arch>;
    using reg = __m512i;
    using channels = __m512i;
    using lane_taps = __m512i;

    static constexpr int taps = 4;
    static constexpr int vectors = 4;
    static constexpr int lanes = 64;
    static constexpr int input_offset = 128;
    static constexpr int weight_registers = 16;

    using part = __mmask64;
    static PO2Q_INLINE part part_of(std::int64_t begin, std::int64_t end) {
        return begin >= end ? 0 : (~std::uint64_t{0} << begin) & (~std::uint64_t{0} >> (64 - end));
    }
    static PO2Q_INLINE channels offset(__m512i codes) {
        return _mm512_xor_si512(codes, _mm512_set1_epi8(static_cast<char>(0x80)));
    }
    static PO2Q_INLINE channels load(const std::int8_t* p) { return offset(_mm512_loadu_si512(p)); }
    static PO2Q_INLINE channels none() { return _mm512_setzero_si512(); }
    static PO2Q_INLINE channels load(const std::int8_t* p, part k) { return offset(_mm512_maskz_loadu_epi8(k, p)); }

    /// For blocks of 8, 16 or 32 codes.
    struct spread {
        std::int64_t block;
        __m512i index;  ///< of 64 bits: which of two registers' are the blocks
        PO2Q_INLINE explicit spread(std::int64_t codes) : block(codes) {
            alignas(64) std::int64_t at[8];
            for (std::int64_t q = 0; q < 8; ++q) at[q] = (8 * q / block * 2 * block + 8 * q % block) / 8;
            index = _mm512_load_si512(at);
        }
        PO2Q_INLINE __m512i codes(const std::int8_t* p) const {
            return _mm512_permutex2var_epi64(_mm512_loadu_si512(p), index, _mm512_loadu_si512(p + 64));
        }
    };
    static constexpr bool spreads = true;
    static PO2Q_INLINE channels load(const std::int8_t* p, const spread& s) { return offset(s.codes(p)); }
    static PO2Q_INLINE void interleave(const channels (&x)[taps], lane_taps (&out)[vectors]) {
        const __m512i low = _mm512_unpacklo_epi8(x[0], x[1]);
        const __m512i low_rest = _mm512_unpacklo_epi8(x[2], x[3]);
        out[0] = _mm512_unpacklo_epi16(low, low_rest);
        out[1] = _mm512_unpackhi_epi16(low, low_rest);
        const __m512i high = _mm512_unpackhi_epi8(x[0], x[1]);
        const __m512i high_rest = _mm512_unpackhi_epi8(x[2], x[3]);
        out[2] = _mm512_unpacklo_epi16(high, high_rest);
        out[3] = _mm512_unpackhi_epi16(high, high_rest);
    }
    static PO2Q_INLINE lane_taps load_weights(const std::int32_t* p) { return _mm512_loadu_si512(p); }
    static PO2Q_INLINE reg dot(reg acc, lane_taps x, lane_taps w) { return ops::dot_bytes(acc, x, w); }
    static PO2Q_INLINE reg dot(reg acc, lane_taps x, const std::int32_t* w) {
#if defined(__clang__)
        return dot(acc, x, load_weights(w));
#else
        // As dot_bytes, with the load in it.
        asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "m"(*reinterpret_cast<const __m512i_u*>(w)));
        return acc;
#endif
    }
};

/// Codes of 0..127 are what vpdpbusd wants.
template <class Arch>
struct depthwise_unsigned_avx512_vnni : depthwise_steps<Arch> {
    static constexpr int input_offset = 0;
    using channels = __m512i;
    using part = __mmask64;
    using spread = typename depthwise_steps<Arch>::spread;
    static PO2Q_INLINE channels load(const std::int8_t* p) {
        __m512i codes = _mm512_loadu_si512(p);
#if !defined(__clang__)
        asm("" : "+v"(codes));  // once, not as an operand of each instruction that reads it
#endif
        return codes;
    }
    static PO2Q_INLINE channels load(const std::int8_t* p, part k) { return _mm512_maskz_loadu_epi8(k, p); }
    static PO2Q_INLINE channels load(const std::int8_t* p, const spread& s) { return s.codes(p); }
};
template <class Arch>
requires is_at_least<arch::avx512_vnni, Arch>
struct depthwise_unsigned<Arch> {
    using steps = depthwise_unsigned_avx512_vnni<Arch>;
};
#endif

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
/// By four taps as bytes.
template <class Arch>
requires is_at_least<arch::neon_dotprod, Arch>
struct depthwise_steps<Arch> {
    using isa = Arch;
    using ops = integer<Arch>;
    using reg = int32x4_t;
    using channels = int8x16_t;
    using lane_taps = int8x16_t;

    static constexpr int taps = 4;
    static constexpr int vectors = 4;
    static constexpr int lanes = 16;
    static constexpr int input_offset = 0;
    static constexpr int weight_registers = 12;

    struct part {
        int begin;
        int end;
    };
    static PO2Q_INLINE part part_of(std::int64_t begin, std::int64_t end) {
        return {static_cast<int>(begin), static_cast<int>(end)};
    }
    static PO2Q_INLINE channels load(const std::int8_t* p) { return vld1q_s8(p); }
    static PO2Q_INLINE channels none() { return vdupq_n_s8(0); }
    /// Reads the part's codes only; the others are 0.
    static PO2Q_INLINE channels load(const std::int8_t* p, part k) {
        if (k.begin == 0 && k.end == lanes) return vld1q_s8(p);
        std::int8_t codes[lanes] = {};
        for (int i = k.begin; i < k.end; ++i) codes[i] = p[i];
        return vld1q_s8(codes);
    }
    /// For blocks of 8 codes.
    struct spread {
        PO2Q_INLINE explicit spread(std::int64_t) {}
    };
    static constexpr bool spreads = true;
    static PO2Q_INLINE channels load(const std::int8_t* p, const spread&) {
        return vcombine_s8(vld1_s8(p), vld1_s8(p + 16));
    }
    static PO2Q_INLINE void interleave(const channels (&x)[taps], lane_taps (&out)[vectors]) {
        const int16x8_t low = vreinterpretq_s16_s8(vzip1q_s8(x[0], x[1]));
        const int16x8_t low_rest = vreinterpretq_s16_s8(vzip1q_s8(x[2], x[3]));
        out[0] = vreinterpretq_s8_s16(vzip1q_s16(low, low_rest));
        out[1] = vreinterpretq_s8_s16(vzip2q_s16(low, low_rest));
        const int16x8_t high = vreinterpretq_s16_s8(vzip2q_s8(x[0], x[1]));
        const int16x8_t high_rest = vreinterpretq_s16_s8(vzip2q_s8(x[2], x[3]));
        out[2] = vreinterpretq_s8_s16(vzip1q_s16(high, high_rest));
        out[3] = vreinterpretq_s8_s16(vzip2q_s16(high, high_rest));
    }
    static PO2Q_INLINE lane_taps load_weights(const std::int32_t* p) { return vreinterpretq_s8_s32(vld1q_s32(p)); }
    static PO2Q_INLINE reg dot(reg acc, lane_taps x, lane_taps w) { return vdotq_s32(acc, x, w); }
    static PO2Q_INLINE reg dot(reg acc, lane_taps x, const std::int32_t* w) { return dot(acc, x, load_weights(w)); }
};
#endif

/// Steps that have spread loads.
template <class Steps>
concept spreading = requires {
    typename Steps::spread;
    requires Steps::spreads;
};

}  // namespace po2quant::simd
