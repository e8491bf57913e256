#pragma once
/// Histogram of exponents: how many values lie in each octave [2^k, 2^(k+1)). All that percentiles of power-of-two
/// scales need, exact, and merged by adding integers.
#include <algorithm>
#include <array>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <span>

#include <po2quant/kernels/exponent_histogram.hpp>
#include <po2quant/numerics/exponent_rule.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/simd/arch.hpp>
#include <po2quant/tensor/check.hpp>
#include <po2quant/tensor/storage.hpp>
#include <po2quant/training/channel_quantizer.hpp>
#include <po2quant/training/serialization.hpp>
#include <po2quant/training/streaming.hpp>

namespace po2quant {

/// counts[b] values have the exponent field b: 2^(b−127) <= |x| < 2^(b−126) for b in 1..254; bin 0 holds zeros and
/// subnormals, |x| < 2^−126; bin 255 NaN and ±∞. Trivially copyable: an all-reduce adds 256 uint64.
struct exponent_histogram {
    std::uint64_t counts[256] = {};

    constexpr std::uint64_t non_finite() const { return counts[255]; }
    constexpr std::uint64_t finite() const {
        std::uint64_t sum = 0;
        for (int b = 0; b < 255; ++b) sum += counts[b];
        return sum;
    }
    constexpr std::uint64_t total() const { return finite() + non_finite(); }
    constexpr bool empty() const { return finite() == 0; }
    friend constexpr bool operator==(const exponent_histogram&, const exponent_histogram&) = default;
};

constexpr exponent_histogram merge(const exponent_histogram& a, const exponent_histogram& b) {
    exponent_histogram both = a;
    for (int i = 0; i < 256; ++i) both.counts[i] += b.counts[i];
    return both;
}

namespace detail {

/// Adds one task's counts to those shared by all.
inline void add_atomic(exponent_histogram& shared, const std::uint64_t (&counts)[256]) {
    for (int b = 0; b < 256; ++b)
        if (counts[b] != 0) std::atomic_ref(shared.counts[b]).fetch_add(counts[b], std::memory_order_relaxed);
}
inline void merge_atomic(exponent_histogram& shared, const exponent_histogram& part) {
    add_atomic(shared, part.counts);
}

}  // namespace detail

/// The exponents of `values` of any storage type, as floats; the same for any number of threads. Throws
/// std::invalid_argument for a null span.
template <class Arch = default_arch, storage_range Values = std::span<const float>, executor Executor = serial_executor>
exponent_histogram observe_exponents(const Values& values, const Executor& run = {}) {
    const std::span<const storage_of<Values>> data(values);
    detail::check_span("observe_exponents", "data", data, data.size());
    exponent_histogram seen;
    run.parallel_for(detail::task_count(data.size()), [&](std::int64_t task) {
        const auto [begin, end] = detail::task_range(task, data.size());
        exponent_histogram part;
        kernels::exponent_histogram<Arch>(data.data() + begin, end - begin, part.counts, detail::is_far(data));
        detail::merge_atomic(seen, part);
    });
    return seen;
}

/// One histogram per channel of values [outer][channels][inner] with channels = histograms.size(); `histograms` is
/// overwritten. inner = 1: channel innermost (NHWC); inner = size / channels: channel outermost (OIHW). Errors as
/// observe_channels'.
template <class Arch = default_arch, storage_range Values = std::span<const float>, executor Executor = serial_executor>
void observe_exponents_channels(const Values& values, std::int64_t inner, std::span<exponent_histogram> histograms,
                                const Executor& run = {}) {
    constexpr const char* function = "observe_exponents_channels";
    const std::span<const storage_of<Values>> data(values);
    const std::size_t channels = histograms.size();
    detail::check_span(function, "data", data, data.size());
    detail::check_channels(function, data.size(), channels, inner);
    detail::check_span(function, "histograms", histograms, channels);
    for (exponent_histogram& h : histograms) h = {};
    const auto width = static_cast<std::size_t>(inner);
    const std::size_t stride = channels * width;
    if (inner > 1) {
        run.parallel_for(static_cast<std::int64_t>(channels), [&](std::int64_t channel) {
            const auto c = static_cast<std::size_t>(channel);
            for (std::size_t i = c * width; i < data.size(); i += stride)
                kernels::exponent_histogram<Arch>(data.data() + i, width, histograms[c].counts, detail::is_far(data));
        });
        return;
    }
    // Tasks of whole rows, so many that a channel's 256 counts are few beside its values.
    constexpr std::size_t least_rows = 1024;
    const std::size_t rows = data.size() / channels;
    const std::size_t task_rows =
        std::max<std::size_t>(least_rows, static_cast<std::size_t>(detail::task_elements) / channels);
    run.parallel_for(static_cast<std::int64_t>((rows + task_rows - 1) / task_rows), [&](std::int64_t task) {
        const std::size_t first = static_cast<std::size_t>(task) * task_rows;
        constexpr std::size_t chunk = 16;  // channels whose counts stay in L1
        for (std::size_t c = 0; c < channels; c += chunk) {
            std::uint64_t counts[chunk][256] = {};
            const std::size_t count = std::min(chunk, channels - c);
            kernels::exponent_histogram_channels<Arch>(data.data() + first * channels + c,
                                                       std::min(task_rows, rows - first), channels, count, counts);
            for (std::size_t k = 0; k < count; ++k) detail::add_atomic(histograms[c + k], counts[k]);
        }
    });
}

/// The smallest k such that at least `fraction` of the finite values have |x| < 2^k, from −126 on (all of them zero or
/// subnormal) to 128; −126 where nothing finite was seen. A value of exactly 2^k is not below 2^k: it asks for k + 1.
/// The share is count / finite in double, so that a share equal to the decimal asked for, as 99 of 100 for 0.99, counts
/// as reached. Throws std::invalid_argument unless 0 < fraction <= 1.
constexpr int percentile_log2(const exponent_histogram& seen, double fraction) {
    if (!(0 < fraction && fraction <= 1))
        detail::fail("percentile_log2", "fraction", std::to_string(fraction), "0 < fraction <= 1");
    const auto finite = static_cast<double>(seen.finite());
    std::uint64_t below = 0;
    for (int b = 0; b < 254; ++b) {
        below += seen.counts[b];
        if (static_cast<double>(below) >= finite || static_cast<double>(below) / finite >= fraction) return b - 126;
    }
    return 128;
}

/// The exponent for all but 1 − fraction of the finite values: k by percentile_log2, then e = k − (bits − 1) for signed
/// formats and k − bits for unsigned ones, as in the original rule; held inside [min_exponent, max_exponent].
/// min_exponent where nothing finite was seen. With fraction 1 it is the original rule's exponent, but one more where
/// the largest magnitude is exactly 2^k, which that rule cuts by one code.
constexpr int percentile_exponent(const exponent_histogram& seen, integer_format format, double fraction) {
    const int k = percentile_log2(seen, fraction);
    return detail::within_exponents(k - format.magnitude_bits());
}

// ---- serialization --------------------------------------------------------------------------------------------------

/// Version of the byte layout below; readers refuse others.
inline constexpr std::uint32_t exponent_histogram_version = 1;

/// "PQHE", the version as uint32, then the counts as uint64, all little endian.
inline std::array<std::byte, detail::header_size + sizeof(exponent_histogram)> serialize(
    const exponent_histogram& histogram) {
    std::array<std::byte, detail::header_size + sizeof(exponent_histogram)> bytes{};
    detail::write_header(bytes.data(), "PQHE", exponent_histogram_version);
    std::memcpy(bytes.data() + detail::header_size, histogram.counts, sizeof(histogram.counts));
    return bytes;
}

/// deserialize<exponent_histogram>(bytes). Throws std::invalid_argument for another size, tag or version.
template <std::same_as<exponent_histogram> Histogram>
Histogram deserialize(std::span<const std::byte> bytes) {
    detail::check_header("deserialize", bytes, detail::header_size + sizeof(exponent_histogram), "PQHE",
                         exponent_histogram_version);
    exponent_histogram histogram;
    std::memcpy(histogram.counts, bytes.data() + detail::header_size, sizeof(histogram.counts));
    return histogram;
}

}  // namespace po2quant
