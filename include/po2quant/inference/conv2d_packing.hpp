#pragma once
/// How a convolution's weights are packed: worked out from its shape, then filled for each set of weights.
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include <po2quant/inference/regions.hpp>
#include <po2quant/inference/requantization.hpp>
#include <po2quant/kernels/conv2d.hpp>
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

/// Neighbouring inputs that a pixel sees where nothing is padded.
inline std::int64_t longest_run(const conv2d_shape& s) {
    return s.group_inputs() * (taps_are_neighbours(s) ? s.window.kernel.width : 1);
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
/// register k % registers. Where operands.halves_apart, of the dwords of 4 lanes the lower halves come first; 64 codes
/// are [16][vectors][lanes][4]. A run is a tap; or, where taps lie side by side and their channels do not fill steps,
/// the valid taps of a kernel row, once for each way that padding cuts it. The last step of a run holds its last
/// `codes` elements, at weight 0 where the step before has them; a run shorter than a step has zeros behind.
struct conv2d_packing {
    kernels::conv2d_operands operands;
    std::vector<conv2d_block> blocks;
    std::vector<conv2d_run> runs;
    std::int64_t bytes = 0;  ///< of all blocks
    std::int64_t lane_count = 0;
};

/// The weights of one output channel, summed: what bounds its accumulator.
struct weight_sums {
    std::int64_t all = 0;
    std::int64_t positive = 0;

    constexpr accumulator_bounds bounds(integer_format input) const {
        const std::int64_t negative = all - positive;
        return {positive * input.qmin() + negative * input.qmax(), positive * input.qmax() + negative * input.qmin()};
    }
};

/// `tap_sums` [tap = ky * KW + kx][lane] are the sums of each tap's weights, which an input offset multiplies.
struct packed_conv2d_weights : conv2d_packing {
    detail::aligned_vector<std::byte> weights;
    std::vector<std::int32_t> tap_sums;
    std::vector<weight_sums> sums;  ///< of each output channel
};

namespace detail {

/// The packing of a shape, with no weights yet.
inline conv2d_packing plan_packing(const conv2d_shape& shape, integer_format input_format,
                                   const kernels::conv2d_table& table) {
    const kernels::conv2d_operands operands = table.operands(input_format);
    const std::int64_t quad = operands.codes;
    const window2d& w = shape.window;
    const std::int64_t cin = shape.group_inputs();
    conv2d_packing packing;
    packing.operands = operands;

    // Elements per lane of a block.
    std::int64_t depth = 0;
    const auto add_runs = [&](tap_range kx) {
        for (std::int64_t ky = 0; ky < w.kernel.height; ++ky) {
            packing.runs.push_back({ky, kx, depth});
            depth += ((kx.last - kx.first) * cin + quad - 1) / quad * quad;
        }
    };
    if (taps_are_neighbours(shape) && cin % quad != 0) {
        std::vector<tap_range> known;
        for (const axis_segment& column : segments(shape.input, w).columns)
            if (column.taps.first < column.taps.last &&
                std::find(known.begin(), known.end(), column.taps) == known.end()) {
                known.push_back(column.taps);
                add_runs(column.taps);
            }
    } else {
        for (std::int64_t ky = 0; ky < w.kernel.height; ++ky)
            for (std::int64_t kx = 0; kx < w.kernel.width; ++kx) {
                packing.runs.push_back({ky, {kx, kx + 1}, depth});
                depth += (cin + quad - 1) / quad * quad;
            }
    }

    int max_vectors = operands.max_vectors;
    for (const conv2d_run& run : packing.runs)
        if ((run.kx.last - run.kx.first) * cin < quad) max_vectors = operands.max_short_vectors;
    for (std::int64_t g = 0; g < shape.groups; ++g) {
        for (std::int64_t o = 0; o < shape.group_outputs();) {
            const std::int64_t left = shape.group_outputs() - o;
            const auto vectors =
                static_cast<int>(std::min<std::int64_t>(max_vectors, (left + table.lanes - 1) / table.lanes));
            const auto outputs = static_cast<int>(std::min<std::int64_t>(left, vectors * table.lanes));
            packing.blocks.push_back(
                {g, g * shape.group_outputs() + o, outputs, vectors, packing.bytes, packing.lane_count});
            packing.bytes += depth * vectors * table.lanes * operands.weight_bytes;
            packing.lane_count += vectors * table.lanes;
            o += outputs;
        }
    }
    return packing;
}

/// Memory for the weights of a packing, all zero.
inline packed_conv2d_weights allocate_weights(const conv2d_shape& shape, const conv2d_packing& packing) {
    packed_conv2d_weights packed{packing, {}, {}, {}};
    packed.weights.resize(static_cast<std::size_t>(packing.bytes));
    const extent2d& kernel = shape.window.kernel;
    packed.tap_sums.resize(static_cast<std::size_t>(kernel.height * kernel.width * packing.lane_count));
    packed.sums.resize(static_cast<std::size_t>(shape.outputs));
    return packed;
}

/// Packs one block of weights in the layout hwio. Blocks write apart from each other: different threads can pack them.
inline void pack_block(const conv2d_shape& shape, const kernels::conv2d_table& table, const conv2d_block& block,
                       const std::int8_t* weights, packed_conv2d_weights& to) {
    const kernels::conv2d_operands& operands = to.operands;
    const std::int64_t cin = shape.group_inputs();
    const std::int64_t width = shape.window.kernel.width;
    const kernels::packed_step step{operands.codes, operands.registers, operands.weight_bytes, block.vectors,
                                    table.lanes,    block.outputs,      operands.halves_apart};
    weights += block.first_output;
    for (const conv2d_run& run : to.runs)
        table.pack.run(
            weights + (run.ky * width + run.kx.first) * cin * shape.outputs, shape.outputs,
            (run.kx.last - run.kx.first) * cin, step,
            to.weights.data() + block.weights + run.weights * block.vectors * table.lanes * operands.weight_bytes);
    weight_sums* const totals = to.sums.data() + block.first_output;
    std::fill_n(totals, block.outputs, weight_sums{});
    constexpr std::int64_t most_rows = 1 << 20;  // int32 holds their sums
    for (std::int64_t tap = 0; tap < shape.window.kernel.height * width; ++tap) {
        std::int64_t tap_total[64] = {};
        for (std::int64_t c = 0; c < cin; c += most_rows) {
            std::int32_t sums[64] = {};
            std::int32_t positive[64] = {};
            table.pack.add_rows(weights + (tap * cin + c) * shape.outputs, shape.outputs, std::min(most_rows, cin - c),
                                block.outputs, sums, positive);
            for (int o = 0; o < block.outputs; ++o) {
                tap_total[o] += sums[o];
                totals[o].all += sums[o];
                totals[o].positive += positive[o];
            }
        }
        std::int32_t* const lanes = to.tap_sums.data() + tap * to.lane_count + block.lanes;
        for (int v = 0; v < block.vectors; ++v)
            for (int lane = 0; lane < table.lanes; ++lane) {
                const int o = table.channel_of(block.vectors, v, lane);
                // Modulo 2^32, as the kernels sum.
                if (o < block.outputs) lanes[v * table.lanes + lane] = static_cast<std::int32_t>(tap_total[o]);
            }
    }
}

/// int8 weights of any layout in the layout hwio: they themselves, or in `memory`, which then has room for all.
inline const std::int8_t* weights_as_hwio(const kernels::pack_functions& pack, std::int64_t outputs,
                                          std::int64_t inputs, const extent2d& kernel, weight_layout layout,
                                          const std::int8_t* weights, std::int8_t* memory) {
    if (layout == weight_layout::hwio) return weights;
    pack.transpose(weights, outputs, inputs, kernel.height * kernel.width, layout == weight_layout::oihw, memory);
    return memory;
}

}  // namespace detail

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
    packed_conv2d_weights packed = detail::allocate_weights(shape, detail::plan_packing(shape, input_format, table));
    std::vector<std::int8_t> memory(layout == weight_layout::hwio ? 0 : weights.size());
    const std::int8_t* const hwio = detail::weights_as_hwio(table.pack, shape.outputs, shape.group_inputs(),
                                                            shape.window.kernel, layout, weights.data(), memory.data());
    for (const conv2d_block& block : packed.blocks) detail::pack_block(shape, table, block, hwio, packed);
    return packed;
}

}  // namespace po2quant
