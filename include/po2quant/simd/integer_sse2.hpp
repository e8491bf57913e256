#pragma once
/// Integer primitives of SSE2, which every x86-64 CPU has: int8 products as int16 pairs (pmaddwd).
#include <po2quant/simd/arch.hpp>
#include <po2quant/simd/integer_generic.hpp>
#include <po2quant/simd/unroll.hpp>

#if defined(__SSE2__)
#include <immintrin.h>

namespace po2quant::simd {

template <>
struct integer<arch::sse2> {
    static constexpr int lanes = 4;
    static constexpr int registers = 16;

    using reg = __m128i;
    using words = __m128i;
    using bytes = __m128i;
    using floats = __m128;

    static PO2Q_INLINE reg load(const std::int32_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
    static PO2Q_INLINE void store(std::int32_t* p, reg r) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), r); }
    static PO2Q_INLINE reg set(std::int32_t v) { return _mm_set1_epi32(v); }
    static PO2Q_INLINE reg load_codes(const std::int8_t* p) {
        std::int32_t four;
        __builtin_memcpy(&four, p, 4);
        const __m128i words = _mm_unpacklo_epi8(_mm_setzero_si128(), _mm_cvtsi32_si128(four));  // each code · 256
        return _mm_srai_epi32(_mm_unpacklo_epi16(_mm_setzero_si128(), words), 24);
    }
    static PO2Q_INLINE reg load_codes(const std::int16_t* p) {
        const __m128i words = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
        return _mm_srai_epi32(_mm_unpacklo_epi16(_mm_setzero_si128(), words), 16);
    }
    static PO2Q_INLINE reg add(reg a, reg b) { return _mm_add_epi32(a, b); }
    static PO2Q_INLINE reg sub(reg a, reg b) { return _mm_sub_epi32(a, b); }
    static PO2Q_INLINE reg bit_and(reg a, reg b) { return _mm_and_si128(a, b); }

#if defined(__AVX2__)
    // Narrow registers inside wider code (the last channels of a layer) have a count per lane.
    static PO2Q_INLINE reg shift_right(reg a, reg count) { return _mm_srav_epi32(a, count); }
    static PO2Q_INLINE reg shift_right_logical(reg a, reg count) { return _mm_srlv_epi32(a, count); }
    static PO2Q_INLINE reg shift_left(reg a, reg count) { return _mm_sllv_epi32(a, count); }
#else
    /// SSE has one count for all lanes. Where they differ each lane is shifted by its own in a copy, then joined.
    template <class Shift>
    static PO2Q_INLINE reg shift_each(reg count, Shift shift) {
        const __m128i low = _mm_set_epi32(0, 0, 0, -1);
        const reg r0 = shift(_mm_and_si128(count, low));
        if (_mm_movemask_epi8(_mm_cmpeq_epi32(count, _mm_shuffle_epi32(count, 0))) == 0xffff) return r0;
        const reg r1 = shift(_mm_and_si128(_mm_srli_si128(count, 4), low));
        const reg r2 = shift(_mm_and_si128(_mm_srli_si128(count, 8), low));
        const reg r3 = shift(_mm_srli_si128(count, 12));
        // Lane i of ri.
#if defined(__SSE4_1__)
        return _mm_blend_epi16(_mm_blend_epi16(r0, r1, 0x0c), _mm_blend_epi16(r2, r3, 0xc0), 0xf0);
#else
        const __m128i even = _mm_unpacklo_epi64(r0, _mm_unpackhi_epi64(r2, r2));
        const __m128i odd = _mm_unpacklo_epi64(r1, _mm_unpackhi_epi64(r3, r3));
        const __m128i mask = _mm_set_epi32(-1, 0, -1, 0);
        return _mm_or_si128(_mm_andnot_si128(mask, even), _mm_and_si128(mask, odd));
#endif
    }
    static PO2Q_INLINE reg shift_right(reg a, reg count) {
        return shift_each(count, [a](__m128i n) PO2Q_INLINE_LAMBDA { return _mm_sra_epi32(a, n); });
    }
    static PO2Q_INLINE reg shift_right_logical(reg a, reg count) {
        return shift_each(count, [a](__m128i n) PO2Q_INLINE_LAMBDA { return _mm_srl_epi32(a, n); });
    }
    static PO2Q_INLINE reg shift_left(reg a, reg count) {
        return shift_each(count, [a](__m128i n) PO2Q_INLINE_LAMBDA { return _mm_sll_epi32(a, n); });
    }
#endif

    /// 1..3 codes in the low bytes of an int32, 0 above.
    static PO2Q_INLINE std::int32_t first_codes(const std::int8_t* p, int count) {
        std::uint32_t codes = static_cast<std::uint8_t>(p[0]);
        if (count > 1) codes |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(p[1])) << 8;
        if (count > 2) codes |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(p[2])) << 16;
        return static_cast<std::int32_t>(codes);
    }
    static PO2Q_INLINE __m128i broadcast_dword(const void* p) {
        std::int32_t dword;
        __builtin_memcpy(&dword, p, 4);
        return _mm_set1_epi32(dword);
    }
    /// Packed weights are aligned.
    static PO2Q_INLINE __m128i load_weights(const void* p) { return _mm_load_si128(static_cast<const __m128i*>(p)); }

    /// Any int8, widened to pairs of int16, whose products' sums do not saturate: codes 0, 2 and codes 1, 3.
    struct dot_i8 {
        using input = std::int8_t;
        using weight = std::int16_t;
        static constexpr int codes = 4;
        static constexpr int registers = 2;
        static constexpr bool keep_weights = false;
        static constexpr int scratch = 2;
        static constexpr int input_offset = 0;

        struct step {
            __m128i even;
            __m128i odd;
        };
        static PO2Q_INLINE step widen(__m128i x) {
            return {_mm_srai_epi16(_mm_slli_epi16(x, 8), 8), _mm_srai_epi16(x, 8)};
        }
        static PO2Q_INLINE step broadcast(const input* p) { return widen(broadcast_dword(p)); }
        static PO2Q_INLINE step broadcast_first(const input* p, int count) {
            return widen(_mm_set1_epi32(first_codes(p, count)));
        }
        static PO2Q_INLINE step load(const weight* p) { return {load_weights(p), load_weights(p + 2 * lanes)}; }
        static PO2Q_INLINE reg dot(reg acc, step x, step w) {
            acc = _mm_add_epi32(acc, _mm_madd_epi16(x.even, w.even));
            return _mm_add_epi32(acc, _mm_madd_epi16(x.odd, w.odd));
        }
    };
    using dot_u7 = dot_i8;
    struct dot_i16 {
        using input = std::int16_t;
        using weight = std::int16_t;
        static constexpr int codes = 2;
        static constexpr int registers = 1;
        static constexpr bool keep_weights = true;
        static constexpr int scratch = 1;
        static constexpr int input_offset = 0;

        struct step {
            __m128i pair;
        };
        static PO2Q_INLINE step broadcast(const input* p) { return {broadcast_dword(p)}; }
        static PO2Q_INLINE step broadcast_first(const input* p, int) {
            return {_mm_set1_epi32(static_cast<std::uint16_t>(p[0]))};
        }
        static PO2Q_INLINE step load(const weight* p) { return {load_weights(p)}; }
        static PO2Q_INLINE reg dot(reg acc, step x, step w) {
            return _mm_add_epi32(acc, _mm_madd_epi16(x.pair, w.pair));
        }
    };

    static PO2Q_INLINE words widen(const std::int8_t* p) {
        const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
        return _mm_srai_epi16(_mm_unpacklo_epi8(codes, codes), 8);
    }
    static PO2Q_INLINE words widen_first(const std::int8_t* p, int count) {
        std::int8_t part[8] = {};
        for (int i = 0; i < count; ++i) part[i] = p[i];
        return widen(part);
    }
    static PO2Q_INLINE words load_words(const std::int16_t* p) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    }
    static PO2Q_INLINE words zero_words() { return _mm_setzero_si128(); }
    static PO2Q_INLINE words interleave_low(words a, words b) { return _mm_unpacklo_epi16(a, b); }
    static PO2Q_INLINE words interleave_high(words a, words b) { return _mm_unpackhi_epi16(a, b); }
    static PO2Q_INLINE reg multiply_add(reg acc, words a, words b) { return _mm_add_epi32(acc, _mm_madd_epi16(a, b)); }
    static PO2Q_INLINE words set_words(int v) { return _mm_set1_epi16(static_cast<short>(v)); }
    static PO2Q_INLINE words add_words(words a, words b) { return _mm_add_epi16(a, b); }
    static PO2Q_INLINE words and_words(words a, words b) { return _mm_and_si128(a, b); }
    static PO2Q_INLINE words max_words(words a, words b) { return _mm_max_epi16(a, b); }
    static PO2Q_INLINE words shift_left_words(words a, int count) { return _mm_sll_epi16(a, _mm_cvtsi32_si128(count)); }
    static PO2Q_INLINE words shift_right_words(words a, int count) {
        return _mm_sra_epi16(a, _mm_cvtsi32_si128(count));
    }
    static PO2Q_INLINE void store_words(std::int8_t* p, words low, words high, code_range range) {
        store_bytes(p, pack_codes(low, high, range));
    }
    static PO2Q_INLINE bytes load_bytes(const std::int8_t* p) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    }
    static PO2Q_INLINE void store_bytes(std::int8_t* p, bytes b) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), b); }
    static PO2Q_INLINE bytes max_bytes(bytes a, bytes b) {
        const __m128i greater = _mm_cmpgt_epi8(a, b);
        return _mm_or_si128(_mm_and_si128(greater, a), _mm_andnot_si128(greater, b));
    }

    static PO2Q_INLINE __m128i load_16(const std::int8_t* p) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    }
    static PO2Q_INLINE void store_words_of_pairs(std::int32_t* to, __m128i even, __m128i odd) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_unpacklo_epi16(even, odd));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 4), _mm_unpackhi_epi16(even, odd));
    }
    static PO2Q_INLINE void interleave_rows(const std::int8_t* const (&row)[4], std::int32_t* to) {
        const __m128i r0 = load_16(row[0]);
        const __m128i r1 = load_16(row[1]);
        const __m128i r2 = load_16(row[2]);
        const __m128i r3 = load_16(row[3]);
        store_words_of_pairs(to, _mm_unpacklo_epi8(r0, r1), _mm_unpacklo_epi8(r2, r3));
        store_words_of_pairs(to + 8, _mm_unpackhi_epi8(r0, r1), _mm_unpackhi_epi8(r2, r3));
    }
    static PO2Q_INLINE void interleave_rows(const std::int8_t* const (&row)[2], std::int32_t* to) {
        const __m128i r0 = load_16(row[0]);
        const __m128i r1 = load_16(row[1]);
        // A code twice, shifted right: widened.
        const auto low = [](__m128i r) PO2Q_INLINE_LAMBDA { return _mm_srai_epi16(_mm_unpacklo_epi8(r, r), 8); };
        const auto high = [](__m128i r) PO2Q_INLINE_LAMBDA { return _mm_srai_epi16(_mm_unpackhi_epi8(r, r), 8); };
        store_words_of_pairs(to, low(r0), low(r1));
        store_words_of_pairs(to + 8, high(r0), high(r1));
    }

    static constexpr int channel_of(int vectors, int vector, int lane) {
        return integer_generic::channel_of(vectors, vector, lane);
    }
    static PO2Q_INLINE words narrow(reg a, reg b) { return _mm_packs_epi32(a, b); }
    static PO2Q_INLINE words multiply_high(words a, words b) { return _mm_mulhi_epi16(a, b); }
    /// Packs and clamps. Where codes are not negative, the pack takes care of one side.
    static PO2Q_INLINE bytes pack_codes(words low, words high, code_range range) {
        if (range.low == 0)
            return _mm_min_epu8(_mm_packus_epi16(low, high), _mm_set1_epi8(static_cast<char>(range.high)));
#if defined(__SSE4_1__)
        return _mm_min_epi8(_mm_max_epi8(_mm_packs_epi16(low, high), _mm_set1_epi8(static_cast<char>(range.low))),
                            _mm_set1_epi8(static_cast<char>(range.high)));
#else
        const __m128i least = _mm_set1_epi16(static_cast<short>(range.low));
        const __m128i most = _mm_set1_epi16(static_cast<short>(range.high));
        return _mm_packs_epi16(_mm_min_epi16(_mm_max_epi16(low, least), most),
                               _mm_min_epi16(_mm_max_epi16(high, least), most));
#endif
    }
    template <int Vectors>
    static PO2Q_INLINE void store_narrowed(std::int8_t* p, const words (&w)[(Vectors + 1) / 2], code_range range,
                                           int count) {
        static_assert(Vectors >= 1 && Vectors <= 4);
        const __m128i codes = pack_codes(w[0], w[(Vectors - 1) / 2], range);
        if (count >= Vectors * lanes) {
            if constexpr (Vectors == 4) _mm_storeu_si128(reinterpret_cast<__m128i*>(p), codes);
            else if constexpr (Vectors >= 2) _mm_storel_epi64(reinterpret_cast<__m128i*>(p), codes);
            if constexpr (Vectors == 3) store_four(p + 8, _mm_srli_si128(codes, 8));
            if constexpr (Vectors == 1) store_four(p, codes);
            return;
        }
        alignas(16) std::int8_t part[16];
        _mm_store_si128(reinterpret_cast<__m128i*>(part), codes);
        for (int i = 0; i < count; ++i) p[i] = part[i];
    }
    static PO2Q_INLINE floats scale(reg a, const float* scale, const float* addend) {
        return _mm_add_ps(_mm_mul_ps(_mm_cvtepi32_ps(a), _mm_loadu_ps(scale)), _mm_loadu_ps(addend));
    }
    /// A register holds 4 neighbouring channels, whatever their number.
    template <int Vectors>
    static PO2Q_INLINE void store_channels(float* p, const floats (&y)[Vectors], int count, bool stream) {
        if (count >= Vectors * lanes) {
            unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA { store_four(p + v * lanes, y[v], stream); });
            return;
        }
        float part[Vectors * lanes];
        unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA { _mm_storeu_ps(part + v * lanes, y[v]); });
        for (int i = 0; i < count; ++i) p[i] = part[i];
    }
    static PO2Q_INLINE void store_four(float* p, __m128 y, bool stream) {
        if (stream) _mm_stream_ps(p, y);
        else _mm_storeu_ps(p, y);
    }
    static PO2Q_INLINE void store_four(std::int8_t* p, __m128i codes) {
        const std::int32_t four = _mm_cvtsi128_si32(codes);
        __builtin_memcpy(p, &four, 4);
    }
};

}  // namespace po2quant::simd
#endif
