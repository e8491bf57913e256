#pragma once
/// What average_pool and max_pool share: walking over the rectangles of the output.
#include <vector>

#include <po2quant/inference/regions.hpp>
#include <po2quant/kernels/average_pool.hpp>
#include <po2quant/tensor/pool.hpp>

namespace po2quant::detail {

/// Valid taps of one rectangle that fit the stack of a task; larger windows are walked in parts of the kernel's rows.
inline constexpr std::int64_t most_pool_taps = 1024;

inline void check_pool(const char* function, const pool_shape& shape) {
    check_window(function, shape.input, shape.window, shape.input.channels);
    check_range(function, "kernel.height * kernel.width", shape.window.kernel.height * shape.window.kernel.width, 1,
                most_pool_taps);
}

/// Calls kernel(rectangle) for the pixels of output row y of image n. Rows are found anew each time: a pool is called
/// without a plan, and allocates nothing.
template <class Output, class Kernel>
void pool_row(const pool_shape& shape, const std::int8_t* input, Output* output, std::int64_t n, std::int64_t y,
              Kernel kernel) {
    const nhwc& in = shape.input;
    const window2d& w = shape.window;
    const nhwc out = shape.output();
    const tap_range ky = valid_taps(y, in.height, w.kernel.height, w.stride.height, w.dilation.height, w.padding.top);
    std::int64_t taps[most_pool_taps];
    for (std::int64_t x = 0; x < out.width;) {
        const auto taps_at = [&](std::int64_t column) {
            return valid_taps(column, in.width, w.kernel.width, w.stride.width, w.dilation.width, w.padding.left);
        };
        const tap_range kx = taps_at(x);
        std::int64_t end = x + 1;
        while (end < out.width && taps_at(end) == kx) ++end;
        std::int64_t count = 0;
        for (std::int64_t i = ky.first; i < ky.last; ++i)
            for (std::int64_t k = kx.first; k < kx.last; ++k)
                taps[count++] =
                    ((i - ky.first) * w.dilation.height * in.width + (k - kx.first) * w.dilation.width) * in.channels;
        // Without a valid tap nothing is read; 0 keeps the address inside.
        const std::int64_t iy = count == 0 ? 0 : y * w.stride.height - w.padding.top + ky.first * w.dilation.height;
        const std::int64_t ix = count == 0 ? 0 : x * w.stride.width - w.padding.left + kx.first * w.dilation.width;
        kernels::pool_rectangle r{};
        r.input = input + ((n * in.height + iy) * in.width + ix) * in.channels;
        r.input_column = w.stride.width * in.channels;
        r.output = output + ((n * out.height + y) * out.width + x) * out.channels;
        r.output_column = out.channels;
        r.rows = 1;
        r.columns = end - x;
        r.taps = taps;
        r.tap_count = count;
        r.channels = in.channels;
        kernel(r);
        x = end;
    }
}

}  // namespace po2quant::detail
