#include <po2quant/training/fake_quantize.hpp>

#include <algorithm>
#include <vector>

#include <po2quant/reference/fake_quantize.hpp>

#include "../support/allocations.hpp"
#include "../support/executors.hpp"
#include "../support/guarded_memory.hpp"
#include "../support/layouts.hpp"
#include "../support/same_bits.hpp"
#include "../support/sizes.hpp"

using namespace po2quant;

namespace {

constexpr std::size_t lanes = simd::f32<default_arch>::size;

std::vector<float> expected_of(std::span<const float> input, const quantizer& q) {
    std::vector<float> y(input.size());
    reference::fake_quantize(input, y, q);
    return y;
}

std::vector<float> expected_of(std::span<const float> input, const channel_quantizer& q) {
    std::vector<float> y(input.size());
    reference::fake_quantize_channels(input, y, {q.format, 0, q.mode, q.seed}, q.exponents,
                                      static_cast<std::size_t>(q.inner));
    return y;
}

}  // namespace

TEST_CASE("fake_quantize: every size and alignment, between guard pages, in place too") {
    test::random_source random;
    test::guarded_memory in_memory(8000);
    test::guarded_memory out_memory(8000);
    for (const std::size_t n : test::sizes_worth_trying(lanes, 1200))
        for (const rounding mode : test::all_roundings) {
            const quantizer q{random.one_of(test::all_formats()), test::random_exponent(random), mode, random.bits()};
            std::vector<float> x(n);
            test::fill_values(x, random, q.format, std::vector{q.exponent});
            const std::vector<float> expected = expected_of(x, q);
            for (const test::edge side : test::edges)
                for (std::size_t gap = 0; gap<16; gap += n> 200 ? 5 : 1) {
                    const auto context = [&] {
                        return test::name_of(q) + ", gap of " + std::to_string(gap) +
                               (side == test::edge::low ? " low" : " high");
                    };
                    const auto in = in_memory.buffer<float>(n, side, gap);
                    const auto out = out_memory.buffer<float>(n, side, gap * 7 % 16);
                    std::copy(x.begin(), x.end(), in.begin());
                    fake_quantize(in, out, q);
                    test::check_same(out, std::span(expected), context, x);
                    test::check_same(in, std::span(x), context);
                    if (!out_memory.untouched_outside(out)) FAIL_CHECK("written outside: " << context());
                    fake_quantize(in, in, q);
                    test::check_same(in, std::span(expected), context, x);
                    if (!in_memory.untouched_outside(in)) FAIL_CHECK("written outside, in place: " << context());
                }
        }
}

TEST_CASE("fake_quantize: every tie and code of every format, beside them, and special values") {
    for (const integer_format f : test::all_formats())
        for (const int e :
             {min_exponent, min_exponent + 1, -31, -16, -15, -11, -4, -1, 0, 1, 5, max_exponent - 1, max_exponent}) {
            if (f.bits > 9 && e != -4 && e != min_exponent && e != max_exponent) continue;
            std::vector<float> x = test::ties_and_codes(f, e);
            if (f.bits > 12 && e != -4) x.erase(x.begin() + 1000, x.end() - 1000);
            // Long runs have a way of their own, with and without NaN.
            const std::vector<float> once = x;
            while (x.size() < 1200) x.insert(x.end(), once.begin(), once.end());
            for (const float special : test::special_values()) x.push_back(special);
            x.insert(x.end(), once.begin(), once.end());
            std::vector<float> y(x.size());
            for (const rounding mode : test::all_roundings) {
                const quantizer q{f, e, mode, 5};
                fake_quantize(x, y, q);
                test::check_same(
                    std::span(y), std::span<const float>(expected_of(x, q)), [&] { return test::name_of(q); }, x);
            }
        }
}

TEST_CASE("fake_quantize: per channel, every layout, in place too") {
    test::random_source random;
    for (const test::layout l : test::layouts_worth_trying())
        for (const rounding mode : test::all_roundings) {
            const integer_format f = random.one_of(test::all_formats());
            const std::vector<int> exponents = test::random_exponents(random, l.channels);
            const channel_quantizer q{f, exponents, static_cast<std::int64_t>(l.inner), mode, random.bits()};
            const auto context = [&] { return l.name() + " " + test::name_of(f) + ", " + test::name_of(mode); };
            std::vector<float> x(l.size());
            test::fill_values(x, random, f, exponents, l.inner);
            const std::vector<float> expected = expected_of(x, q);
            std::vector<float> y(x.size());
            fake_quantize(x, y, q);
            test::check_same(std::span(y), std::span(expected), context, x);
            y = x;
            fake_quantize(y, y, q);
            test::check_same(std::span(y), std::span(expected), context, x);
        }
}

TEST_CASE("fake_quantize: per channel, every alignment between guard pages") {
    test::random_source random;
    test::guarded_memory in_memory(20000);
    test::guarded_memory out_memory(20000);
    for (const test::layout l : {test::layout{11, 3, 1}, {1, 5, 1}, {3, 17, 1}, {2, 1025, 1}, {3, 2, 5}, {1, 3, 67}})
        for (const rounding mode : test::all_roundings) {
            const std::vector<int> exponents = test::random_exponents(random, l.channels);
            const channel_quantizer q{int8, exponents, static_cast<std::int64_t>(l.inner), mode, random.bits()};
            std::vector<float> x(l.size());
            test::fill_values(x, random, int8, exponents, l.inner);
            const std::vector<float> expected = expected_of(x, q);
            for (const test::edge side : test::edges)
                for (std::size_t gap = 0; gap < 16; ++gap) {
                    const auto in = in_memory.buffer<float>(x.size(), side, gap);
                    const auto out = out_memory.buffer<float>(x.size(), side, gap * 3 % 16);
                    std::copy(x.begin(), x.end(), in.begin());
                    fake_quantize(in, out, q);
                    test::check_same(
                        out, std::span(expected), [&] { return l.name(); }, x);
                    if (!out_memory.untouched_outside(out)) FAIL_CHECK("written outside: " << l.name());
                }
        }
}

TEST_CASE("fake_quantize: any number of threads, any order of tasks") {
    test::random_source random;
    for (const test::layout l : test::large_layouts()) {
        const std::vector<int> exponents = test::random_exponents(random, l.channels);
        std::vector<float> x(l.size());
        test::fill_values(x, random, int8, exponents, l.inner);
        for (const rounding mode : test::all_roundings) {
            const quantizer whole{int8, exponents[0], mode, 3};
            const channel_quantizer each{int8, exponents, static_cast<std::int64_t>(l.inner), mode, 3};
            const std::vector<float> expected_whole = expected_of(x, whole);
            const std::vector<float> expected_each = expected_of(x, each);
            for (const test::test_executor& run : test::executors()) {
                const auto context = [&] { return l.name() + " " + test::name_of(mode) + ", " + run.name(); };
                std::vector<float> y(x.size());
                fake_quantize(x, y, whole, run);
                test::check_same(std::span(y), std::span(expected_whole), context, x);
                fake_quantize(x, y, each, run);
                test::check_same(std::span(y), std::span(expected_each), context, x);
            }
        }
    }
}

TEST_CASE("fake_quantize: allocates nothing") {
    std::vector<float> x(100'000, 0.3F);
    const std::vector<int> exponents(20, -3);
    for (const rounding mode : test::all_roundings) {
        const std::size_t before = test::allocations();
        fake_quantize(x, x, quantizer{.exponent = -3, .mode = mode}, test::plain_loop);
        for (const std::int64_t inner : {1, 50})
            fake_quantize(x, x, channel_quantizer{.exponents = exponents, .inner = inner, .mode = mode},
                          test::plain_loop);
        CHECK(test::allocations() == before);
    }
    CHECK(test::allocations() > 0);
}
