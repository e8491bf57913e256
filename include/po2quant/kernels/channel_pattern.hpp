#pragma once
/// Exponents of consecutive elements whose channel is innermost, by vectors.
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <po2quant/simd/floating.hpp>
#include <po2quant/simd/unroll.hpp>

namespace po2quant::kernels {

/// 2^e (or 2^−e) for a vector of exponents, from their bits.
template <class Arch>
PO2Q_INLINE simd::f32<Arch> exp2_lanes(const simd::i32<Arch>& e) {
    return simd::bit_cast<float>((e + simd::i32<Arch>(127)) << 23);
}

/// 2^−e of 2^e.
template <class Arch>
PO2Q_INLINE simd::f32<Arch> inverse_power(const simd::f32<Arch>& scale) {
    return simd::bit_cast<float>(simd::i32<Arch>(254 << 23) - simd::bit_cast<std::int32_t>(scale));
}

/// The exponents of vectors that may begin at any channel.
template <class Arch>
class lane_exponents {
public:
    static constexpr std::size_t lanes = simd::i32<Arch>::size;

    PO2Q_INLINE lane_exponents(const int* exponents, std::size_t channels)
        : exponents_(exponents), channels_(channels), first_end_(channels < lanes ? 0 : channels - lanes) {
        for (std::size_t k = 0, c = first_end_; k < 2 * lanes; ++k) {
            ends_[k] = exponents[c];
            if (++c == channels) c = 0;
        }
    }
    PO2Q_INLINE simd::i32<Arch> from(std::size_t channel) const {
        const bool whole = channel + lanes <= channels_;
        return simd::i32<Arch>::load_unaligned(whole ? exponents_ + channel : ends_ + (channel - first_end_));
    }

private:
    const int* exponents_;
    std::size_t channels_;
    std::size_t first_end_;         ///< channel of ends_[0]
    std::int32_t ends_[2 * lanes];  ///< the last channels and, behind them, the first
};

/// Calls body(position, of(exponents of the lanes), count) for vectors of up to `lanes` elements that cover [0, n),
/// where element i belongs to channel (first_channel + i) % channels.
///
/// Vectors meet the same exponents again after `period` of them. Where that is soon, what `of` makes of each is kept,
/// and by_fours(loop), if given, calls loop(four) once: four(position, what was kept of 4 vectors) then has whole
/// vectors by fours, before the body has the rest.
template <class Arch, class Of, class F, class ByFours = std::nullptr_t>
PO2Q_INLINE void for_each_channel_vector(std::size_t n, const int* exponents, std::size_t channels,
                                         std::size_t first_channel, Of&& of, F&& body, ByFours&& by_fours = nullptr) {
    using prepared = decltype(of(simd::i32<Arch>(0)));
    constexpr std::size_t lanes = simd::f32<Arch>::size;
    constexpr std::size_t most = 64;  // of 320 bytes at most, in L1
    const std::size_t power = channels & (~channels + 1);
    const std::size_t period = channels / (power < lanes ? power : lanes);
    const std::size_t step = lanes % channels;
    const lane_exponents<Arch> all(exponents, channels);
    std::size_t c = first_channel;
    const auto next = [&]() PO2Q_INLINE_LAMBDA {
        const simd::i32<Arch> e = all.from(c);
        c += step;
        if (c >= channels) c -= channels;
        return of(e);
    };
    std::size_t i = 0;
    if (period <= most && n / lanes > period) {
        prepared kept[most + 3];
        for (std::size_t k = 0; k < period; ++k) kept[k] = next();
        std::size_t k = 0;
        if constexpr (!std::is_same_v<std::remove_cvref_t<ByFours>, std::nullptr_t>) {
            // Any four in a row, those over the end of the pattern too.
            for (std::size_t j = 0; j < 3; ++j) kept[period + j] = kept[j];
            by_fours([&](const auto& four) PO2Q_INLINE_LAMBDA {
                if (4 % period == 0) {
                    // A copy that registers hold: else each vector loads its constants.
                    prepared own[4];
                    simd::unroll<4>([&](auto j) PO2Q_INLINE_LAMBDA { own[j] = kept[j]; });
                    for (; i + 4 * lanes <= n; i += 4 * lanes) four(i, own);
                } else {
                    const std::size_t ahead = 4 % period;
                    for (; i + 4 * lanes <= n; i += 4 * lanes) {
                        four(i, kept + k);
                        k += ahead;
                        if (k >= period) k -= period;
                    }
                }
            });
        } else {
            for (; i + lanes <= n; i += lanes) {
                body(i, kept[k], lanes);
                if (++k == period) k = 0;
            }
        }
        for (; i < n; i += lanes) {
            body(i, kept[k], n - i < lanes ? n - i : lanes);
            if (++k == period) k = 0;
        }
        return;
    }
    for (; i < n; i += lanes) body(i, next(), n - i < lanes ? n - i : lanes);
}

}  // namespace po2quant::kernels
