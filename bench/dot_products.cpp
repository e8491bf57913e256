// Compiled once for each instruction set.
#include "dot_products.hpp"

template std::int64_t po2quant::bench::dot_products<po2quant::default_arch>(std::int64_t repetitions);
