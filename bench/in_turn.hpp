#pragma once
/// Timing of several things in turn, so that a machine that changes its speed changes it for all.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "runnable_tables.hpp"
#include "timing.hpp"

namespace po2quant::bench {

/// One of those that are timed.
struct contender {
    std::function<void()> run;
    std::int64_t calls = 1;     ///< of one round
    std::vector<double> times;  ///< seconds per call, one a round
};

struct rounds_summary {
    double peak;    ///< multiply-accumulates per second of the best instruction set's dot product
    int discarded;  ///< rounds
};

/// Every round times each once, in a new order, beside the dot-product peak: behind a call of its own that is not
/// timed, and so in the caches as it leaves them itself, not as the one before it. Rounds in which the peak was slow
/// count for nobody.
inline rounds_summary time_in_turn(const std::vector<contender*>& all, int rounds, std::mt19937& random) {
    constexpr double slow = 1.15;
    const std::function<void()> dot_products = dot_product_peak(best());
    const std::int64_t calls = calls_for(dot_products, 1e-4);
    std::vector<double> peak_times;
    std::vector<std::size_t> order(all.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    for (contender* c : all) c->times.clear();
    for (int round = 0; round < rounds; ++round) {
        peak_times.push_back(time_calls(dot_products, calls));
        std::shuffle(order.begin(), order.end(), random);
        for (const std::size_t i : order) {
            all[i]->run();
            all[i]->times.push_back(time_calls(all[i]->run, all[i]->calls));
        }
    }
    const double usual = quantile(peak_times, 0.5);
    int discarded = 0;
    for (int round = rounds - 1; round >= 0; --round) {
        if (peak_times[static_cast<std::size_t>(round)] <= slow * usual) continue;
        ++discarded;
        for (contender* c : all) c->times.erase(c->times.begin() + round);
    }
    return {dot_product_peak_macs(best()) / usual, discarded};
}

}  // namespace po2quant::bench
