#pragma once
/// Straight-through gradient of fake quantization: dx = dy where low·2^e <= x <= high·2^e, else +0.
///
/// Every deterministic choice of ste is one such interval (pass_interval of numerics/quantizer.hpp), ±∞ included for
/// the plain one; NaN is inside none. clip_code with stochastic rounding asks the codes themselves.
///
///   x, dy, dx   float [n], any alignment; dx may be dy or x, else it shares nothing with them
/// Guarantees: reads and writes exactly n elements; no allocation, no exceptions.
#include <po2quant/kernels/channel_pattern.hpp>
#include <po2quant/kernels/fake_quantize.hpp>

namespace po2quant::kernels {

/// dx = low <= x <= high ? dy : +0; low and high in the units of x.
template <class Arch>
void pass_gradient(const float* x, const float* dy, float* dx, std::size_t n, float_interval pass) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    constexpr std::size_t unroll = 4;
    const batch low(pass.low);
    const batch high(pass.high);
    const batch zero(0.0F);
    const auto apply = [&](const batch& v, const batch& gradient)
                           PO2Q_INLINE_LAMBDA { return xsimd::select((low <= v) & (v <= high), gradient, zero); };
    const auto vector_at = [&](std::size_t i) PO2Q_INLINE_LAMBDA {
        return apply(batch::load_unaligned(x + i), batch::load_unaligned(dy + i));
    };
    std::size_t i = 0;
    for (; i + unroll * lanes <= n; i += unroll * lanes) {
        const batch y0 = vector_at(i);
        const batch y1 = vector_at(i + lanes);
        const batch y2 = vector_at(i + 2 * lanes);
        const batch y3 = vector_at(i + 3 * lanes);
        y0.store_unaligned(dx + i);
        y1.store_unaligned(dx + i + lanes);
        y2.store_unaligned(dx + i + 2 * lanes);
        y3.store_unaligned(dx + i + 3 * lanes);
    }
    for (; i + lanes <= n; i += lanes) vector_at(i).store_unaligned(dx + i);
    if (i < n)
        simd::store_first<Arch>(
            dx + i, apply(simd::load_first<Arch>(x + i, n - i), simd::load_first<Arch>(dy + i, n - i)), n - i);
}

/// Channel innermost; the interval is in units of codes.
template <class Arch>
void pass_gradient_channels(const float* x, const float* dy, float* dx, std::size_t n, const int* exponents,
                            std::size_t channels, std::size_t first_channel, float_interval pass) {
    using batch = simd::f32<Arch>;
    const batch low(pass.low);
    const batch high(pass.high);
    const auto body = [&](std::size_t i, const simd::i32<Arch>& e, std::size_t count) PO2Q_INLINE_LAMBDA {
        const batch scale = exp2_lanes<Arch>(e);
        const bool whole = count == batch::size;
        const batch v = whole ? batch::load_unaligned(x + i) : simd::load_first<Arch>(x + i, count);
        const batch gradient = whole ? batch::load_unaligned(dy + i) : simd::load_first<Arch>(dy + i, count);
        const batch y = xsimd::select((low * scale <= v) & (v <= high * scale), gradient, batch(0.0F));
        if (whole) y.store_unaligned(dx + i);
        else simd::store_first<Arch>(dx + i, y, count);
    };
    for_each_channel_vector<Arch>(n, exponents, channels, first_channel, body);
}

/// clip_code under stochastic rounding: the gradient passes where the code rounded with the forward pass's bits is
/// inside [qmin, qmax]. Written for one run of elements with one exponent.
template <class Arch>
void pass_gradient_stochastic(const float* x, const float* dy, float* dx, std::size_t n, int exponent, const grid& g) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    const batch inverse_scale(exp2_float(-exponent));
    const batch qmin(g.qmin);
    const batch qmax(g.qmax);
    for (std::size_t i = 0; i < n; i += lanes) {
        const std::size_t count = n - i < lanes ? n - i : lanes;
        const bool whole = count == lanes;
        const batch v = whole ? batch::load_unaligned(x + i) : simd::load_first<Arch>(x + i, count);
        const batch gradient = whole ? batch::load_unaligned(dy + i) : simd::load_first<Arch>(dy + i, count);
        // One code more on either side tells what is beyond from what is at the end.
        const batch code = simd::code_of<Arch, rounding::stochastic>(v, inverse_scale, qmin - batch(1.0F),
                                                                     qmax + batch(1.0F), g.seed, g.first_index + i);
        const batch y = xsimd::select((qmin <= code) & (code <= qmax), gradient, batch(0.0F));
        if (whole) y.store_unaligned(dx + i);
        else simd::store_first<Arch>(dx + i, y, count);
    }
}

}  // namespace po2quant::kernels
