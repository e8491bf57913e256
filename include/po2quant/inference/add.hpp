#pragma once
/// Addition of two activations with exponents of their own, as in residual blocks.
#include <span>

#include <po2quant/inference/requantize.hpp>

namespace po2quant {

struct add_quantization {
    int a_exponent = 0;
    int b_exponent = 0;
    int output_exponent = 0;
    activation clamp = activation::none;
    rounding mode = rounding::half_up;
    integer_format output_format = int8;
};

namespace detail {

inline kernels::addition plan_addition(const char* function, const add_quantization& q) {
    check_rescale(function, q.mode, q.clamp, q.output_exponent);
    check_range(function, "a_exponent", q.a_exponent, min_exponent, max_exponent);
    check_range(function, "b_exponent", q.b_exponent, min_exponent, max_exponent);
    check_range(function, "a_exponent - b_exponent", q.a_exponent - q.b_exponent, -22, 22);
    check_code_format(function, "output_format", q.output_format, 8);
    const int finer = std::min(q.a_exponent, q.b_exponent);
    return {q.a_exponent - finer,
            q.b_exponent - finer,
            {q.output_exponent - finer, q.mode, clamp_range(q.clamp, q.output_format, q.output_exponent, q.mode)}};
}

}  // namespace detail

/// output[i] = clamp(round((a[i] * 2^e_a + b[i] * 2^e_b) / 2^e_y)): both inputs shifted to the finer exponent in int32,
/// then one rounding. e_a and e_b may differ by up to 22, so that no sum leaves int32. `output` may be a or b. Throws
/// std::invalid_argument, before anything is written, for sizes that differ, null or partly overlapping spans, and
/// values out of range. The kernels are those of an arch tag, by default the best that the compiler's flags allow, or
/// of a table that was compiled elsewhere.
template <executor Executor>
void add(std::span<const std::int8_t> a, std::span<const std::int8_t> b, std::span<std::int8_t> output,
         const add_quantization& q, const Executor& executor, const kernels::rescale_table& table) {
    constexpr const char* function = "add";
    const kernels::addition rule = detail::plan_addition(function, q);
    detail::check_span(function, "a", a, a.size());
    detail::check_span(function, "b", b, a.size());
    detail::check_span(function, "output", output, a.size());
    detail::check_overlap(function, "output", output, a, true);
    detail::check_overlap(function, "output", output, b, true);
    executor.parallel_for(detail::task_count(a.size()), [&](std::int64_t task) {
        const auto [begin, end] = detail::task_range(task, a.size());
        table.add[static_cast<int>(q.mode)](a.data() + begin, b.data() + begin, output.data() + begin, 1, end - begin,
                                            0, rule);
    });
}
template <class Arch = default_arch, executor Executor = serial_executor>
void add(std::span<const std::int8_t> a, std::span<const std::int8_t> b, std::span<std::int8_t> output,
         const add_quantization& q, const Executor& executor = {}) {
    add(a, b, output, q, executor, kernels::rescale_table_of<Arch>);
}

}  // namespace po2quant
