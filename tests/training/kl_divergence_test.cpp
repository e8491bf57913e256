#include <po2quant/training/kl_divergence.hpp>

#include <cmath>
#include <numeric>
#include <vector>

#include "../support/catch.hpp"
#include "../support/errors.hpp"
#include "../support/float_cases.hpp"

using namespace po2quant;

namespace {

/// The published procedure step by step on arrays, in long double.
long double divergence_by_arrays(const magnitude_histogram& seen, std::size_t used, std::size_t levels) {
    std::vector<long double> histogram(seen.counts, seen.counts + 2048);
    std::fill_n(histogram.begin(), 4, 0.0L);
    std::vector<long double> p(histogram.begin(), histogram.begin() + static_cast<std::ptrdiff_t>(used));
    std::vector<long double> q(used);
    const std::size_t width = used / levels;
    for (std::size_t level = 0; level < levels; ++level) {
        long double sum = 0;
        long double filled = 0;
        for (std::size_t i = 0; i < width; ++i) {
            sum += p[level * width + i];
            filled += p[level * width + i] > 0;
        }
        for (std::size_t i = 0; i < width; ++i) q[level * width + i] = p[level * width + i] > 0 ? sum / filled : 0;
    }
    p.back() = std::accumulate(histogram.begin() + static_cast<std::ptrdiff_t>(used - 1), histogram.end(), 0.0L);
    const auto normalize = [](std::vector<long double>& v) {
        const long double sum = std::accumulate(v.begin(), v.end(), 0.0L);
        if (sum > 0)
            for (long double& x : v) x /= sum;
        return sum > 0;
    };
    if (!normalize(p)) return 0;
    normalize(q);
    long double divergence = 0;
    for (std::size_t i = 0; i < used; ++i)
        if (p[i] > 0) divergence += p[i] * (std::log(p[i] + 1e-30L) - std::log(q[i] + 1e-30L));
    return divergence;
}

/// About n values of a bell of the given width, none beyond `most`.
magnitude_histogram bell(test::random_source& random, int n, double width, double most) {
    std::vector<float> data;
    for (int i = 0; i < n; ++i) {
        double v = 0;
        for (int k = 0; k < 12; ++k) v += random.uniform(-1, 1);
        v *= width / 2;
        if (std::fabs(v) < most) data.push_back(static_cast<float>(v));
    }
    return observe_magnitudes(data);
}

}  // namespace

TEST_CASE("natural logarithm: the C library's, within a few units in the last place") {
    test::random_source random;
    for (int i = 0; i < 100000; ++i) {
        const double v = std::ldexp(random.uniform(1, 2), static_cast<int>(random.integer(-110, 5)));
        const double exact = std::log(v);
        if (std::fabs(detail::natural_log(v) - exact) > 4e-16 * std::max(1.0, std::fabs(exact)))
            FAIL_CHECK(std::hexfloat << v);
    }
    CHECK(detail::natural_log(1.0) == 0);
}

TEST_CASE("KL divergence: the published procedure, every candidate of 4 and 8 bits") {
    test::random_source random;
    for (int round = 0; round < 6; ++round) {
        const magnitude_histogram seen = bell(random, round < 3 ? 500 : 100000, round % 3 == 0 ? 0.1 : 1.0, 1e9);
        for (const int levels : {8, 128})
            for (int used = levels; used <= 2048; used += levels) {
                const double actual = kl_divergence(seen, used, levels);
                const long double expected =
                    divergence_by_arrays(seen, static_cast<std::size_t>(used), static_cast<std::size_t>(levels));
                if (std::fabs(actual - static_cast<double>(expected)) > 1e-11 * (1 + std::fabs(actual)))
                    FAIL_CHECK(used << " bins, " << levels << " levels: " << actual << ", expected "
                                    << static_cast<double>(expected));
            }
    }
}

TEST_CASE("KL divergence: edge cases") {
    magnitude_histogram h{.bound_log2 = 0};
    CHECK(kl_divergence(h, 128, 128) == 0);  // empty
    h.counts[0] = h.counts[3] = 1000;
    CHECK(kl_divergence(h, 2048, 128) == 0);  // nothing but what is skipped
    CHECK(kl_exponent(h, int8) == -11);
    h.counts[2047] = 10;
    CHECK(kl_divergence(h, 2048, 128) == 0);  // one bin keeps its shape
    CHECK(kl_divergence(h, 1024, 128) > 69);  // all above the threshold
    CHECK(kl_threshold(h, int8) == 2048);
    h.counts[100] = 10;  // half above, the last bin empty below: P has what Q lacks
    CHECK(std::fabs(kl_divergence(h, 1024, 128) -
                    (0.5 * std::log(0.5) + 0.5 * std::log(0.5) + 0.5 * 30 * std::log(10.0))) < 1e-9);
    h.counts[1023] = 10;  // a third each
    CHECK(std::fabs(kl_divergence(h, 1024, 128) - (std::log(2.0 / 3) / 3 + 2 * std::log(4.0 / 3) / 3)) < 1e-12);
    // Of equals the smallest: 384 bins hold all of these, each alone in its level.
    magnitude_histogram alone{.bound_log2 = 0};
    alone.counts[300] = alone.counts[310] = 5;
    CHECK(kl_threshold(alone, int8, kl_candidates::multiples_of_levels) == 384);
    CHECK(kl_threshold(alone, int8) == 512);
}

TEST_CASE("KL exponents: a few outliers are cut, a bell's ends are not") {
    test::random_source random;
    magnitude_histogram seen = bell(random, 200000, 0.25, 0.999);
    CHECK(seen.bound_log2 == 0);
    CHECK(kl_exponent(seen, int8) == -7);
    const std::vector<float> outliers = {13.0F, -9.5F};
    seen = merge(seen, observe_magnitudes(outliers));
    CHECK(seen.bound_log2 == 4);
    CHECK(kl_exponent(seen, int8) == -7);
    CHECK(exponent_for(13.0F, int8) == -3);
    CHECK(kl_exponent(seen, int8, kl_candidates::multiples_of_levels) <= -6);
}

TEST_CASE("KL exponents: ESP-PPQ's rule rounds the threshold's logarithm half up") {
    test::random_source random;
    for (int round = 0; round < 10; ++round) {
        const magnitude_histogram seen = bell(random, 20000, random.uniform(0.1, 5), 1e9);
        for (const integer_format f : {int4, int8, uint4}) {
            const int levels = 1 << (f.is_signed ? f.bits - 1 : f.bits);
            const int bins = kl_threshold(seen, f, kl_candidates::multiples_of_levels);
            const double threshold = std::ldexp(bins, static_cast<int>(seen.bound_log2) - 11);
            const double scale = threshold / levels;
            CHECK(kl_exponent(seen, f, kl_candidates::multiples_of_levels) ==
                  static_cast<int>(std::floor(std::log2(scale) + 0.5)));
            const int power = kl_threshold(seen, f);
            CHECK((power & (power - 1)) == 0);
            CHECK(std::ldexp(1.0, kl_exponent(seen, f)) * levels ==
                  std::ldexp(power, static_cast<int>(seen.bound_log2) - 11));
        }
    }
}

TEST_CASE("KL exponents: nothing seen, and formats of more levels than bins") {
    CHECK(kl_exponent({}, int8) == min_exponent);
    CHECK(kl_exponent(observe_magnitudes(std::vector<float>{0, -0.0F, NAN}), int8) == min_exponent);
    CHECK(kl_exponent(observe_magnitudes(std::vector<float>{0x1p-149F}), int8) == min_exponent);
    CHECK(kl_threshold({}, {.bits = 12}) == 2048);
    test::check_refused([] { static_cast<void>(kl_exponent({}, int16)); }, {"format.bits is 16", "2..12"});
    test::check_refused([] { static_cast<void>(kl_exponent({}, {.bits = 12, .is_signed = false})); },
                        {"format.bits is 12", "2..11"});
}
