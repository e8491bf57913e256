#pragma once
/// Concatenation along channels of parts whose exponents may differ.
#include <span>

#include <po2quant/inference/requantize.hpp>

namespace po2quant {

/// One input of a concatenation: codes [pixels][channels] and their exponent.
template <activation_code In>
struct concat_part {
    std::span<const In> codes;
    std::int64_t channels = 0;
    int exponent = 0;
};

struct concat_options {
    int output_exponent = 0;
    rounding mode = rounding::half_up;
    integer_format output_format = {.bits = 0};  ///< by default all codes of the output's element type
};

/// codes [pixels][Σ channels]: each part's channels behind those of the parts before it, brought to output_exponent by
/// one rounding each. int16 outputs hold int8 parts of coarser exponents without loss. Throws std::invalid_argument,
/// before anything is written, for sizes that do not fit, null or overlapping spans, and values out of range. The
/// kernels are those of an arch tag, by default the best that the compiler's flags allow, or of a table that was
/// compiled elsewhere.
template <activation_code In, activations_range Output, executor Executor>
requires writable_range<Output>
void concat(std::span<const concat_part<In>> parts, std::int64_t pixels, Output&& codes, const concat_options& options,
            const Executor& executor, const kernels::rescale_table& table) {
    const std::span output(codes);
    constexpr const char* function = "concat";
    detail::check_rescale(function, options.mode, activation::none, options.output_exponent);
    const integer_format format = detail::output_format_of<element_of<Output>>(function, options.output_format);
    detail::check_range(function, "pixels", pixels, 1, std::int64_t{1} << 40);
    detail::check_range(function, "parts.size()", parts.size(), 1, 65536);
    std::int64_t channels = 0;
    for (const concat_part<In>& part : parts) {
        detail::check_range(function, "parts[…].channels", part.channels, 1, std::int64_t{1} << 20);
        detail::check_range(function, "parts[…].exponent", part.exponent, min_exponent, max_exponent);
        detail::check_span(function, "parts[…].codes", part.codes, static_cast<std::uint64_t>(pixels * part.channels));
        detail::check_overlap(function, "output", output, part.codes, false);
        channels += part.channels;
    }
    detail::check_span(function, "output", output, static_cast<std::uint64_t>(pixels * channels));
    const code_range range{format.qmin(), format.qmax()};
    const std::int64_t task_pixels = std::max<std::int64_t>(1, detail::task_elements / channels);
    const auto rescale = table.requantize<In, element_of<Output>>(options.mode);
    executor.parallel_for((pixels + task_pixels - 1) / task_pixels, [&](std::int64_t task) {
        const std::int64_t first = task * task_pixels;
        const std::int64_t last = std::min(pixels, first + task_pixels);
        std::int64_t channel = 0;
        for (const concat_part<In>& part : parts) {
            const kernels::value_rule rule{options.output_exponent - part.exponent, options.mode, range};
            for (std::int64_t pixel = first; pixel < last; ++pixel)
                rescale(part.codes.data() + pixel * part.channels, output.data() + pixel * channels + channel,
                        static_cast<std::size_t>(part.channels), rule);
            channel += part.channels;
        }
    });
}
template <class Arch = default_arch, activation_code In, activations_range Output, executor Executor = serial_executor>
requires writable_range<Output>
void concat(std::span<const concat_part<In>> parts, std::int64_t pixels, Output&& codes, const concat_options& options,
            const Executor& executor = {}) {
    concat(parts, pixels, codes, options, executor, kernels::rescale_table_of<Arch>);
}

}  // namespace po2quant
