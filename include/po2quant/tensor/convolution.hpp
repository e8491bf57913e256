#pragma once
/// What describes a convolution: its shape, where its weights lie, and how its sums become output codes. Plain data.
#include <concepts>
#include <cstdint>
#include <span>

#include <po2quant/numerics/accumulator.hpp>
#include <po2quant/tensor/window.hpp>

namespace po2quant {

/// Where weight (ky, kx, c, o) is, with c inside the group of o.
enum class weight_layout : std::uint8_t {
    hwio,  ///< [KH][KW][Cin/groups][Cout]: TensorFlow
    ohwi,  ///< [Cout][KH][KW][Cin/groups]: TensorFlow Lite
    oihw,  ///< [Cout][Cin/groups][KH][KW]: PyTorch
};

/// Input (NHWC), output channels, window, and how many groups the channels fall into.
struct conv2d_shape {
    nhwc input;
    std::int64_t outputs = 1;
    window2d window = {};
    std::int64_t groups = 1;

    constexpr std::int64_t group_inputs() const { return input.channels / groups; }
    constexpr std::int64_t group_outputs() const { return outputs / groups; }
    constexpr std::int64_t weights() const {
        return window.kernel.height * window.kernel.width * group_inputs() * outputs;
    }
    constexpr nhwc output() const {
        const extent2d e = output_extent(input, window);
        return {input.batch, e.height, e.width, outputs};
    }
    /// Multiply-accumulates, padded taps counted.
    constexpr std::int64_t macs() const {
        return output().elements() * window.kernel.height * window.kernel.width * group_inputs();
    }
    constexpr std::int64_t weight_index(weight_layout layout, std::int64_t ky, std::int64_t kx, std::int64_t c,
                                        std::int64_t o) const {
        const auto [kh, kw] = window.kernel;
        const std::int64_t cin = group_inputs();
        switch (layout) {
        case weight_layout::ohwi: return ((o * kh + ky) * kw + kx) * cin + c;
        case weight_layout::oihw: return ((o * cin + c) * kh + ky) * kw + kx;
        case weight_layout::hwio: break;
        }
        return ((ky * kw + kx) * cin + c) * outputs + o;
    }
};

/// Input (NHWC), outputs per input channel, window. Output channel c * multiplier + m comes from input channel c.
struct depthwise_conv2d_shape {
    nhwc input;
    std::int64_t multiplier = 1;
    window2d window = {};

    constexpr std::int64_t outputs() const { return input.channels * multiplier; }
    constexpr std::int64_t weights() const { return window.kernel.height * window.kernel.width * outputs(); }
    constexpr nhwc output() const {
        const extent2d e = output_extent(input, window);
        return {input.batch, e.height, e.width, outputs()};
    }
    /// Multiply-accumulates, padded taps counted.
    constexpr std::int64_t macs() const { return output().elements() * window.kernel.height * window.kernel.width; }
    /// hwio: [KH][KW][C][multiplier] (TensorFlow; TensorFlow Lite's [1][KH][KW][C·multiplier] is the same);
    /// ohwi and oihw: [C·multiplier][KH][KW] (PyTorch's [C·multiplier][1][KH][KW]).
    constexpr std::int64_t weight_index(weight_layout layout, std::int64_t ky, std::int64_t kx, std::int64_t o) const {
        if (layout == weight_layout::hwio) return (ky * window.kernel.width + kx) * outputs() + o;
        return (o * window.kernel.height + ky) * window.kernel.width + kx;
    }
};

/// Exponents of a layer's tensors, and what happens to its sums:
///
///   acc = Σ x·w on the grid 2^(e_x + e_w);   b = bias aligned to that grid;   s = e_y − e_x − e_w
///   y = clamp( round(acc + b, s), activation )
struct requantization {
    int input_exponent = 0;
    std::span<const int> weight_exponents = {};  ///< 1 for all, or one per output channel
    std::span<const int> bias_exponents = {};    ///< 1 for all, or one per output channel; not read without a bias
    int output_exponent = 0;
    activation clamp = activation::none;
    rounding mode = rounding::half_up;  ///< not stochastic
    /// Codes that the input uses; narrower formats make smaller certificates. inputs are int8 where that holds
    /// all of them, else int16. uint7 are int8 codes that are never negative, as behind a ReLU, and makes faster
    /// kernels. What codes outside the format give is not defined.
    integer_format input_format = int8;
    integer_format output_format = int8;
};

/// Bias codes: int16 or int32, with exponents of their own; nothing where a layer has none.
class bias_codes {
public:
    bias_codes() = default;
    template <class Range>
    requires std::convertible_to<const Range&, std::span<const std::int16_t>> bias_codes(const Range& codes)
        : i16_(codes), given_(true) {}
    template <class Range>
    requires std::convertible_to<const Range&, std::span<const std::int32_t>> bias_codes(const Range& codes)
        : i32_(codes), given_(true) {}

    bool empty() const { return !given_ || size() == 0; }
    std::size_t size() const { return i16_.size() + i32_.size(); }
    bool null() const { return size() != 0 && i16_.data() == nullptr && i32_.data() == nullptr; }
    std::int32_t operator[](std::size_t i) const { return i16_.empty() ? i32_[i] : i16_[i]; }

private:
    std::span<const std::int16_t> i16_;
    std::span<const std::int32_t> i32_;
    bool given_ = false;
};

}  // namespace po2quant
