#pragma once
/// Which tables there are, and which of them this machine can run.
#include <vector>

#include "isa_list.hpp"
#include "kernel_table.hpp"

namespace po2quant::bench {

#define PO2QUANT_DECLARE(isa) extern const kernel_table isa##_kernels;
PO2QUANT_FOR_EACH_ISA(PO2QUANT_DECLARE)
#undef PO2QUANT_DECLARE

/// The best last.
#define PO2QUANT_ADDRESS(isa) &isa##_kernels,
inline constexpr const kernel_table* all_tables[] = {PO2QUANT_FOR_EACH_ISA(PO2QUANT_ADDRESS)};
#undef PO2QUANT_ADDRESS

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
