#pragma once
/// Batch normalization and its folding as textbook formulas: the specification of training/batch_norm.hpp. Sums are
/// taken in the order that kernels/batch_norm.hpp documents, so that they agree bit for bit; Real = long double gives
/// truth.
#include <cmath>
#include <cstddef>
#include <span>

namespace po2quant::reference {

/// Σ_{i < n} term(i): blocks of 256 terms one after the other, and then their sums.
template <class Real, class Term>
Real blocked_sum(std::size_t n, const Term& term) {
    Real total = 0;
    for (std::size_t begin = 0; begin < n; begin += 256) {
        Real block = 0;
        for (std::size_t i = begin; i < n && i < begin + 256; ++i) block += term(i);
        total += block;
    }
    return total;
}

template <class Real>
struct moments {
    Real mean;
    Real variance;
};

/// Of channel c of x [rows][channels].
template <class Real>
moments<Real> moments_of(std::span<const float> x, std::size_t channels, std::size_t c) {
    const std::size_t rows = x.size() / channels;
    if (rows == 0) return {0, 0};
    const auto n = static_cast<Real>(rows);
    const auto at = [&](std::size_t row) { return static_cast<Real>(x[row * channels + c]); };
    const Real mean = blocked_sum<Real>(rows, at) / n;
    return {mean, blocked_sum<Real>(rows, [&](std::size_t row) { return (at(row) - mean) * (at(row) - mean); }) / n};
}

/// One channel's batch norm.
template <class Real>
struct normalization {
    Real gamma;
    Real beta;
    moments<Real> moving;
    moments<Real> batch;
    Real epsilon;
    bool frozen;

    Real sigma(const moments<Real>& m) const { return std::sqrt(m.variance + epsilon); }
    Real folded_weight(Real w) const { return w * (gamma / sigma(moving)); }
    /// What conv and batch norm give without folding: γ (z − μ)/σ + β.
    Real normalized(Real z) const {
        const moments<Real>& m = frozen ? moving : batch;
        return gamma * (z - m.mean) / sigma(m) + beta;
    }
    /// From u, the convolution with the folded weight.
    Real output(Real u) const {
        if (frozen) return u + (beta - gamma * moving.mean / sigma(moving));
        return u * (sigma(moving) / sigma(batch)) + (beta - gamma * batch.mean / sigma(batch));
    }
};

}  // namespace po2quant::reference
