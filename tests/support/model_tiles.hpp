#pragma once
/// The tiles of simd/tiles.hpp in plain C++, as Intel's manual defines the instructions of AMX operation by operation,
/// with the conditions under which they fault; and those of this build's instruction set, if it has them.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include <po2quant/simd/tiles.hpp>

namespace po2quant::test {

class model_tiles {
public:
    /// LDTILECFG of palette 1.
    explicit model_tiles(const simd::tile_shapes& shapes) : shapes_(shapes) {
        bool valid = shapes.palette == 1 && shapes.start_row == 0;
        for (const std::uint8_t byte : shapes.reserved) valid = valid && byte == 0;
        for (int t = 0; t < 16; ++t) {
            const int rows = shapes.rows[t];
            const int bytes = shapes.row_bytes[t];
            valid = valid && rows <= 16 && bytes <= 64 && (rows == 0) == (bytes == 0) && (t < 8 || rows == 0);
        }
        check(valid, "ldtilecfg: shapes");
        check(!configured, "ldtilecfg: before tilerelease");  // no fault, but a kernel that forgot it
        configured = true;
    }
    /// TILERELEASE.
    void release() {
        check(configured, "tilerelease: no tiles");
        configured = false;
    }
    /// TILELOADD: exactly rows times row_bytes are read, all else of the register is 0.
    template <int T>
    void load(const void* p, std::int64_t stride) {
        check_register<T>("tileloadd");
        tile_[T] = {};
        for (int row = 0; row < shapes_.rows[T]; ++row)
            std::memcpy(tile_[T].byte[row], static_cast<const char*>(p) + row * stride, shapes_.row_bytes[T]);
    }
    /// TILESTORED.
    template <int T>
    void store(void* p, std::int64_t stride) const {
        check_register<T>("tilestored");
        for (int row = 0; row < shapes_.rows[T]; ++row)
            std::memcpy(static_cast<char*>(p) + row * stride, tile_[T].byte[row], shapes_.row_bytes[T]);
    }
    /// TDPBSSD.
    template <int S, int A, int B>
    void dot() {
        check_register<S>("tdpbssd");
        check_register<A>("tdpbssd");
        check_register<B>("tdpbssd");
        check(S != A && S != B && A != B, "tdpbssd: one register twice");
        const auto& bytes = shapes_.row_bytes;
        const auto& rows = shapes_.rows;
        check(bytes[S] % 4 == 0 && bytes[A] % 4 == 0 && bytes[B] % 4 == 0, "tdpbssd: parts of dwords");
        check(bytes[S] == bytes[B] && rows[S] == rows[A] && bytes[A] / 4 == rows[B], "tdpbssd: shapes");
        for (int m = 0; m < rows[S]; ++m) {
            std::uint32_t sums[16] = {};
            std::memcpy(sums, tile_[S].byte[m], bytes[S]);
            for (int k = 0; k < bytes[A] / 4; ++k)
                for (int n = 0; n < bytes[S] / 4; ++n)
                    for (int i = 0; i < 4; ++i)
                        sums[n] +=
                            static_cast<std::uint32_t>(tile_[A].byte[m][4 * k + i] * tile_[B].byte[k][4 * n + i]);
            std::memset(tile_[S].byte[m], 0, 64);
            std::memcpy(tile_[S].byte[m], sums, bytes[S]);
        }
        for (int m = rows[S]; m < 16; ++m) std::memset(tile_[S].byte[m], 0, 64);
    }
    static void copy_row(std::int8_t* to, const std::int8_t* from, int count) {
        std::memset(to, 0, 64);
        std::memcpy(to, from, static_cast<std::size_t>(count));
    }
    static bool allowed() { return true; }

    /// Whether this thread's shapes are set.
    static inline thread_local bool configured = false;

private:
    static void check(bool condition, const char* what) {
        if (!condition) throw std::logic_error(what);
    }
    template <int T>
    void check_register(const char* what) const {
        static_assert(T >= 0 && T < 8);
        check(configured, what);
        check(shapes_.rows[T] > 0, what);
    }

    struct tile {
        std::int8_t byte[16][64] = {};
    };
    simd::tile_shapes shapes_;
    tile tile_[8];
};

#if defined(PO2QUANT_AMX)
using tiles = simd::amx_tiles;
#else
using tiles = model_tiles;
#endif

}  // namespace po2quant::test
