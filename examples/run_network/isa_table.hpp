#pragma once
/// The kernels of one instruction set, and its roof; isa_table.cpp is compiled once for each.
#include <vector>

#include <po2quant/inference/layer_kernels.hpp>

namespace run_network {

struct isa_table {
    const po2quant::layer_kernels& layers;
    std::int64_t (*dot_products)(std::int64_t repetitions);  ///< the roof: multiply-accumulates done, in registers
};

/// All that this program has, the best last.
const std::vector<const isa_table*>& isa_tables();

}  // namespace run_network
