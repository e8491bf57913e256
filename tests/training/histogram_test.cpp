#include <algorithm>
#include <cfloat>
#include <vector>

#include <po2quant/reference/exponent_histogram.hpp>
#include <po2quant/reference/magnitude_histogram.hpp>
#include <po2quant/training/exponent_histogram.hpp>
#include <po2quant/training/magnitude_histogram.hpp>

#include "../support/errors.hpp"
#include "../support/executors.hpp"
#include "../support/float_cases.hpp"
#include "../support/guarded_memory.hpp"
#include "../support/layouts.hpp"
#include "../support/sizes.hpp"

using namespace po2quant;

static_assert(std::is_trivially_copyable_v<exponent_histogram> && sizeof(exponent_histogram) == 2048);
static_assert(std::is_trivially_copyable_v<magnitude_histogram>);

namespace {

/// Finite and other values; the magnitudes spread over `octaves` octaves below 2^top.
std::vector<float> some_data(test::random_source& random, std::size_t n, int top, int octaves) {
    std::vector<float> data(n);
    for (float& v : data) {
        v = std::ldexp(static_cast<float>(random.uniform(-1, 1)), top - static_cast<int>(random.integer(0, octaves)));
        if (random.bits() % 50 == 0) v = random.one_of(std::vector<float>{0.0F, -0.0F, NAN, HUGE_VALF, -HUGE_VALF});
    }
    return data;
}

exponent_histogram expected_exponents(std::span<const float> data) {
    exponent_histogram h;
    reference::exponent_histogram(data, h.counts);
    return h;
}

magnitude_histogram expected_magnitudes(std::span<const float> data, int bound_log2) {
    magnitude_histogram h{.bound_log2 = bound_log2};
    reference::magnitude_histogram(data, bound_log2, h.counts);
    h.non_finite = data.size() - h.finite();
    return h;
}

/// The smallest k with all |x| < 2^k, by trying.
int bound_of(std::span<const float> data) {
    int k = -149;
    for (const float x : data)
        while (std::isfinite(x) && std::fabs(static_cast<double>(x)) >= std::ldexp(1.0, k)) ++k;
    return k;
}

}  // namespace

TEST_CASE("exponent histogram: equals the reference, every size, between guard pages") {
    test::random_source random;
    test::guarded_memory memory(20000);
    for (const std::size_t n : test::sizes_worth_trying(simd::f32<default_arch>::size, 4097)) {
        std::vector<float> data = some_data(random, n, 3, 12);
        for (float& v : data)
            if (random.bits() % 4 == 0) v = std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
        for (const test::edge side : test::edges)
            for (const std::size_t gap : {0, 1, 3}) {
                const auto in = memory.buffer<float>(n, side, gap);
                std::copy(data.begin(), data.end(), in.begin());
                if (!(observe_exponents(in) == expected_exponents(in))) FAIL_CHECK(n << " values");
            }
    }
    CHECK(observe_exponents(test::special_values()) == expected_exponents(test::special_values()));
}

TEST_CASE("exponent histogram: threads and parts change nothing") {
    test::random_source random;
    const std::vector<float> data = some_data(random, 200001, 5, 30);
    const exponent_histogram whole = observe_exponents(data);
    CHECK(whole == expected_exponents(data));
    CHECK(whole.total() == data.size());
    for (const test::test_executor& run : test::executors()) CHECK(observe_exponents(data, run) == whole);
    const std::span<const float> all(data);
    const exponent_histogram a = observe_exponents(all.first(7));
    const exponent_histogram b = observe_exponents(all.subspan(7, 100000));
    const exponent_histogram c = observe_exponents(all.subspan(100007));
    CHECK(merge(merge(a, b), c) == whole);
    CHECK(merge(c, merge(b, a)) == whole);
    CHECK(merge(whole, {}) == whole);
}

TEST_CASE("exponent histograms of channels: every layout, any number of threads, between guard pages") {
    test::random_source random;
    test::guarded_memory memory(20000);
    const auto expected_of = [](std::span<const float> data, const test::layout& l) {
        std::vector<exponent_histogram> all(l.channels);
        for (std::size_t i = 0; i < data.size(); ++i)
            reference::exponent_histogram(data.subspan(i, 1), all[i / l.inner % l.channels].counts);
        return all;
    };
    const auto some_exponents = [](std::size_t channels) {
        std::vector<exponent_histogram> h(channels);
        for (auto& one : h) one.counts[7] = 3;  // overwritten
        return h;
    };
    for (const test::layout l : test::layouts_worth_trying()) {
        const std::vector<float> data = some_data(random, l.size(), 3, 40);
        std::vector<exponent_histogram> seen = some_exponents(l.channels);
        observe_exponents_channels(data, static_cast<std::int64_t>(l.inner), std::span(seen));
        if (seen != expected_of(data, l)) FAIL_CHECK(l.name());
        if (data.size() > 5000) continue;
        for (const test::edge side : test::edges) {
            const auto in = memory.buffer<float>(l.size(), side, 1);
            std::copy(data.begin(), data.end(), in.begin());
            observe_exponents_channels(in, static_cast<std::int64_t>(l.inner), std::span(seen));
            if (seen != expected_of(data, l)) FAIL_CHECK(l.name());
        }
    }
    for (const test::layout l : test::large_layouts()) {
        const std::vector<float> data = some_data(random, l.size(), 3, 40);
        const std::vector<exponent_histogram> expected = expected_of(data, l);
        for (const test::test_executor& run : test::executors()) {
            std::vector<exponent_histogram> seen = some_exponents(l.channels);
            observe_exponents_channels(data, static_cast<std::int64_t>(l.inner), std::span(seen), run);
            if (seen != expected) FAIL_CHECK(l.name() << ", " << run.name());
        }
    }
    // 16-bit storage, as the floats it stands for.
    const std::vector<float> data = some_data(random, 77 * 12, 3, 40);
    std::vector<bfloat16> stored(data.size());
    std::vector<float> as_float(data.size());
    for (std::size_t i = 0; i < data.size(); ++i) as_float[i] = to_float(stored[i] = to_storage<bfloat16>(data[i]));
    for (const std::int64_t inner : {1, 77}) {
        std::vector<exponent_histogram> of_stored(12);
        std::vector<exponent_histogram> of_floats(12);
        observe_exponents_channels(stored, inner, std::span(of_stored));
        observe_exponents_channels(as_float, inner, std::span(of_floats));
        CHECK(of_stored == of_floats);
    }
}

TEST_CASE("percentile: the smallest power of two that enough values lie below") {
    test::random_source random;
    const double fractions[] = {0.5, 0.9, 0.99, 0.999, 0.9999, 1.0};
    for (int round = 0; round < 200; ++round) {
        const std::vector<float> data = some_data(random, static_cast<std::size_t>(random.integer(0, 3000)),
                                                  static_cast<int>(random.integer(-120, 120)), 20);
        const exponent_histogram seen = observe_exponents(data);
        for (const double fraction : fractions) {
            const auto finite = std::count_if(data.begin(), data.end(), [](float v) { return std::isfinite(v); });
            int k = -126;
            for (;; ++k) {
                const auto below = std::count_if(data.begin(), data.end(), [&](float v) {
                    return std::fabs(static_cast<double>(v)) < std::ldexp(1.0, k);  // false for NaN
                });
                if (finite == 0 || static_cast<double>(below) / static_cast<double>(finite) >= fraction) break;
            }
            if (percentile_log2(seen, fraction) != k) FAIL_CHECK(data.size() << " values, " << fraction);
            for (const integer_format f : {int8, uint8, int4})
                CHECK(percentile_exponent(seen, f, fraction) ==
                      std::max(-100, std::min(100, k - (f.is_signed ? f.bits - 1 : f.bits))));
        }
    }
}

TEST_CASE("percentile: examples") {
    std::vector<float> data(99, 0.75F);
    data.push_back(100);
    const exponent_histogram seen = observe_exponents(data);
    CHECK(percentile_log2(seen, 0.99) == 0);
    CHECK(percentile_log2(seen, 0.991) == 7);
    CHECK(percentile_exponent(seen, int8, 0.99) == -7);
    CHECK(percentile_exponent(seen, int8, 1) == 0);
    // Exactly 2^k is not below 2^k, though the original rule takes k for it.
    const std::vector<float> one = {1.0F};
    CHECK(percentile_exponent(observe_exponents(one), int8, 1) == -6);
    CHECK(exponent_for(1.0F, int8) == -7);
    const std::vector<float> less = {std::nextafter(1.0F, 0.0F)};
    CHECK(percentile_exponent(observe_exponents(less), int8, 1) == -7);
    // 7 of 100 is 0.07, although 0.07 * 100 is more than 7 in double.
    data.assign(7, 0.75F);
    data.insert(data.end(), 93, 3.0F);
    CHECK(percentile_log2(observe_exponents(data), 0.07) == 0);
    CHECK(percentile_exponent({}, int8, 0.5) == min_exponent);
    CHECK(percentile_exponent(observe_exponents(std::vector<float>{0, 0x1p-140F}), int8, 1) == min_exponent);
    CHECK(percentile_exponent(observe_exponents(std::vector<float>{NAN, FLT_MAX}), {.bits = 2}, 1) == max_exponent);
    for (const double bad : {0.0, -0.1, 1.0001, static_cast<double>(NAN)})
        test::check_refused([&] { static_cast<void>(percentile_exponent(seen, int8, bad)); },
                            {"percentile_log2: fraction is ", "0 < fraction <= 1"});
}

TEST_CASE("magnitude histogram: equals the reference below the smallest power of two above all values") {
    test::random_source random;
    test::guarded_memory memory(20000);
    for (const std::size_t n : test::sizes_worth_trying(simd::f32<default_arch>::size, 1025)) {
        const std::vector<float> data = some_data(random, n, static_cast<int>(random.integer(-149, 127)), 12);
        for (const test::edge side : test::edges) {
            const auto in = memory.buffer<float>(n, side, 1);
            std::copy(data.begin(), data.end(), in.begin());
            if (!(observe_magnitudes(in) == expected_magnitudes(in, bound_of(in)))) FAIL_CHECK(n << " values");
        }
    }
    for (const std::vector<float>& data :
         {std::vector<float>{}, {0, -0.0F}, {1}, {-1, 0.999F}, {FLT_MAX, -FLT_MAX}, {0x1p-149F}, {NAN, -HUGE_VALF}})
        CHECK(observe_magnitudes(data) == expected_magnitudes(data, bound_of(data)));
    CHECK(observe_magnitudes(test::special_values()) == expected_magnitudes(test::special_values(), 128));
}

TEST_CASE("magnitude histogram: threads, parts and their order change nothing") {
    test::random_source random;
    for (int round = 0; round < 20; ++round) {
        std::vector<std::vector<float>> parts;
        std::vector<float> data;
        for (int p = 0; p < 4; ++p) {
            parts.push_back(some_data(random, static_cast<std::size_t>(random.integer(0, 40000)),
                                      static_cast<int>(random.integer(-20, 20)), 3));
            data.insert(data.end(), parts.back().begin(), parts.back().end());
        }
        const magnitude_histogram whole = observe_magnitudes(data);
        CHECK(whole.finite() + whole.non_finite == data.size());
        std::vector<magnitude_histogram> h;
        for (const auto& p : parts) h.push_back(observe_magnitudes(p));
        CHECK(merge(merge(merge(h[0], h[1]), h[2]), h[3]) == whole);
        CHECK(merge(merge(h[3], h[1]), merge(h[2], h[0])) == whole);
        CHECK(merge({}, whole) == whole);
        for (const test::test_executor& run : test::executors()) CHECK(observe_magnitudes(data, run) == whole);
    }
}

TEST_CASE("histograms: serialization") {
    test::random_source random;
    const std::vector<float> data = some_data(random, 5000, 3, 12);
    const exponent_histogram exponents = observe_exponents(data);
    auto bytes = serialize(exponents);
    CHECK(deserialize<exponent_histogram>(bytes) == exponents);
    const magnitude_histogram magnitudes = observe_magnitudes(data);
    auto more = serialize(magnitudes);
    CHECK(deserialize<magnitude_histogram>(more) == magnitudes);
    const auto refused = [](auto&& call, std::initializer_list<const char*> parts) {
        test::check_refused([&] { static_cast<void>(call()); }, parts);
    };
    refused([&] { return deserialize<exponent_histogram>(std::span(bytes).first(100)); },
            {"deserialize: bytes.size() is 100", "exactly 2056"});
    refused([&] { return deserialize<magnitude_histogram>(std::span(more).first(0)); }, {"bytes.size() is 0"});
    bytes[3] = std::byte{'M'};
    refused([&] { return deserialize<exponent_histogram>(bytes); }, {"tag is \"PQHM\"", "PQHE"});
    bytes[3] = std::byte{'E'};
    bytes[4] = std::byte{2};
    refused([&] { return deserialize<exponent_histogram>(bytes); }, {"version is 2", "1..1"});
    more[8 + 1] = std::byte{7};
    refused([&] { return deserialize<magnitude_histogram>(more); }, {"bound_log2 is ", "-149..128"});
}

TEST_CASE("errors: exponent histograms of channels") {
    const std::vector<float> data(12);
    std::vector<exponent_histogram> of_channels(3);
    const auto refused = [&](std::span<const float> x, std::int64_t inner, std::span<exponent_histogram> to,
                             std::initializer_list<const char*> parts) {
        test::check_refused([&] { observe_exponents_channels(x, inner, to); }, parts);
    };
    const std::span<exponent_histogram> null(static_cast<exponent_histogram*>(nullptr), 3);
    refused({static_cast<const float*>(nullptr), 12}, 1, of_channels,
            {"observe_exponents_channels: data.data() is null"});
    refused(data, 0, of_channels, {"inner is 0", "1..12"});
    refused(data, 5, of_channels, {"size is 12", "3 * 5"});
    refused(data, 1, {}, {"number of channels is 0"});
    refused(data, 1, null, {"histograms.data() is null"});
}

TEST_CASE("errors: histograms of null spans") {
    const std::span<const float> null(static_cast<const float*>(nullptr), 3);
    test::check_refused([&] { static_cast<void>(observe_exponents(null)); },
                        {"observe_exponents: data.data() is null"});
    test::check_refused([&] { static_cast<void>(observe_magnitudes(null)); },
                        {"observe_magnitudes: data.data() is null"});
}
