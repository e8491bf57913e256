#pragma once
/// Range trackers: ranges over the steps of a training run, as small trivially copyable structs.
///
/// One step, on one worker:          tracker.observe(activations, executor);
/// One step, on several workers:     range seen = observe(activations); all-reduce `seen` with merge;
/// tracker.update(seen); so that the moving average is applied after the merge and every worker holds the same bits.
/// One tracker per channel is an array of trackers, updated from observe_channels or observe_exponents_channels.
#include <array>
#include <cstddef>
#include <cstring>
#include <span>

#include <po2quant/training/exponent_histogram.hpp>
#include <po2quant/training/range.hpp>
#include <po2quant/training/serialization.hpp>

namespace po2quant {

namespace detail {

constexpr range range_between(float min, float max) { return min > max ? range{} : range{min, max, 1, 0}; }

/// What every tracker does with one step's range; Tracker::absorb takes a non-empty one in.
template <class Tracker>
constexpr void update(Tracker& tracker, const range& seen) {
    if (tracker.frozen) return;
    ++tracker.updates;
    tracker.non_finite += seen.non_finite;
    if (!seen.empty()) tracker.absorb(seen);
}

}  // namespace detail

// The trackers share their first fields and the functions over them, written out so that each is an aggregate:
//   delay        steps to wait before quantizing; ranges are tracked from the first step on
//   frozen       a frozen tracker keeps its range and counts no more steps
//   updates      steps taken in, those with nothing finite included
//   non_finite   values that were NaN or ±∞, over all steps: training sees divergence, the range does not
//   update       takes one step's range in; an empty one counts as a step and changes no range
//   observe      update(po2quant::observe(data))
//   current      the tracked range; empty before the first finite value
//   exponent     the exponent for it by the original rule, or by another; min_exponent where nothing was seen
//   quantizing   whether the delay is over

/// The range of the last step: TensorFlow's LastValueQuantize, for weights.
struct last_value_range {
    std::uint64_t delay = 0;
    bool frozen = false;
    std::uint64_t updates = 0;
    std::uint64_t non_finite = 0;
    float min = std::numeric_limits<float>::infinity();
    float max = -std::numeric_limits<float>::infinity();

    constexpr void absorb(const range& seen) {
        min = seen.min;
        max = seen.max;
    }
    constexpr range current() const { return detail::range_between(min, max); }
    constexpr bool quantizing() const { return updates >= delay; }
    constexpr void update(const range& seen) { detail::update(*this, seen); }
    template <class Arch = default_arch, storage_range Values = std::span<const float>,
              executor Executor = serial_executor>
    void observe(const Values& data, const Executor& run = {}) {
        if (!frozen) update(po2quant::observe<Arch>(data, run));
    }
    constexpr int exponent(integer_format format, int max_k = 128) const {
        return exponent_for(current(), format, max_k);
    }
    constexpr int exponent(integer_format format, exponent_rule rule) const {
        return exponent_for(current(), format, rule);
    }
};

/// The range of all steps: running minimum and maximum.
struct min_max_range {
    std::uint64_t delay = 0;
    bool frozen = false;
    std::uint64_t updates = 0;
    std::uint64_t non_finite = 0;
    float min = std::numeric_limits<float>::infinity();
    float max = -std::numeric_limits<float>::infinity();

    constexpr void absorb(const range& seen) {
        min = seen.min < min ? seen.min : min;
        max = seen.max > max ? seen.max : max;
    }
    constexpr range current() const { return detail::range_between(min, max); }
    constexpr bool quantizing() const { return updates >= delay; }
    constexpr void update(const range& seen) { detail::update(*this, seen); }
    template <class Arch = default_arch, storage_range Values = std::span<const float>,
              executor Executor = serial_executor>
    void observe(const Values& data, const Executor& run = {}) {
        if (!frozen) update(po2quant::observe<Arch>(data, run));
    }
    constexpr int exponent(integer_format format, int max_k = 128) const {
        return exponent_for(current(), format, max_k);
    }
    constexpr int exponent(integer_format format, exponent_rule rule) const {
        return exponent_for(current(), format, rule);
    }
};

/// Exponential moving average of each step's minimum and maximum, in double, so that long runs lose no bits:
///
///   average ← average − (average − seen) * (1 − decay)
///
/// Without zero_debias the first step is taken as it is. With it the average starts at 0 and is divided by
/// 1 − decay^steps when read (TensorFlow's assign_moving_average, Adam's correction). 0 <= decay < 1.
struct ema_range {
    float decay = 0.999F;
    bool zero_debias = false;
    std::uint64_t delay = 0;
    bool frozen = false;
    std::uint64_t updates = 0;
    std::uint64_t non_finite = 0;
    std::uint64_t absorbed = 0;  ///< steps with something finite
    double average_min = 0;
    double average_max = 0;
    double bias = 1;  ///< decay^absorbed

    constexpr void absorb(const range& seen) {
        if (!(0 <= decay && decay < 1)) detail::fail("ema_range", "decay", std::to_string(decay), "0 <= decay < 1");
        const double gain = 1.0 - static_cast<double>(decay);
        if (absorbed == 0 && !zero_debias) {
            average_min = static_cast<double>(seen.min);
            average_max = static_cast<double>(seen.max);
        } else {
            average_min -= (average_min - static_cast<double>(seen.min)) * gain;
            average_max -= (average_max - static_cast<double>(seen.max)) * gain;
        }
        bias *= static_cast<double>(decay);
        ++absorbed;
    }
    constexpr range current() const {
        if (absorbed == 0) return {};
        const double whole = zero_debias ? 1.0 - bias : 1.0;
        return detail::range_between(static_cast<float>(average_min / whole), static_cast<float>(average_max / whole));
    }
    constexpr bool quantizing() const { return updates >= delay; }
    constexpr void update(const range& seen) { detail::update(*this, seen); }
    template <class Arch = default_arch, storage_range Values = std::span<const float>,
              executor Executor = serial_executor>
    void observe(const Values& data, const Executor& run = {}) {
        if (!frozen) update(po2quant::observe<Arch>(data, run));
    }
    constexpr int exponent(integer_format format, int max_k = 128) const {
        return exponent_for(current(), format, max_k);
    }
    constexpr int exponent(integer_format format, exponent_rule rule) const {
        return exponent_for(current(), format, rule);
    }
};

/// The exponents of all steps, whose percentile is the range. What is not finite is counted in `seen`; otherwise its
/// fields are those of the trackers above, and a step is a histogram: observe_exponents, or one of a forward pass.
struct histogram_range {
    std::uint64_t delay = 0;
    bool frozen = false;
    std::uint64_t updates = 0;
    exponent_histogram seen = {};

    constexpr bool quantizing() const { return updates >= delay; }
    constexpr void update(const exponent_histogram& step) {
        if (frozen) return;
        ++updates;
        seen = merge(seen, step);
    }
    template <class Arch = default_arch, storage_range Values = std::span<const float>,
              executor Executor = serial_executor>
    void observe(const Values& data, const Executor& run = {}) {
        if (!frozen) update(observe_exponents<Arch>(data, run));
    }
    /// percentile_exponent of all steps.
    constexpr int exponent(integer_format format, double fraction = 1) const {
        return percentile_exponent(seen, format, fraction);
    }
};

/// Merges the histograms that two workers tracked.
constexpr histogram_range merge(const histogram_range& a, const histogram_range& b) {
    return {.delay = a.delay > b.delay ? a.delay : b.delay,
            .frozen = a.frozen || b.frozen,
            .updates = a.updates > b.updates ? a.updates : b.updates,
            .seen = merge(a.seen, b.seen)};
}

/// Merges the running extremes that two workers tracked; last value and EMA merge each step's range instead.
constexpr min_max_range merge(const min_max_range& a, const min_max_range& b) {
    min_max_range both = a;
    both.min = b.min < a.min ? b.min : a.min;
    both.max = b.max > a.max ? b.max : a.max;
    both.updates = a.updates > b.updates ? a.updates : b.updates;
    both.non_finite = a.non_finite + b.non_finite;
    both.delay = a.delay > b.delay ? a.delay : b.delay;
    both.frozen = a.frozen || b.frozen;
    return both;
}

// ---- serialization --------------------------------------------------------------------------------------------------

/// Version of the byte layout below; readers refuse others.
inline constexpr std::uint32_t range_tracker_version = 1;

namespace detail {

/// Walks over the fields of a tracker in the order of the byte layout: each little endian, one behind the other.
template <class Tracker, class F>
void for_each_field(Tracker& t, F&& f) {
    f(t.delay);
    f(t.frozen);
    f(t.updates);
    if constexpr (requires { t.non_finite; }) f(t.non_finite);
    if constexpr (requires { t.seen; }) {
        f(t.seen.counts);
    } else if constexpr (requires { t.average_min; }) {
        f(t.decay);
        f(t.zero_debias);
        f(t.absorbed);
        f(t.average_min);
        f(t.average_max);
        f(t.bias);
    } else {
        f(t.min);
        f(t.max);
    }
}

/// Refuses numbers that no tracker gets to hold, as damaged bytes would bring.
template <class Tracker>
void check_fields(const char* function, const Tracker& t) {
    const auto check = [&](bool holds, const char* name, double given, const std::string& allowed) {
        if (!holds) fail(function, name, std::to_string(given), allowed);
    };
    if constexpr (requires { t.average_min; }) {
        check(0 <= t.decay && t.decay < 1, "decay", static_cast<double>(t.decay), "0 <= decay < 1");
        check(__builtin_isfinite(t.average_min), "average_min", t.average_min, "finite numbers");
        check(__builtin_isfinite(t.average_max), "average_max", t.average_max, "finite numbers");
        check(0 <= t.bias && t.bias <= 1, "bias", t.bias, "0..1");
    } else if constexpr (requires { t.min; }) {
        const range empty;
        check(t.min <= t.max || (t.min == empty.min && t.max == empty.max), "min", static_cast<double>(t.min),
              text("numbers up to max, ", std::to_string(t.max)));
    }
}

/// 'L', 'M', 'E' or 'H': which tracker the bytes hold.
template <class Tracker>
constexpr char tracker_kind() {
    if constexpr (std::is_same_v<Tracker, last_value_range>) return 'L';
    else if constexpr (std::is_same_v<Tracker, min_max_range>) return 'M';
    else if constexpr (std::is_same_v<Tracker, ema_range>) return 'E';
    else return 'H';
}

}  // namespace detail

template <class T>
concept serializable_tracker = std::is_same_v<T, last_value_range> || std::is_same_v<T, min_max_range> ||
    std::is_same_v<T, ema_range> || std::is_same_v<T, histogram_range>;

/// Bytes of a serialized tracker: "PQR" and the kind, the version as uint32, then the fields, all little endian.
template <serializable_tracker Tracker>
inline constexpr std::size_t serialized_size = detail::header_size + (std::is_same_v<Tracker, histogram_range>
                                                                          ? 17 + sizeof(exponent_histogram)
                                                                      : std::is_same_v<Tracker, ema_range> ? 25 + 37
                                                                                                           : 25 + 8);

template <serializable_tracker Tracker>
std::array<std::byte, serialized_size<Tracker>> serialize(const Tracker& tracker) {
    std::array<std::byte, serialized_size<Tracker>> bytes{};
    detail::write_header(bytes.data(), {'P', 'Q', 'R', detail::tracker_kind<Tracker>(), '\0'}, range_tracker_version);
    std::size_t at = detail::header_size;
    detail::for_each_field(tracker, [&](const auto& field) {
        std::memcpy(bytes.data() + at, &field, sizeof(field));
        at += sizeof(field);
    });
    return bytes;
}

/// Throws std::invalid_argument for another size, kind or version, and for values that no tracker can hold.
template <serializable_tracker Tracker>
Tracker deserialize(std::span<const std::byte> bytes) {
    constexpr const char* function = "deserialize";
    detail::check_header(function, bytes, serialized_size<Tracker>,
                         {'P', 'Q', 'R', detail::tracker_kind<Tracker>(), '\0'}, range_tracker_version);
    Tracker tracker;
    std::size_t at = detail::header_size;
    detail::for_each_field(tracker, [&](auto& field) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(field)>, bool>) {
            detail::check_range(function, "flag", static_cast<int>(bytes[at]), 0, 1);
            field = bytes[at] != std::byte{0};
        } else {
            std::memcpy(&field, bytes.data() + at, sizeof(field));
        }
        at += sizeof(field);
    });
    detail::check_fields(function, tracker);
    return tracker;
}

}  // namespace po2quant
