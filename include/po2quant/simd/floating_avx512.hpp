#pragma once
/// Quantization with AVX-512's rounding per instruction: fake quantization in the units of x, by half_up in three to
/// five instructions and by half_even in four; codes by either in four.
#include <po2quant/numerics/exponent.hpp>
#include <po2quant/simd/floating.hpp>

#if defined(__AVX512F__)

namespace po2quant::simd {

/// clamp(round(x * 2^−e), qmin, qmax) * 2^e for half_up or half_even, without leaving the units of x:
///
///   half_even   t = x + C·2^e, C = 1.5 · 2^23        floats near C·2^e are the multiples of 2^e
///               y = t − C·2^e
///   half_up     t = x + (C + 1/2)·2^e, C = 1.5 · 2^22, rounded down
///               y = (t with its last bit cleared) − C·2^e
/// Floats near the smaller C·2^e are the multiples of 2^e / 2, so t = (C + floor(2v + 1) / 2)·2^e for v = x * 2^−e;
/// clearing the last bit takes the floor once more: C + floor(v + 1/2). Codes of 16 bits keep t inside one binade. The
/// difference of equals is +0, and NaN stays NaN: the addition made it quiet, a mantissa that its last bit cannot
/// empty.
template <rounding Mode>
requires(Mode == rounding::half_up || Mode == rounding::half_even) struct nearest_grid {
    static constexpr float offset = Mode == rounding::half_up ? 0x1.8p22F : 0x1.8p23F;
    __m512 low;
    __m512 high;
    __m512 up;
    __m512 down;

    nearest_grid() = default;
    /// 2^e of each lane.
    PO2Q_INLINE nearest_grid(__m512 scale, float qmin, float qmax)
        : low(_mm512_mul_ps(_mm512_set1_ps(qmin), scale)),
          high(_mm512_mul_ps(_mm512_set1_ps(qmax), scale)),
          up(_mm512_mul_ps(_mm512_set1_ps(Mode == rounding::half_up ? offset + 0.5F : offset), scale)),
          down(_mm512_mul_ps(_mm512_set1_ps(offset), scale)) {}

    /// The first sum is written as 1·a + b: the same rounding, on ports that min and max leave free. The second is not:
    /// two of them beside a store take Zen 5 2 cycles per vector instead of 1.5. This is the 1; the compiler must not
    /// see it.
    static PO2Q_INLINE __m512 one() {
        __m512 v = _mm512_set1_ps(1.0F);
        asm("" : "+v"(v));
        return v;
    }
    PO2Q_INLINE __m512 operator()(__m512 x, __m512 one) const { return round(clamp_register(x, low, high), one); }
    /// For an x whose code is one of 16 bits; others give anything.
    PO2Q_INLINE __m512 round(__m512 x, __m512 one) const {
        if constexpr (Mode == rounding::half_even) {
            return _mm512_sub_ps(_mm512_fmadd_ps(x, one, up), down);
        } else {
            const __m512 t = _mm512_fmadd_round_ps(x, one, up, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
            const __m512i even = _mm512_and_si512(_mm512_castps_si512(t), _mm512_set1_epi32(~1));
            return _mm512_sub_ps(_mm512_castsi512_ps(even), down);
        }
    }
};

#if defined(__AVX512DQ__)
/// The same by half_up for e = −FractionBits, 0..15, and codes −q .. q − 1, in three instructions, none of them for
/// NaN:
///
///   t = x + 2^e / 2, rounded to zero     for x <= −2^e / 2 exact, above rounded down: the same floor, and never −0
///   t = t held inside ±q·2^e, exclusive  one instruction, as both ends are one number
///   y = floor of t to a multiple of 2^e
/// Clamping the sum is what makes the ends one number: y is a code −q .. q − 1 where −q <= x * 2^−e + 1/2 < q.
///
/// Zen 4 has minima, additions and roundings to integers on the ports that stores take, products and VRANGEPS on
/// others: of these three instructions one, of nearest_grid's five three.
template <int FractionBits>
struct fraction_grid {
    static constexpr int floor_to_grid = FractionBits << 4 | _MM_FROUND_TO_NEG_INF;
    static constexpr int magnitude_of_least = 0b0010;  // of both operands, with the sign of the first
    __m512 half;
    __m512 limit;

    PO2Q_INLINE explicit fraction_grid(float qmin)
        : half(_mm512_set1_ps(0.5F * exp2_float(-FractionBits))),
          // The float next to q·2^e: its bits less 1.
          limit(_mm512_castsi512_ps(_mm512_sub_epi32(
              _mm512_castps_si512(_mm512_set1_ps(-qmin * exp2_float(-FractionBits))), _mm512_set1_epi32(1)))) {}
    PO2Q_INLINE __m512 operator()(__m512 x, __m512 one) const {
        const __m512 sum = _mm512_fmadd_round_ps(x, one, half, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
        return _mm512_roundscale_round_ps(_mm512_range_ps(sum, limit, magnitude_of_least), floor_to_grid,
                                          _MM_FROUND_NO_EXC);
    }
};
/// Whether NaN is among four vectors.
PO2Q_INLINE bool any_nan(__m512 a, __m512 b, __m512 c, __m512 d) {
    const __mmask16 ab = _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
    const __mmask16 cd = _mm512_cmp_ps_mask(c, d, _CMP_UNORD_Q);
    return _kortestz_mask16_u8(ab, cd) == 0;
}
#endif

#if defined(__AVX512DQ__)
/// Codes as floats by half_up or half_even, 0 where `ordered`, whether x is a number, has no bit. VRANGEPS holds them
/// in the format: on Zen 4 minima and maxima take the ports that sums need.
template <rounding Mode>
PO2Q_INLINE __m512 nearest_float_codes(__m512 x, __m512 inverse_scale, __m512 qmin, __m512 qmax, __mmask16 ordered) {
    constexpr int lesser = 0b0100;
    constexpr int greater = 0b0101;
    constexpr int down = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
    const __m512 v = [&]() PO2Q_INLINE_LAMBDA {
        if constexpr (Mode == rounding::half_up)
            return _mm512_fmadd_round_ps(x, inverse_scale, _mm512_set1_ps(0.5F), down);
        else return _mm512_mul_ps(x, inverse_scale);
    }();
    const __m512 held = _mm512_range_ps(_mm512_range_ps(v, qmin, greater), qmax, lesser);
    constexpr int round = Mode == rounding::half_up ? _MM_FROUND_TO_NEG_INF : _MM_FROUND_TO_NEAREST_INT;
    return _mm512_maskz_roundscale_round_ps(ordered, held, round, _MM_FROUND_NO_EXC);
}
#endif

/// Codes by half_up or half_even: the conversion to integers rounds. half_up is floor(v + 1/2), whose sum, rounded
/// down, has the same floor: no integer lies between the two. NaN converts to −2^31, which is 0 in the bits that a code
/// keeps.
template <rounding Mode>
struct nearest_codes {
    __m512 low;
    __m512 high;

    PO2Q_INLINE nearest_codes(float qmin, float qmax) : low(_mm512_set1_ps(qmin)), high(_mm512_set1_ps(qmax)) {}
    PO2Q_INLINE __m512i operator()(__m512 x, __m512 inverse_scale) const {
        if constexpr (Mode == rounding::half_up) {
            constexpr int down = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
            const __m512 sum = _mm512_fmadd_round_ps(x, inverse_scale, _mm512_set1_ps(0.5F), down);
            return _mm512_cvt_roundps_epi32(clamp_register(sum, low, high), down);
        } else {
            return _mm512_cvt_roundps_epi32(clamp_register(_mm512_mul_ps(x, inverse_scale), low, high),
                                            _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        }
    }
};

}  // namespace po2quant::simd
#endif
