#pragma once
/// Comparisons of float batches as bits, one per lane from the lowest on, and stores around the cache.
#include <bit>

#include <po2quant/simd/floating.hpp>
#include <po2quant/simd/unroll.hpp>

namespace po2quant::simd {

#if __ARM_FEATURE_SVE_BITS == 256
/// 1, 2, 4, …
PO2Q_INLINE svuint32_t lane_bits() { return svlsl_u32_x(svptrue_b32(), svdup_n_u32(1), svindex_u32(0, 1)); }
#endif

/// Bit i is low[i] <= v[i] <= high[i]; NaN lies inside nothing.
template <class Arch>
PO2Q_INLINE std::uint32_t inside_bits(const f32<Arch>& v, const f32<Arch>& low, const f32<Arch>& high) {
#if defined(__AVX512F__)
    if constexpr (is_at_least<arch::avx512bw, Arch>)
        return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(low, v, _CMP_LE_OQ), v, high, _CMP_LE_OQ);
#endif
#if defined(__AVX2__)
    if constexpr (is_at_least<arch::avx2, Arch> && f32<Arch>::size == 8)
        return static_cast<std::uint32_t>(
            _mm256_movemask_ps(_mm256_and_ps(_mm256_cmp_ps(low, v, _CMP_LE_OQ), _mm256_cmp_ps(v, high, _CMP_LE_OQ))));
#endif
#if defined(__SSE2__)
    if constexpr (f32<Arch>::size == 4)
        return static_cast<std::uint32_t>(_mm_movemask_ps(_mm_and_ps(_mm_cmple_ps(low, v), _mm_cmple_ps(v, high))));
#endif
#if defined(__aarch64__)
    if constexpr (f32<Arch>::size == 4)
        return vaddvq_u32(vandq_u32(vandq_u32(vcleq_f32(low, v), vcleq_f32(v, high)), uint32x4_t{1, 2, 4, 8}));
#endif
#if __ARM_FEATURE_SVE_BITS == 256
    if constexpr (is_at_least<arch::sve256, Arch>)
        return static_cast<std::uint32_t>(
            svaddv_u32(svcmple_f32(svcmple_f32(svptrue_b32(), low, v), v, high), lane_bits()));
#endif
    constexpr std::size_t lanes = f32<Arch>::size;
    alignas(64) float inside[lanes];
    xsimd::select((low <= v) & (v <= high), f32<Arch>(1.0F), f32<Arch>(0.0F)).store_aligned(inside);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < lanes; ++i) bits |= static_cast<std::uint32_t>(inside[i] != 0) << i;
    return bits;
}

/// v, loaded as a whole. Without this, compilers fold a load into the masked one that selects from it, which cannot
/// begin before the mask is known: a gradient that waits for the input it is masked by runs at half the speed of
/// memory.
template <class Arch>
PO2Q_INLINE f32<Arch> loaded(const f32<Arch>& v) {
#if defined(__AVX512F__)
    if constexpr (is_at_least<arch::avx512bw, Arch>) {
        __m512 r = v;
        asm("" : "+v"(r));
        return f32<Arch>(r);
    }
#endif
    return v;
}

/// v[i] where bit i is set, else +0.
template <class Arch>
PO2Q_INLINE f32<Arch> select_bits(std::uint32_t bits, const f32<Arch>& v) {
#if defined(__AVX512F__)
    if constexpr (is_at_least<arch::avx512bw, Arch>)
        return f32<Arch>(_mm512_maskz_mov_ps(static_cast<__mmask16>(bits), v));
#endif
#if defined(__AVX2__)
    if constexpr (is_at_least<arch::avx2, Arch> && f32<Arch>::size == 8) {
        const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        const __m256i own = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane);
        return f32<Arch>(_mm256_and_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(own, lane)), v));
    }
#endif
#if defined(__SSE2__)
    if constexpr (f32<Arch>::size == 4) {
        const __m128i lane = _mm_setr_epi32(1, 2, 4, 8);
        const __m128i own = _mm_and_si128(_mm_set1_epi32(static_cast<int>(bits)), lane);
        return f32<Arch>(_mm_and_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(own, lane)), v));
    }
#endif
#if defined(__aarch64__)
    if constexpr (f32<Arch>::size == 4) {
        const uint32x4_t own = vtstq_u32(vdupq_n_u32(bits), uint32x4_t{1, 2, 4, 8});
        return f32<Arch>(vreinterpretq_f32_u32(vandq_u32(own, vreinterpretq_u32_f32(v))));
    }
#endif
#if __ARM_FEATURE_SVE_BITS == 256
    if constexpr (is_at_least<arch::sve256, Arch>) {
        const svbool_t all = svptrue_b32();
        const svbool_t set = svcmpne_n_u32(all, svand_n_u32_x(all, lane_bits(), bits), 0);
        return f32<Arch>(svsel_f32(set, v, svdup_n_f32(0)));
    }
#endif
    constexpr std::size_t lanes = f32<Arch>::size;
    alignas(64) float value[lanes];
    v.store_aligned(value);
    for (std::size_t i = 0; i < lanes; ++i) value[i] = (bits >> i & 1) != 0 ? value[i] : 0.0F;
    return f32<Arch>::load_aligned(value);
}

/// Bits one behind the other, the first in the lowest bit of byte 0: element i is bit i % 8 of byte i / 8.
struct bit_sink {
    std::uint8_t* p;
    std::uint64_t pending;
    int fill;  ///< bits of pending, below 64

    /// Begins behind `bit` < 8 bits that are in p[0] already. A null p takes nothing.
    PO2Q_INLINE explicit bit_sink(std::uint8_t* to, int bit = 0)
        : p(to), pending(bit == 0 ? 0 : *to & ((1U << bit) - 1U)), fill(bit) {}
    PO2Q_INLINE void store(std::uint64_t bits, int bytes) {
        for (int i = 0; i < bytes; ++i) p[i] = static_cast<std::uint8_t>(bits >> (8 * i));
        p += bytes;
    }
    PO2Q_INLINE void store_whole(std::uint64_t bits) {
        if constexpr (std::endian::native == std::endian::little) {
            __builtin_memcpy(p, &bits, 8);
            p += 8;
        } else {
            store(bits, 8);
        }
    }
    /// `count` 1..64 bits; those behind them are 0.
    PO2Q_INLINE void push(std::uint64_t bits, int count) {
        pending |= bits << fill;
        fill += count;
        if (fill < 64) return;
        store_whole(pending);
        fill -= 64;
        pending = fill == 0 ? 0 : bits >> (count - fill);
    }
    PO2Q_INLINE void flush() { store(pending, (fill + 7) / 8); }
};

/// The same, read: `count` 1..64 bits from bit `at` on, nothing behind their last byte.
PO2Q_INLINE std::uint64_t read_bits(const std::uint8_t* p, std::size_t at, int count) {
    const int bit = static_cast<int>(at % 8);
    p += at / 8;
    std::uint64_t bits = 0;
    const int bytes = (bit + count + 7) / 8;
    if (std::endian::native == std::endian::little && bytes >= 8) __builtin_memcpy(&bits, p, 8);
    else
        for (int i = 0; i < bytes && i < 8; ++i) bits |= static_cast<std::uint64_t>(p[i]) << (8 * i);
    bits >>= bit;
    if (bytes == 9) bits |= static_cast<std::uint64_t>(p[8]) << (64 - bit);
    return count == 64 ? bits : bits & ((std::uint64_t{1} << count) - 1U);
}

/// A whole vector past the caches; p is aligned to the vector. stream_fence orders such stores before later ones.
template <class Arch>
PO2Q_INLINE void stream_store(float* p, const f32<Arch>& v) {
#if defined(__AVX512F__)
    if constexpr (is_at_least<arch::avx512bw, Arch>) return _mm512_stream_ps(p, v);
#endif
#if defined(__AVX2__)
    if constexpr (is_at_least<arch::avx2, Arch> && f32<Arch>::size == 8) return _mm256_stream_ps(p, v);
#endif
#if defined(__SSE2__)
    if constexpr (f32<Arch>::size == 4) return _mm_stream_ps(p, v);
#endif
    v.store_aligned(p);
}
/// The same where p is aligned to 16 bytes only, in parts of that size; a CPU joins them to lines.
template <class Arch>
PO2Q_INLINE void stream_parts(float* p, const f32<Arch>& v) {
#if defined(__AVX512F__)
    if constexpr (is_at_least<arch::avx512bw, Arch>) {
        const __m512 all = v;
        unroll<4>([&](auto k) PO2Q_INLINE_LAMBDA {
            constexpr int part = k;  // an immediate without optimization too
            _mm_stream_ps(p + 4 * part, _mm512_extractf32x4_ps(all, part));
        });
        return;
    }
#endif
#if defined(__AVX2__)
    if constexpr (is_at_least<arch::avx2, Arch> && f32<Arch>::size == 8) {
        const __m256 all = v;
        _mm_stream_ps(p, _mm256_castps256_ps128(all));
        _mm_stream_ps(p + 4, _mm256_extractf128_ps(all, 1));
        return;
    }
#endif
    stream_store<Arch>(p, v);
}
template <class Arch>
PO2Q_INLINE void stream_fence() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

}  // namespace po2quant::simd
