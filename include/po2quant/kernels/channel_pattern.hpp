#pragma once
/// Exponents of consecutive elements whose channel is innermost, laid out so that one load gives a vector of them.
#include <cstddef>
#include <cstdint>

#include <po2quant/simd/floating.hpp>

namespace po2quant::kernels {

/// 2^e (or 2^−e) for a vector of exponents, from their bits.
template <class Arch>
PO2Q_INLINE simd::f32<Arch> exp2_lanes(const simd::i32<Arch>& e) {
    return simd::bit_cast<float>((e + simd::i32<Arch>(127)) << 23);
}

/// Calls body(position, channel exponents, count) for vectors of up to `lanes` elements that cover [0, n), where
/// element i belongs to channel (first_channel + i) % channels.
///
/// Up to `most` channels the exponents are written out once, with a vector's worth repeated behind them, and the
/// vectors run over the ends of rows; beyond, each row's own exponents are loaded and only its last vector is short.
template <class Arch, class F>
PO2Q_INLINE void for_each_channel_vector(std::size_t n, const int* exponents, std::size_t channels,
                                         std::size_t first_channel, F&& body) {
    constexpr std::size_t lanes = simd::f32<Arch>::size;
    constexpr std::size_t most = 1024;  // 4 KB of stack, in L1
    alignas(64) std::int32_t pattern[most + lanes];
    if (channels <= most) {
        for (std::size_t i = 0, c = 0; i < channels + lanes; ++i) {
            pattern[i] = exponents[c];
            if (++c == channels) c = 0;
        }
        const std::size_t step = lanes % channels;
        std::size_t c = first_channel;
        for (std::size_t i = 0; i < n; i += lanes) {
            body(i, simd::i32<Arch>::load_unaligned(pattern + c), n - i < lanes ? n - i : lanes);
            c += step;
            if (c >= channels) c -= channels;
        }
        return;
    }
    std::size_t c = first_channel;
    for (std::size_t i = 0; i < n;) {
        const std::size_t left = channels - c < n - i ? channels - c : n - i;
        const std::size_t count = left < lanes ? left : lanes;
        for (std::size_t k = 0; k < count; ++k) pattern[k] = exponents[c + k];
        for (std::size_t k = count; k < lanes; ++k) pattern[k] = 0;
        body(i, simd::i32<Arch>::load_aligned(pattern), count);
        i += count;
        c += count;
        if (c == channels) c = 0;
    }
}

}  // namespace po2quant::kernels
