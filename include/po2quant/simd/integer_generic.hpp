#pragma once
/// The integer primitives in plain C++: four int32 lanes, in loops that compilers turn into whatever the target has.
/// These are the definitions; the other integer_*.hpp files give the same results by instructions.
#include <cstddef>
#include <cstdint>

#include <po2quant/config.hpp>
#include <po2quant/numerics/accumulator.hpp>

namespace po2quant::simd {

/// Integer registers and operations of one instruction set.
///
///   reg     `lanes` int32; words: the same bits as 2·lanes int16; bytes: as 4·lanes int8; floats: `lanes` of them
///
/// Dot products of outputs in lanes: dot_i8 for any int8 input codes, dot_u7 for codes of 0..127 in int8, dot_i16 for
/// int16 codes; weights are int8 codes. Each has
///
///   codes          input codes that a step takes, the same for every lane: 4, or 2 of int16; 8 by pairs of pixels
///   input, weight  element types in memory
///   registers      registers that hold a step's input, and as many its weights for `lanes` outputs: code k meets
///                  weight k, which is number k / registers of its lane in register k % registers
///   keep_weights   which of the two a tile keeps in registers while it goes through the other
///   scratch        registers that dot needs besides
///   input_offset   what it adds to every code: sums come out too large by offset · Σ weights, which packing takes off
/// and, where instructions want it,
///
///   halves_apart   of the dwords of 4 neighbouring lanes' weights the lower halves come first, then the upper ones
///   group          steps whose codes one register holds, loaded by load_group: dot<k> takes those of the k-th
///   pair_sums      its sums for `lanes` outputs of two pixels, whose codes load_pair loads: dot takes both
///
/// Where dot_i8 has an input offset of 128, dot_u7 takes any unsigned byte, weights packed alike, and offset_bytes
/// makes such bytes of codes.
struct integer_generic {
    static constexpr int lanes = 4;
    static constexpr int registers = 16;
    struct reg {
        std::int32_t lane[lanes];
    };
    struct words {
        std::int16_t lane[2 * lanes];
    };
    struct bytes {
        std::int8_t lane[4 * lanes];
    };
    struct floats {
        float lane[lanes];
    };

    // ---- int32 lanes ----

    static PO2Q_INLINE reg load(const std::int32_t* p) {
        reg r;
        __builtin_memcpy(&r, p, sizeof r);
        return r;
    }
    static PO2Q_INLINE void store(std::int32_t* p, reg r) { __builtin_memcpy(p, &r, sizeof r); }
    static PO2Q_INLINE reg set(std::int32_t v) { return {{v, v, v, v}}; }
    /// `lanes` codes, widened.
    template <class Code>
    static PO2Q_INLINE reg load_codes(const Code* p) {
        reg r;
        for (int i = 0; i < lanes; ++i) r.lane[i] = p[i];
        return r;
    }
    static PO2Q_INLINE reg add(reg a, reg b) {
        for (int i = 0; i < lanes; ++i)
            a.lane[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(a.lane[i]) +
                                                  static_cast<std::uint32_t>(b.lane[i]));
        return a;
    }
    static PO2Q_INLINE reg sub(reg a, reg b) {
        for (int i = 0; i < lanes; ++i)
            a.lane[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(a.lane[i]) -
                                                  static_cast<std::uint32_t>(b.lane[i]));
        return a;
    }
    static PO2Q_INLINE reg bit_and(reg a, reg b) {
        for (int i = 0; i < lanes; ++i) a.lane[i] &= b.lane[i];
        return a;
    }
    /// Shifts by counts of 0..31, per lane: arithmetic right, logical right, left.
    static PO2Q_INLINE reg shift_right(reg a, reg count) {
        for (int i = 0; i < lanes; ++i) a.lane[i] >>= count.lane[i];
        return a;
    }
    static PO2Q_INLINE reg shift_right_logical(reg a, reg count) {
        for (int i = 0; i < lanes; ++i)
            a.lane[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(a.lane[i]) >> count.lane[i]);
        return a;
    }
    static PO2Q_INLINE reg shift_left(reg a, reg count) {
        for (int i = 0; i < lanes; ++i)
            a.lane[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(a.lane[i]) << count.lane[i]);
        return a;
    }

    // ---- dot products ----

    template <class Code>
    struct dot_plain {
        using input = Code;
        using weight = Code;
        static constexpr int codes = 4 / static_cast<int>(sizeof(Code));
        static constexpr int registers = 1;
        static constexpr bool keep_weights = true;
        static constexpr int scratch = 4;
        static constexpr int input_offset = 0;

        struct step {
            Code code[codes];
        };
        struct step_weights {
            Code code[codes * lanes];
        };
        static PO2Q_INLINE step broadcast(const input* p) {
            step s;
            __builtin_memcpy(&s, p, sizeof s);
            return s;
        }
        /// The first `count` codes at p, 0 for the rest, nothing behind them read: count 1 … codes − 1.
        static PO2Q_INLINE step broadcast_first(const input* p, int count) {
            step s{};
            for (int i = 0; i < count; ++i) s.code[i] = p[i];
            return s;
        }
        static PO2Q_INLINE step_weights load(const weight* p) {
            step_weights w;
            __builtin_memcpy(&w, p, sizeof w);
            return w;
        }
        /// acc + Σ_k (x[k] + input_offset) * w[lane][k]
        static PO2Q_INLINE reg dot(reg acc, step x, step_weights w) {
            reg sum = set(0);
            for (int i = 0; i < lanes; ++i)
                for (int k = 0; k < codes; ++k) sum.lane[i] += x.code[k] * w.code[codes * i + k];
            return add(acc, sum);
        }
    };
    using dot_i8 = dot_plain<std::int8_t>;
    using dot_u7 = dot_i8;
    using dot_i16 = dot_plain<std::int16_t>;

    // ---- channels in lanes: depthwise and pools ----

    /// 2·lanes int8, widened in order; the second form reads `count` and fills with 0.
    static PO2Q_INLINE words widen(const std::int8_t* p) {
        words w;
        for (int i = 0; i < 2 * lanes; ++i) w.lane[i] = p[i];
        return w;
    }
    static PO2Q_INLINE words widen_first(const std::int8_t* p, int count) {
        words w{};
        for (int i = 0; i < count; ++i) w.lane[i] = p[i];
        return w;
    }
    static PO2Q_INLINE words load_words(const std::int16_t* p) {
        words w;
        __builtin_memcpy(&w, p, sizeof w);
        return w;
    }
    static PO2Q_INLINE words zero_words() { return {}; }
    /// Words of a and b in turn, from the low (high) half of every 128 bits: lane i of the pair's 2·lanes results is
    /// channel (i / 4) * 8 + i % 4, and 4 more for high. narrow undoes that order. Where the instruction set has
    /// halves_apart, the half of a comes first, then that of b.
    static PO2Q_INLINE words interleave_low(words a, words b) {
        words w;
        for (int i = 0; i < lanes; ++i) {
            w.lane[2 * i] = a.lane[i];
            w.lane[2 * i + 1] = b.lane[i];
        }
        return w;
    }
    static PO2Q_INLINE words interleave_high(words a, words b) {
        words w;
        for (int i = 0; i < lanes; ++i) {
            w.lane[2 * i] = a.lane[lanes + i];
            w.lane[2 * i + 1] = b.lane[lanes + i];
        }
        return w;
    }
    /// acc + a[2i] * b[2i] + a[2i+1] * b[2i+1], of words as interleaved
    static PO2Q_INLINE reg multiply_add(reg acc, words a, words b) {
        reg sum = set(0);
        for (int i = 0; i < lanes; ++i)
            sum.lane[i] = a.lane[2 * i] * b.lane[2 * i] + a.lane[2 * i + 1] * b.lane[2 * i + 1];
        return add(acc, sum);
    }
    static PO2Q_INLINE words set_words(int v) {
        words w;
        for (int i = 0; i < 2 * lanes; ++i) w.lane[i] = static_cast<std::int16_t>(v);
        return w;
    }
    /// Sums that int16 holds; shifts of all words by 0..15, left (of what int16 then holds) and arithmetic right.
    static PO2Q_INLINE words add_words(words a, words b) {
        for (int i = 0; i < 2 * lanes; ++i) a.lane[i] = static_cast<std::int16_t>(a.lane[i] + b.lane[i]);
        return a;
    }
    static PO2Q_INLINE words and_words(words a, words b) {
        for (int i = 0; i < 2 * lanes; ++i) a.lane[i] = static_cast<std::int16_t>(a.lane[i] & b.lane[i]);
        return a;
    }
    static PO2Q_INLINE words max_words(words a, words b) {
        for (int i = 0; i < 2 * lanes; ++i) a.lane[i] = a.lane[i] < b.lane[i] ? b.lane[i] : a.lane[i];
        return a;
    }
    static PO2Q_INLINE words shift_left_words(words a, int count) {
        for (int i = 0; i < 2 * lanes; ++i) a.lane[i] = static_cast<std::int16_t>(a.lane[i] * (1 << count));
        return a;
    }
    static PO2Q_INLINE words shift_right_words(words a, int count) {
        for (int i = 0; i < 2 * lanes; ++i) a.lane[i] = static_cast<std::int16_t>(a.lane[i] >> count);
        return a;
    }
    /// clamp(low), clamp(high) to `range` as 4·lanes int8 in order.
    static PO2Q_INLINE void store_words(std::int8_t* p, words low, words high, code_range range) {
        for (int i = 0; i < 2 * lanes; ++i) {
            p[i] = static_cast<std::int8_t>(po2quant::clamp<std::int32_t>(low.lane[i], range.low, range.high));
            p[2 * lanes + i] =
                static_cast<std::int8_t>(po2quant::clamp<std::int32_t>(high.lane[i], range.low, range.high));
        }
    }
    static PO2Q_INLINE bytes load_bytes(const std::int8_t* p) {
        bytes b;
        __builtin_memcpy(&b, p, sizeof b);
        return b;
    }
    static PO2Q_INLINE void store_bytes(std::int8_t* p, bytes b) { __builtin_memcpy(p, &b, sizeof b); }
    static PO2Q_INLINE bytes max_bytes(bytes a, bytes b) {
        for (int i = 0; i < 4 * lanes; ++i) a.lane[i] = a.lane[i] < b.lane[i] ? b.lane[i] : a.lane[i];
        return a;
    }

    // ---- weights in ----

    /// 16 codes of each of 4 rows as bytes, or of 2 rows as words: dword i of `to` holds code i of all rows, the first
    /// row's lowest.
    static PO2Q_INLINE void interleave_rows(const std::int8_t* const (&row)[4], std::int32_t* to) {
        std::int8_t codes[64];
        for (int i = 0; i < 64; ++i) codes[i] = row[i % 4][i / 4];
        __builtin_memcpy(to, codes, sizeof codes);
    }
    static PO2Q_INLINE void interleave_rows(const std::int8_t* const (&row)[2], std::int32_t* to) {
        std::int16_t codes[32];
        for (int i = 0; i < 32; ++i) codes[i] = row[i % 2][i / 2];
        __builtin_memcpy(to, codes, sizeof codes);
    }

    // ---- codes out ----

    /// Which output channel lane `lane` of register `vector` holds in a group of `vectors` registers, chosen so that
    /// saturating packs leave the channels in order: n registers 4·n channels per 128 bits, 1 in order.
    static constexpr int channel_of(int vectors, int vector, int lane) {
        return vectors == 1 ? lane : lane / 4 * 4 * vectors + 4 * vector + lane % 4;
    }

    /// Two registers saturated to int16, in the order of saturating packs: of every 128 bits 4 lanes of a, then 4 of b.
    static PO2Q_INLINE words narrow(reg a, reg b) {
        words w;
        for (int i = 0; i < lanes; ++i) {
            w.lane[i] = saturate<std::int16_t>(a.lane[i]);
            w.lane[lanes + i] = saturate<std::int16_t>(b.lane[i]);
        }
        return w;
    }
    /// floor(a * b / 2^16)
    static PO2Q_INLINE words multiply_high(words a, words b) {
        for (int i = 0; i < 2 * lanes; ++i) {
            std::int32_t product = a.lane[i] * b.lane[i];
#if (defined(__riscv) || (defined(__arm__) && !defined(__ARM_NEON))) && !defined(__clang__)
            asm("" : "+r"(product));  // else g++ 12 computes four of them by one unsigned product of 64 bits
#endif
            a.lane[i] = static_cast<std::int16_t>(product >> 16);
        }
        return a;
    }
    /// clamp(w) to `range` as the first `count` of Vectors·lanes int8 at p, in channel order; nothing behind is
    /// touched. `w` are Vectors registers narrowed by twos, an odd last one with itself.
    template <int Vectors>
    static PO2Q_INLINE void store_narrowed(std::int8_t* p, const words (&w)[(Vectors + 1) / 2], code_range range,
                                           int count) {
        for (int v = 0; v < Vectors; ++v)
            for (int i = 0; i < lanes; ++i) {
                const int c = channel_of(Vectors, v, i);
                const std::int32_t code = w[v / 2].lane[v % 2 * lanes + i];
                if (c < count)
                    p[c] = static_cast<std::int8_t>(po2quant::clamp<std::int32_t>(code, range.low, range.high));
            }
    }
    /// Of the codes of 4 registers at p, those of registers 2·Half and 2·Half + 1.
    template <int Half>
    static PO2Q_INLINE void store_half(std::int8_t* p, words w, code_range range) {
        for (int v = 0; v < 2; ++v)
            for (int i = 0; i < lanes; ++i)
                p[channel_of(4, 2 * Half + v, i)] = static_cast<std::int8_t>(
                    po2quant::clamp<std::int32_t>(w.lane[v * lanes + i], range.low, range.high));
    }

    // ---- floats out ----

    /// a * scale + addend, the int32 rounded to a float, or the last sum, but never both: whether they are fused is all
    /// the same.
    static PO2Q_INLINE floats scale(reg a, const float* scale, const float* addend) {
        floats y;
        for (int i = 0; i < lanes; ++i) y.lane[i] = static_cast<float>(a.lane[i]) * scale[i] + addend[i];
        return y;
    }
    /// The 128 bits h of a register at p + h * stride. `stream`: past the caches, if the instruction set can; then p is
    /// aligned to 16 bytes, in store_channels to 64. stream_fence orders such stores before later ones.
    static PO2Q_INLINE void store_quarters(float* p, std::int64_t stride, floats y, bool /* stream */) {
        for (int i = 0; i < lanes; ++i) p[i / 4 * stride + i % 4] = y.lane[i];
    }
    /// The first `count` of Vectors·lanes floats at p, in channel order; nothing behind is touched.
    template <int Vectors>
    static PO2Q_INLINE void store_channels(float* p, const floats (&y)[Vectors], int count, bool /* stream */) {
        for (int v = 0; v < Vectors; ++v)
            for (int i = 0; i < lanes; ++i)
                if (const int c = channel_of(Vectors, v, i); c < count) p[c] = y[v].lane[i];
    }
};

/// Whether the halves of packed dwords lie apart for a dot product, or for multiply_add of an instruction set.
template <class T>
inline constexpr bool halves_apart = requires {
    requires T::halves_apart;
};

/// The primitives of an architecture; specialised where instructions do better.
template <class Arch>
struct integer : integer_generic {};

}  // namespace po2quant::simd
