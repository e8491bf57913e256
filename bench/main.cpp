// All benchmarks of this machine's instruction sets: names op/arch/shape, counters beside the roofs of the same run.
//   po2quant_bench [--filter REGEX] [--json FILE] [options of Google Benchmark]
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>
#include <vector>

#include <po2quant/simd/xsimd.hpp>

#include "emulation.hpp"
#include "measure.hpp"
#include "rows.hpp"
#include "runnable_tables.hpp"

namespace po2quant::bench {
namespace {

/// Timed batches of each row; its figures are their medians.
constexpr int samples = 15;

/// A row beside its roof: a pass beside the bandwidth of its size, a layer beside the dot-product peak of the best
/// instruction set, a fused op beside its ops apart.
void run_row(benchmark::State& state, const row& r, const kernel_table* table) {
    const workload w = r.open();
    const engine roof = w.bandwidth ? w.bandwidth : w.make_apart ? w.make_apart(table) : dot_product_peak(best());
    const timing t = measure(state, w.make(table), roof);
    state.counters["spread"] = t.spread;
    if (w.bandwidth) {
        state.counters["bytes_per_second"] = w.bytes / t.kernel;
        state.counters["roof_fraction"] = t.roof / t.kernel;
        return;
    }
    const double rate = w.macs / t.kernel;
    state.counters["gmac_per_s"] = rate * 1e-9;
    if (w.make_apart) state.counters["speed_over_apart"] = t.roof / t.kernel;
    else state.counters["peak_fraction"] = rate / (dot_product_peak_macs(best()) / t.roof);
}

void register_all() {
    for (const std::string& isa : other_isas()) std::fprintf(stderr, "not measured: this CPU has no %s\n", isa.c_str());
    const auto add = [](const row& r, const kernel_table* table) {
        const std::string name = r.op + "/" + (table ? table->name : "plain_o3_native") + "/" + r.shape;
        benchmark::RegisterBenchmark(name.c_str(), [r, table](benchmark::State& state) { run_row(state, r, table); })
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond)
            ->Iterations(samples);
    };
    for (const row& r : all_rows()) {
        for (const kernel_table& table : runnable_tables()) add(r, &table);
        if (r.has_plain) add(r, nullptr);
    }
}

/// Prints each row as it is done, as a row of a Markdown table.
class markdown_reporter : public benchmark::BenchmarkReporter {
public:
    bool ReportContext(const Context& context) override {
        std::printf(
            "| benchmark | µs | GMAC/s or GB/s | of peak, of roof, or over the ops apart | spread "
            "|\n|---|--:|--:|--:|--:|\n");
        (void)context;
        return true;
    }
    void ReportRuns(const std::vector<Run>& runs) override {
        for (const Run& run : runs) {
            std::string name = run.benchmark_name();
            if (const auto end = name.find("/iterations"); end != std::string::npos) name.resize(end);
            const auto value = [&run](const char* counter) {
                const auto at = run.counters.find(counter);
                return at == run.counters.end() ? 0.0 : at->second.value;
            };
            const bool macs = run.counters.count("gmac_per_s") != 0;
            std::printf("| %s | %.2f | %.1f | %.3f | %.0f %% |\n", name.c_str(), run.GetAdjustedRealTime(),
                        macs ? value("gmac_per_s") : value("bytes_per_second") * 1e-9,
                        run.counters.count("speed_over_apart") != 0 ? value("speed_over_apart")
                        : macs                                      ? value("peak_fraction")
                                                                    : value("roof_fraction"),
                        100 * value("spread"));
            std::fflush(stdout);
        }
    }
};

}  // namespace
}  // namespace po2quant::bench

int main(int argc, char** argv) {
    po2quant::bench::refuse_emulation();
    // --json and --filter under Google Benchmark's names.
    std::vector<std::string> arguments(argv, argv + argc);
    for (std::size_t i = 1; i < arguments.size(); ++i) {
        const bool json = arguments[i] == "--json";
        if (!json && arguments[i] != "--filter") continue;
        if (i + 1 == arguments.size()) {
            std::fprintf(stderr, "%s needs a value\n", arguments[i].c_str());
            return 2;
        }
        arguments[i] = (json ? "--benchmark_out=" : "--benchmark_filter=") + arguments[i + 1];
        arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    }
    std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    int count = static_cast<int>(pointers.size());
    pointers.push_back(nullptr);
    benchmark::Initialize(&count, pointers.data());
    if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) return 2;
    benchmark::AddCustomContext("compiler", __VERSION__);
    benchmark::AddCustomContext("xsimd", std::to_string(XSIMD_VERSION_MAJOR) + "." +
                                             std::to_string(XSIMD_VERSION_MINOR) + "." +
                                             std::to_string(XSIMD_VERSION_PATCH));
    benchmark::AddCustomContext("best_isa", po2quant::bench::best().name);
    po2quant::bench::register_all();
    po2quant::bench::markdown_reporter table;
    benchmark::RunSpecifiedBenchmarks(&table);
    benchmark::Shutdown();
}
