#include <po2quant/training/range_trackers.hpp>

#include <cmath>
#include <vector>

#include "../support/catch.hpp"
#include "../support/errors.hpp"
#include "../support/random.hpp"

using namespace po2quant;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

constexpr range seen(float min, float max) { return {min, max, 10, 0}; }

template <class Tracker>
Tracker after(Tracker tracker, std::initializer_list<range> steps) {
    for (const range& r : steps) tracker.update(r);
    return tracker;
}

/// The extremes alone: how many values were seen is not tracked.
bool covers(const range& r, float min, float max) { return !r.empty() && r.min == min && r.max == max; }

template <class Tracker>
std::vector<std::byte> bytes_of(const Tracker& tracker) {
    const auto bytes = serialize(tracker);
    return {bytes.begin(), bytes.end()};
}

}  // namespace

static_assert(std::is_trivially_copyable_v<last_value_range> && std::is_trivially_copyable_v<min_max_range> &&
              std::is_trivially_copyable_v<ema_range> && std::is_trivially_copyable_v<histogram_range>);
static_assert([] {
    min_max_range r;
    r.update(seen(-1, 2));
    r.update(seen(-3, 1));
    return r.current().min == -3.0F && r.current().max == 2.0F && r.exponent(int8) == -5;
}());

#define EVERY_TRACKER last_value_range, min_max_range, ema_range

TEMPLATE_TEST_CASE("trackers: before the first value", "", EVERY_TRACKER) {
    const TestType tracker;
    CHECK(tracker.current().empty());
    CHECK(tracker.exponent(int8) == min_exponent);
    CHECK(tracker.quantizing());
    CHECK(tracker.updates == 0);
}

TEMPLATE_TEST_CASE("trackers: the first step is taken as it is", "", EVERY_TRACKER) {
    TestType tracker;
    const float data[] = {0.5F, -6.0F, 2.0F, std::nanf(""), infinity};
    tracker.observe(data);
    CHECK(covers(tracker.current(), -6.0F, 2.0F));
    CHECK(tracker.exponent(int8) == -4);
    CHECK(tracker.exponent(uint8) == -5);
    CHECK(tracker.exponent(int8, 2) == -5);
    CHECK(tracker.non_finite == 2);
    CHECK(tracker.updates == 1);
}

TEMPLATE_TEST_CASE("trackers: a step without finite values counts, and changes no range", "", EVERY_TRACKER) {
    TestType tracker = after(TestType{}, {seen(-1, 3)});
    tracker.update(range{infinity, -infinity, 0, 7});
    CHECK(covers(tracker.current(), -1, 3));
    CHECK(tracker.updates == 2);
    CHECK(tracker.non_finite == 7);
    tracker.update(seen(-1, 3));
    CHECK(covers(tracker.current(), -1, 3));
}

TEMPLATE_TEST_CASE("trackers: delay", "", EVERY_TRACKER) {
    TestType tracker;
    tracker.delay = 2;
    CHECK_FALSE(tracker.quantizing());
    tracker.update(seen(0, 1));
    CHECK_FALSE(tracker.quantizing());
    tracker.update(range{});
    CHECK(tracker.quantizing());
    CHECK(covers(tracker.current(), 0, 1));
}

TEMPLATE_TEST_CASE("trackers: frozen", "", EVERY_TRACKER) {
    TestType tracker = after(TestType{}, {seen(-1, 3)});
    tracker.frozen = true;
    tracker.update(seen(-100, 100));
    const float data[] = {50.0F, std::nanf("")};
    tracker.observe(data);
    CHECK(covers(tracker.current(), -1, 3));
    CHECK(tracker.updates == 1);
    CHECK(tracker.non_finite == 0);
    tracker.frozen = false;
    tracker.update(seen(-1, 3));
    CHECK(tracker.updates == 2);
}

TEST_CASE("last_value_range: the last step") {
    CHECK(covers(after(last_value_range{}, {seen(-5, 5), seen(-1, 2)}).current(), -1, 2));
}

TEST_CASE("min_max_range: all steps, in any order") {
    test::random_source random;
    std::vector<range> steps;
    for (int i = 0; i < 40; ++i) {
        const auto low = static_cast<float>(random.uniform(-9, 1));
        steps.push_back(seen(low, low + static_cast<float>(random.uniform(0, 9))));
    }
    range all;
    for (const range& r : steps) all = merge(all, r);
    for (int order = 0; order < 10; ++order) {
        for (std::size_t i = steps.size() - 1; i > 0; --i) std::swap(steps[i], steps[random.bits() % (i + 1)]);
        min_max_range first;
        min_max_range second;
        min_max_range whole;
        for (const range& r : steps) {
            whole.update(r);
            (random.bits() % 2 == 0 ? first : second).update(r);
        }
        CHECK(covers(whole.current(), all.min, all.max));
        CHECK(covers(merge(first, second).current(), all.min, all.max));
        CHECK(covers(merge(second, first).current(), all.min, all.max));
    }
    CHECK(merge(min_max_range{}, min_max_range{}).current().empty());
    const min_max_range tracked = after(min_max_range{.delay = 3}, {seen(-1, 2), range{infinity, -infinity, 0, 4}});
    const min_max_range other{.frozen = true, .updates = 9, .non_finite = 1};
    const min_max_range both = merge(tracked, other);
    CHECK(serialize(both) == serialize(merge(other, tracked)));
    CHECK(covers(both.current(), -1, 2));
    CHECK(both.delay == 3);
    CHECK(both.frozen);
    CHECK(both.updates == 9);
    CHECK(both.non_finite == 5);
}

TEST_CASE("ema_range: the moving average, by its definition") {
    test::random_source random;
    for (const float decay : {0.0F, 0.5F, 0.9F, 0.999F, 0.99999994F})
        for (const bool zero_debias : {false, true}) {
            INFO("decay " << decay << ", zero_debias " << zero_debias);
            ema_range tracker{.decay = decay, .zero_debias = zero_debias};
            std::vector<double> maxima;
            const auto d = static_cast<long double>(decay);
            for (int step = 1; step <= 30; ++step) {
                const auto max = static_cast<float>(random.uniform(1, 4));
                tracker.update(seen(-2 * max, max));
                maxima.push_back(static_cast<double>(max));
                // Weights of the steps: (1 − d) d^age; without zero_debias the first step has d^age.
                long double sum = 0;
                long double weights = 0;
                for (std::size_t i = 0; i < maxima.size(); ++i) {
                    const auto age = static_cast<int>(maxima.size() - 1 - i);
                    long double weight = 1;
                    for (int k = 0; k < age; ++k) weight *= d;
                    if (i > 0 || zero_debias) weight *= 1 - d;
                    sum += weight * static_cast<long double>(maxima[i]);
                    weights += weight;
                }
                const auto expected = static_cast<double>(sum / weights);
                // Float has 24 bits; with the largest decay 1 − d^steps itself keeps about 27 bits of double's 53.
                const double tolerance = expected * (decay > 0.9999F && zero_debias ? 1e-6 : 0x1.01p-24);
                CHECK(std::abs(static_cast<double>(tracker.current().max) - expected) <= tolerance);
                CHECK(tracker.current().min == -2 * tracker.current().max);
                CHECK(tracker.absorbed == static_cast<std::uint64_t>(step));
            }
        }
}

TEST_CASE("ema_range: a constant range stays what it is, to the last bit") {
    for (const bool zero_debias : {false, true}) {
        ema_range tracker{.decay = 0.999F, .zero_debias = zero_debias};
        for (int i = 0; i < 10000; ++i) {
            tracker.update(seen(-0.1F, 8.0F));
            // A relative error beyond 2^-25 would move 8, and with it the exponent.
            if (!covers(tracker.current(), -0.1F, 8.0F)) FAIL_CHECK("step " << i);
        }
        CHECK(tracker.exponent(int8) == -4);
    }
}

TEST_CASE("ema_range: steps without finite values do not decay the average") {
    const ema_range a = after(ema_range{.zero_debias = true}, {seen(0, 1), seen(0, 2)});
    const ema_range b = after(ema_range{.zero_debias = true}, {range{}, seen(0, 1), range{}, seen(0, 2), range{}});
    CHECK(a.current() == b.current());
    CHECK(b.updates == 5);
    CHECK(b.absorbed == 2);
}

TEST_CASE("ema_range: merged workers hold the same bits in whatever order the ranges come in") {
    const range parts[] = {seen(-1, 0.3F), seen(-0.25F, 4), seen(0.1F, 0.2F)};
    ema_range first;
    ema_range second;
    for (int step = 0; step < 5; ++step) {
        first.update(merge(merge(parts[0], parts[1]), parts[2]));
        second.update(merge(parts[2], merge(parts[1], parts[0])));
    }
    CHECK(serialize(first) == serialize(second));
}

TEST_CASE("ema_range: a decay outside 0 <= decay < 1 is refused") {
    for (const float decay : {-0.1F, 1.0F, 2.0F, std::nanf("")}) {
        ema_range tracker{.decay = decay};
        test::check_refused([&] { tracker.update(seen(0, 1)); }, {"ema_range: decay is ", "0 <= decay < 1"});
    }
}

TEST_CASE("histogram_range: all steps, delay, freeze, merge, percentile") {
    test::random_source random;
    std::vector<float> all;
    std::vector<histogram_range> workers(3);
    histogram_range tracker{.delay = 4};
    CHECK(tracker.exponent(int8) == min_exponent);
    for (int step = 0; step < 12; ++step) {
        CHECK(tracker.quantizing() == (step >= 4));
        std::vector<float> data(200);
        for (float& v : data) v = static_cast<float>(std::ldexp(random.uniform(-1, 1), -step));
        data[3] = NAN;
        tracker.observe(data);
        if (step % 2 == 0) workers[static_cast<std::size_t>(step) / 2 % 3].observe(data);
        else workers[static_cast<std::size_t>(step) / 2 % 3].update(observe_exponents(data));
        all.insert(all.end(), data.begin(), data.end());
    }
    CHECK(tracker.seen == observe_exponents(all));
    CHECK(tracker.updates == 12);
    CHECK(tracker.seen.non_finite() == 12);
    CHECK(tracker.exponent(int8) == -7);
    CHECK(tracker.exponent(uint8) == -8);
    CHECK(tracker.exponent(int8, 0.5) == percentile_exponent(observe_exponents(all), int8, 0.5));
    CHECK(tracker.exponent(int8, 0.5) < -7);
    // Order and grouping of workers do not matter.
    const histogram_range left = merge(merge(workers[0], workers[1]), workers[2]);
    CHECK(left.seen == tracker.seen);
    CHECK(merge(workers[2], merge(workers[1], workers[0])).seen == tracker.seen);
    CHECK(left.updates == 4);
    CHECK(merge(histogram_range{.frozen = true}, tracker).frozen);
    CHECK(merge(histogram_range{.frozen = true}, tracker).delay == 4);
    histogram_range frozen = tracker;
    frozen.frozen = true;
    frozen.observe(all);
    frozen.update(observe_exponents(all));
    CHECK(frozen.seen == tracker.seen);
    CHECK(frozen.updates == 12);
    // Serialized, it goes on as if nothing had happened; other trackers' and damaged bytes are refused.
    auto copy = deserialize<histogram_range>(serialize(tracker));
    CHECK(copy.seen == tracker.seen);
    CHECK(copy.delay == 4);
    CHECK(copy.updates == 12);
    copy.observe(all);
    tracker.observe(all);
    CHECK(serialize(copy) == serialize(tracker));
    CHECK(deserialize<histogram_range>(serialize(frozen)).frozen);
    auto bytes = bytes_of(tracker);
    CHECK(bytes.size() == 8 + 8 + 1 + 8 + 2048);
    const auto refused = [&](std::initializer_list<const char*> parts) {
        test::check_refused([&] { static_cast<void>(deserialize<histogram_range>(bytes)); }, parts);
    };
    bytes[16] = std::byte{2};
    refused({"flag is 2", "0..1"});
    bytes[3] = std::byte{'E'};
    refused({"tag is \"PQRE\"", "PQRH"});
    bytes.pop_back();
    refused({"bytes.size()"});
}

TEMPLATE_TEST_CASE("serialization: what comes back goes on as if nothing had happened", "", EVERY_TRACKER) {
    TestType tracker = after(TestType{}, {seen(-1.5F, 0.1F), range{infinity, -infinity, 0, 3}, seen(-0.7F, 3.3F)});
    tracker.delay = 12345678901U;
    tracker.frozen = true;
    auto copy = deserialize<TestType>(serialize(tracker));
    CHECK(serialize(copy) == serialize(tracker));
    CHECK(copy.current() == tracker.current());
    CHECK(copy.delay == tracker.delay);
    CHECK(copy.updates == 3);
    CHECK(copy.non_finite == 3);
    CHECK(copy.frozen);
    copy.frozen = tracker.frozen = false;
    copy.update(seen(-9, 9));
    tracker.update(seen(-9, 9));
    CHECK(serialize(copy) == serialize(tracker));

    const TestType fresh;
    CHECK(deserialize<TestType>(serialize(fresh)).current().empty());
    CHECK(serialize(deserialize<TestType>(serialize(fresh))) == serialize(fresh));
}

TEST_CASE("serialization: the bytes") {
    const auto bytes = bytes_of(after(min_max_range{.delay = 0x0102}, {seen(-1, 2)}));
    const std::vector<int> expected = {'P', 'Q', 'R', 'M', 1, 0, 0, 0,  // tag, version
                                       2,   1,   0,   0,   0, 0, 0, 0,  // delay
                                       0,                               // frozen
                                       1,   0,   0,   0,   0, 0, 0, 0,  // updates
                                       0,   0,   0,   0,   0, 0, 0, 0,  // non_finite
                                       0,   0,   128, 191,              // −1
                                       0,   0,   0,   64};              // 2
    REQUIRE(bytes.size() == expected.size());
    for (std::size_t i = 0; i < bytes.size(); ++i) CHECK(static_cast<int>(bytes[i]) == expected[i]);
}

TEMPLATE_TEST_CASE("serialization: damaged bytes are refused", "", EVERY_TRACKER) {
    const std::vector<std::byte> good = bytes_of(after(TestType{}, {seen(-1, 2)}));
    const auto refused = [&](std::vector<std::byte> bytes, std::initializer_list<const char*> parts) {
        test::check_refused([&] { static_cast<void>(deserialize<TestType>(bytes)); }, parts);
    };
    const auto damaged = [&](std::size_t at, std::initializer_list<int> values) {
        std::vector<std::byte> bytes = good;
        for (const int v : values) bytes[at++] = static_cast<std::byte>(v);
        return bytes;
    };
    refused({}, {"deserialize: bytes.size() is 0", "exactly"});
    refused({good.begin(), good.end() - 1}, {"bytes.size()"});
    refused(std::vector<std::byte>(good.size() + 1), {"bytes.size()"});
    refused(damaged(0, {'X'}), {"deserialize: tag is \"XQR", "PQR"});
    refused(damaged(3, {'?'}), {"tag"});
    refused(damaged(4, {2}), {"deserialize: version is 2", "1..1"});
    refused(damaged(7, {255}), {"version is 4278190081"});
    refused(damaged(16, {2}), {"flag is 2", "0..1"});
    // NaN in the last field: the maximum, or the EMA's bias.
    refused(damaged(good.size() - 4, {0xff, 0xff, 0xff, 0xff}), {"nan"});
}

TEST_CASE("serialization: another tracker's bytes, and values that none can hold") {
    // Same size, other kind.
    test::check_refused([] { static_cast<void>(deserialize<last_value_range>(serialize(min_max_range{}))); },
                        {"tag is \"PQRM\"", "PQRL"});
    ema_range ema = after(ema_range{}, {seen(-1, 2)});
    ema.decay = 1.5F;
    test::check_refused([&] { static_cast<void>(deserialize<ema_range>(serialize(ema))); }, {"decay is 1.5"});
    ema.decay = 0.5F;
    ema.average_max = HUGE_VAL;
    test::check_refused([&] { static_cast<void>(deserialize<ema_range>(serialize(ema))); }, {"average_max is inf"});
    ema.average_max = 2;
    ema.bias = 7;
    test::check_refused([&] { static_cast<void>(deserialize<ema_range>(serialize(ema))); }, {"bias is 7"});
    const min_max_range crossed{.updates = 1, .min = 2.0F, .max = 1.0F};
    test::check_refused([&] { static_cast<void>(deserialize<min_max_range>(serialize(crossed))); }, {"min is 2"});
}
