#pragma once
/// integer<Arch>: the integer primitives of an instruction set. integer_generic.hpp defines what each does.
#include <po2quant/simd/arch.hpp>
#include <po2quant/simd/integer_avx2.hpp>
#include <po2quant/simd/integer_avx512.hpp>
#include <po2quant/simd/integer_avx_vnni.hpp>
#include <po2quant/simd/integer_generic.hpp>
#include <po2quant/simd/integer_neon64.hpp>
#include <po2quant/simd/integer_neon_dotprod.hpp>
#include <po2quant/simd/integer_neon_i8mm.hpp>
#include <po2quant/simd/integer_sse2.hpp>
#include <po2quant/simd/integer_sse4_1.hpp>
#include <po2quant/simd/unroll.hpp>

namespace po2quant::simd {

/// Each lane of a / 2^count rounded by Mode, count 1..31. With q = floor(a / 2^count) and rest = a − q·2^count,
/// the result is q + floor((rest + bump) / 2^count), all in unsigned 32 bits: rest + bump < 2^31 + 2^30.
template <class Arch, rounding Mode>
PO2Q_INLINE typename integer<Arch>::reg shift_right_rounded(typename integer<Arch>::reg a,
                                                            typename integer<Arch>::reg count) {
    using ops = integer<Arch>;
    static_assert(Mode != rounding::stochastic, "shifts of kernels are deterministic");
    if constexpr (Mode == rounding::half_up && requires { ops::shift_right_half_up(a, count); })
        return ops::shift_right_half_up(a, count);
    const auto whole = ops::shift_right(a, count);
    if constexpr (Mode == rounding::floor) return whole;
    const auto one = ops::set(1);
    const auto half = ops::shift_left(one, ops::sub(count, one));
    const auto rest = ops::sub(a, ops::shift_left(whole, count));
    auto bump = half;
    if constexpr (Mode == rounding::half_even) bump = ops::add(ops::sub(half, one), ops::bit_and(whole, one));
    if constexpr (Mode == rounding::half_away) bump = ops::add(half, ops::shift_right(a, ops::set(31)));  // −1 if a < 0
    return ops::add(whole, ops::shift_right_logical(ops::add(rest, bump), count));
}

}  // namespace po2quant::simd
