#include <po2quant/numerics/exponent.hpp>

#include <cfloat>
#include <cmath>

#include "../support/catch.hpp"
#include "../support/float_cases.hpp"

using namespace po2quant;

static_assert(exp2_float(0) == 1.0F && exp2_float(-3) == 0.125F && exp2_double(10) == 1024.0);
static_assert(floor_log2(0.75F) == -1 && ceil_log2(0.75F) == 0 && ceil_log2(0.5F) == -1);
static_assert(exponent_for(6.0F, int8) == -4 && exponent_for(0.0F, int8) == min_exponent);

namespace {

/// ceil(log2(v)) by the C library's split into mantissa and exponent: v = m * 2^k with 1/2 <= m < 1.
int ceil_log2_by_frexp(float v) {
    int k = 0;
    const float m = std::frexp(v, &k);
    return m == 0.5F ? k - 1 : k;
}

void check_logarithms(float v) {
    if (floor_log2(v) != std::ilogb(v) || ceil_log2(v) != ceil_log2_by_frexp(v)) {
        INFO(std::hexfloat << v);
        CHECK(floor_log2(v) == std::ilogb(v));
        CHECK(ceil_log2(v) == ceil_log2_by_frexp(v));
    }
}

}  // namespace

TEST_CASE("2^e: every exponent of float and double") {
    for (int e = -126; e <= 127; ++e) CHECK(exp2_float(e) == std::ldexp(1.0F, e));
    for (int e = -1022; e <= 1023; ++e)
        if (exp2_double(e) != std::ldexp(1.0, e)) FAIL_CHECK("2^" << e);
}

TEST_CASE("floor and ceiling of log2: every power of two and its neighbours") {
    for (int k = -149; k <= 127; ++k) {
        const float v = std::ldexp(1.0F, k);
        INFO("2^" << k);
        CHECK(floor_log2(v) == k);
        CHECK(ceil_log2(v) == k);
        if (k > -149) check_logarithms(std::nextafter(v, 0.0F));
        check_logarithms(std::nextafter(v, FLT_MAX));
    }
    check_logarithms(FLT_MAX);
}

TEST_CASE("floor and ceiling of log2: every exponent, subnormals too, many mantissas") {
    test::random_source random;
    for (std::uint32_t exponent = 0; exponent < 255; ++exponent)
        for (int i = 0; i < 2000; ++i) {
            const auto mantissa = static_cast<std::uint32_t>(random.bits()) & 0x7fffffU;
            // Few bits set now and then: that is where powers of two are told apart.
            const std::uint32_t bits =
                exponent << 23 | (i % 4 == 0 ? mantissa & (mantissa >> 5) & (mantissa >> 9) : mantissa);
            if (bits != 0) check_logarithms(std::bit_cast<float>(bits));
        }
    for (std::uint32_t bits = 1; bits < 0x00800000U; bits += 257) check_logarithms(std::bit_cast<float>(bits));
    SUCCEED();
}

TEST_CASE("exponent for a magnitude: the smallest power of two that covers it takes all bits but the sign") {
    test::random_source random;
    for (const integer_format f : test::all_formats())
        for (int i = 0; i < 400; ++i) {
            const float magnitude =
                i % 2 == 0 ? std::ldexp(1.0F, static_cast<int>(random.integer(-149, 127)))
                           : std::bit_cast<float>(static_cast<std::uint32_t>(random.integer(1, 0x7f7fffff)));
            int k = -149;
            while (std::ldexp(1.0, k) < static_cast<double>(magnitude)) ++k;
            const int wanted = std::max(-100, std::min(100, k - (f.is_signed ? f.bits - 1 : f.bits)));
            INFO(test::name_of(f) << ", magnitude " << std::hexfloat << magnitude);
            CHECK(exponent_for(magnitude, f) == wanted);
        }
}

TEST_CASE("exponent for a magnitude: examples, cap and limits") {
    CHECK(exponent_for(1.0F, int8) == -7);
    CHECK(exponent_for(std::nextafter(1.0F, 2.0F), int8) == -6);
    CHECK(exponent_for(6.0F, uint8) == -5);
    CHECK(exponent_for(100.0F, int8) == 0);
    // The original caps weights at k = 3: they saturate at ±8.
    CHECK(exponent_for(100.0F, int8, 3) == -4);
    CHECK(exponent_for(8.0F, int8, 3) == -4);
    CHECK(exponent_for(4.0F, int8, 3) == -5);
    CHECK(exponent_for(0.0F, int16) == min_exponent);
    CHECK(exponent_for(std::ldexp(1.0F, -149), integer_format{.bits = 2}, 128) == min_exponent);
    CHECK(exponent_for(FLT_MAX, integer_format{.bits = 2}) == max_exponent);
}

TEST_CASE("exponents at the limits keep codes, ties and their neighbours exact floats") {
    for (const int e : {min_exponent, max_exponent})
        for (const double code : {1.0, 32767.5, -32768.5, 65535.0, 65535.5, 0.5}) {
            const double exact = code * std::ldexp(1.0, e);
            CHECK(static_cast<double>(static_cast<float>(exact)) == exact);
            CHECK(std::isnormal(std::nextafter(static_cast<float>(exact), 0.0F)));
        }
}
