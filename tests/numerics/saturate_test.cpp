#include <po2quant/numerics/saturate.hpp>

#include <limits>
#include <vector>

#include "../support/catch.hpp"
#include "../support/float_cases.hpp"

using namespace po2quant;

static_assert(shift_right(20, 3, rounding::half_up) == 3 && shift_right(20, 3, rounding::half_even) == 2);
static_assert(shift_right(20, 3, rounding::half_away) == 3 && shift_right(20, 3, rounding::floor) == 2);
static_assert(saturate<std::int8_t>(1000) == 127 && clamp(5, 0, 3) == 3);

namespace {

__extension__ using wide = __int128;
constexpr std::int32_t lowest = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t highest = std::numeric_limits<std::int32_t>::max();

/// Quotient and remainder of the exact a / 2^s in 128 bits, then the rule in words.
std::int32_t oracle(std::int32_t a, int shift, rounding mode, std::uint32_t random) {
    if (shift <= 0) {
        wide v = a;
        for (int i = 0; i < (shift < -64 ? 64 : -shift); ++i) v *= 2;
        return v < lowest ? lowest : v > highest ? highest : static_cast<std::int32_t>(v);
    }
    const int s = shift > 80 ? 80 : shift;
    const wide divisor = static_cast<wide>(1) << s;
    const auto floor_of = [](wide n, wide d) { return n / d - (n % d != 0 && (n < 0) != (d < 0) ? 1 : 0); };
    if (mode == rounding::stochastic)  // floor(a / 2^s + random / 2^32)
        return static_cast<std::int32_t>(
            floor_of((static_cast<wide>(a) << 32) + (static_cast<wide>(random) << s), divisor << 32));
    const wide quotient = floor_of(a, divisor);
    const wide twice_rest = 2 * (a - quotient * divisor);
    bool up = twice_rest > divisor;
    if (twice_rest == divisor)
        up = mode == rounding::half_up || (mode == rounding::half_even && quotient % 2 != 0) ||
             (mode == rounding::half_away && a > 0);
    if (mode == rounding::floor) up = false;
    return static_cast<std::int32_t>(quotient + (up ? 1 : 0));
}

std::vector<std::int32_t> interesting_values() {
    std::vector<std::int32_t> values;
    for (std::int64_t near = 1; near <= std::int64_t{1} << 31; near *= 2)
        for (const std::int64_t factor : {1, 3, 5, -1, -3, -5})
            for (std::int64_t step = -2; step <= 2; ++step) {
                const std::int64_t v = near * factor + step;
                if (v >= lowest && v <= highest) values.push_back(static_cast<std::int32_t>(v));
            }
    for (std::int32_t v = -300; v <= 300; ++v) values.push_back(v);
    test::random_source random;
    for (int i = 0; i < 500; ++i) values.push_back(static_cast<std::int32_t>(random.bits()));
    return values;
}

std::vector<int> interesting_shifts() {
    std::vector<int> shifts;
    for (int s = -70; s <= 70; ++s) shifts.push_back(s);
    const int least = std::numeric_limits<int>::min();
    const int most = std::numeric_limits<int>::max();
    for (const int s : {least, least + 1, -1000, 1000, most - 1, most}) shifts.push_back(s);
    return shifts;
}

}  // namespace

TEST_CASE("shift_right: every shift count, every mode, against 128-bit integers") {
    for (const std::int32_t a : interesting_values())
        for (const int s : interesting_shifts())
            for (const rounding mode : test::all_roundings)
                for (const std::uint32_t random : {0U, 1U, 0x7fffffffU, 0x80000000U, 0xdeadbeefU, 0xffffffffU}) {
                    const std::int32_t actual = shift_right(a, s, mode, random);
                    const std::int32_t expected = oracle(a, s, mode, random);
                    if (actual != expected)
                        FAIL_CHECK("shift_right(" << a << ", " << s << ", " << test::name_of(mode) << ", " << random
                                                  << ") is " << actual << ", expected " << expected);
                    if (mode != rounding::stochastic) break;
                }
    SUCCEED();
}

TEST_CASE("shift_right: half_up equals the form that cannot overflow, for every shift of an int32") {
    for (const std::int32_t a : interesting_values())
        for (int s = 1; s <= 31; ++s)
            if (shift_right(a, s, rounding::half_up) != (a >> s) + ((a >> (s - 1)) & 1)) FAIL_CHECK(a << " >> " << s);
    SUCCEED();
}

TEST_CASE("shift_left and shift_right_floor: every shift count") {
    for (const std::int32_t a : interesting_values())
        for (const int s : interesting_shifts()) {
            if (s < 0) continue;
            if (shift_left(a, s) != oracle(a, -s, rounding::floor, 0)) FAIL_CHECK(a << " << " << s);
            if (shift_right_floor(a, s) != oracle(a, s, rounding::floor, 0)) FAIL_CHECK(a << " >> " << s);
        }
    SUCCEED();
}

TEST_CASE("shift_right: stochastic shifts are unbiased") {
    test::random_source random;
    const std::uint64_t seed = random.bits();
    INFO("seed " << seed);
    constexpr int count = 200000;
    for (const std::int32_t a : {1, 3, -5, 100, -77}) {
        std::int64_t sum = 0;
        for (std::uint64_t i = 0; i < count; ++i) sum += shift_right(a, 3, rounding::stochastic, random_bits(seed, i));
        CHECK(std::abs(static_cast<double>(sum) / count - a / 8.0) < 6 * 0.5 / std::sqrt(count));
    }
}

TEST_CASE("saturate: the limits of each integer type") {
    const std::int64_t values[] = {
        std::numeric_limits<std::int64_t>::min(), -32769, -32768, -129, -128, -1, 0, 127, 128, 255, 256, 32767, 32768,
        std::numeric_limits<std::int64_t>::max()};
    for (const std::int64_t v : values) {
        CHECK(saturate<std::int8_t>(v) == std::min<std::int64_t>(127, std::max<std::int64_t>(-128, v)));
        CHECK(saturate<std::uint8_t>(v) == std::min<std::int64_t>(255, std::max<std::int64_t>(0, v)));
        CHECK(saturate<std::int16_t>(v) == std::min<std::int64_t>(32767, std::max<std::int64_t>(-32768, v)));
        CHECK(saturate<std::int32_t>(v) == std::min<std::int64_t>(highest, std::max<std::int64_t>(lowest, v)));
    }
}
