#pragma once
/// Instructions of AMX on CPUs that do not have them: each raises a signal, is decoded from its bytes and done by
/// model_registers. So what the compiler made of a kernel is tested, but for its time.
#include <csignal>
#include <cstdint>
#include <cstring>

#include <ucontext.h>

#include "support/model_tiles.hpp"

namespace po2quant::test {

class trapped_tiles {
public:
    trapped_tiles() {
        struct sigaction trap = {};
        trap.sa_sigaction = [](int, siginfo_t*, void* context) noexcept {
            run(static_cast<ucontext_t*>(context)->uc_mcontext.gregs);
        };
        trap.sa_flags = SA_SIGINFO;
        sigaction(SIGILL, &trap, &before_);
    }
    ~trapped_tiles() { sigaction(SIGILL, &before_, nullptr); }
    trapped_tiles(const trapped_tiles&) = delete;

private:
    /// C4, R X B map, W vvvv L pp, opcode, ModRM, then SIB and displacement where an operand is in memory. R, X, B and
    /// vvvv are inverted.
    static void run(greg_t* registers) {
        const auto* const code = reinterpret_cast<const std::uint8_t*>(registers[REG_RIP]);
        const std::uint8_t* next = code + 5;
        const auto expect = [](bool condition) {
            if (!condition) throw std::logic_error("no instruction of AMX-INT8");
        };
        // Map 0F 38, W and L 0.
        expect(code[0] == 0xc4 && (code[1] & 31) == 2 && (code[2] & 0x84) == 0);
        const auto extended = [&](int low, int bit) { return (low & 7) | (~code[1] >> bit & 1) << 3; };
        const int vvvv = ~(code[2] >> 3) & 15;
        const int prefix = code[2] & 3;
        const int mod = code[4] >> 6;
        const int reg = extended(code[4] >> 3, 7);
        const int rm = extended(code[4], 5);
        std::int64_t address = 0;
        std::int64_t stride = 0;
        const bool has_stride = mod != 3 && (rm & 7) == 4;
        if (mod != 3) {
            const auto displacement = [&](auto d) {
                std::memcpy(&d, next, sizeof d);
                next += sizeof d;
                return std::int64_t{d};
            };
            int base = rm;
            if (has_stride) {
                const std::uint8_t sib = *next++;
                base = extended(sib, 5);
                const int index = extended(sib >> 3, 6);
                if (index != 4) stride = registers[greg_of(index)] * (std::int64_t{1} << (sib >> 6));
            }
            if (mod == 0 && (base & 7) == 5) {
                address = displacement(std::int32_t{});
                if (!has_stride) address += reinterpret_cast<std::intptr_t>(next);
            } else {
                address = registers[greg_of(base)];
                if (mod == 1) address += displacement(std::int8_t{});
                if (mod == 2) address += displacement(std::int32_t{});
            }
        }
        void* const p = reinterpret_cast<void*>(address);
        model_registers& tiles = model_tiles::registers;
        if (code[3] == 0x49 && prefix == 0 && code[4] == 0xc0) {
            tiles.release();
        } else if (code[3] == 0x49 && prefix == 0 && mod != 3 && reg == 0) {
            simd::tile_shapes shapes;
            std::memcpy(&shapes, static_cast<const char*>(p) + stride, sizeof shapes);
            tiles.configure(shapes);
        } else if (code[3] == 0x4b && prefix == 3 && has_stride) {
            tiles.load(reg, p, stride);
        } else if (code[3] == 0x4b && prefix == 2 && has_stride) {
            tiles.store(reg, p, stride);
        } else if (code[3] == 0x5e && prefix == 3 && mod == 3) {
            tiles.dot(reg, rm, vvvv);
        } else {
            expect(false);
        }
        registers[REG_RIP] = reinterpret_cast<std::intptr_t>(next);
    }
    static int greg_of(int i) {
        static constexpr int places[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                         REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
        return places[i];
    }

    struct sigaction before_ = {};
};

}  // namespace po2quant::test
