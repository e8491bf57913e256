#pragma once
/// Wall-clock time of repeated calls, and quantiles of such times.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace po2quant::bench {

inline double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds per call, over `calls` calls.
template <class F>
double time_calls(F& f, std::int64_t calls) {
    const double start = seconds();
    for (std::int64_t i = 0; i < calls; ++i) f();
    return (seconds() - start) / static_cast<double>(calls);
}

/// How many calls take about `target` seconds.
template <class F>
std::int64_t calls_for(F& f, double target) {
    f();
    std::int64_t calls = 1;
    while (calls < (std::int64_t{1} << 30) && time_calls(f, calls) * static_cast<double>(calls) < target / 2)
        calls *= 2;
    return calls;
}

inline double quantile(std::vector<double> values, double q) {
    const auto at = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
    std::nth_element(values.begin(), values.begin() + at, values.end());
    return values[static_cast<std::size_t>(at)];
}

/// Distance of the quartiles over the median.
inline double spread(const std::vector<double>& values) {
    return (quantile(values, 0.75) - quantile(values, 0.25)) / quantile(values, 0.5);
}

}  // namespace po2quant::bench
