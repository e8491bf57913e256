#pragma once
/// The rules of numerics/ on float batches, the same bits in every lane, and the loads and stores xsimd lacks or does
/// slowly: part of a vector, and integer codes of 1 or 2 bytes.
///
/// xsimd's min, max and conversions treat NaN and out-of-range values differently from one instruction set and version
/// to the next, so everything here is clamped with NaN resolved before a conversion, and nothing uses fma.
#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#if __ARM_FEATURE_SVE_BITS == 256
#include <arm_sve.h>
#endif
#endif

#include <po2quant/numerics/rounding.hpp>
#include <po2quant/simd/arch.hpp>

namespace po2quant::simd {

// ---- clamp ----------------------------------------------------------------------------------------------------------

#if defined(__x86_64__) || defined(__i386__)
// minps and maxps return their second operand when either is NaN; with v second, NaN passes for free.
PO2Q_INLINE __m128 clamp_register(__m128 v, __m128 low, __m128 high) { return _mm_min_ps(high, _mm_max_ps(low, v)); }
#if defined(__AVX__)
PO2Q_INLINE __m256 clamp_register(__m256 v, __m256 low, __m256 high) {
    return _mm256_min_ps(high, _mm256_max_ps(low, v));
}
#endif
#if defined(__AVX512F__)
PO2Q_INLINE __m512 clamp_register(__m512 v, __m512 low, __m512 high) {
    return _mm512_min_ps(high, _mm512_max_ps(low, v));
}
#endif
#elif defined(__aarch64__)
// fmin and fmax return NaN when either operand is.
PO2Q_INLINE float32x4_t clamp_register(float32x4_t v, float32x4_t low, float32x4_t high) {
    return vminq_f32(vmaxq_f32(v, low), high);
}
#if __ARM_FEATURE_SVE_BITS == 256
PO2Q_INLINE svfloat32_t clamp_register(svfloat32_t v, svfloat32_t low, svfloat32_t high) {
    return svmin_f32_x(svptrue_b32(), svmax_f32_x(svptrue_b32(), v, low), high);
}
#endif
#endif

/// v held inside [low, high]; NaN stays NaN.
template <class A>
PO2Q_INLINE xsimd::batch<float, A> clamp(const xsimd::batch<float, A>& v, const xsimd::batch<float, A>& low,
                                         const xsimd::batch<float, A>& high) {
#if defined(__x86_64__) || defined(__i386__) || defined(__aarch64__)
    return xsimd::batch<float, A>(clamp_register(v, low, high));
#else
    return xsimd::select(v != v, v, xsimd::min(xsimd::max(v, low), high));
#endif
}

// ---- rounding -------------------------------------------------------------------------------------------------------

/// random_bits for consecutive elements, whose low halves of the index are given.
template <class A>
PO2Q_INLINE xsimd::batch<std::uint32_t, A> mix_bits(xsimd::batch<std::uint32_t, A> x) {
    using batch = xsimd::batch<std::uint32_t, A>;
    x = x ^ (x >> 16);
    x = x * batch(0x7feb352dU);
    x = x ^ (x >> 15);
    x = x * batch(0x846ca68bU);
    return x ^ (x >> 16);
}

/// SSE2 has no instruction that rounds; xsimd's way around takes ten.
template <class A>
inline constexpr bool rounds_by_sums =
#if defined(__x86_64__) || defined(__i386__)
    std::is_base_of_v<xsimd::sse2, A> && !std::is_base_of_v<xsimd::sse4_1, A>;
#else
    false;
#endif

/// The integer next to v, ties to even, as a float. Requires |v| < 2^22 or NaN. The sum's own rounding does it, since
/// floats in [2^23, 2^24) are exactly the integers.
template <class A>
PO2Q_INLINE xsimd::batch<float, A> nearest_even(const xsimd::batch<float, A>& v) {
    const xsimd::batch<float, A> magic(0x1.8p23F);
    return (v + magic) - magic;
}

/// The integer at or below v, as a float. Requires |v| < 2^22 or NaN (NaN gives NaN); the sign of a 0 is any.
template <class A>
PO2Q_INLINE xsimd::batch<float, A> floor(const xsimd::batch<float, A>& v) {
    if constexpr (rounds_by_sums<A>) {
        using batch = xsimd::batch<float, A>;
        const batch near = nearest_even(v);
        return near - xsimd::select(near > v, batch(1.0F), batch(0.0F));
    } else {
#if defined(__aarch64__)
        if constexpr (xsimd::batch<float, A>::size == 4)
            return xsimd::batch<float, A>(vrndmq_f32(v));  // xsimd 8 takes seven instructions
        else
#endif
            return xsimd::floor(v);
    }
}

/// The integers next to v by Mode, as floats.
/// Requires |v| < 2^22 or NaN (NaN gives NaN). `random` is read by stochastic only.
template <rounding Mode, class A>
PO2Q_INLINE xsimd::batch<float, A> round(const xsimd::batch<float, A>& v,
                                         const xsimd::batch<std::uint32_t, A>& random) {
    using batch = xsimd::batch<float, A>;
    [[maybe_unused]] const batch one(1.0F);
    [[maybe_unused]] const batch zero(0.0F);
    if constexpr (Mode == rounding::half_even) {
        return nearest_even(v);
    } else if constexpr (Mode == rounding::half_up && rounds_by_sums<A>) {
        // The rest is exact; only ties that went down to an even integer go up instead.
        const batch near = nearest_even(v);
        return near + xsimd::select(v - near >= batch(0.5F), one, zero);
    } else if constexpr (Mode == rounding::half_up) {
        // floor(2v) and its half are exact, hence so is the floor of the sum: floor((floor(2v) + 1) / 2).
        const batch half(0.5F);
        return simd::floor(simd::floor(v + v) * half + half);
    } else if constexpr (Mode == rounding::half_away) {
        // half_up of the magnitude; v − floor(v) would round −0.49999997 onto the tie.
        const batch half(0.5F);
        const batch magnitude = xsimd::abs(v);
        const batch rounded = simd::floor(simd::floor(magnitude + magnitude) * half + half);
        return rounded | (v & batch(-0.0F));  // the sign of v, of NaN too; −0 where a negative v rounds to 0
    } else {
        const batch whole = simd::floor(v);
        if constexpr (Mode == rounding::stochastic) {
            const batch uniform = xsimd::to_float(bit_cast<std::int32_t>(random >> 8)) * batch(0x1p-24F);
            return whole + xsimd::select(v - whole > uniform, one, zero);
        } else {
            return whole;
        }
    }
}

/// random_bits for vectors of elements, which stochastic rounding alone reads.
template <class Arch, rounding Mode>
struct random_lanes {
    PO2Q_INLINE random_lanes(std::uint64_t, std::uint64_t) {}
    PO2Q_INLINE u32<Arch> operator()(std::size_t) const { return u32<Arch>(0U); }
};
template <class Arch>
class random_lanes<Arch, rounding::stochastic> {
public:
    PO2Q_INLINE random_lanes(std::uint64_t seed, std::uint64_t first_index)
        : seed_(seed), first_(first_index), key_(random_key(seed, static_cast<std::uint32_t>(first_index >> 32))) {
        const auto behind = ~static_cast<std::uint32_t>(first_index);  // elements of the block behind the first one
        whole_ = behind < size - 1 ? 0 : std::size_t{behind} - (size - 1) + 1;
        alignas(64) std::int32_t numbers[size];
        for (std::size_t k = 0; k < size; ++k) numbers[k] = static_cast<std::int32_t>(k);
        numbers_ = i32<Arch>::load_aligned(numbers);
    }
    /// Those of the elements from first_index + i on.
    PO2Q_INLINE u32<Arch> operator()(std::size_t i) const {
        if (i >= whole_) [[unlikely]]
            return in_any_block(i);
        return bits(i, u32<Arch>(key_));
    }

private:
    static constexpr std::size_t size = f32<Arch>::size;

    PO2Q_INLINE u32<Arch> bits(std::size_t i, const u32<Arch>& keys) const {
        const u32<Arch> lows = u32<Arch>(static_cast<std::uint32_t>(first_ + i)) + bit_cast<std::uint32_t>(numbers_);
        return mix_bits(mix_bits(lows ^ keys) + keys);
    }
    /// Of any block of 2^32 elements, which share a key, or on both sides of a block's end.
    [[gnu::noinline]] u32<Arch> in_any_block(std::size_t i) const {
        const std::uint64_t index = first_ + i;
        const auto block = static_cast<std::uint32_t>(index >> 32);
        const std::uint32_t behind = ~static_cast<std::uint32_t>(index);
        const u32<Arch> own(random_key(seed_, block));
        if (behind >= size - 1) return bits(i, own);
        const u32<Arch> next(random_key(seed_, block + 1));
        const i32<Arch> last(static_cast<std::int32_t>(behind));
        return bits(i, own ^ ((own ^ next) & bit_cast<std::uint32_t>((last - numbers_) >> 31)));  // behind the last
    }

    std::uint64_t seed_;
    std::uint64_t first_;
    std::uint32_t key_;  ///< of the block that the first element is in
    std::size_t whole_;  ///< vectors from elements before this one on lie in that block
    i32<Arch> numbers_;  ///< 0, 1, 2, …
};

/// x * 2^−e: exact, but where it underflows, on the side of 0 that decides how Mode rounds it: below for floor, above
/// for stochastic, which takes a fraction of nearly 1 up always and one of nearly 0 up when its random bits are 0.
template <class Arch, rounding Mode>
PO2Q_INLINE f32<Arch> in_codes(const f32<Arch>& x, const f32<Arch>& inverse_scale) {
    using batch = f32<Arch>;
    if constexpr (Mode != rounding::floor && Mode != rounding::stochastic) {
        return x * inverse_scale;
    } else {
        constexpr bool below = Mode == rounding::floor;
#if defined(__AVX512F__)
        if constexpr (is_at_least<arch::avx512bw, Arch>) {
            constexpr int toward = (below ? _MM_FROUND_TO_NEG_INF : _MM_FROUND_TO_POS_INF) | _MM_FROUND_NO_EXC;
            return batch(_mm512_mul_round_ps(x, inverse_scale, toward));
        }
#endif
        // Below 2^−75, where the sum changes a product at all, every one rounds alike.
        const batch zero(0.0F);
        const auto side = below ? x < zero : x > zero;
        return x * inverse_scale + xsimd::select(side, batch(below ? -0x1p-100F : 0x1p-100F), zero);
    }
}

/// A value in units of codes, held inside [qmin, qmax] and rounded: the code as a float. NaN stays NaN.
/// Holding it before rounding gives the same code, since the ends are integers and rounding is monotone.
template <class Arch, rounding Mode>
PO2Q_INLINE f32<Arch> code_of(const f32<Arch>& x, const f32<Arch>& inverse_scale, const f32<Arch>& qmin,
                              const f32<Arch>& qmax, const u32<Arch>& random) {
    return round<Mode>(clamp(in_codes<Arch, Mode>(x, inverse_scale), qmin, qmax), random);
}

/// v in a register from here on: g++ 12 otherwise loads a vector anew for each of its uses.
template <class A>
PO2Q_INLINE xsimd::batch<float, A> keep(const xsimd::batch<float, A>& v) {
#if (defined(__x86_64__) || defined(__i386__)) && !defined(__clang__)
    auto kept = static_cast<typename xsimd::batch<float, A>::register_type>(v);
    asm("" : "+v"(kept));
    return xsimd::batch<float, A>(kept);
#else
    return v;
#endif
}

/// Whether a pass from in to out, upwards, would load what looks like its last stores ("4K aliasing"). CPUs compare the
/// low 12 bits of addresses first: a load waits for an earlier store of the same ones, though they share nothing. Of
/// two large arrays that one allocation after the other gave, the second begins a few bytes behind a multiple of 4096.
/// Going downwards, stores are behind the loads. On Zen 4 stores up to 1 KB ahead were seen to cost time; half of a
/// page is taken, as downwards the other half would.
template <class In, class Out>
PO2Q_INLINE bool loads_meet_stores(const In* in, const Out* out) {
    const std::uintptr_t ahead = (reinterpret_cast<std::uintptr_t>(out) - reinterpret_cast<std::uintptr_t>(in)) % 4096;
    return ahead != 0 && ahead < 2048;
}

/// Asks for the lines of Count elements some distance in bytes ahead, for every other one of several. Passes that do
/// more than load run too few loads ahead of themselves for memory's latency, and what a CPU fetches by itself is not
/// enough. Into L2 and not each line: each line into L1 was slower on Zen 4 than asking for none. What lies behind an
/// array is asked for too; nothing comes of it.
template <int Count, class T>
PO2Q_INLINE void prefetch_ahead(const T* p, std::size_t distance = 4096) {
    const std::uintptr_t ahead = reinterpret_cast<std::uintptr_t>(p) + distance;
    for (std::size_t line = 0; line < Count * sizeof(T); line += 128)
        __builtin_prefetch(reinterpret_cast<const void*>(ahead + line), 0, 2);
}

// ---- part of a vector -----------------------------------------------------------------------------------------------

#if __ARM_FEATURE_SVE_BITS == 256
PO2Q_INLINE svbool_t first_lanes(std::uint64_t count) { return svwhilelt_b32_u64(0, count); }
#endif

#if defined(__SSE2__)
PO2Q_INLINE __m128 load_first_of_4(const float* p, std::size_t count) {
    if (count < 2) return count == 0 ? _mm_setzero_ps() : _mm_load_ss(p);
    const __m128 two = _mm_loadl_pi(_mm_setzero_ps(), reinterpret_cast<const __m64*>(p));
    return count == 2 ? two : _mm_movelh_ps(two, _mm_load_ss(p + 2));
}
PO2Q_INLINE void store_first_of_4(float* p, __m128 v, std::size_t count) {
    if (count >= 2) _mm_storel_pi(reinterpret_cast<__m64*>(p), v);
    if (count % 2 != 0) _mm_store_ss(p + count - 1, count == 1 ? v : _mm_movehl_ps(v, v));
}
#endif

/// The first `count` < lanes floats at p, nothing behind them read; the other lanes are 0.
template <class Arch>
PO2Q_INLINE f32<Arch> load_first(const float* p, std::size_t count) {
#if defined(__AVX512F__)
    if constexpr (is_at_least<arch::avx512bw, Arch>)
        return f32<Arch>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << count) - 1U), p));
#endif
#if __ARM_FEATURE_SVE_BITS == 256
    if constexpr (is_at_least<arch::sve256, Arch>) return f32<Arch>(svld1_f32(first_lanes(count), p));
#endif
#if defined(__AVX2__)
    if constexpr (is_at_least<arch::avx2, Arch> && f32<Arch>::size == 8) {
        const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        return f32<Arch>(_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane)));
    }
#endif
#if defined(__SSE2__)
    if constexpr (std::is_base_of_v<arch::sse2, Arch> && f32<Arch>::size == 4)
        return f32<Arch>(load_first_of_4(p, count));
#endif
    alignas(64) float lanes[f32<Arch>::size] = {};
    for (std::size_t i = 0; i < count; ++i) lanes[i] = p[i];
    return f32<Arch>::load_aligned(lanes);
}

/// Writes the first `count` < lanes floats to p, and nothing behind them.
template <class Arch>
PO2Q_INLINE void store_first(float* p, const f32<Arch>& v, std::size_t count) {
#if defined(__AVX512F__)
    if constexpr (is_at_least<arch::avx512bw, Arch>) {
        _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1U << count) - 1U), v);
        return;
    }
#endif
#if __ARM_FEATURE_SVE_BITS == 256
    if constexpr (is_at_least<arch::sve256, Arch>) return svst1_f32(first_lanes(count), p, v);
#endif
#if defined(__AVX2__)
    if constexpr (is_at_least<arch::avx2, Arch> && f32<Arch>::size == 8) {  // AMD's masked stores are slow
        const __m256 all = v;
        const bool half = count >= 4;
        if (half) _mm_storeu_ps(p, _mm256_castps256_ps128(all));
        return half ? store_first_of_4(p + 4, _mm256_extractf128_ps(all, 1), count - 4)
                    : store_first_of_4(p, _mm256_castps256_ps128(all), count);
    }
#endif
#if defined(__SSE2__)
    if constexpr (std::is_base_of_v<arch::sse2, Arch> && f32<Arch>::size == 4) return store_first_of_4(p, v, count);
#endif
    alignas(64) float lanes[f32<Arch>::size];
    v.store_aligned(lanes);
    for (std::size_t i = 0; i < count; ++i) p[i] = lanes[i];
}

// ---- integer codes --------------------------------------------------------------------------------------------------

/// One vector of codes (int8_t, uint8_t, int16_t) as floats. xsimd's converting loads go through memory.
template <class Arch, class Code>
PO2Q_INLINE f32<Arch> load_codes(const Code* p) {
    [[maybe_unused]] constexpr bool is_signed = static_cast<Code>(-1) < 0;
#if defined(__AVX512F__)
    if constexpr (is_at_least<arch::avx512bw, Arch>) {
        __m512i wide;
        if constexpr (sizeof(Code) == 2) {
            const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
            wide = is_signed ? _mm512_cvtepi16_epi32(raw) : _mm512_cvtepu16_epi32(raw);
        } else {
            const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
            wide = is_signed ? _mm512_cvtepi8_epi32(raw) : _mm512_cvtepu8_epi32(raw);
        }
        return f32<Arch>(_mm512_cvtepi32_ps(wide));
    }
#endif
#if defined(__AVX2__)
    if constexpr (is_at_least<arch::avx2, Arch> && f32<Arch>::size == 8) {
        __m256i wide;
        if constexpr (sizeof(Code) == 2) {
            const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
            wide = is_signed ? _mm256_cvtepi16_epi32(raw) : _mm256_cvtepu16_epi32(raw);
        } else {
            const __m128i raw = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
            wide = is_signed ? _mm256_cvtepi8_epi32(raw) : _mm256_cvtepu8_epi32(raw);
        }
        return f32<Arch>(_mm256_cvtepi32_ps(wide));
    }
#endif
#if defined(__SSE2__)
    if constexpr (is_at_least<arch::sse2, Arch> && f32<Arch>::size == 4) {
        __m128i raw;
        if constexpr (sizeof(Code) == 2) {
            raw = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
        } else {
            int four;
            __builtin_memcpy(&four, p, 4);
            raw = _mm_cvtsi32_si128(four);
        }
#if defined(__SSE4_1__)
        if constexpr (is_at_least<arch::sse4_1, Arch>) {
            __m128i wide;
            if constexpr (sizeof(Code) == 2) wide = is_signed ? _mm_cvtepi16_epi32(raw) : _mm_cvtepu16_epi32(raw);
            else wide = is_signed ? _mm_cvtepi8_epi32(raw) : _mm_cvtepu8_epi32(raw);
            return f32<Arch>(_mm_cvtepi32_ps(wide));
        }
#endif
        // Codes at the top of their dwords, from where they are shifted down with their sign or without.
        const __m128i zero = _mm_setzero_si128();
        __m128i top = raw;
        if constexpr (sizeof(Code) == 1) top = _mm_unpacklo_epi8(zero, top);
        top = _mm_unpacklo_epi16(zero, top);
        constexpr int bits = 8 * (4 - static_cast<int>(sizeof(Code)));
        return f32<Arch>(_mm_cvtepi32_ps(is_signed ? _mm_srai_epi32(top, bits) : _mm_srli_epi32(top, bits)));
    }
#endif
#if defined(__aarch64__)
    if constexpr (f32<Arch>::size == 4) {
        uint16x4_t words;
        if constexpr (sizeof(Code) == 2) {
            words = vld1_u16(reinterpret_cast<const std::uint16_t*>(p));
        } else {
            float four;
            __builtin_memcpy(&four, p, 4);
            const uint8x8_t raw = vreinterpret_u8_f32(float32x2_t{four, 0});
            words = vget_low_u16(is_signed ? vreinterpretq_u16_s16(vmovl_s8(vreinterpret_s8_u8(raw))) : vmovl_u8(raw));
        }
        return f32<Arch>(is_signed ? vcvtq_f32_s32(vmovl_s16(vreinterpret_s16_u16(words)))
                                   : vcvtq_f32_u32(vmovl_u16(words)));
    }
#endif
#if __ARM_FEATURE_SVE_BITS == 256
    if constexpr (is_at_least<arch::sve256, Arch>) {
        const svbool_t all = svptrue_b32();
        const void* from = p;
        const auto wide = [&]() PO2Q_INLINE_LAMBDA -> svint32_t {
            if constexpr (sizeof(Code) == 2)
                return is_signed ? svld1sh_s32(all, static_cast<const std::int16_t*>(from))
                                 : svld1uh_s32(all, static_cast<const std::uint16_t*>(from));
            else
                return is_signed ? svld1sb_s32(all, static_cast<const std::int8_t*>(from))
                                 : svld1ub_s32(all, static_cast<const std::uint8_t*>(from));
        };
        return f32<Arch>(svcvt_f32_s32_x(all, wide()));
    }
#endif
    alignas(64) std::int32_t lanes[f32<Arch>::size];
    for (std::size_t i = 0; i < f32<Arch>::size; ++i) lanes[i] = p[i];
    return xsimd::to_float(i32<Arch>::load_aligned(lanes));
}

/// Stores the low bits of one vector of integers as codes: what is inside the range of Code stays what it is.
template <class Arch, class Code>
PO2Q_INLINE void store_codes(Code* p, const i32<Arch>& codes) {
#if defined(__AVX512F__)
    if constexpr (is_at_least<arch::avx512bw, Arch>) {
        if constexpr (sizeof(Code) == 2)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(codes));
        else _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(codes));
        return;
    }
#endif
#if defined(__AVX2__)
    if constexpr (is_at_least<arch::avx2, Arch> && f32<Arch>::size == 8) {
        // The low 2 or 1 bytes of each dword, gathered in each half, then the halves joined.
        const __m256i raw = codes;
        const __m256i words =
            _mm256_shuffle_epi8(raw, _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 0, 4, 8, 12, -1, -1, -1, -1,  //
                                                      0, 1, 4, 5, 8, 9, 12, 13, 0, 4, 8, 12, -1, -1, -1, -1));
        if constexpr (sizeof(Code) == 2) {
            const __m256i joined = _mm256_permute4x64_epi64(words, 0x08);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(joined));
        } else {
            const __m128i joined =
                _mm_unpackhi_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
            _mm_storel_epi64(reinterpret_cast<__m128i*>(p), joined);
        }
        return;
    }
#endif
#if defined(__aarch64__)
    if constexpr (f32<Arch>::size == 4) {
        const int16x4_t words = vmovn_s32(codes);
        if constexpr (sizeof(Code) == 2) {
            vst1_u16(reinterpret_cast<std::uint16_t*>(p), vreinterpret_u16_s16(words));
        } else {
            const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
            const std::int32_t four = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
            __builtin_memcpy(p, &four, 4);
        }
        return;
    }
#endif
#if __ARM_FEATURE_SVE_BITS == 256
    if constexpr (is_at_least<arch::sve256, Arch>) {
        if constexpr (sizeof(Code) == 2) svst1h_s32(svptrue_b32(), reinterpret_cast<std::int16_t*>(p), codes);
        else svst1b_s32(svptrue_b32(), reinterpret_cast<std::int8_t*>(p), codes);
        return;
    }
#endif
    alignas(64) std::int32_t lanes[f32<Arch>::size];
    codes.store_aligned(lanes);
    for (std::size_t i = 0; i < f32<Arch>::size; ++i) p[i] = static_cast<Code>(lanes[i]);
}

/// The same of four vectors at once: bytes are packed by saturating instructions that have nothing to saturate.
template <class Arch, class Code>
PO2Q_INLINE void store_codes(Code* p, const i32<Arch> (&codes)[4]) {
#if defined(__AVX512F__)
    if constexpr (is_at_least<arch::avx512bw, Arch> && sizeof(Code) == 1) {
        const __m512i byte = _mm512_set1_epi16(0xFF);
        const __m512i first = _mm512_and_si512(_mm512_packs_epi32(codes[0], codes[1]), byte);
        const __m512i second = _mm512_and_si512(_mm512_packs_epi32(codes[2], codes[3]), byte);
        const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(first, second)));
        return;
    }
#endif
#if defined(__AVX2__)
    if constexpr (is_at_least<arch::avx2, Arch> && f32<Arch>::size == 8 && sizeof(Code) == 1) {
        const __m256i byte = _mm256_set1_epi16(0xFF);
        const __m256i first = _mm256_and_si256(_mm256_packs_epi32(codes[0], codes[1]), byte);
        const __m256i second = _mm256_and_si256(_mm256_packs_epi32(codes[2], codes[3]), byte);
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                            _mm256_permutevar8x32_epi32(_mm256_packus_epi16(first, second), order));
        return;
    }
#endif
#if defined(__SSE2__)
    if constexpr (is_at_least<arch::sse2, Arch> && f32<Arch>::size == 4 && sizeof(Code) == 1) {
        const __m128i byte = _mm_set1_epi16(0xFF);
        const __m128i first = _mm_and_si128(_mm_packs_epi32(codes[0], codes[1]), byte);
        const __m128i second = _mm_and_si128(_mm_packs_epi32(codes[2], codes[3]), byte);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(first, second));
        return;
    }
#endif
    for (int v = 0; v < 4; ++v) store_codes<Arch>(p + v * static_cast<int>(i32<Arch>::size), codes[v]);
}

/// The same of integer-valued floats.
template <class Arch, class Code>
PO2Q_INLINE void store_codes(Code* p, const f32<Arch>& v) {
    store_codes<Arch>(p, i32<Arch>(xsimd::to_int(v)));
}

}  // namespace po2quant::simd
