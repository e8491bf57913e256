// The kernels of networks of integers for the instruction set of this source's flags. Nothing of the standard library
// runs in here, so nothing that the linker could take for other objects is compiled with these flags.
#include <po2quant/inference/layer_kernels.hpp>

namespace po2quant {

template <class Arch>
const layer_kernels& compiled_layer_kernels::operator()(Arch) const {
    return layer_kernels_of<Arch>;
}
template const layer_kernels& compiled_layer_kernels::operator()(default_arch) const;

}  // namespace po2quant
