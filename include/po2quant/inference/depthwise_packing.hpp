#pragma once
/// How a depthwise convolution's weights are packed: worked out from its shape, then filled for each set of weights.
#include <numeric>
#include <span>
#include <vector>

#include <po2quant/inference/conv2d_packing.hpp>
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

/// The shape with rows and columns exchanged.
inline depthwise_conv2d_shape transposed(depthwise_conv2d_shape shape) {
    std::swap(shape.input.height, shape.input.width);
    shape.window = po2quant::transposed(shape.window);
    return shape;
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
/// `multiple`. Blocks of channels may overlap at the end; both write the same values.
struct depthwise_block {
    std::int64_t first_channel;
    std::int64_t multiple;  ///< 0 … multiplier − 1
};

/// Weights in the layout that kernels/depthwise_conv2d.hpp reads, of the image as it is walked: [view][block][ky][⌈KW /
/// taps⌉][lanes] dwords, each with the weights of `taps` neighbouring kx of a lane (4 int8, or 2 int16), lanes in
/// channel_of order, with halves_apart the lower halves of 4 dwords before the upper ones; 0 behind the last kx and the
/// last lane. `layout` says how many there are, and where the last kx are. The first view is the kernel as it is.
struct depthwise_packing {
    int lanes = 0;  ///< of a vector that exist
    /// A vector is `lanes` neighbouring elements of an output row, whatever pixels they are of, and vector v of a row
    /// belongs to block v % blocks, and kernels walk down columns. Else it is channels of one pixel, and kernels see
    /// the image with rows and columns exchanged, ky and kx with them: they walk along its rows, of which as many as a
    /// kernel has stay in L1, through memory as it lies.
    bool flat = false;
    /// Elements of a pixel, where flat vectors are of pixels that move by two: lanes are every other block of the
    /// input.
    std::int64_t spread = 0;
    kernels::depthwise_layout layout{};
    std::vector<depthwise_block> blocks;
    std::vector<depthwise_view> views;
    std::int64_t lane_count = 0;     ///< of all blocks
    std::int64_t block_weights = 0;  ///< dwords of a block in a view

    std::int64_t dwords() const { return static_cast<std::int64_t>(views.size() * blocks.size()) * block_weights; }
};

/// `row_sums` [view][ky][lane] are the sums of each kernel row, which an input offset multiplies.
struct packed_depthwise_weights : depthwise_packing {
    detail::aligned_vector<std::int32_t> weights;
    std::vector<std::int32_t> row_sums;
    std::vector<weight_sums> sums;  ///< of each output channel
};

namespace detail {

/// The kernel for a square of taps as it is walked, among those of a table; null where there is none.
inline const kernels::depthwise_table::square* find_square(std::span<const kernels::depthwise_table::square> squares,
                                                           const depthwise_conv2d_shape& seen) {
    const window2d& w = seen.window;
    if (seen.multiplier != 1 || w.kernel.height != w.kernel.width || w.dilation.height != 1) return nullptr;
    for (const auto& square : squares)
        if (square.kernel == w.kernel.height && square.stride == w.stride.height) return &square;
    return nullptr;
}

/// Whether vectors of several pixels that move by two are worth it: there are kernels, and each holds two or more whole
/// pixels.
inline bool spreads(const depthwise_conv2d_shape& shape, const kernels::depthwise_table& table) {
    const std::int64_t channels = shape.input.channels;
    const std::int64_t lanes = table.any_codes.lanes;
    return shape.window.stride == extent2d{2, 2} && channels % 8 == 0 && 2 * channels <= lanes &&
           lanes % channels == 0 && find_square(table.any_codes.spread, shape) != nullptr;
}

/// The shape as kernels see it.
inline depthwise_conv2d_shape walked(const depthwise_conv2d_shape& shape, const depthwise_packing& packing) {
    return packing.flat ? shape : transposed(shape);
}

/// The packing of a shape, with no weights yet.
inline depthwise_packing plan_packing(const depthwise_conv2d_shape& shape, const kernels::depthwise_table& table) {
    const std::int64_t channels = shape.input.channels;
    const std::int64_t row = channels * output_extent(shape.input, shape.window).width;
    depthwise_packing packing;
    // Neighbouring elements of a row fill vectors that channels of one pixel would leave an eighth empty or more. After
    // `period` vectors their weights are the same again; up to 128, they stay in L2.
    const kernels::depthwise_table::steps& steps = table.any_codes;
    const std::int64_t most = steps.lanes;
    const std::int64_t period = channels / std::gcd(channels, most);
    const bool wasted = (channels + most - 1) / most * most * 8 > channels * 9;
    packing.flat = shape.window.stride.width == 1 && shape.multiplier == 1 && wasted && period <= 128;
    if (spreads(shape, table)) {
        packing.flat = true;
        packing.spread = channels;
    }
    packing.lanes = static_cast<int>(std::min<std::int64_t>(steps.lanes, packing.flat ? row : channels));
    if (packing.flat) {
        const std::int64_t own_period = channels / std::gcd(channels, std::int64_t{steps.lanes});
        const std::int64_t vectors = (row + steps.lanes - 1) / steps.lanes;
        for (std::int64_t v = 0; v < std::min(own_period, vectors); ++v)
            packing.blocks.push_back({v * steps.lanes % channels, 0});
    } else {
        // The last block reaches back over channels of the one before: computing some twice costs less than masks.
        for (std::int64_t m = 0; m < shape.multiplier; ++m)
            for (std::int64_t c = 0; c < channels; c += steps.lanes)
                packing.blocks.push_back({std::max<std::int64_t>(0, std::min(c, channels - steps.lanes)), m});
    }
    packing.lane_count = static_cast<std::int64_t>(packing.blocks.size()) * steps.lanes;
    const depthwise_conv2d_shape seen = walked(shape, packing);
    const auto [kernel_height, kernel_width] = seen.window.kernel;
    const auto* square = packing.spread != 0 ? find_square(steps.spread, seen) : find_square(steps.squares, seen);
    packing.layout = {kernel_height, kernel_width, seen.window.stride.height, steps.taps,
                      square != nullptr && square->column_apart};
    packing.block_weights = packing.layout.dwords() * steps.lanes;
    packing.views.push_back({{0, kernel_width}, 0});
    // Views for whole vectors of one pixel, where the image is as wide as the kernel.
    if (!packing.flat && packing.lanes == steps.lanes)
        for (const axis_segment& column : segments(seen.input, seen.window).columns)
            if (const auto view = view_of(seen, column);
                view.taps.first < view.taps.last && view.taps != packing.views.front().taps)
                packing.views.push_back(view);
    return packing;
}

/// Memory for the weights of a packing, all zero.
inline packed_depthwise_weights allocate_weights(const depthwise_conv2d_shape& shape,
                                                 const depthwise_packing& packing) {
    packed_depthwise_weights packed{packing, {}, {}, {}};
    packed.weights.resize(static_cast<std::size_t>(packing.dwords()));
    packed.row_sums.resize(packing.views.size() * static_cast<std::size_t>(packing.layout.height * packing.lane_count));
    packed.sums.resize(static_cast<std::size_t>(shape.outputs()));
    return packed;
}

/// Packs weights in the layout hwio.
inline void pack_weights(const depthwise_conv2d_shape& shape, const kernels::depthwise_table& table,
                         const std::int8_t* weights, packed_depthwise_weights& to) {
    const kernels::depthwise_table::steps& steps = table.any_codes;
    const std::int64_t channels = shape.input.channels;
    const std::int64_t outputs = shape.outputs();
    const extent2d kernel{to.layout.height, to.layout.width};
    // From a weight to that of the next ky and kx.
    const std::int64_t next_ky = to.flat ? kernel.width * outputs : outputs;
    const std::int64_t next_kx = to.flat ? outputs : kernel.height * outputs;
    const int own = steps.lanes / steps.vectors;
    const kernels::packed_step step{steps.taps, 1, 4 / steps.taps, steps.vectors, own, to.lanes, steps.halves_apart};
    constexpr int most_lanes = 64;
    int lane_of[most_lanes];  // lane i of a vector's registers
    for (int i = 0; i < steps.lanes; ++i) lane_of[i] = steps.channel_of(steps.vectors, i / own, i % own);

    for (std::int64_t o = 0; o < outputs; o += most_lanes) {
        const auto count = std::min<std::int64_t>(most_lanes, outputs - o);
        std::fill_n(to.sums.data() + o, count, weight_sums{});
        constexpr std::int64_t most_rows = 1 << 20;  // int32 holds their sums
        for (std::int64_t tap = 0; tap < kernel.height * kernel.width; tap += most_rows) {
            std::int32_t sums[most_lanes] = {};
            std::int32_t positive[most_lanes] = {};
            table.pack.add_rows(weights + tap * outputs + o, outputs,
                                std::min(most_rows, kernel.height * kernel.width - tap), count, sums, positive);
            for (std::int64_t i = 0; i < count; ++i) {
                to.sums[static_cast<std::size_t>(o + i)].all += sums[i];
                to.sums[static_cast<std::size_t>(o + i)].positive += positive[i];
            }
        }
    }

    std::int32_t* packed = to.weights.data();
    std::int32_t* row_sums = to.row_sums.data();
    const kernels::depthwise_layout& layout = to.layout;
    const std::int64_t row_taps = layout.column_apart ? kernel.width - 1 : kernel.width;  // in dwords of a row
    for (const depthwise_view& view : to.views) {
        for (const depthwise_block& block : to.blocks) {
            // Channels of one pixel lie side by side; others are gathered.
            const bool apart = shape.multiplier != 1 || block.first_channel + to.lanes > channels;
            std::int64_t output[most_lanes];
            for (int lane = 0; apart && lane < to.lanes; ++lane)
                output[lane] = (block.first_channel + lane) % channels * shape.multiplier + block.multiple;
            alignas(64) static constexpr std::int8_t zeros[most_lanes] = {};
            std::int8_t gathered[4][most_lanes];
            // The lanes' weights of a tap, which go to place k of a dword.
            const auto row_of = [&](std::int64_t ky, std::int64_t kx, std::int64_t k) -> const std::int8_t* {
                const std::int64_t tap = kx + view.shift;
                if (tap < view.taps.first || tap >= view.taps.last) return zeros;
                const std::int8_t* const from = weights + ky * next_ky + tap * next_kx;
                if (!apart) return from + block.first_channel;
                for (int lane = 0; lane < to.lanes; ++lane) gathered[k][lane] = from[output[lane]];
                return gathered[k];
            };
            const std::int64_t block_lane = (&block - to.blocks.data()) * steps.lanes;
            for (std::int64_t ky = 0; ky < kernel.height; ++ky) {
                for (std::int64_t kx = 0; kx < row_taps; kx += steps.taps, packed += steps.lanes) {
                    const std::int8_t* row[4] = {zeros, zeros, zeros, zeros};
                    for (int k = 0; k < steps.taps && kx + k < row_taps; ++k) row[k] = row_of(ky, kx + k, k);
                    table.pack.rows(row, step, packed);
                }
                std::int32_t sums[most_lanes] = {};
                std::int32_t positive[most_lanes] = {};
                const std::int8_t* const from = weights + ky * next_ky + view.taps.first * next_kx;
                const std::int64_t count = view.taps.last - view.taps.first;
                if (!apart) table.pack.add_rows(from + block.first_channel, next_kx, count, to.lanes, sums, positive);
                for (std::int64_t tap = 0; apart && tap < count; ++tap)
                    for (int lane = 0; lane < to.lanes; ++lane) sums[lane] += from[tap * next_kx + output[lane]];
                std::int32_t* const lanes = row_sums + ky * to.lane_count + block_lane;
                for (int i = 0; i < steps.lanes; ++i)
                    if (lane_of[i] < to.lanes) lanes[i] = sums[lane_of[i]];
            }
            for (std::int64_t j = 0; j < layout.column(); ++j, packed += steps.lanes) {
                const std::int8_t* row[4] = {zeros, zeros, zeros, zeros};
                for (std::int64_t ky = layout.row(j); ky < layout.row_end(j); ++ky) {
                    const std::int64_t k = layout.place(j) + ky - layout.row(j);
                    row[k] = row_of(ky, kernel.width - 1, k);
                }
                table.pack.rows(row, step, packed);
            }
        }
        row_sums += kernel.height * to.lane_count;
    }
}

}  // namespace detail

/// Packs weights for the kernels of `table`. Throws std::invalid_argument for a shape, size or layout that is not
/// possible.
inline packed_depthwise_weights pack_depthwise_weights(const depthwise_conv2d_shape& shape,
                                                       std::span<const std::int8_t> weights, weight_layout layout,
                                                       const kernels::depthwise_table& table) {
    constexpr const char* function = "pack_depthwise_weights";
    detail::check_depthwise_shape(function, shape);
    detail::check_layout(function, layout);
    detail::check_span(function, "weights", weights, static_cast<std::uint64_t>(shape.weights()));
    packed_depthwise_weights packed = detail::allocate_weights(shape, detail::plan_packing(shape, table));
    std::vector<std::int8_t> memory(layout == weight_layout::hwio ? 0 : weights.size());
    const std::int8_t* const hwio = detail::weights_as_hwio(table.pack, shape.outputs(), 1, shape.window.kernel, layout,
                                                            weights.data(), memory.data());
    detail::pack_weights(shape, table, hwio, packed);
    return packed;
}

}  // namespace po2quant
