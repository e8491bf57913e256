#pragma once
/// The output of a window op cut into rectangles whose pixels see the same taps, so that kernels never test for borders
/// and padded taps cost nothing; and those cut into tasks, by shape only.
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include <po2quant/tensor/check.hpp>
#include <po2quant/tensor/window.hpp>

namespace po2quant::detail {

inline constexpr std::int64_t max_dimension = std::int64_t{1} << 30;

/// The product of positive extents must be a number of elements that some memory could hold.
inline void check_elements(const char* function, const char* argument, std::initializer_list<std::int64_t> extents) {
    std::int64_t elements = 1;
    bool fits = true;
    for (const std::int64_t d : extents)
        fits = fits && !__builtin_mul_overflow(elements, d, &elements) && elements <= std::int64_t{1} << 48;
    if (fits) return;
    std::string product;
    for (const std::int64_t d : extents) product = text(product, product.empty() ? "" : " * ", d);
    fail(function, argument, product, "at most 2^48");
}

inline void check_shape(const char* function, const nhwc& s) {
    check_range(function, "input.batch", s.batch, 1, max_dimension);
    check_range(function, "input.height", s.height, 1, max_dimension);
    check_range(function, "input.width", s.width, 1, max_dimension);
    check_range(function, "input.channels", s.channels, 1, max_dimension);
    check_elements(function, "number of input elements", {s.batch, s.height, s.width, s.channels});
}

/// Kernel, stride, dilation and padding within reason, and at least one output pixel. Padding of a whole kernel or more
/// would make outputs that see no input.
inline void check_window(const char* function, const nhwc& input, const window2d& w) {
    check_shape(function, input);
    constexpr std::int64_t most = 4096;
    check_range(function, "kernel.height", w.kernel.height, 1, most);
    check_range(function, "kernel.width", w.kernel.width, 1, most);
    check_range(function, "stride.height", w.stride.height, 1, most);
    check_range(function, "stride.width", w.stride.width, 1, most);
    check_range(function, "dilation.height", w.dilation.height, 1, most);
    check_range(function, "dilation.width", w.dilation.width, 1, most);
    const std::int64_t height = dilated_kernel(w.kernel.height, w.dilation.height);
    const std::int64_t width = dilated_kernel(w.kernel.width, w.dilation.width);
    check_range(function, "padding.top", w.padding.top, 0, height - 1);
    check_range(function, "padding.bottom", w.padding.bottom, 0, height - 1);
    check_range(function, "padding.left", w.padding.left, 0, width - 1);
    check_range(function, "padding.right", w.padding.right, 0, width - 1);
    const extent2d out = output_extent(input, w);
    if (out.height < 1)
        fail(function, "kernel height with its dilation", std::to_string(height),
             text("at most the padded input's height, ", input.height + w.padding.top + w.padding.bottom));
    if (out.width < 1)
        fail(function, "kernel width with its dilation", std::to_string(width),
             text("at most the padded input's width, ", input.width + w.padding.left + w.padding.right));
}

/// check_window, and an output of `channels` channels that some memory could hold.
inline void check_window(const char* function, const nhwc& input, const window2d& w, std::int64_t channels) {
    check_window(function, input, w);
    const extent2d out = output_extent(input, w);
    check_elements(function, "number of output elements", {input.batch, out.height, out.width, channels});
}

/// Neighbouring outputs [begin, end) of one axis with the same valid taps; `input` is the position their first one
/// reads by its first valid tap.
struct axis_segment {
    std::int64_t begin;
    std::int64_t end;
    tap_range taps;
    std::int64_t input;
};

inline std::vector<axis_segment> segments(std::int64_t outputs, std::int64_t input, std::int64_t kernel,
                                          std::int64_t stride, std::int64_t dilation, std::int64_t padding) {
    std::vector<axis_segment> all;
    for (std::int64_t o = 0; o < outputs; ++o) {
        const tap_range taps = valid_taps(o, input, kernel, stride, dilation, padding);
        if (!all.empty() && all.back().taps == taps) {
            all.back().end = o + 1;
            continue;
        }
        // Without a valid tap nothing is read; 0 keeps the address inside.
        const std::int64_t first = taps.first < taps.last ? o * stride - padding + taps.first * dilation : 0;
        all.push_back({o, o + 1, taps, first});
    }
    return all;
}

struct window_segments {
    std::vector<axis_segment> rows;
    std::vector<axis_segment> columns;
};

inline window_segments segments(const nhwc& input, const window2d& w) {
    const extent2d out = output_extent(input, w);
    return {segments(out.height, input.height, w.kernel.height, w.stride.height, w.dilation.height, w.padding.top),
            segments(out.width, input.width, w.kernel.width, w.stride.width, w.dilation.width, w.padding.left)};
}

/// How an op's output pixels are cut into tasks: strips of `rows` whole rows, or, where one row is long, of `columns`
/// pixels of one row.
struct task_grid {
    std::int64_t rows;
    std::int64_t columns;
    std::int64_t row_strips;
    std::int64_t column_strips;
    std::int64_t strips() const { return row_strips * column_strips; }
};

/// Strips of about `pixels` output pixels, and of `least_rows` rows where the image has them; of rows as equal in
/// number as can be. A long row is cut at multiples of 48, a multiple of every tile's pixels.
inline task_grid cut(const extent2d& output, std::int64_t pixels, std::int64_t least_rows = 1) {
    task_grid g{};
    const std::int64_t rows = std::clamp<std::int64_t>(pixels / output.width, 1, output.height);
    const std::int64_t strips =
        std::clamp<std::int64_t>(output.height / least_rows, 1, (output.height + rows - 1) / rows);
    g.rows = (output.height + strips - 1) / strips;
    g.columns = output.width;
    if (g.rows == 1 && output.width >= 2 * pixels) g.columns = std::max<std::int64_t>(1, pixels / 48) * 48;
    g.row_strips = (output.height + g.rows - 1) / g.rows;
    g.column_strips = (output.width + g.columns - 1) / g.columns;
    return g;
}

/// The length of each part, where `length` is cut into as few parts of at most `most` as can be, and as equal ones.
inline std::int64_t part_length(std::int64_t length, std::int64_t most) {
    const std::int64_t parts = (length + most - 1) / most;
    return (length + parts - 1) / parts;
}

/// The part of [begin, end) inside [low, high).
struct interval {
    std::int64_t begin;
    std::int64_t end;
    std::int64_t size() const { return end - begin; }
};
inline interval intersect(std::int64_t begin, std::int64_t end, std::int64_t low, std::int64_t high) {
    return {std::max(begin, low), std::min(end, high)};
}

/// The input elements of one image, first to last, that the outputs [y, y + rows) × [x, x + columns) see.
inline interval seen_inputs(const nhwc& input, const window2d& w, interval rows, interval columns) {
    const interval y =
        intersect(rows.begin * w.stride.height - w.padding.top,
                  (rows.end - 1) * w.stride.height - w.padding.top + dilated_kernel(w.kernel.height, w.dilation.height),
                  0, input.height);
    const interval x = intersect(
        columns.begin * w.stride.width - w.padding.left,
        (columns.end - 1) * w.stride.width - w.padding.left + dilated_kernel(w.kernel.width, w.dilation.width), 0,
        input.width);
    if (y.size() <= 0 || x.size() <= 0) return {0, 0};
    return {(y.begin * input.width + x.begin) * input.channels, ((y.end - 1) * input.width + x.end) * input.channels};
}

/// Those that strip `strip` sees, …
inline interval strip_inputs(const nhwc& input, const window2d& w, const extent2d& output, const task_grid& grid,
                             std::int64_t strip) {
    const std::int64_t y = strip / grid.column_strips * grid.rows;
    const std::int64_t x = strip % grid.column_strips * grid.columns;
    return seen_inputs(input, w, {y, std::min(output.height, y + grid.rows)},
                       {x, std::min(output.width, x + grid.columns)});
}

/// … and how many a strip sees at most, less what padding saves.
inline std::int64_t most_strip_inputs(const nhwc& input, const window2d& w, const task_grid& grid) {
    const std::int64_t rows = (grid.rows - 1) * w.stride.height + dilated_kernel(w.kernel.height, w.dilation.height);
    const std::int64_t columns = (grid.columns - 1) * w.stride.width + dilated_kernel(w.kernel.width, w.dilation.width);
    return ((std::min(rows, input.height) - 1) * input.width + std::min(columns, input.width)) * input.channels;
}

/// Calls f(row segment, column segment, rows, columns) for the part of every rectangle inside strip `strip`, the inner
/// one first: its many pixels share each load of weights that are not in a near cache yet.
template <class F>
void for_each_rectangle(const window_segments& s, const task_grid& grid, const extent2d& output, std::int64_t strip,
                        F&& f) {
    const std::int64_t y = strip / grid.column_strips * grid.rows;
    const std::int64_t x = strip % grid.column_strips * grid.columns;
    const std::int64_t y_end = std::min(output.height, y + grid.rows);
    const std::int64_t x_end = std::min(output.width, x + grid.columns);
    const auto from_middle = [](const std::vector<axis_segment>& all, std::size_t i) -> const axis_segment& {
        return all[(all.size() / 2 + i) % all.size()];
    };
    for (std::size_t i = 0; i < s.rows.size(); ++i) {
        const axis_segment& row = from_middle(s.rows, i);
        const interval rows = intersect(row.begin, row.end, y, y_end);
        if (rows.size() <= 0) continue;
        for (std::size_t j = 0; j < s.columns.size(); ++j) {
            const axis_segment& column = from_middle(s.columns, j);
            const interval columns = intersect(column.begin, column.end, x, x_end);
            if (columns.size() > 0) f(row, column, rows, columns);
        }
    }
}

}  // namespace po2quant::detail
