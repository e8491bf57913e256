// The kernels of networks of integers for one instruction set, PO2QUANT_ISA, as <isa>_layers. Nothing of the standard
// library runs in here, so nothing that the linker could take for other objects is compiled with these flags.
#include <po2quant/inference/layer_kernels.hpp>

#define PO2QUANT_JOIN_(a, b) a##b
#define PO2QUANT_JOIN(a, b) PO2QUANT_JOIN_(a, b)

namespace po2quant {

extern const layer_kernels PO2QUANT_JOIN(PO2QUANT_ISA, _layers);
constexpr layer_kernels PO2QUANT_JOIN(PO2QUANT_ISA, _layers) = layer_kernels_of<arch::PO2QUANT_ISA>;

}  // namespace po2quant
