#pragma once
#include <stdexcept>
#include <string>
#include <vector>

/// Thrown by the sources of instruction sets, caught by others.
struct refused : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// One variable for all, and code that every source has.
inline int& calls() {
    static int count = 0;
    return count;
}

/// How the source that includes this is compiled. Not a template on the instruction set: each source must get its own.
inline const char* compiled_as() {
#if defined(__AVX512BW__)
    return "avx512bw";
#elif defined(__AVX2__)
    return "avx2";
#elif defined(__SSE4_1__)
    return "sse4_1";
#else
    return "baseline";
#endif
}

template <class Arch>
struct kernels {
    static std::vector<std::string> names();
    static void refuse();
};

/// names.cpp: by the name of an instruction set, or by PO2QUANT_ISA and the CPU.
std::vector<std::string> names_of(const char* isa);
void refuse(const char* isa);
