#pragma once
/// Exponent fields of floats as bytes, and how often each of 16 neighbouring values occurs among many bytes.
///
/// A byte in the window becomes a bit of its own by a table look-up, one of 8 in each of two registers; carry-save
/// adders (Harley and Seal) sum such registers bit by bit, so that bits are counted one by one in every sixteenth only.
#include <po2quant/simd/floating.hpp>

namespace po2quant::simd {

/// Operations on a register of bytes; `available` where an instruction set has them.
template <class Arch>
struct byte_counts {
    static constexpr bool available = false;
};

#if defined(__aarch64__)
template <class Arch>
requires is_at_least<arch::generic, Arch>
struct byte_counts<Arch> {
    static constexpr bool available = true;
    static constexpr std::size_t lanes = 16;
    using reg = uint8x16_t;

    static PO2Q_INLINE reg load(const std::uint8_t* p) { return vld1q_u8(p); }
    static PO2Q_INLINE void store(std::uint8_t* p, reg v) { vst1q_u8(p, v); }
    static PO2Q_INLINE reg set(int v) { return vdupq_n_u8(static_cast<std::uint8_t>(v)); }
    static PO2Q_INLINE reg zero() { return vdupq_n_u8(0); }
    /// The exponent fields of `lanes` floats, in order.
    static PO2Q_INLINE reg exponents(const float* p) {
        const auto field = [&](int k) PO2Q_INLINE_LAMBDA {  // in upper halves
            const uint16x8_t upper = vuzp2q_u16(vreinterpretq_u16_f32(vld1q_f32(p + 8 * k)),
                                                vreinterpretq_u16_f32(vld1q_f32(p + 8 * k + 4)));
            return vreinterpretq_u8_u16(vaddq_u16(upper, upper));
        };
        return vuzp2q_u8(field(0), field(1));
    }
    static PO2Q_INLINE reg sub(reg a, reg b) { return vsubq_u8(a, b); }
    static PO2Q_INLINE reg add_saturated(reg a, reg b) { return vqaddq_u8(a, b); }
    /// Bit b % 8 of bytes b of 0x70..0x77 (first half) or 0x78..0x7f (second); 0 for 0x80 and more.
    template <int Half>
    static PO2Q_INLINE reg bit_of(reg b) {
        const uint8x8_t bits = vcreate_u8(0x8040201008040201ULL);
        const reg table = Half == 0 ? vcombine_u8(bits, vdup_n_u8(0)) : vcombine_u8(vdup_n_u8(0), bits);
        return vqtbl1q_u8(table, veorq_u8(b, set(0x70)));  // 0 for an index of 16 and more
    }
    static PO2Q_INLINE reg exclusive_or(reg a, reg b, reg c) { return veorq_u8(veorq_u8(a, b), c); }
    static PO2Q_INLINE reg majority(reg a, reg b, reg c) { return vbslq_u8(veorq_u8(a, b), c, a); }
    template <int K>
    static PO2Q_INLINE std::uint64_t with_bit(reg v) {
        return vaddvq_u8(vshrq_n_u8(vshlq_n_u8(v, 7 - K), 7));
    }
    static PO2Q_INLINE std::uint64_t bits(reg mask) {
        const reg own = vandq_u8(mask, vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201ULL)));
        return vaddv_u8(vget_low_u8(own)) | static_cast<std::uint64_t>(vaddv_u8(vget_high_u8(own))) << 8;
    }
    static PO2Q_INLINE std::uint64_t high_bits(reg v) { return bits(vcltzq_s8(vreinterpretq_s8_u8(v))); }
    static PO2Q_INLINE std::uint64_t zeros(reg v) { return bits(vceqzq_u8(v)); }
};
#endif

#if defined(__AVX2__)
PO2Q_INLINE __m128i bit_table(int half) {
    constexpr long long bits = static_cast<long long>(0x8040201008040201ULL);
    return half == 0 ? _mm_set_epi64x(0, bits) : _mm_set_epi64x(bits, 0);
}

template <class Arch>
requires(is_at_least<arch::avx2, Arch> && !is_at_least<arch::avx512bw, Arch>) struct byte_counts<Arch> {
    static constexpr bool available = true;
    static constexpr std::size_t lanes = 32;
    using reg = __m256i;

    static PO2Q_INLINE reg load(const std::uint8_t* p) {
        return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
    }
    static PO2Q_INLINE void store(std::uint8_t* p, reg v) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), v); }
    static PO2Q_INLINE reg set(int v) { return _mm256_set1_epi8(static_cast<char>(v)); }
    static PO2Q_INLINE reg zero() { return _mm256_setzero_si256(); }
    /// The exponent fields of `lanes` floats, in some order.
    static PO2Q_INLINE reg exponents(const float* p) {
        const auto field = [&](int k) PO2Q_INLINE_LAMBDA {
            return _mm256_srli_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8 * k)), 23);
        };
        const __m256i low = _mm256_set1_epi16(0xff);
        const __m256i a = _mm256_and_si256(_mm256_packus_epi32(field(0), field(1)), low);
        const __m256i b = _mm256_and_si256(_mm256_packus_epi32(field(2), field(3)), low);
        return _mm256_packus_epi16(a, b);
    }
    static PO2Q_INLINE reg sub(reg a, reg b) { return _mm256_sub_epi8(a, b); }
    static PO2Q_INLINE reg add_saturated(reg a, reg b) { return _mm256_adds_epu8(a, b); }
    /// Bit b % 8 of bytes b whose low 4 bits are 0..7 (first half) or 8..15 (second); 0 for the others and b >= 128.
    template <int Half>
    static PO2Q_INLINE reg bit_of(reg b) {
        return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bit_table(Half)), b);
    }
    static PO2Q_INLINE reg exclusive_or(reg a, reg b, reg c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
    static PO2Q_INLINE reg majority(reg a, reg b, reg c) {
        const reg either = _mm256_xor_si256(a, b);
        return _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(either, c));
    }
    /// Bytes that have bit K.
    template <int K>
    static PO2Q_INLINE std::uint64_t with_bit(reg v) {
        return static_cast<std::uint64_t>(
            __builtin_popcount(static_cast<unsigned>(_mm256_movemask_epi8(_mm256_slli_epi16(v, 7 - K)))));
    }
    /// One bit per byte: >= 128; equal to 0.
    static PO2Q_INLINE std::uint64_t high_bits(reg v) { return static_cast<std::uint32_t>(_mm256_movemask_epi8(v)); }
    static PO2Q_INLINE std::uint64_t zeros(reg v) { return high_bits(_mm256_cmpeq_epi8(v, zero())); }
};
#endif

#if defined(__AVX512BW__)
template <class Arch>
requires is_at_least<arch::avx512bw, Arch>
struct byte_counts<Arch> {
    static constexpr bool available = true;
    static constexpr std::size_t lanes = 64;
    using reg = __m512i;

    static PO2Q_INLINE reg load(const std::uint8_t* p) { return _mm512_load_si512(p); }
    static PO2Q_INLINE void store(std::uint8_t* p, reg v) { _mm512_store_si512(p, v); }
    static PO2Q_INLINE reg set(int v) { return _mm512_set1_epi8(static_cast<char>(v)); }
    static PO2Q_INLINE reg zero() { return _mm512_setzero_si512(); }
    static PO2Q_INLINE reg exponents(const float* p) {
        const auto field = [&](int k)
                               PO2Q_INLINE_LAMBDA { return _mm512_srli_epi32(_mm512_loadu_si512(p + 16 * k), 23); };
        const __m512i low = _mm512_set1_epi16(0xff);
        const __m512i a = _mm512_and_si512(_mm512_packus_epi32(field(0), field(1)), low);
        const __m512i b = _mm512_and_si512(_mm512_packus_epi32(field(2), field(3)), low);
        return _mm512_packus_epi16(a, b);
    }
    static PO2Q_INLINE reg sub(reg a, reg b) { return _mm512_sub_epi8(a, b); }
    static PO2Q_INLINE reg add_saturated(reg a, reg b) { return _mm512_adds_epu8(a, b); }
    template <int Half>
    static PO2Q_INLINE reg bit_of(reg b) {
        return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(bit_table(Half)), b);
    }
    static PO2Q_INLINE reg exclusive_or(reg a, reg b, reg c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
    static PO2Q_INLINE reg majority(reg a, reg b, reg c) { return _mm512_ternarylogic_epi64(a, b, c, 0xe8); }
    template <int K>
    static PO2Q_INLINE std::uint64_t with_bit(reg v) {
        return static_cast<std::uint64_t>(__builtin_popcountll(_mm512_test_epi8_mask(v, set(1 << K))));
    }
    static PO2Q_INLINE std::uint64_t high_bits(reg v) { return _mm512_movepi8_mask(v); }
    static PO2Q_INLINE std::uint64_t zeros(reg v) { return _mm512_testn_epi8_mask(v, v); }
};
#endif

}  // namespace po2quant::simd
