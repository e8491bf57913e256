#pragma once
/// Floats to integer codes, q = clamp(round(x * 2^−e), qmin, qmax) with 0 for NaN, and codes back to floats, q * 2^e.
///
///   Code   int8_t, uint8_t or int16_t; the caller sees to it that qmin..qmax fits
///   float [n] and Code [n], any alignment, sharing nothing
/// Guarantees: reads and writes exactly n elements; no allocation, no exceptions.
#include <po2quant/kernels/fake_quantize.hpp>

namespace po2quant::kernels {

/// Codes of vectors, as integers: how, is the instruction set's choice.
template <class Arch, rounding Mode>
struct code_rounder {
    using batch = simd::f32<Arch>;
    batch qmin;
    batch qmax;
    simd::random_lanes<Arch, Mode> random_at;

    PO2Q_INLINE explicit code_rounder(const grid& g)
        : qmin(g.qmin), qmax(g.qmax), random_at(random_of<Arch, Mode>(g)) {}
    PO2Q_INLINE simd::i32<Arch> operator()(const batch& x, const batch& inverse_scale, std::size_t i) const {
        const batch finite = xsimd::select(x == x, x, batch(0.0F));
        return xsimd::to_int(simd::code_of<Arch, Mode>(finite, inverse_scale, qmin, qmax, random_at(i)));
    }
};

#if defined(__x86_64__) || defined(__i386__) || defined(__aarch64__)
/// half_up as simd::round does it, where the first product doubles as well and the integer is halved. What NaN is
/// converted to leaves 0 in the bits that a code keeps, halved too: −2^31 on x86, 0 on ARM.
template <class Arch>
requires(!has_avx512<Arch> &&
         !simd::rounds_by_sums<typename simd::f32<Arch>::arch_type>) struct code_rounder<Arch, rounding::half_up> {
    using batch = simd::f32<Arch>;
    batch low;  ///< of 2v
    batch high;

    PO2Q_INLINE explicit code_rounder(const grid& codes) : low(2.0F * codes.qmin), high(2.0F * codes.qmax) {}
    PO2Q_INLINE simd::i32<Arch> operator()(const batch& x, const batch& inverse_scale, std::size_t) const {
        const batch twice = simd::clamp(x * (inverse_scale + inverse_scale), low, high);
        return (xsimd::to_int(simd::floor(twice)) + simd::i32<Arch>(1)) >> 1;
    }
};
#endif

#if defined(__AVX512F__)
template <class Arch, rounding Mode>
requires is_at_least<arch::avx512bw, Arch> &&
    (Mode == rounding::half_up || Mode == rounding::half_even) struct code_rounder<Arch, Mode> {
    using batch = simd::f32<Arch>;
    simd::nearest_codes<Mode> round;

    PO2Q_INLINE explicit code_rounder(const grid& codes) : round(codes.qmin, codes.qmax) {}
    PO2Q_INLINE simd::i32<Arch> operator()(const batch& x, const batch& inverse_scale, std::size_t) const {
        return simd::i32<Arch>(round(x, inverse_scale));
    }
};
#endif

/// The codes of up to a vector of elements, the first of them element i of the call.
template <class Arch, rounding Mode, class Code>
PO2Q_INLINE void quantize_vector(const float* in, Code* out, std::size_t count, const simd::f32<Arch>& inverse_scale,
                                 const code_rounder<Arch, Mode>& round, std::size_t i) {
    using batch = simd::f32<Arch>;
    if (count == batch::size) {
        simd::store_codes<Arch>(out, round(batch::load_unaligned(in), inverse_scale, i));
    } else {
        Code part[batch::size];
        simd::store_codes<Arch>(part, round(simd::load_first<Arch>(in, count), inverse_scale, i));
        for (std::size_t k = 0; k < count; ++k) out[k] = part[k];
    }
}

/// `far`: in lies beyond L2.
template <class Arch, rounding Mode, class Code>
void quantize(const float* in, Code* out, std::size_t n, int exponent, const grid& g, bool far = false) {
    constexpr std::size_t lanes = simd::f32<Arch>::size;
    const simd::f32<Arch> inverse_scale(exp2_float(-exponent));
    const code_rounder<Arch, Mode> round(g);
    std::size_t i = 0;
    for (; i + 4 * lanes <= n; i += 4 * lanes) {
        if (far) simd::prefetch_ahead<4 * lanes>(in + i);
        simd::i32<Arch> codes[4];
        simd::unroll<4>([&](auto k) PO2Q_INLINE_LAMBDA {
            codes[k] = round(simd::f32<Arch>::load_unaligned(in + i + k * lanes), inverse_scale, i + k * lanes);
        });
        simd::store_codes<Arch>(out + i, codes);
    }
    for (; i + lanes <= n; i += lanes) quantize_vector<Arch, Mode>(in + i, out + i, lanes, inverse_scale, round, i);
    if (i < n) quantize_vector<Arch, Mode>(in + i, out + i, n - i, inverse_scale, round, i);
}

template <class Arch, rounding Mode, class Code>
void quantize_channels(const float* in, Code* out, std::size_t n, const int* exponents, std::size_t channels,
                       std::size_t first_channel, const grid& g) {
    using batch = simd::f32<Arch>;
    const auto inverses = [](const simd::i32<Arch>& e)
                              PO2Q_INLINE_LAMBDA { return exp2_lanes<Arch>(simd::i32<Arch>(0) - e); };
    const code_rounder<Arch, Mode> round(g);
    const auto body = [&](std::size_t i, const batch& inverse_scale, std::size_t count) PO2Q_INLINE_LAMBDA {
        quantize_vector<Arch, Mode>(in + i, out + i, count, inverse_scale, round, i);
    };
    for_each_channel_vector<Arch>(n, exponents, channels, first_channel, inverses, body);
}

/// quantize and quantize_channels of one architecture by rounding mode, for callers that are not compiled for it. The
/// low 8 bits of codes are the same in int8 and uint8.
struct quantize_table {
    template <class Code>
    using tensor = void (*)(const float* in, Code* out, std::size_t n, int exponent, const grid& g, bool far);
    template <class Code>
    using channels = void (*)(const float* in, Code* out, std::size_t n, const int* exponents, std::size_t channels,
                              std::size_t first_channel, const grid& g);
    static constexpr int modes = static_cast<int>(rounding::stochastic) + 1;
    tensor<std::int8_t> tensor8[modes];
    tensor<std::int16_t> tensor16[modes];
    channels<std::int8_t> channels8[modes];
    channels<std::int16_t> channels16[modes];
};

template <class Arch>
constexpr quantize_table make_quantize_table() {
    quantize_table t{};
    simd::unroll<quantize_table::modes>([&](auto i) {
        constexpr auto mode = static_cast<rounding>(static_cast<int>(i));
        t.tensor8[i] = &quantize<Arch, mode, std::int8_t>;
        t.tensor16[i] = &quantize<Arch, mode, std::int16_t>;
        t.channels8[i] = &quantize_channels<Arch, mode, std::int8_t>;
        t.channels16[i] = &quantize_channels<Arch, mode, std::int16_t>;
    });
    return t;
}
template <class Arch>
inline constexpr quantize_table quantize_table_of = make_quantize_table<Arch>();

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
    std::size_t i = 0;
    for (; i + 4 * lanes <= n; i += 4 * lanes)
        simd::unroll<4>([&](auto k) PO2Q_INLINE_LAMBDA {
            dequantize_vector<Arch>(in + i + k * lanes, out + i + k * lanes, lanes, scale);
        });
    for (; i < n; i += lanes) dequantize_vector<Arch>(in + i, out + i, n - i < lanes ? n - i : lanes, scale);
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
