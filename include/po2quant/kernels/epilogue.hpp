#pragma once
/// From int32 sums to int8 codes, or to floats: what conv2d and depthwise_conv2d do with a tile of accumulators.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <po2quant/numerics/accumulator.hpp>
#include <po2quant/numerics/saturate.hpp>
#include <po2quant/simd/integer.hpp>
#include <po2quant/simd/mask.hpp>

namespace po2quant::kernels {

/// How sums leave a kernel.
enum class epilogue : std::uint8_t {
    /// As shift, for sums that may be saturated to int16 first (words_suffice): a multiplication of words instead of a
    /// shift of dwords.
    shift_words,
    /// All shifts are 0..31 and the rounding constant is in the bias already: shift, saturate, clamp. half_up and
    /// floor.
    shift,
    /// Any rounding mode, shifts −31..31 that do not take sums beyond int32: nudged, then as shift.
    round,
    /// Any rounding mode and any shift.
    any,
    /// No shift: the int32 sums with their bias, the rounding constant taken off again.
    accumulators,
    /// float(sum) * scale + addend: the exact sum rounded once where sums with an addend stay below 2^24 and scales are
    /// normal floats.
    floats,
    /// The exact sum rounded once, whatever its size: scaled_sum.
    wide_floats,
};

/// Bytes of an output.
PO2Q_INLINE constexpr std::int64_t output_bytes(epilogue kind) { return kind >= epilogue::accumulators ? 4 : 1; }

/// Whether sums of up to `magnitude` give the same int8 codes if they are saturated to int16 before a shift by `shift`:
/// where they fit, or where what int16 holds at most is still too large for int8, as 32767 / 2^8 = 127.99 is. The shift
/// is the upper half of a product with 2^(16 - shift), which int16 must hold.
constexpr bool words_suffice(int shift, std::int64_t magnitude) {
    return 2 <= shift && (shift <= 8 || (shift <= 15 && magnitude <= 32767));
}

/// The factors of a block of `vectors` registers of `lanes` sums whose shifts are 2..15: two words for each lane at
/// most, in the order that narrow gives words, an odd last register with itself.
inline void pack_factors(const std::int32_t* shift, std::int16_t* factor, int vectors, int lanes) {
    for (int v = 0; v < vectors + vectors % 2; ++v)
        for (int lane = 0; lane < lanes; ++lane) {
            const int count = shift[std::min(v, vectors - 1) * lanes + lane];
            factor[v / 2 * 2 * lanes + lane / 4 * 8 + v % 2 * 4 + lane % 4] =
                static_cast<std::int16_t>(1 << (16 - count));
        }
}

/// What `nudged` reads for `count` sums in registers of `lanes`: of each register its shifts to the left, constants,
/// and what chooses ties: half_even takes those up that have an odd integer below them, half_away those from 0 on.
/// Shifts to the right, the others 0, are left in `shift`.
inline void pack_nudges(std::int32_t* shift, rounding mode, std::int32_t* nudge, int count, int lanes) {
    for (int i = 0; i < count; ++i) {
        std::int32_t* const own = nudge + i / lanes * 4 * lanes + i % lanes;
        own[0] = std::max(-shift[i], 0);
        shift[i] = std::max(shift[i], 0);
        const bool rounds = shift[i] > 0 && mode != rounding::floor;
        own[lanes] = rounds ? (std::int32_t{1} << (shift[i] - 1)) - (mode == rounding::half_even) : 0;
        own[2 * lanes] = mode == rounding::half_even ? shift[i] : 31;
        own[3 * lanes] = rounds ? (mode == rounding::half_even) - (mode == rounding::half_away) : 0;
    }
}

/// What happens to the sums of a block of output channels. Arrays are int32 in the lane order of the block
/// (channel_of).
struct requantize_block {
    const std::int32_t* shift;
    const std::int16_t* factor;             ///< read by `shift_words` only: 2^(16 - shift) in the order of narrow
    const std::int32_t* rounding_constant;  ///< in the bias; read by `accumulators` only
    code_range range;
    rounding mode;
    epilogue kind;
    const std::int32_t* nudge = nullptr;  ///< read by `round` only: pack_nudges
    const float* scale = nullptr;         ///< read by `floats` only: 2^shift
    const float* addend = nullptr;  ///< read by `floats` and `wide_floats`, which take shift as the exponent of sums
    bool stream = false;            ///< `floats` of whole blocks, aligned to 64 bytes all of them, go past the caches

    /// That of a block whose arrays begin at lane `lane` of these.
    PO2Q_INLINE requantize_block from_lane(std::int64_t lane) const {
        requantize_block block = *this;
        block.shift += lane;
        if (kind == epilogue::floats) block.scale += lane;
        if (kind >= epilogue::floats) {
            block.addend += lane;
            return block;
        }
        if (kind == epilogue::shift_words) block.factor += 2 * lane;
        if (kind == epilogue::round) block.nudge += 4 * lane;
        block.rounding_constant += lane;
        return block;
    }
};

/// The registers of one pixel from memory, or to it: the same functions in tiles of all sizes, since compilers spend
/// most of their time on small ones.
template <class Arch, int Vectors>
PO2Q_INLINE void load_registers(typename simd::integer<Arch>::reg (&acc)[Vectors], const std::int32_t* from) {
    using ops = simd::integer<Arch>;
    simd::unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA { acc[v] = ops::load(from + v * ops::lanes); });
}
template <class Arch, int Vectors>
PO2Q_INLINE void store_registers(std::int32_t* to, const typename simd::integer<Arch>::reg (&acc)[Vectors]) {
    using ops = simd::integer<Arch>;
    simd::unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA { ops::store(to + v * ops::lanes, acc[v]); });
}

/// channel_of under a name that carries Arch, since its address goes into tables.
template <class Arch>
int channel_of_lane(int vectors, int vector, int lane) {
    return simd::integer<Arch>::channel_of(vectors, vector, lane);
}

/// A register of sums, from lane `lane` on, as epilogue::shift rounds them by any mode, with v = sum << left:
/// v + constant + (v >> sign & mask).
template <class Arch>
PO2Q_INLINE typename simd::integer<Arch>::reg nudged(typename simd::integer<Arch>::reg sums,
                                                     const requantize_block& block, std::int64_t lane) {
    using ops = simd::integer<Arch>;
    const auto of = [&](int i) PO2Q_INLINE_LAMBDA { return ops::load(block.nudge + 4 * lane + i * ops::lanes); };
    const auto v = ops::shift_left(sums, of(0));
    return ops::add(ops::add(v, of(1)), ops::bit_and(ops::shift_right(v, of(2)), of(3)));
}

/// Nudged sums from memory.
template <class Arch, int Vectors>
PO2Q_INLINE void load_nudged(typename simd::integer<Arch>::reg (&acc)[Vectors], const std::int32_t* from,
                             const requantize_block& block) {
    using ops = simd::integer<Arch>;
    simd::unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA {
        acc[v] = nudged<Arch>(ops::load(from + v * ops::lanes), block, v * ops::lanes);
    });
}

/// The first `count` sums of `vectors` registers in memory, as int32 or as floats that are rounded by wider arithmetic
/// or lie apart.
template <class Arch>
[[gnu::noinline]] void store_uncoded(void* out, std::int64_t stride, const std::int32_t* lanes,
                                     const requantize_block& block, int vectors, int count) {
    constexpr int own = simd::integer<Arch>::lanes;
    for (int i = 0; i < vectors * own; ++i) {
        const int c = simd::integer<Arch>::channel_of(vectors, i / own, i % own);
        if (c >= count) continue;
        if (block.kind == epilogue::accumulators)
            static_cast<std::int32_t*>(out)[c * stride] = lanes[i] - block.rounding_constant[i];
        else static_cast<float*>(out)[c * stride] = scaled_sum(lanes[i], block.shift[i], block.addend[i]);
    }
}

/// From sums to int8 codes by epilogue::shift and shift_words, for blocks of `Vectors` registers of sums. Shifts and
/// factors are operands in memory: registers are for sums. Words: of blocks that all go by shift_words, so that kernels
/// need not ask.
template <class Arch, int Vectors, bool Words = false>
class code_store {
    using ops = simd::integer<Arch>;
    using reg = typename ops::reg;

public:
    using words = typename ops::words;
    static constexpr int half = (Vectors + 1) / 2;  ///< registers of words

    /// For the sums of `block` from lane `lane` on.
    PO2Q_INLINE explicit code_store(const requantize_block& block, std::int64_t lane = 0)
        : range_(block.range), by_words_(block.kind == epilogue::shift_words) {
        if (!Words) shift_ = block.shift + lane;
        if (by_words()) factor_ = block.factor + 2 * lane;
    }
    /// Shifted sums of registers 2·I and 2·I + 1, narrowed; an odd last register stands for both.
    template <int I>
    PO2Q_INLINE words narrow(reg a, reg b) const {
        return by_words() ? ops::multiply_high(ops::narrow(a, b), factor<I>()) : shift_and_narrow<I>(a, b);
    }
    template <int I>
    PO2Q_INLINE words shift_and_narrow(reg a, reg b) const {
        return ops::narrow(ops::shift_right(a, shift(2 * I)), ops::shift_right(b, shift(last(I))));
    }
    template <int I>
    PO2Q_INLINE words factor() const {
        return ops::load_words(factor_ + 2 * I * ops::lanes);
    }
    /// The first `count` codes at p.
    PO2Q_INLINE void store(void* p, const reg (&acc)[Vectors], int count) const {
        words w[half];
        simd::unroll<half>([&](auto i) PO2Q_INLINE_LAMBDA { w[i] = narrow<i>(acc[2 * i], acc[last(i)]); });
        ops::template store_narrowed<Vectors>(static_cast<std::int8_t*>(p), w, range_, count);
    }
    /// Of 64 or 16 codes at p, those of registers 2·Half and 2·Half + 1 of 4.
    template <int Half>
    PO2Q_INLINE void store_half(void* p, const reg (&acc)[2]) const {
        ops::template store_half<Half>(static_cast<std::int8_t*>(p), narrow<Half>(acc[0], acc[1]), range_);
    }
    PO2Q_INLINE code_range range() const { return range_; }

private:
    static constexpr int last(int i) { return 2 * i + 1 < Vectors ? 2 * i + 1 : Vectors - 1; }
    PO2Q_INLINE bool by_words() const { return Words || by_words_; }
    PO2Q_INLINE reg shift(int v) const { return ops::load(shift_ + v * ops::lanes); }

    const std::int32_t* shift_ = nullptr;
    const std::int16_t* factor_ = nullptr;
    code_range range_;
    bool by_words_;
};

/// The other ways out of store_sums: those of store_uncoded, nudged sums, or codes by any rounding and any shift.
template <class Arch, int Vectors>
[[gnu::noinline]] void store_sums_slowly(void* out, std::int64_t stride, std::int32_t* lanes,
                                         const requantize_block& block, int count) {
    using ops = simd::integer<Arch>;
    if (block.kind >= epilogue::accumulators) return store_uncoded<Arch>(out, stride, lanes, block, Vectors, count);
    constexpr int half = (Vectors + 1) / 2;
    typename ops::words words[half];
    if (block.kind == epilogue::round) {
        typename ops::reg acc[Vectors];
        load_nudged<Arch, Vectors>(acc, lanes, block);
        const code_store<Arch, Vectors> codes(block);
        simd::unroll<half>([&](auto i) PO2Q_INLINE_LAMBDA {
            words[i] = codes.template shift_and_narrow<i>(acc[2 * i], acc[std::min(2 * i + 1, Vectors - 1)]);
        });
    } else {
        for (int i = 0; i < Vectors * ops::lanes; ++i) lanes[i] = shift_right(lanes[i], block.shift[i], block.mode);
        for (int i = 0; i < half; ++i)
            words[i] = ops::narrow(ops::load(lanes + 2 * i * ops::lanes),
                                   ops::load(lanes + std::min(2 * i + 1, Vectors - 1) * ops::lanes));
    }
    auto* codes = static_cast<std::int8_t*>(out);
    if (stride == 1) return ops::template store_narrowed<Vectors>(codes, words, block.range, count);
    std::int8_t row[Vectors * ops::lanes];
    ops::template store_narrowed<Vectors>(row, words, block.range, Vectors * ops::lanes);
    for (int c = 0; c < count; ++c) codes[c * stride] = row[c];
}

/// A register of sums from lane `lane` on as floats, by epilogue::floats.
template <class Arch>
PO2Q_INLINE typename simd::integer<Arch>::floats scaled(typename simd::integer<Arch>::reg sums,
                                                        const requantize_block& block, std::int64_t lane) {
    return simd::integer<Arch>::scale(sums, block.scale + lane, block.addend + lane);
}

/// Stores `Vectors` registers of sums, from lane `lane` of the block on, by epilogue::floats: the first `count`
/// channels side by side.
template <class Arch, int Vectors>
PO2Q_INLINE void store_floats(void* out, const typename simd::integer<Arch>::reg (&acc)[Vectors],
                              const requantize_block& block, int count, std::int64_t lane = 0) {
    using ops = simd::integer<Arch>;
    typename ops::floats y[Vectors];
    simd::unroll<Vectors>([&](auto v)
                              PO2Q_INLINE_LAMBDA { y[v] = scaled<Arch>(acc[v], block, lane + v * ops::lanes); });
    ops::template store_channels<Vectors>(static_cast<float*>(out), y, count, block.stream);
}

/// Stores `Vectors` registers of sums: the first `count` channels at `out` (+ i * stride elements), as int8 codes,
/// int32 or floats.
template <class Arch, int Vectors>
PO2Q_INLINE void store_sums(void* out, std::int64_t stride, const typename simd::integer<Arch>::reg (&acc)[Vectors],
                            const requantize_block& block, const code_store<Arch, Vectors>& codes, int count) {
    using ops = simd::integer<Arch>;
    if (block.kind > epilogue::shift) {
        if (block.kind == epilogue::floats && stride == 1) {
            store_floats<Arch, Vectors>(out, acc, block, count);
            return;
        }
        alignas(64) std::int32_t lanes[Vectors * ops::lanes];
        store_registers<Arch, Vectors>(lanes, acc);
        store_sums_slowly<Arch, Vectors>(out, stride, lanes, block, count);
        return;
    }
    if (stride == 1) return codes.store(out, acc, count);
    std::int8_t row[Vectors * ops::lanes];
    codes.store(row, acc, Vectors * ops::lanes);
    for (int c = 0; c < count; ++c) static_cast<std::int8_t*>(out)[c * stride] = row[c];
}

/// store_sums of registers in memory: out of kernels that mostly do something else.
template <class Arch, int Vectors>
[[gnu::noinline]] void store_sums_apart(void* out, std::int64_t stride, const std::int32_t* sums,
                                        const requantize_block& block, int count) {
    typename simd::integer<Arch>::reg acc[Vectors];
    load_registers<Arch, Vectors>(acc, sums);
    store_sums<Arch, Vectors>(out, stride, acc, block, code_store<Arch, Vectors>(block), count);
}

/// The pixels of a tile, `step` bytes from one to the next, from sums in memory, by all that are not shift or
/// shift_words: out of the kernels, whose code it would double.
template <class Arch, int Vectors>
[[gnu::noinline]] void store_tile_apart(char* out, std::int64_t step, std::int32_t* sums, int pixels,
                                        const requantize_block& block, int count) {
    using ops = simd::integer<Arch>;
    constexpr int lanes = Vectors * ops::lanes;
    const requantize_block own = block;
    const code_store<Arch, Vectors> codes(own);
    for (int p = 0; p < pixels; ++p, out += step, sums += lanes) {
        if (own.kind == epilogue::floats) {
            typename ops::reg acc[Vectors];
            load_registers<Arch, Vectors>(acc, sums);
            store_floats<Arch, Vectors>(out, acc, own, count);
        } else if (own.kind == epilogue::round) {
            typename ops::reg acc[Vectors];
            load_nudged<Arch, Vectors>(acc, sums, own);
            codes.store(out, acc, count);
        } else {
            store_sums_slowly<Arch, Vectors>(out, 1, sums, own, count);
        }
    }
}

/// How the pixels of a tile of Vectors registers each become int8 codes, `step` bytes from one to the next. Where the
/// instruction set has a pixel_group, pixels that fill but part of a register leave together.
template <class Arch, int Vectors>
struct tile_store {
    using reg = typename simd::integer<Arch>::reg;
    code_store<Arch, Vectors> codes;

    PO2Q_INLINE tile_store(const requantize_block& block, int) : codes(block) {}
    template <int... P>
    PO2Q_INLINE void operator()(char* out, std::int64_t step, const reg (&acc)[sizeof...(P)][Vectors],
                                const requantize_block&, int count, simd::indices<P...>) const {
        (codes.store(out + P * step, acc[P], count), ...);
    }
};

#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
template <class Arch, int Vectors>
requires(Vectors < 3 && is_at_least<arch::avx512bw, Arch>) struct tile_store<Arch, Vectors> {
    using ops = simd::integer<Arch>;
    using reg = typename ops::reg;
    using words = typename ops::words;
    using group = typename ops::template pixel_group<Vectors>;
    code_store<Arch, Vectors> codes;
    words factor;  ///< of shift_words; there are registers to keep it
    group pixels;

    PO2Q_INLINE tile_store(const requantize_block& block, int count)
        : codes(block),
          factor(block.kind == epilogue::shift_words ? codes.template factor<0>() : ops::zero_words()),
          pixels(count) {}
    template <int... P>
    PO2Q_INLINE void operator()(char* out, std::int64_t step, const reg (&acc)[sizeof...(P)][Vectors],
                                const requantize_block& block, int count, simd::indices<P...>) const {
        constexpr int groups = sizeof...(P) / group::pixels;
        constexpr int grouped = groups * group::pixels;
        constexpr int single = sizeof...(P) - grouped;
        if constexpr (single > 0) store_singly(out + grouped * step, step, acc + grouped, count, simd::up_to<single>);
        if constexpr (groups > 0) store_groups(out, step, acc, block, count, simd::up_to<groups>);
    }

private:
    template <int... P>
    PO2Q_INLINE void store_singly(char* out, std::int64_t step, const reg (*acc)[Vectors], int count,
                                  simd::indices<P...>) const {
        (codes.store(out + P * step, acc[P], count), ...);
    }
    template <int... G>
    PO2Q_INLINE void store_groups(char* out, std::int64_t step, const reg (*acc)[Vectors],
                                  const requantize_block& block, int count, simd::indices<G...> groups) const {
        typename ops::bytes packed[sizeof...(G)];
        if (block.kind == epilogue::shift_words) ((packed[G] = pack<true>(acc + G * group::pixels)), ...);
        else ((packed[G] = pack<false>(acc + G * group::pixels)), ...);
        pixels.template store<Arch>(out, step, packed, count, groups);
    }
    /// The codes of a group: two registers of a pixel, or those of two pixels.
    template <bool ByWords>
    PO2Q_INLINE typename ops::bytes pack(const reg (*acc)[Vectors]) const {
        constexpr int pixel = 2 / Vectors;
        const words both[2] = {narrow<ByWords>(acc[0][0], acc[1 / Vectors][1 % Vectors]),
                               narrow<ByWords>(acc[pixel][0], acc[pixel + 1 / Vectors][1 % Vectors])};
        return pixels.pack(both, codes.range());
    }
    template <bool ByWords>
    PO2Q_INLINE words narrow(reg a, reg b) const {
        if constexpr (ByWords) return ops::multiply_high(ops::narrow(a, b), factor);
        else return codes.template shift_and_narrow<0>(a, b);
    }
};
#endif

/// Stores a tile: its pixels are `step` bytes apart.
template <class Arch, int Vectors, int... P>
PO2Q_INLINE void store_tile(char* out, std::int64_t step,
                            const typename simd::integer<Arch>::reg (&acc)[sizeof...(P)][Vectors],
                            const requantize_block& block, const tile_store<Arch, Vectors>& codes, int count,
                            simd::indices<P...> pixels) {
    using ops = simd::integer<Arch>;
    if (block.kind <= epilogue::shift) {
        codes(out, step, acc, block, count, pixels);
        return;
    }
    constexpr int lanes = Vectors * ops::lanes;
    alignas(64) std::int32_t sums[sizeof...(P) * lanes];
    (store_registers<Arch, Vectors>(sums + P * lanes, acc[P]), ...);
    store_tile_apart<Arch, Vectors>(out, step, sums, sizeof...(P), block, count);
}

}  // namespace po2quant::kernels
