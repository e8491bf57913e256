#pragma once
/// Exponents as a target's tools choose them (exponent_choice, numerics/target.hpp), from values at hand: weights, or
/// the activations of a calibration batch. Over several batches: the tracker or histogram of that search.
#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <po2quant/numerics/target.hpp>
#include <po2quant/training/kl_divergence.hpp>
#include <po2quant/training/squared_error.hpp>

namespace po2quant {

/// The range without its ends: of the n finite values in ascending order, counted from 0, min is the one at
/// ⌊n · (1 − fraction)⌋ and max the one at ⌊n · fraction⌋, the last at most; the products are rounded to double. All
/// are counted. ESP-PPQ's percentile observer (observer/range.py), which takes the mean of several batches' ends.
/// By selection in a copy of the values. Throws std::invalid_argument for a null span and unless 1/2 <= fraction <= 1.
inline range percentile_range(std::span<const float> values, double fraction) {
    constexpr const char* function = "percentile_range";
    detail::check_span(function, "values", values, values.size());
    if (!(0.5 <= fraction && fraction <= 1))
        detail::fail(function, "fraction", std::to_string(fraction), "1/2 <= fraction <= 1");
    std::vector<float> finite;
    finite.reserve(values.size());
    std::copy_if(values.begin(), values.end(), std::back_inserter(finite), [](float v) { return std::isfinite(v); });
    range seen{.finite = finite.size(), .non_finite = values.size() - finite.size()};
    if (finite.empty()) return seen;
    const auto at = [&](double share) {
        const auto place = static_cast<std::size_t>(static_cast<double>(finite.size()) * share);
        const auto chosen = finite.begin() + static_cast<std::ptrdiff_t>(std::min(place, finite.size() - 1));
        std::nth_element(finite.begin(), chosen, finite.end());
        return *chosen + 0.0F;  // −0 is +0, as in every range
    };
    seen.min = at(1 - fraction);
    seen.max = at(fraction);
    return seen;
}

/// The exponent that `how` chooses for `values`, to be quantized by the format and the rounding of `q`; q.exponent is
/// not read, and neither is what is not finite:
///
///   none            how.rule on the range
///   squared_error   the least of how.candidates errors, from how.rule on the range to finer ones
///   percentile      how.rule on percentile_range(values, how.fraction)
///   kl_divergence   kl_exponent of their magnitudes; of a threshold that is a power of two nothing is left to round
///
/// at most max_k − (bits − 1), or max_k − bits for unsigned formats. Where nothing finite was seen it is min_exponent,
/// but −18 by vitis. Throws std::invalid_argument for a null span and for what those functions refuse.
template <class Arch = default_arch, executor Executor = serial_executor>
int choose_exponent(std::span<const float> values, const quantizer& q, const exponent_choice& how,
                    const Executor& run = {}) {
    constexpr const char* function = "choose_exponent";
    detail::check_span(function, "values", values, values.size());
    detail::check_format(function, q.format);
    detail::check_range(function, "how.rule", static_cast<int>(how.rule), 0, static_cast<int>(exponent_rule::vitis));
    const auto search = [&] {
        switch (how.search) {
        case exponent_search::none: return exponent_for(observe<Arch>(values, run), q.format, how.rule);
        case exponent_search::squared_error: {
            const auto candidates = candidates_for(observe<Arch>(values, run), q.format, {how.rule, how.candidates});
            return observe_squared_errors<Arch>(values, q, candidates, run).exponent();
        }
        case exponent_search::percentile:
            return exponent_for(percentile_range(values, how.fraction), q.format, how.rule);
        case exponent_search::kl_divergence: return kl_exponent(observe_magnitudes<Arch>(values, run), q.format);
        }
        detail::fail(function, "how.search", std::to_string(static_cast<int>(how.search)), "0..3");
    };
    return detail::within_exponents(std::min(search(), how.max_k - q.format.magnitude_bits()));
}

/// The same for each channel of values [outer][channels][inner]: inner = 1 for HWIO and NHWC, size / channels for OIHW.
/// A channel's values are copied, where they are not together. Throws std::invalid_argument for sizes that do not fit.
template <class Arch = default_arch, executor Executor = serial_executor>
std::vector<int> choose_exponents(std::span<const float> values, std::int64_t channels, std::int64_t inner,
                                  const quantizer& q, const exponent_choice& how, const Executor& run = {}) {
    constexpr const char* function = "choose_exponents";
    detail::check_span(function, "values", values, values.size());
    detail::check_range(function, "channels", channels, 1, std::numeric_limits<std::int32_t>::max());
    detail::check_channels(function, values.size(), static_cast<std::size_t>(channels), inner);
    std::vector<int> exponents;
    std::vector<float> channel;
    const auto width = static_cast<std::size_t>(inner);
    const std::size_t stride = static_cast<std::size_t>(channels) * width;
    for (std::size_t first = 0; first < stride; first += width) {
        channel.clear();
        for (std::size_t i = first; i < values.size(); i += stride)
            channel.insert(channel.end(), values.begin() + static_cast<std::ptrdiff_t>(i),
                           values.begin() + static_cast<std::ptrdiff_t>(i + width));
        exponents.push_back(choose_exponent<Arch>(std::span<const float>(channel), q, how, run));
    }
    return exponents;
}

}  // namespace po2quant
