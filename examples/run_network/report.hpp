#pragma once
/// The table of a network's layers, and the same as JSON.
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "golden.hpp"
#include "isa_kernels.hpp"
#include "network.hpp"

namespace run_network {

/// Medians, in seconds, of runs of the network, of its ops and of the dot products in turn.
struct timings {
    double whole = 0;
    std::vector<double> layers = {};
    double peak = 0;    ///< multiply-accumulates per second of one thread
    double spread = 0;  ///< of whole: distance of the quartiles over the median
    int runs = 0;
};

/// Runs it for about `seconds`, at least 5 times; the input is what it is.
timings measure(const network& net, const isa_kernels& isa, const executor& e, double seconds);

/// One line per op and one for all; comparisons may be empty.
std::string layer_table(const network& net, const timings& times, const std::vector<comparison>& goldens);

/// The same: {"layers": [...], "microseconds": ..., "compared": ..., "differing": ...}.
nlohmann::json layer_json(const network& net, const timings& times, const std::vector<comparison>& goldens);

}  // namespace run_network
