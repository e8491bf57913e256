#pragma once
/// Times on an emulator say nothing about any CPU.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace po2quant::bench {

/// Whether QEMU translates this program's instructions, which it says where hypervisors give their names. Of other
/// processors it is known only from CMake: a build with CMAKE_CROSSCOMPILING_EMULATOR.
inline bool emulated() {
#if defined(PO2QUANT_EMULATED)
    return true;
#elif defined(__x86_64__)
    unsigned highest = 0;
    unsigned name[3] = {};
    __cpuid(0x40000000, highest, name[0], name[1], name[2]);
    return std::string_view(reinterpret_cast<const char*>(name), sizeof name) == "TCGTCGTCGTCG";
#else
    return false;
#endif
}

/// Ends the program on an emulator.
inline void refuse_emulation() {
    if (!emulated()) return;
    std::fprintf(stderr, "nothing is timed on an emulator\n");
    std::exit(2);
}

}  // namespace po2quant::bench
