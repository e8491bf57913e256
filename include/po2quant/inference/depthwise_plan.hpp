#pragma once
/// What the shape of a depthwise convolution decides before any weight is known: kernels, tasks, and how a strip goes
/// through them. depthwise_conv2d and integer_forward_depthwise_conv2d run on it.
#include <vector>

#include <po2quant/inference/depthwise_packing.hpp>
#include <po2quant/parallel.hpp>

namespace po2quant::detail {

/// What a layer multiplies with, and how its sums leave; the arrays of `requantize` are those of lane 0.
struct depthwise_operation {
    const std::int32_t* weights;
    const std::int32_t* bias;  ///< depthwise_plan::bias_size()
    kernels::requantize_block requantize;
};

class depthwise_plan {
public:
    /// `shape` is checked.
    depthwise_plan(const depthwise_conv2d_shape& shape, integer_format input_format,
                   const kernels::depthwise_table& table)
        : shape_(shape),
          table_(&table),
          output_(output_extent(shape.input, shape.window)),
          packing_(plan_packing(shape, table)),
          seen_(walked(shape, packing_)),
          steps_(&table.any_codes) {
        choose_kernels(input_format);
        place_bias();
        cut();
    }

    const depthwise_conv2d_shape& shape() const { return shape_; }
    const kernels::depthwise_table& table() const { return *table_; }
    const depthwise_packing& packing() const { return packing_; }
    const kernels::depthwise_table::steps& steps() const { return *steps_; }
    /// One bias of all lanes; where inputs are offset one for every view and kind of output row.
    std::int64_t bias_size() const { return bias_size_; }

    /// Calls f(output channel, its place in arrays of lanes).
    template <class F>
    void for_each_lane(F&& f) const {
        const int own = steps().lanes / steps().vectors;
        for (std::size_t b = 0; b < packing_.blocks.size(); ++b) {
            for (int i = 0; i < steps().lanes; ++i) {
                const int lane = steps().channel_of(steps().vectors, i / own, i % own);
                if (lane >= packing_.lanes) continue;
                const depthwise_block& block = packing_.blocks[b];
                f(static_cast<std::size_t>((block.first_channel + lane) % shape_.input.channels * shape_.multiplier +
                                           block.multiple),
                  b * static_cast<std::size_t>(steps().lanes) + static_cast<std::size_t>(i));
            }
        }
    }

    /// Calls f(first lane, registers, lanes of a register) for the blocks.
    template <class F>
    void for_each_block(F&& f) const {
        for (std::int64_t lane = 0; lane < packing_.lane_count; lane += steps().lanes)
            f(lane, steps().vectors, steps().lanes / steps().vectors);
    }

    /// Bias [bias_size()] from that of every lane: less offset · Σ of the weights of the rows inside the input, modulo
    /// 2^32, as the kernels sum.
    void fill_bias(const std::int32_t* lane_bias, const std::int32_t* row_sums, std::int32_t* bias) const {
        const auto offset = static_cast<std::uint32_t>(steps().input_offset);
        const std::int64_t lanes = packing_.lane_count;
        for (const axis_segment& row : row_segments_) {
            const std::int32_t* sums = row_sums;
            for (std::size_t view = 0; view < packing_.views.size(); ++view, bias += lanes) {
                std::copy_n(lane_bias, lanes, bias);
                if (offset == 0) return;
                for (std::int64_t ky = row.taps.first; ky < row.taps.last; ++ky)
                    for (std::int64_t lane = 0; lane < lanes; ++lane)
                        bias[lane] =
                            static_cast<std::int32_t>(static_cast<std::uint32_t>(bias[lane]) -
                                                      offset * static_cast<std::uint32_t>(sums[ky * lanes + lane]));
                sums += seen_.window.kernel.height * lanes;
            }
        }
    }

    template <class Output, class Executor>
    void run(const depthwise_operation& operation, const std::int8_t* input, Output* output,
             const Executor& executor) const {
        executor.parallel_for(shape_.input.batch * tasks(), [&](std::int64_t task) {
            const std::int64_t image = task / tasks();
            run_task(operation, input + image * shape_.input.height * shape_.input.width * shape_.input.channels,
                     output + image * output_.height * output_.width * shape_.outputs(), task % tasks());
        });
    }

    /// Of one image.
    std::int64_t tasks() const { return strips_ * runs_; }

    template <class Output>
    void run_task(const depthwise_operation& operation, const std::int8_t* input, Output* output,
                  std::int64_t task) const {
        const std::int64_t y = task / runs_ * rows_;
        const std::int64_t first = task % runs_ * run_;
        run_strip(operation, input, output, 0, output_.width * shape_.outputs(), y,
                  std::min(rows_, seen_.output().height - y), first, std::min(first + run_, line_ * lines_));
    }

    /// Pixels [x, end) of `rows` output rows from y on, on the calling thread, to `output`; its rows are output_row
    /// elements apart. Where that is a part of the rows, up to a vector in front and behind it may be written too.
    void run_part(const depthwise_operation& operation, const std::int8_t* input, std::int8_t* output,
                  std::int64_t output_row, std::int64_t y, std::int64_t rows, std::int64_t x, std::int64_t end) const {
        const std::int64_t channels = shape_.outputs();
        const auto strips = [&](std::int64_t begin, std::int64_t count, std::int64_t first, std::int64_t last) {
            for (std::int64_t done = 0; done < count; done += rows_)
                run_strip(operation, input, output, y * output_row + x * channels, output_row, begin + done,
                          std::min(rows_, count - done), first, last);
        };
        if (packing_.flat)
            return strips(y, rows, x * channels / steps().lanes, (end * channels + steps().lanes - 1) / steps().lanes);
        for (std::int64_t line = 0; line < lines_; ++line)
            strips(x, end - x, line * line_ + y, line * line_ + y + rows);
    }

private:
    void choose_kernels(integer_format input_format) {
        const auto& any = table_->any_codes;
        const auto* square = packing_.spread != 0 ? find_square(any.spread, seen_) : find_square(any.squares, seen_);
        if (packing_.spread == 0 && !input_format.is_signed)
            if (const auto* faster = find_square(table_->unsigned_codes.squares, seen_)) {
                square = faster;
                steps_ = &table_->unsigned_codes;
            }
        if (square != nullptr) square_ = *square;
    }
    /// For vectors that lie inside; null where there is none.
    kernels::depthwise_table::function square_of(kernels::epilogue kind) const {
        switch (kind) {
        case kernels::epilogue::shift_words: return square_.words;
        case kernels::epilogue::shift:
        case kernels::epilogue::round:
        case kernels::epilogue::floats: return square_.other;
        default: return nullptr;
        }
    }

    /// Where the bias of each output row begins.
    void place_bias() {
        const window2d& w = seen_.window;
        const std::int64_t height = seen_.output().height;
        const bool offset = steps().input_offset != 0;
        const std::int64_t one = packing_.lane_count * (offset ? static_cast<std::int64_t>(packing_.views.size()) : 1);
        row_bias_.assign(
            static_cast<std::size_t>(kernels::depthwise_rows_before + height + kernels::depthwise_rows_behind), 0);
        row_segments_ =
            segments(height, seen_.input.height, w.kernel.height, w.stride.height, w.dilation.height, w.padding.top);
        bias_size_ = offset ? static_cast<std::int64_t>(row_segments_.size()) * one : one;
        for (std::size_t i = 0; offset && i < row_segments_.size(); ++i)
            for (std::int64_t y = row_segments_[i].begin; y < row_segments_[i].end; ++y)
                row_bias_[static_cast<std::size_t>(kernels::depthwise_rows_before + y)] =
                    static_cast<std::int64_t>(i) * one;
        columns_ = segments(seen_.input, w).columns;
    }

    /// Tasks: strips of rows, and in each runs of columns.
    void cut() {
        const nhwc output = seen_.output();
        const std::int64_t multiples = packing_.flat ? 1 : shape_.multiplier;
        blocks_ = static_cast<std::int64_t>(packing_.blocks.size()) / multiples;
        std::int64_t most_rows = kernels::depthwise_rows;
        if (packing_.flat) {
            part_ = blocks_;
            line_ = (output.width * output.channels + steps().lanes - 1) / steps().lanes;
        } else {
            // What a walk along a row sees, and its outputs, stay in a part of L1 for the next row: of pixels, and then
            // of blocks, as many as fit.
            constexpr std::int64_t bytes = std::int64_t{1} << 14;
            const std::int64_t rows = seen_.window.kernel.width + 1;
            most_rows = std::max<std::int64_t>(16, bytes / (rows * 64));
            const std::int64_t fit = bytes / (rows * std::min(most_rows, output.height) * steps().lanes);
            part_ = part_length(blocks_, std::max<std::int64_t>(1, fit));
            line_ = output.width;
        }
        parts_ = (blocks_ + part_ - 1) / part_;
        lines_ = multiples * parts_;
        rows_ = part_length(output.height, most_rows);
        strips_ = (output.height + rows_ - 1) / rows_;
        // About 2^17 multiply-accumulates each, a microsecond.
        const std::int64_t macs = rows_ * seen_.window.kernel.height * seen_.window.kernel.width * steps().lanes *
                                  (packing_.flat ? 1 : part_);
        run_ = std::clamp<std::int64_t>((std::int64_t{1} << 17) / macs, 1, line_ * lines_);
        runs_ = (line_ * lines_ + run_ - 1) / run_;
    }

    /// Columns [first, end) of `rows` output rows from y on, in the image as it is walked; `output` is element `origin`
    /// of the image as it is, whose rows are output_row elements apart.
    template <class Output>
    void run_strip(const depthwise_operation& operation, const std::int8_t* input, Output* output, std::int64_t origin,
                   std::int64_t output_row, std::int64_t y, std::int64_t rows, std::int64_t first,
                   std::int64_t end) const {
        const window2d& w = seen_.window;
        const std::int64_t channels = shape_.input.channels;
        const std::int64_t image_row = shape_.input.width * channels;
        kernels::depthwise_strip s{};
        s.input = input;
        s.input_height = seen_.input.height;
        s.first_row = y * w.stride.height - w.padding.top;
        if (packing_.flat) {
            s.input_row = s.row_elements = image_row;
            s.input_step = w.stride.width * steps().lanes;
            s.tap = w.dilation.width * channels;
            s.output_row = output_row;
            s.output_step = steps().lanes;
        } else {
            s.input_row = channels;
            s.row_elements = shape_.input.height * image_row;
            s.input_step = w.stride.width * image_row;
            s.tap = w.dilation.width * image_row;
            s.output_row = shape_.outputs();
            s.output_step = output_row;
        }
        s.spread = packing_.spread;
        s.output_lane = shape_.multiplier;
        s.rows = rows;
        s.kernel = w.kernel;
        s.stride = w.stride.height;
        s.dilation = w.dilation.height;
        s.column_apart = packing_.layout.column_apart;
        s.block_weights = packing_.block_weights;
        s.row_bias = row_bias_.data() + kernels::depthwise_rows_before + y;
        s.group = 1;
        s.blocks = blocks_;
        while (first < end) {
            const std::int64_t line = first / line_;
            const std::int64_t last = std::min(end, (line + 1) * line_);
            const std::int64_t multiple = line / parts_;
            const std::int64_t block = line % parts_ * part_;  // of the multiple
            std::int64_t channel = 0;
            if (!packing_.flat) {
                s.group = s.blocks = std::min(part_, blocks_ - block);
                channel = packing_.blocks[static_cast<std::size_t>(block)].first_channel;
                s.last = packing_.blocks[static_cast<std::size_t>(block + s.group - 1)].first_channel - channel;
            }
            const std::int64_t of_all = multiple * blocks_ + block;
            const std::int64_t lane = of_all * steps().lanes;
            s.weights = operation.weights + of_all * s.block_weights;
            s.bias = operation.bias + lane;
            s.requantize = operation.requantize.from_lane(lane);
            run_line(s, output, y * s.output_row + channel * shape_.multiplier + multiple - origin, channel,
                     first - line * line_, last - line * line_);
            first = last;
        }
    }

    /// Columns [begin, end) of a line; the first and last of it may lie partly in the padding.
    template <class Output>
    void run_line(kernels::depthwise_strip& s, Output* output, std::int64_t first_output, std::int64_t first_channel,
                  std::int64_t begin, std::int64_t end) const {
        const std::int64_t origin = first_channel - seen_.window.padding.left * s.tap / seen_.window.dilation.width;
        const std::int64_t reach = (seen_.window.kernel.width - 1) * s.tap + seen_.window.stride.width * steps().lanes;
        const kernels::depthwise_table::function square = square_of(s.requantize.kind);
        const auto run = [&](std::int64_t from, std::int64_t to, int lanes, bool inside, std::int64_t shift = 0) {
            if (from >= to) return;
            s.first_element = origin + from * s.input_step + shift;
            s.output = output + (first_output + from * s.output_step);
            s.columns = to - from;
            s.lanes = lanes;
            s.block = packing_.flat ? from % s.blocks : 0;
            if (square == nullptr) steps().any(s);
            else if (inside) square(s);
            else steps().edge[packing_.spread != 0 ? 1 : 0](s, square);
        };
        if (!packing_.flat) {
            // Columns that see the same taps, by the view of the kernel that lies inside the image.
            const std::int32_t* const weights = s.weights;
            const std::int32_t* const bias = s.bias;
            for (const axis_segment& column : columns_) {
                const auto [from, to] = intersect(column.begin, column.end, begin, end);
                std::size_t view = 0;
                while (view < packing_.views.size() && packing_.views[view].taps != column.taps) ++view;
                if (square == nullptr || packing_.lanes != steps().lanes || view == packing_.views.size()) {
                    run(from, to, packing_.lanes, false);
                    continue;
                }
                const auto index = static_cast<std::int64_t>(view);
                s.weights = weights + index * static_cast<std::int64_t>(packing_.blocks.size()) * s.block_weights;
                if (steps().input_offset != 0) s.bias = bias + index * packing_.lane_count;
                run(from, to, packing_.lanes, true, packing_.views[view].shift * s.tap);
                s.weights = weights;
                s.bias = bias;
            }
            return;
        }
        // Column i reads elements [origin + i · step, … + reach) of a row.
        const std::int64_t left = origin < 0 ? (-origin + s.input_step - 1) / s.input_step : 0;
        const std::int64_t room = s.row_elements - reach - origin;
        const std::int64_t right = packing_.lanes < steps().lanes || room < 0 ? 0 : room / s.input_step + 1;
        const std::int64_t full = output_.width * shape_.input.channels / steps().lanes;
        const std::int64_t a = std::clamp(std::min(left, full), begin, end);
        const std::int64_t b = std::clamp(std::min(right, full), a, end);
        const std::int64_t c = std::clamp(full, b, end);
        run(begin, a, packing_.lanes, false);
        run(a, b, packing_.lanes, true);
        run(b, c, packing_.lanes, false);
        // What is left of the row.
        run(c, end, static_cast<int>(output_.width * shape_.input.channels - c * steps().lanes), false);
    }

    depthwise_conv2d_shape shape_;
    const kernels::depthwise_table* table_;
    extent2d output_;
    depthwise_packing packing_;
    depthwise_conv2d_shape seen_;  ///< as kernels walk it
    const kernels::depthwise_table::steps* steps_;
    kernels::depthwise_table::square square_{};
    std::int64_t blocks_ = 0;  ///< of one of the multiplier's outputs
    std::int64_t part_ = 0;    ///< blocks whose vectors are computed together, pixel by pixel
    std::int64_t parts_ = 0;   ///< of blocks_
    std::int64_t line_ = 0;    ///< columns of a part in a strip
    std::int64_t lines_ = 0;   ///< parts of all outputs
    std::vector<axis_segment> columns_;
    std::vector<axis_segment> row_segments_;
    std::vector<std::int64_t> row_bias_;
    std::int64_t bias_size_ = 0;
    std::int64_t rows_ = 0;    ///< of a strip
    std::int64_t strips_ = 0;  ///< of an image
    std::int64_t run_ = 0;     ///< vectors of a task
    std::int64_t runs_ = 0;    ///< tasks of a strip
};

}  // namespace po2quant::detail
