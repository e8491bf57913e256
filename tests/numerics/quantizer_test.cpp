#include <po2quant/numerics/quantizer.hpp>

#include <cfloat>
#include <cmath>
#include <limits>

#include "../support/catch.hpp"
#include "../support/float_cases.hpp"
#include "../support/same_bits.hpp"

using namespace po2quant;

namespace {
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
}  // namespace

static_assert(quantize(0.7F, quantizer{.exponent = -2}) == 3 && dequantize(3, -2) == 0.75F);
static_assert(fake_quantize(100.0F, quantizer{.exponent = -4}) == 7.9375F);
static_assert(fake_quantize_gradient(100.0F, 2.0F, quantizer{.exponent = -4}, ste::clip_code) == 0.0F);
static_assert(quantize(not_a_number, quantizer{}) == 0);

TEST_CASE("one value: every code and tie of every format, by long double arithmetic") {
    for (const integer_format f : test::all_formats())
        for (const int e : {min_exponent, -7, 0, 3, max_exponent}) {
            if (f.bits > 10 && e != -7) continue;
            for (const float x : test::ties_and_codes(f, e)) {
                const long double v = std::ldexp(static_cast<long double>(x), -e);
                const long double rounded[] = {std::floor(v + 0.5L), std::nearbyint(v), std::round(v), std::floor(v)};
                for (int mode = 0; mode < 4; ++mode) {
                    const quantizer q{f, e, static_cast<rounding>(mode)};
                    const auto expected = static_cast<int>(std::fmin(std::fmax(rounded[mode], f.qmin()), f.qmax()));
                    const float y = std::ldexp(static_cast<float>(expected), e);
                    if (quantize(x, q) != expected || !test::identical(fake_quantize(x, q), y))
                        FAIL_CHECK(test::name_of(q) << " of " << test::shown(x) << " is " << quantize(x, q) << ", "
                                                    << test::shown(fake_quantize(x, q)) << "; expected " << expected);
                }
            }
        }
    SUCCEED();
}

TEST_CASE("one value: NaN, infinities, zeros, subnormals") {
    for (const integer_format f : test::all_formats())
        for (const int e : {min_exponent, -7, 0, max_exponent})
            for (const rounding mode : test::all_roundings) {
                const quantizer q{f, e, mode};
                INFO(test::name_of(q));
                CHECK(quantize(not_a_number, q) == 0);
                CHECK(std::isnan(fake_quantize(not_a_number, q)));
                CHECK(quantize(infinity, q) == f.qmax());
                CHECK(quantize(-infinity, q) == f.qmin());
                CHECK(fake_quantize(infinity, q) == std::ldexp(static_cast<float>(f.qmax()), e));
                CHECK(fake_quantize(-infinity, q) == std::ldexp(static_cast<float>(f.qmin()), e));
                CHECK(test::identical(fake_quantize(0.0F, q), 0.0F));
                CHECK(test::identical(fake_quantize(-0.0F, q), 0.0F));
                // A stochastic threshold of 0 lets any fraction through: once in 2^24.
                if (mode != rounding::stochastic) CHECK(quantize(FLT_TRUE_MIN, q) == 0);
                CHECK(quantize(-FLT_TRUE_MIN, q) == (mode == rounding::floor && f.is_signed ? -1 : 0));
                for (const ste estimator : test::all_estimators) {
                    const float beyond = estimator == ste::plain ? 1.0F : 0.0F;
                    CHECK(test::identical(fake_quantize_gradient(not_a_number, 1.0F, q, estimator), 0.0F));
                    CHECK(fake_quantize_gradient(infinity, 1.0F, q, estimator) == beyond);
                    CHECK(fake_quantize_gradient(-infinity, 1.0F, q, estimator) == beyond);
                    CHECK(fake_quantize_gradient(0.0F, 1.0F, q, estimator) == 1.0F);
                    CHECK(fake_quantize_gradient(-0.0F, 1.0F, q, estimator) == 1.0F);
                }
            }
}

TEST_CASE("one value: quantizing twice changes nothing, and codes come back") {
    for (const integer_format f : test::all_formats())
        for (const int e : {min_exponent, -7, max_exponent})
            for (int code = f.qmin(); code <= f.qmax(); code += f.bits > 10 ? 37 : 1)
                for (const rounding mode : test::all_roundings)
                    if (quantize(dequantize(code, e), quantizer{f, e, mode, 7}, 5) != code)
                        FAIL_CHECK(test::name_of(f) << " code " << code);
    SUCCEED();
}

TEST_CASE("gradient: clip_code passes where the code is not clipped, clip_range and pact where x is inside") {
    for (const integer_format f : test::all_formats()) {
        if (f.bits > 10) continue;
        for (const int e : {min_exponent, -7, max_exponent}) {
            const float low = std::ldexp(static_cast<float>(f.qmin()), e);
            const float high = std::ldexp(static_cast<float>(f.qmax()), e);
            for (const float x : test::ties_and_codes(f, e))
                for (const rounding mode : test::all_roundings) {
                    const quantizer q{f, e, mode, 3};
                    // With 16 bits and room to spare nothing is clipped: the rounded code itself.
                    const int code = quantize(x, quantizer{int16, e, mode, 3}, 11);
                    const bool passes[] = {f.contains(code), low <= x && x <= high, true, 0 <= x && x < high};
                    for (const ste estimator : test::all_estimators)
                        if (fake_quantize_gradient(x, 2.5F, q, estimator, 11) !=
                            (passes[static_cast<int>(estimator)] ? 2.5F : 0.0F))
                            FAIL_CHECK(test::name_of(q)
                                       << ", " << test::name_of(estimator) << " at " << test::shown(x));
                }
        }
    }
    SUCCEED();
}

TEST_CASE("gradient: 16 bits too pass exactly up to the ties beyond the last codes") {
    for (const bool is_signed : {true, false})
        for (int bits = 11; bits <= 16; ++bits)
            for (const rounding mode : {rounding::half_up, rounding::half_even, rounding::half_away, rounding::floor}) {
                const integer_format f{.bits = bits, .is_signed = is_signed};
                for (const int end : {f.qmin(), f.qmax()})
                    for (int twice = 2 * end - 4; twice <= 2 * end + 4; ++twice)
                        for (const float toward : {-infinity, static_cast<float>(twice) / 2, infinity}) {
                            const float x = std::nextafter(static_cast<float>(twice) / 2, toward);
                            const bool inside = f.contains(round_to_integer(static_cast<double>(x), mode));
                            if ((fake_quantize_gradient(x, 1.0F, quantizer{f, 0, mode}, ste::clip_code) != 0) != inside)
                                FAIL_CHECK(test::name_of(f) << ", " << test::name_of(mode) << " at " << test::shown(x));
                        }
            }
    SUCCEED();
}

TEST_CASE("gradient: what passes keeps its bits, what does not is +0") {
    const quantizer q{.exponent = -4};
    for (const float dy : test::special_values()) {
        CHECK(test::identical(fake_quantize_gradient(1.0F, dy, q, ste::clip_code), dy));
        CHECK(test::identical(fake_quantize_gradient(100.0F, dy, q, ste::clip_code), 0.0F));
    }
}

TEST_CASE("stochastic: reproducible from seed and index, and the mean is the value") {
    constexpr int count = 100000;
    const float x = 0.3F;
    double sum = 0;
    int other_seed = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        const quantizer q{.exponent = -2, .mode = rounding::stochastic, .seed = 9};
        const float y = fake_quantize(x, q, i);
        sum += static_cast<double>(y);
        if (y != 0.25F && y != 0.5F) FAIL_CHECK(test::shown(y));
        other_seed += y != fake_quantize(x, quantizer{.exponent = -2, .mode = rounding::stochastic, .seed = 10}, i);
    }
    CHECK(std::abs(sum / count - static_cast<double>(x)) < 6 * 0.125 / std::sqrt(count));
    CHECK(other_seed > count / 10);
}
