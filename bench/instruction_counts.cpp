// Runs rows once each, for a tool that counts the instructions of counted_call: see instruction_counts.cmake.
//   po2quant_instruction_counts ISA [OP/SHAPE …]    without rows: says what it was compiled by
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <po2quant/simd/xsimd.hpp>

#include "rows.hpp"
#include "runnable_tables.hpp"

/// What is counted, by this name.
extern "C" [[gnu::noinline]] void counted_call(const po2quant::bench::engine& run) { run(); }

int main(int argc, char** argv) {
    using namespace po2quant::bench;
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s ISA [OP/SHAPE …]\n", argv[0]);
        return 2;
    }
    if (argc == 2) {
        std::printf("%s, xsimd %d.%d.%d\n", PO2QUANT_COMPILER, XSIMD_VERSION_MAJOR, XSIMD_VERSION_MINOR,
                    XSIMD_VERSION_PATCH);
        return 0;
    }
    const std::string isa = argv[1];
    const auto& tables = runnable_tables();
    const auto table = std::find_if(tables.begin(), tables.end(), [&](const kernel_table& k) { return k.name == isa; });
    if (table == tables.end()) {
        std::printf("SKIP: this CPU, as valgrind shows it, has no %s\n", isa.c_str());
        return 77;
    }
    const std::vector<row> rows = all_rows();
    for (int i = 2; i < argc; ++i) {
        const std::string name = argv[i];
        const auto r =
            std::find_if(rows.begin(), rows.end(), [&](const row& one) { return one.op + "/" + one.shape == name; });
        if (r == rows.end()) {
            std::fprintf(stderr, "%s: not one of the benchmark's rows, op/shape\n", name.c_str());
            return 2;
        }
        counted_call(r->open().make(&*table));
    }
}
