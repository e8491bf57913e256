#pragma once
/// Sums per channel and per-channel affine maps of activations, channel innermost, in double.
///
/// Every function works on `width` <= batch_norm_chunk neighbouring channels of `rows` rows:
///
///   x, y   float, element (row, c) at row * row_stride + c         per-channel numbers   double [width]
/// Numerics. Each channel is summed alone: the rows of a block of 256 one after the other, then the blocks one after
/// the other. Lanes are channels, so the order, and with it every bit, is the same on every Arch. The error of a sum of
/// n terms is below (256 + n/256) · 2^−53 of the sum of magnitudes. Products and sums round apart (no fma). Guarantees:
/// reads and writes exactly the extents above; no allocation, no exceptions.
#include <cstddef>

#include <po2quant/config.hpp>

namespace po2quant::kernels {

/// Channels that are summed together: two cache lines of floats, whose sums AVX-512's registers hold.
inline constexpr std::size_t batch_norm_chunk = 32;
/// Rows of a block: its sums are as exact as those of the blocks for up to 2^16 rows.
inline constexpr std::size_t batch_norm_block = 256;

/// sums[t][c] = Σ_row term(row * row_stride + c, c)[t] for `Terms` terms. A width that is known when it is compiled
/// keeps a row's sums in registers.
template <std::size_t Terms, class Term>
PO2Q_INLINE void sum_width(std::size_t rows, std::size_t row_stride, std::size_t width, double* const (&sums)[Terms],
                           const Term& term) {
    double total[Terms][batch_norm_chunk] = {};
    for (std::size_t begin = 0; begin < rows; begin += batch_norm_block) {
        const std::size_t end = rows - begin < batch_norm_block ? rows : begin + batch_norm_block;
        double block[Terms][batch_norm_chunk] = {};
        for (std::size_t row = begin; row < end; ++row)
            for (std::size_t c = 0; c < width; ++c) {
                double terms[Terms];
                term(row * row_stride + c, c, terms);
                for (std::size_t t = 0; t < Terms; ++t) block[t][c] += terms[t];
            }
        for (std::size_t t = 0; t < Terms; ++t)
            for (std::size_t c = 0; c < width; ++c) total[t][c] += block[t][c];
    }
    for (std::size_t t = 0; t < Terms; ++t)
        for (std::size_t c = 0; c < width; ++c) sums[t][c] = total[t][c];
}

template <class Arch, std::size_t Terms, class Term>
PO2Q_INLINE void sum_channels(std::size_t rows, std::size_t row_stride, std::size_t width, double* const (&sums)[Terms],
                              const Term& term) {
    if (width == batch_norm_chunk) sum_width(rows, row_stride, batch_norm_chunk, sums, term);
    else sum_width(rows, row_stride, width, sums, term);
}

/// Σ x
template <class Arch>
void channel_sums(const float* x, std::size_t rows, std::size_t row_stride, std::size_t width, double* sum) {
    sum_channels<Arch, 1>(rows, row_stride, width, {sum},
                          [&](std::size_t i, std::size_t, double(&terms)[1]) PO2Q_INLINE_LAMBDA { terms[0] = x[i]; });
}

/// Σ (x − mean)²
template <class Arch>
void channel_squares(const float* x, std::size_t rows, std::size_t row_stride, std::size_t width, const double* mean,
                     double* sum) {
    sum_channels<Arch, 1>(rows, row_stride, width, {sum},
                          [&](std::size_t i, std::size_t c, double(&terms)[1]) PO2Q_INLINE_LAMBDA {
                              const double d = x[i] - mean[c];
                              terms[0] = d * d;
                          });
}

/// Σ dy and Σ dy · u
template <class Arch>
void channel_products(const float* dy, const float* u, std::size_t rows, std::size_t row_stride, std::size_t width,
                      double* sum, double* product) {
    sum_channels<Arch, 2>(rows, row_stride, width, {sum, product},
                          [&](std::size_t i, std::size_t, double(&terms)[2]) PO2Q_INLINE_LAMBDA {
                              terms[0] = dy[i];
                              terms[1] = terms[0] * static_cast<double>(u[i]);
                          });
}

/// y = float((x − center[c]) · scale[c] + offset[c]); y may be x.
template <class Arch>
void channel_affine(const float* x, float* y, std::size_t rows, std::size_t row_stride, std::size_t width,
                    const double* center, const double* scale, const double* offset) {
    const auto each = [&](std::size_t count) PO2Q_INLINE_LAMBDA {
        for (std::size_t row = 0; row < rows; ++row)
            for (std::size_t c = 0; c < count; ++c) {
                const std::size_t i = row * row_stride + c;
                y[i] = static_cast<float>((x[i] - center[c]) * scale[c] + offset[c]);
            }
    };
    if (width == batch_norm_chunk) each(batch_norm_chunk);
    else each(width);
}

/// y = float(x · scale) for n neighbours of one channel; y may be x.
template <class Arch>
void channel_scale(const float* x, float* y, std::size_t n, double scale) {
    for (std::size_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i] * scale);
}

}  // namespace po2quant::kernels
