#pragma once
/// Trained step sizes, snapped to powers of two: LSQ (arXiv:1902.08153) on s itself, and its variant on log2 s.
///
///   LSQ        e = round(log2 s)    ∂y/∂s = { r − x·2^−e | qmin | qmax }, scaled by 1/√(N · qmax)
///   log2       e = round(α), α = log2 s    ∂y/∂α = 2^e · ln 2 · {…}    (ESP-PPQ's TQT)
/// with r = round(x · 2^−e); the derivatives of rounding and snapping are taken as 1. S = Σ dy · {…} is TQT's sum too.
#include <span>

#include <po2quant/numerics/exponent_rule.hpp>
#include <po2quant/training/threshold.hpp>

namespace po2quant {

/// A trained step s > 0, held inside [2^min_exponent, 2^max_exponent].
struct lsq_step {
    double step = 1;
    descent_state state = {};

    double& value() { return step; }
    double value() const { return step; }
    static constexpr double held(double s) { return clamp(s, exp2_double(min_exponent), exp2_double(max_exponent)); }
    static constexpr int bin(double s) { return detail::round_log2(held(s)); }
    /// The power of two next to s, as a ratio.
    constexpr int exponent() const { return bin(step); }
};

/// The mean of |x| over the finite values, summed in double in the order of memory; 0 if there are none.
inline double mean_magnitude(std::span<const float> data) {
    detail::check_span("mean_magnitude", "data", data, data.size());
    double sum = 0;
    std::uint64_t finite = 0;
    for (const float x : data) {
        if (!std::isfinite(x)) continue;
        sum += static_cast<double>(std::fabs(x));
        ++finite;
    }
    return finite == 0 ? 0 : sum / static_cast<double>(finite);
}

/// LSQ's first step, s = 2 · mean|x| / √qmax. Throws std::invalid_argument for a mean that is NaN, ∞ or below 0, and
/// for a format that is none.
inline lsq_step lsq_step_of(double mean_magnitude, integer_format format) {
    detail::check_real("lsq_step_of", "mean_magnitude", mean_magnitude,
                       mean_magnitude >= 0 && std::isfinite(mean_magnitude), "finite numbers >= 0");
    detail::check_range("lsq_step_of", "format.bits", format.bits, min_bits, max_bits);
    return {.step = lsq_step::held(2 * mean_magnitude / std::sqrt(static_cast<double>(format.qmax())))};
}

/// sum / √(N · qmax), with `sum` = Σ dy · {r − x·2^−e | qmin | qmax} and N the number of weights, or of features of one
/// image. Throws std::invalid_argument for N = 0 and a format that is none.
inline double lsq_gradient(double sum, std::uint64_t elements, integer_format format) {
    if (elements == 0) detail::fail("lsq_gradient", "elements", "0", "1 or more");
    detail::check_range("lsq_gradient", "format.bits", format.bits, min_bits, max_bits);
    return sum / std::sqrt(static_cast<double>(elements) * format.qmax());
}

/// LSQ's: momentum 0.9; its rates were 1e-2 for codes of 2..4 bits and 1e-3 for 8.
inline constexpr descent_options lsq_descent{.rule = descent::momentum};

/// The step after one gradient; frozen steps and gradients that are not finite as tqt_update has them.
inline lsq_step lsq_update(const lsq_step& s, double gradient, const descent_options& options = lsq_descent) {
    return detail::update_scale("lsq_update", s, gradient, options);
}

/// One step of one step size per channel: next[c] = lsq_update(steps[c], lsq_gradient(sums[c], elements, format)), with
/// `elements` the N of one channel. `next` may be `steps` itself. Throws std::invalid_argument, before anything is
/// written, for sizes that differ, null spans, partial overlap, elements = 0, a format that is none and options out of
/// range.
inline void lsq_update_channels(std::span<const lsq_step> steps, std::span<const double> sums, std::uint64_t elements,
                                integer_format format, std::span<lsq_step> next,
                                const descent_options& options = lsq_descent) {
    constexpr const char* function = "lsq_update_channels";
    if (elements == 0) detail::fail(function, "elements", "0", "1 or more");
    detail::check_range(function, "format.bits", format.bits, min_bits, max_bits);
    detail::check_channel_updates(function, "steps", steps, sums, next, options);
    for (std::size_t c = 0; c < steps.size(); ++c)
        next[c] = lsq_update(steps[c], lsq_gradient(sums[c], elements, format), options);
}

/// exponents[c] = steps[c].exponent(), as channel_quantizer takes them. Throws std::invalid_argument, before anything
/// is written, for sizes that differ and null spans.
inline void lsq_exponents(std::span<const lsq_step> steps, std::span<int> exponents) {
    detail::write_exponents("lsq_exponents", steps, exponents);
}

/// A trained step as α = log2 s.
struct log2_step {
    double log2_s = 0;
    descent_state state = {};

    double& value() { return log2_s; }
    double value() const { return log2_s; }
    static constexpr double held(double log2) { return clamp(log2, -1024.0, 1024.0); }
    /// Ties to even, as frameworks round.
    static constexpr int bin(double log2) {
        return static_cast<int>(round_to_integer(held(log2), rounding::half_even));
    }
    /// round(α), held inside [min_exponent, max_exponent].
    constexpr int exponent() const { return clamp(bin(log2_s), min_exponent, max_exponent); }
};

/// ESP-PPQ's rate.
inline constexpr descent_options log2_step_descent{.learning_rate = 1e-5};

/// The step after one gradient with respect to α, which is tqt_gradient(sum, exponent()).
inline log2_step log2_step_update(const log2_step& s, double gradient,
                                  const descent_options& options = log2_step_descent) {
    return detail::update_scale("log2_step_update", s, gradient, options);
}

/// One step of one α per channel: next[c] = log2_step_update(steps[c], tqt_gradient(sums[c], steps[c].exponent())).
/// `next` may be `steps` itself. Errors as lsq_update_channels'.
inline void log2_step_update_channels(std::span<const log2_step> steps, std::span<const double> sums,
                                      std::span<log2_step> next, const descent_options& options = log2_step_descent) {
    detail::check_channel_updates("log2_step_update_channels", "steps", steps, sums, next, options);
    for (std::size_t c = 0; c < steps.size(); ++c)
        next[c] = log2_step_update(steps[c], tqt_gradient(sums[c], steps[c].exponent()), options);
}

/// exponents[c] = steps[c].exponent(), as channel_quantizer takes them. Errors as lsq_exponents'.
inline void log2_step_exponents(std::span<const log2_step> steps, std::span<int> exponents) {
    detail::write_exponents("log2_step_exponents", steps, exponents);
}

}  // namespace po2quant
