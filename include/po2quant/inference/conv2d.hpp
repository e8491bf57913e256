#pragma once
/// Standard convolution by integers: pack once, run many.
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include <po2quant/inference/add.hpp>
#include <po2quant/inference/pack_codes.hpp>
#include <po2quant/inference/regions.hpp>
#include <po2quant/inference/requantization.hpp>
#include <po2quant/kernels/conv2d.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/tensor/convolution.hpp>

namespace po2quant {

namespace detail {

/// Memory of kernels' operands: aligned to a cache line.
template <class T>
struct aligned_allocator {
    using value_type = T;
    aligned_allocator() = default;
    template <class U>
    aligned_allocator(const aligned_allocator<U>&) {}
    T* allocate(std::size_t n) { return static_cast<T*>(::operator new (n * sizeof(T), std::align_val_t{64})); }
    void deallocate(T* p, std::size_t) { ::operator delete (p, std::align_val_t{64}); }
    friend bool operator==(const aligned_allocator&, const aligned_allocator&) { return true; }
};
template <class T>
using aligned_vector = std::vector<T, aligned_allocator<T>>;

inline void check_conv2d_shape(const char* function, const conv2d_shape& s) {
    check_range(function, "outputs", s.outputs, 1, max_dimension);
    check_window(function, s.input, s.window, s.outputs);
    check_range(function, "groups", s.groups, 1, s.input.channels);
    if (s.input.channels % s.groups != 0 || s.outputs % s.groups != 0)
        fail(function, "groups", std::to_string(s.groups),
             text("divisors of both input.channels, ", s.input.channels, ", and outputs, ", s.outputs));
    check_elements(function, "number of weights",
                   {s.window.kernel.height, s.window.kernel.width, s.group_inputs(), s.outputs});
}

/// Whether the taps of a kernel row lie side by side in memory: no gap, no other group's channels.
inline bool taps_are_neighbours(const conv2d_shape& s) { return s.window.dilation.width == 1 && s.groups == 1; }

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

inline void check_layout(const char* function, weight_layout layout) {
    check_range(function, "layout", static_cast<int>(layout), 0, static_cast<int>(weight_layout::oihw));
}

}  // namespace detail

/// Output channels that are computed together: `vectors` registers of lanes.
struct conv2d_block {
    std::int64_t group;         ///< the group whose inputs it reads
    std::int64_t first_output;  ///< its first output channel
    int outputs;                ///< how many of its lanes are output channels
    int vectors;                ///< registers
    std::int64_t weights;       ///< where its packed weights begin, in bytes
    std::int64_t lanes;         ///< where its lanes begin in arrays of lanes
};

/// Neighbouring input elements that meet neighbouring weights: the channels of the taps (ky, kx.first … kx.last − 1).
struct conv2d_run {
    std::int64_t ky;
    tap_range kx;
    std::int64_t weights;  ///< where its weights begin in a block, in elements per lane
};

/// Weights in the layout that kernels/conv2d.hpp reads, for one table of kernels:
///
///   [block][run][⌈length / codes⌉][vectors][registers][lanes][codes / registers]   int8 or int16, as operands say
///
/// Lanes are in channel_of order; what lies behind the last output is 0. Code k of a step meets weight k / registers of
/// register k % registers. A run is a tap; or, where taps lie side by side and their channels do not fill steps, the
/// valid taps of a kernel row, once for each way that padding cuts it. The last step of a run holds its last `codes`
/// elements, at weight 0 where the step before has them; a run shorter than a step has zeros behind. `tap_sums` [tap =
/// ky * KW + kx][lane] are the sums of each tap's weights, which an input offset multiplies.
struct packed_conv2d_weights {
    kernels::conv2d_operands operands;
    std::vector<conv2d_block> blocks;
    std::vector<conv2d_run> runs;
    detail::aligned_vector<std::byte> weights;
    std::vector<std::int32_t> tap_sums;
    std::int64_t lane_count = 0;
};

/// Packs int8 weights given in `layout` for inputs of `input_format` and the kernels of `table`. Throws
/// std::invalid_argument for a shape, size, layout or format that is not possible.
inline packed_conv2d_weights pack_conv2d_weights(const conv2d_shape& shape, std::span<const std::int8_t> weights,
                                                 weight_layout layout, integer_format input_format,
                                                 const kernels::conv2d_table& table) {
    constexpr const char* function = "pack_conv2d_weights";
    detail::check_conv2d_shape(function, shape);
    detail::check_layout(function, layout);
    detail::check_code_format(function, "input_format", input_format, 16);
    detail::check_span(function, "weights", weights, static_cast<std::uint64_t>(shape.weights()));
    const kernels::conv2d_operands operands = table.operands(input_format);
    const std::int64_t quad = operands.codes;
    const window2d& w = shape.window;
    const std::int64_t cin = shape.group_inputs();
    const std::int64_t taps = w.kernel.height * w.kernel.width;
    packed_conv2d_weights packed;
    packed.operands = operands;

    // Elements per lane of a block.
    std::int64_t depth = 0;
    const auto add_runs = [&](tap_range kx) {
        for (std::int64_t ky = 0; ky < w.kernel.height; ++ky) {
            packed.runs.push_back({ky, kx, depth});
            depth += ((kx.last - kx.first) * cin + quad - 1) / quad * quad;
        }
    };
    if (detail::taps_are_neighbours(shape) && cin % quad != 0) {
        std::vector<tap_range> known;
        for (const detail::axis_segment& column : detail::segments(shape.input, w).columns)
            if (column.taps.first < column.taps.last &&
                std::find(known.begin(), known.end(), column.taps) == known.end()) {
                known.push_back(column.taps);
                add_runs(column.taps);
            }
    } else {
        for (std::int64_t ky = 0; ky < w.kernel.height; ++ky)
            for (std::int64_t kx = 0; kx < w.kernel.width; ++kx) {
                packed.runs.push_back({ky, {kx, kx + 1}, depth});
                depth += (cin + quad - 1) / quad * quad;
            }
    }

    std::int64_t size = 0;
    for (std::int64_t g = 0; g < shape.groups; ++g) {
        for (std::int64_t o = 0; o < shape.group_outputs();) {
            const std::int64_t left = shape.group_outputs() - o;
            const auto vectors =
                static_cast<int>(std::min<std::int64_t>(operands.max_vectors, (left + table.lanes - 1) / table.lanes));
            const auto outputs = static_cast<int>(std::min<std::int64_t>(left, vectors * table.lanes));
            packed.blocks.push_back({g, g * shape.group_outputs() + o, outputs, vectors, size, packed.lane_count});
            size += depth * vectors * table.lanes * operands.weight_bytes;
            packed.lane_count += vectors * table.lanes;
            o += outputs;
        }
    }
    packed.weights.assign(static_cast<std::size_t>(size), std::byte{0});
    packed.tap_sums.assign(static_cast<std::size_t>(taps * packed.lane_count), 0);
    for (const conv2d_block& block : packed.blocks) {
        for (int lane = 0; lane < block.vectors * table.lanes; ++lane) {
            const int v = lane / table.lanes;
            const int o = table.channel_of(block.vectors, v, lane % table.lanes);
            if (o >= block.outputs) continue;
            for (const conv2d_run& run : packed.runs) {
                const std::int64_t length = (run.kx.last - run.kx.first) * cin;
                for (std::int64_t i = 0; i < length; ++i) {
                    const std::int8_t value = weights[static_cast<std::size_t>(
                        shape.weight_index(layout, run.ky, run.kx.first + i / cin, i % cin, block.first_output + o))];
                    // The last step ends with the run.
                    const bool reaches_back = length >= quad && i >= length / quad * quad;
                    const std::int64_t part = reaches_back ? quad - (length - i) : i % quad;
                    const std::int64_t per_lane = quad / operands.registers;
                    const std::int64_t at = ((run.weights + i / quad * quad) * block.vectors + v * quad +
                                             part % operands.registers * per_lane) *
                                                table.lanes +
                                            lane % table.lanes * per_lane + part / operands.registers;
                    std::byte* to = packed.weights.data() + block.weights + at * operands.weight_bytes;
                    const std::int16_t wide = value;
                    if (operands.weight_bytes == 1) std::memcpy(to, &value, sizeof value);
                    else std::memcpy(to, &wide, sizeof wide);
                }
            }
            for (std::int64_t tap = 0; tap < taps; ++tap) {
                std::int32_t sum = 0;
                for (std::int64_t c = 0; c < cin; ++c)
                    sum += weights[static_cast<std::size_t>(shape.weight_index(
                        layout, tap / w.kernel.width, tap % w.kernel.width, c, block.first_output + o))];
                packed.tap_sums[static_cast<std::size_t>(tap * packed.lane_count + block.lanes + lane)] = sum;
            }
        }
    }
    return packed;
}

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
        : shape_(shape), table_(&table), wide_input_(q.input_format.signed_bits() > 8) {
        constexpr const char* function = "conv2d";
        detail::check_conv2d_shape(function, shape);
        detail::check_layout(function, layout);
        detail::check_requantization(function, q, bias, shape.outputs);
        detail::check_span(function, "weights", weights, static_cast<std::uint64_t>(shape.weights()));
        plan_ = detail::plan_requantization(function, q, bias,
                                            detail::product_bounds(shape, weights, layout, q.input_format));
        // A 1×1 window that moves by 1 sees a batch of images as one row of pixels: full tiles up to the very end.
        geometry_ = shape.input;
        const bool pointwise = shape.window.kernel == extent2d{} && shape.window.stride == extent2d{} &&
                               shape.window.padding == padding2d{};
        if (pointwise)
            geometry_ = {1, 1, shape.input.batch * shape.input.height * shape.input.width, shape.input.channels};
        output_ = output_extent(geometry_, shape.window);
        packed_ = pack_conv2d_weights(shape, weights, layout, q.input_format, table);
        bytes_ = &table.of_bytes(q.input_format);
        plan();
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
        execute(*bytes_, input, output, plan_.kind, executor);
    }
    /// run, then add(output, residual, output, q), strip by strip while its codes are in cache: a residual block
    /// without a pass of its own. `residual` has the output's shape, in memory of its own; q.a_exponent is the layer's
    /// output_exponent.
    template <executor Executor = serial_executor>
    void run_add(std::span<const std::int8_t> input, std::span<const std::int8_t> residual,
                 std::span<std::int8_t> output, const add_quantization& q, const Executor& executor = {}) const {
        const detail::fused_addition add = plan_add("conv2d", residual, output, q);
        execute(*bytes_, input, output, plan_.kind, executor, &add);
    }
    /// The same for int16 inputs: layers whose input_format does not fit int8.
    template <executor Executor = serial_executor>
    void run(std::span<const std::int16_t> input, std::span<std::int8_t> output, const Executor& executor = {}) const {
        execute(table_->i16, input, output, plan_.kind, executor);
    }
    /// The int32 sums with their aligned bias, before the shift: for logits, and for rescaling by other rules.
    template <executor Executor = serial_executor>
    void accumulate(std::span<const std::int8_t> input, std::span<std::int32_t> sums,
                    const Executor& executor = {}) const {
        execute(*bytes_, input, sums, kernels::epilogue::accumulators, executor);
    }
    template <executor Executor = serial_executor>
    void accumulate(std::span<const std::int16_t> input, std::span<std::int32_t> sums,
                    const Executor& executor = {}) const {
        execute(table_->i16, input, sums, kernels::epilogue::accumulators, executor);
    }

    const conv2d_shape& shape() const { return shape_; }
    nhwc output() const { return shape_.output(); }
    const po2quant::certificate& certificate() const { return plan_.proof; }
    /// The instruction set whose kernels run.
    const char* arch() const { return table_->arch; }

private:
    friend class separable_conv2d;

    /// Inputs of a strip, offset, on the stack of the thread that runs it.
    static constexpr std::int64_t strip_bytes = 65536;

    /// What a rectangle of pixels needs besides its place: its taps and, where inputs are offset, its own bias.
    struct region {
        std::int64_t first_tap;
        std::int64_t tap_count;
        std::int64_t run;
        std::int64_t bias;
    };

    void plan() {
        segments_ = detail::segments(geometry_, shape_.window);
        make_regions();
        make_lanes();
        // A task is a block of outputs for a strip of pixels: about 2^21 multiply-accumulates, some 10 µs.
        const std::int64_t block_outputs = packed_.blocks.front().outputs;
        const std::int64_t pixel_macs =
            shape_.window.kernel.height * shape_.window.kernel.width * shape_.group_inputs() * block_outputs;
        // Four rows at least, so that the pixels of a padded column fill a tile, but where that leaves less than 8
        // tasks.
        const auto all_rows = geometry_.batch * static_cast<std::int64_t>(packed_.blocks.size()) * output_.height;
        grid_ = cut(std::max<std::int64_t>(1, (std::int64_t{1} << 21) / pixel_macs),
                    std::clamp<std::int64_t>(all_rows / 4, 1, 4));
        // A 1×1 layer multiplies each input with few weights per block: up to four blocks share what offsets a strip,
        // where that leaves 8 tasks.
        const std::int64_t tasks = geometry_.batch * static_cast<std::int64_t>(packed_.blocks.size()) * grid_.strips();
        if (packed_.operands.input_offset != 0 && shape_.window.kernel == extent2d{})
            task_blocks_ = std::clamp<std::int64_t>(tasks / 8, 1, 4);
        // 256 products and more per output hide an addition; with less, strips of about 64 KB of output, which L2
        // holds.
        if (pixel_macs < 256 * block_outputs) add_grid_ = cut(std::max<std::int64_t>(1, 65536 / shape_.outputs), 1);
    }

    /// Strips as detail::cut makes them, but smaller ones where their inputs exceed the buffer that offsets them.
    detail::task_grid cut(std::int64_t pixels, std::int64_t least_rows) const {
        while (true) {
            const detail::task_grid grid = detail::cut(output_, pixels, least_rows);
            if (detail::most_strip_inputs(geometry_, shape_.window, grid) <= strip_bytes || pixels <= 48) return grid;
            pixels /= 2;
            least_rows = std::max<std::int64_t>(1, least_rows / 2);
        }
    }

    /// The runs of each rectangle. Taps side by side whose weights are too, without zeros between, make one run.
    void make_regions() {
        const std::int64_t quad = packed_.operands.codes;
        const window2d& w = shape_.window;
        const std::int64_t cin = shape_.group_inputs();
        const bool joined = detail::taps_are_neighbours(shape_);
        for (const detail::axis_segment& row : segments_.rows) {
            for (const detail::axis_segment& column : segments_.columns) {
                region r{static_cast<std::int64_t>(taps_.size()), 0, cin, 0};
                const std::int64_t kx_count = column.taps.last - column.taps.first;
                if (joined && kx_count > 0) r.run = cin * kx_count;
                for (const conv2d_run& run : packed_.runs) {
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

    /// Bias, shift and rounding constant in lane order; one bias per region where inputs are offset, less
    /// offset · Σ of its valid taps' weights: modulo 2^32, as the kernels sum.
    void make_lanes() {
        const int offset = packed_.operands.input_offset;
        const auto lanes = static_cast<std::size_t>(packed_.lane_count);
        shift_.assign(lanes, 2);
        constant_.assign(lanes, 0);
        std::vector<std::uint32_t> bias(lanes, 0);
        for (const conv2d_block& block : packed_.blocks) {
            for (int v = 0; v < block.vectors; ++v) {
                for (int lane = 0; lane < table_->lanes; ++lane) {
                    const int c = table_->channel_of(block.vectors, v, lane);
                    if (c >= block.outputs) continue;
                    const auto at = static_cast<std::size_t>(block.lanes + v * table_->lanes + lane);
                    const auto o = static_cast<std::size_t>(block.first_output + c);
                    shift_[at] = plan_.shift[o];
                    constant_[at] = plan_.constant[o];
                    bias[at] =
                        static_cast<std::uint32_t>(plan_.bias[o]) + static_cast<std::uint32_t>(plan_.constant[o]);
                }
            }
        }
        factor_.resize(plan_.kind == kernels::epilogue::shift_words ? 2 * lanes : 0);
        if (!factor_.empty())
            for (const conv2d_block& block : packed_.blocks)
                kernels::pack_factors(shift_.data() + block.lanes, factor_.data() + 2 * block.lanes, block.vectors,
                                      table_->lanes);
        const std::size_t copies = offset == 0 ? 1 : regions_.size();
        bias_.resize(copies * lanes);
        std::size_t index = 0;
        for (const detail::axis_segment& row : segments_.rows) {
            for (const detail::axis_segment& column : segments_.columns) {
                if (index == copies) return;
                regions_[index].bias = static_cast<std::int64_t>(index * lanes);
                for (std::size_t lane = 0; lane < lanes; ++lane) {
                    std::uint32_t sum = 0;
                    for (std::int64_t ky = row.taps.first; offset != 0 && ky < row.taps.last; ++ky)
                        for (std::int64_t kx = column.taps.first; kx < column.taps.last; ++kx)
                            sum += static_cast<std::uint32_t>(
                                packed_
                                    .tap_sums[static_cast<std::size_t>(ky * shape_.window.kernel.width + kx) * lanes +
                                              lane]);
                    bias_[index * lanes + lane] =
                        static_cast<std::int32_t>(bias[lane] - static_cast<std::uint32_t>(offset) * sum);
                }
                ++index;
            }
        }
    }

    detail::fused_addition plan_add(const char* function, std::span<const std::int8_t> residual,
                                    std::span<const std::int8_t> output, const add_quantization& q) const {
        const kernels::addition rule = detail::plan_addition(function, q);
        if (q.a_exponent != plan_.output_exponent)
            detail::fail(function, "a_exponent", std::to_string(q.a_exponent),
                         detail::text("the layer's output_exponent, ", plan_.output_exponent));
        detail::check_span(function, "residual", residual, static_cast<std::uint64_t>(shape_.output().elements()));
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
        detail::check_span(function, "input", input, static_cast<std::uint64_t>(shape_.input.elements()));
        detail::check_span(function, "output", output, static_cast<std::uint64_t>(shape_.output().elements()));
        detail::check_overlap(function, "output", output, input, false);
        const auto blocks = static_cast<std::int64_t>(packed_.blocks.size());
        // Where the addition weighs something, strips of all blocks, so that it sees whole pixels.
        if (add != nullptr && add_grid_.rows != 0) {
            const std::int64_t strips = add_grid_.strips();
            executor.parallel_for(geometry_.batch * strips, [&](std::int64_t task) {
                run_strip(run, packed_.blocks, input.data(), output.data(), kind, task / strips, add_grid_,
                          task % strips, add);
            });
            return;
        }
        const std::int64_t strips = grid_.strips();
        const std::int64_t groups = (blocks + task_blocks_ - 1) / task_blocks_;
        // Strips innermost: a block's weights stay in cache while the images stream past them.
        executor.parallel_for(geometry_.batch * groups * strips, [&](std::int64_t task) {
            const std::int64_t first = task / strips % groups * task_blocks_;
            const std::span of(packed_.blocks.data() + first,
                               static_cast<std::size_t>(std::min(task_blocks_, blocks - first)));
            run_strip(run, of, input.data(), output.data(), kind, task / (strips * groups), grid_, task % strips, add);
        });
    }

    /// Input codes as run_pixels wants them: offset, where the dot products do that.
    void prepare_pixels(std::int8_t* codes, std::int64_t count) const {
        if (bytes_->operands.input_offset != 0) table_->offset_codes(codes, codes, static_cast<std::size_t>(count));
    }
    /// A 1×1 layer that moves by 1, over a rectangle of pixels on the calling thread: prepared input pixels side by
    /// side, its rows input_row elements apart, output rows output_row.
    void run_pixels(const std::int8_t* input, std::int64_t input_row, std::int8_t* output, std::int64_t output_row,
                    std::int64_t rows, std::int64_t columns, const conv2d_block& block,
                    const detail::fused_addition* add) const {
        kernels::conv2d_rectangle<std::int8_t> job{};
        job.input = input;
        job.input_row = input_row;
        job.input_column = geometry_.channels;
        job.output = output + block.first_output;
        job.output_row = output_row;
        job.output_column = shape_.outputs;
        job.rows = rows;
        job.columns = columns;
        finish_job(job, regions_.front(), bytes_->operands.input_offset != 0 ? table_->u7 : *bytes_, block, plan_.kind);
        if (add != nullptr) add_residual(job, block, *add);
    }

    /// Some blocks of outputs for a strip of pixels. Where the dot products offset their inputs, those of the strip are
    /// offset first: else the kernel does it at each multiplication, which CPUs with few vector units notice.
    template <class Input, class Output>
    void run_strip(const kernels::conv2d_table::functions<Input>& run, std::span<const conv2d_block> blocks,
                   const Input* input, Output* output, kernels::epilogue kind, std::int64_t image,
                   const detail::task_grid& grid, std::int64_t strip, const detail::fused_addition* add) const {
        input += image * geometry_.height * geometry_.width * geometry_.channels;
        output += image * output_.height * output_.width * shape_.outputs;
        if constexpr (std::is_same_v<Input, std::int8_t>) {
            const detail::interval seen = detail::strip_inputs(geometry_, shape_.window, output_, grid, strip);
            if (run.operands.input_offset != 0 && shape_.groups == 1 && seen.size() <= strip_bytes) {
                alignas(64) std::int8_t codes[strip_bytes];
                table_->offset_codes(input + seen.begin, codes, static_cast<std::size_t>(seen.size()));
                run_blocks(table_->u7, blocks, codes, seen.begin, output, kind, grid, strip, add);
                return;
            }
        }
        run_blocks(run, blocks, input, 0, output, kind, grid, strip, add);
    }

    /// The image's elements from `origin` on lie at `input`.
    template <class Input, class Output>
    void run_blocks(const kernels::conv2d_table::functions<Input>& run, std::span<const conv2d_block> blocks,
                    const Input* input, std::int64_t origin, Output* output, kernels::epilogue kind,
                    const detail::task_grid& grid, std::int64_t strip, const detail::fused_addition* add) const {
        const window2d& w = shape_.window;
        const std::int64_t channels = geometry_.channels;
        for (const conv2d_block& block : blocks) {
            const detail::fused_addition* const due = add_now(block, add);
            const auto rectangle = [&](const detail::axis_segment& row, const detail::axis_segment& column,
                                       detail::interval rows, detail::interval columns) {
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
                finish_job(job, regions_[index], run, block, kind);
                if constexpr (std::is_same_v<Output, std::int8_t>)
                    if (due != nullptr) add_residual(job, block, *due);
            };
            detail::for_each_rectangle(segments_, grid, output_, strip, rectangle);
        }
    }

    /// What of a job depends on its region and block; runs it.
    template <class Input>
    void finish_job(kernels::conv2d_rectangle<Input>& job, const region& r,
                    const kernels::conv2d_table::functions<Input>& run, const conv2d_block& block,
                    kernels::epilogue kind) const {
        job.taps = taps_.data() + r.first_tap;
        job.tap_count = r.tap_count;
        job.run = r.run;
        job.weights = packed_.weights.data() + block.weights;
        job.bias = bias_.data() + r.bias + block.lanes;
        job.outputs = block.outputs;
        job.requantize = {shift_.data() + block.lanes,
                          factor_.data() + (factor_.empty() ? 0 : 2 * block.lanes),
                          constant_.data() + block.lanes,
                          plan_.range,
                          plan_.mode,
                          kind};
        (r.run < run.operands.codes ? run.shorter : run.whole)[block.vectors - 1](job);
    }

    /// The addition, if it is due behind a block: each one's, or the last one's.
    const detail::fused_addition* add_now(const conv2d_block& block, const detail::fused_addition* add) const {
        return add_grid_.rows == 0 || &block == &packed_.blocks.back() ? add : nullptr;
    }

    /// Adds the residual to what a job has written; after the last of all blocks, to whole pixels.
    template <class Input>
    void add_residual(const kernels::conv2d_rectangle<Input>& job, const conv2d_block& block,
                      const detail::fused_addition& add) const {
        const bool whole = add_grid_.rows != 0;
        for (std::int64_t y = 0; y < job.rows; ++y) {
            auto* codes = static_cast<std::int8_t*>(job.output) + y * job.output_row - (whole ? block.first_output : 0);
            table_->add_residual(codes, add.residual + (codes - add.output), job.columns,
                                 static_cast<std::size_t>(whole ? shape_.outputs : job.outputs), job.output_column,
                                 add.rule);
        }
    }

    conv2d_shape shape_;
    const kernels::conv2d_table* table_;
    bool wide_input_;
    nhwc geometry_{};
    extent2d output_{};
    detail::requantize_plan plan_;
    packed_conv2d_weights packed_;
    const kernels::conv2d_table::functions<std::int8_t>* bytes_ = nullptr;
    detail::window_segments segments_;
    detail::task_grid grid_{};
    std::int64_t task_blocks_ = 1;  ///< neighbouring blocks of a task
    detail::task_grid add_grid_{};  ///< of run_add; no rows where it goes block by block
    std::vector<kernels::conv2d_tap> taps_;
    std::vector<region> regions_;
    detail::aligned_vector<std::int32_t> bias_;
    detail::aligned_vector<std::int32_t> shift_;
    detail::aligned_vector<std::int16_t> factor_;  ///< of shift_words: two for each lane
    detail::aligned_vector<std::int32_t> constant_;
};

}  // namespace po2quant
