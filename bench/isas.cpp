// All instruction sets of this machine beside the plain loops of -O3 -march=native, in one run on one thread: every row
// times its engines and their roofs in turn. A cell is the rate, × the speed-up over the plain loop, and the part of
// the roof: the bandwidth at that size, or the instruction set's own dot-product peak, for the plain loop that of the
// best one.
//   po2quant_bench_table [--json FILE] [--filter REGEX] [--rounds N] [--seed N]
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <random>
#include <regex>
#include <string>
#include <vector>

#include <po2quant/simd/xsimd.hpp>

#include "emulation.hpp"
#include "in_turn.hpp"
#include "isa_table.hpp"
#include "options.hpp"
#include "rows.hpp"
#include "runnable_tables.hpp"

namespace po2quant::bench {
namespace {

/// How often a row is timed at most, where something in it is noisy.
constexpr int attempts = 3;

isa_row measure(const row& r, const options& o, std::mt19937& random) {
    const workload w = r.open();
    std::vector<const kernel_table*> tables;
    if (r.has_plain) tables.push_back(nullptr);
    for (const kernel_table& table : runnable_tables()) tables.push_back(&table);
    std::vector<contender> engines;
    std::vector<contender> roofs;  // one for all, or those of runnable_tables()
    const auto add = [](std::vector<contender>& to, engine run, double target) {
        const std::int64_t calls = calls_for(run, target);
        to.push_back({std::move(run), calls, {}});
    };
    for (const kernel_table* table : tables) add(engines, w.make(table), 2e-4);
    if (w.bandwidth) add(roofs, w.bandwidth, 1e-4);
    else
        for (const kernel_table& table : runnable_tables()) add(roofs, dot_product_peak(table), 1e-4);
    std::vector<contender*> all;
    for (contender& c : engines) all.push_back(&c);
    for (contender& c : roofs) all.push_back(&c);
    return steadiest(attempts, [&] {
        const rounds_summary summary = time_in_turn(all, o.rounds, random);
        isa_row timed{r.op, r.shape, w.macs, w.bytes, 0, summary.discarded, {}};
        for (std::size_t i = 0; i < tables.size(); ++i) {
            // The plain loop is compiled for all that the machine has.
            const kernel_table& table = tables[i] ? *tables[i] : best();
            const contender& roof =
                w.bandwidth ? roofs.front() : roofs[static_cast<std::size_t>(&table - runnable_tables().data())];
            timed.cells.push_back({tables[i] ? table.name : plain_name, engines[i].times, roof.times,
                                   w.bandwidth ? w.bytes : dot_product_peak_macs(table)});
        }
        return timed;
    });
}

int run(const options& o) {
    std::vector<row> rows = all_rows();
    std::erase_if(rows, [&](const row& r) { return !std::regex_search(r.op + "/" + r.shape, o.filter); });
    if (rows.empty()) {
        std::fprintf(stderr, "--filter: no row op/shape has it; an op is fake_quantize or conv2d, for example\n");
        return 2;
    }
    std::vector<std::string> isas;
    for (const kernel_table& table : runnable_tables()) isas.emplace_back(table.name);
    for (const std::string& isa : other_isas()) std::fprintf(stderr, "not measured: this CPU has no %s\n", isa.c_str());
    std::printf(
        "One thread, medians of %d rounds; × over the plain loop, %% of the roof. Noisy: quartiles more than %.0f %% "
        "of "
        "the median apart in each of %d attempts.\n\n%s",
        o.rounds, 100 * widest_spread, attempts, table_head(isas).c_str());
    std::mt19937 random(o.seed);
    nlohmann::json json{{"compiler", __VERSION__},
                        {"xsimd", std::to_string(XSIMD_VERSION_MAJOR) + "." + std::to_string(XSIMD_VERSION_MINOR) +
                                      "." + std::to_string(XSIMD_VERSION_PATCH)},
                        {"isas", isas},
                        {"rounds", o.rounds},
                        {"seed", o.seed},
                        {"widest_spread", widest_spread},
                        {"rows", nlohmann::json::array()}};
    for (const row& r : rows) {
        const isa_row timed = measure(r, o, random);
        std::printf("%s", table_line(timed, isas).c_str());
        std::fflush(stdout);
        json["rows"].push_back(to_json(timed));
    }
    if (o.json.empty()) return 0;
    std::ofstream out(o.json);
    out << json.dump(1) << "\n";
    if (out) return 0;
    std::fprintf(stderr, "%s could not be written\n", o.json.c_str());
    return 1;
}

}  // namespace
}  // namespace po2quant::bench

int main(int argc, char** argv) {
    po2quant::bench::refuse_emulation();
    return po2quant::bench::run(po2quant::bench::parse_options(argc, argv));
}
