#include "isa_table.hpp"

#include "support/catch.hpp"

namespace po2quant::bench {
namespace {

/// Nine times of a median of `median`, quartiles `spread` of it apart.
std::vector<double> times(double median, double spread) {
    const double half = median * spread / 2;
    return {median,        median + half, median - half, median, median + half,
            median - half, median + half, median - half, median};
}

isa_row pass(double plain_spread, double avx2_spread, double roof_spread = 0.02) {
    const auto roof = times(1e-6, roof_spread);
    return {"minmax",
            "4K",
            0,
            16384,
            1,
            0,
            {{plain_name, times(4e-6, plain_spread), roof, 16384}, {"avx2", times(2e-6, avx2_spread), roof, 16384}}};
}

}  // namespace

TEST_CASE("times are noisy where their quartiles are more than a tenth of the median apart") {
    CHECK_FALSE(noisy(times(1e-6, 0.0)));
    CHECK_FALSE(noisy(times(3e-6, 0.099)));
    CHECK(noisy(times(3e-6, 0.101)));
    // One outlier is no noise.
    CHECK_FALSE(noisy({1, 1, 1, 1, 1, 1, 1, 1, 9}));
}

TEST_CASE("a steady row tells all its figures") {
    const isa_row r = pass(0.05, 0.05);
    const isa_figures f = figures(r, r.cells[1]);
    CHECK(*f.rate == Approx(8.192));
    CHECK(*f.speedup == Approx(2.0));
    CHECK(*f.roof == Approx(16.384));
    CHECK(*f.roof_fraction == Approx(0.5));
    CHECK(table_line(r, {"sse2", "avx2"}) == "| `minmax` 4K | GB/s | 4.1 25 % | – | 8.19 ×2.00 50 % |\n");
    CHECK(to_json(r)["cells"][1] == nlohmann::json{{"isa", "avx2"},
                                                   {"noisy", false},
                                                   {"spread", to_json(r)["cells"][1]["spread"]},
                                                   {"median_us", to_json(r)["cells"][1]["median_us"]},
                                                   {"rate", *f.rate},
                                                   {"speedup", *f.speedup},
                                                   {"roof", *f.roof},
                                                   {"roof_fraction", *f.roof_fraction}});
    CHECK(to_json(r)["cells"][1]["median_us"].get<double>() == Approx(2.0));
}

TEST_CASE("layers are told in multiply-accumulates") {
    isa_row r = pass(0.05, 0.05);
    r.macs = 1e6;
    CHECK(*figures(r, r.cells[1]).rate == Approx(500));
    CHECK(to_json(r)["unit"] == "GMAC/s");
}

TEST_CASE("what is noisy has no figures, in text or JSON") {
    const isa_row r = pass(0.05, 0.3);
    CHECK(r.noisy_series() == 1);
    CHECK(table_line(r, {"avx2"}) == "| `minmax` 4K | GB/s | 4.1 25 % | noisy (30 %) |\n");
    const nlohmann::json cell = to_json(r)["cells"][1];
    CHECK(cell["noisy"] == true);
    CHECK(cell["spread"].get<double>() == Approx(0.3));
    for (const char* figure : {"median_us", "rate", "speedup", "roof_fraction"}) CHECK_FALSE(cell.contains(figure));
}

TEST_CASE("nothing is compared with what is noisy") {
    const isa_row slow = pass(0.3, 0.05);
    const isa_figures beside_noisy_plain = figures(slow, slow.cells[1]);
    CHECK(beside_noisy_plain.rate);
    CHECK_FALSE(beside_noisy_plain.speedup);
    CHECK(beside_noisy_plain.roof_fraction);
    const isa_row roof = pass(0.05, 0.05, 0.3);
    const isa_figures under_noisy_roof = figures(roof, roof.cells[1]);
    CHECK(under_noisy_roof.rate);
    CHECK(under_noisy_roof.speedup);
    CHECK_FALSE(under_noisy_roof.roof);
    CHECK_FALSE(under_noisy_roof.roof_fraction);
    CHECK(table_line(roof, {"avx2"}) == "| `minmax` 4K | GB/s | 4.1 | 8.19 ×2.00 |\n");
}

TEST_CASE("a noisy row is timed again, and its steadiest attempt stays") {
    int calls = 0;
    const auto attempts_of = [&](std::vector<isa_row> rows) {
        calls = 0;
        return steadiest(3, [&, rows] { return rows[static_cast<std::size_t>(calls++)]; });
    };
    CHECK(attempts_of({pass(0.05, 0.05)}).attempts == 1);
    CHECK(calls == 1);
    const isa_row second = attempts_of({pass(0.3, 0.3), pass(0.05, 0.05)});
    CHECK(second.attempts == 2);
    CHECK(second.noisy_series() == 0);
    const isa_row never = attempts_of({pass(0.3, 0.3), pass(0.05, 0.4), pass(0.3, 0.4)});
    CHECK(calls == 3);
    CHECK(never.attempts == 3);
    CHECK(never.noisy_series() == 1);
}

}  // namespace po2quant::bench
