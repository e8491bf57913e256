#pragma once
/// Depthwise convolution by integers: pack once, run many.
#include <numeric>
#include <span>
#include <vector>

#include <po2quant/inference/conv2d.hpp>
#include <po2quant/kernels/depthwise_conv2d.hpp>

namespace po2quant {

/// Pixels whose kernel reaches over the border, computed as if it did not: the kernel is moved inside by `shift` taps,
/// and the weights go with the inputs they belong to. Position kx of it holds tap kx + shift if that is one of `taps`,
/// else 0.
struct depthwise_view {
    tap_range taps;
    std::int64_t shift;
};

namespace detail {

inline void check_depthwise_shape(const char* function, const depthwise_conv2d_shape& s) {
    check_range(function, "multiplier", s.multiplier, 1, 4096);
    check_range(function, "input.channels", s.input.channels, 1, max_dimension);
    check_window(function, s.input, s.window, s.outputs());
    check_elements(function, "number of weights", {s.window.kernel.height, s.window.kernel.width, s.outputs()});
}

inline std::vector<std::int8_t> unpacked_weights(const depthwise_conv2d_shape& shape, const packed_codes& weights) {
    check_depthwise_shape("depthwise_conv2d", shape);
    return unpacked_weights("depthwise_conv2d", weights, shape.weights());
}

/// How the pixels of a column segment are seen with the kernel inside the image; no taps where that is not possible.
inline depthwise_view view_of(const depthwise_conv2d_shape& s, const axis_segment& column) {
    const std::int64_t kernel = s.window.kernel.width;
    const auto [first, last] = column.taps;
    const std::int64_t shift = first > 0 ? first : last - kernel;
    const std::int64_t dilation = s.window.dilation.width;
    // The first input position that the moved kernel reads for the first and the last pixel.
    const std::int64_t origin = column.begin * s.window.stride.width - s.window.padding.left + shift * dilation;
    const std::int64_t end = origin + (column.end - 1 - column.begin) * s.window.stride.width;
    if (first == last || origin < 0 || end + dilated_kernel(kernel, dilation) > s.input.width) return {{0, 0}, 0};
    return {column.taps, shift};
}

}  // namespace detail

/// Lanes that are computed together: lane l is output channel (first_channel + l) % C of the multiplier's outputs
/// `multiple`. Blocks of channels may overlap at the end; both write the same codes, one after the other.
struct depthwise_block {
    std::int64_t first_channel;
    std::int64_t multiple;  ///< 0 … multiplier − 1
};

/// Weights in the layout that kernels/depthwise_conv2d.hpp reads: [view][block][ky][⌈KW / taps⌉][lanes] dwords, each
/// with the weights of `taps` neighbouring kx of a lane (4 int8, or 2 int16), lanes in channel_of order; 0 behind the
/// last kx and the last lane. `row_sums` [view][ky][lane] are the sums of each kernel row, which an input offset
/// multiplies. The first view is the kernel as it is.
struct packed_depthwise_weights {
    int width = 0;  ///< index of the kernels in the table
    int lanes = 0;  ///< of a vector that exist
    /// A vector is `lanes` neighbouring elements of an output row, whatever pixels they are of, and vector v of a row
    /// belongs to block v % blocks; else it is channels of one pixel.
    bool flat = false;
    std::vector<depthwise_block> blocks;
    std::vector<depthwise_view> views;
    detail::aligned_vector<std::int32_t> weights;
    std::vector<std::int32_t> row_sums;
    std::int64_t lane_count = 0;  ///< of all blocks
};

/// Packs weights for the kernels of `table`. Throws std::invalid_argument for a shape, size or layout that is not
/// possible.
inline packed_depthwise_weights pack_depthwise_weights(const depthwise_conv2d_shape& shape,
                                                       std::span<const std::int8_t> weights, weight_layout layout,
                                                       const kernels::depthwise_table& table) {
    constexpr const char* function = "pack_depthwise_weights";
    detail::check_depthwise_shape(function, shape);
    detail::check_layout(function, layout);
    detail::check_span(function, "weights", weights, static_cast<std::uint64_t>(shape.weights()));
    const std::int64_t channels = shape.input.channels;
    const std::int64_t row = channels * output_extent(shape.input, shape.window).width;
    packed_depthwise_weights packed;
    // Neighbouring elements of a row fill vectors that channels of one pixel would leave an eighth empty or more. After
    // `period` vectors their weights are the same again; up to 128, they stay in L2.
    const std::int64_t most = table.entry[0].lanes;
    const std::int64_t period = channels / std::gcd(channels, most);
    const bool wasted = (channels + most - 1) / most * most * 8 > channels * 9;
    packed.flat = shape.window.stride.width == 1 && shape.multiplier == 1 && wasted && period <= 128;
    const std::int64_t extent = packed.flat ? row : channels;
    while (packed.width + 1 < table.widths && extent < table.entry[packed.width].lanes) ++packed.width;
    const auto& width = table.entry[packed.width];
    packed.lanes = static_cast<int>(std::min<std::int64_t>(width.lanes, extent));
    if (packed.flat) {
        const std::int64_t own_period = channels / std::gcd(channels, std::int64_t{width.lanes});
        const std::int64_t vectors = (row + width.lanes - 1) / width.lanes;
        for (std::int64_t v = 0; v < std::min(own_period, vectors); ++v)
            packed.blocks.push_back({v * width.lanes % channels, 0});
    } else {
        // The last block reaches back over channels of the one before: computing some twice costs less than masks.
        for (std::int64_t m = 0; m < shape.multiplier; ++m)
            for (std::int64_t c = 0; c < channels; c += width.lanes)
                packed.blocks.push_back({std::max<std::int64_t>(0, std::min(c, channels - width.lanes)), m});
    }
    packed.lane_count = static_cast<std::int64_t>(packed.blocks.size()) * width.lanes;
    const auto [kernel_height, kernel_width] = shape.window.kernel;
    const std::int64_t groups = (kernel_width + width.taps - 1) / width.taps;
    packed.views.push_back({{0, kernel_width}, 0});
    // Views for whole vectors of one pixel, where the image is as wide as the kernel.
    if (!packed.flat && packed.lanes == width.lanes)
        for (const detail::axis_segment& column : detail::segments(shape.input, shape.window).columns)
            if (const auto view = detail::view_of(shape, column);
                view.taps.first < view.taps.last && view.taps != packed.views.front().taps)
                packed.views.push_back(view);
    const std::int64_t count = static_cast<std::int64_t>(packed.views.size()) * packed.lane_count;
    packed.weights.assign(static_cast<std::size_t>(count * kernel_height * groups), 0);
    packed.row_sums.assign(static_cast<std::size_t>(count * kernel_height), 0);
    const std::size_t blocks = packed.blocks.size();
    for (std::size_t vb = 0; vb < packed.views.size() * blocks; ++vb) {
        const std::size_t b = vb % blocks;
        const depthwise_view& view = packed.views[vb / blocks];
        const depthwise_block& block = packed.blocks[b];
        for (int i = 0; i < width.lanes; ++i) {
            const int lane =
                width.channel_of(width.vectors, i / (width.lanes / width.vectors), i % (width.lanes / width.vectors));
            if (lane >= packed.lanes) continue;
            const std::int64_t o = (block.first_channel + lane) % channels * shape.multiplier + block.multiple;
            for (std::int64_t ky = 0; ky < kernel_height; ++ky) {
                std::int32_t sum = 0;
                for (std::int64_t kx = 0; kx < kernel_width; ++kx) {
                    const std::int64_t tap = kx + view.shift;
                    if (tap < view.taps.first || tap >= view.taps.last) continue;
                    const std::int8_t w = weights[static_cast<std::size_t>(shape.weight_index(layout, ky, tap, o))];
                    sum += w;
                    const auto at = static_cast<std::size_t>(
                        ((static_cast<std::int64_t>(vb) * kernel_height + ky) * groups + kx / width.taps) *
                            width.lanes +
                        i);
                    const auto part = static_cast<int>(kx % width.taps);
                    const auto bits = 32 / width.taps;
                    const auto code = static_cast<std::uint32_t>(w) & ((std::uint64_t{1} << bits) - 1);
                    packed.weights[at] |= static_cast<std::int32_t>(static_cast<std::uint32_t>(code) << (part * bits));
                }
                const auto lanes_before = static_cast<std::int64_t>(vb / blocks) * kernel_height * packed.lane_count;
                packed.row_sums[static_cast<std::size_t>(lanes_before + ky * packed.lane_count +
                                                         static_cast<std::int64_t>(b) * width.lanes + i)] = sum;
            }
        }
    }
    return packed;
}

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
        : shape_(shape), table_(&table) {
        constexpr const char* function = "depthwise_conv2d";
        detail::check_depthwise_shape(function, shape);
        detail::check_layout(function, layout);
        detail::check_code_format(function, "input_format", q.input_format, 8);
        detail::check_requantization(function, q, bias, shape.outputs());
        detail::check_span(function, "weights", weights, static_cast<std::uint64_t>(shape.weights()));
        plan_ = detail::plan_requantization(function, q, bias,
                                            detail::product_bounds(shape, weights, layout, q.input_format));
        output_ = output_extent(shape.input, shape.window);
        packed_ = pack_depthwise_weights(shape, weights, layout, table);
        choose_kernels();
        make_lanes();
        cut();
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
        execute(input, output, plan_.kind, executor);
    }
    /// The int32 sums with their aligned bias, before the shift.
    template <executor Executor = serial_executor>
    void accumulate(std::span<const std::int8_t> input, std::span<std::int32_t> sums,
                    const Executor& executor = {}) const {
        execute(input, sums, kernels::epilogue::accumulators, executor);
    }

    const depthwise_conv2d_shape& shape() const { return shape_; }
    nhwc output() const { return shape_.output(); }
    const po2quant::certificate& certificate() const { return plan_.proof; }
    /// The instruction set whose kernels run.
    const char* arch() const { return table_->arch; }

private:
    friend class separable_conv2d;

    const kernels::depthwise_table::width_entry& width() const { return table_->of(packed_.width, plan_.input_format); }

    void choose_kernels() {
        const window2d& w = shape_.window;
        plain_ = edge_ = width().any;
        if (w.kernel.height != w.kernel.width || w.dilation.height != 1) return;
        for (const auto& square : width().squares)
            if (square.kernel == w.kernel.height && square.stride == w.stride.height)
                plain_ = square.plain, edge_ = square.edge;
    }

    /// Bias, shift and rounding constant in lane order. Where inputs are offset there is one bias per kind of output
    /// row, less offset · Σ of the weights of its rows inside the input: modulo 2^32, as the kernels sum.
    void make_lanes() {
        const auto lanes = static_cast<std::size_t>(packed_.lane_count);
        const window2d& w = shape_.window;
        shift_.assign(lanes, 2);
        constant_.assign(lanes, 0);
        std::vector<std::uint32_t> bias(lanes, 0);
        const int own = width().lanes / width().vectors;
        for (std::size_t b = 0; b < packed_.blocks.size(); ++b) {
            for (int i = 0; i < width().lanes; ++i) {
                const int lane = width().channel_of(width().vectors, i / own, i % own);
                if (lane >= packed_.lanes) continue;
                const depthwise_block& block = packed_.blocks[b];
                const auto at = b * static_cast<std::size_t>(width().lanes) + static_cast<std::size_t>(i);
                const auto o = static_cast<std::size_t>(
                    (block.first_channel + lane) % shape_.input.channels * shape_.multiplier + block.multiple);
                shift_[at] = plan_.shift[o];
                constant_[at] = plan_.constant[o];
                bias[at] = static_cast<std::uint32_t>(plan_.bias[o]) + static_cast<std::uint32_t>(plan_.constant[o]);
            }
        }
        factor_.resize(plan_.kind == kernels::epilogue::shift_words ? 2 * lanes : 0);
        for (std::size_t lane = 0; 2 * lane < factor_.size(); lane += static_cast<std::size_t>(width().lanes))
            kernels::pack_factors(shift_.data() + lane, factor_.data() + 2 * lane, width().vectors, own);
        const auto offset = static_cast<std::uint32_t>(width().input_offset);
        row_bias_.assign(
            static_cast<std::size_t>(kernels::depthwise_rows_before + output_.height + kernels::depthwise_rows_behind),
            0);
        for (const detail::axis_segment& row : detail::segments(output_.height, shape_.input.height, w.kernel.height,
                                                                w.stride.height, w.dilation.height, w.padding.top)) {
            const std::size_t first = bias_.size();
            for (std::int64_t y = row.begin; y < row.end; ++y)
                row_bias_[static_cast<std::size_t>(kernels::depthwise_rows_before + y)] =
                    static_cast<std::int64_t>(offset == 0 ? 0 : first);
            if (offset == 0 && first != 0) continue;
            for (std::size_t i = 0; i < (offset == 0 ? 1 : packed_.views.size()) * lanes; ++i) {
                std::uint32_t sum = 0;
                const std::size_t view = i / lanes * static_cast<std::size_t>(w.kernel.height);
                for (std::int64_t ky = row.taps.first; ky < row.taps.last; ++ky)
                    sum += static_cast<std::uint32_t>(
                        packed_.row_sums[(view + static_cast<std::size_t>(ky)) * lanes + i % lanes]);
                bias_.push_back(static_cast<std::int32_t>(bias[i % lanes] - offset * sum));
            }
        }
        columns_ = detail::segments(shape_.input, w).columns;
    }

    /// Tasks: strips of rows, and in each runs of columns.
    void cut() {
        if (packed_.flat) {
            groups_.push_back({0, 1});
            line_ = (output_.width * shape_.input.channels + width().lanes - 1) / width().lanes;
        } else {
            // Neighbouring blocks of one pixel, up to a cache line.
            const std::size_t most = std::max(1, 64 / width().lanes);
            for (std::size_t b = 0; b < packed_.blocks.size(); ++b) {
                const depthwise_block& block = packed_.blocks[b];
                if (!groups_.empty() && groups_.back().blocks < most) {
                    const depthwise_block& last = packed_.blocks[b - 1];
                    if (block.multiple == last.multiple && block.first_channel == last.first_channel + width().lanes) {
                        ++groups_.back().blocks;
                        continue;
                    }
                }
                groups_.push_back({b, 1});
            }
            line_ = output_.width;
        }
        const std::int64_t columns = line_ * static_cast<std::int64_t>(groups_.size());
        const std::int64_t strips = (output_.height + kernels::depthwise_rows - 1) / kernels::depthwise_rows;
        rows_ = (output_.height + strips - 1) / strips;
        strips_ = (output_.height + rows_ - 1) / rows_;
        // About 2^17 multiply-accumulates each, a microsecond.
        const std::int64_t macs = rows_ * shape_.window.kernel.height * shape_.window.kernel.width * width().lanes *
                                  static_cast<std::int64_t>(groups_.front().blocks);
        run_ = std::clamp<std::int64_t>((std::int64_t{1} << 17) / macs, 1, columns);
        runs_ = (columns + run_ - 1) / run_;
    }

    template <class Output, class Executor>
    void execute(std::span<const std::int8_t> input, std::span<Output> output, kernels::epilogue kind,
                 const Executor& executor) const {
        constexpr const char* function = "depthwise_conv2d";
        detail::check_span(function, "input", input, static_cast<std::uint64_t>(shape_.input.elements()));
        detail::check_span(function, "output", output, static_cast<std::uint64_t>(shape_.output().elements()));
        detail::check_overlap(function, "output", output, input, false);
        executor.parallel_for(shape_.input.batch * tasks(), [&](std::int64_t task) {
            const std::int64_t image = task / tasks();
            run_task(input.data() + image * shape_.input.height * shape_.input.width * shape_.input.channels,
                     output.data() + image * output_.height * output_.width * shape_.outputs(), kind, task % tasks());
        });
    }

    /// Of one image.
    std::int64_t tasks() const { return strips_ * runs_; }

    template <class Output>
    void run_task(const std::int8_t* input, Output* output, kernels::epilogue kind, std::int64_t task) const {
        const std::int64_t y = task / runs_ * rows_;
        const std::int64_t first = task % runs_ * run_;
        const std::int64_t columns = line_ * static_cast<std::int64_t>(groups_.size());
        const std::int64_t output_row = output_.width * shape_.outputs();
        run_strip(input, output + y * output_row, output_row, 0, kind, y, std::min(rows_, output_.height - y), first,
                  std::min(first + run_, columns));
    }

    /// Pixels [x, end) of `rows` output rows from y on, on the calling thread, to `output`; its rows are output_row
    /// elements apart. Where that is a part of the rows, up to a vector in front and behind it may be written too.
    void run_part(const std::int8_t* input, std::int8_t* output, std::int64_t output_row, std::int64_t y,
                  std::int64_t rows, std::int64_t x, std::int64_t end) const {
        for (std::int64_t first = 0; first < rows; first += rows_) {
            const std::int64_t height = std::min(rows_, rows - first);
            const std::int64_t channels = shape_.outputs();
            if (packed_.flat) {
                const std::int64_t begin = x * channels / width().lanes;
                const std::int64_t last = (end * channels + width().lanes - 1) / width().lanes;
                run_strip(input, output + first * output_row, output_row, x * channels, plan_.kind, y + first, height,
                          begin, last);
                continue;
            }
            for (std::int64_t line = 0; line < static_cast<std::int64_t>(groups_.size()); ++line)
                run_strip(input, output + first * output_row, output_row, x * channels, plan_.kind, y + first, height,
                          line * line_ + x, line * line_ + end);
        }
    }

    /// Columns [first, end) of `rows` output rows from y on; `output` is element `origin` of the first row.
    template <class Output>
    void run_strip(const std::int8_t* input, Output* output, std::int64_t output_row, std::int64_t origin,
                   kernels::epilogue kind, std::int64_t y, std::int64_t rows, std::int64_t first,
                   std::int64_t end) const {
        const window2d& w = shape_.window;
        const std::int64_t channels = shape_.input.channels;
        const std::int64_t taps = (w.kernel.width + width().taps - 1) / width().taps;
        kernels::depthwise_strip s{};
        s.input = input;
        s.input_row = shape_.input.width * channels;
        s.input_height = shape_.input.height;
        s.first_row = y * w.stride.height - w.padding.top;
        s.input_step = packed_.flat ? width().lanes : w.stride.width * channels;
        s.tap = w.dilation.width * channels;
        s.output_row = output_row;
        s.output_step = packed_.flat ? width().lanes : shape_.outputs();
        s.output_lane = shape_.multiplier;
        s.rows = rows;
        s.kernel = w.kernel;
        s.stride = w.stride.height;
        s.dilation = w.dilation.height;
        s.block_weights = w.kernel.height * taps * width().lanes;
        s.row_bias = row_bias_.data() + kernels::depthwise_rows_before + y;
        while (first < end) {
            const std::int64_t line = first / line_;
            const std::int64_t last = std::min(end, (line + 1) * line_);
            const block_group& group = groups_[static_cast<std::size_t>(line)];
            const depthwise_block& of = packed_.blocks[group.first];
            const std::size_t lane = group.first * static_cast<std::size_t>(width().lanes);
            s.group = static_cast<std::int64_t>(group.blocks);
            s.blocks = packed_.flat ? static_cast<std::int64_t>(packed_.blocks.size()) : s.group;
            s.weights = packed_.weights.data() + static_cast<std::int64_t>(group.first) * s.block_weights;
            s.bias = bias_.data() + lane;
            s.requantize = {shift_.data() + lane,
                            factor_.data() + (factor_.empty() ? 0 : 2 * lane),
                            constant_.data() + lane,
                            plan_.range,
                            plan_.mode,
                            kind};
            run_line(s, output, (packed_.flat ? 0 : of.first_channel * shape_.multiplier + of.multiple) - origin,
                     packed_.flat ? 0 : of.first_channel, first - line * line_, last - line * line_);
            first = last;
        }
    }

    /// Columns [begin, end) of a line; the first and last of it may lie partly in the padding.
    template <class Output>
    void run_line(kernels::depthwise_strip& s, Output* output, std::int64_t first_output, std::int64_t first_channel,
                  std::int64_t begin, std::int64_t end) const {
        const std::int64_t origin = first_channel - shape_.window.padding.left * shape_.input.channels;
        const std::int64_t reach = (shape_.window.kernel.width - 1) * s.tap + s.group * width().lanes;
        const bool is_plain = s.requantize.kind <= kernels::epilogue::shift && s.output_lane == 1;
        const auto run = [&](std::int64_t from, std::int64_t to, int lanes, kernels::depthwise_table::function kernel,
                             std::int64_t shift = 0) {
            if (from >= to) return;
            s.first_element = origin + from * s.input_step + shift;
            s.output = output + (first_output + from * s.output_step);
            s.columns = to - from;
            s.lanes = lanes;
            s.block = packed_.flat ? from % s.blocks : 0;
            kernel(s);
        };
        if (!packed_.flat) {
            // Columns that see the same taps, by the view of the kernel that lies inside the image.
            const std::int32_t* const weights = s.weights;
            const std::int32_t* const bias = s.bias;
            for (const detail::axis_segment& column : columns_) {
                const auto [from, to] = detail::intersect(column.begin, column.end, begin, end);
                std::size_t view = 0;
                while (view < packed_.views.size() && packed_.views[view].taps != column.taps) ++view;
                const bool plain = is_plain && packed_.lanes == width().lanes && view < packed_.views.size();
                if (!plain) {
                    run(from, to, packed_.lanes, edge_);
                    continue;
                }
                const auto index = static_cast<std::int64_t>(view);
                s.weights = weights + index * static_cast<std::int64_t>(packed_.blocks.size()) * s.block_weights;
                if (width().input_offset != 0) s.bias = bias + index * packed_.lane_count;
                run(from, to, packed_.lanes, plain_, packed_.views[view].shift * s.tap);
                s.weights = weights;
                s.bias = bias;
            }
            return;
        }
        // Column i reads elements [origin + i · step, … + reach) of a row.
        const std::int64_t left = origin < 0 ? (-origin + s.input_step - 1) / s.input_step : 0;
        const std::int64_t room = s.input_row - reach - origin;
        const std::int64_t right = packed_.lanes < width().lanes || room < 0 ? 0 : room / s.input_step + 1;
        const std::int64_t whole = output_.width * shape_.input.channels / width().lanes;
        const std::int64_t a = std::clamp(std::min(left, whole), begin, end);
        const std::int64_t b = std::clamp(std::min(right, whole), a, end);
        const std::int64_t c = std::clamp(whole, b, end);
        run(begin, a, packed_.lanes, edge_);
        run(a, b, packed_.lanes, is_plain ? plain_ : edge_);
        run(b, c, packed_.lanes, edge_);
        // What is left of the row.
        run(c, end, static_cast<int>(output_.width * shape_.input.channels - c * width().lanes), edge_);
    }

    depthwise_conv2d_shape shape_;
    const kernels::depthwise_table* table_;
    extent2d output_{};
    detail::requantize_plan plan_;
    packed_depthwise_weights packed_;
    kernels::depthwise_table::function plain_ = nullptr;
    kernels::depthwise_table::function edge_ = nullptr;
    /// Blocks whose vectors are computed together, pixel by pixel.
    struct block_group {
        std::size_t first;
        std::size_t blocks;
    };
    std::vector<block_group> groups_;
    std::int64_t line_ = 0;  ///< columns of a group in a strip
    std::vector<detail::axis_segment> columns_;
    std::int64_t rows_ = 0;    ///< of a strip
    std::int64_t strips_ = 0;  ///< of an image
    std::int64_t run_ = 0;     ///< vectors of a task
    std::int64_t runs_ = 0;    ///< tasks of a strip
    detail::aligned_vector<std::int32_t> bias_;
    std::vector<std::int64_t> row_bias_;
    detail::aligned_vector<std::int32_t> shift_;
    detail::aligned_vector<std::int16_t> factor_;  ///< of shift_words: two for each lane
    detail::aligned_vector<std::int32_t> constant_;
};

}  // namespace po2quant
