#pragma once
/// Thresholds of least Kullback-Leibler divergence, from a histogram of magnitudes: entropy calibration.
#include <po2quant/numerics/exponent_rule.hpp>
#include <po2quant/training/magnitude_histogram.hpp>

namespace po2quant {

/// Which thresholds are tried, in bins of the histogram of 2048; L = 2^(bits − 1) levels for signed formats, 2^bits for
/// unsigned ones.
enum class kl_candidates : std::uint8_t {
    powers_of_two,       ///< 2048, 1024, … down to L: thresholds that a scale of 2^e has
    multiples_of_levels  ///< L, 2·L, 3·L, … 2048, as TensorRT and ESP-PPQ try them; rounded to 2^e afterwards
};

namespace detail {

/// ln(v) of a normal double v > 0 by v = m · 2^k, 1/√2 < m <= √2, and ln m = 2·artanh((m − 1)/(m + 1)) as a series: a
/// few units in the last place off, and the same bits wherever double is IEEE's, which the C library does not promise.
constexpr double natural_log(double v) {
    const auto bits = std::bit_cast<std::uint64_t>(v);
    int k = static_cast<int>(bits >> 52) - 1023;
    double m = std::bit_cast<double>((bits & 0xfffffffffffffU) | 0x3ff0000000000000U);
    if (m > 1.4142135623730951) {
        m /= 2;
        ++k;
    }
    const double z = (m - 1) / (m + 1);
    double sum = 0;
    for (int n = 25; n >= 1; n -= 2) sum = sum * z * z + 1.0 / n;  // z^2 < 0.0295: the next term is below 2^-65
    return 2 * z * sum + k * 0.6931471805599453;
}

/// The share that counts as not 0, in both distributions, as in ESP-PPQ: what P has and Q lacks costs 69 nats.
inline constexpr double kl_floor = 1e-30;

}  // namespace detail

/// KL(P || Q) in nats of quantizing magnitudes with a threshold of `used` bins to `levels` levels:
///
///   H      the histogram with its first 4 of 2048 bins emptied: zeros behind a ReLU would outweigh all else
///   P      H[0 .. used), what is above the threshold added to its last bin; divided by its sum
///   Q      H[0 .. used) without what is above, each used / levels neighbouring bins replaced by their mean over those
///          that are not empty, empty ones staying so; divided by its sum
///   KL   = Σ_i P_i · (ln(P_i + 1e-30) − ln(Q_i + 1e-30))
///
/// Where all of H is above the threshold Q is 0 everywhere and KL is 69 and more; where H is empty KL is 0.
/// Source: S. Migacz, "8-bit Inference with TensorRT", 2017, with the emptied bins, the 1e-30 and Q without the tail of
/// ESP-PPQ's histogram observer. (ESP-PPQ also sets H[4] to 1, has 32 bins per level, which end at the largest
/// magnitude, and logarithms to base 10.) Requires levels to divide used, used <= 2048. Summed from the first bin to
/// the last in double: the same bits everywhere.
constexpr double kl_divergence(const magnitude_histogram& seen, int used, int levels) {
    constexpr int skipped = magnitude_histogram::bins / 512;
    const auto count = [&](int i) { return i < skipped ? std::uint64_t{0} : seen.counts[i]; };
    std::uint64_t inside = 0;
    std::uint64_t above = 0;
    for (int i = 0; i < magnitude_histogram::bins; ++i) (i < used ? inside : above) += count(i);
    if (inside + above == 0) return 0;
    const auto p_sum = static_cast<double>(inside + above);
    const auto q_sum = static_cast<double>(inside == 0 ? 1 : inside);  // the means keep the sum of their bins
    const int width = used / levels;
    double divergence = 0;
    for (int begin = 0; begin < used; begin += width) {
        std::uint64_t sum = 0;
        int filled = 0;
        for (int i = begin; i < begin + width; ++i) {
            sum += count(i);
            filled += count(i) != 0 ? 1 : 0;
        }
        const double mean = filled == 0 ? 0.0 : static_cast<double>(sum) / filled / q_sum;
        for (int i = begin; i < begin + width; ++i) {
            const double p = static_cast<double>(count(i) + (i == used - 1 ? above : 0)) / p_sum;
            const double q = count(i) == 0 ? 0.0 : mean;
            if (p > 0)
                divergence +=
                    p * (detail::natural_log(p + detail::kl_floor) - detail::natural_log(q + detail::kl_floor));
        }
    }
    return divergence;
}

/// The threshold of least divergence, in bins of the histogram; of equals the smallest, as in ESP-PPQ. Throws
/// std::invalid_argument for formats of more levels than bins: signed ones of 12 bits at most, unsigned ones of 11.
inline int kl_threshold(const magnitude_histogram& seen, integer_format format,
                        kl_candidates candidates = kl_candidates::powers_of_two) {
    detail::check_range("kl_threshold", "format.bits", format.bits, min_bits, format.is_signed ? 12 : 11);
    const int levels = 1 << format.magnitude_bits();
    int best = 0;
    double least = 0;
    for (int used = levels; used <= magnitude_histogram::bins;
         used = candidates == kl_candidates::powers_of_two ? 2 * used : used + levels) {
        const double divergence = kl_divergence(seen, used, levels);
        if (best == 0 || divergence < least) {
            best = used;
            least = divergence;
        }
    }
    return best;
}

/// The exponent for the threshold of least divergence, t = kl_threshold · 2^(k − 11):
///
///   e = floor(log2 t + 1/2) − (bits − 1) for signed formats, − bits for unsigned ones
///
/// where powers of two need no rounding. With multiples_of_levels this is the way of ESP-PPQ's histograms (its scale
/// t / 2^(bits − 1), rounded half up in log2) with the bins and divergences of here, see kl_divergence. Held inside
/// [min_exponent, max_exponent]; min_exponent where nothing but zeros was seen. Throws as kl_threshold does.
inline int kl_exponent(const magnitude_histogram& seen, integer_format format,
                       kl_candidates candidates = kl_candidates::powers_of_two) {
    const int bins = kl_threshold(seen, format, candidates);
    if (seen.bound_log2 == magnitude_histogram::lowest_bound_log2) return min_exponent;
    // log2 of 1..2048 bins, then of one bin.
    const int k = detail::round_log2(static_cast<double>(bins)) + static_cast<int>(seen.bound_log2) -
                  kernels::magnitude_bins_log2;
    return detail::within_exponents(k - format.magnitude_bits());
}

}  // namespace po2quant
