#include <po2quant/training/quantize.hpp>

#include <algorithm>
#include <vector>

#include <po2quant/reference/quantize.hpp>

#include "../support/allocations.hpp"
#include "../support/errors.hpp"
#include "../support/executors.hpp"
#include "../support/guarded_memory.hpp"
#include "../support/layouts.hpp"
#include "../support/same_bits.hpp"
#include "../support/sizes.hpp"

using namespace po2quant;

namespace {

constexpr std::size_t lanes = simd::f32<default_arch>::size;

/// Calls f(Code{}) for every element type of codes.
template <class F>
void for_each_code_type(F&& f) {
    f(std::int8_t{});
    f(std::uint8_t{});
    f(std::int16_t{});
}

template <class Code>
std::vector<integer_format> formats_for() {
    std::vector<integer_format> fitting;
    for (const integer_format f : test::all_formats())
        if (f.qmin() >= std::numeric_limits<Code>::min() && f.qmax() <= std::numeric_limits<Code>::max())
            fitting.push_back(f);
    return fitting;
}

/// "int8_t: int8, exponent −4, half_up".
template <class Code>
std::string name_of(const std::string& what) {
    return std::string(std::is_signed_v<Code> ? "int" : "uint") + std::to_string(8 * sizeof(Code)) + "_t: " + what;
}

template <class Code>
std::vector<Code> expected_codes(std::span<const float> x, const quantizer& q) {
    std::vector<Code> codes(x.size());
    reference::quantize<Code>(x, codes, q);
    return codes;
}

template <class Code>
std::vector<Code> expected_codes(std::span<const float> x, const channel_quantizer& q) {
    std::vector<Code> codes(x.size());
    reference::quantize_channels<Code>(x, codes, {q.format, 0, q.mode, q.seed}, q.exponents,
                                       static_cast<std::size_t>(q.inner));
    return codes;
}

template <class Code>
std::vector<float> expected_values(std::span<const Code> codes, std::span<const int> exponents, std::size_t inner = 1) {
    std::vector<float> y(codes.size());
    reference::dequantize_channels<Code>(codes, y, exponents, inner);
    return y;
}

}  // namespace

TEST_CASE("quantize and dequantize: every size and alignment, between guard pages") {
    test::random_source random;
    test::guarded_memory float_memory(8000);
    test::guarded_memory code_memory(8000);
    for_each_code_type([&]<class Code>(Code) {
        for (const std::size_t n : test::sizes_worth_trying(lanes, 1025))
            for (const rounding mode : test::all_roundings) {
                const quantizer q{random.one_of(formats_for<Code>()), test::random_exponent(random), mode,
                                  random.bits()};
                const auto context = [&] { return name_of<Code>(test::name_of(q)); };
                std::vector<float> x(n);
                test::fill_values(x, random, q.format, std::vector{q.exponent});
                const std::vector<Code> expected = expected_codes<Code>(x, q);
                const std::vector<float> back = expected_values<Code>(expected, std::vector{q.exponent});
                for (const test::edge side : test::edges)
                    for (std::size_t gap = 0; gap<64; gap += n> 200 ? 21 : n > 70 ? 5 : 3) {
                        const auto floats = float_memory.buffer<float>(n, side, gap % 16);
                        const auto codes = code_memory.buffer<Code>(n, side, gap);
                        std::copy(x.begin(), x.end(), floats.begin());
                        quantize(std::span<const float>(floats), codes, q);
                        test::check_same(codes, std::span(expected), context, x);
                        if (!code_memory.untouched_outside(codes)) FAIL_CHECK("written outside: " << context());
                        dequantize(std::span<const Code>(codes), floats, q.exponent);
                        test::check_same(floats, std::span(back), context);
                        if (!float_memory.untouched_outside(floats)) FAIL_CHECK("written outside: " << context());
                    }
            }
    });
}

TEST_CASE("quantize: every tie and code of every format, beside them, and special values") {
    for_each_code_type([&]<class Code>(Code) {
        for (const integer_format f : formats_for<Code>())
            for (const int e : {min_exponent, -4, 0, max_exponent}) {
                std::vector<float> x = test::ties_and_codes(f, e);
                if (f.bits > 10 && e != -4) x.erase(x.begin() + 1000, x.end() - 1000);
                for (const float special : test::special_values()) x.push_back(special);
                std::vector<Code> codes(x.size());
                for (const rounding mode : test::all_roundings) {
                    const quantizer q{f, e, mode, 5};
                    quantize(std::span<const float>(x), std::span(codes), q);
                    test::check_same(
                        std::span(codes), std::span<const Code>(expected_codes<Code>(x, q)),
                        [&] { return name_of<Code>(test::name_of(q)); }, x);
                }
            }
    });
}

TEST_CASE("dequantize: every code, every exponent") {
    for_each_code_type([&]<class Code>(Code) {
        std::vector<Code> codes;
        for (int c = std::numeric_limits<Code>::min(); c <= std::numeric_limits<Code>::max(); ++c)
            codes.push_back(static_cast<Code>(c));
        std::vector<float> y(codes.size());
        for (int e = min_exponent; e <= max_exponent; e += sizeof(Code) == 1 ? 1 : 50) {
            dequantize(std::span<const Code>(codes), std::span(y), e);
            std::vector<float> expected(codes.size());
            for (std::size_t i = 0; i < codes.size(); ++i) expected[i] = std::ldexp(static_cast<float>(codes[i]), e);
            test::check_same(std::span(y), std::span(expected),
                             [&] { return name_of<Code>("exponent " + std::to_string(e)); });
        }
    });
}

TEST_CASE("quantize and dequantize: per channel, every layout") {
    test::random_source random;
    for_each_code_type([&]<class Code>(Code) {
        for (const test::layout l : test::layouts_worth_trying()) {
            const std::vector<int> exponents = test::random_exponents(random, l.channels);
            for (const rounding mode : test::all_roundings) {
                const integer_format f = random.one_of(formats_for<Code>());
                const channel_quantizer q{f, exponents, static_cast<std::int64_t>(l.inner), mode, random.bits()};
                const auto context = [&] {
                    return name_of<Code>(l.name() + " " + test::name_of(f) + ", " + test::name_of(mode));
                };
                std::vector<float> x(l.size());
                test::fill_values(x, random, f, exponents, l.inner);
                const std::vector<Code> expected = expected_codes<Code>(x, q);
                std::vector<Code> codes(x.size());
                quantize(std::span<const float>(x), std::span(codes), q);
                test::check_same(std::span(codes), std::span(expected), context, x);
                std::vector<float> y(x.size());
                dequantize(std::span<const Code>(codes), std::span(y), q);
                test::check_same(std::span(y),
                                 std::span<const float>(expected_values<Code>(expected, exponents, l.inner)), context);
            }
        }
    });
}

TEST_CASE("quantize and dequantize: per channel, between guard pages") {
    test::random_source random;
    test::guarded_memory float_memory(20000);
    test::guarded_memory code_memory(20000);
    for_each_code_type([&]<class Code>(Code) {
        for (const test::layout l :
             {test::layout{11, 3, 1}, {1, 5, 1}, {3, 17, 1}, {2, 1025, 1}, {3, 2, 5}, {1, 3, 67}}) {
            const std::vector<int> exponents = test::random_exponents(random, l.channels);
            const channel_quantizer q{formats_for<Code>().back(), exponents, static_cast<std::int64_t>(l.inner)};
            std::vector<float> x(l.size());
            test::fill_values(x, random, q.format, exponents, l.inner);
            const std::vector<Code> expected = expected_codes<Code>(x, q);
            const std::vector<float> back = expected_values<Code>(expected, exponents, l.inner);
            for (const test::edge side : test::edges)
                for (std::size_t gap = 0; gap < 64; ++gap) {
                    const auto floats = float_memory.buffer<float>(x.size(), side, gap % 16);
                    const auto codes = code_memory.buffer<Code>(x.size(), side, gap);
                    std::copy(x.begin(), x.end(), floats.begin());
                    quantize(std::span<const float>(floats), codes, q);
                    test::check_same(
                        codes, std::span(expected), [&] { return l.name(); }, x);
                    dequantize(std::span<const Code>(codes), floats, q);
                    test::check_same(floats, std::span(back), [&] { return l.name(); });
                    if (!code_memory.untouched_outside(codes) || !float_memory.untouched_outside(floats))
                        FAIL_CHECK("written outside: " << l.name());
                }
        }
    });
}

TEST_CASE("quantize and dequantize: any number of threads, any order of tasks") {
    test::random_source random;
    for (const test::layout l : test::large_layouts()) {
        const std::vector<int> exponents = test::random_exponents(random, l.channels);
        std::vector<float> x(l.size());
        test::fill_values(x, random, int8, exponents, l.inner);
        const quantizer whole{int8, exponents[0], rounding::stochastic, 3};
        const channel_quantizer each{int8, exponents, static_cast<std::int64_t>(l.inner), rounding::stochastic, 3};
        using code = std::int8_t;
        const std::vector<code> expected_whole = expected_codes<code>(x, whole);
        const std::vector<code> expected_each = expected_codes<code>(x, each);
        const std::vector<float> back_whole = expected_values<code>(expected_whole, std::span(exponents).first(1));
        const std::vector<float> back_each = expected_values<code>(expected_each, exponents, l.inner);
        for (const test::test_executor& run : test::executors()) {
            const auto context = [&] { return l.name() + ", " + run.name(); };
            std::vector<code> codes(x.size());
            std::vector<float> y(x.size());
            quantize(std::span<const float>(x), std::span(codes), whole, run);
            test::check_same(std::span(codes), std::span(expected_whole), context, x);
            dequantize(std::span<const code>(codes), std::span(y), whole.exponent, run);
            test::check_same(std::span(y), std::span(back_whole), context);
            quantize(std::span<const float>(x), std::span(codes), each, run);
            test::check_same(std::span(codes), std::span(expected_each), context, x);
            dequantize(std::span<const code>(codes), std::span(y), each, run);
            test::check_same(std::span(y), std::span(back_each), context);
        }
    }
}

TEST_CASE("quantize: a format that the element type cannot hold is refused") {
    const std::vector<float> x(5, 1.0F);
    for_each_code_type([&]<class Code>(Code) {
        using limits = std::numeric_limits<Code>;
        const std::string allowed = std::to_string(limits::min()) + ".." + std::to_string(limits::max());
        std::vector<Code> codes(x.size(), 77);
        for (const integer_format f : test::all_formats()) {
            const auto run = [&] { quantize(std::span<const float>(x), std::span(codes), quantizer{.format = f}); };
            if (f.qmin() >= limits::min() && f.qmax() <= limits::max()) continue;
            const std::string given = std::to_string(f.qmin()) + ".." + std::to_string(f.qmax());
            test::check_refused(run, {"quantize: format is ", given.c_str(), allowed.c_str()});
        }
        CHECK(codes == std::vector<Code>(x.size(), 77));
    });
}

TEST_CASE("quantize and dequantize: allocate nothing") {
    std::vector<float> x(100'000, 0.3F);
    std::vector<std::int8_t> codes(x.size());
    const std::vector<int> exponents(20, -3);
    for (const rounding mode : test::all_roundings) {
        const std::size_t before = test::allocations();
        quantize(x, codes, quantizer{.exponent = -3, .mode = mode}, test::plain_loop);
        dequantize(codes, x, -3, test::plain_loop);
        for (const std::int64_t inner : {1, 50}) {
            const channel_quantizer q{.exponents = exponents, .inner = inner, .mode = mode};
            quantize(x, codes, q, test::plain_loop);
            dequantize(codes, x, q, test::plain_loop);
        }
        CHECK(test::allocations() == before);
    }
    CHECK(test::allocations() > 0);
}
