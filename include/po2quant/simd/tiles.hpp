#pragma once
/// Products of tiles: registers of 16 rows of 64 bytes, which AMX has 8 of.
///
///   sums[m][n] += Σ_k Σ_{i < 4}  a[m][4k + i] * b[k][4n + i]        a, b int8, sums int32 modulo 2^32
///
/// A row of `a` holds the codes of one pixel, and row k of `b` codes 4k … 4k + 3 of the weights of each output: the
/// order that pack_weights.hpp packs a step of 4 codes in.
///
/// A kernel is a template on Tiles, with
///
///   Tiles(shapes), release()   an object for as long as the registers are used, with these shapes; values begin as 0
///   load<T>(p, stride)         row i of register T from p + i * stride bytes, of exactly the bytes of its shape
///   store<T>(p, stride)        and back
///   dot<S, A, B>()             the sums above: S has the rows of A and the bytes of B, which has a row for each 4
///                              bytes of A
///   copy_row(to, from, count)  64 codes: the first `count` of `from`, 0 behind; reads no more than those
///   allowed()                  whether this CPU and its system let this process use them
///
/// Shapes are state of the thread. Setting and releasing them takes some tens of ns, once for each call of a kernel;
/// released registers need not be saved when the system changes threads.
#include <cstdint>

#include <po2quant/simd/arch.hpp>
#if defined(PO2QUANT_AMX)
#include <immintrin.h>
#endif

namespace po2quant::simd {

inline constexpr int tile_rows = 16;
inline constexpr int tile_row_bytes = 64;

/// Shapes of the registers, laid out as the instruction ldtilecfg reads them.
struct alignas(64) tile_shapes {
    std::uint8_t palette = 1;
    std::uint8_t start_row = 0;
    std::uint8_t reserved[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};

    PO2Q_INLINE constexpr void set(int tile, int its_rows, int its_row_bytes) {
        rows[tile] = static_cast<std::uint8_t>(its_rows);
        row_bytes[tile] = static_cast<std::uint16_t>(its_row_bytes);
    }
};
static_assert(sizeof(tile_shapes) == 64);

#if defined(PO2QUANT_AMX)
/// Those of AMX. Not by intrinsics: g++ 12's say neither that a load reads memory nor that a configuration has 64
/// bytes, so that what was written there before may come too late, and take only literals for registers.
struct amx_tiles {
    PO2Q_INLINE explicit amx_tiles(const tile_shapes& shapes) { asm volatile("ldtilecfg %0" : : "m"(shapes)); }
    PO2Q_INLINE void release() { asm volatile("tilerelease"); }
    template <int T>
    PO2Q_INLINE void load(const void* p, std::int64_t stride) {
        asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(stride), "i"(T) : "memory");
    }
    template <int T>
    PO2Q_INLINE void store(void* p, std::int64_t stride) {
        asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(stride), "i"(T) : "memory");
    }
    template <int S, int A, int B>
    PO2Q_INLINE void dot() {
        asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(S), "i"(A), "i"(B));
    }
    static PO2Q_INLINE void copy_row(std::int8_t* to, const std::int8_t* from, int count) {
        _mm512_storeu_si512(to, _mm512_maskz_loadu_epi8(~std::uint64_t{0} >> (64 - count), from));
    }
    static PO2Q_INLINE bool allowed() { return amx_allowed(); }
};
#endif

}  // namespace po2quant::simd
