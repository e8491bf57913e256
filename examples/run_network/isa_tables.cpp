#include "isa_list.hpp"
#include "isa_table.hpp"

namespace run_network {

#define PO2QUANT_DECLARE(isa) extern const isa_table isa##_table;
PO2QUANT_FOR_EACH_ISA(PO2QUANT_DECLARE)
#undef PO2QUANT_DECLARE

const std::vector<const isa_table*>& isa_tables() {
#define PO2QUANT_ADDRESS(isa) &isa##_table,
    static const std::vector<const isa_table*> all = {PO2QUANT_FOR_EACH_ISA(PO2QUANT_ADDRESS)};
#undef PO2QUANT_ADDRESS
    return all;
}

}  // namespace run_network
