#pragma once
/// Ranges: what was seen of a tensor, mergeable across threads, workers and machines.
#include <atomic>
#include <limits>
#include <span>

#include <po2quant/kernels/minmax.hpp>
#include <po2quant/numerics/exponent.hpp>
#include <po2quant/numerics/exponent_rule.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/tensor/storage.hpp>
#include <po2quant/training/channel_quantizer.hpp>
#include <po2quant/training/streaming.hpp>

namespace po2quant {

/// The extremes of the finite values that were observed, and how many values were finite or not (NaN, ±∞).
/// Trivially copyable; merge is associative and commutative, so an all-reduce over it gives the same bits for any
/// number of workers: min by minimum, max by maximum, the counts by addition.
struct range {
    float min = std::numeric_limits<float>::infinity();
    float max = -std::numeric_limits<float>::infinity();
    std::uint64_t finite = 0;
    std::uint64_t non_finite = 0;

    constexpr bool empty() const { return finite == 0; }
    /// max(|min|, |max|), 0 where nothing finite was seen.
    constexpr float magnitude() const {
        if (empty()) return 0.0F;
        const float low = min < 0 ? -min : min;
        const float high = max < 0 ? -max : max;
        return low > high ? low : high;
    }
    friend constexpr bool operator==(const range&, const range&) = default;
};

constexpr range merge(const range& a, const range& b) {
    return {a.min < b.min ? a.min : b.min, a.max > b.max ? a.max : b.max, a.finite + b.finite,
            a.non_finite + b.non_finite};
}

/// The exponent for what was seen, by the original rule (numerics/exponent.hpp); min_exponent where nothing was.
constexpr int exponent_for(const range& seen, integer_format format, int max_k = 128) {
    return exponent_for(seen.magnitude(), format, max_k);
}

/// The same by another rule (numerics/exponent_rule.hpp).
constexpr int exponent_for(const range& seen, integer_format format, exponent_rule rule) {
    return exponent_for(float_interval{seen.min, seen.max}, format, rule);
}

namespace detail {

constexpr range to_range(const kernels::extremes& e, std::uint64_t count) {
    return {e.min, e.max, count - e.non_finite, e.non_finite};
}

/// value = min(value, v), from any thread.
template <class T, class Better>
void update_atomic(T& value, T v, Better better) {
    std::atomic_ref<T> shared(value);
    T seen = shared.load(std::memory_order_relaxed);
    while (better(v, seen) && !shared.compare_exchange_weak(seen, v, std::memory_order_relaxed)) {
    }
}

/// Merges one task's result into one shared by all; order does not matter to it.
inline void merge_atomic(range& shared, const range& part) {
    update_atomic(shared.min, part.min, [](float a, float b) { return a < b; });
    update_atomic(shared.max, part.max, [](float a, float b) { return a > b; });
    std::atomic_ref(shared.finite).fetch_add(part.finite, std::memory_order_relaxed);
    std::atomic_ref(shared.non_finite).fetch_add(part.non_finite, std::memory_order_relaxed);
}

/// Merges what `rows` rows, of as many channels as there are ranges, hold of each channel.
template <class Arch, class Storage>
void observe_rows(const Storage* data, std::size_t rows, std::span<range> ranges) {
    constexpr std::size_t chunk = 256;  // channels whose results fit on the stack
    kernels::extremes part[chunk];
    for (std::size_t c = 0; c < ranges.size(); c += chunk) {
        const std::size_t width = std::min(chunk, ranges.size() - c);
        kernels::minmax_channels<Arch>(data + c, rows, ranges.size(), width, part);
        for (std::size_t k = 0; k < width; ++k) merge_atomic(ranges[c + k], to_range(part[k], rows));
    }
}

}  // namespace detail

/// The range of `values` of any storage type, as floats; non-finite ones are counted and skipped. An empty span gives
/// an empty range.
template <class Arch = default_arch, storage_range Values = std::span<const float>, executor Executor = serial_executor>
range observe(const Values& values, const Executor& run = {}) {
    const std::span<const storage_of<Values>> data(values);
    detail::check_span("observe", "data", data, data.size());
    range seen;
    run.parallel_for(detail::task_count(data.size()), [&](std::int64_t task) {
        const auto part = detail::task_range(task, data.size());
        const kernels::extremes e = kernels::minmax<Arch>(data.data() + part.begin, part.size(), detail::is_far(data));
        detail::merge_atomic(seen, detail::to_range(e, part.size()));
    });
    return seen;
}

/// One range per channel of values [outer][channels][inner] with channels = ranges.size(); `ranges` is overwritten.
/// inner = 1: channel innermost (NHWC); inner = size / channels: channel outermost (OIHW).
template <class Arch = default_arch, storage_range Values = std::span<const float>, executor Executor = serial_executor>
void observe_channels(const Values& values, std::int64_t inner, std::span<range> ranges, const Executor& run = {}) {
    const std::span<const storage_of<Values>> data(values);
    detail::check_span("observe_channels", "data", data, data.size());
    detail::check_channels("observe_channels", data.size(), ranges.size(), inner);
    detail::check_span("observe_channels", "ranges", ranges, ranges.size());
    for (range& r : ranges) r = range{};
    const std::size_t channels = ranges.size();
    if (inner == 1) {
        const std::size_t rows = data.size() / channels;
        const std::size_t task_rows = std::max<std::size_t>(1, detail::task_elements / channels);
        const std::size_t tasks = (rows + task_rows - 1) / task_rows;
        run.parallel_for(static_cast<std::int64_t>(tasks), [&](std::int64_t task) {
            const std::size_t first = static_cast<std::size_t>(task) * task_rows;
            detail::observe_rows<Arch>(data.data() + first * channels, std::min(task_rows, rows - first), ranges);
        });
        return;
    }
    run.parallel_for(detail::task_count(data.size()), [&](std::int64_t task) {
        detail::for_each_run(detail::task_range(task, data.size()), static_cast<std::size_t>(inner), channels,
                             [&](std::size_t i, std::size_t count, std::size_t channel) {
                                 const kernels::extremes e =
                                     kernels::minmax<Arch>(data.data() + i, count, detail::is_far(data));
                                 detail::merge_atomic(ranges[channel], detail::to_range(e, count));
                             });
    });
}

}  // namespace po2quant
