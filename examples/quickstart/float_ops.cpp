#include "float_ops.hpp"

#define EIGEN_DONT_PARALLELIZE  // the slots are the threads' work
#include <Eigen/Core>
#include <algorithm>
#include <stdexcept>

namespace quickstart {
namespace {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using matrix_map = Eigen::Map<matrix>;
using const_matrix_map = Eigen::Map<const matrix>;

/// Depthwise loops work on 16 channels at a time, one AVX-512 register or two of AVX2.
using channels16 = Eigen::Array<float, 16, 1>;
constexpr std::int64_t block = 16;

/// The taps of one output pixel that lie inside the image: rows of a kernel times columns.
struct window_taps {
    const layer_shape& s;
    pq::tap_range rows;
    pq::tap_range columns;
    std::int64_t y;  ///< input position of tap (0, 0), which may lie outside
    std::int64_t x;

    bool complete() const {
        return rows.last - rows.first == s.window.kernel.height &&
               columns.last - columns.first == s.window.kernel.width;
    }
    std::int64_t tap(std::int64_t ky, std::int64_t kx) const { return ky * s.window.kernel.width + kx; }
    std::int64_t input(std::int64_t ky, std::int64_t kx) const { return (y + ky) * s.input.width + x + kx; }
    /// f(tap, input pixel)
    template <class F>
    void for_each(F&& f) const {
        for (std::int64_t ky = rows.first; ky < rows.last; ++ky)
            for (std::int64_t kx = columns.first; kx < columns.last; ++kx) f(tap(ky, kx), input(ky, kx));
    }
};

/// Calls f(output pixel, taps) for the pixels of one image; without dilation.
template <class F>
void for_each_window(const layer_shape& s, F&& f) {
    const pq::nhwc out = s.output();
    const pq::window2d& w = s.window;
    for (std::int64_t y = 0; y < out.height; ++y) {
        const pq::tap_range rows =
            pq::valid_taps(y, s.input.height, w.kernel.height, w.stride.height, 1, w.padding.top);
        for (std::int64_t x = 0; x < out.width; ++x) {
            const pq::tap_range columns =
                pq::valid_taps(x, s.input.width, w.kernel.width, w.stride.width, 1, w.padding.left);
            f(y * out.width + x,
              window_taps{s, rows, columns, y * w.stride.height - w.padding.top, x * w.stride.width - w.padding.left});
        }
    }
}

/// One row per output pixel with all its inputs side by side, so that a convolution is one matrix product.
void image_to_columns(const layer_shape& s, std::int64_t images, const float* x, std::vector<float>& columns) {
    const pq::nhwc out = s.output();
    const std::int64_t depth = s.fan_in();
    const std::int64_t rows = out.height * out.width;
    columns.resize(static_cast<std::size_t>(images * rows * depth));
    for (std::int64_t n = 0; n < images; ++n) {
        float* to = columns.data() + n * rows * depth;
        const float* from = x + n * s.input.elements();
        for_each_window(s, [&](std::int64_t pixel, const window_taps& taps) {
            // The taps of one kernel row lie side by side in the image as in the row of columns.
            const std::int64_t count = (taps.columns.last - taps.columns.first) * s.input.channels;
            if (!taps.complete()) std::fill_n(to + pixel * depth, depth, 0.0F);
            for (std::int64_t ky = taps.rows.first; ky < taps.rows.last; ++ky) {
                const float* in = from + taps.input(ky, taps.columns.first) * s.input.channels;
                std::copy_n(in, count, to + pixel * depth + taps.tap(ky, taps.columns.first) * s.input.channels);
            }
        });
    }
}

/// The transpose of image_to_columns: sums what every output pixel sends to an input.
void columns_to_image(const layer_shape& s, std::int64_t images, const std::vector<float>& columns, float* dx) {
    const pq::nhwc out = s.output();
    const std::int64_t depth = s.fan_in();
    const std::int64_t rows = out.height * out.width;
    std::fill_n(dx, images * s.input.elements(), 0.0F);
    for (std::int64_t n = 0; n < images; ++n) {
        const float* from = columns.data() + n * rows * depth;
        float* to = dx + n * s.input.elements();
        for_each_window(s, [&](std::int64_t pixel, const window_taps& taps) {
            const std::int64_t count = (taps.columns.last - taps.columns.first) * s.input.channels;
            for (std::int64_t ky = taps.rows.first; ky < taps.rows.last; ++ky) {
                const float* part = from + pixel * depth + taps.tap(ky, taps.columns.first) * s.input.channels;
                float* sum = to + taps.input(ky, taps.columns.first) * s.input.channels;
                for (std::int64_t c = 0; c < count; ++c) sum[c] += part[c];
            }
        });
    }
}

std::vector<float>& scratch(int which) {
    thread_local std::vector<float> memory[2];
    return memory[which];
}

void depthwise_forward(const layer_shape& s, std::int64_t images, const float* x, const float* w, float* y) {
    const pq::nhwc out = s.output();
    for (std::int64_t n = 0; n < images; ++n) {
        const float* in = x + n * s.input.elements();
        for_each_window(s, [&](std::int64_t pixel, const window_taps& taps) {
            for (std::int64_t c = 0; c < s.outputs; c += block) {
                channels16 sum = channels16::Zero();
                taps.for_each([&](std::int64_t tap, std::int64_t from) {
                    sum += channels16::Map(in + from * s.outputs + c) * channels16::Map(w + tap * s.outputs + c);
                });
                channels16::Map(y + pixel * s.outputs + c) = sum;
            }
        });
        y += out.elements();
    }
}

void depthwise_backward(const layer_shape& s, std::int64_t images, const float* x, const float* w, const float* dy,
                        float* dx, float* dw) {
    const pq::nhwc out = s.output();
    std::fill_n(dx, images * s.input.elements(), 0.0F);
    std::fill_n(dw, s.weights(), 0.0F);
    for (std::int64_t n = 0; n < images; ++n) {
        const float* in = x + n * s.input.elements();
        const float* gradient = dy + n * out.elements();
        float* to = dx + n * s.input.elements();
        for_each_window(s, [&](std::int64_t pixel, const window_taps& taps) {
            for (std::int64_t c = 0; c < s.outputs; c += block) {
                const channels16 g = channels16::Map(gradient + pixel * s.outputs + c);
                taps.for_each([&](std::int64_t tap, std::int64_t from) {
                    channels16::Map(to + from * s.outputs + c) += g * channels16::Map(w + tap * s.outputs + c);
                    channels16::Map(dw + tap * s.outputs + c) += g * channels16::Map(in + from * s.outputs + c);
                });
            }
        });
    }
}

void convolution_forward(const layer_shape& s, std::int64_t images, const float* x, const float* w, float* y) {
    const pq::nhwc out = s.output();
    const std::int64_t rows = images * out.height * out.width;
    if (!s.pointwise()) {
        image_to_columns(s, images, x, scratch(0));
        x = scratch(0).data();
    }
    matrix_map(y, rows, s.outputs).noalias() =
        const_matrix_map(x, rows, s.fan_in()) * const_matrix_map(w, s.fan_in(), s.outputs);
}

void convolution_backward(const layer_shape& s, std::int64_t images, const float* x, const float* w, const float* dy,
                          float* dx, float* dw) {
    const pq::nhwc out = s.output();
    const std::int64_t rows = images * out.height * out.width;
    if (!s.pointwise()) {
        image_to_columns(s, images, x, scratch(0));
        x = scratch(0).data();
    }
    const const_matrix_map gradient(dy, rows, s.outputs);
    const const_matrix_map weights(w, s.fan_in(), s.outputs);
    matrix_map(dw, s.fan_in(), s.outputs).noalias() = const_matrix_map(x, rows, s.fan_in()).transpose() * gradient;
    if (dx == nullptr) return;
    if (s.pointwise()) {
        matrix_map(dx, rows, s.fan_in()).noalias() = gradient * weights.transpose();
        return;
    }
    scratch(1).resize(static_cast<std::size_t>(rows * s.fan_in()));
    matrix_map(scratch(1).data(), rows, s.fan_in()).noalias() = gradient * weights.transpose();
    columns_to_image(s, images, scratch(1), dx);
}

void pool_forward(const layer_shape& s, std::int64_t images, const float* x, float* y) {
    const auto area = static_cast<float>(s.taps());
    for (std::int64_t n = 0; n < images; ++n) {
        const float* in = x + n * s.input.elements();
        for_each_window(s, [&](std::int64_t pixel, const window_taps& taps) {
            for (std::int64_t c = 0; c < s.outputs; c += block) {
                channels16 sum = channels16::Zero();
                taps.for_each(
                    [&](std::int64_t, std::int64_t from) { sum += channels16::Map(in + from * s.outputs + c); });
                channels16::Map(y + pixel * s.outputs + c) = sum / area;
            }
        });
        y += s.output().elements();
    }
}

void pool_backward(const layer_shape& s, std::int64_t images, const float* dy, float* dx) {
    const auto area = static_cast<float>(s.taps());
    std::fill_n(dx, images * s.input.elements(), 0.0F);
    for (std::int64_t n = 0; n < images; ++n) {
        float* to = dx + n * s.input.elements();
        for_each_window(s, [&](std::int64_t pixel, const window_taps& taps) {
            for (std::int64_t c = 0; c < s.outputs; c += block) {
                const channels16 share = channels16::Map(dy + pixel * s.outputs + c) / area;
                taps.for_each(
                    [&](std::int64_t, std::int64_t from) { channels16::Map(to + from * s.outputs + c) += share; });
            }
        });
        dy += s.output().elements();
    }
}

}  // namespace

void forward(const layer_shape& s, std::int64_t images, const float* x, const float* w, float* y) {
    const bool by_blocks = s.kind == op::depthwise_conv2d || s.kind == op::average_pool;
    if (by_blocks && s.outputs % block != 0) throw std::invalid_argument(s.name + " needs a multiple of 16 channels");
    switch (s.kind) {
    case op::depthwise_conv2d: return depthwise_forward(s, images, x, w, y);
    case op::average_pool: return pool_forward(s, images, x, y);
    case op::conv2d:
    case op::fully_connected: return convolution_forward(s, images, x, w, y);
    }
}

void backward(const layer_shape& s, std::int64_t images, const float* x, const float* w, const float* dy, float* dx,
              float* dw) {
    switch (s.kind) {
    case op::depthwise_conv2d: return depthwise_backward(s, images, x, w, dy, dx, dw);
    case op::average_pool: return pool_backward(s, images, dy, dx);
    case op::conv2d:
    case op::fully_connected: return convolution_backward(s, images, x, w, dy, dx, dw);
    }
}

void add_slots(std::span<float> rows, std::int64_t slots, const process_group& group, std::span<float> sum) {
    const auto row = [&](std::int64_t slot) { return rows.data() + static_cast<std::size_t>(slot) * sum.size(); };
    for (std::int64_t width = 1; width < slots; width *= 2) {
        for (std::int64_t slot = 0; slot + width < slots; slot += 2 * width) {
            float* to = row(slot);
            const float* from = row(slot + width);
            for (std::size_t i = 0; i < sum.size(); ++i) to[i] += from[i];
        }
    }
    std::copy_n(rows.begin(), sum.size(), sum.begin());
    group.all_reduce(sum);
}

}  // namespace quickstart
