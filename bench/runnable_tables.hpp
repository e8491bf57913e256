#pragma once
/// Which tables there are, and which of them this machine can run.
#include <vector>

#include "kernel_table.hpp"

namespace po2quant::bench {

/// The best last.
inline constexpr const kernel_table* all_tables[] = {
    &generic_kernels,
#if defined(__x86_64__)
    &sse2_kernels,    &sse4_1_kernels, &avx2_kernels, &avx_vnni_kernels, &avx512bw_kernels, &avx512_vnni_kernels,
#endif
};

inline std::vector<const kernel_table*> runnable_tables() {
    std::vector<const kernel_table*> all;
    for (const kernel_table* table : all_tables)
        if (cpu_supports(table->name)) all.push_back(table);
    return all;
}

/// The instruction set whose roofs everything is compared with.
inline const kernel_table& best() {
    static const kernel_table* const table = runnable_tables().back();
    return *table;
}

}  // namespace po2quant::bench
