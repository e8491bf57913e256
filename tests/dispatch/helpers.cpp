// Compiled once for each instruction set.
#include "kernels.hpp"

const char* helper() { return compiled_as(); }
