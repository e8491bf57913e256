#pragma once
/// Shapes and windows: how convolutions and pools map input pixels to output pixels. Plain data and arithmetic.
#include <cstdint>

#include <po2quant/config.hpp>

namespace po2quant {

/// A batch of images, NHWC: element (n, y, x, c) is at ((n * height + y) * width + x) * channels + c.
struct nhwc {
    std::int64_t batch = 1;
    std::int64_t height = 1;
    std::int64_t width = 1;
    std::int64_t channels = 1;

    constexpr std::int64_t elements() const { return batch * height * width * channels; }
    friend constexpr bool operator==(const nhwc&, const nhwc&) = default;
};

/// Two numbers along the axes of an image.
struct extent2d {
    std::int64_t height = 1;
    std::int64_t width = 1;
    friend constexpr bool operator==(const extent2d&, const extent2d&) = default;
};

/// Rows and columns of zeros around an input.
struct padding2d {
    std::int64_t top = 0;
    std::int64_t bottom = 0;
    std::int64_t left = 0;
    std::int64_t right = 0;
    friend constexpr bool operator==(const padding2d&, const padding2d&) = default;
};

/// Which input pixels an output pixel sees: input y = y_out * stride − padding.top + ky * dilation, likewise x.
struct window2d {
    extent2d kernel = {1, 1};
    extent2d stride = {1, 1};
    extent2d dilation = {1, 1};
    padding2d padding = {};
};

/// Rows (or columns) that a kernel covers, gaps of the dilation included.
constexpr std::int64_t dilated_kernel(std::int64_t kernel, std::int64_t dilation) {
    return (kernel - 1) * dilation + 1;
}

/// The same window over an image with rows and columns exchanged.
constexpr window2d transposed(const window2d& w) {
    const auto exchanged = [](const extent2d& e) { return extent2d{e.width, e.height}; };
    return {exchanged(w.kernel),
            exchanged(w.stride),
            exchanged(w.dilation),
            {w.padding.left, w.padding.right, w.padding.top, w.padding.bottom}};
}

/// Outputs along one axis; 0 or less where the kernel does not fit.
constexpr std::int64_t output_length(std::int64_t input, std::int64_t kernel, std::int64_t stride,
                                     std::int64_t dilation, std::int64_t padding_before, std::int64_t padding_after) {
    const std::int64_t room = input + padding_before + padding_after - dilated_kernel(kernel, dilation);
    return room < 0 ? 0 : room / stride + 1;
}

/// Height and width of the output of a window over an input.
constexpr extent2d output_extent(const nhwc& input, const window2d& w) {
    return {
        output_length(input.height, w.kernel.height, w.stride.height, w.dilation.height, w.padding.top,
                      w.padding.bottom),
        output_length(input.width, w.kernel.width, w.stride.width, w.dilation.width, w.padding.left, w.padding.right)};
}

/// TensorFlow's SAME: ceil(input / stride) outputs, the odd zero behind. A stride of 2 on an even size with a 3×3
/// kernel gives {0, 1, 0, 1}, not {1, 1, 1, 1}.
constexpr padding2d same_padding(const nhwc& input, const window2d& w) {
    const auto total = [](std::int64_t size, std::int64_t kernel, std::int64_t stride, std::int64_t dilation) {
        const std::int64_t outputs = (size + stride - 1) / stride;
        const std::int64_t needed = (outputs - 1) * stride + dilated_kernel(kernel, dilation) - size;
        return needed > 0 ? needed : 0;
    };
    const std::int64_t vertical = total(input.height, w.kernel.height, w.stride.height, w.dilation.height);
    const std::int64_t horizontal = total(input.width, w.kernel.width, w.stride.width, w.dilation.width);
    return {vertical / 2, vertical - vertical / 2, horizontal / 2, horizontal - horizontal / 2};
}

/// The taps [first, last) of one axis whose input lies inside [0, input), for output position `output`.
struct tap_range {
    std::int64_t first;
    std::int64_t last;
    friend constexpr bool operator==(const tap_range&, const tap_range&) = default;
};

constexpr tap_range valid_taps(std::int64_t output, std::int64_t input, std::int64_t kernel, std::int64_t stride,
                               std::int64_t dilation, std::int64_t padding_before) {
    const std::int64_t origin = output * stride - padding_before;  // input position of tap 0
    std::int64_t first = origin >= 0 ? 0 : (-origin + dilation - 1) / dilation;
    if (first > kernel) first = kernel;
    std::int64_t last = origin >= input ? first : (input - 1 - origin) / dilation + 1;
    if (last > kernel) last = kernel;
    return {first, last < first ? first : last};
}

}  // namespace po2quant
