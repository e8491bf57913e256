#include <po2quant/numerics/accumulator.hpp>
#include <po2quant/numerics/quantizer.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include "../support/catch.hpp"
#include "../support/float_cases.hpp"

using namespace po2quant;

static_assert(clamp_range(activation::relu6, int8, -4, rounding::half_up) == code_range{0, 96});
static_assert(align_bias(-3, -5, -4) == -2 && align_bias(-3, -4, -6) == -12);

TEST_CASE("clamp_range: none, relu and relu6 in codes") {
    for (const integer_format f : test::all_formats())
        for (int e = -40; e <= 40; ++e)
            for (const rounding mode : test::all_roundings) {
                INFO(test::name_of(f) << ", exponent " << e << ", " << test::name_of(mode));
                const int zero = std::max(0, f.qmin());
                CHECK(clamp_range(activation::none, f, e, mode) == code_range{f.qmin(), f.qmax()});
                CHECK(clamp_range(activation::relu, f, e, mode) == code_range{zero, f.qmax()});
                // What the activation's own largest output, 6.0, is quantized to.
                const quantizer q{f, e, mode == rounding::stochastic ? rounding::half_up : mode};
                CHECK(clamp_range(activation::relu6, f, e, mode) == code_range{zero, quantize(6.0F, q)});
            }
}

TEST_CASE("align_bias: floor to a coarser grid, exact to a finer one, for every distance") {
    const std::int32_t lowest = std::numeric_limits<std::int32_t>::min();
    const std::int32_t highest = std::numeric_limits<std::int32_t>::max();
    for (const std::int32_t bias : {0, 1, -1, 2, -2, 3, -3, 77, -77, 32767, -32768, highest, lowest})
        for (int distance = -140; distance <= 140; ++distance) {
            INFO("bias " << bias << ", distance " << distance);
            const std::int64_t aligned = align_bias(bias, distance + 3, 3);
            const long double exact = std::floor(std::ldexp(static_cast<long double>(bias), distance));
            const bool fits = exact >= lowest && exact <= highest;
            // Beyond int32 only the fact matters: the value must not look as if it fitted.
            if (fits) CHECK(static_cast<long double>(aligned) == exact);
            else CHECK((aligned < lowest || aligned > highest));
            if (!fits) CHECK((aligned < 0) == (bias < 0));
        }
}

TEST_CASE("least_weight_exponent: the least by which a bias takes no more bits") {
    CHECK(least_weight_exponent(0.0F, 3) == min_exponent);
    CHECK(least_weight_exponent(-0.0F, 3) == min_exponent);
    CHECK(least_weight_exponent(1.0F, -4) == -19);
    CHECK(least_weight_exponent(-1.5F, -4, 30) == -25);
    for (const float bias : {1.0F, -1.0F, 0x1.000002p0F, 0x1.fffffep-1F, -3.0F, 0x1p-20F, 77.0F, 0x1p-149F, -0x1p127F})
        for (int input = -200; input <= 200; input += 7)
            for (int bits = 0; bits <= 31; ++bits) {
                INFO("bias " << bias << ", input exponent " << input << ", " << bits << " bits");
                const int least = least_weight_exponent(bias, input, bits);
                const auto fits = [&](int e) {
                    return std::fabs(static_cast<long double>(bias)) <= std::ldexp(1.0L, bits + input + e);
                };
                CHECK(((min_exponent <= least) && (least <= max_exponent)));
                if (least < max_exponent) CHECK(fits(least));
                if (least > min_exponent) CHECK_FALSE(fits(least - 1));
            }
}

TEST_CASE("align_bias: any two ints are exponents") {
    const int least = std::numeric_limits<int>::min();
    const int most = std::numeric_limits<int>::max();
    CHECK(align_bias(-5, least, most) == -1);
    CHECK(align_bias(5, least, most) == 0);
    CHECK(align_bias(5, most, least) > std::numeric_limits<std::int32_t>::max());
}

TEST_CASE("align_bias: the floor is exact under a rounding shift") {
    // floor((n + f + half) / 2^s) = floor((n + half) / 2^s) for integers n and 0 <= f < 1.
    for (int sum = -70; sum <= 70; ++sum)
        for (int bias = -70; bias <= 70; ++bias)
            for (int coarser = 1; coarser <= 4; ++coarser)
                for (int s = 1; s <= 3; ++s) {
                    const double exact = sum + std::ldexp(bias, -coarser);
                    const auto wanted = static_cast<std::int32_t>(std::floor(std::ldexp(exact, -s) + 0.5));
                    if (shift_right(static_cast<std::int32_t>(sum + align_bias(bias, -coarser, 0)), s,
                                    rounding::half_up) != wanted)
                        FAIL_CHECK("sum " << sum << ", bias " << bias << " * 2^-" << coarser << ", shift " << s);
                }
    SUCCEED();
}

TEST_CASE("requantize: shift, then clamp") {
    CHECK(requantize(1000, 3, rounding::half_up, {-128, 127}) == 125);
    CHECK(requantize(1020, 3, rounding::half_up, {-128, 127}) == 127);
    CHECK(requantize(-2000, 3, rounding::half_up, {-128, 127}) == -128);
    CHECK(requantize(-2000, 3, rounding::half_up, {0, 96}) == 0);
    CHECK(requantize(20, 3, rounding::half_even, {-128, 127}) == 2);
    CHECK(requantize(1, -40, rounding::half_up, {-128, 127}) == 127);
}

TEST_CASE("accumulator_bounds: reached by some input, exceeded by none") {
    test::random_source random;
    for (int round = 0; round < 300; ++round) {
        const integer_format f = random.one_of(test::all_formats());
        std::vector<std::int32_t> weights(static_cast<std::size_t>(random.integer(0, 9)));
        for (std::int32_t& w : weights) w = static_cast<std::int32_t>(random.integer(-128, 127));
        accumulator_bounds bounds;
        for (const std::int32_t w : weights) bounds.add_product(w, f);
        std::int64_t most = 0;
        std::int64_t least = 0;
        for (const std::int32_t w : weights) {  // each input at the end that helps
            most += std::int64_t{w} * (w > 0 ? f.qmax() : f.qmin());
            least += std::int64_t{w} * (w > 0 ? f.qmin() : f.qmax());
        }
        CHECK(bounds.high == most);
        CHECK(bounds.low == least);
        CHECK(bounds.magnitude() == std::max(std::abs(most), std::abs(least)));
        for (int trial = 0; trial < 20; ++trial) {
            std::int64_t sum = 0;
            for (const std::int32_t w : weights)
                sum += random.bits() % 4 == 0 ? 0 : w * random.integer(f.qmin(), f.qmax());
            if (sum < bounds.low || sum > bounds.high) FAIL_CHECK(sum);
        }
    }
}
