// Starts a test program built for one instruction set, or skips it: run_if_supported ISA PROGRAM [ARGUMENT …].
// Compiled for the baseline, so that it runs everywhere; 77 means "skipped".
#include <unistd.h>
#include <cstdio>

#include <po2quant/simd/arch.hpp>

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: %s ISA PROGRAM [ARGUMENT …]\n", argv[0]);
        return 2;
    }
    if (!po2quant::cpu_supports(argv[1])) {
        std::printf("SKIP: this CPU has no %s\n", argv[1]);
        return 77;
    }
    execv(argv[2], argv + 2);
    std::perror(argv[2]);
    return 1;
}
