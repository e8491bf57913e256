#pragma once
/// Sums of squared errors of fake quantization by several exponents at once, of n floats.
///
///   sums[c] = Σ (x − y_c)^2,   y_c = fake_quantize(x) with exponent first − c,   over the finite x
///
///   in    float [n], any alignment          sums   double [count], overwritten
/// Numerics. x − y is a float: exact where x is not cut, else rounded once. Its square is exact in double (48 bits), so
/// fusing the product into the sum would change nothing. Element i is summed in lane i % 16 (simd/sums.hpp), whatever
/// the width of the registers. Hence the same bits on every Arch.
///
/// Guarantees: reads exactly n elements; no allocation, no exceptions.
#include <po2quant/kernels/fake_quantize.hpp>
#include <po2quant/simd/sums.hpp>
#include <po2quant/simd/unroll.hpp>

namespace po2quant::kernels {

/// Adds the squared errors of 16 floats to their lanes.
template <class Arch, rounding Mode>
PO2Q_INLINE void add_squared_errors(const float* in, const grid_rounder<Arch, Mode>& apply,
                                    simd::product_sums<Arch>& sums) {
    using batch = simd::f32<Arch>;
    const batch zero(0.0F);
    simd::unroll<simd::sum_lanes / static_cast<int>(batch::size)>([&](auto k) PO2Q_INLINE_LAMBDA {
        batch x = batch::load_unaligned(in + k * batch::size);
        x = xsimd::select((x - x) == zero, x, zero);  // NaN and ±∞ become 0, whose error is 0
        const batch error = x - apply(x, 0);
        sums.template add<k>(error, error);
    });
}

/// Mode is not stochastic: an error that another draw changes says nothing about an exponent.
template <class Arch, rounding Mode>
void squared_errors(const float* in, std::size_t n, int first, int count, const grid& g, double* sums) {
    static_assert(Mode != rounding::stochastic);
    const std::size_t whole = n - n % simd::sum_lanes;
    alignas(64) float last[simd::sum_lanes] = {};
    for (std::size_t i = whole; i < n; ++i) last[i - whole] = in[i];
    for (int c = 0; c < count; ++c) {
        const grid_rounder<Arch, Mode> apply(first - c, g);
        simd::product_sums<Arch> all;
        for (std::size_t i = 0; i < whole; i += simd::sum_lanes) add_squared_errors<Arch, Mode>(in + i, apply, all);
        if (whole != n) add_squared_errors<Arch, Mode>(last, apply, all);
        sums[c] = all.sum();
    }
}

}  // namespace po2quant::kernels
