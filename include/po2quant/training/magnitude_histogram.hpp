#pragma once
/// Linear histogram of magnitudes whose bound is a power of two, so that histograms of different bounds merge exactly.
#include <array>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <span>

#include <po2quant/kernels/magnitude_histogram.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/training/range.hpp>
#include <po2quant/training/serialization.hpp>

namespace po2quant {

/// counts[i] values lie in i * 2^(k−11) <= |x| < (i + 1) * 2^(k−11), for the 2048 bins up to the bound 2^k. The bound
/// is the smallest power of two above all magnitudes, so half of the bins or more are in use and every histogram of the
/// same values is the same, however they were split and merged. Zeros alone fit below 2^−149. Trivially copyable.
struct magnitude_histogram {
    static constexpr int lowest_bound_log2 = -149;
    static constexpr int bins = static_cast<int>(kernels::magnitude_bins);

    std::int64_t bound_log2 = lowest_bound_log2;  ///< k
    std::uint64_t non_finite = 0;
    std::uint64_t counts[kernels::magnitude_bins] = {};

    constexpr std::uint64_t finite() const {
        std::uint64_t sum = 0;
        for (const std::uint64_t n : counts) sum += n;
        return sum;
    }
    friend constexpr bool operator==(const magnitude_histogram&, const magnitude_histogram&) = default;
};

/// The same values below a bound of 2^k that is not smaller: bins become wider by adding neighbours, which is exact.
constexpr magnitude_histogram widen(const magnitude_histogram& from, std::int64_t bound_log2) {
    magnitude_histogram to{.bound_log2 = bound_log2, .non_finite = from.non_finite};
    const std::int64_t distance = bound_log2 - from.bound_log2;
    for (int i = 0; i < magnitude_histogram::bins; ++i)
        to.counts[distance > kernels::magnitude_bins_log2 ? 0 : i >> distance] += from.counts[i];
    return to;
}

/// Associative and commutative: the larger bound, the counts by addition.
constexpr magnitude_histogram merge(const magnitude_histogram& a, const magnitude_histogram& b) {
    const std::int64_t bound_log2 = a.bound_log2 > b.bound_log2 ? a.bound_log2 : b.bound_log2;
    magnitude_histogram both = widen(a, bound_log2);
    const magnitude_histogram other = widen(b, bound_log2);
    both.non_finite += other.non_finite;
    for (int i = 0; i < magnitude_histogram::bins; ++i) both.counts[i] += other.counts[i];
    return both;
}

/// The magnitudes of `data`, in two passes: bound, bins. The same for any number of threads. Throws
/// std::invalid_argument for a null span.
template <class Arch = default_arch, executor Executor = serial_executor>
magnitude_histogram observe_magnitudes(std::span<const float> data, const Executor& run = {}) {
    detail::check_span("observe_magnitudes", "data", data, data.size());
    const range seen = observe<Arch>(data, run);
    magnitude_histogram result{.non_finite = seen.non_finite};
    if (seen.magnitude() > 0) result.bound_log2 = floor_log2(seen.magnitude()) + 1;
    const int bound_log2 = static_cast<int>(result.bound_log2);
    run.parallel_for(detail::task_count(data.size()), [&](std::int64_t task) {
        const auto [begin, end] = detail::task_range(task, data.size());
        std::uint64_t part[kernels::magnitude_bins] = {};
        kernels::magnitude_histogram<Arch>(data.data() + begin, end - begin, bound_log2, part);
        for (std::size_t i = 0; i < kernels::magnitude_bins; ++i)
            if (part[i] != 0) std::atomic_ref(result.counts[i]).fetch_add(part[i], std::memory_order_relaxed);
    });
    return result;
}

// ---- serialization --------------------------------------------------------------------------------------------------

/// Version of the byte layout below; readers refuse others.
inline constexpr std::uint32_t magnitude_histogram_version = 1;

/// "PQHM", the version as uint32, then the fields, all little endian.
inline std::array<std::byte, detail::header_size + sizeof(magnitude_histogram)> serialize(
    const magnitude_histogram& histogram) {
    static_assert(sizeof(magnitude_histogram) == 16 + sizeof(magnitude_histogram::counts));  // no padding
    std::array<std::byte, detail::header_size + sizeof(magnitude_histogram)> bytes{};
    detail::write_header(bytes.data(), "PQHM", magnitude_histogram_version);
    std::memcpy(bytes.data() + detail::header_size, &histogram, sizeof(histogram));
    return bytes;
}

/// deserialize<magnitude_histogram>(bytes). Throws std::invalid_argument for another size, tag, version or bound.
template <std::same_as<magnitude_histogram> Histogram>
Histogram deserialize(std::span<const std::byte> bytes) {
    constexpr const char* function = "deserialize";
    detail::check_header(function, bytes, detail::header_size + sizeof(magnitude_histogram), "PQHM",
                         magnitude_histogram_version);
    magnitude_histogram histogram;
    std::memcpy(&histogram, bytes.data() + detail::header_size, sizeof(histogram));
    detail::check_range(function, "bound_log2", histogram.bound_log2, magnitude_histogram::lowest_bound_log2, 128);
    return histogram;
}

}  // namespace po2quant
