#pragma once
/// The tiles of simd/tiles.hpp in plain C++, as Intel's manual defines the instructions of AMX operation by operation,
/// with the conditions under which they fault.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include <po2quant/simd/tiles.hpp>

namespace po2quant::test {

/// The state of a thread. What would fault throws.
class model_registers {
public:
    /// LDTILECFG of palette 1. A kernel that has not released the registers before does not fault, but forgot it.
    void configure(const simd::tile_shapes& shapes) {
        bool valid = shapes.palette == 1 && shapes.start_row == 0;
        for (const std::uint8_t byte : shapes.reserved) valid = valid && byte == 0;
        for (int t = 0; t < 16; ++t) {
            const int rows = shapes.rows[t];
            const int bytes = shapes.row_bytes[t];
            valid = valid && rows <= 16 && bytes <= 64 && (rows == 0) == (bytes == 0) && (t < 8 || rows == 0);
        }
        check(valid, "ldtilecfg: shapes");
        check(!configured_, "ldtilecfg: not released before");
        *this = {};
        shapes_ = shapes;
        configured_ = true;
    }
    /// TILERELEASE.
    void release() { configured_ = false; }
    bool configured() const { return configured_; }
    /// TILELOADD: rows · row_bytes are read, all else of the register is 0.
    void load(int t, const void* p, std::int64_t stride) {
        check_register(t, "tileloadd");
        std::memset(byte_[t], 0, sizeof byte_[t]);
        for (int row = 0; row < shapes_.rows[t]; ++row)
            std::memcpy(byte_[t][row], static_cast<const char*>(p) + row * stride, shapes_.row_bytes[t]);
    }
    /// TILESTORED.
    void store(int t, void* p, std::int64_t stride) const {
        check_register(t, "tilestored");
        for (int row = 0; row < shapes_.rows[t]; ++row)
            std::memcpy(static_cast<char*>(p) + row * stride, byte_[t][row], shapes_.row_bytes[t]);
    }
    /// TDPBSSD.
    void dot(int s, int a, int b) {
        for (const int t : {s, a, b}) check_register(t, "tdpbssd");
        check(s != a && s != b && a != b, "tdpbssd: one register twice");
        const auto& bytes = shapes_.row_bytes;
        const auto& rows = shapes_.rows;
        check(bytes[s] % 4 == 0 && bytes[a] % 4 == 0 && bytes[b] % 4 == 0, "tdpbssd: parts of dwords");
        check(bytes[s] == bytes[b] && rows[s] == rows[a] && bytes[a] / 4 == rows[b], "tdpbssd: shapes");
        for (int m = 0; m < rows[s]; ++m) {
            std::uint32_t sums[16];
            std::memcpy(sums, byte_[s][m], sizeof sums);
            for (int k = 0; k < bytes[a] / 4; ++k)
                for (int n = 0; n < bytes[s] / 4; ++n)
                    for (int i = 0; i < 4; ++i)
                        sums[n] += static_cast<std::uint32_t>(byte_[a][m][4 * k + i] * byte_[b][k][4 * n + i]);
            std::memcpy(byte_[s][m], sums, sizeof sums);
        }
    }

private:
    static void check(bool condition, const char* what) {
        if (!condition) throw std::logic_error(what);
    }
    void check_register(int t, const char* what) const {
        check(configured_ && t >= 0 && t < 8 && shapes_.rows[t] > 0, what);
    }

    bool configured_ = false;
    simd::tile_shapes shapes_;
    std::int8_t byte_[8][16][64] = {};
};

/// For kernels.
class model_tiles {
public:
    static inline thread_local model_registers registers;

    explicit model_tiles(const simd::tile_shapes& shapes) { registers.configure(shapes); }
    void release() { registers.release(); }
    template <int T>
    void load(const void* p, std::int64_t stride) {
        registers.load(T, p, stride);
    }
    template <int T>
    void store(void* p, std::int64_t stride) {
        registers.store(T, p, stride);
    }
    template <int S, int A, int B>
    void dot() {
        registers.dot(S, A, B);
    }
    static void copy_row(std::int8_t* to, const std::int8_t* from, int count) {
        std::memset(to, 0, 64);
        std::memcpy(to, from, static_cast<std::size_t>(count));
    }
    static bool allowed() { return true; }
};

}  // namespace po2quant::test
