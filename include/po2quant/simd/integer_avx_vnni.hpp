#pragma once
/// Integer primitives of AVX-VNNI: AVX2's, with the dot products of VNNI in 256 bits, for CPUs without AVX-512.
#include <po2quant/simd/integer_avx2.hpp>

#if defined(__AVXVNNI__) && defined(__AVX2__)

namespace po2quant::simd {

template <>
struct integer<arch::avx_vnni> : integer<arch::avx2> {
    // As with AVX-512-VNNI: an operand that is read and written keeps g++ from copying accumulators.
    static PO2Q_INLINE reg dot_bytes(reg acc, __m256i codes, __m256i weights) {
#if defined(__clang__)
        return _mm256_dpbusd_avx_epi32(acc, codes, weights);
#else
        asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(codes), "xm"(weights));
        return acc;
#endif
    }
    static PO2Q_INLINE reg multiply_add(reg acc, words a, words b) {
#if defined(__clang__)
        return _mm256_dpwssd_avx_epi32(acc, a, b);
#else
        asm("%{vex%} vpdpwssd %2, %1, %0" : "+x"(acc) : "x"(a), "xm"(b));
        return acc;
#endif
    }

    static PO2Q_INLINE bytes offset_bytes(bytes codes) {
        return _mm256_xor_si256(codes, _mm256_set1_epi8(static_cast<char>(0x80)));
    }
    /// Four codes of 0..127, or any unsigned bytes: what vpdpbusd wants.
    struct dot_u7 : integer<arch::avx2>::dot_u7 {
        static constexpr int scratch = 0;
        static PO2Q_INLINE reg dot(reg acc, step x, step w) { return dot_bytes(acc, x.quad, w.quad); }
    };
    /// Codes + 128 are unsigned.
    struct dot_i8 : dot_u7 {
        static constexpr int input_offset = 128;
        static constexpr int scratch = 1;  // 128 in every byte
        static PO2Q_INLINE step offset(step s) {
            __m256i half = _mm256_set1_epi8(static_cast<char>(0x80));
#if defined(__clang__)
            asm("" : "+x"(half));  // else it sees that one dword can be offset first, and broadcasts from a register
#endif
            return {_mm256_xor_si256(s.quad, half)};
        }
        static PO2Q_INLINE step broadcast(const input* p) { return offset(dot_u7::broadcast(p)); }
        static PO2Q_INLINE step broadcast_first(const input* p, int count) {
            return offset(dot_u7::broadcast_first(p, count));
        }
    };
    struct dot_i16 : integer<arch::avx2>::dot_i16 {
        static constexpr int scratch = 0;
        static PO2Q_INLINE reg dot(reg acc, step x, step w) { return multiply_add(acc, x.pair, w.pair); }
    };
};

}  // namespace po2quant::simd
#endif
