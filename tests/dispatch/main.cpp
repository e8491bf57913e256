// Every instruction set of this CPU runs its own code, throws what others catch, and counts where others do.
#include <cstdio>

#include <po2quant/simd/arch.hpp>

#include "kernels.hpp"

int main() {
    int failures = 0;
    const auto check = [&failures](bool right, const char* what, const char* isa) {
        if (!right) std::printf("wrong for %s: %s\n", isa, what);
        failures += right ? 0 : 1;
    };
    int runs = 0;
    for (const char* isa : {"sse4_1", "avx2", "avx512bw"}) {
        if (!po2quant::cpu_supports(isa)) continue;
        ++runs;
        for (const std::string& name : names_of(isa)) check(name == isa, name.c_str(), isa);
        std::string caught = "nothing";
        try {
            refuse(isa);
        } catch (const refused& error) {
            caught = error.what();
        }
        check(caught == isa, "what was thrown", isa);
    }
    check(std::string(compiled_as()) == "baseline", compiled_as(), "the rest");
    check(runs > 0 && calls() == runs, "the count of calls", "all");
    std::printf("%d instruction sets, %d wrong\n", runs, failures);
    return failures == 0 ? 0 : 1;
}
