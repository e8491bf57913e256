#pragma once
/// Integer primitives of NEON with matrix products of int8: eight codes of two pixels meet those of two outputs in one
/// instruction (smmla), twice the products of sdot.
#include <po2quant/simd/integer_neon_dotprod.hpp>

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8)

namespace po2quant::simd {

template <>
struct integer<arch::neon_i8mm> : integer<arch::neon_dotprod> {
    struct dot_i8 {
        using input = std::int8_t;
        using weight = std::int8_t;
        static constexpr int codes = 8;
        static constexpr int registers = 1;
        static constexpr bool keep_weights = false;
        static constexpr int scratch = 5;  // weights and inputs of the next steps
        static constexpr int input_offset = 0;

        /// Outputs 0 and 1, 2 and 3: those of the first pixel, then of the second.
        struct pair_sums {
            reg low;
            reg high;
            PO2Q_INLINE reg first() const { return zip_low(low, high); }
            PO2Q_INLINE reg second() const { return zip_high(low, high); }
        };
        struct pair_weights {
            int8x16_t low;
            int8x16_t high;
        };
        static PO2Q_INLINE reg zip_low(reg a, reg b) {
            return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
        }
        static PO2Q_INLINE reg zip_high(reg a, reg b) {
            return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
        }
        static PO2Q_INLINE pair_sums begin(reg bias) { return {zip_low(bias, bias), zip_high(bias, bias)}; }
        static PO2Q_INLINE int8x16_t load_pair(const input* a, const input* b) {
#if !defined(__clang__)
            asm("" : "+r"(b));  // an address of one register, which a load into the upper half takes
#endif
            return vcombine_s8(vld1_s8(a), vld1_s8(b));
        }
        static PO2Q_INLINE int8x16_t load_pair_first(const input* a, const input* b, int count) {
            return vcombine_s8(first_codes(a, count), first_codes(b, count));
        }
        static PO2Q_INLINE pair_weights load(const weight* p) { return {vld1q_s8(p), vld1q_s8(p + 16)}; }
        static PO2Q_INLINE pair_sums dot(pair_sums acc, int8x16_t x, pair_weights w) {
            return {multiply_pairs(acc.low, x, w.low), multiply_pairs(acc.high, x, w.high)};
        }
        static PO2Q_INLINE reg multiply_pairs(reg acc, int8x16_t x, int8x16_t w) {
#if defined(__clang__)
            return vmmlaq_s32(acc, x, w);
#else
            // As with sdot.
            asm("smmla %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(x), "w"(w));
            return acc;
#endif
        }
    };
    using dot_u7 = dot_i8;
};

/// Registers of 256 bits hold floats only.
template <>
struct integer<arch::sve256> : integer<arch::neon_i8mm> {};

}  // namespace po2quant::simd
#endif
