#pragma once
/// The rows of all benchmarks: every pass over floats or codes at every size, every layer, every fused op.
#include <functional>
#include <string>
#include <vector>

#include "kernel_table.hpp"

namespace po2quant::bench {

/// One call of a row's op on one instruction set, or of a roof.
using engine = std::function<void()>;

/// A row with its memory, which all its engines share. A null table stands for the plain loop.
struct workload {
    double macs = 0;   ///< multiply-accumulates of one call, padded taps counted; 0: a pass, bound by memory
    double bytes = 0;  ///< read and written by one call
    std::function<engine(const kernel_table*)> make = {};
    std::function<engine(const kernel_table*)> make_apart = {};  ///< a fused op's ops apart; else empty
    engine bandwidth = {};                                       ///< of a pass: its roof, which moves as many bytes
};

struct row {
    std::string op;
    std::string shape;
    bool has_plain;
    std::function<workload()> open;
};

std::vector<row> all_rows();

}  // namespace po2quant::bench
