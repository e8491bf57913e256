// The training passes on bfloat16 and float16 against the rules for floats: x converted, the rule, y rounded once.
#include <po2quant/training/range_trackers.hpp>
#include <po2quant/training/threshold_gradient.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#include <po2quant/reference/minmax.hpp>
#include <po2quant/reference/threshold_gradient.hpp>
#include <po2quant/training/fake_quantize.hpp>

#include "../support/errors.hpp"
#include "../support/executors.hpp"
#include "../support/guarded_memory.hpp"
#include "../support/half_cases.hpp"
#include "../support/layouts.hpp"
#include "../support/same_bits.hpp"
#include "../support/sizes.hpp"

using namespace po2quant;

namespace {

constexpr std::size_t lanes = simd::f32<default_arch>::size;
const test::test_executor one_thread;

/// What one call leaves, and its gradient for `dy`.
template <half_type Half>
struct results {
    std::vector<Half> y;
    std::vector<std::int16_t> codes;
    std::vector<std::uint8_t> mask;
    std::vector<Half> dx;
    range seen;
    exponent_histogram exponents;
};

template <half_type Half, class QuantizerOf>
results<Half> expected_of(std::span<const Half> x, std::span<const Half> dy, ste estimator, QuantizerOf quantizer_of) {
    results<Half> all{{}, {}, std::vector<std::uint8_t>(mask_bytes(x.size())), {}, {}, {}};
    const std::vector<float> floats = test::to_floats(x);
    for (std::size_t i = 0; i < x.size(); ++i) {
        const quantizer q = quantizer_of(i);
        all.y.push_back(to_storage<Half>(po2quant::fake_quantize(floats[i], q, i)));
        all.codes.push_back(static_cast<std::int16_t>(po2quant::quantize(floats[i], q, i)));
        const bool passes = fake_quantize_gradient(floats[i], 1.0F, q, estimator, i) != 0;
        all.mask[i / 8] = static_cast<std::uint8_t>(all.mask[i / 8] | static_cast<int>(passes) << (i % 8));
        all.dx.push_back(passes ? dy[i] : Half{0});
        ++all.exponents.counts[std::bit_cast<std::uint32_t>(floats[i]) >> 23 & 0xff];
    }
    const reference::extremes e = reference::minmax(floats);
    all.seen = {e.min, e.max, e.finite, e.non_finite};
    return all;
}

/// Every output at once and in place, and both backward passes.
template <half_type Half, class Quantizer, class Context>
void check_passes(std::span<const Half> x, std::span<const Half> dy, const Quantizer& q, ste estimator,
                  const results<Half>& expected, const Context& context, const test::test_executor& run) {
    const std::vector<float> floats = test::to_floats(x);
    results<Half> own{std::vector<Half>(x.size()),
                      std::vector<std::int16_t>(x.size()),
                      std::vector<std::uint8_t>(mask_bytes(x.size()), 0xa5),
                      std::vector<Half>(x.size()),
                      {-1, 1, 2, 3},
                      {}};
    fake_quantize(
        x, own.y, q,
        {.codes = own.codes, .mask = own.mask, .estimator = estimator, .seen = &own.seen, .exponents = &own.exponents},
        run);
    test::check_same(std::span(own.y), std::span(expected.y), context, floats);
    test::check_same(std::span(own.codes), std::span(expected.codes), context, floats);
    test::check_same(std::span(own.mask), std::span(expected.mask), context);
    if (!(own.seen == expected.seen)) FAIL_CHECK("another range: " << context());
    if (!(own.exponents == expected.exponents)) FAIL_CHECK("other exponents: " << context());
    fake_quantize_backward(x, dy, own.dx, q, {estimator}, run);
    test::check_same(std::span(own.dx), std::span(expected.dx), context, floats);

    std::vector<Half> in_place(x.begin(), x.end());
    fake_quantize(in_place, in_place, q, run);
    test::check_same(std::span(in_place), std::span(expected.y), context, floats);
    in_place.assign(dy.begin(), dy.end());
    fake_quantize_backward(own.mask, in_place, in_place, run);
    test::check_same(std::span(in_place), std::span(expected.dx), context, floats);
}

/// Formats whose codes fit int16.
integer_format random_format(test::random_source& random) {
    integer_format f = random.one_of(test::all_formats());
    if (f == uint16) f.bits = 15;
    return f;
}

template <half_type Half>
std::vector<Half> random_halves(test::random_source& random, std::size_t n) {
    std::vector<Half> all(n);
    for (Half& h : all) h.bits = static_cast<std::uint16_t>(random.bits());
    return all;
}

/// Values for a grid, rounded to the storage, and any bits.
template <half_type Half>
std::vector<Half> values_for(test::random_source& random, std::size_t n, integer_format f,
                             std::span<const int> exponents, std::size_t inner = 1) {
    std::vector<float> x(n);
    test::fill_values(x, random, f, exponents, inner);
    std::vector<Half> halves = test::to_halves<Half>(x);
    for (Half& h : halves)
        if (random.bits() % 16 == 0) h.bits = static_cast<std::uint16_t>(random.bits());
    return halves;
}

template <half_type Half>
void check_all_values() {
    test::random_source random;
    const std::vector<Half> x = test::all_halves<Half>();
    const std::vector<Half> dy = random_halves<Half>(random, x.size());
    const integer_format formats[] = {int2,  int4_narrow,  uint7,        int8, int8_narrow,
                                      uint8, {.bits = 10}, {.bits = 12}, int16};
    for (const integer_format f : formats)
        for (const rounding mode : test::all_roundings)
            for (const int e : {-4, static_cast<int>(random.integer(-24, 12)), test::random_exponent(random)}) {
                const ste estimator = random.one_of(test::all_estimators);
                const quantizer q{f, e, mode, random.bits()};
                const auto context = [&] {
                    return std::string(test::name_of_type<Half>()) + ", " + test::name_of(q) + ", " +
                           test::name_of(estimator);
                };
                const auto expected = expected_of<Half>(x, dy, estimator, [&](std::size_t) { return q; });
                check_passes<Half>(x, dy, q, estimator, expected, context, one_thread);
                if (holds_grid<Half>(f, e)) {
                    std::size_t rounded = 0;
                    for (std::size_t i = 0; i < x.size(); ++i)
                        rounded +=
                            !test::same_bits(to_float(expected.y[i]), po2quant::fake_quantize(to_float(x[i]), q, i));
                    CHECK(rounded == 0);
                }
            }
}

template <half_type Half>
void check_sizes() {
    test::random_source random;
    test::guarded_memory x_memory(4096);
    test::guarded_memory y_memory(4096);
    test::guarded_memory dx_memory(4096);
    for (const std::size_t n : test::sizes_worth_trying(lanes, 400))
        for (const rounding mode : {rounding::half_up, rounding::stochastic}) {
            const quantizer q{random_format(random), test::random_exponent(random), mode, random.bits()};
            const std::vector<Half> x = values_for<Half>(random, n, q.format, std::vector{q.exponent});
            const std::vector<Half> dy = random_halves<Half>(random, n);
            const auto expected = expected_of<Half>(x, dy, ste::clip_code, [&](std::size_t) { return q; });
            for (const test::edge side : test::edges)
                for (std::size_t gap = 0; gap<17; gap += n> 100 ? 3 : 1) {
                    const auto context = [&] {
                        return test::name_of(q) + ", " + std::to_string(n) + ", gap of " + std::to_string(gap);
                    };
                    const auto in = x_memory.buffer<Half>(n, side, gap);
                    const auto y = y_memory.buffer<Half>(n, side, gap * 7 % 17);
                    const auto dx = dx_memory.buffer<Half>(n, side, gap * 3 % 17);
                    std::copy(x.begin(), x.end(), in.begin());
                    fake_quantize(in, y, q, one_thread);
                    test::check_same(y, std::span(expected.y), context);
                    std::copy(dy.begin(), dy.end(), dx.begin());
                    fake_quantize_backward(in, dx, dx, q, {}, one_thread);
                    test::check_same(dx, std::span(expected.dx), context);
                    std::copy(dy.begin(), dy.end(), dx.begin());
                    fake_quantize_backward(expected.mask, dx, dx, one_thread);
                    test::check_same(dx, std::span(expected.dx), context);
                    if (!y_memory.untouched_outside(y) || !dx_memory.untouched_outside(dx) ||
                        !x_memory.untouched_outside(in))
                        FAIL_CHECK("written outside: " << context());
                }
        }
}

template <half_type Half>
void check_channels() {
    test::random_source random;
    std::vector<test::layout> layouts = test::layouts_worth_trying();
    for (const test::layout& l : test::large_layouts()) layouts.push_back(l);
    for (const test::layout& l : layouts) {
        const rounding mode = random.one_of(test::all_roundings);
        const ste estimator = random.one_of(test::all_estimators);
        const std::vector<int> exponents = test::random_exponents(random, l.channels);
        const channel_quantizer q{random_format(random), exponents, static_cast<std::int64_t>(l.inner), mode,
                                  random.bits()};
        const std::vector<Half> x = values_for<Half>(random, l.size(), q.format, exponents, l.inner);
        const std::vector<Half> dy = random_halves<Half>(random, l.size());
        const auto context = [&] {
            return std::string(test::name_of_type<Half>()) + ", " + l.name() + ", " + test::name_of(q.format) + ", " +
                   test::name_of(mode) + ", " + test::name_of(estimator);
        };
        const auto own = [&](std::size_t i) {
            return reference::quantizer_of(i, {q.format, 0, q.mode, q.seed}, exponents, l.inner);
        };
        check_passes<Half>(x, dy, q, estimator, expected_of<Half>(x, dy, estimator, own), context,
                           random.one_of(test::executors()));
        std::vector<range> ranges(l.channels);
        observe_channels(x, q.inner, ranges, one_thread);
        const std::vector<float> floats = test::to_floats<Half>(x);
        for (std::size_t c = 0; l.inner == 1 && c < l.channels; ++c) {
            const reference::extremes e = reference::minmax(floats, c, l.channels);
            if (!(ranges[c] == range{e.min, e.max, e.finite, e.non_finite})) FAIL_CHECK("another range: " << context());
        }
    }
}

/// Finite values and gradients, so that sums stay finite.
template <half_type Half>
void check_thresholds() {
    test::random_source random;
    for (const test::layout l :
         {test::layout{1, 1, 1}, {1, 1, 77}, {31, 5, 1}, {3, 17, 5}, {2, 1, 40001}, {1501, 65, 1}})
        for (const threshold_term term : {threshold_term::error, threshold_term::beyond}) {
            const rounding mode = random.one_of(test::all_roundings);
            std::vector<int> exponents(l.channels);
            for (int& e : exponents) e = static_cast<int>(random.integer(-12, 4));
            std::vector<float> x(l.size());
            std::vector<float> dy(l.size());
            for (float& v : x) v = static_cast<float>(random.uniform(-200, 200));
            for (float& v : dy) v = static_cast<float>(random.uniform(-1, 1));
            const std::vector<Half> in = test::to_halves<Half>(x);
            const std::vector<Half> up = test::to_halves<Half>(dy);
            x = test::to_floats<Half>(in);
            dy = test::to_floats<Half>(up);
            std::vector<Half> down(l.size());
            const quantizer whole{int8, exponents[0], mode, random.bits()};
            const channel_quantizer each{int8, exponents, static_cast<std::int64_t>(l.inner), mode, whole.seed};
            const test::test_executor run = random.one_of(test::executors());
            const double sum = fake_quantize_backward_threshold(in, up, down, whole, term, {}, run);
            CHECK(sum == reference::threshold_sum(x, dy, whole, term));
            std::vector<float> expected(l.size());
            reference::fake_quantize_backward(x, dy, expected, whole, ste::clip_code);
            const auto context = [&] { return l.name() + ", " + test::name_of(whole); };
            test::check_same(std::span(down), std::span<const Half>(test::to_halves<Half>(expected)), context, x);
            std::vector<double> sums(l.channels);
            fake_quantize_backward_threshold(in, up, down, each, term, sums, {}, run);
            CHECK(sums == reference::threshold_sums(x, dy, whole, exponents, l.inner, term));
        }
}

/// Outputs that go past the caches, aligned to vectors or not.
template <half_type Half, class Quantizer, class QuantizerOf>
void check_stream(const Quantizer& q, QuantizerOf quantizer_of) {
    test::random_source random;
    const std::size_t n = (detail::stream_bytes / sizeof(Half) / 3 + 333) * 3;
    const std::vector<Half> x = random_halves<Half>(random, n);
    std::vector<Half> wanted(n);
    std::vector<Half> wanted_gradient(n);
    for (std::size_t i = 0; i < n; ++i) {
        const float v = to_float(x[i]);
        wanted[i] = to_storage<Half>(po2quant::fake_quantize(v, quantizer_of(i)));
        const float gradient = fake_quantize_gradient(v, v, quantizer_of(i), gradient_options{}.estimator);
        wanted_gradient[i] = to_storage<Half>(gradient);
    }
    std::vector<Half> memory(n + 16);
    for (const std::size_t gap : {0, 5}) {
        const std::span<Half> y(memory.data() + gap, n);
        fake_quantize(x, y, q, one_thread);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < n; ++i) wrong += !test::same_bits(y[i], wanted[i]);
        CHECK(wrong == 0);
        // Gradients, by the mask of such a pass and by x, which is as good an upstream gradient as any.
        std::vector<std::uint8_t> mask(mask_bytes(n));
        fake_quantize(x, y, q, {.mask = mask}, one_thread);
        for (const bool by_mask : {true, false}) {
            std::fill(y.begin(), y.end(), x[0]);
            if (by_mask) fake_quantize_backward(mask, x, y, one_thread);
            else fake_quantize_backward(x, x, y, q, {}, one_thread);
            for (std::size_t i = 0; i < n; ++i) wrong += !test::same_bits(y[i], wanted_gradient[i]);
            CHECK(wrong == 0);
        }
    }
}

template <half_type Half>
void check_observers() {
    const std::vector<Half> x = test::all_halves<Half>();
    const std::vector<float> floats = test::to_floats<Half>(x);
    const reference::extremes e = reference::minmax(floats);
    const range expected{e.min, e.max, e.finite, e.non_finite};
    CHECK(observe(x, one_thread) == expected);
    CHECK(observe(std::span(x).first(21), one_thread).max == floats[20]);
    // Signs of one kind and of both, zeros, now and then something that is not finite; blocks of 16384.
    test::random_source random;
    for (int round = 0; round < 300; ++round) {
        std::vector<Half> part(
            static_cast<std::size_t>(round < 200 ? random.integer(1, 700) : random.integer(1, 70000)));
        const auto sign = static_cast<int>(random.integer(0, 2));
        const auto most = static_cast<std::int64_t>(random.one_of(std::vector{0, 1, 100, Half::infinity - 1}));
        for (Half& v : part) {
            const auto magnitude = static_cast<std::uint32_t>(random.integer(0, most));
            const std::uint32_t negative = sign == 2 ? static_cast<std::uint32_t>(random.integer(0, 1)) : sign;
            v.bits = static_cast<std::uint16_t>(magnitude | negative << 15);
        }
        for (auto bad = random.integer(-2, 2); bad > 0; --bad)
            part[static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(part.size()) - 1))].bits =
                static_cast<std::uint16_t>(
                    random.one_of(std::vector{0x7fff, 0xffff, Half::infinity + 0, Half::infinity | 0x8000}));
        const std::vector<float> values = test::to_floats<Half>(part);
        const reference::extremes of_part = reference::minmax(values);
        INFO(part.size() << " values, signs " << sign << ", up to " << most);
        CHECK(observe(part, one_thread) == range{of_part.min, of_part.max, of_part.finite, of_part.non_finite});
    }
    min_max_range tracker;
    tracker.observe(x, one_thread);
    CHECK(tracker.current().max == expected.max);
    exponent_histogram counts;
    for (const float v : floats) ++counts.counts[std::bit_cast<std::uint32_t>(v) >> 23 & 0xff];
    CHECK(observe_exponents(x, one_thread) == counts);
}

}  // namespace

TEST_CASE("16-bit storage: every value, rounding and estimator, with all outputs") {
    check_all_values<bfloat16>();
    check_all_values<float16>();
}
TEST_CASE("16-bit storage: every size and alignment, between guard pages, in place too") {
    check_sizes<bfloat16>();
    check_sizes<float16>();
}
// The kernels differ in loads, stores and constants alone, which the tests above and simd/storage_test.cpp have of
// both: one type each is enough.
TEST_CASE("16-bit storage: per channel, every layout, on several threads") { check_channels<bfloat16>(); }
TEST_CASE("16-bit storage: gradients of thresholds") { check_thresholds<float16>(); }
TEST_CASE("16-bit storage: outputs past the caches") {
    static constexpr quantizer whole{.exponent = -4};
    static constexpr quantizer rounded{.format = int16, .exponent = -4};
    check_stream<float16>(whole, [](std::size_t) { return whole; });
    check_stream<bfloat16>(whole, [](std::size_t) { return whole; });
    check_stream<bfloat16>(rounded, [](std::size_t) { return rounded; });
    static constexpr int exponents[] = {-4, -6, 1};
    check_stream<bfloat16>(channel_quantizer{.exponents = exponents},
                           [](std::size_t i) { return quantizer{.exponent = exponents[i % 3]}; });
}
TEST_CASE("16-bit storage: ranges and exponents") {
    check_observers<bfloat16>();
    check_observers<float16>();
}
