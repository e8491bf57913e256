// The kernels, taken as users take them: by the tag of the architecture.
#include "kernels.hpp"

namespace po2quant::test {

const kernels::conv2d_table& conv2d_kernels() { return kernels::conv2d_table_of<default_arch>; }
const kernels::depthwise_table& depthwise_kernels() { return kernels::depthwise_table_of<default_arch>; }
const kernels::quantize_table& quantize_kernels() { return kernels::quantize_table_of<default_arch>; }

}  // namespace po2quant::test
