#pragma once
/// Trained thresholds (TQT, arXiv:1903.08066): the threshold t of a quantizer learned as log2 t, its power of two used.
///
///   exponent  e = ⌈log2 t⌉ − (bits − 1), for unsigned formats ⌈log2 t⌉ − bits
///   gradient  ∂y/∂log2 t = 2^e · ln 2 · { r − x·2^−e  if qmin <= r <= qmax;  qmin if r < qmin;  qmax if r > qmax }
///             with r = round(x · 2^−e); the derivatives of round and ⌈⌉ are taken as 1
///
/// One step:   S = fake_quantize_backward_threshold(…, threshold_term::error), Σ dy · {…} (all-reduced over workers)
///             t = tqt_update(t, tqt_gradient(S, e), {.learning_rate = tqt_threshold_rate(batch).at(step)});
///             freeze_next(thresholds, step, tqt_freezing(batch));
/// One threshold per channel is an array of them.
#include <cstddef>
#include <numbers>
#include <span>

#include <po2quant/numerics/format.hpp>
#include <po2quant/tensor/codes.hpp>
#include <po2quant/training/descent.hpp>

namespace po2quant {

/// A trained threshold t > 0, as log2 t.
struct tqt_threshold {
    double log2_t = 0;
    descent_state state = {};

    double& value() { return log2_t; }
    double value() const { return log2_t; }
    static constexpr double held(double log2) { return clamp(log2, -1024.0, 1024.0); }
    /// ⌈log2 t⌉: thresholds of one bin quantize alike.
    static constexpr int bin(double log2) { return static_cast<int>(-floor_exact(-held(log2))); }
    /// The exponent for codes of `format`, held inside [min_exponent, max_exponent].
    constexpr int exponent(integer_format format) const {
        return clamp(bin(log2_t) - format.magnitude_bits(), min_exponent, max_exponent);
    }
};

/// The threshold t, for example range::magnitude() or three standard deviations; powers of two give their integers. 0,
/// as of ranges that saw nothing, gives log2 t = min_exponent. Throws std::invalid_argument for NaN, ∞ and t < 0.
inline tqt_threshold tqt_threshold_of(double t) {
    detail::check_real("tqt_threshold_of", "t", t, t >= 0 && std::isfinite(t), "finite numbers >= 0");
    if (t == 0) return {.log2_t = static_cast<double>(min_exponent)};
    int k = 0;
    const double mantissa = std::frexp(t, &k);
    // log2(1/2) is −1 to the last bit in every C library; for floats the mantissa's logarithm survives the sum.
    return {.log2_t = tqt_threshold::held(std::log2(mantissa) + k)};
}

/// 2^e · ln 2 · sum, with `sum` = Σ dy · {r − x·2^−e | qmin | qmax} over the tensor or the channel.
constexpr double tqt_gradient(double sum, int exponent) { return exp2_double(exponent) * (std::numbers::ln2 * sum); }

/// The threshold after one gradient of the loss with respect to log2 t; a frozen one as it is. A gradient that is not
/// finite is counted and changes nothing else. Throws std::invalid_argument for options out of range.
inline tqt_threshold tqt_update(const tqt_threshold& t, double gradient, const descent_options& options = {}) {
    return detail::update_scale("tqt_update", t, gradient, options);
}

/// One step of one threshold per channel: next[c] = tqt_update(thresholds[c], 2^e · ln 2 · sums[c]) with the exponent e
/// that thresholds[c] gives `format`. `next` may be `thresholds` itself. Throws std::invalid_argument, before anything
/// is written, for sizes that differ, null spans, partial overlap, a format that is none and options out of range.
inline void tqt_update_channels(std::span<const tqt_threshold> thresholds, std::span<const double> sums,
                                integer_format format, std::span<tqt_threshold> next,
                                const descent_options& options = {}) {
    constexpr const char* function = "tqt_update_channels";
    detail::check_range(function, "format.bits", format.bits, min_bits, max_bits);
    detail::check_channel_updates(function, "thresholds", thresholds, sums, next, options);
    for (std::size_t c = 0; c < thresholds.size(); ++c)
        next[c] = tqt_update(thresholds[c], tqt_gradient(sums[c], thresholds[c].exponent(format)), options);
}

/// exponents[c] = thresholds[c].exponent(format), as channel_quantizer takes them. Errors as tqt_update_channels'.
inline void tqt_exponents(std::span<const tqt_threshold> thresholds, integer_format format, std::span<int> exponents) {
    constexpr const char* function = "tqt_exponents";
    detail::check_range(function, "format.bits", format.bits, min_bits, max_bits);
    detail::check_span(function, "thresholds", thresholds, thresholds.size());
    detail::check_span(function, "exponents", exponents, thresholds.size());
    for (std::size_t c = 0; c < thresholds.size(); ++c) exponents[c] = thresholds[c].exponent(format);
}

// ---- the published schedule -----------------------------------------------------------------------------------------

/// Published steps are for a batch of 24: steps · 24 / batch, rounded, at least 1.
constexpr std::uint64_t tqt_steps(std::uint64_t steps, std::uint64_t batch) {
    const std::uint64_t scaled = batch == 0 ? steps : (2 * 24 * steps + batch) / (2 * batch);
    return scaled == 0 ? 1 : scaled;
}
/// 1e-2, halved every 1000 · 24 / batch steps.
constexpr staircase tqt_threshold_rate(std::uint64_t batch) { return {1e-2, 0.5, tqt_steps(1000, batch)}; }
/// For the weights: 1e-6, times 0.94 every 3000 · 24 / batch steps.
constexpr staircase tqt_weight_rate(std::uint64_t batch) { return {1e-6, 0.94, tqt_steps(3000, batch)}; }

/// When freeze_next acts: at multiples of `interval`, and it freezes at those behind `start`.
struct freezing_schedule {
    std::uint64_t start = 1000;
    std::uint64_t interval = 50;  ///< 1 or more
};
constexpr freezing_schedule tqt_freezing(std::uint64_t batch) { return {tqt_steps(1000, batch), 50}; }

/// Call it behind every step's updates. At multiples of the interval that are behind the start it freezes one scale: of
/// those that are not frozen, have seen a gradient since the last multiple, and lie in the bin of their own average
/// (the more popular of the two that a converged scale oscillates between), the one with the smallest |mean gradient|
/// since the last multiple; the first among equals. Then the gradient sums of all start anew.
/// The elements are tqt_threshold, lsq_step or log2_step. Returns the index of what was frozen, their number if nothing
/// was.
template <class Scales>
requires writable_range<Scales> std::size_t freeze_next(Scales&& all, std::uint64_t step,
                                                        const freezing_schedule& schedule = {}) {
    using scale_type = element_of<Scales>;
    constexpr const char* function = "freeze_next";
    const std::span<scale_type> scales(all);
    detail::check_span(function, "scales", scales, scales.size());
    if (schedule.interval == 0) detail::fail(function, "interval", "0", "1 or more");
    if (step % schedule.interval != 0) return scales.size();
    std::size_t best = scales.size();
    double smallest = 0;
    for (std::size_t i = 0; i < scales.size() && step > schedule.start; ++i) {
        const descent_state& s = scales[i].state;
        if (s.frozen || s.gradient_count == 0) continue;
        if (scale_type::bin(scales[i].value()) != scale_type::bin(s.average)) continue;
        const double mean = std::fabs(s.gradient_sum / static_cast<double>(s.gradient_count));
        if (best == scales.size() || mean < smallest) {
            best = i;
            smallest = mean;
        }
    }
    for (scale_type& scale : scales) {
        scale.state.gradient_sum = 0;
        scale.state.gradient_count = 0;
    }
    if (best != scales.size()) scales[best].state.frozen = true;
    return best;
}

}  // namespace po2quant
