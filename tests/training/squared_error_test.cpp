#include <po2quant/training/squared_error.hpp>

#include <algorithm>
#include <vector>

#include <po2quant/reference/squared_error.hpp>

#include "../support/errors.hpp"
#include "../support/executors.hpp"
#include "../support/float_cases.hpp"
#include "../support/guarded_memory.hpp"
#include "../support/same_bits.hpp"
#include "../support/sizes.hpp"

using namespace po2quant;

static_assert(std::is_trivially_copyable_v<squared_errors>);

namespace {

constexpr rounding modes[] = {rounding::half_up, rounding::half_even, rounding::half_away, rounding::floor};
constexpr integer_format formats[] = {int8, int4, uint8, int16, int8_narrow, {.bits = 2}};

std::vector<float> some_data(test::random_source& random, std::size_t n, integer_format format, int exponent) {
    std::vector<float> data(n);
    for (float& v : data) v = test::random_value(random, format, exponent);
    return data;
}

void check_equals_reference(const squared_errors& actual, std::span<const float> data, quantizer q) {
    for (int c = 0; c < actual.candidates.count; ++c) {
        q.exponent = actual.candidates.first - c;
        const double expected = reference::squared_error(data, q);
        if (actual.sums[c] == expected || (actual.sums[c] != actual.sums[c] && expected != expected)) continue;
        FAIL_CHECK(default_arch::name << ": " << data.size() << " values, " << test::name_of(q) << ": " << std::hexfloat
                                      << actual.sums[c] << ", expected " << expected);
    }
    const auto finite =
        static_cast<std::uint64_t>(std::count_if(data.begin(), data.end(), [](float v) { return std::isfinite(v); }));
    CHECK(actual.finite == finite);
    CHECK(actual.non_finite == data.size() - finite);
}

}  // namespace

TEST_CASE("squared errors: every size and alignment equals the reference, between guard pages") {
    test::random_source random;
    test::guarded_memory memory(20000);
    for (const std::size_t n : test::sizes_worth_trying(simd::f32<default_arch>::size, 4097)) {
        const quantizer q{.format = random.one_of(formats), .mode = random.one_of(modes)};
        const exponent_candidates candidates{test::random_exponent(random), 3};
        if (candidates.first < min_exponent + 2) continue;
        const std::vector<float> data = some_data(random, n, q.format, candidates.first);
        for (const test::edge side : test::edges)
            for (const std::size_t gap : {0, 1, 5}) {
                const auto in = memory.buffer<float>(n, side, gap);
                std::copy(data.begin(), data.end(), in.begin());
                check_equals_reference(observe_squared_errors(in, q, candidates), in, q);
            }
    }
}

TEST_CASE("squared errors: the same bits for every number of threads, and the reference's") {
    test::random_source random;
    for (const std::size_t n : {32768, 32769, 100000, 5 * 32768 + 17, 9 * 32768 - 1}) {
        const quantizer q{.format = random.one_of(formats), .mode = random.one_of(modes)};
        const exponent_candidates candidates{-3, 5};
        const std::vector<float> data = some_data(random, n, q.format, -4);
        const squared_errors once = observe_squared_errors(data, q, candidates);
        check_equals_reference(once, data, q);
        for (const test::test_executor& run : test::executors()) {
            const squared_errors again = observe_squared_errors(data, q, candidates, run);
            CHECK(std::equal(once.sums, once.sums + 5, again.sums));
            CHECK(again.finite == once.finite);
        }
    }
}

TEST_CASE("squared errors: extreme exponents, huge and tiny values") {
    const std::vector<float>& data = test::special_values();
    for (const rounding mode : modes)
        for (const integer_format f : formats)
            for (const int first : {max_exponent, 0, min_exponent + 15}) {
                const quantizer q{.format = f, .mode = mode};
                check_equals_reference(observe_squared_errors(data, q, {first, 16}), data, q);
            }
}

TEST_CASE("squared errors: what a hand computes") {
    const std::vector<float> data = {0.3F, -1.2F, 200, HUGE_VALF, -HUGE_VALF, NAN, 0.5F};
    const squared_errors e = observe_squared_errors(data, {}, {1, 2});
    // 2^1: 0, −2 (−1.2 / 2 = −0.6), 200, 0 (0.25);  2^0: 0, −1, 127, 1 (half up)
    const auto square = [](double v) { return v * v; };
    CHECK(std::abs(e.sums[0] - (square(0.3) + square(0.8) + square(0.5))) < 1e-6);
    CHECK(std::abs(e.sums[1] - (square(0.3) + square(0.2) + square(73) + square(0.5))) < 1e-6);
    CHECK(e.exponent() == 1);
    CHECK(e.finite == 4);
    CHECK(e.non_finite == 3);
}

TEST_CASE("squared errors: an outlier is cut where that costs less than coarser steps for all") {
    test::random_source random;
    std::vector<float> data(100000);
    for (float& v : data) v = static_cast<float>(random.uniform(-1, 1));
    data[777] = 4;
    const range seen = observe(data);
    CHECK(exponent_for(seen, int8, exponent_rule::no_clip) == -4);
    CHECK(observe_squared_errors(data, {}, candidates_for(seen, int8)).exponent() == -6);
    CHECK(observe_squared_errors(data, {.format = int4}, candidates_for(seen, int4)).exponent() == -3);
}

TEST_CASE("squared errors: of equal candidates the coarsest wins, nothing gives the first") {
    CHECK(observe_squared_errors(std::vector<float>{1, -3, 5}, {}, {0, 4}).exponent() == 0);
    CHECK(observe_squared_errors({}, {}, {2, 4}).exponent() == 2);
    CHECK(squared_errors{}.exponent() == 0);
}

TEST_CASE("squared errors: candidates from a range") {
    const range seen{-1, 100, 2, 0};
    CHECK(candidates_for(seen, int8).first == 0);
    CHECK(candidates_for(seen, int8).count == 4);
    CHECK(candidates_for({-1, 127.5F, 2, 0}, int8, {.rule = exponent_rule::vitis, .count = 5}).first == 0);
    CHECK(candidates_for(range{}, int8).first == min_exponent);
    CHECK(candidates_for(range{}, int8).count == 1);
}

TEST_CASE("squared errors: batches merge by addition") {
    test::random_source random;
    const std::vector<float> a = some_data(random, 1000, int8, -4);
    const std::vector<float> b = some_data(random, 1500, int8, -4);
    const squared_errors ea = observe_squared_errors(a, {}, {-3, 3});
    const squared_errors eb = observe_squared_errors(b, {}, {-3, 3});
    const squared_errors both = merge(ea, eb);
    for (int c = 0; c < 3; ++c) CHECK(both.sums[c] == ea.sums[c] + eb.sums[c]);
    CHECK(both.finite + both.non_finite == 2500);
    test::check_refused(
        [&] {
            static_cast<void>(merge(ea, observe_squared_errors(b, {}, {-2, 3})));
        },
        {"merge: candidates.first is -2"});
    test::check_refused(
        [&] {
            static_cast<void>(merge(ea, observe_squared_errors(b, {}, {-3, 2})));
        },
        {"merge: candidates.count is 2"});
}

TEST_CASE("errors: squared errors") {
    const std::vector<float> data(3, 0.5F);
    const auto refused = [&](std::span<const float> in, quantizer q, exponent_candidates c,
                             std::initializer_list<const char*> parts) {
        test::check_refused([&] { static_cast<void>(observe_squared_errors(in, q, c)); }, parts);
    };
    refused({static_cast<const float*>(nullptr), 3}, {}, {}, {"observe_squared_errors: data.data() is null"});
    refused(data, {.format = {.bits = 1}}, {}, {"format.bits is 1"});
    refused(data, {.mode = rounding::stochastic}, {}, {"mode is 4", "0..3"});
    refused(data, {}, {101, 1}, {"candidates.first is 101", "-100..100"});
    refused(data, {}, {0, 0}, {"candidates.count is 0", "1..16"});
    refused(data, {}, {0, 17}, {"candidates.count is 17", "1..16"});
    refused(data, {}, {-98, 4}, {"candidates.count is 4", "1..3"});
}
