#pragma once
/// Fake quantization: floats onto the grid that the deployed integers will use, in one pass. Of float, bfloat16 or
/// float16.
#include <cstddef>
#include <limits>
#include <ranges>
#include <span>

#include <po2quant/kernels/fake_quantize.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/tensor/codes.hpp>
#include <po2quant/tensor/mask.hpp>
#include <po2quant/tensor/storage.hpp>
#include <po2quant/training/channel_quantizer.hpp>
#include <po2quant/training/exponent_histogram.hpp>
#include <po2quant/training/range.hpp>
#include <po2quant/training/streaming.hpp>

namespace po2quant {

/// Integer codes to be written: any contiguous range of int8_t, uint8_t or int16_t. Empty: none are wanted.
class code_output {
public:
    constexpr code_output() = default;
    template <codes_range Codes>
    requires writable_range<Codes> code_output(Codes&& codes)
        : data_(std::ranges::data(codes)),
          size_(std::ranges::size(codes)),
          bytes_(sizeof(element_of<Codes>)),
          low_(std::numeric_limits<element_of<Codes>>::min()),
          high_(std::numeric_limits<element_of<Codes>>::max()) {}

    bool empty() const { return size_ == 0; }
    std::size_t size() const { return size_; }
    void* data() const { return data_; }
    std::size_t element_bytes() const { return bytes_; }
    int low() const { return low_; }    ///< of the element type
    int high() const { return high_; }  ///< of the element type
    std::span<std::byte> bytes() const { return {static_cast<std::byte*>(data_), size_ * bytes_}; }

private:
    void* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t bytes_ = 1;
    int low_ = 0;
    int high_ = 0;
};

/// What fake_quantize leaves besides its output, in the same pass over the data. What is empty or null is left out.
struct forward_outputs {
    /// The codes that `output` shows as floats, as quantize gives them; NaN gives 0.
    code_output codes = {};
    /// [mask_bytes(size)]: bit i % 8 of byte i / 8 is set where the gradient of element i passes; for
    /// fake_quantize_backward. Bits behind the last element are 0.
    std::span<std::uint8_t> mask = {};
    /// Which gradients the mask lets through.
    ste estimator = ste::clip_code;
    /// Overwritten with the range of `input`: what observe gives.
    range* seen = nullptr;
    /// Of a channel_quantizer: overwritten with the range of each channel of `input`: what observe_channels gives.
    std::span<range> seen_channels = {};
    /// The counts of `input`'s exponents are added: what observe_exponents gives.
    exponent_histogram* exponents = nullptr;

    /// Whether all of them are left out.
    bool nothing() const {
        return codes.empty() && mask.empty() && seen == nullptr && seen_channels.empty() && exponents == nullptr;
    }
};

namespace detail {

template <class Storage, class Quantizer>
void check_forward(std::span<const Storage> input, std::span<Storage> output, const Quantizer& q,
                   const forward_outputs& besides) {
    constexpr const char* function = "fake_quantize";
    const std::size_t n = input.size();
    check_quantizer(function, q, n);
    check_span(function, "input", input, n);
    check_span(function, "output", output, n);
    check_overlap(function, "output", output, input, true);
    check_estimator(function, besides.estimator);
    if (!besides.seen_channels.empty()) {
        if constexpr (requires { q.exponents; })
            check_span(function, "seen_channels", besides.seen_channels, q.exponents.size());
        else
            fail(function, "seen_channels.size()", text(besides.seen_channels.size()), "0 without a channel_quantizer");
    }
    if (!besides.codes.empty()) {
        check_span(function, "codes",
                   std::span(static_cast<const std::byte*>(besides.codes.data()), besides.codes.size()), n);
        check_code_range(function, q.format, besides.codes.low(), besides.codes.high());
        check_overlap(function, "codes", besides.codes.bytes(), input, false);
        check_overlap(function, "codes", besides.codes.bytes(), output, false);
    }
    if (!besides.mask.empty()) {
        check_span(function, "mask", besides.mask, mask_bytes(n));
        check_overlap(function, "mask", besides.mask, input, false);
        check_overlap(function, "mask", besides.mask, output, false);
        check_overlap(function, "mask", besides.mask, besides.codes.bytes(), false);
    }
}

template <class Storage, class Quantizer>
kernels::forward_extras extras_of(const Quantizer& q, const forward_outputs& besides, std::span<const Storage> input,
                                  std::span<Storage> output) {
    kernels::forward_extras e;
    e.codes = besides.codes.data();
    e.code_bytes = besides.codes.element_bytes();
    e.mask = besides.mask.data();
    if (e.mask != nullptr) {
        e.pass = pass_interval(q.format, q.mode, besides.estimator);
        e.pass_by_code = passes_by_code(q.mode, besides.estimator);
    }
    e.stream = streams(input, output);
    return e;
}

/// The tasks of a pass over channels that are innermost and observed one by one: whole rows of them, by eights, so that
/// no two tasks share a byte of the mask.
struct row_tasks {
    std::size_t channels;
    std::size_t elements;
    std::size_t size = std::max<std::size_t>(task_elements / channels / 8, 1) * 8 * channels;  ///< elements of a task

    std::int64_t count() const { return static_cast<std::int64_t>((elements + size - 1) / size); }
    element_range operator[](std::int64_t task) const {
        const std::size_t begin = static_cast<std::size_t>(task) * size;
        return {begin, std::min(elements, begin + size)};
    }
};

/// Calls f(range) for a task's elements: all at once; or, where the input is observed too, by blocks that stay in L1
/// between the two, observed before an output in place overwrites them.
template <class Arch, class Storage, class F>
void observe_blocks(std::span<const Storage> input, element_range task, const forward_outputs& besides, F&& f) {
    if (besides.seen == nullptr && besides.exponents == nullptr) return f(task);
    constexpr std::size_t block = 4096;
    range seen;
    exponent_histogram exponents;
    for (std::size_t begin = task.begin; begin < task.end; begin += block) {
        const element_range part{begin, std::min(task.end, begin + block)};
        const Storage* in = input.data() + begin;
        if (besides.seen != nullptr)
            seen = merge(seen, to_range(kernels::minmax<Arch>(in, part.size(), is_far(input)), part.size()));
        if (besides.exponents != nullptr)
            kernels::exponent_histogram<Arch>(in, part.size(), exponents.counts, is_far(input));
        f(part);
    }
    if (besides.seen != nullptr) merge_atomic(*besides.seen, seen);
    if (besides.exponents != nullptr) merge_atomic(*besides.exponents, exponents);
}

template <class Arch, class Storage, class Executor>
void fake_quantize(std::span<const Storage> input, std::span<Storage> output, const quantizer& q,
                   const forward_outputs& besides, const Executor& run) {
    check_forward(input, output, q, besides);
    // Most calls, some of a few elements: the copies of forward_extras would take longer than their work.
    if (besides.nothing()) {
        const bool stream = streams(input, output);
        with_rounding(q.mode, [&]<rounding Mode>(std::integral_constant<rounding, Mode>) {
            run.parallel_for(task_count(input.size()), [&](std::int64_t task) {
                const element_range own = task_range(task, input.size());
                kernels::fake_quantize<Arch, Mode>(input.data() + own.begin, output.data() + own.begin, own.size(),
                                                   q.exponent, kernels::grid_of(q, own.begin), {.stream = stream});
            });
        });
        return;
    }
    const kernels::forward_extras extras = extras_of(q, besides, input, output);
    if (besides.seen != nullptr) *besides.seen = range{};
    // The pass watches x itself, unless it may have to look again at what it has overwritten.
    const bool watches = besides.seen != nullptr && besides.exponents == nullptr && input.data() != output.data();
    with_rounding(q.mode, [&]<rounding Mode>(std::integral_constant<rounding, Mode>) {
        run.parallel_for(task_count(input.size()), [&](std::int64_t task) {
            const element_range own = task_range(task, input.size());
            const auto quantize_part = [&](element_range part, kernels::extremes* seen) {
                kernels::forward_extras also = extras.from(part.begin);
                also.seen = seen;
                kernels::fake_quantize<Arch, Mode>(input.data() + part.begin, output.data() + part.begin, part.size(),
                                                   q.exponent, kernels::grid_of(q, part.begin), also);
            };
            if (watches) {
                kernels::extremes seen;
                quantize_part(own, &seen);
                merge_atomic(*besides.seen, to_range(seen, own.size()));
            } else {
                observe_blocks<Arch>(input, own, besides, [&](element_range part) { quantize_part(part, nullptr); });
            }
        });
    });
}

template <class Arch, class Storage, class Executor>
void fake_quantize(std::span<const Storage> input, std::span<Storage> output, const channel_quantizer& q,
                   const forward_outputs& besides, const Executor& run) {
    check_forward(input, output, q, besides);
    const std::size_t channels = q.exponents.size();
    const auto inner = static_cast<std::size_t>(q.inner);
    const kernels::forward_extras extras = extras_of(q, besides, input, output);
    if (besides.seen != nullptr) *besides.seen = range{};
    const std::span<range> ranges = besides.seen_channels;
    std::fill(ranges.begin(), ranges.end(), range{});
    const bool by_channel = !ranges.empty();
    const bool by_rows = by_channel && inner == 1;
    const row_tasks rows{channels, input.size()};
    const Storage* in = input.data();
    Storage* out = output.data();
    with_rounding(q.mode, [&]<rounding Mode>(std::integral_constant<rounding, Mode>) {
        const auto quantize_run = [&](std::size_t i, std::size_t n, std::size_t channel) {
            kernels::forward_extras also = extras.from(i);
            kernels::extremes seen{};
            if (by_channel && in == out) seen = kernels::minmax<Arch>(in + i, n, is_far(input));
            else if (by_channel) also.seen = &seen;
            kernels::fake_quantize<Arch, Mode>(in + i, out + i, n, q.exponents[channel], kernels::grid_of(q, i), also);
            if (by_channel) merge_atomic(ranges[channel], to_range(seen, n));
        };
        run.parallel_for(by_rows ? rows.count() : task_count(input.size()), [&](std::int64_t task) {
            const element_range own = by_rows ? rows[task] : task_range(task, input.size());
            // From memory to L2, where the pass finds them.
            if (by_rows) observe_rows<Arch>(in + own.begin, own.size() / channels, ranges);
            observe_blocks<Arch>(input, own, besides, [&](element_range part) {
                if (inner != 1) return for_each_run(part, inner, channels, quantize_run);
                kernels::fake_quantize_channels<Arch, Mode>(in + part.begin, out + part.begin, part.size(),
                                                            q.exponents.data(), channels, part.begin % channels,
                                                            kernels::grid_of(q, part.begin), extras.from(part.begin));
            });
        });
    });
}

}  // namespace detail

/// output[i] = clamp(round(input[i] * 2^−e), qmin, qmax) * 2^e; NaN stays NaN, codes of 0 give +0, ±∞ saturate.
/// `output` may be `input` itself. Any size, any alignment. Outputs of 32 MB and more, in memory of their own,
/// are written past the caches.
///
/// Both are float, or both bfloat16 or float16: through conversion, with y rounded to the storage (to nearest, ties to
/// even) unless holds_grid says that it has the whole grid (numerics/storage.hpp). All else that the pass leaves is
/// that of the floats. Throws std::invalid_argument, before anything is written, for sizes that differ, null spans,
/// partial overlap, a quantizer out of range, and codes whose type does not hold the format.
template <class Arch = default_arch, storage_range Input = std::span<const float>,
          writable_like<Input> Output = std::span<storage_of<Input>>, executor Executor = serial_executor>
void fake_quantize(const Input& input, Output&& output, const quantizer& q, const forward_outputs& besides,
                   const Executor& run = {}) {
    detail::fake_quantize<Arch, storage_of<Input>>(input, output, q, besides, run);
}
template <class Arch = default_arch, storage_range Input = std::span<const float>,
          writable_like<Input> Output = std::span<storage_of<Input>>, executor Executor = serial_executor>
void fake_quantize(const Input& input, Output&& output, const quantizer& q, const Executor& run = {}) {
    detail::fake_quantize<Arch, storage_of<Input>>(input, output, q, {}, run);
}

/// The same with one exponent per channel; see channel_quantizer for the layouts. `seen` and `exponents` are of the
/// whole tensor, `seen_channels` of each channel. Where channels are not innermost, only runs of 1024 elements of a
/// channel and more are written past the caches.
template <class Arch = default_arch, storage_range Input = std::span<const float>,
          writable_like<Input> Output = std::span<storage_of<Input>>, executor Executor = serial_executor>
void fake_quantize(const Input& input, Output&& output, const channel_quantizer& q, const forward_outputs& besides,
                   const Executor& run = {}) {
    detail::fake_quantize<Arch, storage_of<Input>>(input, output, q, besides, run);
}
template <class Arch = default_arch, storage_range Input = std::span<const float>,
          writable_like<Input> Output = std::span<storage_of<Input>>, executor Executor = serial_executor>
void fake_quantize(const Input& input, Output&& output, const channel_quantizer& q, const Executor& run = {}) {
    detail::fake_quantize<Arch, storage_of<Input>>(input, output, q, {}, run);
}

}  // namespace po2quant
