#include <po2quant/training/fake_quantize_backward.hpp>

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

std::vector<float> expected_of(std::span<const float> x, std::span<const float> dy, const quantizer& q, ste estimator) {
    std::vector<float> dx(x.size());
    reference::fake_quantize_backward(x, dy, dx, q, estimator);
    return dx;
}

std::vector<float> expected_of(std::span<const float> x, std::span<const float> dy, const channel_quantizer& q,
                               ste estimator) {
    std::vector<float> dx(x.size());
    reference::fake_quantize_backward_channels(x, dy, dx, {q.format, 0, q.mode, q.seed}, estimator, q.exponents,
                                               static_cast<std::size_t>(q.inner));
    return dx;
}

/// Any bits: what passes must keep them, NaN, infinities and −0 included.
std::vector<float> random_gradients(test::random_source& random, std::size_t n) {
    std::vector<float> dy(n);
    for (float& v : dy)
        v = random.bits() % 4 == 0 ? random.one_of(test::special_values())
                                   : std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
    return dy;
}

}  // namespace

TEST_CASE("fake_quantize_backward: every size and alignment, between guard pages, in place too") {
    test::random_source random;
    test::guarded_memory x_memory(8000);
    test::guarded_memory dy_memory(8000);
    test::guarded_memory dx_memory(8000);
    for (const std::size_t n : test::sizes_worth_trying(lanes, 1025))
        for (const rounding mode : {rounding::half_up, rounding::stochastic})
            for (const ste estimator : test::all_estimators) {
                if (mode == rounding::stochastic && estimator != ste::clip_code) continue;
                const quantizer q{random.one_of(test::all_formats()), test::random_exponent(random), mode,
                                  random.bits()};
                std::vector<float> x(n);
                test::fill_values(x, random, q.format, std::vector{q.exponent});
                const std::vector<float> dy = random_gradients(random, n);
                const std::vector<float> expected = expected_of(x, dy, q, estimator);
                for (const test::edge side : test::edges)
                    for (std::size_t gap = 0; gap<16; gap += n> 200 ? 5 : 1) {
                        const auto context = [&] {
                            return test::name_of(q) + ", " + test::name_of(estimator) + ", gap of " +
                                   std::to_string(gap);
                        };
                        const auto in = x_memory.buffer<float>(n, side, gap);
                        const auto up = dy_memory.buffer<float>(n, side, gap * 7 % 16);
                        const auto down = dx_memory.buffer<float>(n, side, gap * 3 % 16);
                        std::copy(x.begin(), x.end(), in.begin());
                        std::copy(dy.begin(), dy.end(), up.begin());
                        fake_quantize_backward(in, up, down, q, {estimator});
                        test::check_identical(down, std::span(expected), context, x);
                        if (!dx_memory.untouched_outside(down)) FAIL_CHECK("written outside: " << context());
                        fake_quantize_backward(in, up, up, q, {estimator});
                        test::check_identical(up, std::span(expected), context, x);
                        std::copy(dy.begin(), dy.end(), down.begin());
                        fake_quantize_backward(in, down, in, q, {estimator});
                        test::check_identical(in, std::span(expected), context, x);
                        if (!x_memory.untouched_outside(in) || !dy_memory.untouched_outside(up))
                            FAIL_CHECK("written outside, in place: " << context());
                    }
            }
}

TEST_CASE("fake_quantize_backward: every tie and code of every format, every mode and estimator") {
    test::random_source random;
    for (const integer_format f : test::all_formats())
        for (const int e : {min_exponent, -4, 0, max_exponent}) {
            std::vector<float> x = test::ties_and_codes(f, e);
            // Only what is near the ends can tell the choices apart.
            if (f.bits > 6) x.erase(x.begin() + 60, x.end() - 60);
            for (const float special : test::special_values()) x.push_back(special);
            const std::vector<float> dy = random_gradients(random, x.size());
            std::vector<float> dx(x.size());
            for (const rounding mode : test::all_roundings)
                for (const ste estimator : test::all_estimators) {
                    const quantizer q{f, e, mode, 5};
                    fake_quantize_backward(x, dy, dx, q, {estimator});
                    test::check_identical(
                        std::span(dx), std::span<const float>(expected_of(x, dy, q, estimator)),
                        [&] { return test::name_of(q) + ", " + test::name_of(estimator); }, x);
                }
        }
}

TEST_CASE("fake_quantize_backward: per channel, every layout") {
    test::random_source random;
    for (const test::layout l : test::layouts_worth_trying())
        for (const rounding mode : test::all_roundings) {
            const integer_format f = random.one_of(test::all_formats());
            const ste estimator = random.one_of(test::all_estimators);
            const std::vector<int> exponents = test::random_exponents(random, l.channels);
            const channel_quantizer q{f, exponents, static_cast<std::int64_t>(l.inner), mode, random.bits()};
            const auto context = [&] { return l.name() + " " + test::name_of(f) + ", " + test::name_of(mode); };
            std::vector<float> x(l.size());
            test::fill_values(x, random, f, exponents, l.inner);
            std::vector<float> dy = random_gradients(random, l.size());
            for (const ste choice : {ste::clip_code, estimator}) {
                const std::vector<float> expected = expected_of(x, dy, q, choice);
                std::vector<float> dx(x.size());
                fake_quantize_backward(x, dy, dx, q, {choice});
                test::check_identical(std::span(dx), std::span(expected), context, x);
                dx = dy;
                fake_quantize_backward(x, dx, dx, q, {choice});
                test::check_identical(std::span(dx), std::span(expected), context, x);
            }
        }
}

TEST_CASE("fake_quantize_backward: per channel, between guard pages") {
    test::random_source random;
    test::guarded_memory x_memory(20000);
    test::guarded_memory dy_memory(20000);
    test::guarded_memory dx_memory(20000);
    for (const test::layout l : {test::layout{11, 3, 1}, {1, 5, 1}, {3, 17, 1}, {2, 1025, 1}, {3, 2, 5}, {1, 3, 67}})
        for (const rounding mode : {rounding::half_even, rounding::stochastic}) {
            const std::vector<int> exponents = test::random_exponents(random, l.channels);
            const channel_quantizer q{int8, exponents, static_cast<std::int64_t>(l.inner), mode, random.bits()};
            std::vector<float> x(l.size());
            test::fill_values(x, random, int8, exponents, l.inner);
            const std::vector<float> dy = random_gradients(random, l.size());
            const std::vector<float> expected = expected_of(x, dy, q, ste::clip_code);
            for (const test::edge side : test::edges)
                for (std::size_t gap = 0; gap < 16; ++gap) {
                    const auto in = x_memory.buffer<float>(x.size(), side, gap);
                    const auto up = dy_memory.buffer<float>(x.size(), side, gap * 7 % 16);
                    const auto down = dx_memory.buffer<float>(x.size(), side, gap * 3 % 16);
                    std::copy(x.begin(), x.end(), in.begin());
                    std::copy(dy.begin(), dy.end(), up.begin());
                    fake_quantize_backward(in, up, down, q);
                    test::check_identical(
                        down, std::span(expected), [&] { return l.name(); }, x);
                    if (!dx_memory.untouched_outside(down)) FAIL_CHECK("written outside: " << l.name());
                }
        }
}

TEST_CASE("fake_quantize_backward: any number of threads, any order of tasks") {
    test::random_source random;
    for (const test::layout l : test::large_layouts()) {
        const std::vector<int> exponents = test::random_exponents(random, l.channels);
        std::vector<float> x(l.size());
        test::fill_values(x, random, int8, exponents, l.inner);
        const std::vector<float> dy = random_gradients(random, l.size());
        for (const rounding mode : {rounding::half_away, rounding::stochastic}) {
            const quantizer whole{int8, exponents[0], mode, 3};
            const channel_quantizer each{int8, exponents, static_cast<std::int64_t>(l.inner), mode, 3};
            const std::vector<float> expected_whole = expected_of(x, dy, whole, ste::clip_code);
            const std::vector<float> expected_each = expected_of(x, dy, each, ste::clip_code);
            for (const test::test_executor& run : test::executors()) {
                const auto context = [&] { return l.name() + " " + test::name_of(mode) + ", " + run.name(); };
                std::vector<float> dx(x.size());
                fake_quantize_backward(x, dy, dx, whole, {}, run);
                test::check_identical(std::span(dx), std::span(expected_whole), context, x);
                fake_quantize_backward(x, dy, dx, each, {}, run);
                test::check_identical(std::span(dx), std::span(expected_each), context, x);
            }
        }
    }
}

TEST_CASE("fake_quantize_backward: allocates nothing") {
    const std::vector<float> x(100'000, 0.3F);
    std::vector<float> dx(x.size(), 1.0F);
    const std::vector<std::uint8_t> mask(mask_bytes(x.size()), 0x5a);
    const std::vector<int> exponents(20, -3);
    for (const rounding mode : test::all_roundings) {
        const std::size_t before = test::allocations();
        fake_quantize_backward(x, dx, dx, quantizer{.exponent = -3, .mode = mode}, {}, test::plain_loop);
        for (const std::int64_t inner : {1, 50})
            fake_quantize_backward(x, dx, dx, channel_quantizer{.exponents = exponents, .inner = inner, .mode = mode},
                                   {}, test::plain_loop);
        fake_quantize_backward(mask, dx, dx, test::plain_loop);
        CHECK(test::allocations() == before);
    }
    CHECK(test::allocations() > 0);
}
