#pragma once
/// Integer primitives of AArch64's NEON: 4 lanes, products of half registers that widen, sums of neighbours that widen.
#include <po2quant/simd/arch.hpp>
#include <po2quant/simd/integer_generic.hpp>
#include <po2quant/simd/unroll.hpp>

#if defined(__aarch64__)
#include <arm_neon.h>

namespace po2quant::simd {

template <>
struct integer<arch::neon64> {
    static constexpr int lanes = 4;
    static constexpr int registers = 32;
    static constexpr bool halves_apart = true;

    using reg = int32x4_t;
    using words = int16x8_t;
    using bytes = int8x16_t;
    using floats = float32x4_t;

    static PO2Q_INLINE reg load(const std::int32_t* p) { return vld1q_s32(p); }
    static PO2Q_INLINE void store(std::int32_t* p, reg r) { vst1q_s32(p, r); }
    static PO2Q_INLINE reg set(std::int32_t v) { return vdupq_n_s32(v); }
    static PO2Q_INLINE reg load_codes(const std::int8_t* p) { return vmovl_s16(vget_low_s16(vmovl_s8(load_dword(p)))); }
    static PO2Q_INLINE reg load_codes(const std::int16_t* p) { return vmovl_s16(vld1_s16(p)); }
    static PO2Q_INLINE reg add(reg a, reg b) { return vaddq_s32(a, b); }
    static PO2Q_INLINE reg sub(reg a, reg b) { return vsubq_s32(a, b); }
    static PO2Q_INLINE reg bit_and(reg a, reg b) { return vandq_s32(a, b); }
    static PO2Q_INLINE reg shift_right(reg a, reg count) { return vshlq_s32(a, vnegq_s32(count)); }
    static PO2Q_INLINE reg shift_right_logical(reg a, reg count) {
        return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vnegq_s32(count)));
    }
    static PO2Q_INLINE reg shift_left(reg a, reg count) { return vshlq_s32(a, count); }
    /// floor(a / 2^count + 1/2), count 1..31: the sum before the shift does not overflow.
    static PO2Q_INLINE reg shift_right_half_up(reg a, reg count) { return vrshlq_s32(a, vnegq_s32(count)); }

    /// 4 bytes, 0 above; as a float, since compilers then need but one load.
    static PO2Q_INLINE int8x8_t load_dword(const void* p) {
#if !defined(__clang__)
        asm("" : "+r"(p));  // else an address that moves on is worth a second instruction to it
#endif
        float dword;
        __builtin_memcpy(&dword, p, 4);
        return vreinterpret_s8_f32(float32x2_t{dword, 0});
    }
    /// 1..7 codes in the low bytes of a register, 0 above.
    static PO2Q_INLINE int8x8_t first_codes(const std::int8_t* p, int count) {
        std::uint64_t codes = 0;
        for (int i = 0; i < count; ++i) codes |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(p[i])) << (8 * i);
        return vcreate_s8(codes);
    }

    // As with AVX-512-VNNI: operands that are read and written keep g++ from copying accumulators.
    static PO2Q_INLINE reg add_pairs(reg acc, int16x8_t products) {
#if defined(__clang__)
        return vpadalq_s16(acc, products);
#else
        asm("sadalp %0.4s, %1.8h" : "+w"(acc) : "w"(products));
        return acc;
#endif
    }
    /// acc + low half of w * x[Lane] + high half of w * x[Lane + 1]
    template <int Lane, class Words>
    static PO2Q_INLINE reg multiply_add_lanes(reg acc, words w, Words x) {
#if defined(__clang__)
        if constexpr (sizeof(Words) == 8)
            return vmlal_high_lane_s16(vmlal_lane_s16(acc, vget_low_s16(w), x, Lane), w, x, Lane + 1);
        else return vmlal_high_laneq_s16(vmlal_laneq_s16(acc, vget_low_s16(w), x, Lane), w, x, Lane + 1);
#else
        asm("smlal %0.4s, %1.4h, %2.h[%3]" : "+w"(acc) : "w"(w), "x"(x), "n"(Lane));
        asm("smlal2 %0.4s, %1.8h, %2.h[%3]" : "+w"(acc) : "w"(w), "x"(x), "n"(Lane + 1));
        return acc;
#endif
    }

    /// Any int8: products of two codes fit int16, their sums are added to int32.
    struct dot_i8 {
        using input = std::int8_t;
        using weight = std::int8_t;
        static constexpr int codes = 4;
        static constexpr int registers = 1;
        static constexpr bool halves_apart = true;
        static constexpr bool keep_weights = true;
        static constexpr int scratch = 10;  // products, and what the next steps need
        static constexpr int input_offset = 0;

        /// Codes 0 and 1, and codes 2 and 3, in every int16.
        struct step {
            int8x16_t first;
            int8x16_t second;
        };
        static PO2Q_INLINE step duplicate(int8x8_t quad) {
            const int16x4_t twos = vreinterpret_s16_s8(quad);
            return {vreinterpretq_s8_s16(vdupq_lane_s16(twos, 0)), vreinterpretq_s8_s16(vdupq_lane_s16(twos, 1))};
        }
        static PO2Q_INLINE step broadcast(const input* p) { return duplicate(load_dword(p)); }
        static PO2Q_INLINE step broadcast_first(const input* p, int count) { return duplicate(first_codes(p, count)); }
        static PO2Q_INLINE int8x16_t load(const weight* p) { return vld1q_s8(p); }
        static PO2Q_INLINE reg dot(reg acc, step x, int8x16_t w) {
            acc = add_pairs(acc, vmull_s8(vget_low_s8(x.first), vget_low_s8(w)));
            return add_pairs(acc, vmull_high_s8(x.second, w));
        }
    };
    /// Codes of 0..127: sums of two products with int8 fit int16.
    struct dot_u7 : dot_i8 {
        static constexpr int scratch = 14;
        static PO2Q_INLINE reg dot(reg acc, step x, int8x16_t w) {
            const int16x8_t products = vmull_s8(vget_low_s8(x.first), vget_low_s8(w));
            return add_pairs(acc, vmlal_high_s8(products, x.second, w));
        }
    };
    struct dot_i16 {
        using input = std::int16_t;
        using weight = std::int16_t;
        static constexpr int codes = 2;
        static constexpr int registers = 1;
        static constexpr bool halves_apart = true;
        static constexpr bool keep_weights = false;
        static constexpr int scratch = 6;  // weights of the next steps
        static constexpr int input_offset = 0;
        static constexpr int group = 4;

        static PO2Q_INLINE int16x4_t broadcast(const input* p) { return vreinterpret_s16_s8(load_dword(p)); }
        static PO2Q_INLINE int16x4_t broadcast_first(const input* p, int) {
            return vset_lane_s16(p[0], vdup_n_s16(0), 0);
        }
        static PO2Q_INLINE words load_group(const input* p) { return vld1q_s16(p); }
        static PO2Q_INLINE words load(const weight* p) { return vld1q_s16(p); }
        static PO2Q_INLINE reg dot(reg acc, int16x4_t x, words w) { return multiply_add_lanes<0>(acc, w, x); }
        template <int Step>
        static PO2Q_INLINE reg dot(reg acc, words x, words w) {
            return multiply_add_lanes<2 * Step>(acc, w, x);
        }
    };

    static PO2Q_INLINE words widen(const std::int8_t* p) { return vmovl_s8(vld1_s8(p)); }
    static PO2Q_INLINE words widen_first(const std::int8_t* p, int count) { return vmovl_s8(first_codes(p, count)); }
    static PO2Q_INLINE words load_words(const std::int16_t* p) { return vld1q_s16(p); }
    static PO2Q_INLINE words zero_words() { return vdupq_n_s16(0); }
    static PO2Q_INLINE words interleave_low(words a, words b) { return vcombine_s16(vget_low_s16(a), vget_low_s16(b)); }
    static PO2Q_INLINE words interleave_high(words a, words b) {
        return vcombine_s16(vget_high_s16(a), vget_high_s16(b));
    }
    static PO2Q_INLINE reg multiply_add(reg acc, words a, words b) {
        return vmlal_high_s16(vmlal_s16(acc, vget_low_s16(a), vget_low_s16(b)), a, b);
    }
    static PO2Q_INLINE words set_words(int v) { return vdupq_n_s16(static_cast<std::int16_t>(v)); }
    static PO2Q_INLINE words add_words(words a, words b) { return vaddq_s16(a, b); }
    static PO2Q_INLINE words and_words(words a, words b) { return vandq_s16(a, b); }
    static PO2Q_INLINE words max_words(words a, words b) { return vmaxq_s16(a, b); }
    static PO2Q_INLINE words shift_left_words(words a, int count) { return vshlq_s16(a, set_words(count)); }
    static PO2Q_INLINE words shift_right_words(words a, int count) { return vshlq_s16(a, set_words(-count)); }
    static PO2Q_INLINE void store_words(std::int8_t* p, words low, words high, code_range range) {
        store_bytes(p, pack_codes(low, high, range));
    }
    static PO2Q_INLINE bytes load_bytes(const std::int8_t* p) { return vld1q_s8(p); }
    static PO2Q_INLINE void store_bytes(std::int8_t* p, bytes b) { vst1q_s8(p, b); }
    static PO2Q_INLINE bytes max_bytes(bytes a, bytes b) { return vmaxq_s8(a, b); }

    static PO2Q_INLINE void interleave_rows(const std::int8_t* const (&row)[4], std::int32_t* to) {
        const int8x16x4_t rows = {{load_bytes(row[0]), load_bytes(row[1]), load_bytes(row[2]), load_bytes(row[3])}};
        vst4q_s8(reinterpret_cast<std::int8_t*>(to), rows);
    }
    static PO2Q_INLINE void interleave_rows(const std::int8_t* const (&row)[2], std::int32_t* to) {
        const int16x8x2_t low = {{widen(row[0]), widen(row[1])}};
        const int16x8x2_t high = {{widen(row[0] + 8), widen(row[1] + 8)}};
        vst2q_s16(reinterpret_cast<std::int16_t*>(to), low);
        vst2q_s16(reinterpret_cast<std::int16_t*>(to + 8), high);
    }

    static constexpr int channel_of(int vectors, int vector, int lane) {
        return integer_generic::channel_of(vectors, vector, lane);
    }
    static PO2Q_INLINE words narrow(reg a, reg b) { return vqmovn_high_s32(vqmovn_s32(a), b); }
    /// Of all words but the products of two −2^15; the doubled product's last bit goes off.
    static PO2Q_INLINE words multiply_high(words a, words b) { return vshrq_n_s16(vqdmulhq_s16(a, b), 1); }
    static PO2Q_INLINE bytes pack_codes(words low, words high, code_range range) {
        const bytes codes = vqmovn_high_s16(vqmovn_s16(low), high);
        return vminq_s8(vmaxq_s8(codes, vdupq_n_s8(static_cast<std::int8_t>(range.low))),
                        vdupq_n_s8(static_cast<std::int8_t>(range.high)));
    }
    template <int Vectors>
    static PO2Q_INLINE void store_narrowed(std::int8_t* p, const words (&w)[(Vectors + 1) / 2], code_range range,
                                           int count) {
        static_assert(Vectors >= 1 && Vectors <= 4);
        const bytes codes = pack_codes(w[0], w[(Vectors - 1) / 2], range);
        if (count >= Vectors * lanes) {
            if constexpr (Vectors == 4) vst1q_s8(p, codes);
            else if constexpr (Vectors >= 2) vst1_s8(p, vget_low_s8(codes));
            if constexpr (Vectors == 3) store_dword<2>(p + 8, codes);
            if constexpr (Vectors == 1) store_dword<0>(p, codes);
            return;
        }
        alignas(16) std::int8_t part[16];
        vst1q_s8(part, codes);
        for (int i = 0; i < count; ++i) p[i] = part[i];
    }
    /// The codes of registers 2·Half and 2·Half + 1 of 4, of 16 codes at p.
    template <int Half>
    static PO2Q_INLINE void store_half(std::int8_t* p, words w, code_range range) {
        vst1_s8(p + 8 * Half, vget_low_s8(pack_codes(w, w, range)));
    }
    template <int Lane>
    static PO2Q_INLINE void store_dword(std::int8_t* p, bytes codes) {
        const std::int32_t dword = vgetq_lane_s32(vreinterpretq_s32_s8(codes), Lane);
        __builtin_memcpy(p, &dword, 4);
    }
    static PO2Q_INLINE floats scale(reg a, const float* scale, const float* addend) {
        return vfmaq_f32(vld1q_f32(addend), vcvtq_f32_s32(a), vld1q_f32(scale));
    }
    static PO2Q_INLINE void store_quarters(float* p, std::int64_t, floats y, bool) { vst1q_f32(p, y); }
    /// A register holds 4 neighbouring channels, whatever their number.
    template <int Vectors>
    static PO2Q_INLINE void store_channels(float* p, const floats (&y)[Vectors], int count, bool) {
        if (count >= Vectors * lanes) {
            unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA { vst1q_f32(p + v * lanes, y[v]); });
            return;
        }
        float part[Vectors * lanes];
        unroll<Vectors>([&](auto v) PO2Q_INLINE_LAMBDA { vst1q_f32(part + v * lanes, y[v]); });
        for (int i = 0; i < count; ++i) p[i] = part[i];
    }
};

}  // namespace po2quant::simd
#endif
