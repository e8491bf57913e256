#pragma once
/// Integer primitives of AVX-512BW and of AVX-512-VNNI: 16 lanes, masks for parts of a vector; with VNNI four int8
/// products are summed by one instruction (vpdpbusd), which wants one side unsigned: inputs are offset by 128.
#include <po2quant/simd/integer_avx2.hpp>

#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

namespace po2quant::simd {

template <>
struct integer<arch::avx512bw> {
    static constexpr int lanes = 16;
    static constexpr int registers = 32;

    using reg = __m512i;
    using words = __m512i;
    using bytes = __m512i;
    using floats = __m512;

    static PO2Q_INLINE reg load(const std::int32_t* p) { return _mm512_loadu_si512(p); }
    static PO2Q_INLINE void store(std::int32_t* p, reg r) { _mm512_storeu_si512(p, r); }
    static PO2Q_INLINE reg set(std::int32_t v) { return _mm512_set1_epi32(v); }
    static PO2Q_INLINE reg load_codes(const std::int8_t* p) {
        return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static PO2Q_INLINE reg load_codes(const std::int16_t* p) {
        return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static PO2Q_INLINE reg add(reg a, reg b) { return _mm512_add_epi32(a, b); }
    static PO2Q_INLINE reg sub(reg a, reg b) { return _mm512_sub_epi32(a, b); }
    static PO2Q_INLINE reg bit_and(reg a, reg b) { return _mm512_and_si512(a, b); }
    static PO2Q_INLINE reg shift_right(reg a, reg count) { return _mm512_srav_epi32(a, count); }
    static PO2Q_INLINE reg shift_right_logical(reg a, reg count) { return _mm512_srlv_epi32(a, count); }
    static PO2Q_INLINE reg shift_left(reg a, reg count) { return _mm512_sllv_epi32(a, count); }

    static PO2Q_INLINE std::int32_t first_codes(const std::int8_t* p, int count) {
        return integer<arch::sse4_1>::first_codes(p, count);
    }
    // _mm512_set1_epi32 of a loaded int may go through a general register; this is one vpbroadcastd from memory.
    static PO2Q_INLINE __m512i broadcast_dword(const void* p) { return _mm512_broadcastd_epi32(_mm_loadu_si32(p)); }
    static PO2Q_INLINE __m512i load_weights(const void* p) { return _mm512_load_si512(p); }

    /// Any int8, widened to pairs of int16, whose products' sums do not saturate: codes 0, 2 and codes 1, 3.
    struct dot_i8 {
        using input = std::int8_t;
        using weight = std::int16_t;
        static constexpr int codes = 4;
        static constexpr int registers = 2;
        static constexpr bool keep_weights = true;
        static constexpr int scratch = 2;
        static constexpr int input_offset = 0;

        struct step {
            __m512i even;
            __m512i odd;
        };
        static PO2Q_INLINE step widen(__m512i x) {
            return {_mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8), _mm512_srai_epi16(x, 8)};
        }
        static PO2Q_INLINE step broadcast(const input* p) { return widen(broadcast_dword(p)); }
        static PO2Q_INLINE step broadcast_first(const input* p, int count) {
            return widen(_mm512_set1_epi32(first_codes(p, count)));
        }
        static PO2Q_INLINE step load(const weight* p) { return {load_weights(p), load_weights(p + 2 * lanes)}; }
        static PO2Q_INLINE reg dot(reg acc, step x, step w) {
            acc = _mm512_add_epi32(acc, _mm512_madd_epi16(x.even, w.even));
            return _mm512_add_epi32(acc, _mm512_madd_epi16(x.odd, w.odd));
        }
    };
    /// Codes of 0..127: sums of two products with int8 fit int16.
    struct dot_u7 {
        using input = std::int8_t;
        using weight = std::int8_t;
        static constexpr int codes = 4;
        static constexpr int registers = 1;
        static constexpr bool keep_weights = true;
        static constexpr int scratch = 2;
        static constexpr int input_offset = 0;

        struct step {
            __m512i quad;
        };
        static PO2Q_INLINE step broadcast(const input* p) { return {broadcast_dword(p)}; }
        static PO2Q_INLINE step broadcast_first(const input* p, int count) {
            return {_mm512_set1_epi32(first_codes(p, count))};
        }
        static PO2Q_INLINE step load(const weight* p) { return {load_weights(p)}; }
        static PO2Q_INLINE reg dot(reg acc, step x, step w) {
            return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(x.quad, w.quad), _mm512_set1_epi16(1)));
        }
    };
    struct dot_i16 {
        using input = std::int16_t;
        using weight = std::int16_t;
        static constexpr int codes = 2;
        static constexpr int registers = 1;
        static constexpr bool keep_weights = true;
        static constexpr int scratch = 1;
        static constexpr int input_offset = 0;

        struct step {
            __m512i pair;
        };
        static PO2Q_INLINE step broadcast(const input* p) { return {broadcast_dword(p)}; }
        static PO2Q_INLINE step broadcast_first(const input* p, int) {
            return {_mm512_set1_epi32(static_cast<std::uint16_t>(p[0]))};
        }
        static PO2Q_INLINE step load(const weight* p) { return {load_weights(p)}; }
        static PO2Q_INLINE reg dot(reg acc, step x, step w) {
            return _mm512_add_epi32(acc, _mm512_madd_epi16(x.pair, w.pair));
        }
    };

    static PO2Q_INLINE words widen(const std::int8_t* p) {
        return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static PO2Q_INLINE words widen_first(const std::int8_t* p, int count) {
        return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(static_cast<__mmask32>((1ULL << count) - 1), p));
    }
    static PO2Q_INLINE words load_words(const std::int16_t* p) { return _mm512_loadu_si512(p); }
    static PO2Q_INLINE words zero_words() { return _mm512_setzero_si512(); }
    static PO2Q_INLINE words interleave_low(words a, words b) { return _mm512_unpacklo_epi16(a, b); }
    static PO2Q_INLINE words interleave_high(words a, words b) { return _mm512_unpackhi_epi16(a, b); }
    static PO2Q_INLINE reg multiply_add(reg acc, words a, words b) {
        return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
    }
    static PO2Q_INLINE words set_words(int v) { return _mm512_set1_epi16(static_cast<short>(v)); }
    static PO2Q_INLINE words add_words(words a, words b) { return _mm512_add_epi16(a, b); }
    static PO2Q_INLINE words and_words(words a, words b) { return _mm512_and_si512(a, b); }
    static PO2Q_INLINE words max_words(words a, words b) { return _mm512_max_epi16(a, b); }
    static PO2Q_INLINE words shift_left_words(words a, int count) {
        return _mm512_sll_epi16(a, _mm_cvtsi32_si128(count));
    }
    static PO2Q_INLINE words shift_right_words(words a, int count) {
        return _mm512_sra_epi16(a, _mm_cvtsi32_si128(count));
    }
    static PO2Q_INLINE void store_words(std::int8_t* p, words low, words high, code_range range) {
        const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
        store_bytes(p, _mm512_permutexvar_epi64(order, pack_codes(low, high, range)));
    }
    static PO2Q_INLINE bytes load_bytes(const std::int8_t* p) { return _mm512_loadu_si512(p); }
    static PO2Q_INLINE void store_bytes(std::int8_t* p, bytes b) { _mm512_storeu_si512(p, b); }
    static PO2Q_INLINE bytes max_bytes(bytes a, bytes b) { return _mm512_max_epi8(a, b); }

    template <int Rows>
    static PO2Q_INLINE void interleave_rows(const std::int8_t* const (&row)[Rows], std::int32_t* to) {
        integer<arch::sse4_1>::interleave_rows(row, to);
    }
    /// 64 codes of 4 rows at once: four registers in channel_of order.
    static PO2Q_INLINE void interleave_block(const std::int8_t* const (&row)[4], std::int32_t* to) {
        const __m512i r0 = _mm512_loadu_si512(row[0]);
        const __m512i r1 = _mm512_loadu_si512(row[1]);
        const __m512i r2 = _mm512_loadu_si512(row[2]);
        const __m512i r3 = _mm512_loadu_si512(row[3]);
        const __m512i low = _mm512_unpacklo_epi8(r0, r1);
        const __m512i low_rest = _mm512_unpacklo_epi8(r2, r3);
        _mm512_storeu_si512(to, _mm512_unpacklo_epi16(low, low_rest));
        _mm512_storeu_si512(to + 16, _mm512_unpackhi_epi16(low, low_rest));
        const __m512i high = _mm512_unpackhi_epi8(r0, r1);
        const __m512i high_rest = _mm512_unpackhi_epi8(r2, r3);
        _mm512_storeu_si512(to + 32, _mm512_unpacklo_epi16(high, high_rest));
        _mm512_storeu_si512(to + 48, _mm512_unpackhi_epi16(high, high_rest));
    }

    static constexpr int channel_of(int vectors, int vector, int lane) {
        return integer_generic::channel_of(vectors, vector, lane);
    }

    static PO2Q_INLINE words narrow(reg a, reg b) { return _mm512_packs_epi32(a, b); }
    static PO2Q_INLINE words multiply_high(words a, words b) { return _mm512_mulhi_epi16(a, b); }
    /// Packs and clamps. Where codes are not negative, the pack takes care of one side.
    static PO2Q_INLINE bytes pack_codes(words low, words high, code_range range) {
        const __m512i most = _mm512_set1_epi8(static_cast<char>(range.high));
        if (range.low == 0) return _mm512_min_epu8(_mm512_packus_epi16(low, high), most);
        const __m512i least = _mm512_set1_epi8(static_cast<char>(range.low));
        return _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(low, high), least), most);
    }

    /// Codes of several pixels of 1 or 2 registers each, packed together: one pixel's would fill but part of a
    /// register.
    template <int Vectors>
    requires(Vectors < 3) struct pixel_group {
        static constexpr int pixels = 4 / Vectors;
        __m512i order;    ///< dwords or qwords of the packed register, pixel by pixel, `count` codes of each
        __mmask64 codes;  ///< of the pixels side by side
        bool whole;       ///< count is a multiple of what order moves: pixels side by side leave with one store

        PO2Q_INLINE explicit pixel_group(int count) {
            // Packed, 128 bits L hold 4·Vectors codes of each pixel: part L of pixel p is element L * pixels + p.
            constexpr int part = 4 * Vectors;
            alignas(64) std::int32_t from[16] = {};
            whole = count % part == 0;
            const int own = whole ? count / part : 4;  // parts of a pixel that are kept
            int to = 0;
            for (int p = 0; p < pixels; ++p)
                for (int l = 0; l < own; ++l)
                    for (int d = 0; d < Vectors; ++d) from[to++] = (l * pixels + p) * Vectors + d;
            order = _mm512_load_si512(from);
            codes = whole ? ~std::uint64_t{0} >> (64 - pixels * count) : (std::uint64_t{1} << count) - 1;
        }
        /// clamp(w) of a group, 4 registers narrowed by twos, pixel by pixel.
        PO2Q_INLINE bytes pack(const words (&w)[2], code_range range) const {
            return _mm512_permutexvar_epi32(order, pack_codes(w[0], w[1], range));
        }
        /// Groups of a tile, whose pixels lie `step` bytes apart. Arch names what is not inlined.
        template <class Arch, int... G>
        PO2Q_INLINE void store(char* out, std::int64_t step, const bytes (&packed)[sizeof...(G)], int count,
                               indices<G...>) const {
            if (whole && step == count) {
                if (pixels * count == 64) (_mm512_storeu_si512(out + G * pixels * step, packed[G]), ...);
                else (_mm512_mask_storeu_epi8(out + G * pixels * step, codes, packed[G]), ...);
                return;
            }
            alignas(64) std::int8_t row[sizeof...(G) * 64];
            (_mm512_store_si512(row + 64 * G, packed[G]), ...);
            store_apart<Arch>(out, step, row, sizeof...(G), whole ? count : 16 * Vectors, count);
        }

    private:
        /// Pixels that are `from_step` codes apart in their group.
        template <class Arch>
        [[gnu::noinline]] static void store_apart(char* out, std::int64_t step, const std::int8_t* packed, int groups,
                                                  int from_step, int count) {
            const auto one = static_cast<__mmask32>((std::uint64_t{1} << count) - 1);
            for (int i = 0; i < groups * pixels; ++i)
                _mm256_mask_storeu_epi8(
                    out + i * step, one,
                    _mm256_maskz_loadu_epi8(one, packed + i / pixels * 64 + i % pixels * from_step));
        }
    };

    /// 16 neighbouring pixels of a row in lanes, 8 registers of sums of them.
    class pixel_lanes {
    public:
        static constexpr int pixels = 16;
        static constexpr int outputs = 8;
        /// Of pixels `distance` codes apart, two registers hold 4 codes each. Where the distance is odd, odd pixels are
        /// loaded apart from even ones: words are what is moved.
        static PO2Q_INLINE bool fits(std::int64_t distance) {
            return distance >= 1 && distance <= 8 && distance != 5 && distance != 7;
        }
        /// Of each pixel `codes` codes are read, 4 at most.
        PO2Q_INLINE pixel_lanes(int distance, int codes) {
            // Such that `store` has pixels in order.
            const __m512i pixel = _mm512_setr_epi32(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
            const __m512i odd = _mm512_and_si512(pixel, set(1));
            __m512i at = _mm512_mullo_epi32(pixel, set(distance));  // bytes of the two registers
            int bytes = 15 * distance + codes;
            second_ = 64;
            if (distance <= 4) {
                bytes -= distance;
                second_ = distance;
                at = add(_mm512_mullo_epi32(sub(pixel, odd), set(distance)), _mm512_slli_epi32(odd, 6));
            }
            // Two neighbouring words for each lane.
            order_ = add(_mm512_mullo_epi32(_mm512_srli_epi32(at, 1), set(0x10001)), set(0x10000));
            first_mask_ = ~std::uint64_t{0} >> (bytes < 64 ? 64 - bytes : 0);
            second_mask_ = distance <= 4 ? first_mask_ : ~std::uint64_t{0} >> (128 - bytes);
        }
        PO2Q_INLINE __m512i load(const std::int8_t* p) const {
            return _mm512_permutex2var_epi16(_mm512_maskz_loadu_epi8(first_mask_, p), order_,
                                             _mm512_maskz_loadu_epi8(second_mask_, p + second_));
        }
        /// The first `count` codes of each pixel, which lie `stride` apart.
        template <class Arch>
        static PO2Q_INLINE void store(std::int8_t* p, std::int64_t stride, const reg (&sums)[outputs], code_range range,
                                      int count) {
            // 128 bits of a packed register have 4 pixels of each of 4 outputs.
            const __m512i transposed =
                _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
            const auto quad = [&](const reg* s) PO2Q_INLINE_LAMBDA {
                return _mm512_shuffle_epi8(pack_codes(narrow(s[0], s[1]), narrow(s[2], s[3]), range), transposed);
            };
            const __m512i first = quad(sums);
            const __m512i second = quad(sums + 4);
            const __m512i low = _mm512_unpacklo_epi32(first, second);
            const __m512i high = _mm512_unpackhi_epi32(first, second);
            if (count == outputs && stride == outputs) {
                _mm512_storeu_si512(p, low);
                _mm512_storeu_si512(p + 64, high);
            } else {
                store_apart<Arch>(p, stride, low, high, count);
            }
        }

    private:
        template <class Arch>
        [[gnu::noinline]] static void store_apart(std::int8_t* p, std::int64_t stride, __m512i low, __m512i high,
                                                  int count) {
            alignas(64) std::int8_t codes[pixels * outputs + outputs];
            _mm512_store_si512(codes, low);
            _mm512_store_si512(codes + 64, high);
            const auto mask = static_cast<__mmask16>((1U << count) - 1U);
            for (int i = 0; i < pixels; ++i)
                _mm_mask_storeu_epi8(p + i * stride, mask,
                                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i * outputs)));
        }

        __m512i order_;
        __mmask64 first_mask_;
        __mmask64 second_mask_;
        std::int64_t second_;  ///< from the first register's bytes to the second's
    };

    template <int Vectors>
    static PO2Q_INLINE void store_narrowed(std::int8_t* p, const words (&w)[(Vectors + 1) / 2], code_range range,
                                           int count) {
        static_assert(Vectors >= 1 && Vectors <= 4);
        if constexpr (Vectors >= 3) {
            __m512i codes = pack_codes(w[0], w[1], range);
            // Of 3 registers, 128 bits hold 12 codes and 4 of them again.
            if constexpr (Vectors == 3)
                codes = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 0, 0, 0, 0),
                                                 codes);
            if (count >= 64) _mm512_storeu_si512(p, codes);
            else _mm512_mask_storeu_epi8(p, (__mmask64{1} << count) - 1, codes);
        } else {
            __m256i codes = _mm512_cvtsepi16_epi8(w[0]);
            codes = _mm256_max_epi8(codes, _mm256_set1_epi8(static_cast<char>(range.low)));
            codes = _mm256_min_epi8(codes, _mm256_set1_epi8(static_cast<char>(range.high)));
            // Of 1 register, 64 bits hold 4 codes twice.
            if constexpr (Vectors == 1)
                codes = _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 2, 4, 6, 0, 0, 0, 0));
            if (Vectors == 2 && count >= 32) _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), codes);
            else if (Vectors == 1 && count >= 16)
                _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(codes));
            else _mm256_mask_storeu_epi8(p, static_cast<__mmask32>((1ULL << count) - 1), codes);
        }
    }

    /// The codes of registers 2·Half and 2·Half + 1 of 4, of 64 codes at p.
    template <int Half>
    static PO2Q_INLINE void store_half(std::int8_t* p, words w, code_range range) {
        constexpr __mmask64 low = 0x00ff00ff00ff00ff;
        _mm512_mask_storeu_epi8(p, Half == 0 ? low : ~low, pack_codes(w, w, range));
    }

    static PO2Q_INLINE floats scale(reg a, const float* scale, const float* addend) {
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), _mm512_loadu_ps(scale), _mm512_loadu_ps(addend));
    }
    /// The 128 bits h of a register at p + h * stride.
    static PO2Q_INLINE void store_quarters(float* p, std::int64_t stride, floats y, bool stream) {
        unroll<4>([&](auto h) PO2Q_INLINE_LAMBDA {
            constexpr int quarter = h;  // an immediate without optimization too
            const __m128 four = _mm512_extractf32x4_ps(y, quarter);
            if (stream) _mm_stream_ps(p + quarter * stride, four);
            else _mm_storeu_ps(p + quarter * stride, four);
        });
    }
    /// Register v's 128 bits h are the channels from 4 · (h · Vectors + v) on.
    template <int Vectors>
    static PO2Q_INLINE void store_channels(float* p, const floats (&y)[Vectors], int count, bool stream) {
        static_assert(Vectors >= 1 && Vectors <= 4);
        floats ordered[Vectors];
        if constexpr (Vectors == 1) {
            ordered[0] = y[0];
        } else if constexpr (Vectors == 2) {
            const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
            const __m512i high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
            const __m512d a = _mm512_castps_pd(y[0]);
            const __m512d b = _mm512_castps_pd(y[1]);
            ordered[0] = _mm512_castpd_ps(_mm512_permutex2var_pd(a, low, b));
            ordered[1] = _mm512_castpd_ps(_mm512_permutex2var_pd(a, high, b));
        } else if constexpr (Vectors == 3) {
            alignas(64) float part[48];
            unroll<3>([&](auto v) PO2Q_INLINE_LAMBDA { store_quarters(part + 4 * v, 12, y[v], false); });
            unroll<3>([&](auto v) PO2Q_INLINE_LAMBDA { ordered[v] = _mm512_load_ps(part + 16 * v); });
        } else {
            // Transposed, as 4 × 4 of 128 bits.
            const floats ab_low = _mm512_shuffle_f32x4(y[0], y[1], 0x44);
            const floats ab_high = _mm512_shuffle_f32x4(y[0], y[1], 0xee);
            const floats cd_low = _mm512_shuffle_f32x4(y[2], y[3], 0x44);
            const floats cd_high = _mm512_shuffle_f32x4(y[2], y[3], 0xee);
            ordered[0] = _mm512_shuffle_f32x4(ab_low, cd_low, 0x88);
            ordered[1] = _mm512_shuffle_f32x4(ab_low, cd_low, 0xdd);
            ordered[2] = _mm512_shuffle_f32x4(ab_high, cd_high, 0x88);
            ordered[3] = _mm512_shuffle_f32x4(ab_high, cd_high, 0xdd);
        }
        store_ordered(p, ordered, count, stream, up_to<Vectors>);
    }

private:
    template <int... V>
    static PO2Q_INLINE void store_ordered(float* p, const floats* y, int count, bool stream, indices<V...>) {
        if (count < static_cast<int>(sizeof...(V)) * lanes) {
            (_mm512_mask_storeu_ps(p + V * lanes, first_lanes(count - V * lanes), y[V]), ...);
        } else if (stream) {
            (_mm512_stream_ps(p + V * lanes, y[V]), ...);
        } else {
            (_mm512_storeu_ps(p + V * lanes, y[V]), ...);
        }
    }
    static PO2Q_INLINE __mmask16 first_lanes(int count) {
        return static_cast<__mmask16>((1U << po2quant::clamp<int>(count, 0, lanes)) - 1U);
    }
};

#if defined(__AVX512VNNI__)
template <>
struct integer<arch::avx512_vnni> : integer<arch::avx512bw> {
    // g++ 12 turns tiles of these intrinsics into register copies and spills, at half the speed; with an operand that
    // is read and written it keeps the accumulators where they are. clang needs no help and is hindered by it.
    static PO2Q_INLINE reg dot_bytes(reg acc, __m512i codes, __m512i weights) {
#if defined(__clang__)
        return _mm512_dpbusd_epi32(acc, codes, weights);
#else
        asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(codes), "v"(weights));
        return acc;
#endif
    }
    static PO2Q_INLINE reg multiply_add(reg acc, words a, words b) {
#if defined(__clang__)
        return _mm512_dpwssd_epi32(acc, a, b);
#else
        asm("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
        return acc;
#endif
    }

    static PO2Q_INLINE bytes offset_bytes(bytes codes) {
        return _mm512_xor_si512(codes, _mm512_set1_epi8(static_cast<char>(0x80)));
    }
    /// Four codes of 0..127, or any unsigned bytes: what vpdpbusd wants.
    struct dot_u7 : integer<arch::avx512bw>::dot_u7 {
        static constexpr int scratch = 0;
        static PO2Q_INLINE reg dot(reg acc, step x, step w) { return dot_bytes(acc, x.quad, w.quad); }
    };
    /// Codes + 128 are unsigned.
    struct dot_i8 : dot_u7 {
        static constexpr int input_offset = 128;
        static PO2Q_INLINE step offset(step s) {
            __m512i half = _mm512_set1_epi8(static_cast<char>(0x80));
#if defined(__clang__)
            asm("" : "+v"(half));  // else it sees that one dword can be offset first, and broadcasts from a register
#endif
            return {_mm512_xor_si512(s.quad, half)};
        }
        static PO2Q_INLINE step broadcast(const input* p) { return offset(dot_u7::broadcast(p)); }
        static PO2Q_INLINE step broadcast_first(const input* p, int count) {
            return offset(dot_u7::broadcast_first(p, count));
        }
    };
    struct dot_i16 : integer<arch::avx512bw>::dot_i16 {
        static constexpr int scratch = 0;
        static PO2Q_INLINE reg dot(reg acc, step x, step w) { return multiply_add(acc, x.pair, w.pair); }
    };
};

/// What tiles are not used for; they themselves are in tiles.hpp.
template <>
struct integer<arch::amx_int8> : integer<arch::avx512_vnni> {};
#endif

}  // namespace po2quant::simd
#endif
