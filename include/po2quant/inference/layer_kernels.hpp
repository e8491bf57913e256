#pragma once
/// All kernels of a network of integers, of one instruction set, as one object. A program that holds those of several
/// chooses at run time: see dispatch.hpp.
#include <po2quant/kernels/conv2d.hpp>
#include <po2quant/kernels/depthwise_conv2d.hpp>
#include <po2quant/kernels/pool_table.hpp>
#include <po2quant/kernels/quantize.hpp>
#include <po2quant/kernels/requantize.hpp>

namespace po2quant {

/// Tables to hand to layers and ops. `arch` is what cpu_supports is asked for.
struct layer_kernels {
    const char* arch;
    const kernels::conv2d_table& conv2d;
    const kernels::depthwise_table& depthwise_conv2d;
    const kernels::pool_table& pool;        ///< average_pool, max_pool
    const kernels::rescale_table& rescale;  ///< add, concat, requantize
    const kernels::quantize_table& quantize;
};

template <class Arch>
inline constexpr layer_kernels layer_kernels_of = {Arch::name,
                                                   kernels::conv2d_table_of<Arch>,
                                                   kernels::depthwise_table_of<Arch>,
                                                   kernels::pool_table_of<Arch>,
                                                   kernels::rescale_table_of<Arch>,
                                                   kernels::quantize_table_of<Arch>};

/// Those of one instruction set where CMake's po2quant_add_isa_sources(… LAYER_KERNELS) compiled them:
///   const po2quant::layer_kernels& kernels = run(po2quant::compiled_layer_kernels{});  // run: a po2quant::dispatcher
struct compiled_layer_kernels {
    template <class Arch>
    const layer_kernels& operator()(Arch) const;
};

}  // namespace po2quant
