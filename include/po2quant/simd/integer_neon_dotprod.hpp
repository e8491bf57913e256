#pragma once
/// Integer primitives of NEON with dot products: four int8 products summed into an int32 lane by one instruction
/// (sdot), which takes the input's codes from any lane of a register: nothing is broadcast.
#include <po2quant/simd/integer_neon64.hpp>

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)

namespace po2quant::simd {

template <>
struct integer<arch::neon_dotprod> : integer<arch::neon64> {
    struct dot_i8 {
        using input = std::int8_t;
        using weight = std::int8_t;
        static constexpr int codes = 4;
        static constexpr int registers = 1;
        static constexpr bool keep_weights = false;
        static constexpr int scratch = 2;  // weights of the next steps
        static constexpr int input_offset = 0;
        static constexpr int group = 4;

        static PO2Q_INLINE int8x8_t broadcast(const input* p) { return load_dword(p); }
        static PO2Q_INLINE int8x8_t broadcast_first(const input* p, int count) { return first_codes(p, count); }
        static PO2Q_INLINE int8x16_t load_group(const input* p) { return vld1q_s8(p); }
        static PO2Q_INLINE int8x16_t load(const weight* p) { return vld1q_s8(p); }
        static PO2Q_INLINE reg dot(reg acc, int8x8_t x, int8x16_t w) { return vdotq_lane_s32(acc, w, x, 0); }
        template <int Step>
        static PO2Q_INLINE reg dot(reg acc, int8x16_t x, int8x16_t w) {
#if defined(__clang__)
            return vdotq_laneq_s32(acc, w, x, Step);
#else
            // As with AVX-512-VNNI: an operand that is read and written keeps g++ from copying accumulators.
            asm("sdot %0.4s, %1.16b, %2.4b[%3]" : "+w"(acc) : "w"(w), "w"(x), "n"(Step));
            return acc;
#endif
        }
    };
    using dot_u7 = dot_i8;
};

}  // namespace po2quant::simd
#endif
