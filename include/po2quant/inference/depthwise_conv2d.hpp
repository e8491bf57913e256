#pragma once
/// Depthwise convolution by integers: pack once, run many.
#include <span>
#include <vector>

#include <po2quant/inference/conv2d.hpp>
#include <po2quant/inference/depthwise_plan.hpp>

namespace po2quant {

namespace detail {

inline std::vector<std::int8_t> unpacked_weights(const depthwise_conv2d_shape& shape, const packed_codes& weights) {
    check_depthwise_shape("depthwise_conv2d", shape);
    return unpacked_weights("depthwise_conv2d", weights, shape.weights());
}

}  // namespace detail

/// Depthwise convolution of int8 inputs with int8 weights, int32 sums, int8 outputs; see requantization for the rule.
/// All work that depends on the shape and the weights is done by the constructor; run allocates nothing and can be
/// called from several threads at once.
class depthwise_conv2d {
public:
    /// Arguments, errors and the choice of kernels as conv2d's.
    template <class Arch = default_arch>
    depthwise_conv2d(const depthwise_conv2d_shape& shape, std::span<const std::int8_t> weights, const bias_codes& bias,
                     const requantization& q, weight_layout layout = weight_layout::hwio, Arch = {})
        : depthwise_conv2d(shape, weights, bias, q, layout, kernels::depthwise_table_of<Arch>) {}

    depthwise_conv2d(const depthwise_conv2d_shape& shape, std::span<const std::int8_t> weights, const bias_codes& bias,
                     const requantization& q, weight_layout layout, const kernels::depthwise_table& table)
        : plan_(checked(shape, weights, bias, q, layout), q.input_format, table),
          packed_(pack_depthwise_weights(shape, weights, layout, table)) {
        std::vector<accumulator_bounds> bounds;
        for (const weight_sums& sums : packed_.sums) bounds.push_back(sums.bounds(q.input_format));
        requantize_ = detail::plan_requantization("depthwise_conv2d", q, bias, bounds);
        lanes_ = detail::requantize_lanes(requantize_, plan_, packed_.row_sums.data());
    }

    /// The same with packed weights of 4 or 2 bits, as conv2d has them.
    template <class Arch = default_arch>
    depthwise_conv2d(const depthwise_conv2d_shape& shape, const packed_codes& weights, const bias_codes& bias,
                     const requantization& q, weight_layout layout = weight_layout::hwio, Arch = {})
        : depthwise_conv2d(shape, weights, bias, q, layout, kernels::depthwise_table_of<Arch>) {}
    depthwise_conv2d(const depthwise_conv2d_shape& shape, const packed_codes& weights, const bias_codes& bias,
                     const requantization& q, weight_layout layout, const kernels::depthwise_table& table)
        : depthwise_conv2d(shape, detail::unpacked_weights(shape, weights), bias, q, layout, table) {}

    /// input int8 NHWC, output int8 NHWC of output(); errors are thrown before anything is written.
    template <executor Executor = serial_executor>
    void run(std::span<const std::int8_t> input, std::span<std::int8_t> output, const Executor& executor = {}) const {
        execute(input, output, requantize_.kind, executor);
    }
    /// The int32 sums with their aligned bias, before the shift.
    template <executor Executor = serial_executor>
    void accumulate(std::span<const std::int8_t> input, std::span<std::int32_t> sums,
                    const Executor& executor = {}) const {
        execute(input, sums, kernels::epilogue::accumulators, executor);
    }

    const depthwise_conv2d_shape& shape() const { return plan_.shape(); }
    nhwc output() const { return shape().output(); }
    const po2quant::certificate& certificate() const { return requantize_.proof; }
    /// The instruction set whose kernels run.
    const char* arch() const { return plan_.table().arch; }

private:
    friend class separable_conv2d;

    static const depthwise_conv2d_shape& checked(const depthwise_conv2d_shape& shape,
                                                 std::span<const std::int8_t> weights, const bias_codes& bias,
                                                 const requantization& q, weight_layout layout) {
        constexpr const char* function = "depthwise_conv2d";
        detail::check_depthwise_shape(function, shape);
        detail::check_layout(function, layout);
        detail::check_code_format(function, "input_format", q.input_format, 8);
        detail::check_requantization(function, q, bias, shape.outputs());
        detail::check_span(function, "weights", weights, static_cast<std::uint64_t>(shape.weights()));
        return shape;
    }

    detail::depthwise_operation operation(kernels::epilogue kind) const {
        return {packed_.weights.data(), lanes_.bias(), lanes_.block(kind)};
    }

    template <class Output, class Executor>
    void execute(std::span<const std::int8_t> input, std::span<Output> output, kernels::epilogue kind,
                 const Executor& executor) const {
        constexpr const char* function = "depthwise_conv2d";
        detail::check_span(function, "input", input, static_cast<std::uint64_t>(shape().input.elements()));
        detail::check_span(function, "output", output, static_cast<std::uint64_t>(shape().output().elements()));
        detail::check_overlap(function, "output", output, input, false);
        plan_.run(operation(kind), input.data(), output.data(), executor);
    }

    detail::depthwise_plan plan_;
    detail::requantize_plan requantize_;
    packed_depthwise_weights packed_;
    detail::requantize_lanes lanes_;
};

}  // namespace po2quant
