#pragma once
/// Integer primitives of AVX2: as SSE4.1's, twice as wide, with a shift count per lane.
#include <po2quant/simd/integer_sse4_1.hpp>

#if defined(__AVX2__)

namespace po2quant::simd {

template <>
struct integer<arch::avx2> {
    static constexpr int lanes = 8;
    static constexpr int registers = 16;

    using reg = __m256i;
    using words = __m256i;
    using bytes = __m256i;
    using floats = __m256;

    static PO2Q_INLINE reg load(const std::int32_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static PO2Q_INLINE void store(std::int32_t* p, reg r) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), r); }
    static PO2Q_INLINE reg set(std::int32_t v) { return _mm256_set1_epi32(v); }
    static PO2Q_INLINE reg load_codes(const std::int8_t* p) {
        return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    }
    static PO2Q_INLINE reg load_codes(const std::int16_t* p) {
        return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static PO2Q_INLINE reg add(reg a, reg b) { return _mm256_add_epi32(a, b); }
    static PO2Q_INLINE reg sub(reg a, reg b) { return _mm256_sub_epi32(a, b); }
    static PO2Q_INLINE reg bit_and(reg a, reg b) { return _mm256_and_si256(a, b); }
    static PO2Q_INLINE reg shift_right(reg a, reg count) { return _mm256_srav_epi32(a, count); }
    static PO2Q_INLINE reg shift_right_logical(reg a, reg count) { return _mm256_srlv_epi32(a, count); }
    static PO2Q_INLINE reg shift_left(reg a, reg count) { return _mm256_sllv_epi32(a, count); }

    static PO2Q_INLINE std::int32_t first_codes(const std::int8_t* p, int count) {
        return integer<arch::sse4_1>::first_codes(p, count);
    }
    static PO2Q_INLINE __m256i broadcast_dword(const void* p) { return _mm256_broadcastd_epi32(_mm_loadu_si32(p)); }
    static PO2Q_INLINE __m256i load_weights(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }

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
            __m256i even;
            __m256i odd;
        };
        static PO2Q_INLINE step widen(__m256i x) {
            return {_mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8), _mm256_srai_epi16(x, 8)};
        }
        static PO2Q_INLINE step broadcast(const input* p) { return widen(broadcast_dword(p)); }
        static PO2Q_INLINE step broadcast_first(const input* p, int count) {
            return widen(_mm256_set1_epi32(first_codes(p, count)));
        }
        static PO2Q_INLINE step load(const weight* p) { return {load_weights(p), load_weights(p + 2 * lanes)}; }
        static PO2Q_INLINE reg dot(reg acc, step x, step w) {
            acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x.even, w.even));
            return _mm256_add_epi32(acc, _mm256_madd_epi16(x.odd, w.odd));
        }
    };
    /// Codes of 0..127: sums of two products with int8 fit int16.
    struct dot_u7 {
        using input = std::int8_t;
        using weight = std::int8_t;
        static constexpr int codes = 4;
        static constexpr int registers = 1;
        static constexpr bool keep_weights = true;
        static constexpr int scratch = 2;
        static constexpr int input_offset = 0;

        struct step {
            __m256i quad;
        };
        static PO2Q_INLINE step broadcast(const input* p) { return {broadcast_dword(p)}; }
        static PO2Q_INLINE step broadcast_first(const input* p, int count) {
            return {_mm256_set1_epi32(first_codes(p, count))};
        }
        static PO2Q_INLINE step load(const weight* p) { return {load_weights(p)}; }
        static PO2Q_INLINE reg dot(reg acc, step x, step w) {
            return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x.quad, w.quad), _mm256_set1_epi16(1)));
        }
    };
    struct dot_i16 {
        using input = std::int16_t;
        using weight = std::int16_t;
        static constexpr int codes = 2;
        static constexpr int registers = 1;
        static constexpr bool keep_weights = true;
        static constexpr int scratch = 1;
        static constexpr int input_offset = 0;

        struct step {
            __m256i pair;
        };
        static PO2Q_INLINE step broadcast(const input* p) { return {broadcast_dword(p)}; }
        static PO2Q_INLINE step broadcast_first(const input* p, int) {
            return {_mm256_set1_epi32(static_cast<std::uint16_t>(p[0]))};
        }
        static PO2Q_INLINE step load(const weight* p) { return {load_weights(p)}; }
        static PO2Q_INLINE reg dot(reg acc, step x, step w) {
            return _mm256_add_epi32(acc, _mm256_madd_epi16(x.pair, w.pair));
        }
    };

    static PO2Q_INLINE words widen(const std::int8_t* p) {
        return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static PO2Q_INLINE words widen_first(const std::int8_t* p, int count) {
        std::int8_t part[16] = {};
        for (int i = 0; i < count; ++i) part[i] = p[i];
        return widen(part);
    }
    static PO2Q_INLINE words load_words(const std::int16_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static PO2Q_INLINE words zero_words() { return _mm256_setzero_si256(); }
    static PO2Q_INLINE words interleave_low(words a, words b) { return _mm256_unpacklo_epi16(a, b); }
    static PO2Q_INLINE words interleave_high(words a, words b) { return _mm256_unpackhi_epi16(a, b); }
    static PO2Q_INLINE reg multiply_add(reg acc, words a, words b) {
        return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
    }
    static PO2Q_INLINE words set_words(int v) { return _mm256_set1_epi16(static_cast<short>(v)); }
    static PO2Q_INLINE words add_words(words a, words b) { return _mm256_add_epi16(a, b); }
    static PO2Q_INLINE words and_words(words a, words b) { return _mm256_and_si256(a, b); }
    static PO2Q_INLINE words max_words(words a, words b) { return _mm256_max_epi16(a, b); }
    static PO2Q_INLINE words shift_left_words(words a, int count) {
        return _mm256_sll_epi16(a, _mm_cvtsi32_si128(count));
    }
    static PO2Q_INLINE words shift_right_words(words a, int count) {
        return _mm256_sra_epi16(a, _mm_cvtsi32_si128(count));
    }
    static PO2Q_INLINE void store_words(std::int8_t* p, words low, words high, code_range range) {
        store_bytes(p, _mm256_permute4x64_epi64(pack_codes(low, high, range), 0xd8));
    }
    static PO2Q_INLINE bytes load_bytes(const std::int8_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static PO2Q_INLINE void store_bytes(std::int8_t* p, bytes b) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), b);
    }
    static PO2Q_INLINE bytes max_bytes(bytes a, bytes b) { return _mm256_max_epi8(a, b); }

    template <int Rows>
    static PO2Q_INLINE void interleave_rows(const std::int8_t* const (&row)[Rows], std::int32_t* to) {
        integer<arch::sse4_1>::interleave_rows(row, to);
    }

    static constexpr int channel_of(int vectors, int vector, int lane) {
        return integer_generic::channel_of(vectors, vector, lane);
    }
    static PO2Q_INLINE words narrow(reg a, reg b) { return _mm256_packs_epi32(a, b); }
    static PO2Q_INLINE words multiply_high(words a, words b) { return _mm256_mulhi_epi16(a, b); }
    /// Packs and clamps. Where codes are not negative, the pack takes care of one side.
    static PO2Q_INLINE bytes pack_codes(words low, words high, code_range range) {
        const __m256i most = _mm256_set1_epi8(static_cast<char>(range.high));
        if (range.low == 0) return _mm256_min_epu8(_mm256_packus_epi16(low, high), most);
        const __m256i least = _mm256_set1_epi8(static_cast<char>(range.low));
        return _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(low, high), least), most);
    }
    template <int Vectors>
    static PO2Q_INLINE void store_narrowed(std::int8_t* p, const words (&w)[(Vectors + 1) / 2], code_range range,
                                           int count) {
        static_assert(Vectors >= 1 && Vectors <= 4);
        __m256i codes = pack_codes(w[0], w[(Vectors - 1) / 2], range);
        // With fewer than 4 registers some codes stand more than once in each 128 bits: the first of each side by side.
        if constexpr (Vectors == 3)
            codes = _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 0, 0));
        if constexpr (Vectors == 2) codes = _mm256_permute4x64_epi64(codes, 0x08);
        if constexpr (Vectors == 1)
            codes = _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 0, 0, 0, 0, 0, 0));
        if (count >= Vectors * lanes) {
            if constexpr (Vectors == 4) _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), codes);
            else if constexpr (Vectors >= 2)
                _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(codes));
            if constexpr (Vectors == 3)
                _mm_storel_epi64(reinterpret_cast<__m128i*>(p + 16), _mm256_extracti128_si256(codes, 1));
            if constexpr (Vectors == 1) _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(codes));
            return;
        }
        alignas(32) std::int8_t part[32];
        _mm256_store_si256(reinterpret_cast<__m256i*>(part), codes);
        for (int i = 0; i < count; ++i) p[i] = part[i];
    }

    static PO2Q_INLINE floats scale(reg a, const float* scale, const float* addend) {
        return _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(a), _mm256_loadu_ps(scale)), _mm256_loadu_ps(addend));
    }
    /// Register v's 128 bits h are the channels from 4 · (h · Vectors + v) on: number k of these quadruples is half
    /// k / Vectors of register k % Vectors.
    template <int Vectors>
    static PO2Q_INLINE void store_channels(float* p, const floats (&y)[Vectors], int count, bool stream) {
        const auto store_all = [&y](float* to, auto store) PO2Q_INLINE_LAMBDA {
            unroll<Vectors>([&](auto i) PO2Q_INLINE_LAMBDA {
                constexpr int first = 2 * i;
                constexpr int second = 2 * i + 1;
                store(to + i * lanes, _mm256_permute2f128_ps(y[first % Vectors], y[second % Vectors],
                                                             first / Vectors + 16 * (2 + second / Vectors)));
            });
        };
        const auto cached = [](float* to, floats v) PO2Q_INLINE_LAMBDA { _mm256_storeu_ps(to, v); };
        if (count >= Vectors * lanes) {
            if (stream) store_all(p, [](float* to, floats v) PO2Q_INLINE_LAMBDA { _mm256_stream_ps(to, v); });
            else store_all(p, cached);
            return;
        }
        float part[Vectors * lanes];
        store_all(part, cached);
        for (int i = 0; i < count; ++i) p[i] = part[i];
    }
};

}  // namespace po2quant::simd
#endif
