#pragma once
/// Pools as function pointers, for programs that hold those of several instruction sets.
#include <po2quant/kernels/average_pool.hpp>
#include <po2quant/kernels/max_pool.hpp>

namespace po2quant::kernels {

/// The pools of one instruction set.
struct pool_table {
    const char* arch;
    void (*max)(const pool_rectangle&);
    void (*sum)(const pool_rectangle&);     ///< int32
    void (*mean8)(const pool_rectangle&);   ///< int8
    void (*mean16)(const pool_rectangle&);  ///< int16 with 8 more bits of fraction

    /// The average pool that writes Output.
    template <class Output>
    auto average() const {
        return sizeof(Output) == 1 ? mean8 : sizeof(Output) == 2 ? mean16 : sum;
    }
};

template <class Arch>
inline constexpr pool_table pool_table_of = {Arch::name, &max_pool<Arch>, &average_pool<Arch, std::int32_t>,
                                             &average_pool<Arch, std::int8_t>, &average_pool<Arch, std::int16_t>};

}  // namespace po2quant::kernels
