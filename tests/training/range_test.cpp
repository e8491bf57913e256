#include <po2quant/training/range.hpp>

#include <algorithm>
#include <vector>

#include <po2quant/reference/minmax.hpp>

#include "../support/allocations.hpp"
#include "../support/executors.hpp"
#include "../support/guarded_memory.hpp"
#include "../support/layouts.hpp"
#include "../support/same_bits.hpp"
#include "../support/sizes.hpp"

using namespace po2quant;

static_assert(std::is_trivially_copyable_v<range>);
static_assert(range{}.empty() && range{}.magnitude() == 0.0F);
static_assert(exponent_for(range{-6.0F, 2.0F, 2, 0}, int8) == -4);

namespace {

constexpr std::size_t lanes = simd::f32<default_arch>::size;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

bool same(const range& a, const range& b) {
    return test::same_bits(a.min, b.min) && test::same_bits(a.max, b.max) && a.finite == b.finite &&
           a.non_finite == b.non_finite;
}

std::string shown(const range& r) {
    return "[" + test::shown(r.min) + ", " + test::shown(r.max) + "] of " + std::to_string(r.finite) + " finite and " +
           std::to_string(r.non_finite) + " other values";
}

template <class Context>
void check_range_is(const range& actual, const range& expected, Context&& context) {
    if (same(actual, expected)) SUCCEED();
    else
        FAIL_CHECK(default_arch::name << ": " << context() << ": " << shown(actual) << ", expected "
                                      << shown(expected));
}

range expected_of(std::span<const float> data) {
    const reference::extremes e = reference::minmax(data);
    return {e.min, e.max, e.finite, e.non_finite};
}

std::vector<range> expected_of(std::span<const float> data, const test::layout& l) {
    std::vector<std::vector<float>> values(l.channels);
    for (std::size_t i = 0; i < data.size(); ++i) values[i / l.inner % l.channels].push_back(data[i]);
    std::vector<range> ranges;
    for (const std::vector<float>& v : values) ranges.push_back(expected_of(v));
    return ranges;
}

/// Mostly finite values of all magnitudes; one in `rarity` is special, 0 for none.
std::vector<float> some_data(test::random_source& random, std::size_t n, std::uint64_t rarity) {
    std::vector<float> data(n);
    for (float& v : data) {
        v = static_cast<float>(random.uniform(-3, 3));
        if (rarity != 0 && random.bits() % rarity == 0) v = random.one_of(test::special_values());
    }
    return data;
}

}  // namespace

TEST_CASE("observe: every size and alignment, between guard pages") {
    test::random_source random;
    test::guarded_memory memory(40000);
    for (const std::size_t n : test::sizes_worth_trying(lanes, 8193))
        for (const std::uint64_t rarity : {0, 3, 5000}) {
            const std::vector<float> data = some_data(random, n, rarity);
            const range expected = expected_of(data);
            for (const test::edge side : test::edges)
                for (std::size_t gap = 0; gap<16; gap += n> 200 ? 7 : 1) {
                    const auto in = memory.buffer<float>(n, side, gap);
                    std::copy(data.begin(), data.end(), in.begin());
                    check_range_is(observe(in), expected, [&] { return std::to_string(n) + " values"; });
                }
        }
}

TEST_CASE("observe: NaN and infinities at every position") {
    test::random_source random;
    for (const std::size_t n :
         {std::size_t{1}, lanes, 4 * lanes, 4 * lanes + 1, 9 * lanes + 3, std::size_t{4096 + 5 * lanes + 1}}) {
        const std::vector<float> data = some_data(random, n, 0);
        for (std::size_t at = 0; at<n; at += n> 4096 && at > 100 && at + 200 < 4096 ? 61 : 1)
            for (const float bad : {not_a_number, -not_a_number, infinity, -infinity}) {
                std::vector<float> holed = data;
                holed[at] = bad;
                check_range_is(observe(holed), expected_of(holed), [&] {
                    return test::shown(bad) + " at " + std::to_string(at) + " of " + std::to_string(n);
                });
            }
    }
}

TEST_CASE("observe: the extremes at every position") {
    for (const std::size_t n : {4 * lanes + 3, std::size_t{4096} + 4 * lanes + 3})
        for (std::size_t at = 0; at < n; ++at) {
            std::vector<float> data(n, 0.5F);
            data[at] = -7.0F;
            data[n - 1 - at] = data[n - 1 - at] < 0 ? -7.0F : 9.0F;
            check_range_is(observe(data), {-7.0F, 2 * at + 1 == n ? (n == 1 ? -7.0F : 0.5F) : 9.0F, n, 0},
                           [&] { return "extremes at " + std::to_string(at); });
        }
}

TEST_CASE("observe: nothing, nothing finite, only zeros, only subnormals") {
    const auto context = [] { return "special data"; };
    check_range_is(observe(std::span<const float>()), range{}, context);
    for (const std::size_t n : {std::size_t{1}, lanes + 1, 9 * lanes + 1, std::size_t{5000}}) {
        std::vector<float> data(n, not_a_number);
        check_range_is(observe(data), {infinity, -infinity, 0, n}, context);
        CHECK(observe(data).empty());
        CHECK(exponent_for(observe(data), int8) == min_exponent);
        for (std::size_t i = 0; i < n; ++i) data[i] = i % 2 == 0 ? infinity : -infinity;
        check_range_is(observe(data), {infinity, -infinity, 0, n}, context);
        // Zeros of either sign are +0, whichever comes first.
        for (std::size_t i = 0; i < n; ++i) data[i] = i % 3 == 0 ? -0.0F : 0.0F;
        check_range_is(observe(data), {0.0F, 0.0F, n, 0}, context);
        data.assign(n, -0.0F);
        check_range_is(observe(data), {0.0F, 0.0F, n, 0}, context);
        data.assign(n, -0x1p-149F);
        data[n / 2] = 0x1p-149F;
        check_range_is(observe(data), {n == 1 ? 0x1p-149F : -0x1p-149F, 0x1p-149F, n, 0}, context);
        // Finite sums of these would overflow.
        data.assign(n, 0x1.fffffep127F);
        check_range_is(observe(data), {0x1.fffffep127F, 0x1.fffffep127F, n, 0}, context);
    }
}

TEST_CASE("observe_channels: every layout, special values too") {
    test::random_source random;
    for (const test::layout l : test::layouts_worth_trying())
        for (const std::uint64_t rarity : {0, 2, 50}) {
            const std::vector<float> data = some_data(random, l.size(), rarity);
            const std::vector<range> expected = expected_of(data, l);
            std::vector<range> ranges(l.channels, range{1, 2, 3, 4});  // overwritten
            observe_channels(data, static_cast<std::int64_t>(l.inner), std::span(ranges));
            for (std::size_t c = 0; c < l.channels; ++c)
                check_range_is(ranges[c], expected[c], [&] { return l.name() + " channel " + std::to_string(c); });
        }
}

TEST_CASE("observe_channels: one value that is not finite, extremes in any row, any number of channels") {
    test::random_source random;
    for (const std::size_t channels : {std::size_t{1}, lanes - 1, lanes, lanes + 1, 2 * lanes, 3 * lanes - 1, 4 * lanes,
                                       4 * lanes + 1, 7 * lanes + 3, std::size_t{300}})
        for (std::size_t rows = 1; rows < 1100; rows += 1 + rows / 2) {
            const test::layout l{rows, channels, 1};
            std::vector<float> data(l.size());
            for (float& v : data) v = static_cast<float>(random.uniform(-1, 1));
            const auto anywhere = [&] {
                return static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(l.size()) - 1));
            };
            for (int i = 0; i < 40; ++i) data[anywhere()] = static_cast<float>(random.uniform(-9, 9));
            for (const float odd : {-0.0F, not_a_number, infinity, -infinity}) {
                data[anywhere()] = odd;
                const std::vector<range> expected = expected_of(data, l);
                std::vector<range> ranges(channels);
                observe_channels(data, 1, std::span(ranges));
                for (std::size_t c = 0; c < channels; ++c)
                    check_range_is(ranges[c], expected[c], [&] { return l.name() + " channel " + std::to_string(c); });
            }
        }
}

TEST_CASE("observe_channels: every alignment, between guard pages") {
    test::random_source random;
    test::guarded_memory memory(20000);
    for (const test::layout l : {test::layout{11, 3, 1}, {1, 5, 1}, {3, 17, 1}, {2, 1025, 1}, {3, 2, 5}, {1, 3, 67}}) {
        const std::vector<float> data = some_data(random, l.size(), 9);
        const std::vector<range> expected = expected_of(data, l);
        for (const test::edge side : test::edges)
            for (std::size_t gap = 0; gap < 16; ++gap) {
                const auto in = memory.buffer<float>(l.size(), side, gap);
                std::copy(data.begin(), data.end(), in.begin());
                std::vector<range> ranges(l.channels);
                observe_channels(in, static_cast<std::int64_t>(l.inner), std::span(ranges));
                if (!std::equal(ranges.begin(), ranges.end(), expected.begin(), same)) FAIL_CHECK(l.name());
            }
    }
    SUCCEED();
}

TEST_CASE("observe and observe_channels: any number of threads, any order of tasks") {
    test::random_source random;
    for (const test::layout l : test::large_layouts())
        for (const std::uint64_t rarity : {0, 1000}) {
            const std::vector<float> data = some_data(random, l.size(), rarity);
            const range expected = expected_of(data);
            const std::vector<range> expected_each = expected_of(data, l);
            for (const test::test_executor& run : test::executors()) {
                check_range_is(observe(data, run), expected, [&] { return run.name(); });
                std::vector<range> ranges(l.channels);
                observe_channels(data, static_cast<std::int64_t>(l.inner), std::span(ranges), run);
                if (!std::equal(ranges.begin(), ranges.end(), expected_each.begin(), same))
                    FAIL_CHECK(l.name() << ", " << run.name());
            }
        }
}

TEST_CASE("merge: parts in any order and grouping give the whole") {
    test::random_source random;
    for (int round = 0; round < 50; ++round) {
        const std::vector<float> data = some_data(random, 1 + random.bits() % 500, round % 2 == 0 ? 0 : 4);
        std::vector<range> parts;
        for (std::size_t i = 0; i < data.size();) {
            const std::size_t n = std::min<std::size_t>(data.size() - i, random.bits() % 60);
            parts.push_back(observe(std::span(data).subspan(i, n)));
            i += n;
        }
        while (parts.size() > 1) {  // any two, either way round
            std::swap(parts[random.bits() % parts.size()], parts.back());
            const range last = parts.back();
            parts.pop_back();
            range& other = parts[random.bits() % parts.size()];
            other = random.bits() % 2 == 0 ? merge(other, last) : merge(last, other);
        }
        check_range_is(parts[0], observe(data), [] { return "merged"; });
    }
    CHECK(merge(range{}, range{}) == range{});
}

TEST_CASE("observe and observe_channels: allocate nothing") {
    const std::vector<float> x(100'000, 0.3F);
    std::vector<range> ranges(20);
    const std::size_t before = test::allocations();
    static_cast<void>(observe(x, test::plain_loop));
    for (const std::int64_t inner : {1, 50}) observe_channels(x, inner, ranges, test::plain_loop);
    CHECK(test::allocations() == before);
    CHECK(before > 0);
}
