// Compiled once for each instruction set.
#include "kernels.hpp"

#include <po2quant/simd/arch.hpp>

// helpers.cpp: in every instruction set under the same name.
const char* helper();

template <class Arch>
std::vector<std::string> kernels<Arch>::names() {
    ++calls();
    return {compiled_as(), helper()};
}

template <class Arch>
void kernels<Arch>::refuse() {
    throw refused(compiled_as());
}

template struct kernels<po2quant::default_arch>;
