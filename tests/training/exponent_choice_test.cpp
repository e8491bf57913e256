// Exponents from values as the targets' tools choose them, beside their published formulas in long double.
#include <po2quant/training/exponent_choice.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/errors.hpp"
#include "../support/random.hpp"

using namespace po2quant;

namespace {

/// A bell with a few values far out, on some scale, at times of one sign.
std::vector<float> random_values(test::random_source& random, std::size_t n) {
    std::vector<float> all(n);
    const auto scale = static_cast<int>(random.integer(-20, 12));
    const bool positive = random.integer(0, 2) == 0;
    for (float& v : all) {
        double sum = 0;
        for (int k = 0; k < 6; ++k) sum += random.uniform(-1, 1);
        if (random.integer(0, 300) == 0) sum *= random.uniform(1, 20);
        v = static_cast<float>(std::ldexp(positive ? std::fabs(sum) : sum, scale));
    }
    return all;
}

long double magnitude(const std::vector<float>& values) {
    long double m = 0;
    for (const float v : values) m = std::max(m, std::fabs(static_cast<long double>(v)));
    return m;
}

// The formulas: exponents of int8 scales. Random values are no powers of two, so logarithms are on no edge.

/// k = ceil(log2 max|x|), at most `cap`.
int original(const std::vector<float>& x, int cap = 128) {
    return std::min(cap, static_cast<int>(std::ceil(std::log2(magnitude(x))))) - 7;
}
/// ESP-PPQ's minmax_to_scale_offset, symmetric, then ROUND_UP.
int esp_scale(long double low, long double high) {
    return static_cast<int>(std::ceil(std::log2(2 * std::max(std::fabs(low), std::fabs(high)) / 255)));
}
int esp_minmax(const std::vector<float>& x) { return esp_scale(magnitude(x), 0); }
/// The same of its percentile observer's kthvalue, whose k counts from 1.
int esp_percentile(std::vector<float> x) {
    std::sort(x.begin(), x.end());
    const auto n = static_cast<double>(x.size());
    const auto least = static_cast<std::size_t>(n * (1 - 0.9999)) + 1;
    const auto most = std::min(static_cast<std::size_t>(n * 0.9999), x.size() - 1) + 1;
    return esp_scale(std::min(0.0F, x[least - 1]), std::max(0.0F, x[most - 1]));
}
/// Vitis' start: 2^−fp0 with fp0 = floor(log2(1 / step)).
int vitis_start(const std::vector<float>& x) {
    const auto [low, high] = std::minmax_element(x.begin(), x.end());
    const long double step =
        std::max(static_cast<long double>(*low) / -128.5L, static_cast<long double>(*high) / 127.5L);
    return -static_cast<int>(std::floor(std::log2(1 / step)));
}
long double squared_error(const std::vector<float>& x, int e, rounding mode) {
    long double sum = 0;
    for (const float v : x) {
        const long double code = std::ldexp(static_cast<long double>(v), -e);
        const long double rounded =
            mode == rounding::half_up ? std::floor(code + 0.5L) : std::round(code);  // half away
        const long double off =
            std::ldexp(std::min(127.0L, std::max(-128.0L, rounded)), e) - static_cast<long double>(v);
        sum += off * off;
    }
    return sum;
}

}  // namespace

TEST_CASE("percentile_range: the values at these places of all in order") {
    test::random_source random;
    for (int round = 0; round < 100; ++round) {
        std::vector<float> values = random_values(random, static_cast<std::size_t>(random.integer(1, 400)));
        const double fraction = round % 4 == 0 ? 1 : random.uniform(0.5, 1);
        std::vector<float> sorted = values;
        std::sort(sorted.begin(), sorted.end());
        const float nan = std::numeric_limits<float>::quiet_NaN();
        for (const float v : {nan, HUGE_VALF, -HUGE_VALF, nan})
            values.insert(values.begin() + random.integer(0, static_cast<std::int64_t>(values.size())), v);
        const range seen = percentile_range(values, fraction);
        const auto n = static_cast<double>(sorted.size());
        CHECK(seen.min == sorted[static_cast<std::size_t>(n * (1 - fraction))]);
        CHECK(seen.max == sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(n * fraction))]);
        CHECK(seen.finite == sorted.size());
        CHECK(seen.non_finite == 4);
        if (fraction == 1) CHECK(seen == observe(values));
    }
    CHECK(percentile_range({}, 0.99).empty());
    CHECK(!std::signbit(percentile_range(std::vector{-0.0F}, 1).min));
}

TEST_CASE("choose_exponent: what each target's tools compute") {
    test::random_source random;
    int beyond = 0;  // where a search gives something else than the range
    for (int round = 0; round < 60; ++round) {
        const std::vector<float> x = random_values(random, static_cast<std::size_t>(random.integer(200, 30000)));
        INFO(x.size() << " values up to " << static_cast<double>(magnitude(x)));
        const auto chosen = [&](const exponent_choice& how, rounding mode) {
            return choose_exponent(x, {.mode = mode}, how);
        };
        for (const target_preset* t : targets::all) {
            INFO(t->name);
            const std::string name = t->name;
            const int activations = chosen(t->activation_exponents, t->activations);
            const int weights = chosen(t->weight_exponents, t->weights);
            if (name == "tensorflow") {
                CHECK(activations == original(x));
                CHECK(weights == original(x, 3));
            } else if (name == "graffitist") {
                CHECK(activations == kl_exponent(observe_magnitudes(x), int8));
                CHECK(activations <= original(x));
                CHECK(weights == original(x));
            } else if (name == "cmsis_q7" || name == "nnom") {
                CHECK(activations == original(x));
                CHECK(weights == original(x));
            } else if (name == "esp32_s3" || name == "esp32_p4") {
                CHECK(activations == esp_percentile(x));
                CHECK(weights == esp_minmax(x));
                beyond += activations != weights;
            } else {
                REQUIRE(name == "vitis");
                const int first = vitis_start(x);
                for (const auto& [e, mode] :
                     {std::pair(activations, rounding::half_up), {weights, rounding::half_away}}) {
                    CHECK(first - 4 <= e);
                    CHECK(e <= first);
                    for (int other = first; other > first - 5; --other)
                        CHECK(squared_error(x, e, mode) <= squared_error(x, other, mode) * (1 + 1e-12L));
                    beyond += e != first;
                }
            }
        }
    }
    CHECK(beyond > 0);
}

TEST_CASE("choose_exponent: fractions, candidates, caps, nothing seen") {
    std::vector<float> x(1000, 0.75F);
    x[10] = 100;
    const auto chosen = [&](const exponent_choice& how, integer_format format = int8) {
        return choose_exponent(x, {.format = format}, how);
    };
    const exponent_choice half{.search = exponent_search::percentile, .fraction = 0.99};
    CHECK(chosen({}) == 0);
    CHECK(chosen(half) == -7);
    CHECK(chosen(half, uint8) == -8);
    CHECK(chosen({.max_k = 3}) == -4);
    CHECK(chosen({.max_k = 3}, uint8) == -5);
    CHECK(chosen({.rule = exponent_rule::no_clip, .max_k = -300}) == min_exponent);
    // 0.75 is on the grid of 2^−2, on which 100 is cut to 31.75.
    CHECK(chosen({.search = exponent_search::squared_error, .candidates = 1}) == 0);
    CHECK(chosen({.search = exponent_search::squared_error, .candidates = 2}) == 0);
    CHECK(squared_error(x, 0, rounding::half_up) < squared_error(x, -1, rounding::half_up));
    // One value far out, which int4 had better cut to a sixteenth: as many exponents are tried as the preset says.
    std::vector<float> far(20000);
    for (std::size_t i = 0; i < far.size(); ++i) far[i] = static_cast<float>(i) / 10000.0F / 17 - 1.0F / 17;
    far[0] = 1;
    exponent_choice how = targets::vitis.weight_exponents;
    CHECK(choose_exponent(far, {.format = int4}, how) == -6);
    how.candidates = 4;
    CHECK(choose_exponent(far, {.format = int4}, how) == -5);
    how.candidates = 6;
    CHECK(choose_exponent(far, {.format = int4}, how) == -7);
    x[10] = 0.75F;
    CHECK(chosen({.rule = exponent_rule::round_log2, .search = exponent_search::kl_divergence}) == -7);
    for (const exponent_search search : {exponent_search::none, exponent_search::squared_error,
                                         exponent_search::percentile, exponent_search::kl_divergence})
        for (const std::vector<float>& nothing : {std::vector<float>{}, std::vector<float>{HUGE_VALF, NAN}}) {
            CHECK(choose_exponent(nothing, {}, {.search = search}) == min_exponent);
            if (search != exponent_search::kl_divergence)
                CHECK(choose_exponent(nothing, {}, {.rule = exponent_rule::vitis, .search = search}) == -18);
        }
}

TEST_CASE("choose_exponents: each channel as a tensor of its own") {
    test::random_source random;
    for (int round = 0; round < 40; ++round) {
        const auto outer = static_cast<std::size_t>(random.integer(1, 30));
        const auto channels = static_cast<std::size_t>(random.integer(1, 9));
        const auto inner = static_cast<std::size_t>(random.integer(1, 12));
        std::vector<float> x = random_values(random, outer * channels * inner);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::ldexp(x[i], static_cast<int>(i / inner % channels));
        const exponent_choice how = random.one_of(targets::all)->weight_exponents;
        const quantizer q{.format = random.integer(0, 1) == 0 ? int8 : int4};
        const std::vector<int> all =
            choose_exponents(x, static_cast<std::int64_t>(channels), static_cast<std::int64_t>(inner), q, how);
        REQUIRE(all.size() == channels);
        for (std::size_t c = 0; c < channels; ++c) {
            std::vector<float> own;
            for (std::size_t i = 0; i < x.size(); ++i)
                if (i / inner % channels == c) own.push_back(x[i]);
            CHECK(all[c] == choose_exponent(own, q, how));
        }
    }
}

TEST_CASE("choose_exponent: arguments out of range are refused") {
    const std::vector<float> x(12, 1.0F);
    const std::span<const float> null(static_cast<const float*>(nullptr), 2);
    const auto refused = [](auto&& call, std::initializer_list<const char*> parts) {
        test::check_refused(call, parts);
    };
    for (const double fraction : {0.0, 0.49, 1.0001, std::numeric_limits<double>::quiet_NaN()})
        refused([&] { percentile_range(x, fraction); }, {"percentile_range: fraction is ", "1/2 <= fraction <= 1"});
    refused([&] { percentile_range(null, 1); }, {"percentile_range: values.data() is null"});
    refused([&] { choose_exponent(null, {}, {}); }, {"choose_exponent: values.data() is null"});
    refused([&] { choose_exponent(x, {.format = {.bits = 1}}, {}); }, {"choose_exponent: ", "bits"});
    refused([&] { choose_exponent(x, {}, {.rule = static_cast<exponent_rule>(5)}); }, {"how.rule is 5", "0..4"});
    refused([&] { choose_exponent(x, {}, {.search = static_cast<exponent_search>(4)}); }, {"how.search is 4", "0..3"});
    refused([&] { choose_exponent(x, {}, {.search = exponent_search::squared_error, .candidates = 17}); },
            {"candidates.count is 17", "1..16"});
    refused([&] { choose_exponent(x, {.format = int16}, {.search = exponent_search::kl_divergence}); },
            {"format.bits is 16"});
    refused([&] { choose_exponents(x, 0, 1, {}, {}); }, {"choose_exponents: channels is 0"});
    refused([&] { choose_exponents(x, 5, 1, {}, {}); }, {"choose_exponents: size is 12", "5 * 1"});
    refused([&] { choose_exponents(x, 3, 0, {}, {}); }, {"choose_exponents: inner is 0"});
}
