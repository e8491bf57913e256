#pragma once
/// Loads and stores of float batches from and to every storage type (numerics/storage.hpp): whole vectors, the first
/// lanes of one, and past the caches. Equal to to_float and to_storage in every lane but for the bits of NaN.
///
/// Integer operations do it everywhere; where F16C, AVX-512 or AArch64 are there, they convert float16 in one
/// instruction.
/// AVX-512 BF16 is of no use: its conversions take subnormal numbers for 0.
#include <po2quant/numerics/storage.hpp>
#include <po2quant/simd/mask.hpp>

namespace po2quant::simd {

// ---- float ----------------------------------------------------------------------------------------------------------

template <class Arch>
PO2Q_INLINE f32<Arch> load(const float* p) {
    return f32<Arch>::load_unaligned(p);
}
template <class Arch>
PO2Q_INLINE void store(float* p, const f32<Arch>& v) {
    v.store_unaligned(p);
}
template <class Arch>
PO2Q_INLINE void store_exact(float* p, const f32<Arch>& v) {
    v.store_unaligned(p);
}
template <class Arch>
PO2Q_INLINE void stream_exact(float* p, const f32<Arch>& v) {
    stream_store<Arch>(p, v);
}

// ---- registers of 16-bit lanes --------------------------------------------------------------------------------------

/// One 16-bit element for each lane of f32<Arch>, in memory, in a register of their own, and as the upper halves of
/// 32-bit lanes.
template <class Arch>
struct halves {
    static constexpr std::size_t lanes = f32<Arch>::size;
    struct reg {
        std::uint16_t lane[lanes];
    };

    static PO2Q_INLINE reg load(const void* p) { return load_first(p, lanes); }
    static PO2Q_INLINE void store(void* p, reg v) { store_first(p, v, lanes); }
    static PO2Q_INLINE void stream(void* p, reg v) { store(p, v); }
    static PO2Q_INLINE reg load_first(const void* p, std::size_t count) {
        reg v{};
        __builtin_memcpy(v.lane, p, count * sizeof(v.lane[0]));
        return v;
    }
    static PO2Q_INLINE void store_first(void* p, reg v, std::size_t count) {
        __builtin_memcpy(p, v.lane, count * sizeof(v.lane[0]));
    }
    /// The lower halves are 0.
    static PO2Q_INLINE u32<Arch> widen(reg v) {
        alignas(64) std::uint32_t wide[lanes];
        for (std::size_t i = 0; i < lanes; ++i) wide[i] = static_cast<std::uint32_t>(v.lane[i]) << 16;
        return u32<Arch>::load_aligned(wide);
    }
    /// Whatever the lower halves are.
    static PO2Q_INLINE reg narrow(const u32<Arch>& v) {
        alignas(64) std::uint32_t wide[lanes];
        v.store_aligned(wide);
        reg narrowed;
        for (std::size_t i = 0; i < lanes; ++i) narrowed.lane[i] = static_cast<std::uint16_t>(wide[i] >> 16);
        return narrowed;
    }
};

#if defined(__SSE2__)
/// Part of a register of 8 halves, through memory.
struct halves_of_128_bits {
    using reg = __m128i;

    static PO2Q_INLINE reg load_first(const void* p, std::size_t count) {
        alignas(16) std::uint16_t part[8] = {};
        __builtin_memcpy(part, p, count * sizeof(part[0]));
        return _mm_load_si128(reinterpret_cast<const __m128i*>(part));
    }
    static PO2Q_INLINE void store_first(void* p, reg v, std::size_t count) {
        alignas(16) std::uint16_t part[8];
        _mm_store_si128(reinterpret_cast<__m128i*>(part), v);
        __builtin_memcpy(p, part, count * sizeof(part[0]));
    }
};

template <class Arch>
requires(f32<Arch>::size == 4) struct halves<Arch> : halves_of_128_bits {  // in the low 8 bytes

    static PO2Q_INLINE reg load(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
    static PO2Q_INLINE void store(void* p, reg v) { _mm_storel_epi64(static_cast<__m128i*>(p), v); }
    static PO2Q_INLINE void stream(void* p, reg v) {
#if defined(__x86_64__)
        _mm_stream_si64(static_cast<long long*>(p), _mm_cvtsi128_si64(v));
#else
        store(p, v);
#endif
    }
    static PO2Q_INLINE u32<Arch> widen(reg v) { return u32<Arch>(_mm_unpacklo_epi16(_mm_setzero_si128(), v)); }
    static PO2Q_INLINE reg narrow(const u32<Arch>& v) {
        const __m128i values = _mm_srai_epi32(v, 16);  // of int16: nothing to saturate
        return _mm_packs_epi32(values, values);
    }
};
#endif

#if defined(__aarch64__)
template <class Arch>
requires(f32<Arch>::size == 4) struct halves<Arch> {
    using reg = uint16x4_t;

    static PO2Q_INLINE reg load(const void* p) {
        std::uint64_t four;
        __builtin_memcpy(&four, p, sizeof four);
        return vcreate_u16(four);
    }
    static PO2Q_INLINE void store(void* p, reg v) { __builtin_memcpy(p, &v, sizeof v); }
    static PO2Q_INLINE void stream(void* p, reg v) { store(p, v); }
    static PO2Q_INLINE reg load_first(const void* p, std::size_t count) {
        std::uint16_t part[4] = {};
        __builtin_memcpy(part, p, count * sizeof(part[0]));
        return vld1_u16(part);
    }
    static PO2Q_INLINE void store_first(void* p, reg v, std::size_t count) {
        std::uint16_t part[4];
        vst1_u16(part, v);
        __builtin_memcpy(p, part, count * sizeof(part[0]));
    }
    static PO2Q_INLINE u32<Arch> widen(reg v) { return u32<Arch>(vshll_n_u16(v, 16)); }
    static PO2Q_INLINE reg narrow(const u32<Arch>& v) { return vshrn_n_u32(v, 16); }
};
#endif

#if __ARM_FEATURE_SVE_BITS == 256
template <class Arch>
requires is_at_least<arch::sve256, Arch>
struct halves<Arch> {
    using reg = u32<Arch>;  // in lower halves, whatever the upper ones are

    static PO2Q_INLINE reg load(const void* p) { return load_first(p, reg::size); }
    static PO2Q_INLINE void store(void* p, reg v) { store_first(p, v, reg::size); }
    static PO2Q_INLINE void stream(void* p, reg v) { store(p, v); }
    static PO2Q_INLINE reg load_first(const void* p, std::size_t count) {
        return reg(svld1uh_u32(first_lanes(count), static_cast<const std::uint16_t*>(p)));
    }
    static PO2Q_INLINE void store_first(void* p, reg v, std::size_t count) {
        svst1h_u32(first_lanes(count), static_cast<std::uint16_t*>(p), v);
    }
    static PO2Q_INLINE u32<Arch> widen(reg v) { return v << 16; }
    static PO2Q_INLINE reg narrow(const u32<Arch>& v) { return v >> 16; }
};
#endif

#if defined(__AVX2__)
template <class Arch>
requires(is_at_least<arch::avx2, Arch> && !is_at_least<arch::avx512bw, Arch>) struct halves<Arch> : halves_of_128_bits {
    static PO2Q_INLINE reg load(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
    static PO2Q_INLINE void store(void* p, reg v) { _mm_storeu_si128(static_cast<__m128i*>(p), v); }
    static PO2Q_INLINE void stream(void* p, reg v) { _mm_stream_si128(static_cast<__m128i*>(p), v); }
    static PO2Q_INLINE u32<Arch> widen(reg v) { return u32<Arch>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16)); }
    static PO2Q_INLINE reg narrow(const u32<Arch>& v) {
        const __m256i values = _mm256_srai_epi32(v, 16);
        return _mm_packs_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    }
};
#endif

#if defined(__AVX512BW__)
template <class Arch>
requires is_at_least<arch::avx512bw, Arch>
struct halves<Arch> {
    using reg = __m256i;

    static PO2Q_INLINE __mmask16 first(std::size_t count) { return static_cast<__mmask16>((1U << count) - 1U); }
    static PO2Q_INLINE reg load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
    static PO2Q_INLINE void store(void* p, reg v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
    static PO2Q_INLINE void stream(void* p, reg v) { _mm256_stream_si256(static_cast<__m256i*>(p), v); }
    static PO2Q_INLINE reg load_first(const void* p, std::size_t count) {
        return _mm256_maskz_loadu_epi16(first(count), p);
    }
    static PO2Q_INLINE void store_first(void* p, reg v, std::size_t count) {
        _mm256_mask_storeu_epi16(p, first(count), v);
    }
    static PO2Q_INLINE u32<Arch> widen(reg v) { return u32<Arch>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
    static PO2Q_INLINE reg narrow(const u32<Arch>& v) {
        // One look-up where a shift and vpmovdw are three instructions.
        const __m512i upper = _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  //
                                               31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
        return _mm512_castsi512_si256(_mm512_permutexvar_epi16(upper, v));
    }
};
#endif

// ---- conversions ----------------------------------------------------------------------------------------------------

/// a where v < limit, else b, of lanes of bits; neither v nor limit is negative. By arithmetic: xsimd 8.1's select of
/// integers wants AVX-512 code to be optimized.
template <class Batch>
PO2Q_INLINE Batch below(const Batch& v, std::int32_t limit, const Batch& a, const Batch& b) {
    const Batch mask = (v - Batch(limit)) >> 31;
    return b ^ ((a ^ b) & mask);
}

/// float16 in upper halves as floats, by integers.
template <class Arch>
PO2Q_INLINE f32<Arch> float16_lanes(const u32<Arch>& v) {
    using batch = i32<Arch>;
    const batch bits = bit_cast<std::int32_t>(v);
    const batch sign = bits & batch(static_cast<std::int32_t>(0x80000000U));
    const batch magnitude = (bits ^ sign) >> 3;  // exponent and fraction, where floats have theirs
    const batch rebias((127 - 15) << 23);
    // A subnormal number is put into the binade above, whose first value is then taken off.
    const f32<Arch> shifted = bit_cast<float>(magnitude + rebias + batch(1 << 23));
    const batch subnormal = bit_cast<std::int32_t>(shifted - f32<Arch>(0x1p-14F));
    const batch normal = magnitude + rebias;
    const batch finite = below(magnitude, 1 << 23, subnormal, normal);
    return bit_cast<float>(batch(sign | below(magnitude, 31 << 23, finite, batch(normal + rebias))));
}

/// Floats rounded to float16, in upper halves, by integers.
template <class Arch>
PO2Q_INLINE u32<Arch> rounded_float16_lanes(const f32<Arch>& v) {
    using batch = i32<Arch>;
    const batch bits = bit_cast<std::int32_t>(v);
    const batch sign = bits & batch(static_cast<std::int32_t>(0x80000000U));
    const batch magnitude = bits ^ sign;
    // Half a step up, but for ties to even.
    const batch odd = (magnitude >> 13) & batch(1);
    const batch normal = (magnitude - batch((127 - 15) << 23) + batch(0xfff) + odd) << 3;
    // In [1/2, 1) the step of floats is 2^−24, that of the subnormal numbers: the sum rounds.
    const f32<Arch> sum = bit_cast<float>(magnitude) + f32<Arch>(0.5F);
    const batch subnormal = (bit_cast<std::int32_t>(sum) - batch(126 << 23)) << 16;
    const batch finite = below(magnitude, (127 - 14) << 23, subnormal, normal);
    const batch not_finite = below(magnitude, 0x7f800001, batch(0x7c000000), batch(0x7e000000));  // infinity, NaN
    const batch all = below(magnitude, (127 + 16) << 23, finite, not_finite);
    return bit_cast<std::uint32_t>(all | sign);
}

/// Floats rounded to bfloat16, in upper halves.
template <class Arch>
PO2Q_INLINE u32<Arch> rounded_bfloat16_lanes(const f32<Arch>& v) {
    using batch = u32<Arch>;
    const batch bits = bit_cast<std::uint32_t>(v);
    // Half a step up, but for ties to even; the carry counts the exponent on.
    const batch rounded = bits + batch(0x7fffU) + ((bits >> 16) & batch(1U));
    const f32<Arch> quiet = bit_cast<float>(bits | batch(0x400000U));
    return bit_cast<std::uint32_t>(xsimd::select(v == v, bit_cast<float>(rounded), quiet));
}

template <class Arch, half_type Half>
PO2Q_INLINE f32<Arch> widen(typename halves<Arch>::reg v) {
    if constexpr (std::is_same_v<Half, bfloat16>) return bit_cast<float>(halves<Arch>::widen(v));
#if defined(__AVX512F__)
    else if constexpr (is_at_least<arch::avx512bw, Arch>) return f32<Arch>(_mm512_cvtph_ps(v));
#endif
#if defined(__F16C__)
    else if constexpr (is_at_least<arch::avx2, Arch> && f32<Arch>::size == 8) return f32<Arch>(_mm256_cvtph_ps(v));
#endif
#if defined(__aarch64__)
    else if constexpr (f32<Arch>::size == 4) return f32<Arch>(vcvt_f32_f16(vreinterpret_f16_u16(v)));
#endif
#if __ARM_FEATURE_SVE_BITS == 256
    else if constexpr (is_at_least<arch::sve256, Arch>)
        return f32<Arch>(svcvt_f32_f16_x(svptrue_b32(), svreinterpret_f16_u32(v)));
#endif
    else return float16_lanes<Arch>(halves<Arch>::widen(v));
}

template <class Arch, half_type Half>
PO2Q_INLINE typename halves<Arch>::reg narrow(const f32<Arch>& v) {
    if constexpr (std::is_same_v<Half, bfloat16>) return halves<Arch>::narrow(rounded_bfloat16_lanes<Arch>(v));
#if defined(__AVX512F__)
    else if constexpr (is_at_least<arch::avx512bw, Arch>)
        return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#endif
#if defined(__F16C__)
    else if constexpr (is_at_least<arch::avx2, Arch> && f32<Arch>::size == 8)
        return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#endif
#if defined(__aarch64__)
    else if constexpr (f32<Arch>::size == 4) return vreinterpret_u16_f16(vcvt_f16_f32(v));
#endif
#if __ARM_FEATURE_SVE_BITS == 256
    else if constexpr (is_at_least<arch::sve256, Arch>)
        return u32<Arch>(svreinterpret_u32_f16(svcvt_f16_f32_x(svptrue_b32(), v)));
#endif
    else return halves<Arch>::narrow(rounded_float16_lanes<Arch>(v));
}

/// Of values that the type has: nothing is rounded. NaN must be quiet, or one of the type.
template <class Arch, half_type Half>
PO2Q_INLINE typename halves<Arch>::reg narrow_exact(const f32<Arch>& v) {
    if constexpr (std::is_same_v<Half, bfloat16>) return halves<Arch>::narrow(bit_cast<std::uint32_t>(v));
    else return narrow<Arch, Half>(v);
}

// ---- bfloat16 and float16 -------------------------------------------------------------------------------------------

template <class Arch, half_type Half>
PO2Q_INLINE f32<Arch> load(const Half* p) {
    return widen<Arch, Half>(halves<Arch>::load(p));
}
template <class Arch, half_type Half>
PO2Q_INLINE f32<Arch> load_first(const Half* p, std::size_t count) {
    return widen<Arch, Half>(halves<Arch>::load_first(p, count));
}
template <class Arch, half_type Half>
PO2Q_INLINE void store(Half* p, const f32<Arch>& v) {
    halves<Arch>::store(p, narrow<Arch, Half>(v));
}
template <class Arch, half_type Half>
PO2Q_INLINE void store_exact(Half* p, const f32<Arch>& v) {
    halves<Arch>::store(p, narrow_exact<Arch, Half>(v));
}
template <class Arch, half_type Half>
PO2Q_INLINE void store_first(Half* p, const f32<Arch>& v, std::size_t count) {
    halves<Arch>::store_first(p, narrow<Arch, Half>(v), count);
}
template <class Arch, half_type Half>
PO2Q_INLINE void stream_store(Half* p, const f32<Arch>& v) {
    halves<Arch>::stream(p, narrow<Arch, Half>(v));
}
template <class Arch, half_type Half>
PO2Q_INLINE void stream_exact(Half* p, const f32<Arch>& v) {
    halves<Arch>::stream(p, narrow_exact<Arch, Half>(v));
}

}  // namespace po2quant::simd
