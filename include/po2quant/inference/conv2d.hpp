#pragma once
/// Standard convolution by integers: pack once, run many.
#include <span>
#include <vector>

#include <po2quant/inference/add.hpp>
#include <po2quant/inference/conv2d_plan.hpp>
#include <po2quant/inference/pack_codes.hpp>
#include <po2quant/inference/requantize_lanes.hpp>

namespace po2quant {

namespace detail {

/// A residual that is added to a layer's codes: element i of the output meets element i of the residual.
struct fused_addition {
    const std::int8_t* residual;
    const std::int8_t* output;
    kernels::addition rule;
};

inline std::vector<std::int8_t> unpacked_weights(const conv2d_shape& shape, const packed_codes& weights) {
    check_conv2d_shape("conv2d", shape);
    return unpacked_weights("conv2d", weights, shape.weights());
}

}  // namespace detail

/// Convolution of int8 (or int16) inputs with int8 weights, int32 sums, int8 outputs; see requantization for the rule.
/// All work that depends on the shape and the weights is done by the constructor; run allocates nothing and can be
/// called from several threads at once.
class conv2d {
public:
    /// Throws std::invalid_argument for a shape, size or exponent out of range, and where an accumulator could
    /// overflow. `bias` is int16 or int32 codes, one per output channel, or empty. The last argument chooses the
    /// kernels: an arch tag, by default the best that the compiler's flags allow, …
    template <class Arch = default_arch>
    conv2d(const conv2d_shape& shape, std::span<const std::int8_t> weights, const bias_codes& bias,
           const requantization& q, weight_layout layout = weight_layout::hwio, Arch = {})
        : conv2d(shape, weights, bias, q, layout, kernels::conv2d_table_of<Arch>) {}

    /// … or a table of kernels that was compiled elsewhere, for another instruction set.
    conv2d(const conv2d_shape& shape, std::span<const std::int8_t> weights, const bias_codes& bias,
           const requantization& q, weight_layout layout, const kernels::conv2d_table& table)
        : plan_(checked(shape, weights, bias, q, layout), q.input_format, table),
          wide_input_(q.input_format.signed_bits() > 8) {
        packed_ = pack_conv2d_weights(shape, weights, layout, q.input_format, plan_.table());
        std::vector<accumulator_bounds> bounds;
        for (const weight_sums& sums : packed_.sums) bounds.push_back(sums.bounds(q.input_format));
        requantize_ = detail::plan_requantization("conv2d", q, bias, bounds);
        lanes_ = detail::requantize_lanes(requantize_, plan_, packed_.tap_sums.data());
    }

    /// The same with weights of 4 or 2 bits, packed in the order of `layout`: they are unpacked once, here.
    template <class Arch = default_arch>
    conv2d(const conv2d_shape& shape, const packed_codes& weights, const bias_codes& bias, const requantization& q,
           weight_layout layout = weight_layout::hwio, Arch = {})
        : conv2d(shape, weights, bias, q, layout, kernels::conv2d_table_of<Arch>) {}
    conv2d(const conv2d_shape& shape, const packed_codes& weights, const bias_codes& bias, const requantization& q,
           weight_layout layout, const kernels::conv2d_table& table)
        : conv2d(shape, detail::unpacked_weights(shape, weights), bias, q, layout, table) {}

    /// input int8 NHWC, output int8 NHWC of output(); errors are thrown before anything is written. For layers whose
    /// input_format fits int8.
    template <executor Executor = serial_executor>
    void run(std::span<const std::int8_t> input, std::span<std::int8_t> output, const Executor& executor = {}) const {
        execute(plan_.bytes(), input, output, requantize_.kind, executor);
    }
    /// run, then add(output, residual, output, q), strip by strip while its codes are in cache: a residual block
    /// without a pass of its own. `residual` has the output's shape, in memory of its own; q.a_exponent is the layer's
    /// output_exponent.
    template <executor Executor = serial_executor>
    void run_add(std::span<const std::int8_t> input, std::span<const std::int8_t> residual,
                 std::span<std::int8_t> output, const add_quantization& q, const Executor& executor = {}) const {
        const detail::fused_addition add = plan_add("conv2d", residual, output, q);
        execute(plan_.bytes(), input, output, requantize_.kind, executor, &add);
    }
    /// The same for int16 inputs: layers whose input_format does not fit int8.
    template <executor Executor = serial_executor>
    void run(std::span<const std::int16_t> input, std::span<std::int8_t> output, const Executor& executor = {}) const {
        execute(plan_.table().i16, input, output, requantize_.kind, executor);
    }
    /// The int32 sums with their aligned bias, before the shift: for logits, and for rescaling by other rules.
    template <executor Executor = serial_executor>
    void accumulate(std::span<const std::int8_t> input, std::span<std::int32_t> sums,
                    const Executor& executor = {}) const {
        execute(plan_.bytes(), input, sums, kernels::epilogue::accumulators, executor);
    }
    template <executor Executor = serial_executor>
    void accumulate(std::span<const std::int16_t> input, std::span<std::int32_t> sums,
                    const Executor& executor = {}) const {
        execute(plan_.table().i16, input, sums, kernels::epilogue::accumulators, executor);
    }

    const conv2d_shape& shape() const { return plan_.shape(); }
    nhwc output() const { return shape().output(); }
    const po2quant::certificate& certificate() const { return requantize_.proof; }
    /// The instruction set whose kernels run.
    const char* arch() const { return plan_.table().arch; }

private:
    friend class separable_conv2d;

    static const conv2d_shape& checked(const conv2d_shape& shape, std::span<const std::int8_t> weights,
                                       const bias_codes& bias, const requantization& q, weight_layout layout) {
        constexpr const char* function = "conv2d";
        detail::check_conv2d_shape(function, shape);
        detail::check_layout(function, layout);
        detail::check_requantization(function, q, bias, shape.outputs);
        detail::check_span(function, "weights", weights, static_cast<std::uint64_t>(shape.weights()));
        return shape;
    }

    detail::conv2d_operation operation(kernels::epilogue kind) const {
        return {packed_.weights.data(), lanes_.bias(), lanes_.block(kind)};
    }

    detail::fused_addition plan_add(const char* function, std::span<const std::int8_t> residual,
                                    std::span<const std::int8_t> output, const add_quantization& q) const {
        const kernels::addition rule = detail::plan_addition(function, q);
        if (q.a_exponent != requantize_.output_exponent)
            detail::fail(function, "a_exponent", std::to_string(q.a_exponent),
                         detail::text("the layer's output_exponent, ", requantize_.output_exponent));
        detail::check_span(function, "residual", residual, static_cast<std::uint64_t>(shape().output().elements()));
        detail::check_overlap(function, "output", output, residual, false);
        return {residual.data(), output.data(), rule};
    }

    template <class Input, class Output, class Executor>
    void execute(const kernels::conv2d_table::functions<Input>& run, std::span<const Input> input,
                 std::span<Output> output, kernels::epilogue kind, const Executor& executor,
                 const detail::fused_addition* add = nullptr) const {
        constexpr const char* function = "conv2d";
        if (wide_input_ != (sizeof(Input) == 2))
            detail::fail(function, "input's element type", sizeof(Input) == 2 ? "int16" : "int8",
                         wide_input_ ? "int16, as int8 does not hold all codes of input_format"
                                     : "int8, as input_format's codes fit that");
        detail::check_span(function, "input", input, static_cast<std::uint64_t>(shape().input.elements()));
        detail::check_span(function, "output", output, static_cast<std::uint64_t>(shape().output().elements()));
        detail::check_overlap(function, "output", output, input, false);
        const detail::conv2d_operation with = operation(kind);
        if (add == nullptr) {
            plan_.run(run, with, input.data(), output.data(), executor, [](const auto&, const conv2d_block&) {});
            return;
        }
        const auto after = [this, add](const auto& job, const conv2d_block& block) {
            this->add_residual(job, block, add);  // clang 14 does not see the use otherwise
        };
        if (whole_pixels()) plan_.run_whole_pixels(run, with, input.data(), output.data(), executor, after);
        else plan_.run(run, with, input.data(), output.data(), executor, after);
    }

    /// Whether an addition waits for all blocks of a strip, since it would weigh something block by block.
    bool whole_pixels() const { return plan_.whole_pixel_grid().rows != 0; }

    /// Input codes as run_pixels wants them, and a rectangle of them: see conv2d_plan.
    void prepare_pixels(std::int8_t* codes, std::int64_t count) const { plan_.prepare_pixels(codes, count); }
    void run_pixels(const std::int8_t* input, std::int64_t input_row, std::int8_t* output, std::int64_t output_row,
                    std::int64_t rows, std::int64_t columns, const conv2d_block& block,
                    const detail::fused_addition* add) const {
        plan_.run_pixels(operation(requantize_.kind), input, input_row, output, output_row, rows, columns, block,
                         [this, add](const auto& job, const conv2d_block& of) { this->add_residual(job, of, add); });
    }

    /// Adds the residual, if there is one, to what a job has written; after the last of all blocks, to whole pixels.
    template <class Input>
    void add_residual(const kernels::conv2d_rectangle<Input>& job, const conv2d_block& block,
                      const detail::fused_addition* add) const {
        const bool whole = whole_pixels();
        if (add == nullptr || (whole && &block != &plan_.packing().blocks.back())) return;
        for (std::int64_t y = 0; y < job.rows; ++y) {
            auto* codes = static_cast<std::int8_t*>(job.output) + y * job.output_row - (whole ? block.first_output : 0);
            plan_.table().add_residual(codes, add->residual + (codes - add->output), job.columns,
                                       static_cast<std::size_t>(whole ? shape().outputs : job.outputs),
                                       job.output_column, add->rule);
        }
    }

    detail::conv2d_plan plan_;
    bool wide_input_;
    detail::requantize_plan requantize_;
    packed_conv2d_weights packed_;
    detail::requantize_lanes lanes_;
};

}  // namespace po2quant
