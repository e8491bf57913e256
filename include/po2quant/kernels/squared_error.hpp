#pragma once
/// Sums of squared errors of fake quantization by several exponents at once, of n floats.
///
///   sums[c] = Σ (x − y_c)^2,   y_c = fake_quantize(x) with exponent first − c,   over the finite x
///
///   in    float [n], any alignment          sums   double [count], overwritten
/// Numerics. x − y is a float: exact where x is not cut, else rounded once. Its square is exact in double (48 bits), so
/// fusing the product into the sum would change nothing. Element i is summed in lane i % 16, whatever the width of the
/// registers, and the lanes are added in halves: 16, 8, 4, 2, 1. Hence the same bits on every Arch.
/// Guarantees: reads exactly n elements; no allocation, no exceptions.
#include <po2quant/kernels/fake_quantize.hpp>

namespace po2quant::kernels {

inline constexpr std::size_t error_lanes = 16;

/// Adds the squared errors of 16 floats to their lanes; the plain loop becomes vectors of doubles.
template <class Arch, rounding Mode>
PO2Q_INLINE void add_squared_errors(const float* in, const grid_rounder<Arch, Mode>& apply, double* lane) {
    using batch = simd::f32<Arch>;
    static_assert(error_lanes % batch::size == 0);
    const batch zero(0.0F);
    alignas(64) float error[error_lanes];
    for (std::size_t k = 0; k < error_lanes; k += batch::size) {
        batch x = batch::load_unaligned(in + k);
        x = xsimd::select((x - x) == zero, x, zero);  // NaN and ±∞ become 0, whose error is 0
        (x - apply(x, 0)).store_aligned(error + k);
    }
    for (std::size_t k = 0; k < error_lanes; ++k)
        lane[k] += static_cast<double>(error[k]) * static_cast<double>(error[k]);
}

/// Mode is not stochastic: an error that another draw changes says nothing about an exponent.
template <class Arch, rounding Mode>
void squared_errors(const float* in, std::size_t n, int first, int count, const grid& g, double* sums) {
    static_assert(Mode != rounding::stochastic);
    const std::size_t whole = n - n % error_lanes;
    alignas(64) float last[error_lanes] = {};
    for (std::size_t i = whole; i < n; ++i) last[i - whole] = in[i];
    for (int c = 0; c < count; ++c) {
        const grid_rounder<Arch, Mode> apply(first - c, g);
        alignas(64) double lane[error_lanes] = {};
        for (std::size_t i = 0; i < whole; i += error_lanes) add_squared_errors<Arch, Mode>(in + i, apply, lane);
        if (whole != n) add_squared_errors<Arch, Mode>(last, apply, lane);
        for (std::size_t width = error_lanes / 2; width > 0; width /= 2)
            for (std::size_t k = 0; k < width; ++k) lane[k] += lane[k + width];
        sums[c] = lane[0];
    }
}

}  // namespace po2quant::kernels
