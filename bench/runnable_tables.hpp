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

/// The instruction set whose roofs everything is compared with.
inline const kernel_table& best() { return runnable_tables().back(); }

}  // namespace po2quant::bench
