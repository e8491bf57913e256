#pragma once
/// Fake quantization of n floats: y = clamp(round(x * 2^−e), qmin, qmax) * 2^e.
///
///   in, out   float [n], any alignment; out may be in, else they share nothing
/// Numerics. x * 2^−e is exact, codes of up to 16 bits are exact floats, and so is their product with 2^e: the same
/// bits as fake_quantize of numerics/quantizer.hpp on every Arch. Codes of 0 give +0, NaN gives NaN, ±∞ saturate.
/// Guarantees: reads and writes exactly n elements; no allocation, no exceptions.
#include <po2quant/kernels/channel_pattern.hpp>
#include <po2quant/numerics/quantizer.hpp>
#include <po2quant/simd/floating.hpp>
#include <po2quant/simd/floating_avx512.hpp>

namespace po2quant::kernels {

/// The codes a call may use, and the random stream of its elements.
struct grid {
    float qmin;
    float qmax;
    std::uint64_t seed;
    std::uint64_t first_index;  ///< index of element 0 in the whole tensor, for stochastic rounding
};

/// The grid of a quantizer (quantizer or channel_quantizer) for the elements from `first_index` on.
template <class Quantizer>
PO2Q_INLINE grid grid_of(const Quantizer& q, std::size_t first_index) {
    return {static_cast<float>(q.format.qmin()), static_cast<float>(q.format.qmax()), q.seed, first_index};
}

/// Code times 2^e, with +0 for codes of 0: −0 + 0 = +0 in round to nearest, and nothing else changes.
template <class Arch, rounding Mode>
PO2Q_INLINE simd::f32<Arch> on_grid(const simd::f32<Arch>& x, const simd::f32<Arch>& scale,
                                    const simd::f32<Arch>& inverse_scale, const simd::f32<Arch>& qmin,
                                    const simd::f32<Arch>& qmax, const grid& g, std::size_t i) {
    using batch = simd::f32<Arch>;
    const batch code = simd::code_of<Arch, Mode>(x, inverse_scale, qmin, qmax, g.seed, g.first_index + i);
    if constexpr (Mode == rounding::half_up || Mode == rounding::half_even) return code * scale;  // never −0
    else return code * scale + batch(0.0F);
}

/// y of a vector for one exponent: how, is the instruction set's choice.
template <class Arch, rounding Mode>
struct grid_rounder {
    simd::f32<Arch> scale;
    simd::f32<Arch> inverse_scale;
    simd::f32<Arch> qmin;
    simd::f32<Arch> qmax;
    const grid& g;

    PO2Q_INLINE grid_rounder(int exponent, const grid& codes)
        : scale(exp2_float(exponent)),
          inverse_scale(exp2_float(-exponent)),
          qmin(codes.qmin),
          qmax(codes.qmax),
          g(codes) {}
    PO2Q_INLINE simd::f32<Arch> operator()(const simd::f32<Arch>& x, std::size_t i) const {
        return on_grid<Arch, Mode>(x, scale, inverse_scale, qmin, qmax, g, i);
    }
};

#if defined(__AVX512F__)
template <class Arch>
requires is_at_least<arch::avx512bw, Arch>
struct grid_rounder<Arch, rounding::half_up> {
    simd::half_up_grid snap;

    PO2Q_INLINE grid_rounder(int exponent, const grid& codes) : snap(exponent, codes.qmin, codes.qmax) {}
    PO2Q_INLINE simd::f32<Arch> operator()(const simd::f32<Arch>& x, std::size_t) const {
        return simd::f32<Arch>(snap(x));
    }
};
#endif

/// One exponent for all elements.
template <class Arch, rounding Mode>
void fake_quantize(const float* in, float* out, std::size_t n, int exponent, const grid& g) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    constexpr std::size_t unroll = 4;  // independent chains: 15 to 30 cycles of latency per vector
    const grid_rounder<Arch, Mode> apply(exponent, g);
    std::size_t i = 0;
    for (; i + unroll * lanes <= n; i += unroll * lanes) {
        const batch y0 = apply(batch::load_unaligned(in + i), i);
        const batch y1 = apply(batch::load_unaligned(in + i + lanes), i + lanes);
        const batch y2 = apply(batch::load_unaligned(in + i + 2 * lanes), i + 2 * lanes);
        const batch y3 = apply(batch::load_unaligned(in + i + 3 * lanes), i + 3 * lanes);
        y0.store_unaligned(out + i);
        y1.store_unaligned(out + i + lanes);
        y2.store_unaligned(out + i + 2 * lanes);
        y3.store_unaligned(out + i + 3 * lanes);
    }
    for (; i + lanes <= n; i += lanes) apply(batch::load_unaligned(in + i), i).store_unaligned(out + i);
    if (i < n) simd::store_first<Arch>(out + i, apply(simd::load_first<Arch>(in + i, n - i), i), n - i);
}

/// Channel innermost: element i has exponent exponents[(first_channel + i) % channels].
template <class Arch, rounding Mode>
void fake_quantize_channels(const float* in, float* out, std::size_t n, const int* exponents, std::size_t channels,
                            std::size_t first_channel, const grid& g) {
    using batch = simd::f32<Arch>;
    const batch qmin(g.qmin);
    const batch qmax(g.qmax);
    const auto body = [&](std::size_t i, const simd::i32<Arch>& e, std::size_t count) PO2Q_INLINE_LAMBDA {
        const batch scale = exp2_lanes<Arch>(e);
        const batch inverse_scale = exp2_lanes<Arch>(simd::i32<Arch>(0) - e);
        const bool whole = count == batch::size;
        const batch x = whole ? batch::load_unaligned(in + i) : simd::load_first<Arch>(in + i, count);
        const batch y = on_grid<Arch, Mode>(x, scale, inverse_scale, qmin, qmax, g, i);
        if (whole) y.store_unaligned(out + i);
        else simd::store_first<Arch>(out + i, y, count);
    };
    for_each_channel_vector<Arch>(n, exponents, channels, first_channel, body);
}

}  // namespace po2quant::kernels
