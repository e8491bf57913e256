#include "kernels.hpp"

#include <po2quant/dispatch.hpp>

std::vector<std::string> names_of(const char* isa) {
    return po2quant::dispatcher{isa}([]<class Arch>(Arch) { return kernels<Arch>::names(); });
}

void refuse(const char* isa) {
    po2quant::dispatcher{isa}([]<class Arch>(Arch) { kernels<Arch>::refuse(); });
}
