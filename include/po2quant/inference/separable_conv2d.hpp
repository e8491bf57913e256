#pragma once
/// A depthwise convolution and the 1×1 convolution behind it, fused: the pair that MobileNets are made of.
#include <utility>

#include <po2quant/inference/depthwise_conv2d.hpp>

namespace po2quant {

/// pointwise(depthwise(x)), bit for bit, without the tensor between them: strips of the depthwise output are computed
/// into a buffer of 64 KB on the stack of the thread that runs the task, and leave it through the 1×1 layer at once.
class separable_conv2d {
public:
    /// Both layers as they would run alone. Throws std::invalid_argument where the second is no 1×1 convolution of one
    /// group that moves by 1 over exactly the output of the first, with the exponent and a format of its codes, or
    /// where one pixel of that output is larger than the buffer.
    separable_conv2d(depthwise_conv2d depthwise, conv2d pointwise)
        : depthwise_(std::move(depthwise)), pointwise_(std::move(pointwise)) {
        constexpr const char* function = "separable_conv2d";
        const conv2d_shape& second = pointwise_.shape();
        const window2d& w = second.window;
        if (w.kernel != extent2d{} || w.stride != extent2d{} || w.padding != padding2d{} || second.groups != 1 ||
            pointwise_.wide_input_)
            detail::fail(function, "pointwise", "another convolution",
                         "a 1x1 convolution of int8, stride 1, no padding, 1 group");
        const nhwc between = depthwise_.output();
        if (second.input != between)
            detail::fail(function, "pointwise's input",
                         detail::text(second.input.batch, "x", second.input.height, "x", second.input.width, "x",
                                      second.input.channels),
                         detail::text("depthwise's output, ", between.batch, "x", between.height, "x", between.width,
                                      "x", between.channels));
        if (depthwise_.requantize_.output_exponent != pointwise_.requantize_.input_exponent)
            detail::fail(function, "pointwise's input_exponent", std::to_string(pointwise_.requantize_.input_exponent),
                         detail::text("depthwise's output_exponent, ", depthwise_.requantize_.output_exponent));
        const integer_format input = pointwise_.requantize_.input_format;
        if (!input.contains(depthwise_.requantize_.range.low) || !input.contains(depthwise_.requantize_.range.high))
            detail::fail(function, "pointwise's input_format",
                         detail::text(input.is_signed ? "signed " : "unsigned ", input.bits, " bits"),
                         detail::text("one that holds depthwise's codes, ", depthwise_.requantize_.range.low, "..",
                                      depthwise_.requantize_.range.high));
        detail::check_range(function, "depthwise's output channels", between.channels, 1, strip_bytes - 2 * margin);
        cut(between);
    }

    /// input int8 NHWC of the first layer, output int8 NHWC of the second; errors are thrown before anything is
    /// written.
    template <executor Executor = serial_executor>
    void run(std::span<const std::int8_t> input, std::span<std::int8_t> output, const Executor& executor = {}) const {
        execute(input, output, nullptr, executor);
    }
    /// run, then add(output, residual, output, q): see conv2d::run_add.
    template <executor Executor = serial_executor>
    void run_add(std::span<const std::int8_t> input, std::span<const std::int8_t> residual,
                 std::span<std::int8_t> output, const add_quantization& q, const Executor& executor = {}) const {
        const detail::fused_addition add = pointwise_.plan_add("separable_conv2d", residual, output, q);
        execute(input, output, &add, executor);
    }

    const depthwise_conv2d& depthwise() const { return depthwise_; }
    const conv2d& pointwise() const { return pointwise_; }
    nhwc output() const { return pointwise_.output(); }

private:
    static constexpr std::int64_t strip_bytes = 65536;
    /// Vectors at the ends of a cut row may reach that far into what is not wanted of it.
    static constexpr std::int64_t margin = 64;

    /// Strips of whole rows, where four or more fit the buffer; else, and where the depthwise layer walks down columns
    /// and the first rows of a strip cost as much as others and yield nothing, higher ones of a part of the rows. Fewer
    /// rows only where one column of them would not fit.
    void cut(const nhwc& between) {
        const std::int64_t column = between.channels;
        std::int64_t high = kernels::depthwise_rows;
        if (!depthwise_.plan_.packing().flat)
            high = std::clamp<std::int64_t>(strip_bytes / (between.width * column), 4, high);
        const std::int64_t most = std::max<std::int64_t>(1, strip_bytes / (column + 2 * margin));
        rows_ = detail::part_length(between.height, std::min(high, most));
        std::int64_t fit = strip_bytes / (rows_ * column);
        if (fit < between.width) fit = std::max<std::int64_t>(1, (strip_bytes / rows_ - 2 * margin) / column);
        columns_ = detail::part_length(between.width, fit);
        row_strips_ = (between.height + rows_ - 1) / rows_;
        column_strips_ = (between.width + columns_ - 1) / columns_;
    }

    template <class Executor>
    void execute(std::span<const std::int8_t> input, std::span<std::int8_t> output, const detail::fused_addition* add,
                 const Executor& executor) const {
        constexpr const char* function = "separable_conv2d";
        const nhwc& in = depthwise_.shape().input;
        detail::check_span(function, "input", input, static_cast<std::uint64_t>(in.elements()));
        detail::check_span(function, "output", output, static_cast<std::uint64_t>(this->output().elements()));
        detail::check_overlap(function, "output", output, input, false);
        const std::int64_t strips = row_strips_ * column_strips_;
        if (in.batch * strips == 1) return run_apart(input.data(), output.data(), add, executor);
        executor.parallel_for(in.batch * strips, [&](std::int64_t task) {
            const std::int64_t strip = task % strips;
            run_strip(input.data() + task / strips * in.height * in.width * in.channels, output.data(), add,
                      task / strips, strip / column_strips_ * rows_, strip % column_strips_ * columns_);
        });
    }

    /// One strip is the whole: the tasks of both layers, one after the other.
    template <class Executor>
    void run_apart(const std::int8_t* input, std::int8_t* output, const detail::fused_addition* add,
                   const Executor& executor) const {
        alignas(64) std::int8_t strip[strip_bytes];
        const detail::depthwise_operation first = depthwise_.operation(depthwise_.requantize_.kind);
        executor.parallel_for(depthwise_.plan_.tasks(),
                              [&](std::int64_t task) { depthwise_.plan_.run_task(first, input, strip, task); });
        const nhwc between = depthwise_.output();
        const std::vector<conv2d_block>& blocks = pointwise_.plan_.packing().blocks;
        const std::int64_t pixels = between.height * between.width;
        pointwise_.prepare_pixels(strip, pixels * between.channels);
        if (add != nullptr && pointwise_.whole_pixels()) {
            for (const conv2d_block& block : blocks) pointwise_.run_pixels(strip, 0, output, 0, 1, pixels, block, add);
            return;
        }
        executor.parallel_for(static_cast<std::int64_t>(blocks.size()), [&](std::int64_t task) {
            pointwise_.run_pixels(strip, 0, output, 0, 1, pixels, blocks[static_cast<std::size_t>(task)], add);
        });
    }

    void run_strip(const std::int8_t* image, std::int8_t* output, const detail::fused_addition* add, std::int64_t n,
                   std::int64_t y, std::int64_t x) const {
        const nhwc between = depthwise_.output();
        const std::int64_t rows = std::min(rows_, between.height - y);
        const std::int64_t columns = std::min(columns_, between.width - x);
        alignas(64) std::int8_t strip[strip_bytes];
        // Whole rows follow each other; parts of rows have margins.
        const std::int64_t offset = columns == between.width ? 0 : margin;
        const std::int64_t row = columns * between.channels + 2 * offset;
        depthwise_.plan_.run_part(depthwise_.operation(depthwise_.requantize_.kind), image, strip + offset, row, y,
                                  rows, x, x + columns);
        pointwise_.prepare_pixels(strip + offset, rows * row - 2 * offset);
        const std::int64_t outputs = pointwise_.shape().outputs;
        std::int8_t* const out = output + ((n * between.height + y) * between.width + x) * outputs;
        for (const conv2d_block& block : pointwise_.plan_.packing().blocks)
            pointwise_.run_pixels(strip + offset, row, out, between.width * outputs, rows, columns, block, add);
    }

    depthwise_conv2d depthwise_;
    conv2d pointwise_;
    std::int64_t rows_ = 1;
    std::int64_t columns_ = 1;
    std::int64_t row_strips_ = 1;
    std::int64_t column_strips_ = 1;
};

}  // namespace po2quant
