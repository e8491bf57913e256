// Convolutions whose steady loops dot_product_share.cmake reads: blocks of 2 to 4 registers of outputs.
#include <po2quant/kernels/conv2d.hpp>

namespace po2quant::kernels {

using isa = arch::PO2QUANT_ISA;
using dot = simd::integer<isa>::dot_i8;

template void conv2d<isa, dot, 2, false>(const conv2d_rectangle<std::int8_t>&);
template void conv2d<isa, dot, 3, false>(const conv2d_rectangle<std::int8_t>&);
template void conv2d<isa, dot, 4, false>(const conv2d_rectangle<std::int8_t>&);

}  // namespace po2quant::kernels
