#pragma once
/// Sums of products of floats that have the same bits on every instruction set: 16 sums, whatever the width of a
/// register, to which element i of a block adds in lane i % 16, and one tree over the lanes, in double.
///
///   product_sums       products and sums in double: products are exact
///   compensated_sums   products and sums in float, what additions lose kept beside: about half of the instructions
#include <po2quant/simd/floating.hpp>
#include <po2quant/simd/unroll.hpp>

namespace po2quant::simd {

inline constexpr int sum_lanes = 16;

/// Lane 0 + 8, 1 + 9, …; then 0 + 4, …; then 0 + 2, …; then 0 + 1.
PO2Q_INLINE double tree_sum(const double (&lane)[sum_lanes]) {
    double part[sum_lanes / 2];
    for (int k = 0; k < 8; ++k) part[k] = lane[k] + lane[k + 8];
    for (int k = 0; k < 4; ++k) part[k] = part[k] + part[k + 4];
    return (part[0] + part[2]) + (part[1] + part[3]);
}

/// A sum of floats and what its additions lost, which the end adds: no addition waits for the compensation of the one
/// before, as with Kahan's (Ogita, Rump, Oishi, "Accurate sum and dot product", 2005, with the short form of the error,
/// exact where the term is not larger than the sum so far).
///
/// With terms that are products rounded to float, the total is at most 2^−23 · Σ |terms| from the exact sum, and what
/// is of second order. Errors cancel: 2^−24 · √(Σ terms²) is usual.
template <class Float>
struct compensated_sum {
    Float sum;
    Float rest;

    /// A product must come rounded: fused into the additions it would give other bits.
    PO2Q_INLINE void add(const Float& term) {
        const Float next = sum + term;
        rest = rest + (term - (next - sum));
        sum = next;
    }
};

/// An infinite sum has no rest.
PO2Q_INLINE double total_of(const compensated_sum<float>& s) {
    const double sum = static_cast<double>(s.sum);
    return s.sum - s.sum == 0.0F ? sum + static_cast<double>(s.rest) : sum;
}

/// N of them in memory. Value-initialized ones, {}, are zero.
template <std::size_t N>
struct compensated_lanes {
    alignas(64) float sum[N];
    alignas(64) float rest[N];

    PO2Q_INLINE double total(std::size_t k) const { return total_of({sum[k], rest[k]}); }
};

/// The totals of 16 lanes, by the tree.
PO2Q_INLINE double tree_sum(const compensated_lanes<sum_lanes>& lanes) {
    double all[sum_lanes];
    for (std::size_t k = 0; k < sum_lanes; ++k) all[k] = lanes.total(k);
    return tree_sum(all);
}

/// 16 of them in registers. add<Part>(a, b): lanes from Part · f32<Arch>::size on take a[k] · b[k], rounded to float.
template <class Arch>
struct compensated_sums {
    using batch = f32<Arch>;
    static constexpr std::size_t parts = sum_lanes / batch::size;
    compensated_sum<batch> part[parts];

    PO2Q_INLINE explicit compensated_sums(const compensated_lanes<sum_lanes>& from) {
        unroll<parts>([&](auto k) PO2Q_INLINE_LAMBDA {
            part[k] = {batch::load_aligned(from.sum + k * batch::size),
                       batch::load_aligned(from.rest + k * batch::size)};
        });
    }
    PO2Q_INLINE void store(compensated_lanes<sum_lanes>& to) const {
        unroll<parts>([&](auto k) PO2Q_INLINE_LAMBDA {
            part[k].sum.store_aligned(to.sum + k * batch::size);
            part[k].rest.store_aligned(to.rest + k * batch::size);
        });
    }
    template <int Part>
    PO2Q_INLINE void add(const batch& a, const batch& b) {
        part[Part].add(keep(a * b));
    }
};

/// 16 sums in double. add<Part>(a, b): lanes from Part · f32<Arch>::size on take a[k] · b[k], which are exact in
/// double, so each addition rounds once, with or without fma.
template <class Arch>
struct product_sums {
    double lane[sum_lanes] = {};

    template <int Part>
    PO2Q_INLINE void add(const f32<Arch>& a, const f32<Arch>& b) {
        constexpr int lanes = static_cast<int>(f32<Arch>::size);
        alignas(64) float x[lanes];
        alignas(64) float y[lanes];
        a.store_aligned(x);
        b.store_aligned(y);
        for (int k = 0; k < lanes; ++k) lane[Part * lanes + k] += static_cast<double>(x[k]) * static_cast<double>(y[k]);
    }
    PO2Q_INLINE double sum() const { return tree_sum(lane); }
};

#if defined(__SSE2__)
template <class Arch>
requires(std::is_base_of_v<arch::sse2, Arch> && !is_at_least<arch::avx2, Arch>) struct product_sums<Arch> {
    __m128d lane[8] = {};

    template <int Part>
    PO2Q_INLINE void add(const f32<Arch>& a, const f32<Arch>& b) {
        const __m128 x = a;
        const __m128 y = b;
        lane[2 * Part] = _mm_add_pd(lane[2 * Part], _mm_mul_pd(_mm_cvtps_pd(x), _mm_cvtps_pd(y)));
        lane[2 * Part + 1] = _mm_add_pd(
            lane[2 * Part + 1], _mm_mul_pd(_mm_cvtps_pd(_mm_movehl_ps(x, x)), _mm_cvtps_pd(_mm_movehl_ps(y, y))));
    }
    PO2Q_INLINE void store(double* p) const {
        for (int k = 0; k < 8; ++k) _mm_storeu_pd(p + 2 * k, lane[k]);
    }
    PO2Q_INLINE double sum() const {
        double all[sum_lanes];
        store(all);
        return tree_sum(all);
    }
};
#endif

#if defined(__aarch64__)
template <class Arch>
requires(f32<Arch>::size == 4) struct product_sums<Arch> {
    float64x2_t lane[8] = {};

    template <int Part>
    PO2Q_INLINE void add(const f32<Arch>& a, const f32<Arch>& b) {
        const float32x4_t x = a;
        const float32x4_t y = b;
        lane[2 * Part] = vfmaq_f64(lane[2 * Part], vcvt_f64_f32(vget_low_f32(x)), vcvt_f64_f32(vget_low_f32(y)));
        lane[2 * Part + 1] = vfmaq_f64(lane[2 * Part + 1], vcvt_high_f64_f32(x), vcvt_high_f64_f32(y));
    }
    PO2Q_INLINE void store(double* p) const {
        for (int k = 0; k < 8; ++k) vst1q_f64(p + 2 * k, lane[k]);
    }
    PO2Q_INLINE double sum() const {
        double all[sum_lanes];
        store(all);
        return tree_sum(all);
    }
};
#endif

#if __ARM_FEATURE_SVE_BITS == 256
template <class Arch>
requires is_at_least<arch::sve256, Arch>
struct product_sums<Arch> {
    using batch = xsimd::batch<double, typename Arch::xsimd_arch>;
    batch even[2] = {batch(0.0), batch(0.0)};  // lanes 0, 2, 4, 6 and 8, 10, …
    batch odd[2] = {batch(0.0), batch(0.0)};

    template <int Part>
    PO2Q_INLINE void add(const f32<Arch>& a, const f32<Arch>& b) {
        const svbool_t all = svptrue_b64();
        even[Part] = svmla_f64_x(all, even[Part], svcvt_f64_f32_x(all, a), svcvt_f64_f32_x(all, b));
        odd[Part] =
            svmla_f64_x(all, odd[Part], svcvt_f64_f32_x(all, svtrn2_f32(a, a)), svcvt_f64_f32_x(all, svtrn2_f32(b, b)));
    }
    PO2Q_INLINE void store(double* p) const {
        for (int k = 0; k < 2; ++k) svst2_f64(svptrue_b64(), p + 8 * k, svcreate2_f64(even[k], odd[k]));
    }
    PO2Q_INLINE double sum() const {
        double all[sum_lanes];
        store(all);
        return tree_sum(all);
    }
};
#endif

#if defined(__AVX2__)
template <class Arch>
requires(is_at_least<arch::avx2, Arch> && !is_at_least<arch::avx512bw, Arch>) struct product_sums<Arch> {
    __m256d lane[4] = {};

    template <int Part>
    PO2Q_INLINE void add(const f32<Arch>& a, const f32<Arch>& b) {
        const __m256 x = a;
        const __m256 y = b;
        lane[2 * Part] = _mm256_add_pd(lane[2 * Part], _mm256_mul_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(x)),
                                                                     _mm256_cvtps_pd(_mm256_castps256_ps128(y))));
        lane[2 * Part + 1] = _mm256_add_pd(
            lane[2 * Part + 1],
            _mm256_mul_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)), _mm256_cvtps_pd(_mm256_extractf128_ps(y, 1))));
    }
    PO2Q_INLINE void store(double* p) const {
        for (int k = 0; k < 4; ++k) _mm256_storeu_pd(p + 4 * k, lane[k]);
    }
    PO2Q_INLINE double sum() const {
        double all[sum_lanes];
        store(all);
        return tree_sum(all);
    }
};
#endif

#if defined(__AVX512F__)
template <class Arch>
requires is_at_least<arch::avx512bw, Arch>
struct product_sums<Arch> {
    __m512d low = _mm512_setzero_pd();
    __m512d high = _mm512_setzero_pd();

    template <int Part>
    PO2Q_INLINE void add(const f32<Arch>& a, const f32<Arch>& b) {
        const __m512d x = _mm512_castps_pd(a);
        const __m512d y = _mm512_castps_pd(b);
        const auto wide = [](__m256d half) PO2Q_INLINE_LAMBDA { return _mm512_cvtps_pd(_mm256_castpd_ps(half)); };
        low = _mm512_fmadd_pd(wide(_mm512_castpd512_pd256(x)), wide(_mm512_castpd512_pd256(y)), low);
        high = _mm512_fmadd_pd(wide(_mm512_extractf64x4_pd(x, 1)), wide(_mm512_extractf64x4_pd(y, 1)), high);
    }
    PO2Q_INLINE void store(double* p) const {
        _mm512_storeu_pd(p, low);
        _mm512_storeu_pd(p + 8, high);
    }
    PO2Q_INLINE double sum() const {
        double all[sum_lanes];
        store(all);
        return tree_sum(all);
    }
};
#endif

}  // namespace po2quant::simd
