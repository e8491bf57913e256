#pragma once
/// Integer primitives of SSE4.1: SSE2's, with sign extensions and blends of one instruction.
#include <po2quant/simd/integer_sse2.hpp>

#if defined(__SSE4_1__)
#include <immintrin.h>

namespace po2quant::simd {

template <>
struct integer<arch::sse4_1> : integer<arch::sse2> {
    using integer<arch::sse2>::load_codes;
    static PO2Q_INLINE reg load_codes(const std::int8_t* p) {
        std::int32_t four;
        __builtin_memcpy(&four, p, 4);
        return _mm_cvtepi8_epi32(_mm_cvtsi32_si128(four));
    }
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
            __m128i quad;
        };
        static PO2Q_INLINE step broadcast(const input* p) { return {broadcast_dword(p)}; }
        static PO2Q_INLINE step broadcast_first(const input* p, int count) {
            return {_mm_set1_epi32(first_codes(p, count))};
        }
        static PO2Q_INLINE step load(const weight* p) { return {load_weights(p)}; }
        static PO2Q_INLINE reg dot(reg acc, step x, step w) {
            return _mm_add_epi32(acc, _mm_madd_epi16(_mm_maddubs_epi16(x.quad, w.quad), _mm_set1_epi16(1)));
        }
    };

    static PO2Q_INLINE words widen(const std::int8_t* p) {
        return _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    }
    static PO2Q_INLINE words widen_first(const std::int8_t* p, int count) {
        std::int8_t part[8] = {};
        for (int i = 0; i < count; ++i) part[i] = p[i];
        return widen(part);
    }
    static PO2Q_INLINE bytes max_bytes(bytes a, bytes b) { return _mm_max_epi8(a, b); }
};

}  // namespace po2quant::simd
#endif
