#pragma once
/// Which of the tables this machine can run.
#include <string>
#include <vector>

#include "kernel_table.hpp"

namespace po2quant::bench {

/// The best last.
const std::vector<kernel_table>& runnable_tables();

/// The instruction sets of this program that this CPU does not run.
std::vector<std::string> other_isas();

/// The instruction set whose roofs are those of the machine.
inline const kernel_table& best() { return runnable_tables().back(); }

/// A call of an instruction set's dot products, some microseconds, and its multiply-accumulates.
constexpr std::int64_t dot_product_repetitions = 2000;
inline auto dot_product_peak(const kernel_table& table) {
    return [&table] { table.dot_products(dot_product_repetitions); };
}
inline double dot_product_peak_macs(const kernel_table& table) {
    return static_cast<double>(table.dot_products(1) * dot_product_repetitions);
}

}  // namespace po2quant::bench
