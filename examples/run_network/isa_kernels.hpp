#pragma once
/// The kernels of one instruction set, and its roof.
#include <string>
#include <vector>

#include <po2quant/inference/layer_kernels.hpp>

namespace run_network {

struct isa_kernels {
    const po2quant::layer_kernels& layers;
    std::int64_t (*dot_products)(std::int64_t repetitions);  ///< the roof: multiply-accumulates done, in registers
};

/// Those of a name; for an empty one of what PO2QUANT_ISA names, or the best. Throws std::invalid_argument for one that
/// this program does not have, or that this CPU does not run.
isa_kernels kernels_of(const std::string& isa);

/// All that this CPU runs, the best last.
std::vector<isa_kernels> runnable_kernels();

}  // namespace run_network
