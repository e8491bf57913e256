#pragma once
/// Floats to integer codes, q = clamp(round(x * 2^−e), qmin, qmax) with 0 for NaN, and codes back to floats, q * 2^e.
///
///   Code   int8_t, uint8_t or int16_t; the caller sees to it that qmin..qmax fits
///   float [n] and Code [n], any alignment, sharing nothing
/// Guarantees: reads and writes exactly n elements; no allocation, no exceptions.
#include <po2quant/kernels/fake_quantize.hpp>

namespace po2quant::kernels {

/// The codes of up to a vector of elements, the first of them element i of the call.
template <class Arch, rounding Mode, class Code>
PO2Q_INLINE void quantize_vector(const float* in, Code* out, std::size_t count, const simd::f32<Arch>& inverse_scale,
                                 const grid& g, std::size_t i) {
    using batch = simd::f32<Arch>;
    const bool whole = count == batch::size;
    const batch x = whole ? batch::load_unaligned(in) : simd::load_first<Arch>(in, count);
    const batch finite = xsimd::select(x == x, x, batch(0.0F));
    const batch code =
        simd::code_of<Arch, Mode>(finite, inverse_scale, batch(g.qmin), batch(g.qmax), g.seed, g.first_index + i);
    if (whole) {
        simd::store_codes<Arch>(out, code);
    } else {
        Code part[batch::size];
        simd::store_codes<Arch>(part, code);
        for (std::size_t k = 0; k < count; ++k) out[k] = part[k];
    }
}

template <class Arch, rounding Mode, class Code>
void quantize(const float* in, Code* out, std::size_t n, int exponent, const grid& g) {
    constexpr std::size_t lanes = simd::f32<Arch>::size;
    const simd::f32<Arch> inverse_scale(exp2_float(-exponent));
    for (std::size_t i = 0; i < n; i += lanes)
        quantize_vector<Arch, Mode>(in + i, out + i, n - i < lanes ? n - i : lanes, inverse_scale, g, i);
}

template <class Arch, rounding Mode, class Code>
void quantize_channels(const float* in, Code* out, std::size_t n, const int* exponents, std::size_t channels,
                       std::size_t first_channel, const grid& g) {
    using batch = simd::f32<Arch>;
    const auto inverses = [](const simd::i32<Arch>& e)
                              PO2Q_INLINE_LAMBDA { return exp2_lanes<Arch>(simd::i32<Arch>(0) - e); };
    const auto body = [&](std::size_t i, const batch& inverse_scale, std::size_t count) PO2Q_INLINE_LAMBDA {
        quantize_vector<Arch, Mode>(in + i, out + i, count, inverse_scale, g, i);
    };
    for_each_channel_vector<Arch>(n, exponents, channels, first_channel, inverses, body);
}

template <class Arch, class Code>
PO2Q_INLINE void dequantize_vector(const Code* in, float* out, std::size_t count, const simd::f32<Arch>& scale) {
    using batch = simd::f32<Arch>;
    if (count == batch::size) {
        (simd::load_codes<Arch>(in) * scale).store_unaligned(out);
    } else {
        Code part[batch::size] = {};
        for (std::size_t k = 0; k < count; ++k) part[k] = in[k];
        simd::store_first<Arch>(out, simd::load_codes<Arch>(part) * scale, count);
    }
}

template <class Arch, class Code>
void dequantize(const Code* in, float* out, std::size_t n, int exponent) {
    constexpr std::size_t lanes = simd::f32<Arch>::size;
    const simd::f32<Arch> scale(exp2_float(exponent));
    for (std::size_t i = 0; i < n; i += lanes)
        dequantize_vector<Arch>(in + i, out + i, n - i < lanes ? n - i : lanes, scale);
}

template <class Arch, class Code>
void dequantize_channels(const Code* in, float* out, std::size_t n, const int* exponents, std::size_t channels,
                         std::size_t first_channel) {
    using batch = simd::f32<Arch>;
    const auto body = [&](std::size_t i, const batch& scale, std::size_t count)
                          PO2Q_INLINE_LAMBDA { dequantize_vector<Arch>(in + i, out + i, count, scale); };
    const auto scales = [](const simd::i32<Arch>& e) PO2Q_INLINE_LAMBDA { return exp2_lanes<Arch>(e); };
    for_each_channel_vector<Arch>(n, exponents, channels, first_channel, scales, body);
}

}  // namespace po2quant::kernels
