#include <po2quant/numerics/rounding.hpp>

#include <cfenv>
#include <cmath>
#include <vector>

#include "../support/catch.hpp"
#include "../support/float_cases.hpp"

using namespace po2quant;

static_assert(round_to_integer(-2.5, rounding::half_up) == -2 && round_to_integer(-2.5, rounding::half_even) == -2);
static_assert(round_to_integer(-2.5, rounding::half_away) == -3 && round_to_integer(-2.5, rounding::floor) == -3);
static_assert(random_bits(1, 2) == random_bits(1, 2));

namespace {

/// The C library's own rounding on 64-bit mantissas, where v + 1/2 is exact for every double that is tried here.
long double oracle(double v, rounding mode) {
    const auto wide = static_cast<long double>(v);
    switch (mode) {
    case rounding::half_up: return std::floor(wide + 0.5L);
    case rounding::half_even: return std::nearbyint(wide);
    case rounding::half_away: return std::round(wide);
    default: return std::floor(wide);
    }
}

void check_rounding(double v) {
    for (const rounding mode : {rounding::half_up, rounding::half_even, rounding::half_away, rounding::floor})
        if (static_cast<long double>(round_to_integer(v, mode)) != oracle(v, mode)) {
            INFO(test::name_of(mode) << " of " << std::hexfloat << v);
            CHECK(static_cast<long double>(round_to_integer(v, mode)) == oracle(v, mode));
        }
}

}  // namespace

TEST_CASE("rounding: every tie and integer of 17 bits, with neighbouring doubles and floats") {
    static_assert(std::numeric_limits<long double>::digits >= 64, "the oracle needs more bits than a double has");
    REQUIRE(std::fegetround() == FE_TONEAREST);
    for (int twice = -140000; twice <= 140000; ++twice) {
        const double v = twice * 0.5;
        const auto narrow = static_cast<float>(v);
        for (const double x : {v, std::nextafter(v, -HUGE_VAL), std::nextafter(v, HUGE_VAL),
                               static_cast<double>(std::nextafter(narrow, -HUGE_VALF)),
                               static_cast<double>(std::nextafter(narrow, HUGE_VALF))})
            if (x == v || std::fabs(x) > 1e-6) check_rounding(x);
    }
    SUCCEED();
}

TEST_CASE("rounding: binary fractions of every width, and large values") {
    test::random_source random;
    for (int i = 0; i < 300000; ++i) {
        const int bits = static_cast<int>(random.integer(1, 50));
        const std::int64_t numerator = random.integer(-(std::int64_t{1} << bits), std::int64_t{1} << bits);
        check_rounding(std::ldexp(static_cast<double>(numerator), -static_cast<int>(random.integer(0, bits))));
    }
    for (const double v : {0x1p50, -0x1p50, 0x1p50 + 0.5, -0x1p50 - 0.5, 0x1p51 - 0.5, -0x1p51 + 0.5})
        check_rounding(v);
    SUCCEED();
}

TEST_CASE("rounding: values too small to see keep their side of zero") {
    for (const double tiny : {0x1p-1074, 0x1p-1022, 0x1p-200, 0x1p-54, 0x1p-53}) {
        for (const rounding mode : {rounding::half_up, rounding::half_even, rounding::half_away}) {
            CHECK(round_to_integer(tiny, mode) == 0);
            CHECK(round_to_integer(-tiny, mode) == 0);
        }
        CHECK(round_to_integer(tiny, rounding::floor) == 0);
        CHECK(round_to_integer(-tiny, rounding::floor) == -1);
    }
    // What floor(x + 0.5f) in float32 gets wrong.
    CHECK(round_to_integer(static_cast<double>(0.49999997F), rounding::half_up) == 0);
    CHECK(round_to_integer(static_cast<double>(-0.49999997F), rounding::half_away) == 0);
    CHECK(round_to_integer(8388609.0, rounding::half_up) == 8388609);
}

TEST_CASE("stochastic rounding: up iff the fraction exceeds the 24 random bits") {
    for (const std::uint32_t random : {0U, 255U, 256U, 0x7fffffffU, 0x80000000U, 0xffffff00U, 0xffffffffU})
        for (const double whole : {-3.0, -1.0, 0.0, 5.0}) {
            const double threshold = std::floor(random / 256.0) / 0x1p24;
            CHECK(round_to_integer(whole, rounding::stochastic, random) == static_cast<std::int64_t>(whole));
            for (const double fraction : {0x1p-24, 0.25, 0.5, 0.75, 1 - 0x1p-24})
                CHECK(round_to_integer(whole + fraction, rounding::stochastic, random) ==
                      static_cast<std::int64_t>(whole) + (fraction > threshold ? 1 : 0));
        }
    // Below all of float32's numbers is still above 0.
    CHECK(round_to_integer(0x1p-200, rounding::stochastic, 255) == 1);
    CHECK(round_to_integer(0x1p-200, rounding::stochastic, 256) == 0);
    // A fraction that float32 rounds to 1 always goes up, to the integer it is beside.
    CHECK(round_to_integer(-0x1p-60, rounding::stochastic, 0xffffffffU) == 0);
}

TEST_CASE("stochastic rounding: unbiased") {
    test::random_source random;
    constexpr int count = 200000;
    for (const double v : {0.001, 0.1, 0.25, 0.5, 0.7, 0.999, -0.3, -7.75, 41.5}) {
        const std::uint64_t seed = random.bits();
        std::int64_t sum = 0;
        for (std::uint64_t i = 0; i < count; ++i)
            sum += round_to_integer(v, rounding::stochastic, random_bits(seed, i));
        const double fraction = v - std::floor(v);
        const double deviation = std::sqrt(fraction * (1 - fraction) / count);
        INFO(v << ", seed " << seed);
        CHECK(std::fabs(static_cast<double>(sum) / count - v) < 6 * deviation + 0x1p-24);
    }
}

TEST_CASE("random bits: a counter, so any order gives the same, and streams differ") {
    // Worked out once from the formula in rounding.hpp by another program: the stream must never change.
    CHECK(random_bits(0, 0) == 0x91130914U);
    CHECK(random_bits(1, 0) == 0x52330095U);
    CHECK(random_bits(0, 1) == 0x4028d282U);
    CHECK(random_bits(0x123456789abcdef0U, 0xfedcba9876543210U) == 0x4faecc2dU);
    CHECK(random_bits(42, std::uint64_t{1} << 32) == 0x67064af1U);

    constexpr int count = 1 << 17;
    for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32, ~std::uint64_t{0}}) {
        int ones[32] = {};
        int repeats = 0;     // same bit as the element before
        int other_seed = 0;  // same bit as the next seed's stream
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::uint32_t bits = random_bits(seed, i);
            for (int b = 0; b < 32; ++b) ones[b] += static_cast<int>(bits >> b & 1);
            repeats += 1 - static_cast<int>((bits ^ random_bits(seed, i + 1)) >> 31);
            other_seed += 1 - static_cast<int>((bits ^ random_bits(seed + 1, i)) >> 31);
        }
        const double bound = 6 * std::sqrt(count) / 2;  // six standard deviations of a fair coin
        for (const int n : ones) CHECK(std::abs(n - count / 2.0) < bound);
        CHECK(std::abs(repeats - count / 2.0) < bound);
        CHECK(std::abs(other_seed - count / 2.0) < bound);
    }
}
