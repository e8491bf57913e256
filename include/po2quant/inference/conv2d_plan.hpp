#pragma once
/// What the shape of a convolution decides before any weight is known: the rectangles that see the same taps, how work
/// is cut into tasks, and how a strip of pixels goes through the kernels. conv2d and integer_forward_conv2d run on it.
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <po2quant/inference/conv2d_packing.hpp>
#include <po2quant/parallel.hpp>

namespace po2quant::detail {

/// What a layer multiplies with, and how its sums leave; the arrays of `requantize` are those of lane 0.
struct conv2d_operation {
    const std::byte* weights;
    const std::int32_t* bias;  ///< conv2d_plan::bias_size()
    kernels::requantize_block requantize;
};

class conv2d_plan {
public:
    /// `shape` is checked.
    conv2d_plan(const conv2d_shape& shape, integer_format input_format, const kernels::conv2d_table& table)
        : shape_(shape),
          table_(&table.for_layer(input_format, longest_run(shape))),
          packing_(plan_packing(shape, input_format, *table_)),
          bytes_(&table_->of_bytes(input_format)) {
        // A 1×1 window that moves by 1 sees a batch of images as one row of pixels: full tiles up to the very end.
        geometry_ = shape.input;
        const bool pointwise = shape.window.kernel == extent2d{} && shape.window.stride == extent2d{} &&
                               shape.window.padding == padding2d{};
        if (pointwise)
            geometry_ = {1, 1, shape.input.batch * shape.input.height * shape.input.width, shape.input.channels};
        output_ = output_extent(geometry_, shape.window);
        segments_ = segments(geometry_, shape.window);
        make_regions();
        // A task is a block of outputs for a strip of pixels: about 2^21 multiply-accumulates, some 10 µs.
        const std::int64_t block_outputs = packing_.blocks.front().outputs;
        const std::int64_t pixel_macs =
            shape_.window.kernel.height * shape_.window.kernel.width * shape_.group_inputs() * block_outputs;
        // Four rows at least, so that the pixels of a padded column fill a tile, but where that leaves less than 8
        // tasks.
        const auto all_rows = geometry_.batch * static_cast<std::int64_t>(packing_.blocks.size()) * output_.height;
        const std::int64_t least_rows = std::clamp<std::int64_t>(all_rows / 4, 1, 4);
        std::int64_t pixels = std::max<std::int64_t>(1, (std::int64_t{1} << 21) / pixel_macs);
        grid_ = cut(pixels, least_rows);
        // A 1×1 layer multiplies each input with few weights per block, one of groups many inputs with none: up to four
        // blocks share what prepares a strip, where that leaves 8 tasks, if need be of fewer pixels.
        if (packing_.operands.input_offset != 0 && (shape_.window.kernel == extent2d{} || shape_.groups > 1)) {
            const auto blocks = static_cast<std::int64_t>(packing_.blocks.size());
            const auto fit = [&] { return geometry_.batch * blocks * grid_.strips() / 8; };
            for (; fit() < std::min<std::int64_t>(4, blocks) && pixels >= 128; grid_ = cut(pixels, least_rows))
                pixels /= 2;
            task_blocks_ = std::clamp<std::int64_t>(fit(), 1, 4);
        }
        // 256 products and more per output hide an addition; with less, strips of about 64 KB of output, which L2
        // holds.
        if (pixel_macs < 256 * block_outputs)
            whole_pixel_grid_ = cut(std::max<std::int64_t>(1, 65536 / shape_.outputs), 1);
    }

    const conv2d_shape& shape() const { return shape_; }
    const kernels::conv2d_table& table() const { return *table_; }
    const conv2d_packing& packing() const { return packing_; }
    const kernels::conv2d_table::functions<std::int8_t>& bytes() const { return *bytes_; }
    /// What an input offset makes of the weights goes off again by a bias of each region.
    std::int64_t bias_size() const {
        return packing_.lane_count *
               (packing_.operands.input_offset == 0 ? 1 : static_cast<std::int64_t>(regions_.size()));
    }
    /// Strips in which blocks follow each other, for what wants whole pixels; no rows where nothing should.
    const task_grid& whole_pixel_grid() const { return whole_pixel_grid_; }

    /// Calls f(output channel, its place in arrays of lanes).
    template <class F>
    void for_each_lane(F&& f) const {
        for (const conv2d_block& block : packing_.blocks) {
            for (int v = 0; v < block.vectors; ++v) {
                for (int lane = 0; lane < table_->lanes; ++lane) {
                    const int c = table_->channel_of(block.vectors, v, lane);
                    if (c >= block.outputs) continue;
                    f(static_cast<std::size_t>(block.first_output + c),
                      static_cast<std::size_t>(block.lanes + v * table_->lanes + lane));
                }
            }
        }
    }

    /// Calls f(first lane, registers, lanes of a register) for the blocks.
    template <class F>
    void for_each_block(F&& f) const {
        for (const conv2d_block& block : packing_.blocks) f(block.lanes, block.vectors, table_->lanes);
    }

    /// Bias [bias_size()] from that of every lane: less offset · Σ of a region's valid taps' weights, modulo 2^32, as
    /// the kernels sum.
    void fill_bias(const std::int32_t* lane_bias, const std::int32_t* tap_sums, std::int32_t* bias) const {
        const auto offset = static_cast<std::uint32_t>(packing_.operands.input_offset);
        const std::int64_t lanes = packing_.lane_count;
        for (const axis_segment& row : segments_.rows) {
            for (const axis_segment& column : segments_.columns) {
                std::copy_n(lane_bias, lanes, bias);
                for (std::int64_t ky = row.taps.first; offset != 0 && ky < row.taps.last; ++ky)
                    for (std::int64_t kx = column.taps.first; kx < column.taps.last; ++kx) {
                        const std::int32_t* sums = tap_sums + (ky * shape_.window.kernel.width + kx) * lanes;
                        for (std::int64_t lane = 0; lane < lanes; ++lane)
                            bias[lane] = static_cast<std::int32_t>(static_cast<std::uint32_t>(bias[lane]) -
                                                                   offset * static_cast<std::uint32_t>(sums[lane]));
                    }
                if (offset == 0) return;
                bias += lanes;
            }
        }
    }

    /// All tasks of a run. Calls after(job, block) behind each rectangle of a block.
    template <class Input, class Output, class Executor, class After>
    void run(const kernels::conv2d_table::functions<Input>& functions, const conv2d_operation& operation,
             const Input* input, Output* output, const Executor& executor, const After& after) const {
        const auto blocks = static_cast<std::int64_t>(packing_.blocks.size());
        const std::int64_t strips = grid_.strips();
        const std::int64_t groups = (blocks + task_blocks_ - 1) / task_blocks_;
        // Strips innermost: a block's weights stay in cache while the images stream past them.
        executor.parallel_for(geometry_.batch * groups * strips, [&](std::int64_t task) {
            const std::int64_t first = task / strips % groups * task_blocks_;
            const std::span of(packing_.blocks.data() + first,
                               static_cast<std::size_t>(std::min(task_blocks_, blocks - first)));
            run_strip(functions, operation, of, input, output, task / (strips * groups), grid_, task % strips, after);
        });
    }
    /// The same, all blocks of a strip one after the other.
    template <class Input, class Output, class Executor, class After>
    void run_whole_pixels(const kernels::conv2d_table::functions<Input>& functions, const conv2d_operation& operation,
                          const Input* input, Output* output, const Executor& executor, const After& after) const {
        const std::int64_t strips = whole_pixel_grid_.strips();
        executor.parallel_for(geometry_.batch * strips, [&](std::int64_t task) {
            run_strip(functions, operation, packing_.blocks, input, output, task / strips, whole_pixel_grid_,
                      task % strips, after);
        });
    }

    /// A run of codes that prepare_pixels has seen.
    template <class Output, class Executor>
    void run_prepared(const conv2d_operation& operation, const std::int8_t* input, Output* output,
                      const Executor& executor) const {
        run(prepared(), operation, input, output, executor, [](const auto&, const conv2d_block&) {});
    }

    /// Input codes as run_prepared and run_pixels want them: offset, where the dot products do that.
    void prepare_pixels(std::int8_t* codes, std::int64_t count) const {
        if (bytes_->operands.input_offset != 0) table_->offset_codes(codes, codes, static_cast<std::size_t>(count));
    }
    /// A 1×1 layer that moves by 1, over a rectangle of pixels on the calling thread: prepared input pixels side by
    /// side, its rows input_row elements apart, output rows output_row.
    template <class After>
    void run_pixels(const conv2d_operation& operation, const std::int8_t* input, std::int64_t input_row,
                    std::int8_t* output, std::int64_t output_row, std::int64_t rows, std::int64_t columns,
                    const conv2d_block& block, const After& after) const {
        kernels::conv2d_rectangle<std::int8_t> job{};
        job.input = input;
        job.input_row = input_row;
        job.input_column = geometry_.channels;
        job.output = output + block.first_output;
        job.output_row = output_row;
        job.output_column = shape_.outputs;
        job.rows = rows;
        job.columns = columns;
        finish_job(job, regions_.front(), prepared(), operation, block);
        after(job, block);
    }

private:
    /// The kernels of prepared codes.
    const kernels::conv2d_table::functions<std::int8_t>& prepared() const {
        return bytes_->operands.input_offset != 0 ? table_->u7 : *bytes_;
    }

    /// Inputs of a strip, offset, on the stack of the thread that runs it.
    static constexpr std::int64_t strip_bytes = 65536;

    /// What a rectangle of pixels needs besides its place: its taps and, where inputs are offset, its own bias.
    struct region {
        std::int64_t first_tap;
        std::int64_t tap_count;
        std::int64_t run;
        std::int64_t bias;
    };

    /// Strips as detail::cut makes them, but smaller ones where their inputs exceed the buffer that offsets them.
    task_grid cut(std::int64_t pixels, std::int64_t least_rows) const {
        while (true) {
            const task_grid grid = po2quant::detail::cut(output_, pixels, least_rows);
            if (most_strip_inputs(geometry_, shape_.window, grid) <= strip_bytes || pixels <= 48) return grid;
            pixels /= 2;
            least_rows = std::max<std::int64_t>(1, least_rows / 2);
        }
    }

    /// The runs of each rectangle. Taps side by side whose weights are too, without zeros between, make one run.
    void make_regions() {
        const std::int64_t quad = packing_.operands.codes;
        const window2d& w = shape_.window;
        const std::int64_t cin = shape_.group_inputs();
        const bool joined = taps_are_neighbours(shape_);
        for (const axis_segment& row : segments_.rows) {
            for (const axis_segment& column : segments_.columns) {
                region r{static_cast<std::int64_t>(taps_.size()), 0, cin, 0};
                if (packing_.operands.input_offset != 0)
                    r.bias = static_cast<std::int64_t>(regions_.size()) * packing_.lane_count;
                const std::int64_t kx_count = column.taps.last - column.taps.first;
                if (joined && kx_count > 0) r.run = cin * kx_count;
                for (const conv2d_run& run : packing_.runs) {
                    if (run.ky < row.taps.first || run.ky >= row.taps.last) continue;
                    if (run.kx.first < column.taps.first || run.kx.last > column.taps.last) continue;
                    // Joined, a row's first run stands for all of them; one of another cut is none of this rectangle's.
                    if (joined && (run.kx.first != column.taps.first || (cin % quad != 0 && run.kx != column.taps)))
                        continue;
                    const std::int64_t dy = (run.ky - row.taps.first) * w.dilation.height;
                    const std::int64_t dx = (run.kx.first - column.taps.first) * w.dilation.width;
                    taps_.push_back({(dy * geometry_.width + dx) * geometry_.channels, run.weights});
                    ++r.tap_count;
                }
                regions_.push_back(r);
            }
        }
    }

    /// Some blocks of outputs for a strip of pixels. Where the dot products offset their inputs, those of the strip are
    /// offset first: else the kernel does it at each multiplication, which CPUs with few vector units notice.
    template <class Input, class Output, class After>
    void run_strip(const kernels::conv2d_table::functions<Input>& functions, const conv2d_operation& operation,
                   std::span<const conv2d_block> blocks, const Input* input, Output* output, std::int64_t image,
                   const task_grid& grid, std::int64_t strip, const After& after) const {
        input += image * geometry_.height * geometry_.width * geometry_.channels;
        output += image * output_.height * output_.width * shape_.outputs;
        if constexpr (std::is_same_v<Input, std::int8_t>) {
            const interval seen = strip_inputs(geometry_, shape_.window, output_, grid, strip);
            if (functions.operands.input_offset != 0 && seen.size() <= strip_bytes) {
                alignas(64) std::int8_t codes[strip_bytes];
                table_->offset_codes(input + seen.begin, codes, static_cast<std::size_t>(seen.size()));
                run_blocks(table_->u7, operation, blocks, codes, seen.begin, output, grid, strip, after);
                return;
            }
        }
        run_blocks(functions, operation, blocks, input, 0, output, grid, strip, after);
    }

    /// The image's elements from `origin` on lie at `input`.
    template <class Input, class Output, class After>
    void run_blocks(const kernels::conv2d_table::functions<Input>& functions, const conv2d_operation& operation,
                    std::span<const conv2d_block> blocks, const Input* input, std::int64_t origin, Output* output,
                    const task_grid& grid, std::int64_t strip, const After& after) const {
        const window2d& w = shape_.window;
        const std::int64_t channels = geometry_.channels;
        for (const conv2d_block& block : blocks) {
            const auto rectangle = [&](const axis_segment& row, const axis_segment& column, interval rows,
                                       interval columns) {
                const auto index = static_cast<std::size_t>(&row - segments_.rows.data()) * segments_.columns.size() +
                                   static_cast<std::size_t>(&column - segments_.columns.data());
                const std::int64_t y = row.input + (rows.begin - row.begin) * w.stride.height;
                const std::int64_t x = column.input + (columns.begin - column.begin) * w.stride.width;
                kernels::conv2d_rectangle<Input> job{};
                job.input =
                    input + ((y * geometry_.width + x) * channels + block.group * shape_.group_inputs() - origin);
                job.input_row = w.stride.height * geometry_.width * channels;
                job.input_column = w.stride.width * channels;
                job.output =
                    output + ((rows.begin * output_.width + columns.begin) * shape_.outputs + block.first_output);
                job.output_row = output_.width * shape_.outputs;
                job.output_column = shape_.outputs;
                job.rows = rows.size();
                job.columns = columns.size();
                finish_job(job, regions_[index], functions, operation, block);
                after(job, block);
            };
            for_each_rectangle(segments_, grid, output_, strip, rectangle);
        }
    }

    /// What of a job depends on its region and block; runs it.
    template <class Input>
    void finish_job(kernels::conv2d_rectangle<Input>& job, const region& r,
                    const kernels::conv2d_table::functions<Input>& functions, const conv2d_operation& operation,
                    const conv2d_block& block) const {
        job.taps = taps_.data() + r.first_tap;
        job.tap_count = r.tap_count;
        job.run = r.run;
        job.weights = operation.weights + block.weights;
        job.bias = operation.bias + r.bias + block.lanes;
        job.outputs = block.outputs;
        job.requantize = operation.requantize.from_lane(block.lanes);
        const bool shorter = r.tap_count > 0 && r.run < functions.operands.codes;
        (shorter ? functions.shorter : functions.whole)[block.vectors - 1](job);
    }

    conv2d_shape shape_;
    const kernels::conv2d_table* table_;
    conv2d_packing packing_;
    const kernels::conv2d_table::functions<std::int8_t>* bytes_;
    nhwc geometry_{};
    extent2d output_{};
    window_segments segments_;
    task_grid grid_{};
    std::int64_t task_blocks_ = 1;  ///< neighbouring blocks of a task
    task_grid whole_pixel_grid_{};
    std::vector<kernels::conv2d_tap> taps_;
    std::vector<region> regions_;
};

}  // namespace po2quant::detail
