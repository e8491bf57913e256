#include <po2quant/numerics/format.hpp>

#include <cmath>
#include <limits>

#include "../support/catch.hpp"
#include "../support/float_cases.hpp"

using namespace po2quant;

static_assert(int8.qmin() == -128 && int8.qmax() == 127);
static_assert(int8_narrow.qmin() == -127 && int8_narrow.qmax() == 127);
static_assert(uint8.qmin() == 0 && uint8.qmax() == 255);
static_assert(int4.qmin() == -8 && int4.qmax() == 7 && uint4.qmax() == 15);
static_assert(int16.qmin() == -32768 && int16.qmax() == 32767 && uint16.qmax() == 65535);
static_assert(integer_format{} == int8);

TEST_CASE("formats: 2 to 16 bits, signed, narrow and unsigned") {
    for (const integer_format f : test::all_formats()) {
        INFO(test::name_of(f));
        const double codes = std::pow(2.0, f.bits);
        CHECK(f.qmax() == (f.is_signed ? codes / 2 - 1 : codes - 1));
        CHECK(f.qmin() == (f.is_signed ? (f.narrow_range ? 1 - codes / 2 : -codes / 2) : 0));
        CHECK(f.contains(f.qmin()));
        CHECK(f.contains(f.qmax()));
        CHECK_FALSE(f.contains(f.qmin() - 1));
        CHECK_FALSE(f.contains(f.qmax() + 1));
        CHECK_FALSE(f.contains(std::numeric_limits<std::int64_t>::min()));
        CHECK_FALSE(f.contains(std::numeric_limits<std::int64_t>::max()));
        CHECK(f.valid());
    }
}

TEST_CASE("formats: others are not valid") {
    CHECK_FALSE(integer_format{.bits = 1}.valid());
    CHECK_FALSE(integer_format{.bits = 17}.valid());
    CHECK_FALSE(integer_format{.bits = 0}.valid());
    CHECK_FALSE(integer_format{.bits = -8}.valid());
    CHECK_FALSE(integer_format{.bits = 8, .is_signed = false, .narrow_range = true}.valid());
}
