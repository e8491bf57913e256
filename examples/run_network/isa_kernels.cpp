#include "isa_kernels.hpp"

#include <po2quant/dispatch.hpp>

namespace po2quant::bench {
template <class Arch>
std::int64_t dot_products(std::int64_t repetitions);
}

namespace run_network {
namespace {

struct compiled_isa_kernels {
    template <class Arch>
    isa_kernels operator()(Arch arch) const {
        return {po2quant::compiled_layer_kernels{}(arch), &po2quant::bench::dot_products<Arch>};
    }
};

}  // namespace

isa_kernels kernels_of(const std::string& isa) {
    const po2quant::dispatcher run = isa.empty() ? po2quant::dispatcher() : po2quant::dispatcher(isa);
    return run(compiled_isa_kernels{});
}

std::vector<isa_kernels> runnable_kernels() {
    std::vector<isa_kernels> all;
    for (const char* isa : po2quant::dispatcher<>::runnable()) all.push_back(kernels_of(isa));
    return all;
}

}  // namespace run_network
