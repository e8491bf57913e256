#pragma once
/// Smallest and largest finite value of n floats, and how many are not finite; of bfloat16 and float16 too.
///
/// A block of 4096 is first searched as if all were finite, while x · 0 is gathered beside it: it is ±0 unless some x
/// is NaN or ±∞. Only then is the block searched again, value by value. (Products and "or" leave the ports of min and
/// max alone; x − x summed up takes twice the time on Zen 4. With fma the two are one instruction.) A plain loop cannot
/// be vectorized by compilers, since the order of comparisons matters to NaN. The result depends on no order: −0 and +0
/// count as equal and give +0.
#include <cstddef>
#include <cstdint>

#include <po2quant/simd/floating.hpp>
#include <po2quant/simd/storage.hpp>
#include <po2quant/simd/unroll.hpp>
#include <po2quant/simd/words.hpp>

namespace po2quant::kernels {

struct extremes {
    float min;  ///< +∞ where nothing finite was seen
    float max;  ///< −∞
    std::uint64_t non_finite;
};

/// One more vector into what is ±0 as long as all were finite, else NaN in some lane.
template <class Arch>
PO2Q_INLINE simd::f32<Arch> gather_non_finite(const simd::f32<Arch>& traces, const simd::f32<Arch>& x) {
    const simd::f32<Arch> zero(0.0F);
#if defined(__AVX512F__)
    if constexpr (is_at_least<arch::avx512bw, Arch>) return simd::f32<Arch>(_mm512_fmadd_ps(x, zero, traces));
#endif
    return traces | (x * zero);
}

PO2Q_INLINE void include(extremes& e, float v) {
    e.min = v < e.min ? v : e.min;
    e.max = v > e.max ? v : e.max;
}

/// One value at a time, for blocks with something non-finite and for what is behind the last vector.
template <class Arch, storage_type Storage>
PO2Q_INLINE void minmax_each(const Storage* in, std::size_t n, extremes& found) {
    for (std::size_t i = 0; i < n; ++i) {
        Storage stored;
        __builtin_memcpy(&stored, in + i, sizeof stored);  // a host's own type may lie there
        const float v = to_float(stored);
        if (__builtin_isfinite(v)) include(found, v);
        else ++found.non_finite;
    }
}

/// The last of a search: the lanes' extremes. Which zero was met first depends on lanes; the sum with +0 makes it +0.
template <class Arch>
PO2Q_INLINE void add_lanes(const simd::f32<Arch>& low, const simd::f32<Arch>& high, extremes& found) {
    constexpr std::size_t lanes = simd::f32<Arch>::size;
    alignas(64) float part[lanes];
    low.store_aligned(part);
    for (std::size_t k = 0; k < lanes; ++k) found.min = part[k] < found.min ? part[k] : found.min;
    high.store_aligned(part);
    for (std::size_t k = 0; k < lanes; ++k) found.max = part[k] > found.max ? part[k] : found.max;
    found.min += 0.0F;
    found.max += 0.0F;
}

/// `far`: in lies beyond L2.
template <class Arch, storage_type Storage>
extremes minmax(const Storage* in, std::size_t n, bool far = false) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    constexpr int chains = 4;  // hide the latency of min and max
    // "or" takes one cycle, and 16 registers have no room for more; a sum takes as long as min.
    constexpr int trace_chains = has_avx512<Arch> ? chains : 2;
    constexpr std::size_t step = chains * lanes;
    constexpr std::size_t block = 4096;
    const float infinity = __builtin_inff();
    const batch zero(0.0F);
    batch low(infinity);
    batch high(-infinity);
    extremes found{infinity, -infinity, 0};
    std::size_t begin = 0;
    while (n - begin >= step) {
        const std::size_t end = n - begin < block ? n - (n - begin) % step : begin + block;
        const batch first = simd::load<Arch>(in + begin);
        batch lows[chains];
        batch highs[chains];
        batch traces[trace_chains];
        simd::unroll<chains>([&](auto k) PO2Q_INLINE_LAMBDA { lows[k] = highs[k] = first; });
        simd::unroll<trace_chains>([&](auto k) PO2Q_INLINE_LAMBDA { traces[k] = zero; });
        for (std::size_t i = begin; i < end; i += step) {
            if (far) simd::prefetch_ahead<step>(in + i);
            simd::unroll<chains>([&](auto k) PO2Q_INLINE_LAMBDA {
                const batch x = simd::keep(simd::load<Arch>(in + i + k * lanes));
                lows[k] = xsimd::min(x, lows[k]);
                highs[k] = xsimd::max(x, highs[k]);
                traces[k % trace_chains] = gather_non_finite<Arch>(traces[k % trace_chains], x);
            });
        }
        batch trace = zero;
        simd::unroll<trace_chains>([&](auto k) PO2Q_INLINE_LAMBDA { trace = trace | traces[k]; });
        // ±0 compare equal to 0, NaN does not; or-ing a sign into a NaN leaves it one.
        if (xsimd::all(trace == zero)) {
            simd::unroll<chains>([&](auto k) PO2Q_INLINE_LAMBDA {
                low = xsimd::min(low, lows[k]);
                high = xsimd::max(high, highs[k]);
            });
        } else {
            minmax_each<Arch>(in + begin, end - begin, found);
        }
        begin = end;
    }
    minmax_each<Arch>(in + begin, n - begin, found);
    add_lanes<Arch>(low, high, found);
    return found;
}

/// The same of 16-bit storage, whose bits are compared as they are: the largest as signed integers is the maximum,
/// unless all have a sign; the largest as unsigned ones the minimum, if one has a sign; else it is the smallest as
/// signed ones, of which that is the other way round. What is not finite is beyond either.
template <class Arch, half_type Storage>
extremes minmax(const Storage* in, std::size_t n, bool far = false) {
    using words = simd::words<Arch>;
    using reg = typename words::reg;
    constexpr int chains = 4;
    constexpr std::size_t step = chains * words::lanes;
    constexpr std::size_t block = 16384;
    extremes found{__builtin_inff(), -__builtin_inff(), 0};
    std::size_t begin = 0;
    while (n - begin >= step) {
        const std::size_t end = n - begin < block ? n - (n - begin) % step : begin + block;
        const reg first = words::load(in + begin);
        reg smallest[chains];
        reg largest[chains];
        reg unsigned_largest[chains];
        simd::unroll<chains>([&](auto k)
                                 PO2Q_INLINE_LAMBDA { smallest[k] = largest[k] = unsigned_largest[k] = first; });
        for (std::size_t i = begin; i < end; i += step) {
            if (far) simd::prefetch_ahead<step>(in + i);
            simd::unroll<chains>([&](auto k) PO2Q_INLINE_LAMBDA {
                const reg x = words::keep(words::load(in + i + k * words::lanes));
                smallest[k] = words::min(x, smallest[k]);
                largest[k] = words::max(x, largest[k]);
                unsigned_largest[k] = words::unsigned_max(x, unsigned_largest[k]);
            });
        }
        simd::unroll<chains - 1, 1>([&](auto k) PO2Q_INLINE_LAMBDA {
            smallest[0] = words::min(smallest[0], smallest[k]);
            largest[0] = words::max(largest[0], largest[k]);
            unsigned_largest[0] = words::unsigned_max(unsigned_largest[0], unsigned_largest[k]);
        });
        std::int16_t lane[3][words::lanes];
        words::store(lane[0], smallest[0]);
        words::store(lane[1], largest[0]);
        words::store(lane[2], unsigned_largest[0]);
        std::int16_t least = lane[0][0];
        std::int16_t most = lane[1][0];
        std::uint16_t unsigned_most = 0;
        for (std::size_t k = 0; k < words::lanes; ++k) {
            const auto value = static_cast<std::uint16_t>(lane[2][k]);
            least = lane[0][k] < least ? lane[0][k] : least;
            most = lane[1][k] > most ? lane[1][k] : most;
            unsigned_most = value > unsigned_most ? value : unsigned_most;
        }
        const bool all_finite = most < Storage::infinity && unsigned_most < (Storage::infinity | 0x8000U);
        if (all_finite) {
            const auto value_of = [](auto bits) PO2Q_INLINE_LAMBDA {
                return to_float(Storage{static_cast<std::uint16_t>(bits)});
            };
            include(found, value_of(most >= 0 ? most : least));
            include(found, unsigned_most >= 0x8000U ? value_of(unsigned_most) : value_of(least));
        } else {
            minmax_each<Arch>(in + begin, end - begin, found);
        }
        begin = end;
    }
    minmax_each<Arch>(in + begin, n - begin, found);
    found.min += 0.0F;
    found.max += 0.0F;
    return found;
}

/// minmax_channels of channels that `Vectors` vectors hold, the last of which may be a part.
template <class Arch, int Vectors, storage_type Storage>
void minmax_columns(const Storage* in, std::size_t rows, std::size_t row_stride, std::size_t channels, extremes* out) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    constexpr std::size_t at_once = Vectors == 1 ? 4 : Vectors == 2 ? 2 : 1;  // rows: chains hide latencies
    constexpr std::size_t block = 256;                                        // rows
    const std::size_t last = channels - (Vectors - 1) * lanes;
    const auto load = [&](std::size_t row, auto v) PO2Q_INLINE_LAMBDA {
        const Storage* const p = in + row * row_stride + v * lanes;
        return v + 1 < Vectors || last == lanes ? simd::load<Arch>(p) : simd::load_first<Arch>(p, last);
    };
    const batch zero(0.0F);
    const batch infinity(__builtin_inff());
    batch low[Vectors];
    batch high[Vectors];
    simd::unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA {
        low[v] = infinity;
        high[v] = -infinity;
    });
    std::uint64_t non_finite[Vectors * lanes] = {};
    for (std::size_t begin = 0; begin < rows; begin += block) {
        const std::size_t end = rows - begin < block ? rows : begin + block;
        batch lows[at_once][Vectors];
        batch highs[at_once][Vectors];
        batch traces[at_once][Vectors];
        simd::unroll<at_once>([&](auto r) PO2Q_INLINE_LAMBDA {
            simd::unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA {
                lows[r][v] = infinity;
                highs[r][v] = -infinity;
                traces[r][v] = zero;
            });
        });
        const auto search = [&](std::size_t row, auto r) PO2Q_INLINE_LAMBDA {
            simd::unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA {
                const batch x = simd::keep(load(row, v));
                lows[r][v] = xsimd::min(x, lows[r][v]);
                highs[r][v] = xsimd::max(x, highs[r][v]);
                traces[r][v] = gather_non_finite<Arch>(traces[r][v], x);
            });
        };
        std::size_t row = begin;
        for (; row + at_once <= end; row += at_once)
            simd::unroll<at_once>([&](auto r) PO2Q_INLINE_LAMBDA { search(row + r, r); });
        for (; row < end; ++row) search(row, std::integral_constant<int, 0>{});
        batch trace = zero;
        simd::unroll<at_once>([&](auto r) PO2Q_INLINE_LAMBDA {
            simd::unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA { trace = trace | traces[r][v]; });
        });
        if (xsimd::all(trace == zero)) {
            simd::unroll<at_once>([&](auto r) PO2Q_INLINE_LAMBDA {
                simd::unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA {
                    low[v] = xsimd::min(low[v], lows[r][v]);
                    high[v] = xsimd::max(high[v], highs[r][v]);
                });
            });
            continue;
        }
        simd::unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA {
            batch bad = zero;
            for (row = begin; row < end; ++row) {
                const batch x = load(row, v);
                const auto finite = (x - x) == zero;
                low[v] = xsimd::select(finite & (x < low[v]), x, low[v]);
                high[v] = xsimd::select(finite & (x > high[v]), x, high[v]);
                bad = xsimd::select(finite, bad, bad + batch(1.0F));
            }
            alignas(64) float counts[lanes];
            bad.store_aligned(counts);
            for (std::size_t k = 0; k < lanes; ++k) non_finite[v * lanes + k] += static_cast<std::uint64_t>(counts[k]);
        });
    }
    alignas(64) float least[Vectors * lanes];
    alignas(64) float most[Vectors * lanes];
    simd::unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA {
        (low[v] + zero).store_aligned(least + v * lanes);
        (high[v] + zero).store_aligned(most + v * lanes);
    });
    for (std::size_t c = 0; c < channels; ++c) out[c] = {least[c], most[c], non_finite[c]};
}

/// Channel innermost: row r is Storage [channels] at in + r * row_stride; one result per channel; lanes run over
/// channels.
template <class Arch, storage_type Storage>
void minmax_channels(const Storage* in, std::size_t rows, std::size_t row_stride, std::size_t channels, extremes* out) {
    constexpr std::size_t lanes = simd::f32<Arch>::size;
    std::size_t c = 0;
    for (; c + 4 * lanes <= channels; c += 4 * lanes)
        minmax_columns<Arch, 4>(in + c, rows, row_stride, 4 * lanes, out + c);
    switch ((channels - c + lanes - 1) / lanes) {
    case 4: return minmax_columns<Arch, 4>(in + c, rows, row_stride, channels - c, out + c);
    case 3: return minmax_columns<Arch, 3>(in + c, rows, row_stride, channels - c, out + c);
    case 2: return minmax_columns<Arch, 2>(in + c, rows, row_stride, channels - c, out + c);
    case 1: return minmax_columns<Arch, 1>(in + c, rows, row_stride, channels - c, out + c);
    default: return;
    }
}

}  // namespace po2quant::kernels
