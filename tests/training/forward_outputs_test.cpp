// What a forward pass leaves besides its values: codes, masks, ranges, exponents; and the gradient by the mask.
#include <po2quant/training/fake_quantize.hpp>
#include <po2quant/training/fake_quantize_backward.hpp>
#include <po2quant/training/threshold_gradient.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#include <po2quant/reference/fake_quantize.hpp>
#include <po2quant/reference/minmax.hpp>

#include "../support/errors.hpp"
#include "../support/executors.hpp"
#include "../support/guarded_memory.hpp"
#include "../support/layouts.hpp"
#include "../support/same_bits.hpp"
#include "../support/sizes.hpp"

using namespace po2quant;

namespace {

constexpr std::size_t lanes = simd::f32<default_arch>::size;

/// What one element must leave, by the scalar rules.
struct expected_outputs {
    std::vector<float> y;
    std::vector<std::int16_t> codes;
    std::vector<std::uint8_t> mask;
    exponent_histogram exponents;
};

template <class QuantizerOf>
expected_outputs expected_of(std::span<const float> x, ste estimator, QuantizerOf quantizer_of) {
    expected_outputs all{{}, {}, std::vector<std::uint8_t>(mask_bytes(x.size())), {}};
    for (std::size_t i = 0; i < x.size(); ++i) {
        const quantizer q = quantizer_of(i);
        all.y.push_back(po2quant::fake_quantize(x[i], q, i));
        all.codes.push_back(static_cast<std::int16_t>(po2quant::quantize(x[i], q, i)));
        const bool passes = fake_quantize_gradient(x[i], 1.0F, q, estimator, i) != 0;
        all.mask[i / 8] = static_cast<std::uint8_t>(all.mask[i / 8] | static_cast<int>(passes) << (i % 8));
        ++all.exponents.counts[std::bit_cast<std::uint32_t>(x[i]) >> 23 & 0xff];
    }
    return all;
}

/// Formats whose codes fit int16.
integer_format random_format(test::random_source& random) {
    integer_format f = random.one_of(test::all_formats());
    if (f == uint16) f.bits = 15;
    return f;
}

/// The ranges of channels beside nothing, beside all else, and in place.
template <class Context>
void check_channel_ranges(std::span<const float> x, const channel_quantizer& q, ste estimator,
                          const expected_outputs& expected, const Context& context, const test::test_executor& run) {
    std::vector<range> wanted(q.exponents.size());
    observe_channels(x, q.inner, wanted);
    std::vector<range> seen(wanted.size(), range{-1, 1, 2, 3});
    std::vector<float> y(x.size());
    fake_quantize(x, y, q, {.seen_channels = seen}, run);
    test::check_same(std::span(y), std::span(expected.y), context, x);
    if (seen != wanted) FAIL_CHECK("other ranges of channels: " << context());

    std::vector<std::int16_t> codes(x.size());
    std::vector<std::uint8_t> mask(mask_bytes(x.size()));
    const auto check_all = [&](std::span<const float> in, std::span<float> out) {
        std::fill(seen.begin(), seen.end(), range{-1, 1, 2, 3});
        std::fill(codes.begin(), codes.end(), std::int16_t{-77});
        std::fill(mask.begin(), mask.end(), std::uint8_t{0xa5});
        range all{-1, 1, 2, 3};
        exponent_histogram exponents;
        fake_quantize(in, out, q,
                      {.codes = codes,
                       .mask = mask,
                       .estimator = estimator,
                       .seen = &all,
                       .seen_channels = seen,
                       .exponents = &exponents},
                      run);
        test::check_same(std::span<const float>(out), std::span(expected.y), context, x);
        test::check_same(std::span(codes), std::span(expected.codes), context, x);
        test::check_same(std::span(mask), std::span(expected.mask), context);
        if (seen != wanted) FAIL_CHECK("other ranges of channels beside all else: " << context());
        if (!(all == observe(x))) FAIL_CHECK("another range beside those of channels: " << context());
        if (!(exponents == expected.exponents)) FAIL_CHECK("other exponents beside ranges: " << context());
    };
    check_all(x, y);
    std::copy(x.begin(), x.end(), y.begin());
    check_all(y, y);
    std::copy(x.begin(), x.end(), y.begin());
    std::fill(mask.begin(), mask.end(), std::uint8_t{0x5a});
    std::fill(seen.begin(), seen.end(), range{-1, 1, 2, 3});
    fake_quantize(y, y, q, {.mask = mask, .estimator = estimator, .seen_channels = seen}, run);
    test::check_same(std::span(y), std::span(expected.y), context, x);
    test::check_same(std::span(mask), std::span(expected.mask), context);
    if (seen != wanted) FAIL_CHECK("other ranges of channels in place: " << context());
}

template <class Quantizer, class Context>
void check_outputs(std::span<const float> x, const Quantizer& q, ste estimator, const expected_outputs& expected,
                   const Context& context, const test::test_executor& run) {
    std::vector<float> y(x.size());
    std::vector<std::int16_t> codes(x.size());
    std::vector<std::uint8_t> mask(mask_bytes(x.size()), 0xa5);
    range seen{-1, 1, 2, 3};
    exponent_histogram exponents;
    fake_quantize(x, y, q,
                  {.codes = codes, .mask = mask, .estimator = estimator, .seen = &seen, .exponents = &exponents}, run);
    test::check_same(std::span(y), std::span(expected.y), context, x);
    test::check_same(std::span(codes), std::span(expected.codes), context, x);
    test::check_same(std::span(mask), std::span(expected.mask), context);
    if (!(seen == observe(x))) FAIL_CHECK("another range: " << context());
    if (!(exponents == expected.exponents)) FAIL_CHECK("other exponents: " << context());

    // Without a histogram, the pass watches the range itself: of what it was given, and where all is finite.
    std::vector<float> finite(x.begin(), x.end());
    for (float& v : finite) v = v - v == 0 ? v : -0.0F;
    for (const std::span<const float> values : {x, std::span<const float>(finite)}) {
        seen = {-1, 1, 2, 3};
        std::fill(mask.begin(), mask.end(), std::uint8_t{0x33});
        fake_quantize(values, y, q, {.mask = mask, .estimator = estimator, .seen = &seen}, run);
        if (!(seen == observe(values))) FAIL_CHECK("another range, watched: " << context());
        if (std::signbit(seen.min) && seen.min == 0) FAIL_CHECK("a range that begins with -0: " << context());
        if (values.data() != x.data()) continue;
        test::check_same(std::span(y), std::span(expected.y), context, x);
        test::check_same(std::span(mask), std::span(expected.mask), context);
    }
    seen = {-1, 1, 2, 3};
    fake_quantize(x, y, q, {.seen = &seen}, run);
    test::check_same(std::span(y), std::span(expected.y), context, x);
    if (!(seen == observe(x))) FAIL_CHECK("another range, watched alone: " << context());

    // One at a time, and in place.
    std::vector<float> in_place(x.begin(), x.end());
    std::fill(mask.begin(), mask.end(), std::uint8_t{0x5a});
    fake_quantize(in_place, in_place, q, {.mask = mask, .estimator = estimator, .seen = &seen}, run);
    test::check_same(std::span(in_place), std::span(expected.y), context, x);
    test::check_same(std::span(mask), std::span(expected.mask), context);
    if (!(seen == observe(x))) FAIL_CHECK("another range in place: " << context());
    if constexpr (requires { q.exponents; }) check_channel_ranges(x, q, estimator, expected, context, run);
    if (q.format.qmin() >= -128 && q.format.qmax() <= 127) {
        std::vector<std::int8_t> small(x.size());
        fake_quantize(x, y, q, {.codes = small}, run);
        const std::vector<std::int8_t> narrowed(codes.begin(), codes.end());
        test::check_same(std::span(small), std::span(narrowed), context, x);
    }
}

}  // namespace

TEST_CASE("fake_quantize leaves codes, mask, range and exponents: every size, rounding and estimator") {
    test::random_source random;
    for (const std::size_t n : test::sizes_worth_trying(lanes, 1025))
        for (const rounding mode : test::all_roundings)
            for (const ste estimator : test::all_estimators) {
                const quantizer q{random_format(random), test::random_exponent(random), mode, random.bits()};
                std::vector<float> x(n);
                test::fill_values(x, random, q.format, std::vector{q.exponent});
                const auto context = [&] {
                    return test::name_of(q) + ", " + test::name_of(estimator) + ", " + std::to_string(n);
                };
                check_outputs(x, q, estimator, expected_of(x, estimator, [&](std::size_t) { return q; }), context,
                              test::test_executor{});
            }
}

TEST_CASE("fake_quantize leaves them per channel: every layout") {
    test::random_source random;
    std::vector<test::layout> layouts = test::layouts_worth_trying();
    for (const test::layout& l : test::large_layouts()) layouts.push_back(l);
    for (const test::layout& l : layouts) {
        const rounding mode = random.one_of(test::all_roundings);
        const ste estimator = random.one_of(test::all_estimators);
        const std::vector<int> exponents = test::random_exponents(random, l.channels);
        const channel_quantizer q{random_format(random), exponents, static_cast<std::int64_t>(l.inner), mode,
                                  random.bits()};
        std::vector<float> x(l.size());
        test::fill_values(x, random, q.format, exponents, l.inner);
        const auto context = [&] {
            return l.name() + ", " + test::name_of(q.format) + ", " + test::name_of(mode) + ", " +
                   test::name_of(estimator);
        };
        const auto own = [&](std::size_t i) {
            return reference::quantizer_of(i, {q.format, 0, q.mode, q.seed}, exponents, l.inner);
        };
        check_outputs(x, q, estimator, expected_of(x, estimator, own), context, random.one_of(test::executors()));
    }
}

TEST_CASE("fake_quantize's mask and codes are written between guard pages, and nothing else is") {
    test::random_source random;
    test::guarded_memory mask_memory(4096);
    test::guarded_memory codes_memory(8000);
    for (std::size_t n = 1; n < 300; ++n)
        for (const test::edge side : test::edges) {
            const quantizer q{int8, -3};
            std::vector<float> x(n);
            test::fill_values(x, random, q.format, std::vector{q.exponent});
            const auto expected = expected_of(x, ste::clip_code, [&](std::size_t) { return q; });
            const auto context = [&] { return std::to_string(n) + " elements"; };
            const auto mask = mask_memory.buffer<std::uint8_t>(mask_bytes(n), side, n % 5);
            const auto codes = codes_memory.buffer<std::int16_t>(n, side, n % 7);
            std::vector<float> y(n);
            fake_quantize(x, y, q, {.codes = codes, .mask = mask});
            test::check_same(mask, std::span(expected.mask), context);
            test::check_same(codes, std::span(expected.codes), context);
            if (!mask_memory.untouched_outside(mask)) FAIL_CHECK("mask written outside: " << context());
            if (!codes_memory.untouched_outside(codes)) FAIL_CHECK("codes written outside: " << context());
            // And read back, nothing behind it.
            std::vector<float> dy(n);
            for (float& v : dy) v = std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
            std::vector<float> dx(n);
            std::vector<float> wanted(n);
            reference::fake_quantize_backward(x, dy, wanted, q, ste::clip_code);
            fake_quantize_backward(mask, dy, dx);
            test::check_identical(std::span(dx), std::span(wanted), context, x);
            fake_quantize_backward(mask, dy, dy);
            test::check_identical(std::span(dy), std::span(wanted), context, x);
        }
}

TEST_CASE("fake_quantize: outputs past the caches have the same bits, aligned or not") {
    test::random_source random;
    const std::size_t n = detail::stream_bytes / sizeof(float) + 1001;
    std::vector<float> memory(n + 16);
    std::vector<float> x(n);
    const quantizer q{int8, -4};
    for (float& v : x) v = static_cast<float>(random.uniform(-10, 10));
    x[77] = std::numeric_limits<float>::quiet_NaN();
    // Gradients: x is as good an upstream gradient as any.
    const quantizer drawn{int8, -4, rounding::stochastic, random.bits()};
    std::vector<float> wanted(n);
    std::vector<float> wanted_gradient(n);
    std::vector<float> wanted_drawn(n);
    std::vector<std::uint8_t> wanted_mask(mask_bytes(n));
    const auto specify = [&](std::size_t i) {
        wanted[i] = po2quant::fake_quantize(x[i], q);
        wanted_gradient[i] = fake_quantize_gradient(x[i], x[i], q, ste::clip_code);
        wanted_drawn[i] = fake_quantize_gradient(x[i], x[i], drawn, ste::clip_code, i);
        const int passes = fake_quantize_gradient(x[i], 1.0F, q, ste::clip_code) != 0;
        const int others = wanted_mask[i / 8] & ~(1 << (i % 8));
        wanted_mask[i / 8] = static_cast<std::uint8_t>(others | passes << (i % 8));
    };
    for (std::size_t i = 0; i < n; ++i) specify(i);
    std::vector<std::uint8_t> mask(mask_bytes(n));
    for (const std::size_t gap : {0, 1, 4, 15}) {
        const std::span<float> y(memory.data() + gap, n);
        std::size_t wrong = 0;
        const auto compare = [&] {
            for (std::size_t i = 0; i < n; ++i) wrong += !test::same_bits(y[i], wanted[i]);
            CHECK(wrong == 0);
        };
        const auto compare_gradients = [&](const std::vector<float>& to) {
            for (std::size_t i = 0; i < n; ++i) wrong += !test::identical(y[i], to[i]);
            CHECK(wrong == 0);
        };
        fake_quantize(x, y, q, {.mask = mask}, test::test_executor{test::test_executor::shuffled_threads, 2});
        compare();
        CHECK(std::equal(mask.begin(), mask.end(), wanted_mask.begin()));
        fake_quantize(x, y, q);
        compare();
        // Watched: with what is not finite in one task, and without.
        for (const float first : {-11.0F, std::numeric_limits<float>::infinity()}) {
            const float kept = x[0];
            x[0] = first;
            specify(0);
            range seen;
            std::vector<std::uint8_t> own_mask(mask.size());
            fake_quantize(x, y, q, {.mask = own_mask, .seen = &seen});
            CHECK(seen == observe(x));
            compare();
            CHECK(std::equal(own_mask.begin(), own_mask.end(), wanted_mask.begin()));
            x[0] = kept;
            specify(0);
        }
        for (const bool by_mask : {true, false}) {
            std::fill(y.begin(), y.end(), 77.0F);
            const test::test_executor threads{test::test_executor::shuffled_threads, 2};
            if (by_mask) fake_quantize_backward(mask, x, y, threads);
            else fake_quantize_backward(x, x, y, q, {.estimator = ste::clip_code}, threads);
            compare_gradients(wanted_gradient);
        }
        std::fill(y.begin(), y.end(), 77.0F);
        fake_quantize_backward(x, x, y, drawn, {.estimator = ste::clip_code});
        compare_gradients(wanted_drawn);
        // With a threshold's sum, which is that of a gradient in place, and so not past the caches.
        x[77] = 3;
        specify(77);
        for (const threshold_term term : {threshold_term::error, threshold_term::beyond}) {
            std::fill(y.begin(), y.end(), 77.0F);
            const double sum = fake_quantize_backward_threshold(x, x, y, q, term);
            compare_gradients(wanted_gradient);
            std::vector<float> in_place = x;
            const double same = fake_quantize_backward_threshold(x, in_place, in_place, q, term);
            CHECK(sum == same);
            CHECK(sum != 0);
        }
        x[77] = std::numeric_limits<float>::quiet_NaN();
        specify(77);
    }
    // Channels whose runs are long enough for that, and such whose are not.
    const std::vector<int> exponents = {-4, -6};
    for (const std::int64_t inner : {std::int64_t{9}, std::int64_t{5000}}) {
        const std::size_t size = n - n % (2 * static_cast<std::size_t>(inner));
        const std::span<const float> in(x.data(), size);
        const std::span<float> y(memory.data() + 3, size);
        fake_quantize(in, y, channel_quantizer{.exponents = exponents, .inner = inner});
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < size; ++i)
            wrong += !test::same_bits(
                y[i], po2quant::fake_quantize(x[i], {int8, exponents[i / static_cast<std::size_t>(inner) % 2]}));
        CHECK(wrong == 0);
    }
    // Channels innermost: such whose exponents repeat soon, and 65 whose do not.
    for (const std::size_t channels : {std::size_t{3}, std::size_t{64}, std::size_t{65}}) {
        std::vector<int> many(channels);
        for (int& e : many) e = static_cast<int>(random.integer(-7, -2));
        const std::size_t size = n - n % channels;
        const std::span<const float> in(x.data(), size);
        for (const std::size_t gap : {0, 5}) {
            const std::span<float> y(memory.data() + gap, size);
            std::fill(mask.begin(), mask.end(), std::uint8_t{0x5a});
            fake_quantize(in, y, channel_quantizer{.exponents = many},
                          {.mask = std::span(mask).first(mask_bytes(size))});
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < size; ++i) {
                const quantizer own{int8, many[i % channels]};
                wrong += !test::same_bits(y[i], po2quant::fake_quantize(x[i], own));
                wrong += (mask[i / 8] >> (i % 8) & 1) != (fake_quantize_gradient(x[i], 1.0F, own, ste::clip_code) != 0);
            }
            CHECK(wrong == 0);
        }
    }
}

TEST_CASE("fake_quantize refuses outputs that do not fit, before it writes") {
    const std::vector<float> x(20, 1.0F);
    std::vector<float> y(20, 7.0F);
    std::vector<std::uint8_t> mask(3);
    std::vector<std::uint8_t> small_mask(2);
    std::vector<std::int8_t> codes(20);
    std::vector<std::int8_t> few(19);
    const quantizer q{};
    test::check_refused([&] { fake_quantize(x, y, q, {.mask = small_mask}); },
                        {"mask.size() is 2", "allowed: exactly 3"});
    test::check_refused([&] { fake_quantize(x, y, q, {.codes = few}); }, {"codes.size() is 19", "allowed: exactly 20"});
    test::check_refused([&] { fake_quantize(x, y, quantizer{.format = int16}, {.codes = codes}); },
                        {"format is -32768..32767", "allowed: inside the element type, -128..127"});
    test::check_refused([&] { fake_quantize(x, y, q, {.mask = mask, .estimator = static_cast<ste>(9)}); },
                        {"estimator is 9"});
    std::vector<range> ranges(3);
    test::check_refused([&] { fake_quantize(x, y, q, {.seen_channels = ranges}); },
                        {"seen_channels.size() is 3", "allowed: 0 without a channel_quantizer"});
    const std::vector<int> exponents(5);
    test::check_refused(
        [&] { fake_quantize(x, y, channel_quantizer{.exponents = exponents}, {.seen_channels = ranges}); },
        {"seen_channels.size() is 3", "allowed: exactly 5"});
    const std::span<std::uint8_t> inside(reinterpret_cast<std::uint8_t*>(y.data()), 3);
    test::check_refused([&] { fake_quantize(x, y, q, {.mask = inside}); }, {"mask is memory that overlaps"});
    test::check_refused([&] { fake_quantize_backward(std::span<const std::uint8_t>(small_mask), x, y); },
                        {"mask.size() is 2", "allowed: exactly 3"});
    CHECK(y == std::vector<float>(20, 7.0F));
}
