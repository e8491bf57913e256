#pragma once
/// One row of the table across instruction sets: what was timed, which of it is steady enough to be told, and how it is
/// told in text and JSON.
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace po2quant::bench {

/// Times whose quartiles are farther apart than this part of their median are too noisy to be reported.
constexpr double widest_spread = 0.1;

bool noisy(const std::vector<double>& times);

/// An instruction set, or the plain loop, beside its roof: the bandwidth at the row's size, or its own dot-product
/// peak.
struct isa_cell {
    std::string isa;
    std::vector<double> times;       ///< seconds per call, one a round
    std::vector<double> roof_times;  ///< the same of the roof
    double roof_work;                ///< bytes or multiply-accumulates of one call of the roof
};

struct isa_row {
    std::string op;
    std::string shape;
    double macs;   ///< of one call; 0: a pass
    double bytes;  ///< of one call
    int attempts = 0;
    int discarded = 0;            ///< rounds of the last attempt
    std::vector<isa_cell> cells;  ///< that of the plain loop, where there is one, is the first

    int noisy_series() const;
};

constexpr const char* plain_name = "plain_o3_native";

/// What is told of a cell; nothing of what is noisy.
struct isa_figures {
    std::optional<double> rate;           ///< GB/s of a pass, GMAC/s of a layer
    std::optional<double> speedup;        ///< over the plain loop
    std::optional<double> roof;           ///< in units of the rate
    std::optional<double> roof_fraction;  ///< rate / roof
};
isa_figures figures(const isa_row& r, const isa_cell& c);

/// Calls attempt(), which gives a row, until no series is noisy, at most `limit` times; gives the row with the fewest.
template <class Attempt>
isa_row steadiest(int limit, Attempt attempt) {
    isa_row best = attempt();
    int attempts = 1;
    for (; attempts < limit && best.noisy_series() != 0; ++attempts)
        if (isa_row next = attempt(); next.noisy_series() < best.noisy_series()) best = std::move(next);
    best.attempts = attempts;
    return best;
}

/// Markdown. `isas` are the columns behind that of the plain loop.
std::string table_head(const std::vector<std::string>& isas);
std::string table_line(const isa_row& r, const std::vector<std::string>& isas);

nlohmann::json to_json(const isa_row& r);

}  // namespace po2quant::bench
