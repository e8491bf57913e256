#pragma once
/// Float arithmetic of the host that trains: convolutions forward and backward on Eigen. Nothing here is quantized and
/// nothing here belongs to the library: put your own framework in its place.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <po2quant/tensor/convolution.hpp>

#include "process_group.hpp"
#include "thread_pool.hpp"

namespace quickstart {

enum class op { conv2d, depthwise_conv2d, average_pool, fully_connected };

/// One layer for one image (input.batch is 1). Activations are NHWC, weights [KH][KW][Cin][Cout], of depthwise layers
/// [KH][KW][C]. No window is dilated, and an average pool has no padding.
struct layer_shape {
    std::string name;
    op kind = op::conv2d;
    pq::nhwc input;
    std::int64_t outputs = 1;
    pq::window2d window;
    pq::activation clamp = pq::activation::none;

    pq::nhwc output() const {
        const pq::extent2d e = pq::output_extent(input, window);
        return {1, e.height, e.width, outputs};
    }
    std::int64_t taps() const { return window.kernel.height * window.kernel.width; }
    /// Products per output: what a weight's first random value is scaled by.
    std::int64_t fan_in() const { return kind == op::depthwise_conv2d ? taps() : taps() * input.channels; }
    std::int64_t weights() const { return kind == op::average_pool ? 0 : fan_in() * outputs; }
    bool pointwise() const { return taps() == 1 && window.stride == pq::extent2d{}; }
};

/// y = x * w for `images` images, without bias; for an average pool y = mean of x, and w is not read.
void forward(const layer_shape& shape, std::int64_t images, const float* x, const float* w, float* y);

/// dw = gradient of the weights; dx = gradient of the input, unless dx is null (depthwise layers and pools need it).
void backward(const layer_shape& shape, std::int64_t images, const float* x, const float* w, const float* dy, float* dx,
              float* dw);

/// Cuts images into slots by their number alone, never by that of threads, so that sums over slots have the same bits
/// on every machine; calls f(slot, first image, images).
inline constexpr std::int64_t slot_images = 8;

constexpr std::int64_t slot_count(std::int64_t images) { return (images + slot_images - 1) / slot_images; }

template <class F>
void for_each_slot(std::int64_t images, F&& f) {
    threads.parallel_for(slot_count(images), [&](std::int64_t slot) {
        const std::int64_t first = slot * slot_images;
        f(slot, first, first + slot_images < images ? slot_images : images - first);
    });
}

/// Adds up one row per slot over the whole batch; `sum` and `rows` are overwritten.
///
/// The sum is one binary tree over the batch's slots, ((0 + 1) + (2 + 3)) + …; a process that holds 2^k of them
/// computes one of its branches, so that the bits depend on the batch alone and not on the number of processes.
void add_slots(std::span<float> rows, std::int64_t slots, const process_group& group, std::span<float> sum);

}  // namespace quickstart
