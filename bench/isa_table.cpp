#include "isa_table.hpp"

#include <cstdio>

#include "timing.hpp"

namespace po2quant::bench {
namespace {

template <class... Values>
std::string formatted(const char* format, Values... values) {
    char text[64];
    std::snprintf(text, sizeof text, format, values...);
    return text;
}

std::string cell_text(const isa_row& r, const isa_cell& c) {
    const isa_figures f = figures(r, c);
    if (!f.rate) return formatted("noisy (%.0f %%)", 100 * spread(c.times));
    std::string text = formatted("%.3g", *f.rate);
    if (f.speedup && c.isa != plain_name) text += formatted(" ×%.2f", *f.speedup);
    if (f.roof_fraction) text += formatted(" %.0f %%", 100 * *f.roof_fraction);
    return text;
}

}  // namespace

bool noisy(const std::vector<double>& times) { return spread(times) > widest_spread; }

int isa_row::noisy_series() const {
    int count = 0;
    for (const isa_cell& c : cells) count += noisy(c.times) + noisy(c.roof_times);
    return count;
}

isa_figures figures(const isa_row& r, const isa_cell& c) {
    const double unit = 1e-9;
    isa_figures f;
    if (!noisy(c.roof_times)) f.roof = c.roof_work / quantile(c.roof_times, 0.5) * unit;
    if (noisy(c.times)) return f;
    const double time = quantile(c.times, 0.5);
    f.rate = (r.macs != 0 ? r.macs : r.bytes) / time * unit;
    if (f.roof) f.roof_fraction = *f.rate / *f.roof;
    const isa_cell& plain = r.cells.front();
    if (plain.isa == plain_name && !noisy(plain.times)) f.speedup = quantile(plain.times, 0.5) / time;
    return f;
}

std::string table_head(const std::vector<std::string>& isas) {
    std::string names = "| op, shape | unit | plain |";
    std::string rule = "|---|---|--:|";
    for (const std::string& isa : isas) {
        names += " " + isa + " |";
        rule += "--:|";
    }
    return names + "\n" + rule + "\n";
}

std::string table_line(const isa_row& r, const std::vector<std::string>& isas) {
    const auto text_of = [&r](const std::string& name) {
        for (const isa_cell& c : r.cells)
            if (c.isa == name) return cell_text(r, c);
        return std::string("–");
    };
    std::string line = "| `" + r.op + "` " + r.shape + (r.macs != 0 ? " | GMAC/s | " : " | GB/s | ");
    line += text_of(plain_name) + " |";
    for (const std::string& isa : isas) line += " " + text_of(isa) + " |";
    return line + "\n";
}

nlohmann::json to_json(const isa_row& r) {
    nlohmann::json cells = nlohmann::json::array();
    for (const isa_cell& c : r.cells) {
        const isa_figures f = figures(r, c);
        nlohmann::json cell{{"isa", c.isa}, {"noisy", !f.rate.has_value()}, {"spread", spread(c.times)}};
        if (f.rate) {
            cell["median_us"] = 1e6 * quantile(c.times, 0.5);
            cell["rate"] = *f.rate;
        }
        if (f.speedup) cell["speedup"] = *f.speedup;
        if (f.roof) cell["roof"] = *f.roof;
        if (f.roof_fraction) cell["roof_fraction"] = *f.roof_fraction;
        cells.push_back(std::move(cell));
    }
    return {{"op", r.op},
            {"shape", r.shape},
            {"unit", r.macs != 0 ? "GMAC/s" : "GB/s"},
            {"macs", r.macs},
            {"bytes", r.bytes},
            {"attempts", r.attempts},
            {"discarded_rounds", r.discarded},
            {"cells", std::move(cells)}};
}

}  // namespace po2quant::bench
