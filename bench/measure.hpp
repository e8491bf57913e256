#pragma once
/// Timing of a kernel beside its roof: the two in turn, in batches of about a tenth of a millisecond and more, medians
/// of both, and their ratio. A machine that slows down for a while slows both.
#include <vector>

#include <benchmark/benchmark.h>

#include "timing.hpp"

namespace po2quant::bench {

struct timing {
    double kernel;  ///< median seconds per call
    double roof;    ///< median seconds per call
    double spread;  ///< distance of the kernel's quartiles over its median
};

template <class Kernel, class Roof>
timing measure(benchmark::State& state, Kernel kernel, Roof roof) {
    const std::int64_t kernel_calls = calls_for(kernel, 2e-4);
    const std::int64_t roof_calls = calls_for(roof, 1e-4);
    std::vector<double> kernel_times;
    std::vector<double> roof_times;
    for (auto _ : state) {
        const double time = time_calls(kernel, kernel_calls);
        kernel_times.push_back(time);
        roof_times.push_back(time_calls(roof, roof_calls));
        state.SetIterationTime(time);
    }
    return {quantile(kernel_times, 0.5), quantile(roof_times, 0.5), spread(kernel_times)};
}

}  // namespace po2quant::bench
