#include <po2quant/training/step_size.hpp>
#include <po2quant/training/threshold.hpp>
#include <po2quant/training/threshold_gradient.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include <po2quant/reference/threshold_gradient.hpp>

#include "../support/errors.hpp"
#include "../support/executors.hpp"
#include "../support/layouts.hpp"
#include "../support/same_bits.hpp"
#include "../support/sizes.hpp"

using namespace po2quant;

namespace {

constexpr threshold_term all_terms[] = {threshold_term::error, threshold_term::beyond};

std::vector<float> gradients(test::random_source& random, std::size_t n) {
    std::vector<float> dy(n);
    for (float& v : dy)
        v = std::ldexp(static_cast<float>(random.uniform(-1, 1)), static_cast<int>(random.integer(-9, 9)));
    return dy;
}

}  // namespace

TEST_CASE("fake_quantize_backward_threshold: the reference's bits, for every size, rounding and number of threads") {
    test::random_source random;
    std::vector<std::size_t> sizes = test::sizes_worth_trying(16, 600);
    for (const std::size_t n : {32767, 32769, 100003}) sizes.push_back(n);
    for (const std::size_t n : sizes)
        for (const rounding mode : test::all_roundings)
            for (const threshold_term term : all_terms) {
                const ste estimator = random.one_of(test::all_estimators);
                const quantizer q{random.one_of(test::all_formats()), static_cast<int>(random.integer(-12, 4)), mode,
                                  random.bits()};
                std::vector<float> x(n);
                test::fill_values(x, random, q.format, std::vector{q.exponent});
                for (float& v : x)
                    if (!(std::fabs(v) < 1e30F)) v = v != v ? v : std::copysign(1e30F, v);  // sums that stay finite
                const std::vector<float> dy = gradients(random, n);
                std::vector<float> expected(n);
                reference::fake_quantize_backward(x, dy, expected, q, estimator);
                const double sum = reference::threshold_sum(x, dy, q, term);
                const auto context = [&] {
                    return test::name_of(q) + ", " + test::name_of(estimator) + ", " + std::to_string(n);
                };
                for (const test::test_executor& run : test::executors()) {
                    if (n < 30000 && run.threads > 1) continue;
                    std::vector<float> dx(n);
                    const double own = fake_quantize_backward_threshold(x, dy, dx, q, term, {estimator}, run);
                    test::check_identical(std::span(dx), std::span(expected), context, x);
                    if (std::bit_cast<std::uint64_t>(own) != std::bit_cast<std::uint64_t>(sum))
                        FAIL_CHECK("sum " << own << ", expected " << sum << ": " << context());
                }
                std::vector<float> in_place = dy;
                CHECK(fake_quantize_backward_threshold(x, in_place, in_place, q, term, {estimator}) == sum);
                test::check_identical(std::span(in_place), std::span(expected), context, x);
            }
}

TEST_CASE("fake_quantize_backward_threshold per channel: the reference's bits, for every layout") {
    test::random_source random;
    std::vector<test::layout> layouts = test::layouts_worth_trying();
    for (const test::layout& l : test::large_layouts()) layouts.push_back(l);
    layouts.push_back({70001, 2, 1});
    for (const test::layout& l : layouts) {
        const rounding mode = random.one_of(test::all_roundings);
        const threshold_term term = random.one_of(all_terms);
        const ste estimator = random.one_of(test::all_estimators);
        std::vector<int> exponents(l.channels);
        for (int& e : exponents) e = static_cast<int>(random.integer(-12, 4));
        const channel_quantizer q{random.one_of(test::all_formats()), exponents, static_cast<std::int64_t>(l.inner),
                                  mode, random.bits()};
        const quantizer common{q.format, 0, q.mode, q.seed};
        std::vector<float> x(l.size());
        test::fill_values(x, random, q.format, exponents, l.inner);
        for (float& v : x)
            if (!(std::fabs(v) < 1e30F)) v = v != v ? v : 1e30F;
        const std::vector<float> dy = gradients(random, l.size());
        std::vector<float> expected(l.size());
        reference::fake_quantize_backward_channels(x, dy, expected, common, estimator, exponents, l.inner);
        const std::vector<double> wanted = reference::threshold_sums(x, dy, common, exponents, l.inner, term);
        const auto context = [&] { return l.name() + ", " + test::name_of(q.format) + ", " + test::name_of(mode); };
        std::vector<double> sums(l.channels, 99);
        std::vector<float> dx(l.size());
        fake_quantize_backward_threshold(x, dy, dx, q, term, sums, {estimator}, random.one_of(test::executors()));
        test::check_identical(std::span(dx), std::span(expected), context, x);
        test::check_identical(std::span(sums), std::span(wanted), context);
    }
}

TEST_CASE("threshold gradients by hand") {
    // Codes −2..1 on the grid of 1/4: 0.0625 is code 0.25 → 0, 0.1875 is 0.75 → 1, 0.75 is 3 → 1 (cut), −1.25 is −5 →
    // −2 (cut); dy = 1. S is in codes, whatever the exponent.
    const std::vector<float> x = {0.0625F, 0.1875F, 0.75F, -1.25F};
    const std::vector<float> dy(4, 1.0F);
    std::vector<float> dx(4);
    const quantizer q{.format = {.bits = 2}, .exponent = -2};
    const double s = fake_quantize_backward_threshold(x, dy, dx, q, threshold_term::error);
    CHECK(s == -0.25 + 0.25 + 1.0 - 2.0);
    CHECK(dx == std::vector<float>{1, 1, 0, 0});
    CHECK(fake_quantize_backward_threshold(x, dy, dx, q, threshold_term::beyond, {ste::pact}) == 1.0);
    CHECK(dx == std::vector<float>{1, 1, 0, 0});
    const std::vector<int> exponents = {-2, -2};
    std::vector<double> sums(2);
    for (const std::int64_t inner : {1, 2}) {
        const channel_quantizer per_channel{.format = q.format, .exponents = exponents, .inner = inner};
        fake_quantize_backward_threshold(x, dy, dx, per_channel, threshold_term::error, sums);
        CHECK(sums == (inner == 1 ? std::vector{0.75, -1.75} : std::vector{0.0, -1.0}));
    }
}

TEST_CASE("threshold gradients are what the published formulas say, from the pass to the update") {
    test::random_source random;
    for (const integer_format format : {int8, uint4, int4})
        for (const int e : {-9, -2, 0, 3}) {
            const quantizer q{format, e, rounding::half_even};
            std::vector<float> x(5000);
            for (float& v : x) v = std::ldexp(static_cast<float>(random.uniform(-1.5, 1.5)), e + format.bits - 1);
            const std::vector<float> dy = gradients(random, x.size());
            double tqt = 0;
            double lsq = 0;
            double squares = 0;
            for (std::size_t i = 0; i < x.size(); ++i) {
                const double v = std::ldexp(static_cast<double>(x[i]), -e);
                const double r = std::nearbyint(v);
                const double d = r < format.qmin() ? format.qmin() : r > format.qmax() ? format.qmax() : r - v;
                tqt += static_cast<double>(dy[i]) * std::ldexp(std::log(2.0), e) * d;
                lsq += static_cast<double>(dy[i]) * d / std::sqrt(5000.0 * format.qmax());
                squares += std::pow(static_cast<double>(dy[i]) * d, 2);
            }
            std::vector<float> dx(x.size());
            const double s = fake_quantize_backward_threshold(x, dy, dx, q, threshold_term::error);
            // Products are off by 2^−24 of themselves at most, by less than half of that in the mean, up or down: ten
            // times that of the whole sum.
            const double close = 4 * 0x1p-24 * std::sqrt(squares);
            CHECK(std::fabs(tqt_gradient(s, e) - tqt) <= close * std::ldexp(std::log(2.0), e));
            CHECK(std::fabs(lsq_gradient(s, x.size(), format) - lsq) <= close / std::sqrt(5000.0 * format.qmax()));
        }
}

TEST_CASE("threshold gradients keep what additions of floats lose, and what is not finite") {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    constexpr float largest = std::numeric_limits<float>::max();
    const auto sum_of = [](const std::vector<float>& dy, threshold_term term) {
        const std::vector<float> x(dy.size(), 100.0F);  // beyond: factor 1, or code 1 of 2 bits
        std::vector<float> dx(dy.size());
        const quantizer q{.format = {.bits = 2}, .exponent = 0};
        const double s = fake_quantize_backward_threshold(x, dy, dx, q, term);
        for (const std::int64_t inner : {std::int64_t{1}, static_cast<std::int64_t>(dy.size())}) {
            const std::vector<int> exponents = {0};
            std::vector<double> sums(1);
            fake_quantize_backward_threshold(x, dy, dx, channel_quantizer{q.format, exponents, inner}, term, sums);
            CHECK((sums[0] == s || (s != s && sums[0] != sums[0])));
        }
        return s;
    };
    for (const threshold_term term : all_terms) {
        // 2^24 + 1 is no float: without the rest every 1 would be lost.
        std::vector<float> dy(40000, 1.0F);
        for (std::size_t i = 0; i < 16; ++i) dy[i] = dy[32768 + i] = 0x1p24F;
        CHECK(sum_of(dy, term) == 32 * 0x1p24 + 39968);
        dy[777] = infinity;
        CHECK(sum_of(dy, term) == infinity);
        dy[777] = -infinity;
        CHECK(sum_of(dy, term) == -infinity);
        dy[777 + 16] = infinity;
        CHECK(std::isnan(sum_of(dy, term)));
        CHECK(std::isnan(sum_of({std::numeric_limits<float>::quiet_NaN(), 1}, term)));
        std::vector<float> in_one_lane(17);
        in_one_lane[0] = in_one_lane[16] = largest;
        CHECK(sum_of(in_one_lane, term) == infinity);
    }
}

TEST_CASE("fake_quantize_backward_threshold refuses what does not fit, before it writes") {
    const std::vector<float> x(12, 1.0F);
    std::vector<float> dx(12, 7.0F);
    std::vector<double> sums(3, 5.0);
    const std::vector<int> exponents(4);
    const channel_quantizer q{.exponents = exponents};
    test::check_refused([&] { fake_quantize_backward_threshold(x, x, dx, q, threshold_term::error, sums); },
                        {"sums.size() is 3", "allowed: exactly 4"});
    const std::span<double> inside(reinterpret_cast<double*>(dx.data()), 4);
    test::check_refused([&] { fake_quantize_backward_threshold(x, x, dx, q, threshold_term::error, inside); },
                        {"sums is memory that overlaps"});
    test::check_refused(
        [&] { fake_quantize_backward_threshold(x, x, dx, quantizer{}, static_cast<threshold_term>(2)); },
        {"term is 2", "allowed: 0..1"});
    CHECK(dx == std::vector<float>(12, 7.0F));
    CHECK(sums == std::vector<double>(3, 5.0));
}
