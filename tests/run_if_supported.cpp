// Starts a test program built for one instruction set, or skips it: run_if_supported ISA PROGRAM [ARGUMENT …].
// Compiled for the baseline, so that it runs everywhere; 77 means "skipped".
#include <unistd.h>
#include <cstdio>
#include <string_view>

#include <po2quant/simd/arch.hpp>

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: %s ISA PROGRAM [ARGUMENT …]\n", argv[0]);
        return 2;
    }
    if (!po2quant::cpu_supports(argv[1])) {
        const bool asks_the_system = std::string_view(argv[1]) == "amx_int8";
        std::printf("SKIP: this CPU has no %s%s\n", argv[1],
                    asks_the_system ? ", or its system does not grant it" : "");
        return 77;
    }
    execv(argv[2], argv + 2);
    std::perror(argv[2]);
    return 1;
}
