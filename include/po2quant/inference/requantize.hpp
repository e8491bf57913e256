#pragma once
/// Codes from one exponent to another.
#include <span>

#include <po2quant/inference/requantization.hpp>
#include <po2quant/kernels/requantize.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/tensor/codes.hpp>

namespace po2quant {

/// How codes change their exponent. `output_format` defaults to all codes of the output's element type.
struct requantize_options {
    int input_exponent = 0;
    int output_exponent = 0;
    activation clamp = activation::none;
    rounding mode = rounding::half_up;
    integer_format output_format = {.bits = 0};
};

namespace detail {

template <class Out>
integer_format output_format_of(const char* function, integer_format format) {
    constexpr int element_bits = 8 * sizeof(Out);
    if (format.bits == 0) return {.bits = element_bits};
    check_code_format(function, "output_format", format, element_bits);
    return format;
}

/// Exponents, rounding mode and activation of an op on codes.
inline void check_rescale(const char* function, rounding mode, activation clamp, int output_exponent) {
    check_range(function, "mode", static_cast<int>(mode), 0, static_cast<int>(rounding::floor));
    check_activation(function, clamp);
    check_range(function, "output_exponent", output_exponent, min_exponent, max_exponent);
}

}  // namespace detail

/// to[i] = clamp(round(from[i] * 2^(input_exponent − output_exponent))); the elements are int8_t or int16_t. Throws
/// std::invalid_argument, before anything is written, for sizes that differ, null or overlapping spans, and values out
/// of range. The kernels are those of an arch tag, by default the best that the compiler's flags allow, or of a table
/// that was compiled elsewhere.
template <activations_range Input, activations_range Output, executor Executor>
requires writable_range<Output>
void requantize(const Input& from, Output&& to, const requantize_options& options, const Executor& executor,
                const kernels::rescale_table& table) {
    const std::span<const element_of<Input>> input(from);
    const std::span output(to);
    constexpr const char* function = "requantize";
    detail::check_rescale(function, options.mode, options.clamp, options.output_exponent);
    detail::check_range(function, "input_exponent", options.input_exponent, min_exponent, max_exponent);
    const integer_format format = detail::output_format_of<element_of<Output>>(function, options.output_format);
    detail::check_span(function, "input", input, input.size());
    detail::check_span(function, "output", output, input.size());
    detail::check_overlap(function, "output", output, input, true);
    const kernels::value_rule rule{options.output_exponent - options.input_exponent, options.mode,
                                   clamp_range(options.clamp, format, options.output_exponent, options.mode)};
    const auto run = table.requantize<element_of<Input>, element_of<Output>>(options.mode);
    executor.parallel_for(detail::task_count(input.size()), [&](std::int64_t task) {
        const auto [begin, end] = detail::task_range(task, input.size());
        run(input.data() + begin, output.data() + begin, end - begin, rule);
    });
}
template <class Arch = default_arch, activations_range Input, activations_range Output,
          executor Executor = serial_executor>
requires writable_range<Output>
void requantize(const Input& from, Output&& to, const requantize_options& options, const Executor& executor = {}) {
    requantize(from, to, options, executor, kernels::rescale_table_of<Arch>);
}

}  // namespace po2quant
