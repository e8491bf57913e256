// Trained thresholds and step sizes: against the definition, on a toy that trains, frozen ones, serialization, errors.
#include <po2quant/training/scale_serialization.hpp>

#include <algorithm>
#include <limits>
#include <vector>

#include <po2quant/numerics/quantizer.hpp>
#include <po2quant/reference/descent.hpp>

#include "../support/catch.hpp"
#include "../support/errors.hpp"
#include "../support/random.hpp"

using namespace po2quant;

namespace {

constexpr double no_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr descent rules[] = {descent::adam, descent::normalized, descent::momentum};

tqt_threshold update(const tqt_threshold& t, double g, const descent_options& o) { return tqt_update(t, g, o); }
lsq_step update(const lsq_step& s, double g, const descent_options& o) { return lsq_update(s, g, o); }
log2_step update(const log2_step& s, double g, const descent_options& o) { return log2_step_update(s, g, o); }

template <class Scale>
bool same(const Scale& a, const Scale& b) {
    return serialize(a) == serialize(b);
}

double random_gradient(test::random_source& random) {
    return std::ldexp(random.uniform(-1, 1), static_cast<int>(random.integer(-18, -4)));
}

/// Σ dy · {r − v | qmin | qmax} by its definition.
double gradient_sum(const std::vector<float>& x, const std::vector<float>& dy, const quantizer& q) {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double v = std::ldexp(static_cast<double>(x[i]), -q.exponent);
        const double r = std::floor(v + 0.5);
        sum += static_cast<double>(dy[i]) * (r < q.format.qmin()   ? q.format.qmin()
                                             : r > q.format.qmax() ? q.format.qmax()
                                                                   : r - v);
    }
    return sum;
}

/// The squared error of a quantizer, halved, per element and in units of `variance`; `dy` is its gradient with respect
/// to the output.
double quantization_error(const std::vector<float>& x, double variance, const quantizer& q,
                          std::vector<float>* dy = nullptr) {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const auto error = static_cast<double>(fake_quantize(x[i], q) - x[i]);
        const double weight = 1 / (variance * static_cast<double>(x.size()));
        sum += error * error / 2 * weight;
        if (dy != nullptr) (*dy)[i] = static_cast<float>(error * weight);
    }
    return sum;
}

std::vector<float> gaussian(std::size_t n, double deviation, test::random_source& random) {
    std::vector<float> x(n);
    for (float& v : x) {
        double sum = -6;  // twelve uniform numbers: variance 1
        for (int i = 0; i < 12; ++i) sum += random.uniform(0, 1);
        v = static_cast<float>(deviation * sum);
    }
    return x;
}

}  // namespace

#define EVERY_SCALE tqt_threshold, lsq_step, log2_step

static_assert(std::is_trivially_copyable_v<tqt_threshold> && std::is_trivially_copyable_v<lsq_step> &&
              std::is_trivially_copyable_v<log2_step>);
static_assert(tqt_threshold{.log2_t = 1.5}.exponent(int8) == 2 - 7);
static_assert(tqt_gradient(3, -2) == 0.75 * std::numbers::ln2);

TEMPLATE_TEST_CASE("scales: every path of updates is the definition's", "", EVERY_SCALE) {
    test::random_source random;
    for (int round = 0; round < 100; ++round) {
        const double beta1 = random.integer(0, 4) == 0 ? 0 : random.uniform(0, 0.99);
        const descent_options o{.rule = random.one_of(rules),
                                .learning_rate = random.uniform(0, 0.02),
                                .beta1 = beta1,
                                .beta2 = beta1 == 0 && random.integer(0, 1) == 0 ? 0 : random.uniform(beta1, 0.9999),
                                .epsilon = std::ldexp(1.0, -static_cast<int>(random.integer(10, 40))),
                                .average_decay = random.uniform(0, 1)};
        CAPTURE(static_cast<int>(o.rule), o.learning_rate, o.beta1, o.beta2, o.epsilon, o.average_decay);
        TestType scale;
        scale.value() = 8;  // far from where lsq_step is held
        std::vector<double> gradients;
        for (int step = 0; step < 60; ++step) gradients.push_back(random_gradient(random));
        const std::vector<long double> path = reference::descend(8, gradients, o);
        // Beside the rounding of the number itself: 1 − β^steps keeps some 40 bits of the change with the largest β.
        long double tolerance = 1e-14L;
        for (std::size_t step = 0; step < gradients.size(); ++step) {
            const long double moved = path[step] - (step == 0 ? 8 : path[step - 1]);
            tolerance += 1e-15L + 4e-12L * std::abs(moved);
            const TestType before = scale;
            scale = update(before, gradients[step], o);
            CHECK(same(scale, update(before, gradients[step], o)));
            CHECK(std::abs(static_cast<long double>(scale.value()) - path[step]) < tolerance);
        }
        CHECK(std::abs(static_cast<long double>(scale.state.average) - reference::path_average(path, o.average_decay)) <
              tolerance);
        CHECK(scale.state.updates == gradients.size());
        CHECK(scale.state.gradient_count == gradients.size());
    }
}

TEMPLATE_TEST_CASE("scales: a gradient that is not finite is counted and changes nothing else", "", EVERY_SCALE) {
    TestType scale;
    for (const double g : {0.5, -0.25}) scale = update(scale, g, {});
    for (const double g : {no_number, infinity, -infinity, 1e200}) {
        TestType expected = scale;
        ++expected.state.non_finite;
        scale = update(scale, g, {});
        CHECK(same(scale, expected));
    }
    CHECK(scale.state.non_finite == 4);
    CHECK(scale.state.updates == 2);
}

TEMPLATE_TEST_CASE("scales: frozen ones keep every bit", "", EVERY_SCALE) {
    TestType scale = update(TestType{}, 0.5, {});
    scale.state.frozen = true;
    for (const double g : {1.0, -3.0, no_number}) CHECK(same(update(scale, g, {}), scale));
}

TEMPLATE_TEST_CASE("scales: options out of range are refused", "", EVERY_SCALE) {
    const auto refused = [](auto&& spoil, std::initializer_list<const char*> parts) {
        descent_options o;
        spoil(o);
        test::check_refused([&] { static_cast<void>(update(TestType{}, 1, o)); }, parts);
    };
    for (const double bad : {-1e-3, no_number, infinity})
        refused([&](auto& o) { o.learning_rate = bad; }, {"_update: learning_rate is ", "finite numbers >= 0"});
    for (const double bad : {-0.1, 1.0, no_number}) {
        refused([&](auto& o) { o.beta1 = bad; }, {"beta1 is ", "0 <= beta1 < 1"});
        refused([&](auto& o) { o.beta2 = bad; }, {"beta2 is ", "0 <= beta2 < 1"});
        refused([&](auto& o) { o.average_decay = bad; }, {"average_decay is ", "0 <= average_decay < 1"});
    }
    for (const double bad : {0.0, -1.0, no_number, infinity})
        refused([&](auto& o) { o.epsilon = bad; }, {"epsilon is ", "finite numbers > 0"});
    refused([](auto& o) { o.rule = static_cast<descent>(3); }, {"rule is 3", "0..2"});
}

TEST_CASE("tqt_threshold: the exponent is the ceiling, held in the library's range") {
    const auto e = [](double log2, integer_format format) { return tqt_threshold{.log2_t = log2}.exponent(format); };
    CHECK(e(0, int8) == -7);
    CHECK(e(0, uint8) == -8);
    CHECK(e(std::nextafter(0.0, 1.0), int8) == -6);
    CHECK(e(-0.5, int8) == -7);
    CHECK(e(std::nextafter(3.0, 9.0), int4) == 1);
    CHECK(e(std::nextafter(3.0, 0.0), int4) == 0);
    CHECK(e(-3, int16) == -18);
    CHECK(e(-500, int8) == min_exponent);
    CHECK(e(1e300, int8) == max_exponent);
    CHECK(e(-1e300, int8) == min_exponent);
}

TEST_CASE("tqt_threshold_of: equals exponent_for of the same float, for powers of two and their neighbours") {
    for (int k = -120; k <= 120; ++k)
        for (const float t : {std::ldexp(1.0F, k), std::nextafter(std::ldexp(1.0F, k), HUGE_VALF),
                              std::nextafter(std::ldexp(1.0F, k), 0.0F), std::ldexp(1.37F, k)})
            for (const integer_format format : {int4, int8, uint8, int16}) {
                CAPTURE(k, t, format.bits);
                CHECK(tqt_threshold_of(static_cast<double>(t)).exponent(format) == exponent_for(t, format));
            }
    CHECK(tqt_threshold_of(0).exponent(int8) == min_exponent);
    for (const double bad : {-1.0, no_number, infinity})
        test::check_refused([&] { static_cast<void>(tqt_threshold_of(bad)); }, {"tqt_threshold_of: t is "});
}

TEST_CASE("tqt_threshold: one per channel, each as if it were alone") {
    test::random_source random;
    std::vector<tqt_threshold> thresholds(7);
    std::vector<double> sums(thresholds.size());
    for (int step = 0; step < 20; ++step) {
        for (double& sum : sums) sum = random.uniform(-9, 9);
        std::vector<tqt_threshold> expected;
        for (std::size_t c = 0; c < sums.size(); ++c)
            expected.push_back(tqt_update(thresholds[c], tqt_gradient(sums[c], thresholds[c].exponent(uint4))));
        std::vector<tqt_threshold> next(thresholds.size());
        tqt_update_channels(thresholds, sums, uint4, next);
        tqt_update_channels(thresholds, sums, uint4, thresholds);
        for (std::size_t c = 0; c < sums.size(); ++c)
            CHECK((same(next[c], expected[c]) && same(next[c], thresholds[c])));
    }
    std::vector<int> exponents(7);
    tqt_exponents(thresholds, int8, exponents);
    for (std::size_t c = 0; c < exponents.size(); ++c) CHECK(exponents[c] == thresholds[c].exponent(int8));

    const std::vector<tqt_threshold> before = thresholds;
    const auto refused = [&](auto&& call, std::initializer_list<const char*> parts) {
        test::check_refused(call, parts);
        for (std::size_t c = 0; c < before.size(); ++c) CHECK(same(before[c], thresholds[c]));
    };
    const std::span all(thresholds);
    refused([&] { tqt_update_channels(all, std::span(sums).first(6), int8, all); },
            {"tqt_update_channels: sums.size() is 6"});
    refused([&] { tqt_update_channels(all, sums, int8, all.first(6)); }, {"next.size() is 6", "exactly 7"});
    refused([&] { tqt_update_channels(all.first(6), std::span(sums).first(6), int8, all.last(6)); },
            {"next is memory that overlaps"});
    refused([&] { tqt_update_channels(all, sums, {.bits = 0}, all); }, {"format.bits is 0"});
    refused([&] { tqt_update_channels(all, sums, int8, all, {.beta2 = 1}); }, {"beta2 is 1"});
    refused([&] { tqt_exponents(all, int8, std::span(exponents).first(2)); }, {"tqt_exponents: exponents.size() is 2"});
    refused([&] { tqt_exponents(all, {.bits = 1}, exponents); }, {"format.bits is 1"});
}

TEST_CASE("step sizes: one per channel, each as if it were alone") {
    test::random_source random;
    std::vector<lsq_step> steps(5);
    std::vector<log2_step> logs(5);
    std::vector<double> sums(5);
    const std::vector<lsq_step> first_steps = steps;
    for (int step = 0; step < 20; ++step) {
        for (double& sum : sums) sum = random.uniform(-900, 900);
        std::vector<lsq_step> next(5);
        std::vector<log2_step> next_logs(5);
        const std::vector<lsq_step> old = steps;
        const std::vector<log2_step> old_logs = logs;
        lsq_update_channels(steps, sums, 81, int4, next);
        lsq_update_channels(steps, sums, 81, int4, steps);
        log2_step_update_channels(logs, sums, next_logs, {.learning_rate = 0.1});
        log2_step_update_channels(logs, sums, logs, {.learning_rate = 0.1});
        for (std::size_t c = 0; c < sums.size(); ++c) {
            CHECK((same(next[c], lsq_update(old[c], lsq_gradient(sums[c], 81, int4))) && same(next[c], steps[c])));
            const double gradient = tqt_gradient(sums[c], old_logs[c].exponent());
            CHECK((same(next_logs[c], log2_step_update(old_logs[c], gradient, {.learning_rate = 0.1})) &&
                   same(next_logs[c], logs[c])));
        }
    }
    CHECK_FALSE(same(steps[0], first_steps[0]));
    std::vector<int> exponents(5);
    lsq_exponents(steps, exponents);
    for (std::size_t c = 0; c < exponents.size(); ++c) CHECK(exponents[c] == steps[c].exponent());
    log2_step_exponents(logs, exponents);
    for (std::size_t c = 0; c < exponents.size(); ++c) CHECK(exponents[c] == logs[c].exponent());

    const std::vector<lsq_step> before = steps;
    const auto refused = [&](auto&& call, std::initializer_list<const char*> parts) {
        test::check_refused(call, parts);
        for (std::size_t c = 0; c < before.size(); ++c) CHECK(same(before[c], steps[c]));
    };
    const std::span all(steps);
    refused([&] { lsq_update_channels(all, std::span(sums).first(4), 9, int8, all); },
            {"lsq_update_channels: sums.size() is 4", "exactly 5"});
    refused([&] { lsq_update_channels(all, sums, 9, int8, all.first(4)); }, {"next.size() is 4"});
    refused([&] { lsq_update_channels(all.first(4), std::span(sums).first(4), 9, int8, all.last(4)); },
            {"next is memory that overlaps"});
    refused([&] { lsq_update_channels(all, sums, 0, int8, all); }, {"elements is 0", "1 or more"});
    refused([&] { lsq_update_channels(all, sums, 9, {.bits = 17}, all); }, {"format.bits is 17"});
    refused([&] { lsq_update_channels(all, sums, 9, int8, all, {.learning_rate = -1}); }, {"learning_rate is -1"});
    refused([&] { log2_step_update_channels(logs, std::span(sums).first(4), logs); },
            {"log2_step_update_channels: sums.size() is 4"});
    refused([&] { lsq_exponents(all, std::span(exponents).first(2)); }, {"lsq_exponents: exponents.size() is 2"});
    refused([&] { log2_step_exponents(logs, std::span(exponents).first(2)); },
            {"log2_step_exponents: exponents.size()"});
}

TEST_CASE("lsq_step: the exponent is the power of two next to s, as a ratio") {
    // The mantissa that the constant stands for: its square is below 2, the next one's is not.
    __extension__ using wide = unsigned __int128;
    const std::uint64_t below = (std::uint64_t{1} << 52) + 0x6a09e667f3bccU;
    CHECK(wide{below} * below < wide{1} << 105);
    CHECK(wide{below + 1} * (below + 1) > wide{1} << 105);
    for (int k = min_exponent; k <= max_exponent; ++k) {
        CAPTURE(k);
        const auto e = [&](double mantissa) { return lsq_step{.step = std::ldexp(mantissa, k)}.exponent(); };
        CHECK(e(1) == k);
        CHECK(e(1.4) == k);
        CHECK(e(0x1.6a09e667f3bccp0) == k);
        CHECK(e(0x1.6a09e667f3bcdp0) == std::min(k + 1, max_exponent));
        CHECK(e(1.99) == std::min(k + 1, max_exponent));
        CHECK(e(0.75) == k);
        CHECK(e(0.7) == std::max(k - 1, min_exponent));
    }
    CHECK(lsq_step{.step = -3}.exponent() == min_exponent);
    CHECK(lsq_step{.step = 1e200}.exponent() == max_exponent);
    // Steps stay positive.
    CHECK(lsq_update({.step = 1}, 1000, {.rule = descent::momentum, .learning_rate = 1}).step ==
          exp2_double(min_exponent));
}

TEST_CASE("log2_step: the exponent is the rounded number, ties to even") {
    const auto e = [](double log2) { return log2_step{.log2_s = log2}.exponent(); };
    CHECK(e(-7.5) == -8);
    CHECK(e(-6.5) == -6);
    CHECK(e(std::nextafter(-6.5, -9.0)) == -7);
    CHECK(e(-6.6) == -7);
    CHECK(e(0.49) == 0);
    CHECK(e(-1000) == min_exponent);
    CHECK(e(1e9) == max_exponent);
}

TEST_CASE("LSQ: first steps and the scale of gradients") {
    const float x[] = {1, -3, 0, std::numeric_limits<float>::quiet_NaN(), -HUGE_VALF, 4};
    CHECK(mean_magnitude(x) == 2);
    CHECK(mean_magnitude({}) == 0);
    CHECK(lsq_step_of(2, int8).step == 4 / std::sqrt(127.0));
    CHECK(lsq_step_of(0, int8).exponent() == min_exponent);
    CHECK(lsq_gradient(3, 100, int4) == 3 / std::sqrt(700.0));
    // log2 t's gradient is LSQ's without its scale, times 2^e ln 2.
    CHECK(tqt_gradient(3, -4) == 0x1p-4 * (std::numbers::ln2 * 3));
    test::check_refused([] { static_cast<void>(lsq_gradient(1, 0, int8)); }, {"lsq_gradient: elements is 0"});
    test::check_refused([] { static_cast<void>(lsq_gradient(1, 1, {.bits = 1})); }, {"format.bits is 1", "2..16"});
    test::check_refused([] { static_cast<void>(lsq_step_of(-1, int8)); }, {"lsq_step_of: mean_magnitude is -1"});
    test::check_refused([] { static_cast<void>(lsq_step_of(1, {.bits = 17})); }, {"format.bits is 17"});
    test::check_refused(
        [] {
            static_cast<void>(mean_magnitude({static_cast<const float*>(nullptr), 2}));
        },
        {"mean_magnitude: data.data() is null"});
}

TEST_CASE("the published schedule") {
    CHECK(tqt_steps(1000, 24) == 1000);
    CHECK(tqt_steps(1000, 48) == 500);
    CHECK(tqt_steps(1000, 7) == 3429);  // 3428.57…
    CHECK(tqt_steps(1, 1000) == 1);
    CHECK(tqt_threshold_rate(24).at(0) == 1e-2);
    CHECK(tqt_threshold_rate(24).at(999) == 1e-2);
    CHECK(tqt_threshold_rate(24).at(1000) == 0.5e-2);
    CHECK(tqt_threshold_rate(12).at(4000) == 0.25e-2);
    CHECK(tqt_weight_rate(24).at(2999) == 1e-6);
    CHECK(std::abs(tqt_weight_rate(24).at(15000) / (1e-6 * std::pow(0.94, 5)) - 1) < 1e-15);
    CHECK(staircase{1, 1, 1}.at(std::numeric_limits<std::uint64_t>::max()) == 1);
    CHECK(staircase{1, 0.5, 0}.at(5) == 1);
    CHECK(tqt_freezing(96).start == 250);
}

TEST_CASE("freeze_next: one at a time, the smallest mean gradient of the last interval first") {
    const freezing_schedule schedule{.start = 100, .interval = 10};
    // Gradients whose mean over an interval is i + 1, alternating far around it; number 3 sees none.
    std::vector<tqt_threshold> all(5, tqt_threshold{.log2_t = 0.5});
    std::vector<std::size_t> order;
    for (std::uint64_t step = 1; step <= 200; ++step) {
        for (std::size_t i = 0; i < all.size(); ++i)
            if (i != 3)
                all[i] =
                    tqt_update(all[i], static_cast<double>(i + 1) + (step % 2 == 0 ? 50 : -50), {.learning_rate = 0});
        const std::size_t frozen = freeze_next(all, step, schedule);
        CHECK((frozen == all.size() || (step % 10 == 0 && step > 100)));
        if (frozen != all.size()) order.push_back(frozen);
        if (step % 10 == 0) CHECK(all[4].state.gradient_count == 0);
    }
    CHECK(order == std::vector<std::size_t>{0, 1, 2, 4});
    CHECK_FALSE(all[3].state.frozen);
    CHECK(all[0].state.updates == 110);
    CHECK(freeze_next(std::span<tqt_threshold>(), 110, schedule) == 0);
}

TEST_CASE("freeze_next: only in the bin where the average is") {
    std::vector<lsq_step> all(2);
    for (auto& s : all) s = lsq_update(s, 0, {});
    all[0].state.average = 1.5;  // round(log2 1.5) = 1, while the step's is 0
    all[1] = lsq_update(all[1], 5, {.learning_rate = 0});
    CHECK(freeze_next(all, 2000) == 1);
    // The first among equals.
    std::vector<log2_step> equal(3);
    for (auto& s : equal) s = log2_step_update(s, 0.5, {});
    CHECK(freeze_next(equal, 1050) == 0);
    test::check_refused([&] { freeze_next(equal, 5, {.interval = 0}); }, {"freeze_next: interval is 0", "1 or more"});
    test::check_refused([] { freeze_next(std::span(static_cast<lsq_step*>(nullptr), 2), 5); },
                        {"freeze_next: scales.data() is null"});
}

TEST_CASE("toy: the threshold of a Gaussian moves to a power of two of small error, from either side") {
    test::random_source random;
    for (const integer_format format : {int4, int8, {.bits = 3}})
        for (const double deviation : {0.03, 1.0, 20.0}) {
            const std::vector<float> x = gaussian(2000, deviation, random);
            const double variance = deviation * deviation;
            std::vector<float> dy(x.size());
            double least = infinity;
            int best = 0;
            for (int e = -20; e <= 10; ++e)
                if (const double error = quantization_error(x, variance, {format, e}); error < least) {
                    least = error;
                    best = e;
                }
            for (const int start : {-3, 3})
                for (const descent rule : {descent::adam, descent::normalized}) {
                    CAPTURE(format.bits, deviation, start, static_cast<int>(rule), best);
                    std::vector<tqt_threshold> t(1);
                    t[0].log2_t = best + format.bits - 1 + start;
                    for (std::uint64_t step = 0; step < 1500 && !t[0].state.frozen; ++step) {
                        const quantizer q{format, t[0].exponent(format)};
                        quantization_error(x, variance, q, &dy);
                        t[0] = tqt_update(
                            t[0], tqt_gradient(gradient_sum(x, dy, q), q.exponent),
                            {.rule = rule, .learning_rate = staircase{0.05, 0.5, 400}.at(step), .epsilon = 1e-20});
                        freeze_next(t, step, {.start = 1000, .interval = 1});
                    }
                    // It oscillates around the border between two bins, and is frozen when it is in its average's.
                    CHECK(t[0].state.frozen);
                    CHECK(std::abs(t[0].exponent(format) - best) <= 1);
                    CHECK(quantization_error(x, variance, {format, t[0].exponent(format)}) < 5 * least);
                }
            for (const int start : {-2, 2}) {
                CAPTURE(format.bits, deviation, start, best);
                lsq_step s{.step = std::ldexp(1.2, best + start)};
                for (std::uint64_t step = 0; step < 1500; ++step) {
                    const quantizer q{format, s.exponent()};
                    quantization_error(x, variance, q, &dy);
                    const double g = lsq_gradient(gradient_sum(x, dy, q), x.size(), format);
                    s = lsq_update(s, g, {.learning_rate = std::ldexp(0.05, best), .epsilon = 1e-20});
                }
                CHECK(std::abs(s.exponent() - best) <= 1);
                log2_step a{.log2_s = static_cast<double>(best + start)};
                for (std::uint64_t step = 0; step < 1500; ++step) {
                    const quantizer q{format, a.exponent()};
                    quantization_error(x, variance, q, &dy);
                    a = log2_step_update(a, tqt_gradient(gradient_sum(x, dy, q), q.exponent),
                                         {.learning_rate = 0.02, .epsilon = 1e-20});
                }
                CHECK(std::abs(a.exponent() - best) <= 1);
            }
        }
}

TEMPLATE_TEST_CASE("scales: serialization brings back every bit", "", EVERY_SCALE) {
    test::random_source random;
    TestType scale;
    scale.value() = 0.3;
    for (int i = 0; i < 5; ++i) scale = update(scale, random_gradient(random), {});
    scale = update(scale, no_number, {});
    scale.state.frozen = true;
    auto copy = deserialize<TestType>(serialize(scale));
    CHECK(same(copy, scale));
    CHECK(copy.state.frozen);
    CHECK(copy.state.non_finite == 1);
    copy.state.frozen = scale.state.frozen = false;
    CHECK(same(update(copy, 0.7, {}), update(scale, 0.7, {})));
    CHECK(same(deserialize<TestType>(serialize(TestType{})), TestType{}));

    const auto bytes = serialize(scale);
    const std::vector<std::byte> good(bytes.begin(), bytes.end());
    const auto refused = [](const std::vector<std::byte>& bad, std::initializer_list<const char*> parts) {
        test::check_refused([&] { static_cast<void>(deserialize<TestType>(bad)); }, parts);
    };
    const auto damaged = [&](std::size_t at, std::initializer_list<int> values) {
        std::vector<std::byte> bad = good;
        for (const int v : values) bad[at++] = static_cast<std::byte>(v);
        return bad;
    };
    refused({}, {"deserialize: bytes.size() is 0", "exactly 89"});
    refused({good.begin(), good.end() - 1}, {"bytes.size() is 88"});
    refused(damaged(3, {'?'}), {"tag is \"PQT?\"", "PQT"});
    refused(damaged(4, {9}), {"version is 9", "1..1"});
    refused(damaged(88, {2}), {"frozen is 2", "0..1"});
    refused(damaged(16, {0, 0, 0, 0, 0, 0, 0xf0, 0x7f}), {"deserialize: first is inf", "finite"});
    refused(damaged(24, {0, 0, 0, 0, 0, 0, 0xf0, 0xbf}), {"second is -1"});
    refused(damaged(32, {0, 0, 0, 0, 0, 0, 0xf0, 0xbf}), {"first_bias is -1"});
    refused(damaged(40, {0, 0, 0, 0, 0, 0, 0x00, 0x40}), {"second_bias is 2", "0..1"});
    refused(damaged(8, {0, 0, 0, 0, 0, 0, 0x40, 0x7f}), {"value is "});
    if (!std::is_same_v<TestType, lsq_step>)
        test::check_refused([&] { static_cast<void>(deserialize<lsq_step>(good)); }, {"tag", "PQTL"});
}

TEST_CASE("scales: the bytes") {
    const auto bytes = serialize(tqt_update({.log2_t = 2}, 0.5, {.rule = descent::momentum, .learning_rate = 2}));
    std::vector<int> expected = {'P', 'Q', 'T', 'T', 1, 0, 0, 0};
    const auto add = [&](double v) {
        for (int i = 0; i < 8; ++i)
            expected.push_back(static_cast<int>(std::bit_cast<std::uint64_t>(v) >> (8 * i) & 255));
    };
    for (const double v : {1.0, 0.5, 0.0, 1.0, 1.0, 1.0, 0.5}) add(v);  // log2_t, …, average, gradient_sum
    for (const std::uint64_t n : {1, 1, 0}) add(std::bit_cast<double>(n));
    expected.push_back(0);
    REQUIRE(bytes.size() == expected.size());
    for (std::size_t i = 0; i < bytes.size(); ++i) CHECK(static_cast<int>(bytes[i]) == expected[i]);
}
