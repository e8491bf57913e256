#pragma once
/// Gradient descent on one number, as a pure function of small states: what trained thresholds and step sizes share.
///
/// Everything is double. The square root is exact IEEE; tanh of the normalized rule is the C library's, so its last bit
/// may depend on that library.
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>

#include <po2quant/numerics/exponent.hpp>
#include <po2quant/numerics/rounding.hpp>
#include <po2quant/numerics/saturate.hpp>
#include <po2quant/tensor/check.hpp>

namespace po2quant {

/// How a gradient g becomes a change. m and v are moving averages of g and g², divided by 1 − β^steps when read.
enum class descent : std::uint8_t {
    adam,        ///< −rate · m / (√v + ε)
    normalized,  ///< −rate · tanh(g / √(v + ε)): TQT's normalized log-gradient
    momentum,    ///< −rate · u with u ← β1·u + g: SGD, plain with beta1 = 0
};

/// The defaults are those published for TQT's thresholds (arXiv:1903.08066).
struct descent_options {
    descent rule = descent::adam;
    double learning_rate = 1e-2;    ///< 0 or more
    double beta1 = 0.9;             ///< 0 <= beta1 < 1
    double beta2 = 0.999;           ///< 0 <= beta2 < 1
    double epsilon = 1e-8;          ///< above 0
    double average_decay = 0.9999;  ///< of the parameter's own moving average, 0 <= average_decay < 1
};

/// What is kept beside a trained number. Trivially copyable. A gradient summed over several workers comes in once,
/// after the all-reduce, so that every worker holds the same bits.
struct descent_state {
    double first = 0;        ///< moving average of gradients (adam), or their momentum
    double second = 0;       ///< moving average of squared gradients
    double first_bias = 1;   ///< product of all beta1 so far
    double second_bias = 1;  ///< product of all beta2 so far
    /// Moving average of the number, after each update; it starts as the first of them. Its decay is
    /// min(average_decay, (1 + updates) / (10 + updates)), so that it follows early steps faster.
    double average = 0;
    double gradient_sum = 0;           ///< since the last reset by freeze_next
    std::uint64_t gradient_count = 0;  ///< gradients in that sum
    std::uint64_t updates = 0;         ///< gradients taken in
    std::uint64_t non_finite = 0;      ///< gradients that were NaN, ±∞ or so large that their square is
    bool frozen = false;               ///< a frozen number keeps all its state and counts nothing more
};

/// A learning rate that drops by steps: initial · factor^⌊step / interval⌋.
struct staircase {
    double initial = 1e-2;
    double factor = 0.5;
    std::uint64_t interval = 1000;  ///< in steps

    constexpr double at(std::uint64_t step) const {
        double rate = initial;
        double power = factor;
        for (std::uint64_t n = interval == 0 ? 0 : step / interval; n != 0; n /= 2, power *= power)
            if (n % 2 != 0) rate *= power;
        return rate;
    }
};

namespace detail {

inline void check_real(const char* function, const char* argument, double given, bool holds, const char* allowed) {
    if (!holds) fail(function, argument, std::to_string(given), allowed);
}

inline void check_descent(const char* function, const descent_options& o) {
    check_range(function, "rule", static_cast<int>(o.rule), 0, static_cast<int>(descent::momentum));
    check_real(function, "learning_rate", o.learning_rate, o.learning_rate >= 0 && std::isfinite(o.learning_rate),
               "finite numbers >= 0");
    check_real(function, "beta1", o.beta1, 0 <= o.beta1 && o.beta1 < 1, "0 <= beta1 < 1");
    check_real(function, "beta2", o.beta2, 0 <= o.beta2 && o.beta2 < 1, "0 <= beta2 < 1");
    check_real(function, "epsilon", o.epsilon, o.epsilon > 0 && std::isfinite(o.epsilon), "finite numbers > 0");
    check_real(function, "average_decay", o.average_decay, 0 <= o.average_decay && o.average_decay < 1,
               "0 <= average_decay < 1");
}

/// Takes one gradient in and returns the change of the number; 0 where it is frozen or the gradient is not finite.
inline double descend(descent_state& s, double gradient, const descent_options& o) {
    if (s.frozen) return 0;
    if (!std::isfinite(gradient * gradient)) {
        ++s.non_finite;
        return 0;
    }
    ++s.updates;
    s.gradient_sum += gradient;
    ++s.gradient_count;
    if (o.rule == descent::momentum) {
        s.first = o.beta1 * s.first + gradient;
        return -o.learning_rate * s.first;
    }
    s.first = o.beta1 * s.first + (1 - o.beta1) * gradient;
    s.second = o.beta2 * s.second + (1 - o.beta2) * (gradient * gradient);
    s.first_bias *= o.beta1;
    s.second_bias *= o.beta2;
    const double v = s.second / (1 - s.second_bias);
    if (o.rule == descent::normalized) return -o.learning_rate * std::tanh(gradient / std::sqrt(v + o.epsilon));
    return -o.learning_rate * (s.first / (1 - s.first_bias)) / (std::sqrt(v) + o.epsilon);
}

/// Takes the number after an update into its average.
inline void average(descent_state& s, double value, const descent_options& o) {
    if (s.frozen || s.updates == 0) return;
    if (s.updates == 1) {
        s.average = value;
        return;
    }
    const auto n = static_cast<double>(s.updates);
    const double early = (1 + n) / (10 + n);
    s.average -= (s.average - value) * (1 - (early < o.average_decay ? early : o.average_decay));
}

/// The arguments of a step of one scale per channel.
template <class Scale>
void check_channel_updates(const char* function, const char* name, std::span<const Scale> scales,
                           std::span<const double> sums, std::span<Scale> next, const descent_options& o) {
    check_descent(function, o);
    check_span(function, name, scales, scales.size());
    check_span(function, "sums", sums, scales.size());
    check_span(function, "next", next, scales.size());
    check_overlap(function, "next", next, scales, true);
}

/// exponents[c] = scales[c].exponent()
template <class Scale>
void write_exponents(const char* function, std::span<const Scale> scales, std::span<int> exponents) {
    check_span(function, "steps", scales, scales.size());
    check_span(function, "exponents", exponents, scales.size());
    for (std::size_t c = 0; c < scales.size(); ++c) exponents[c] = scales[c].exponent();
}

/// The state after one gradient: what every update function does. Scale names its number `value()` and holds it by
/// `held(double)`.
template <class Scale>
Scale update_scale(const char* function, const Scale& scale, double gradient, const descent_options& o) {
    check_descent(function, o);
    Scale next = scale;
    const std::uint64_t updates = next.state.updates;
    const double change = descend(next.state, gradient, o);
    if (next.state.updates == updates) return next;
    next.value() = Scale::held(next.value() + change);
    average(next.state, next.value(), o);
    return next;
}

}  // namespace detail
}  // namespace po2quant
