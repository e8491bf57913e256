// Requantization of other engines, each against its published formula written out here on its own.
#include <po2quant/numerics/target_requantize.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include <po2quant/reference/saturating_dot.hpp>

#include "../support/catch.hpp"
#include "../support/float_cases.hpp"

using namespace po2quant;

static_assert(requantize_tflite_double(1, 2) == 1 && shift_right(1, 2, rounding::half_up) == 0);
static_assert(requantize_q7(1000, 3, {.bias = 4, .out = 3}) == 127 &&
              requantize_q7(12, -1, {.bias = 2, .out = 4}) == 1);
static_assert(requantize_float32(20, 3) == 2 && saturate_bits(1 << 20, 20) == (1 << 19) - 1);

namespace {

constexpr std::int32_t lowest = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t highest = std::numeric_limits<std::int32_t>::max();

/// Ties of every shift and their neighbours, small numbers, ends, and 200 000 of all magnitudes.
const std::vector<std::int32_t>& sums() {
    static const std::vector<std::int32_t> values = [] {
        std::vector<std::int32_t> v = {lowest, lowest + 1, highest - 1, highest};
        for (int a = -600; a <= 600; ++a) v.push_back(a);
        for (int s = 1; s <= 30; ++s)
            for (const std::int64_t odd : {1, 3, 5, 253, 255, 257, -1, -3, -5, -255, -257, -259})
                for (const std::int64_t step : {-1, 0, 1}) {
                    const std::int64_t a = odd * (std::int64_t{1} << (s - 1)) + step;
                    if (lowest <= a && a <= highest) v.push_back(static_cast<std::int32_t>(a));
                }
        test::random_source random;
        for (int i = 0; i < 200000; ++i) v.push_back(static_cast<std::int32_t>(random.bits()) >> random.integer(0, 31));
        return v;
    }();
    return values;
}

/// Calls differ(a, s) for all sums and shifts first … last and fails at the first pair that it is true for.
template <class F>
void check_none(int first, int last, F&& differ) {
    for (int s = first; s <= last; ++s)
        for (const std::int32_t a : sums())
            if (differ(a, s)) {
                FAIL_CHECK("sum " << a << ", shift " << s);
                return;
            }
    SUCCEED();
}

// ---- the formulas, in 64 bits so that nothing overflows ----

std::int64_t floor_shift(std::int64_t a, int s) {
    const std::int64_t divisor = std::int64_t{1} << s;
    return a / divisor - (a % divisor < 0 ? 1 : 0);
}
std::int64_t held(std::int64_t a, std::int64_t low, std::int64_t high) { return std::max(low, std::min(high, a)); }

/// gemmlowp: (a·b + nudge) / 2^31, the division truncating toward zero.
std::int64_t doubling_high_mul(std::int64_t a, std::int64_t b) {
    const std::int64_t product = a * b;
    const std::int64_t nudge = product >= 0 ? std::int64_t{1} << 30 : 1 - (std::int64_t{1} << 30);
    return (product + nudge) / (std::int64_t{1} << 31);
}
/// gemmlowp: the remainder compared with a threshold that is one more for negative numbers.
std::int64_t rounding_divide_by_pot(std::int64_t a, int exponent) {
    const std::int64_t mask = (std::int64_t{1} << exponent) - 1;
    const std::int64_t threshold = (mask >> 1) + (a < 0 ? 1 : 0);
    return floor_shift(a, exponent) + ((a & mask) > threshold ? 1 : 0);
}
std::int64_t tflite_double(std::int64_t a, int s) {
    return rounding_divide_by_pot(doubling_high_mul(a, std::int64_t{1} << 30), s - 1);
}
/// The multiplier 2^30 with total_shift = 31 − (1 − s).
std::int64_t tflite_single(std::int64_t a, int s) {
    return floor_shift(a * (std::int64_t{1} << 30) + (std::int64_t{1} << (29 + s)), 30 + s);
}
/// The multiplier 2^23, the mantissa of any power of two, and shift = 23 + s.
std::int64_t xnnpack_rndnu(std::int64_t a, int s) {
    return floor_shift(a * (std::int64_t{1} << 23) + (std::int64_t{1} << (22 + s)), 23 + s);
}
/// The assembly of the S3: shift by s − 1, add 1, shift by 1.
std::int64_t esp32_s3(std::int64_t a, int s) { return floor_shift(floor_shift(a, s - 1) + 1, 1); }
/// ESP-DL on the P4: quotient and rest, up above half, on half where the quotient is odd.
std::int64_t esp32_p4(std::int64_t a, int s) {
    const std::int64_t quotient = floor_shift(a, s);
    const std::int64_t rest = a & ((std::int64_t{1} << s) - 1);
    const std::int64_t half = std::int64_t{1} << (s - 1);
    return quotient + (rest > half || (rest == half && (quotient & 1) != 0) ? 1 : 0);
}
/// Vitis method 2: a tie of a negative number goes to the ceiling, all else as round().
double vitis_activation(double v) { return v < 0 && v - std::floor(v) == 0.5 ? std::ceil(v) : std::round(v); }
/// Vitis method 3.
double vitis_weight(double v) { return std::round(v); }

}  // namespace

TEST_CASE("half_up is the single rounding of TensorFlow Lite, XNNPACK's rndnu and the ESP32-S3's shift") {
    check_none(1, 31, [](std::int32_t a, int s) {
        const std::int64_t ours = shift_right(a, s, rounding::half_up);
        return ours != tflite_single(a, s) || ours != xnnpack_rndnu(a, s) || ours != esp32_s3(a, s);
    });
}

TEST_CASE("half_even is the ESP32-P4's shift") {
    check_none(1, 31, [](std::int32_t a, int s) { return shift_right(a, s, rounding::half_even) != esp32_p4(a, s); });
}

TEST_CASE("ESP-DL's left shifts saturate as ours do") {
    check_none(-31, 0, [](std::int32_t a, int s) {
        const std::int64_t exact = std::int64_t{a} * (std::int64_t{1} << -s);
        return requantize(a, s, rounding::half_up, {-128, 127}) != held(exact, -128, 127) ||
               requantize(a, s, rounding::half_even, {-128, 127}) != held(exact, -128, 127);
    });
}

TEST_CASE("Vitis: activations are half_up, weights and biases half_away, as floats and as shifts") {
    check_none(1, 31, [](std::int32_t a, int s) {
        const double v = std::ldexp(a, -s);
        return shift_right(a, s, rounding::half_up) != vitis_activation(v) ||
               shift_right(a, s, rounding::half_away) != vitis_weight(v);
    });
    test::random_source random;
    for (int i = 0; i < 200000; ++i) {
        const double v = static_cast<double>(static_cast<float>(random.uniform(-300, 300)));
        for (const double x : {v, std::round(v) + 0.5, std::nextafter(std::round(v) + 0.5, -1e9)}) {
            if (static_cast<double>(round_to_integer(x, rounding::half_up)) != vitis_activation(x)) FAIL_CHECK(x);
            if (static_cast<double>(round_to_integer(x, rounding::half_away)) != vitis_weight(x)) FAIL_CHECK(x);
        }
    }
}

TEST_CASE("TensorFlow Lite's double rounding: the published two steps") {
    check_none(1, 31, [](std::int32_t a, int s) { return requantize_tflite_double(a, s) != tflite_double(a, s); });
    CHECK(requantize_tflite_double(1, 2) == 1);
    CHECK(requantize_tflite_double(-2, 2) == -1);
    CHECK(requantize_tflite_double(highest, 1) == 1 << 30);
    CHECK(requantize_tflite_double(lowest, 31) == -1);
    CHECK(requantize_tflite_double(-5, -2) == -20);
    CHECK(requantize_tflite_double(highest, -1) == highest);
}

TEST_CASE("TensorFlow Lite's double rounding differs from half_up in one of 2^s values, from s = 2 on") {
    for (int s = 1; s <= 14; ++s) {
        int higher = 0;
        int lower = 0;
        for (std::int32_t a = -(1 << 16); a < 1 << 16; ++a) {
            const std::int32_t difference = requantize_tflite_double(a, s) - shift_right(a, s, rounding::half_up);
            if (difference > 1 || difference < -1) FAIL_CHECK(a);
            if (difference != 0 && (difference > 0) != (a > 0)) FAIL_CHECK(a);
            higher += difference > 0;
            lower += difference < 0;
        }
        INFO("shift " << s);
        CHECK(higher == (s == 1 ? 0 : 1 << (16 - s)));
        CHECK(lower == (s == 1 ? 0 : 1 << (16 - s)));
    }
}

TEST_CASE("half_up and half_even differ on every other tie: 2^-(s+1) of the sums") {
    for (int s = 1; s <= 12; ++s) {
        int different = 0;
        for (std::int32_t a = -(1 << 16); a < 1 << 16; ++a)
            different += shift_right(a, s, rounding::half_up) != shift_right(a, s, rounding::half_even);
        CHECK(different == 1 << (17 - (s + 1)));
    }
}

TEST_CASE("CMSIS-NN q7 and NNoM: int32 that wraps, with the constant inside, SSAT8") {
    test::random_source random;
    const auto wrap = [](std::int64_t v) {
        return (v - lowest) % (std::int64_t{1} << 32) + lowest;  // v >= lowest here
    };
    for (int i = 0; i < 300000; ++i) {
        const std::int32_t sum = random.one_of(sums());
        const auto bias = static_cast<std::int8_t>(random.integer(-128, 127));
        const q7_shifts shifts{static_cast<int>(random.integer(0, i % 2 == 0 ? 8 : 31)),
                               static_cast<int>(random.integer(0, 31)), random.bits() % 4 == 0};
        const std::int64_t constant = shifts.truncate ? 0 : (std::int64_t{1} << shifts.out) / 2;
        // 2^40 is a multiple of 2^32 that keeps the number positive.
        const std::int64_t exact = bias * (std::int64_t{1} << shifts.bias) + constant + sum;
        const std::int64_t accumulator = wrap(exact + (std::int64_t{1} << 40));
        const std::int64_t expected = held(floor_shift(accumulator, shifts.out), -128, 127);
        const int actual = requantize_q7(sum, bias, shifts);
        if (actual != expected)
            FAIL_CHECK("sum " << sum << ", bias " << int{bias} << " << " << shifts.bias << ", shift " << shifts.out
                              << ": " << actual << ", expected " << expected);
        // Where nothing wraps it is our requantization.
        const std::int64_t partial = bias * (std::int64_t{1} << shifts.bias) + sum;
        if (exact == accumulator && lowest <= partial && partial <= highest) {
            const rounding mode = shifts.truncate ? rounding::floor : rounding::half_up;
            if (requantize(static_cast<std::int32_t>(partial), shifts.out, mode, {-128, 127}) != actual)
                FAIL_CHECK(sum);
        }
    }
    // The constant itself can make it wrap: a code of -128 instead of 127.
    CHECK(requantize_q7(highest, 0, {.out = 4}) == -128);
    CHECK(requantize_q7(highest, 0, {.out = 4, .truncate = true}) == 127);
    CHECK(requantize_q7(-8, 0, {.out = 4}) == 0);
    CHECK(requantize_q7(-8, 0, {.out = 4, .truncate = true}) == -1);
    CHECK(requantize_q7(-24, 0, {.out = 4}) == -1);
    CHECK(requantize_q7(5, -1, {.bias = 3, .out = 0}) == -3);
}

TEST_CASE("float32 requantization is half_even up to shift 17 for any sum, and for all shifts of sums up to 2^24") {
    check_none(-20, 17, [](std::int32_t a, int s) {
        return requantize_float32(a, s) != requantize(a, s, rounding::half_even, {-128, 127});
    });
    check_none(18, 31, [](std::int32_t a, int s) {
        return std::abs(std::int64_t{a}) <= 1 << 24 &&
               requantize_float32(a, s) != requantize(a, s, rounding::half_even, {-128, 127});
    });
    // XNNPACK's own order: float, product, clamp, lrintf (which rounds to even here).
    check_none(-20, 31, [](std::int32_t a, int s) {
        const float scaled = static_cast<float>(a) * std::ldexp(1.0F, -s);
        return requantize_float32(a, s) != std::lrint(std::min(std::max(scaled, -128.0F), 127.0F));
    });
    // 64.5 and a little: as a float it is the tie.
    const std::int32_t a = (64 << 18) + (1 << 17) + 1;
    CHECK(requantize_float32(a, 18) == 64);
    CHECK(requantize(a, 18, rounding::half_even, {-128, 127}) == 65);
}

TEST_CASE("saturating sums: 20 bits, step by step") {
    using codes = std::vector<std::int8_t>;
    const codes up(40, 127);
    const codes down(40, -128);
    // 40 · 127 · 127 = 645160 passes 2^19 − 1 = 524287 and stays there.
    CHECK(reference::saturating_dot(up, up, 0) == 524287);
    CHECK(reference::saturating_dot(up, down, 0) == -524288);
    CHECK(reference::saturating_dot(up, up, 0, 21) == 645160);
    CHECK(reference::saturating_dot({}, {}, 1 << 20) == 524287);
    CHECK(reference::saturating_dot({}, {}, -(1 << 20)) == -524288);
    // The order matters once a step saturates: up, then down, is not down, then up.
    codes inputs(up);
    inputs.insert(inputs.end(), down.begin(), down.end());
    const codes weights(80, 127);
    codes reversed(inputs.rbegin(), inputs.rend());
    CHECK(reference::saturating_dot(inputs, weights, 0) == 524287 - 40 * 127 * 128);
    CHECK(reference::saturating_dot(reversed, weights, 0) == -524288 + 40 * 127 * 127);
}

TEST_CASE("saturating sums are sums where the worst case stays below 2^19") {
    test::random_source random;
    for (int round = 0; round < 3000; ++round) {
        const auto n = static_cast<std::size_t>(random.integer(0, 60));
        std::vector<std::int8_t> inputs(n);
        std::vector<std::int8_t> weights(n);
        const auto bias = static_cast<std::int32_t>(random.integer(-300000, 300000));
        std::int64_t exact = bias;
        accumulator_bounds bounds{std::min(bias, 0), std::max(bias, 0)};
        for (std::size_t i = 0; i < n; ++i) {
            inputs[i] = static_cast<std::int8_t>(random.bits() % 2 == 0 ? -128 : random.integer(-128, 127));
            weights[i] = static_cast<std::int8_t>(random.integer(-128, 127));
            exact += inputs[i] * weights[i];
            bounds.add_product(weights[i], int8);
        }
        if (bounds.magnitude() < 1 << 19) {
            if (reference::saturating_dot(inputs, weights, bias) != exact) FAIL_CHECK(exact);
        }
    }
    SUCCEED();
}
