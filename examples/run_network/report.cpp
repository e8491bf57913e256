#include "report.hpp"

#include <algorithm>
#include <cstdio>

#include <nlohmann/json.hpp>

#include "../../bench/timing.hpp"

namespace run_network {

using json = nlohmann::json;
using po2quant::bench::quantile;
using po2quant::bench::seconds;

timings measure(const network& net, const isa_kernels& isa, const executor& e, double duration) {
    constexpr std::int64_t repetitions = 2000;
    std::vector<double> whole;
    std::vector<double> peak;
    std::vector<std::vector<double>> ops(net.layers().size());
    isa.dot_products(repetitions);
    net.run(e);
    const double end = seconds() + duration;
    while (whole.size() < 5 || seconds() < end) {
        double start = seconds();
        net.run(e);
        whole.push_back(seconds() - start);
        double before = seconds();
        net.run(e, [&](std::size_t i) {
            const double now = seconds();
            ops[i].push_back(now - before);
            before = seconds();
        });
        start = seconds();
        const auto done = static_cast<double>(isa.dot_products(repetitions));
        peak.push_back(done / (seconds() - start));
    }
    timings t;
    t.whole = quantile(whole, 0.5);
    t.spread = (quantile(whole, 0.75) - quantile(whole, 0.25)) / t.whole;
    t.peak = quantile(peak, 0.5);
    t.runs = static_cast<int>(whole.size());
    for (const auto& op : ops) t.layers.push_back(quantile(op, 0.5));
    return t;
}

namespace {

std::string text(const char* format, double value) {
    char line[64];
    std::snprintf(line, sizeof line, format, value);
    return line;
}

std::string shown(const std::vector<std::int64_t>& shape) {
    std::string all;
    for (const std::int64_t length : shape) all += (all.empty() ? "" : "x") + std::to_string(length);
    return all;
}

std::int64_t all_products(const network& net) {
    std::int64_t sum = 0;
    for (const layer& l : net.layers()) sum += l.multiply_accumulates;
    return sum;
}

/// Columns as wide as their widest cell; the first two to the left.
std::string table(const std::vector<std::vector<std::string>>& lines) {
    const auto width_of = [](const std::string& s) {
        return static_cast<std::size_t>(
            std::count_if(s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
    };
    std::vector<std::size_t> widths(lines.front().size());
    for (const auto& line : lines)
        for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], width_of(line[i]));
    std::string all;
    for (const auto& line : lines) {
        for (std::size_t i = 0; i < line.size(); ++i) {
            const std::string blank(widths[i] - width_of(line[i]), ' ');
            all += (i == 0 ? "" : "  ") + (i < 2 ? line[i] + blank : blank + line[i]);
        }
        while (all.back() == ' ') all.pop_back();
        all += '\n';
    }
    return all;
}

std::vector<int> shifts_of(const layer& l, const tensor& out) {
    std::vector<int> shifts;
    for (const int e : l.weight_exponents) shifts.push_back(out.exponent - l.input_exponent - e);
    return shifts;
}

/// The smallest and the largest.
std::string span_of(const std::vector<int>& values) {
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    return *low == *high ? std::to_string(*low) : std::to_string(*low) + ".." + std::to_string(*high);
}

std::string golden_cell(const comparison& c) {
    if (c.compared == 0) return "-";
    return c.differing == 0 ? "equal" : std::to_string(c.differing) + " differ";
}

}  // namespace

std::string layer_table(const network& net, const timings& times, const std::vector<comparison>& goldens) {
    std::vector<std::vector<std::string>> lines = {{"layer", "op", "output", "e_x", "e_w", "e_y", "shift",
                                                    "worst |acc|", "bits", "float32", "µs", "GMAC/s", "of peak"}};
    if (!goldens.empty()) lines[0].push_back("golden");
    for (std::size_t i = 0; i < net.layers().size(); ++i) {
        const layer& l = net.layers()[i];
        const tensor& out = net.value(l.value);
        std::vector<std::string> line = {
            l.name, std::string(name_of(l.kind)) + (*l.form == 0 ? "" : std::string(" ") + l.form), shown(out.shape)};
        const bool proven = l.proof.channels() > 0;
        const bool weights = !l.weight_exponents.empty();
        line.push_back(weights ? std::to_string(l.input_exponent) : "");
        line.push_back(weights ? span_of(l.weight_exponents) : "");
        line.push_back(out.type == element::float32 ? "float" : std::to_string(out.exponent));
        line.push_back(weights && out.type != element::float32 ? span_of(shifts_of(l, out)) : "");
        line.push_back(proven ? std::to_string(l.proof.worst) : "");
        line.push_back(proven ? std::to_string(l.proof.bits) : "");
        line.push_back(proven ? (l.proof.float32_exact ? "exact" : "not exact") : "");
        line.push_back(text("%.2f", 1e6 * times.layers[i]));
        const double rate = static_cast<double>(l.multiply_accumulates) / times.layers[i];
        line.push_back(l.multiply_accumulates == 0 ? "" : text("%.1f", 1e-9 * rate));
        line.push_back(l.multiply_accumulates == 0 ? "" : text("%.2f", rate / times.peak));
        if (!goldens.empty()) line.push_back(golden_cell(goldens[i]));
        lines.push_back(std::move(line));
    }
    const double rate = static_cast<double>(all_products(net)) / times.whole;
    std::vector<std::string> sum = {"network",
                                    "",
                                    "",
                                    "",
                                    "",
                                    "",
                                    "",
                                    "",
                                    "",
                                    "",
                                    text("%.2f", 1e6 * times.whole),
                                    text("%.1f", 1e-9 * rate),
                                    text("%.2f", rate / times.peak)};
    if (!goldens.empty()) {
        comparison all;
        for (const comparison& c : goldens) all = {all.compared + c.compared, all.differing + c.differing};
        sum.push_back(golden_cell(all));
    }
    lines.push_back(std::move(sum));
    return table(lines);
}

json layer_json(const network& net, const timings& times, const std::vector<comparison>& goldens) {
    json layers = json::array();
    comparison all;
    for (std::size_t i = 0; i < net.layers().size(); ++i) {
        const layer& l = net.layers()[i];
        const tensor& out = net.value(l.value);
        json one = {{"name", l.name},
                    {"op", name_of(l.kind)},
                    {"output_shape", out.shape},
                    {"microseconds", 1e6 * times.layers[i]},
                    {"multiply_accumulates", l.multiply_accumulates}};
        if (out.type != element::float32) one["output_exponent"] = out.exponent;
        if (*l.form != 0) one["form"] = l.form;
        if (!l.weight_exponents.empty()) {
            one["input_exponent"] = l.input_exponent;
            one["weight_exponents"] = l.weight_exponents;
            if (out.type != element::float32) one["shifts"] = shifts_of(l, out);
        }
        if (l.multiply_accumulates > 0) {
            const double rate = static_cast<double>(l.multiply_accumulates) / times.layers[i];
            one["gmac_per_second"] = 1e-9 * rate;
            one["peak_fraction"] = rate / times.peak;
        }
        if (l.proof.channels() > 0) {
            one["worst_accumulator"] = l.proof.worst;
            one["accumulator_bits"] = l.proof.bits;
            one["float32_exact"] = l.proof.float32_exact;
        }
        if (!goldens.empty()) {
            one["compared"] = goldens[i].compared;
            one["differing"] = goldens[i].differing;
            all = {all.compared + goldens[i].compared, all.differing + goldens[i].differing};
        }
        layers.push_back(std::move(one));
    }
    const double rate = static_cast<double>(all_products(net)) / times.whole;
    json root = {{"layers", std::move(layers)},
                 {"microseconds", 1e6 * times.whole},
                 {"spread", times.spread},
                 {"runs", times.runs},
                 {"multiply_accumulates", all_products(net)},
                 {"gmac_per_second", 1e-9 * rate},
                 {"peak_gmac_per_second", 1e-9 * times.peak},
                 {"peak_fraction", rate / times.peak},
                 {"tensor_bytes", net.memory_bytes()}};
    if (!goldens.empty()) {
        root["compared"] = all.compared;
        root["differing"] = all.differing;
    }
    return root;
}

}  // namespace run_network
