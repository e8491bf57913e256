#include "plain.hpp"

#include <algorithm>
#include <cmath>

#include <po2quant/numerics/rounding.hpp>

#include "shapes.hpp"

namespace po2quant::bench::plain {

// Rounded to nearest even, with std::max and std::min: g++ vectorizes neither floor nor a clamp by comparisons.
void fake_quantize(const float* in, float* out, std::size_t n) {
    const float scale = std::ldexp(1.0F, exponent);
    const float inverse = std::ldexp(1.0F, -exponent);
    for (std::size_t i = 0; i < n; ++i) {
        const float v = std::min(std::max(std::nearbyint(in[i] * inverse), -128.0F), 127.0F);
        out[i] = v * scale;
    }
}

// Of values below 2^31 steps; g++ does not vectorize it where they are clamped first.
void fake_quantize_stochastic(const float* in, float* out, std::size_t n) {
    const float scale = std::ldexp(1.0F, exponent);
    const float inverse = std::ldexp(1.0F, -exponent);
    const std::uint32_t key = random_key(0, 0);
    const auto count = static_cast<std::uint32_t>(n);
    for (std::uint32_t i = 0; i < count; ++i) {
        const float v = in[i] * inverse;
        int code = static_cast<int>(v);
        code -= static_cast<int>(static_cast<float>(code) > v);
        const std::uint32_t bits = mix_bits(mix_bits(i ^ key) + key);
        const float uniform = static_cast<float>(static_cast<int>(bits >> 8)) * 0x1p-24F;
        code += static_cast<int>(v - static_cast<float>(code) > uniform);
        out[i] = static_cast<float>(std::min(std::max(code, -128), 127)) * scale;
    }
}

void fake_quantize_backward(const float* x, const float* dy, float* dx, std::size_t n) {
    const float low = std::ldexp(-128.5F, exponent);
    const float high = std::ldexp(127.5F, exponent);
    for (std::size_t i = 0; i < n; ++i) dx[i] = x[i] >= low && x[i] < high ? dy[i] : 0.0F;
}

float minmax(const float* in, std::size_t n) {
    float low = in[0];
    float high = in[0];
    for (std::size_t i = 1; i < n; ++i) {
        low = in[i] < low ? in[i] : low;
        high = in[i] > high ? in[i] : high;
    }
    return low + high;
}

void quantize(const float* in, std::int8_t* out, std::size_t n) {
    const float inverse = std::ldexp(1.0F, -exponent);
    for (std::size_t i = 0; i < n; ++i) {
        const float v = std::min(std::max(std::nearbyint(in[i] * inverse), -128.0F), 127.0F);
        out[i] = static_cast<std::int8_t>(v);
    }
}

void dequantize(const std::int8_t* in, float* out, std::size_t n) {
    const float scale = std::ldexp(1.0F, exponent);
    for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(in[i]) * scale;
}

void add(const std::int8_t* a, const std::int8_t* b, std::int8_t* out, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
        const int v = (2 * a[i] + b[i] + 1) >> 1;
        out[i] = static_cast<std::int8_t>(v < 0 ? 0 : (v > 127 ? 127 : v));
    }
}

namespace {

std::int8_t requantize(std::int32_t sum, int shift) {
    const std::int32_t v = (sum + (1 << (shift - 1))) >> shift;
    return static_cast<std::int8_t>(v < 0 ? 0 : (v > 96 ? 96 : v));
}

}  // namespace

void conv2d(const conv2d_shape& s, const std::int8_t* in, const std::int8_t* weights, const std::int32_t* bias,
            int shift, std::int8_t* out, std::int32_t* sums) {
    const nhwc o = s.output();
    const window2d& w = s.window;
    const std::int64_t cin = s.input.channels;
    for (std::int64_t y = 0; y < o.height; ++y)
        for (std::int64_t x = 0; x < o.width; ++x) {
            for (std::int64_t k = 0; k < o.channels; ++k) sums[k] = bias[k];
            for (std::int64_t ky = 0; ky < w.kernel.height; ++ky)
                for (std::int64_t kx = 0; kx < w.kernel.width; ++kx) {
                    const std::int64_t iy = y * w.stride.height - w.padding.top + ky;
                    const std::int64_t ix = x * w.stride.width - w.padding.left + kx;
                    if (iy < 0 || iy >= s.input.height || ix < 0 || ix >= s.input.width) continue;
                    const std::int8_t* pixel = in + (iy * s.input.width + ix) * cin;
                    const std::int8_t* tap = weights + (ky * w.kernel.width + kx) * cin * o.channels;
                    for (std::int64_t c = 0; c < cin; ++c)
                        for (std::int64_t k = 0; k < o.channels; ++k) sums[k] += pixel[c] * tap[c * o.channels + k];
                }
            for (std::int64_t k = 0; k < o.channels; ++k)
                out[(y * o.width + x) * o.channels + k] = requantize(sums[k], shift);
        }
}

void depthwise_conv2d(const depthwise_conv2d_shape& s, const std::int8_t* in, const std::int8_t* weights,
                      const std::int32_t* bias, int shift, std::int8_t* out, std::int32_t* sums) {
    const nhwc o = s.output();
    const window2d& w = s.window;
    for (std::int64_t y = 0; y < o.height; ++y)
        for (std::int64_t x = 0; x < o.width; ++x) {
            for (std::int64_t c = 0; c < o.channels; ++c) sums[c] = bias[c];
            for (std::int64_t ky = 0; ky < w.kernel.height; ++ky)
                for (std::int64_t kx = 0; kx < w.kernel.width; ++kx) {
                    const std::int64_t iy = y * w.stride.height - w.padding.top + ky;
                    const std::int64_t ix = x * w.stride.width - w.padding.left + kx;
                    if (iy < 0 || iy >= s.input.height || ix < 0 || ix >= s.input.width) continue;
                    const std::int8_t* pixel = in + (iy * s.input.width + ix) * o.channels;
                    const std::int8_t* tap = weights + (ky * w.kernel.width + kx) * o.channels;
                    for (std::int64_t c = 0; c < o.channels; ++c) sums[c] += pixel[c] * tap[c];
                }
            for (std::int64_t c = 0; c < o.channels; ++c)
                out[(y * o.width + x) * o.channels + c] = requantize(sums[c], shift);
        }
}

}  // namespace po2quant::bench::plain
