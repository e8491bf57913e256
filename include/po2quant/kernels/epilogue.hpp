#pragma once
/// From int32 sums to int8 codes: what conv2d and depthwise_conv2d do with a tile of accumulators.
#include <cstddef>
#include <cstdint>

#include <po2quant/numerics/accumulator.hpp>
#include <po2quant/numerics/saturate.hpp>
#include <po2quant/simd/integer.hpp>

namespace po2quant::kernels {

/// How sums leave a kernel.
enum class epilogue : std::uint8_t {
    /// All shifts are 0..31 and the rounding constant is in the bias already: shift, saturate, clamp. half_up and
    /// floor.
    shift,
    /// Any rounding mode and any shift.
    round,
    /// No shift: the int32 sums with their bias, the rounding constant taken off again.
    accumulators,
};

/// What happens to the sums of a block of output channels. Arrays are int32 in the lane order of the block
/// (channel_of).
struct requantize_block {
    const std::int32_t* shift;
    const std::int32_t* rounding_constant;  ///< in the bias; read by `accumulators` only
    code_range range;
    rounding mode;
    epilogue kind;
};

/// channel_of under a name that carries Arch, since its address goes into tables.
template <class Arch>
int channel_of_lane(int vectors, int vector, int lane) {
    return simd::integer<Arch>::channel_of(vectors, vector, lane);
}

/// Each of `count` lanes (a multiple of the register's) shifted by its own count, by `mode`, in place.
template <class Arch, rounding Mode>
void shift_lanes(std::int32_t* acc, const std::int32_t* shift, int count) {
    using ops = simd::integer<Arch>;
    for (int i = 0; i < count; i += ops::lanes) {
        bool vector = true;
        for (int k = 0; k < ops::lanes; ++k) vector = vector && shift[i + k] >= 1 && shift[i + k] <= 31;
        if (vector) {
            ops::store(acc + i, simd::shift_right_rounded<Arch, Mode>(ops::load(acc + i), ops::load(shift + i)));
        } else {
            for (int k = 0; k < ops::lanes; ++k) acc[i + k] = shift_right(acc[i + k], shift[i + k], Mode);
        }
    }
}

template <class Arch>
void shift_lanes(std::int32_t* acc, const std::int32_t* shift, int count, rounding mode) {
    switch (mode) {
    case rounding::half_even: return shift_lanes<Arch, rounding::half_even>(acc, shift, count);
    case rounding::half_away: return shift_lanes<Arch, rounding::half_away>(acc, shift, count);
    case rounding::floor: return shift_lanes<Arch, rounding::floor>(acc, shift, count);
    default: return shift_lanes<Arch, rounding::half_up>(acc, shift, count);
    }
}

/// The slow ways out of store_sums, of `count` lanes in memory: int32 sums, or any rounding and any shift.
template <class Arch, int Vectors>
[[gnu::noinline]] void store_sums_slowly(void* out, std::int64_t stride, std::int32_t* lanes, requantize_block block,
                                         int count) {
    using ops = simd::integer<Arch>;
    if (block.kind == epilogue::accumulators) {
        auto* sums = static_cast<std::int32_t*>(out);
        for (int i = 0; i < Vectors * ops::lanes; ++i) {
            const int c = ops::channel_of(Vectors, i / ops::lanes, i % ops::lanes);
            if (c < count) sums[c * stride] = lanes[i] - block.rounding_constant[i];
        }
        return;
    }
    shift_lanes<Arch>(lanes, block.shift, Vectors * ops::lanes, block.mode);
    typename ops::reg acc[Vectors];
    for (int v = 0; v < Vectors; ++v) acc[v] = ops::load(lanes + v * ops::lanes);
    std::int8_t row[Vectors * ops::lanes];
    ops::template store_codes<Vectors>(row, acc, block.range, Vectors * ops::lanes);
    auto* codes = static_cast<std::int8_t*>(out);
    for (int c = 0; c < count; ++c) codes[c * stride] = row[c];
}

/// Stores `Vectors` registers of sums as int8 codes side by side: epilogue::shift, all channels.
template <class Arch, int Vectors>
PO2Q_INLINE void store_all_codes(void* out, const typename simd::integer<Arch>::reg (&acc)[Vectors],
                                 const requantize_block& block) {
    using ops = simd::integer<Arch>;
    typename ops::reg shifted[Vectors];
    simd::unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA {
        shifted[v] = ops::shift_right(acc[v], ops::load(block.shift + v * ops::lanes));
    });
    ops::template store_codes<Vectors>(static_cast<std::int8_t*>(out), shifted, block.range, Vectors * ops::lanes);
}

/// Stores `Vectors` registers of sums: the first `count` channels at `out` (+ i * stride elements), as int8 codes or
/// int32.
template <class Arch, int Vectors>
PO2Q_INLINE void store_sums(void* out, std::int64_t stride, const typename simd::integer<Arch>::reg (&acc)[Vectors],
                            const requantize_block& block, int count) {
    using ops = simd::integer<Arch>;
    if (block.kind != epilogue::shift) {
        alignas(64) std::int32_t lanes[Vectors * ops::lanes];
        simd::unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA { ops::store(lanes + v * ops::lanes, acc[v]); });
        store_sums_slowly<Arch, Vectors>(out, stride, lanes, block, count);
        return;
    }
    typename ops::reg shifted[Vectors];
    simd::unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA {
        shifted[v] = ops::shift_right(acc[v], ops::load(block.shift + v * ops::lanes));
    });
    auto* codes = static_cast<std::int8_t*>(out);
    if (stride == 1) {
        ops::template store_codes<Vectors>(codes, shifted, block.range, count);
        return;
    }
    std::int8_t row[Vectors * ops::lanes];
    ops::template store_codes<Vectors>(row, shifted, block.range, Vectors * ops::lanes);
    for (int c = 0; c < count; ++c) codes[c * stride] = row[c];
}

/// How the pixels of a tile of Vectors registers each are stored. Where the instruction set has a pixel_group, pixels
/// that fill but part of a register leave together.
template <class Arch, int Vectors>
struct tile_store {
    using ops = simd::integer<Arch>;
    using reg = typename ops::reg;

    PO2Q_INLINE explicit tile_store(int) {}
    template <int Pixels>
    PO2Q_INLINE void operator()(void* const (&out)[Pixels], const reg (&acc)[Pixels][Vectors],
                                const requantize_block& block, int count) const {
        simd::unroll<Pixels>([&](auto p)
                                 PO2Q_INLINE_LAMBDA { store_sums<Arch, Vectors>(out[p], 1, acc[p], block, count); });
    }
};

#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
template <class Arch, int Vectors>
requires(Vectors < 3 && is_at_least<arch::avx512bw, Arch>) struct tile_store<Arch, Vectors> {
    using ops = simd::integer<Arch>;
    using reg = typename ops::reg;
    using group = typename ops::template pixel_group<Vectors>;
    group pixels;

    PO2Q_INLINE explicit tile_store(int count) : pixels(count) {}
    template <int Pixels>
    PO2Q_INLINE void operator()(void* const (&out)[Pixels], const reg (&acc)[Pixels][Vectors],
                                const requantize_block& block, int count) const {
        constexpr int groups = Pixels / group::pixels;
        constexpr int grouped = groups * group::pixels;
        if (block.kind == epilogue::shift)
            simd::unroll<groups>([&](auto g) PO2Q_INLINE_LAMBDA {
                reg shifted[group::pixels * Vectors];
                simd::unroll<group::pixels * Vectors>([&](auto i) PO2Q_INLINE_LAMBDA {
                    shifted[i] = ops::shift_right(acc[g * group::pixels + i / Vectors][i % Vectors],
                                                  ops::load(block.shift + i % Vectors * ops::lanes));
                });
                pixels.store(out + g * group::pixels, shifted, block.range, count);
            });
        else
            simd::unroll<grouped>(
                [&](auto p) PO2Q_INLINE_LAMBDA { store_sums<Arch, Vectors>(out[p], 1, acc[p], block, count); });
        simd::unroll<Pixels - grouped>([&](auto p) PO2Q_INLINE_LAMBDA {
            store_sums<Arch, Vectors>(out[grouped + p], 1, acc[grouped + p], block, count);
        });
    }
};
#endif

}  // namespace po2quant::kernels
