#include <po2quant/numerics/exponent_rule.hpp>

#include <cfloat>
#include <cmath>

#include "../support/catch.hpp"
#include "../support/float_cases.hpp"

using namespace po2quant;

namespace {

constexpr exponent_rule all_rules[] = {exponent_rule::ceil_log2, exponent_rule::no_clip, exponent_rule::round_log2,
                                       exponent_rule::esp_ppq, exponent_rule::vitis};

constexpr int of(float low, float high, exponent_rule rule, integer_format f = int8) {
    return exponent_for(float_interval{low, high}, f, rule);
}

static_assert(of(0, 127, exponent_rule::no_clip) == 0 && of(-128, 0, exponent_rule::no_clip) == 0);
static_assert(of(0, 90, exponent_rule::round_log2) == -1 && of(0, 91, exponent_rule::round_log2) == 0);

/// The magnitude's logarithm in 80 bits: enough to tell any float from √2·2^k, none of which is a float.
int round_log2_in_long_double(float v) {
    return static_cast<int>(std::floor(std::log2(static_cast<long double>(v)) + 0.5L));
}

/// The rules by counting e up from −300 until the values fit; products are exact in long double.
int expected(float low, float high, exponent_rule rule, integer_format f) {
    using real = long double;
    const int magnitude_bits = f.is_signed ? f.bits - 1 : f.bits;
    const float magnitude = std::max(std::fabs(low), std::fabs(high));
    const auto held = [](int e) { return std::max(min_exponent, std::min(max_exponent, e)); };
    const auto first = [&](auto&& fits) {
        int e = -300;
        while (!fits(std::ldexp(real{1}, e))) ++e;
        return held(e);
    };
    if (rule == exponent_rule::vitis && f.is_signed) {
        const real step = std::max(static_cast<real>(low) / (-std::ldexp(real{1}, magnitude_bits) - 0.5L),
                                   static_cast<real>(high) / (std::ldexp(real{1}, magnitude_bits) - 0.5L));
        if (step <= static_cast<real>(FLT_MIN)) return -18;
    }
    if (magnitude == 0) return min_exponent;
    switch (rule) {
    case exponent_rule::ceil_log2:
        return first([&](real scale) { return magnitude <= std::ldexp(scale, magnitude_bits); });
    case exponent_rule::round_log2: return held(round_log2_in_long_double(magnitude) - magnitude_bits);
    case exponent_rule::esp_ppq:
        if (f.is_signed)
            return first([&](real scale) { return 2 * static_cast<real>(magnitude) <= (f.qmax() - f.qmin()) * scale; });
        break;
    case exponent_rule::vitis:
        if (f.is_signed)
            return first([&](real scale) {
                return low >= -(std::ldexp(real{1}, magnitude_bits) + 0.5L) * scale &&
                       high <= (std::ldexp(real{1}, magnitude_bits) - 0.5L) * scale;
            });
        break;
    case exponent_rule::no_clip: break;
    }
    return first([&](real scale) { return (!f.is_signed || low >= f.qmin() * scale) && high <= f.qmax() * scale; });
}

void check_all_rules(float low, float high, integer_format f) {
    for (const exponent_rule rule : all_rules)
        if (of(low, high, rule, f) != expected(low, high, rule, f)) {
            INFO(test::name_of(f) << ", rule " << static_cast<int>(rule) << ", " << std::hexfloat << low << " .. "
                                  << high);
            CHECK(of(low, high, rule, f) == expected(low, high, rule, f));
        }
}

}  // namespace

TEST_CASE("exponent rules: the table of their documentation") {
    struct row {
        exponent_rule rule;
        int e[8];
    };
    const float magnitudes[] = {63.5F, 64, 90, 91, 127, 127.5F, 128, 129};
    const row rows[] = {{exponent_rule::ceil_log2, {-1, -1, 0, 0, 0, 0, 0, 1}},
                        {exponent_rule::no_clip, {-1, 0, 0, 0, 0, 1, 1, 1}},
                        {exponent_rule::round_log2, {-1, -1, -1, 0, 0, 0, 0, 0}},
                        {exponent_rule::esp_ppq, {-1, 0, 0, 0, 0, 0, 1, 1}},
                        {exponent_rule::vitis, {-1, 0, 0, 0, 0, 0, 1, 1}}};
    for (const row& r : rows)
        for (int i = 0; i < 8; ++i) {
            INFO("rule " << static_cast<int>(r.rule) << ", magnitude " << magnitudes[i]);
            CHECK(of(-1, magnitudes[i], r.rule) == r.e[i]);
        }
    CHECK(of(-128, 1, exponent_rule::no_clip) == 0);
    CHECK(of(-128.5F, 1, exponent_rule::vitis) == 0);
    CHECK(of(std::nextafter(-128.5F, -200.0F), 1, exponent_rule::vitis) == 1);
}

TEST_CASE("exponent rules: codes, ties and powers of two with their neighbours, every format") {
    test::random_source random;
    for (const integer_format f : test::all_formats())
        for (int i = 0; i < 300; ++i) {
            const int e = static_cast<int>(i % 4 == 0 ? random.integer(-149, 110) : random.integer(-20, 10));
            const double ends[] = {f.qmax() + 0.5,
                                   static_cast<double>(f.qmax()),
                                   f.qmax() + 1.0,
                                   (f.qmax() - f.qmin()) / 2.0,
                                   -f.qmin() + 0.5,
                                   std::sqrt(2.0),
                                   1.0};
            float high = static_cast<float>(std::ldexp(random.one_of(ends), e));
            if (i % 3 != 0) high = std::nextafter(high, i % 3 == 1 ? 0.0F : FLT_MAX);
            if (!std::isfinite(high)) high = FLT_MAX;
            const float low = -static_cast<float>(std::ldexp(random.one_of(ends), e));
            check_all_rules(0, high, f);
            check_all_rules(-high, 0, f);
            check_all_rules(-high, high, f);
            if (std::isfinite(low)) check_all_rules(low, high, f);
            check_all_rules(high / 2, high, f);
            check_all_rules(-high, -high / 2, f);
        }
    SUCCEED();
}

TEST_CASE("exponent rules: any two floats") {
    test::random_source random;
    for (int i = 0; i < 20000; ++i) {
        const float a = std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
        const float b = std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
        if (std::isfinite(a) && std::isfinite(b))
            check_all_rules(std::min(a, b), std::max(a, b), random.one_of(test::all_formats()));
    }
    SUCCEED();
}

TEST_CASE("round log2: the floats beside √2·2^k, for every k, subnormals too") {
    for (int k = -149; k <= 127; ++k) {
        float v = static_cast<float>(std::ldexp(std::sqrt(2.0), k));
        for (int i = 0; i < 3 && v > 0; ++i) v = std::nextafter(v, 0.0F);
        for (int i = 0; i < 6; ++i, v = std::nextafter(v, FLT_MAX))
            if (v > 0 && detail::round_log2(v) != round_log2_in_long_double(v)) FAIL_CHECK(std::hexfloat << v);
    }
    SUCCEED();
}

TEST_CASE("exponent rules: no_clip cuts nothing, and one exponent less does") {
    test::random_source random;
    for (int i = 0; i < 3000; ++i) {
        const integer_format f = random.one_of(test::all_formats());
        const auto high = static_cast<float>(random.uniform(0.001, 3));
        const float low = f.is_signed ? -static_cast<float>(random.uniform(0.001, 3)) : 0;
        const int e = of(low, high, exponent_rule::no_clip, f);
        const auto inside = [&](int exponent) {
            const float scale = exp2_float(exponent);
            return f.qmin() * scale <= low && high <= f.qmax() * scale;
        };
        if (!inside(e) || inside(e - 1)) FAIL_CHECK(test::name_of(f) << ", " << low << " .. " << high);
    }
    SUCCEED();
}

TEST_CASE("exponent rules: nothing seen, zeros, limits") {
    for (const integer_format f : test::all_formats())
        for (const exponent_rule rule : all_rules) {
            const int none = rule == exponent_rule::vitis && f.is_signed ? -18 : min_exponent;
            CHECK(of(0, 0, rule, f) == none);
            CHECK(of(-0.0F, 0, rule, f) == none);
            CHECK(of(HUGE_VALF, -HUGE_VALF, rule, f) == none);
        }
    CHECK(of(-FLT_MAX, FLT_MAX, exponent_rule::no_clip, {.bits = 2}) == max_exponent);
    CHECK(of(0, std::ldexp(1.0F, -149), exponent_rule::no_clip) == min_exponent);
    // Vitis: steps up to 2^−126 count as nothing, the next does not.
    CHECK(of(0, 127.5F * FLT_MIN, exponent_rule::vitis) == -18);
    CHECK(of(0, std::nextafter(127.5F * FLT_MIN, 1.0F), exponent_rule::vitis) == min_exponent);
    // Unsigned formats cut what is negative whatever the exponent.
    CHECK(of(-1000, 1, exponent_rule::no_clip, uint8) == -7);
}
