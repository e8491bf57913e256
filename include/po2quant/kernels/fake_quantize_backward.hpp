#pragma once
/// Straight-through gradient of fake quantization: dx = dy where low·2^e <= x <= high·2^e, else +0.
///
/// Every deterministic choice of ste is one such interval (pass_interval of numerics/quantizer.hpp), ±∞ included for
/// the plain one; NaN is inside none. clip_code with stochastic rounding asks the codes themselves.
///
/// Or from the bits that a forward pass has kept; and with the gradient of the threshold in the same pass.
///
///   x, dy, dx   Storage [n]: float, or bfloat16 or float16, which are converted (numerics/storage.hpp); any alignment
///               that the type may have; dx may be dy or x, else it shares nothing with them. dx needs no rounding
/// Guarantees: reads and writes exactly n elements; no allocation, no exceptions.
#include <po2quant/kernels/channel_pattern.hpp>
#include <po2quant/kernels/fake_quantize.hpp>
#include <po2quant/simd/storage.hpp>
#include <po2quant/simd/sums.hpp>

namespace po2quant::kernels {

/// dx = low <= x <= high ? dy : +0; low and high in the units of x.
template <class Arch, storage_type Storage>
void pass_gradient(const Storage* x, const Storage* dy, Storage* dx, std::size_t n, float_interval pass) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    constexpr std::size_t unroll = 4;
    const batch low(pass.low);
    const batch high(pass.high);
    const batch zero(0.0F);
    const auto apply = [&](const batch& v, const batch& gradient)
                           PO2Q_INLINE_LAMBDA { return xsimd::select((low <= v) & (v <= high), gradient, zero); };
    const auto vector_at = [&](std::size_t i)
                               PO2Q_INLINE_LAMBDA { return apply(simd::load<Arch>(x + i), simd::load<Arch>(dy + i)); };
    std::size_t i = 0;
    for (; i + unroll * lanes <= n; i += unroll * lanes) {
        const batch y0 = vector_at(i);
        const batch y1 = vector_at(i + lanes);
        const batch y2 = vector_at(i + 2 * lanes);
        const batch y3 = vector_at(i + 3 * lanes);
        simd::store_exact<Arch>(dx + i, y0);
        simd::store_exact<Arch>(dx + i + lanes, y1);
        simd::store_exact<Arch>(dx + i + 2 * lanes, y2);
        simd::store_exact<Arch>(dx + i + 3 * lanes, y3);
    }
    for (; i + lanes <= n; i += lanes) simd::store_exact<Arch>(dx + i, vector_at(i));
    if (i < n)
        simd::store_first<Arch>(
            dx + i, apply(simd::load_first<Arch>(x + i, n - i), simd::load_first<Arch>(dy + i, n - i)), n - i);
}

/// Channel innermost; the interval is in units of codes.
template <class Arch, storage_type Storage>
void pass_gradient_channels(const Storage* x, const Storage* dy, Storage* dx, std::size_t n, const int* exponents,
                            std::size_t channels, std::size_t first_channel, float_interval pass) {
    using batch = simd::f32<Arch>;
    const batch low(pass.low);
    const batch high(pass.high);
    const auto body = [&](std::size_t i, const batch& scale, std::size_t count) PO2Q_INLINE_LAMBDA {
        const bool whole = count == batch::size;
        const batch v = whole ? simd::load<Arch>(x + i) : simd::load_first<Arch>(x + i, count);
        const batch gradient = whole ? simd::load<Arch>(dy + i) : simd::load_first<Arch>(dy + i, count);
        const batch y = xsimd::select((low * scale <= v) & (v <= high * scale), gradient, batch(0.0F));
        if (whole) simd::store_exact<Arch>(dx + i, y);
        else simd::store_first<Arch>(dx + i, y, count);
    };
    const auto scales = [](const simd::i32<Arch>& e) PO2Q_INLINE_LAMBDA { return exp2_lanes<Arch>(e); };
    for_each_channel_vector<Arch>(n, exponents, channels, first_channel, scales, body);
}

/// clip_code under stochastic rounding: the gradient passes where the code rounded with the forward pass's bits is
/// inside [qmin, qmax]. Written for one run of elements with one exponent.
template <class Arch, storage_type Storage>
void pass_gradient_stochastic(const Storage* x, const Storage* dy, Storage* dx, std::size_t n, int exponent,
                              const grid& g) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    const batch inverse_scale(exp2_float(-exponent));
    const batch qmin(g.qmin);
    const batch qmax(g.qmax);
    for (std::size_t i = 0; i < n; i += lanes) {
        const std::size_t count = n - i < lanes ? n - i : lanes;
        const bool whole = count == lanes;
        const batch v = whole ? simd::load<Arch>(x + i) : simd::load_first<Arch>(x + i, count);
        const batch gradient = whole ? simd::load<Arch>(dy + i) : simd::load_first<Arch>(dy + i, count);
        // One code more on either side tells what is beyond from what is at the end.
        const batch code = simd::code_of<Arch, rounding::stochastic>(v, inverse_scale, qmin - batch(1.0F),
                                                                     qmax + batch(1.0F), g.seed, g.first_index + i);
        const batch y = xsimd::select((qmin <= code) & (code <= qmax), gradient, batch(0.0F));
        if (whole) simd::store_exact<Arch>(dx + i, y);
        else simd::store_first<Arch>(dx + i, y, count);
    }
}

/// dx = dy where the element's bit is set, else +0; element i is bit (bit + i) % 8 of mask[(bit + i) / 8].
template <class Arch, storage_type Storage>
void pass_gradient_masked(const std::uint8_t* mask, std::size_t bit, const Storage* dy, Storage* dx, std::size_t n) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    constexpr int unroll = 4;
    std::size_t i = 0;
    for (; i + unroll * lanes <= n; i += unroll * lanes) {
        const std::uint64_t bits = simd::read_bits(mask, bit + i, unroll * lanes);
        batch y[unroll];
        simd::unroll<unroll>([&](auto k) PO2Q_INLINE_LAMBDA {
            y[k] = simd::select_bits<Arch>(static_cast<std::uint32_t>(bits >> (k * lanes)),
                                           simd::load<Arch>(dy + i + k * lanes));
        });
        simd::unroll<unroll>([&](auto k) PO2Q_INLINE_LAMBDA { simd::store_exact<Arch>(dx + i + k * lanes, y[k]); });
    }
    for (; i < n; i += lanes) {
        const std::size_t count = n - i < lanes ? n - i : lanes;
        const auto bits = static_cast<std::uint32_t>(simd::read_bits(mask, bit + i, static_cast<int>(count)));
        if (count == lanes) simd::store_exact<Arch>(dx + i, simd::select_bits<Arch>(bits, simd::load<Arch>(dy + i)));
        else
            simd::store_first<Arch>(dx + i, simd::select_bits<Arch>(bits, simd::load_first<Arch>(dy + i, count)),
                                    count);
    }
}

/// What one vector adds to dx and to the sum of a threshold.
template <class Arch, rounding Mode>
struct threshold_step {
    using batch = simd::f32<Arch>;
    const grid& g;
    threshold_term term;    ///< error: in units of x, y − x or y; the layer above knows 2^e
    float_interval pass;    ///< of dx, in units of codes
    float_interval inside;  ///< of the term, in units of codes
    bool pass_by_code;      ///< stochastic: dx by the codes

    /// dx, and the factor of dy in the sum.
    PO2Q_INLINE void operator()(const batch& x, const batch& dy, const batch& y, const batch& scale,
                                const batch& inverse_scale, std::size_t i, batch& dx, batch& factor) const {
        const batch zero(0.0F);
        auto is_inside = (batch(inside.low) * scale <= x) & (x <= batch(inside.high) * scale);
        auto passes = (batch(pass.low) * scale <= x) & (x <= batch(pass.high) * scale);
        if constexpr (Mode == rounding::stochastic) {
            const batch code = simd::code_of<Arch, Mode>(x, inverse_scale, batch(g.qmin - 1.0F), batch(g.qmax + 1.0F),
                                                         g.seed, g.first_index + i);
            is_inside = (batch(g.qmin) <= code) & (code <= batch(g.qmax));
            if (pass_by_code) passes = is_inside;
        }
        dx = xsimd::select(passes, dy, zero);
        if (term == threshold_term::error) factor = xsimd::select(x == x, y - xsimd::select(is_inside, x, zero), zero);
        else factor = xsimd::select(x >= batch(g.qmax) * scale, batch(1.0F), zero);
    }
};

/// dx, and the terms' products with dy added to 16 sums: element i of the block to sum i % 16, in order.
template <class Arch, rounding Mode, storage_type Storage>
void pass_gradient_and_sum(const Storage* x, const Storage* dy, Storage* dx, std::size_t n, int exponent,
                           const threshold_step<Arch, Mode>& given, double (&lane_sums)[simd::sum_lanes]) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    constexpr int parts = simd::sum_lanes / static_cast<int>(lanes);
    const threshold_step<Arch, Mode> step = given;
    const grid_rounder<Arch, Mode> apply(exponent, step.g);
    const batch scale(exp2_float(exponent));
    const batch inverse_scale(exp2_float(-exponent));
    simd::product_sums<Arch> sums;
    sums.load(lane_sums);
    for (std::size_t i = 0; i < n; i += simd::sum_lanes) {
        simd::unroll<parts>([&](auto k) PO2Q_INLINE_LAMBDA {
            const std::size_t at = i + k * lanes;
            if (at >= n) return;
            const std::size_t count = n - at < lanes ? n - at : lanes;
            const bool whole = count == lanes;
            const batch v = whole ? simd::load<Arch>(x + at) : simd::load_first<Arch>(x + at, count);
            const batch up = whole ? simd::load<Arch>(dy + at) : simd::load_first<Arch>(dy + at, count);
            batch down;
            batch factor;
            step(v, up, apply(v, at), scale, inverse_scale, at, down, factor);
            if (whole) simd::store_exact<Arch>(dx + at, down);
            else simd::store_first<Arch>(dx + at, down, count);
            sums.template add<k>(up, factor);
        });
    }
    sums.store(lane_sums);
}

/// Channels that pass_gradient_and_sum_channels takes at once: their scales lie on the stack.
inline constexpr std::size_t channels_at_once = 1024;

/// Channel innermost: rows of `channels` <= channels_at_once elements, row_stride apart; channel c has exponents[c] and
/// adds to sums[c], row by row. g.first_index is that of element 0.
template <class Arch, rounding Mode, storage_type Storage>
void pass_gradient_and_sum_channels(const Storage* x, const Storage* dy, Storage* dx, std::size_t rows,
                                    std::size_t row_stride, std::size_t channels, const int* exponents,
                                    const threshold_step<Arch, Mode>& given, double* sums) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    constexpr int parts = simd::sum_lanes / static_cast<int>(lanes);
    const threshold_step<Arch, Mode> step = given;
    const batch qmin(step.g.qmin);
    const batch qmax(step.g.qmax);
    alignas(64) float scales[channels_at_once + simd::sum_lanes] = {};
    alignas(64) float inverses[channels_at_once + simd::sum_lanes] = {};
    for (std::size_t c = 0; c < channels; ++c) {
        scales[c] = exp2_float(exponents[c]);
        inverses[c] = exp2_float(-exponents[c]);
    }
    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t c = 0; c < channels; c += simd::sum_lanes) {
            alignas(64) double own[simd::sum_lanes] = {};
            const std::size_t width = channels - c < simd::sum_lanes ? channels - c : simd::sum_lanes;
            for (std::size_t k = 0; k < width; ++k) own[k] = sums[c + k];
            simd::product_sums<Arch> lane;
            lane.load(own);
            simd::unroll<parts>([&](auto k) PO2Q_INLINE_LAMBDA {
                if (k * lanes >= width) return;
                const std::size_t first = c + k * lanes;
                const std::size_t count = width - k * lanes < lanes ? width - k * lanes : lanes;
                const bool whole = count == lanes;
                const batch scale = batch::load_unaligned(scales + first);
                const batch inverse_scale = batch::load_unaligned(inverses + first);
                const std::size_t at = row * row_stride + first;
                const batch v = whole ? simd::load<Arch>(x + at) : simd::load_first<Arch>(x + at, count);
                const batch up = whole ? simd::load<Arch>(dy + at) : simd::load_first<Arch>(dy + at, count);
                const batch y = on_grid<Arch, Mode>(v, scale, inverse_scale, qmin, qmax, step.g, at);
                batch down;
                batch factor;
                step(v, up, y, scale, inverse_scale, at, down, factor);
                if (whole) simd::store_exact<Arch>(dx + at, down);
                else simd::store_first<Arch>(dx + at, down, count);
                lane.template add<k>(up, factor);
            });
            lane.store(own);
            for (std::size_t k = 0; k < width; ++k) sums[c + k] = own[k];
        }
    }
}

}  // namespace po2quant::kernels
