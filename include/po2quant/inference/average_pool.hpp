#pragma once
/// Average pooling in integers.
#include <span>

#include <po2quant/inference/pool.hpp>
#include <po2quant/kernels/pool_table.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/tensor/codes.hpp>

namespace po2quant {

/// Averages int8 codes of exponent e_x over a window; padding is not counted. Three forms, by the output's element
/// type, with `area` the number of taps inside the image:
///
///   int32_t   the sum itself: real value = sum * 2^e_x / area, nothing lost
///   int16_t   floor((2·256·sum + area) / (2·area)), exponent e_x − 8
///   int8_t    floor((2·sum + area) / (2·area)), exponent e_x
/// Windows of up to 1024 taps. Throws std::invalid_argument, before anything is written, for a shape or size that is
/// not possible. The kernels are those of an arch tag, by default the best that the compiler's flags allow, or of a
/// table that was compiled elsewhere.
template <std::ranges::contiguous_range Output, executor Executor>
requires writable_range<Output> &&
    (activation_code<element_of<Output>> ||
     std::same_as<element_of<Output>, std::int32_t>)void average_pool(const pool_shape& shape,
                                                                      std::span<const std::int8_t> input,
                                                                      Output&& means, const Executor& executor,
                                                                      const kernels::pool_table& table) {
    const std::span output(means);
    constexpr const char* function = "average_pool";
    detail::check_pool(function, shape);
    detail::check_span(function, "input", input, static_cast<std::uint64_t>(shape.input.elements()));
    detail::check_span(function, "output", output, static_cast<std::uint64_t>(shape.output().elements()));
    detail::check_overlap(function, "output", output, input, false);
    const std::int64_t rows = shape.output().height;
    executor.parallel_for(shape.input.batch * rows, [&](std::int64_t task) {
        detail::pool_row(shape, input.data(), output.data(), task / rows, task % rows,
                         table.average<element_of<Output>>());
    });
}
template <class Arch = default_arch, std::ranges::contiguous_range Output, executor Executor = serial_executor>
requires writable_range<Output> &&
    (activation_code<element_of<Output>> || std::same_as<element_of<Output>, std::int32_t>)void average_pool(
        const pool_shape& shape, std::span<const std::int8_t> input, Output&& means, const Executor& executor = {}) {
    average_pool(shape, input, means, executor, kernels::pool_table_of<Arch>);
}

}  // namespace po2quant
