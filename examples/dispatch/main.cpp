// One program for every CPU: the best instruction set that this one runs, or what PO2QUANT_ISA names.
#include <cstdio>
#include <exception>

#include <po2quant/dispatch.hpp>

#include "passes.hpp"

int main() try {
    const po2quant::dispatcher run;
    std::printf("compiled for:");
    for (const char* isa : run.compiled()) std::printf(" %s", isa);
    std::printf("; this CPU runs:");
    for (const char* isa : run.runnable()) std::printf(" %s", isa);
    std::printf("; chosen: %s\n", run.isa());

    std::vector<float> x(1000);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.013F * static_cast<float>(i) - 6.0F;
    const std::vector<float> grid = run([&]<class Arch>(Arch) { return passes<Arch>::on_grid(x, -4); });
    const std::vector<std::int8_t> sums = run([&]<class Arch>(Arch) { return passes<Arch>::doubled_codes(x, -4); });
    double grid_sum = 0;
    long long code_sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        grid_sum += grid[i] * static_cast<double>(i);
        code_sum += sums[i] * static_cast<long long>(i);
    }
    std::printf("sum of values %.17g, of codes %lld\n", grid_sum, code_sum);
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
