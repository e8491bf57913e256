// Float biases as codes: the values, both widths, what is refused.
#include <po2quant/training/quantize_bias.hpp>

#include <cmath>
#include <limits>

#include <po2quant/training/fake_quantize.hpp>

#include "../support/catch.hpp"
#include "../support/errors.hpp"
#include "../support/random.hpp"

using namespace po2quant;

namespace {

constexpr rounding deterministic[] = {rounding::half_up, rounding::half_even, rounding::half_away, rounding::floor};

std::vector<float> random_biases(test::random_source& random, std::size_t n) {
    std::vector<float> all(n);
    const auto scale = static_cast<int>(random.integer(-8, 5));
    for (float& b : all) b = static_cast<float>(std::ldexp(random.uniform(-1, 1), scale));
    return all;
}

}  // namespace

TEST_CASE("quantize_bias: 16 bits are fake_quantize's values, one exponent or one per channel") {
    test::random_source random;
    for (int round = 0; round < 200; ++round) {
        const std::vector<float> bias = random_biases(random, static_cast<std::size_t>(random.integer(1, 20)));
        const int accumulator[] = {static_cast<int>(random.integer(-20, -6))};
        const bias_quantization options{.per_channel = random.integer(0, 1) == 1, .mode = random.one_of(deterministic)};
        const quantized_bias b = quantize_bias(bias, accumulator, options);
        REQUIRE(b.i16.size() == bias.size());
        CHECK(b.i32.empty());
        CHECK(b.codes().size() == bias.size());
        CHECK(b.exponents.size() == (options.per_channel ? bias.size() : 1));
        float largest = 0;
        for (const float v : bias) largest = std::max(largest, std::abs(v));
        for (std::size_t i = 0; i < bias.size(); ++i) {
            const int e = b.exponents[b.exponents.size() == 1 ? 0 : i];
            CHECK(e == exponent_for(options.per_channel ? std::abs(bias[i]) : largest, int16));
            CHECK(dequantize(b.i16[i], e) == fake_quantize(bias[i], {int16, e, options.mode}));
        }
    }
}

TEST_CASE("quantize_bias: 32 bits are the rounded biases on the accumulator's grid") {
    test::random_source random;
    for (int round = 0; round < 200; ++round) {
        const std::vector<float> bias = random_biases(random, static_cast<std::size_t>(random.integer(1, 20)));
        std::vector<int> accumulator(random.integer(0, 1) ? bias.size() : 1);
        for (int& e : accumulator) e = static_cast<int>(random.integer(-22, -6));
        const quantized_bias b = quantize_bias(bias, accumulator, {.bits = 32});
        CHECK(b.i16.empty());
        CHECK(b.exponents == accumulator);
        REQUIRE(b.codes().size() == bias.size());
        for (std::size_t i = 0; i < bias.size(); ++i) {
            const int e = accumulator[accumulator.size() == 1 ? 0 : i];
            const long double v = std::ldexp(static_cast<long double>(bias[i]), -e);
            CHECK(static_cast<long double>(b.i32[i]) == std::floor(v + 0.5L));
            CHECK(align_bias(b.i32[i], e, e) == b.i32[i]);
        }
    }
}

TEST_CASE("quantize_bias: the accumulators' grid with any number of bits, and grids no finer than that") {
    test::random_source random;
    int raised = 0;
    for (int round = 0; round < 300; ++round) {
        const std::vector<float> bias = random_biases(random, static_cast<std::size_t>(random.integer(1, 9)));
        std::vector<int> accumulator(random.integer(0, 1) ? bias.size() : 1);
        for (int& e : accumulator) e = static_cast<int>(random.integer(-13, -4));
        const auto of = [&](std::size_t i) { return accumulator[accumulator.size() == 1 ? 0 : i]; };
        const auto bits = static_cast<int>(random.integer(2, 16));
        const bool each = random.integer(0, 1) == 0;
        const quantized_bias b =
            quantize_bias(bias, accumulator, {.bits = bits, .per_channel = each, .grid = bias_grid::coarser});
        const int coarsest = *std::max_element(accumulator.begin(), accumulator.end());
        float largest = 0;
        for (const float v : bias) largest = std::max(largest, std::abs(v));
        REQUIRE(b.i16.size() == bias.size());
        for (std::size_t i = 0; i < bias.size(); ++i) {
            const int e = b.exponents[each ? i : 0];
            const int own = exponent_for(each ? std::abs(bias[i]) : largest, {.bits = bits});
            CHECK(e == std::max(own, each ? of(i) : coarsest));
            raised += e != own;
            CHECK(dequantize(b.i16[i], e) == fake_quantize(bias[i], {{.bits = bits}, e}));
            CHECK(align_bias(b.i16[i], e, of(i)) == std::int64_t{b.i16[i]} << (e - of(i)));  // nothing is lost
        }
        // On the sums' grid, in int16 or int32; what the bits do not hold is refused.
        const auto width = static_cast<int>(random.integer(12, 31));
        bool fits = true;
        for (std::size_t i = 0; i < bias.size(); ++i) {
            const double code = std::floor(std::ldexp(static_cast<double>(bias[i]), -of(i)) + 0.5);
            fits = fits && std::ldexp(-1.0, width - 1) <= code && code < std::ldexp(1.0, width - 1);
        }
        const bias_quantization on_sums{.bits = width, .grid = bias_grid::sums};
        if (!fits) {
            test::check_refused([&] { quantize_bias(bias, accumulator, on_sums); },
                                {"quantize_bias: bias[", "bits times"});
            continue;
        }
        const quantized_bias s = quantize_bias(bias, accumulator, on_sums);
        CHECK(s.exponents == accumulator);
        CHECK(s.i16.empty() == (width > 16));
        CHECK(s.i32.empty() == (width <= 16));
        const quantized_bias wide = quantize_bias(bias, accumulator, {.bits = 32});
        for (std::size_t i = 0; i < bias.size(); ++i) CHECK((width > 16 ? s.i32[i] : s.i16[i]) == wide.i32[i]);
    }
    CHECK(raised > 0);
}

TEST_CASE("quantize_bias: given exponents, caps, ends of the codes") {
    const int grid[] = {-12};
    const int given[] = {-10};
    const std::vector<float> bias{0.5F, -3.25F, 31.999F};
    const quantized_bias b = quantize_bias(bias, grid, {.exponents = given});
    CHECK(b.i16 == std::vector<std::int16_t>{512, -3328, 32767});
    CHECK(b.exponents == std::vector<int>{-10});
    // −32 is the lowest code; +32 is one too large and saturates; beyond them is refused.
    CHECK(quantize_bias(std::vector{-32.0F, 32.0F}, grid, {.exponents = given}).i16 ==
          std::vector<std::int16_t>{-32768, 32767});
    for (const float far : {32.002F, -32.002F, 1e30F})
        test::check_refused(
            [&] {
                quantize_bias(std::vector{1.0F, far}, grid, {.exponents = given});
            },
            {"quantize_bias: bias[1] is ", "16 bits times 2^-10"});
    CHECK(quantize_bias(std::vector{1e30F, -1e30F}, grid, {.exponents = given, .saturate = true}).i16 ==
          std::vector<std::int16_t>{32767, -32768});
    // Exactly 2^k gives its own exponent and saturates by one code: the original's rule. Its cap, k <= 3.
    CHECK(quantize_bias(std::vector{8.0F}, grid).exponents == std::vector<int>{-12});
    CHECK(quantize_bias(std::vector{8.0F}, grid).i16 == std::vector<std::int16_t>{32767});
    CHECK(quantize_bias(std::vector{9.0F}, grid, {.max_k = 3, .saturate = true}).i16 ==
          std::vector<std::int16_t>{32767});
    test::check_refused([&] { quantize_bias(std::vector{9.0F}, grid, {.max_k = 3}); }, {"bias[0] is 9.0", "2^-12"});
    // 32 bits end at 2^31, and what is one beyond is refused.
    const int one[] = {0};
    CHECK(quantize_bias(std::vector{-0x1p31F, 0x1.fffffep30F}, one, {.bits = 32}).i32 ==
          std::vector<std::int32_t>{std::numeric_limits<std::int32_t>::min(), 0x7fffff80});
    for (const float far : {0x1p31F, -0x1.000002p31F, 1e38F})
        test::check_refused([&] { quantize_bias(std::vector{far}, one, {.bits = 32}); },
                            {"bias[0]", "32 bits times 2^0"});
    // Aligned to a fine accumulator 16-bit codes need more than int32.
    const int fine[] = {-40};
    test::check_refused([&] { quantize_bias(std::vector{0.0F, 1.0F}, fine); }, {"bias[1] is 1.0", "int32 times 2^-40"});
    const int nothing_left[] = {100};
    CHECK(quantize_bias(std::vector{1.0F}, nothing_left).i16 == std::vector<std::int16_t>{32767});
    CHECK(quantize_bias(std::vector{0.0F}, fine).exponents == std::vector<int>{min_exponent});
    const quantized_bias none = quantize_bias({}, grid);
    CHECK(none.codes().empty());
}

TEST_CASE("quantize_bias: arguments out of range are refused") {
    const int grid[] = {-12};
    const int finer[] = {-13};
    const int far[] = {-12, -101};
    const int three[] = {1, 2, 3};
    const std::vector<float> bias{1, 2};
    const auto refused = [](auto&& call, std::initializer_list<const char*> parts) {
        test::check_refused(call, parts);
    };
    for (const int bits : {0, 1, 33, 64})
        refused([&] { quantize_bias(bias, grid, {.bits = bits}); }, {"quantize_bias: bits is ", "2..32"});
    refused([&] { quantize_bias(bias, grid, {.grid = static_cast<bias_grid>(3)}); }, {"grid is 3", "0..2"});
    refused([&] { quantize_bias(bias, grid, {.exponents = finer, .grid = bias_grid::coarser}); },
            {"exponents[0] is -13", "-12, the accumulator's, or more"});
    for (const bias_grid grid_of : {bias_grid::coarser, bias_grid::sums})
        refused([&] { quantize_bias(bias, far, {.grid = grid_of}); }, {"accumulator_exponents[1] is -101"});
    refused([&] { quantize_bias(bias, grid, {.mode = rounding::stochastic}); }, {"mode is 4", "0..3"});
    refused([&] { quantize_bias(bias, three); }, {"accumulator_exponents.size() is 3", "1 or the number of biases, 2"});
    refused(
        [&] {
            quantize_bias(bias, {static_cast<const int*>(nullptr), 1});
        },
        {"accumulator_exponents.data() is null"});
    refused([&] { quantize_bias(bias, far, {.bits = 32}); }, {"accumulator_exponents[1] is -101", "-100..100"});
    refused([&] { quantize_bias(bias, grid, {.bits = 32, .exponents = grid}); },
            {"exponents.size() is 1", "0 on the accumulator's grid"});
    refused([&] { quantize_bias(bias, grid, {.exponents = three}); }, {"exponents.size() is 3"});
    refused([&] { quantize_bias(bias, grid, {.exponents = far}); }, {"exponents[1] is -101"});
    refused([&] { quantize_bias({static_cast<const float*>(nullptr), 2}, grid); }, {"bias.data() is null"});
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), HUGE_VALF, -HUGE_VALF})
        refused([&] { quantize_bias(std::vector{1.0F, bad}, grid); }, {"bias[1] is ", "finite numbers"});
}
