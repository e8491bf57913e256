// The table of one instruction set, PO2QUANT_ISA. Nothing of the standard library runs in here.
#include "isa_table.hpp"

#include "../../bench/dot_products.hpp"

#define PO2QUANT_JOIN_(a, b) a##b
#define PO2QUANT_JOIN(a, b) PO2QUANT_JOIN_(a, b)

namespace po2quant {
extern const layer_kernels PO2QUANT_JOIN(PO2QUANT_ISA, _layers);
}

namespace run_network {

extern const isa_table PO2QUANT_JOIN(PO2QUANT_ISA, _table);
constexpr isa_table PO2QUANT_JOIN(PO2QUANT_ISA, _table) = {
    po2quant::PO2QUANT_JOIN(PO2QUANT_ISA, _layers), &po2quant::bench::dot_products<po2quant::arch::PO2QUANT_ISA>};

}  // namespace run_network
