#pragma once
/// Max pooling on codes.
#include <span>

#include <po2quant/inference/pool.hpp>
#include <po2quant/kernels/pool_table.hpp>
#include <po2quant/parallel.hpp>

namespace po2quant {

/// The largest code under the window; exponents stay, padding never wins. Windows of up to 1024 taps. Throws
/// std::invalid_argument, before anything is written, for a shape or size that is not possible. The kernels are those
/// of an arch tag, by default the best that the compiler's flags allow, or of a table that was compiled elsewhere.
template <executor Executor>
void max_pool(const pool_shape& shape, std::span<const std::int8_t> input, std::span<std::int8_t> output,
              const Executor& executor, const kernels::pool_table& table) {
    constexpr const char* function = "max_pool";
    detail::check_pool(function, shape);
    detail::check_span(function, "input", input, static_cast<std::uint64_t>(shape.input.elements()));
    detail::check_span(function, "output", output, static_cast<std::uint64_t>(shape.output().elements()));
    detail::check_overlap(function, "output", output, input, false);
    const std::int64_t rows = shape.output().height;
    executor.parallel_for(shape.input.batch * rows, [&](std::int64_t task) {
        detail::pool_row(shape, input.data(), output.data(), task / rows, task % rows, table.max);
    });
}
template <class Arch = default_arch, executor Executor = serial_executor>
void max_pool(const pool_shape& shape, std::span<const std::int8_t> input, std::span<std::int8_t> output,
              const Executor& executor = {}) {
    max_pool(shape, input, output, executor, kernels::pool_table_of<Arch>);
}

}  // namespace po2quant
