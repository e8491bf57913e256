// Folded batch norm: moments against the specification, training against conv and batch norm, gradients against finite
// differences, bits against other thread counts, and the errors.
#include <po2quant/training/batch_norm.hpp>

#include <algorithm>
#include <bit>
#include <vector>

#include <po2quant/reference/batch_norm.hpp>
#include <po2quant/training/fake_quantize.hpp>

#include "../support/catch.hpp"
#include "../support/errors.hpp"
#include "../support/executors.hpp"
#include "../support/guarded_memory.hpp"
#include "../support/random.hpp"
#include "../support/same_bits.hpp"

using namespace po2quant;

namespace {

std::vector<float> random_floats(std::size_t n, test::random_source& random, double low = -1, double high = 1) {
    std::vector<float> all(n);
    for (float& v : all) v = static_cast<float>(random.uniform(low, high));
    return all;
}

std::vector<double> random_doubles(std::size_t n, test::random_source& random, double low, double high) {
    std::vector<double> all(n);
    for (double& v : all) v = random.uniform(low, high);
    return all;
}

bool same_doubles(std::span<const double> a, std::span<const double> b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](double x, double y) {
        return std::bit_cast<std::uint64_t>(x) == std::bit_cast<std::uint64_t>(y) || (x != x && y != y);
    });
}

/// y[row][o] = Σ_i x[row][i] · w[i][o]: a convolution, seen as the matrix product that it is.
std::vector<float> multiply(const std::vector<float>& x, const std::vector<float>& w, std::size_t inputs,
                            std::size_t outputs) {
    std::vector<float> y(x.size() / inputs * outputs);
    for (std::size_t at = 0; at < y.size(); ++at) {
        double sum = 0;
        for (std::size_t i = 0; i < inputs; ++i)
            sum +=
                static_cast<double>(x[at / outputs * inputs + i]) * static_cast<double>(w[i * outputs + at % outputs]);
        y[at] = static_cast<float>(sum);
    }
    return y;
}

/// A layer and one batch of it, [rows][inputs] → [rows][outputs], with weights [inputs][outputs].
struct layer {
    std::size_t rows;
    std::size_t inputs;
    std::size_t outputs;
    std::vector<float> x, w, gamma, beta;
    std::vector<float> z;  ///< conv(x, w)
    std::vector<double> moving_mean, moving_variance, batch_mean, batch_variance;

    layer(std::size_t rows_, std::size_t inputs_, std::size_t outputs_, test::random_source& random)
        : rows(rows_),
          inputs(inputs_),
          outputs(outputs_),
          x(random_floats(rows * inputs, random, -1, 2)),
          w(random_floats(inputs * outputs, random)),
          gamma(random_floats(outputs, random, -2, 2)),
          beta(random_floats(outputs, random)),
          z(multiply(x, w, inputs, outputs)),
          moving_mean(random_doubles(outputs, random, -1, 1)),
          moving_variance(random_doubles(outputs, random, 0.1, 3)),
          batch_mean(outputs),
          batch_variance(outputs) {
        batch_moments(z, batch_mean, batch_variance);
    }
    batch_norm norm(bool frozen) const {
        return {gamma, beta, moving_mean, moving_variance, batch_mean, batch_variance, 1e-3, frozen};
    }
    reference::normalization<long double> truth(std::size_t o, bool frozen) const {
        const auto real = [](auto v) { return static_cast<long double>(v); };
        return {real(gamma[o]),
                real(beta[o]),
                {real(moving_mean[o]), real(moving_variance[o])},
                reference::moments_of<long double>(z, outputs, o),
                1e-3L,
                frozen};
    }
};

}  // namespace

TEST_CASE("batch_moments: the specification's bits, whatever the threads, and no access outside") {
    test::random_source random;
    const std::vector<test::test_executor> executors = test::executors();
    for (int round = 0; round < 150; ++round) {
        const auto rows = static_cast<std::size_t>(
            random.one_of(std::vector<std::int64_t>{0, 1, 2, 3, 255, 256, 257, 511, 600, random.integer(1, 2000), 4096,
                                                    4097, random.integer(4000, 13000)}));  // tasks have 4096 rows
        const auto channels = static_cast<std::size_t>(random.integer(1, random.integer(0, 3) ? 40 : 130));
        std::vector<float> x = random_floats(rows * channels, random, -1, 5);
        for (float& v : x) v = std::ldexp(v, static_cast<int>(random.integer(-9, 9)));
        if (random.integer(0, 9) == 0 && !x.empty()) x[random.bits() % x.size()] = HUGE_VALF;
        test::guarded_memory memory(x.size() * sizeof(float) + 64);
        test::guarded_memory results(2 * channels * sizeof(double) + 64);
        const auto side = random.one_of(test::edges);
        const auto data = memory.buffer<float>(x.size(), side, random.bits() % 4);
        std::copy(x.begin(), x.end(), data.begin());
        const auto out = results.buffer<double>(2 * channels, side);
        batch_moments(data, out.first(channels), out.last(channels), random.one_of(executors));
        CHECK(results.untouched_outside(out));
        std::vector<double> expected(2 * channels);
        for (std::size_t c = 0; c < channels; ++c) {
            const auto m = reference::moments_of<double>(x, channels, c);
            expected[c] = m.mean;
            expected[channels + c] = m.variance;
        }
        CAPTURE(rows, channels);
        CHECK(same_doubles(out, expected));
    }
}

TEST_CASE("batch_moments: close to the truth, also far from 0") {
    test::random_source random;
    for (const double center : {0.0, 1.0, 1000.0, 65536.0}) {
        const std::size_t channels = 5;
        const std::vector<float> x = random_floats(10007 * channels, random, center - 1, center + 1);
        std::vector<double> mean(channels);
        std::vector<double> variance(channels);
        batch_moments(x, mean, variance);
        for (std::size_t c = 0; c < channels; ++c) {
            const auto truth = reference::moments_of<long double>(x, channels, c);
            CHECK(std::abs(static_cast<long double>(mean[c]) - truth.mean) <
                  1e-13L * static_cast<long double>(center + 1));
            // (x − mean)² with a mean that is wrong by d adds d² only.
            CHECK(std::abs(static_cast<long double>(variance[c]) - truth.variance) < 1e-12L);
        }
    }
}

TEST_CASE("batch_norm: every other function gives the same bits for any threads, and in place") {
    test::random_source random;
    for (int round = 0; round < 20; ++round) {
        const bool large = round < 3;  // several tasks of rows
        const layer l(static_cast<std::size_t>(large ? random.integer(4096, 9000) : random.integer(1, 600)),
                      static_cast<std::size_t>(random.integer(1, 5)),
                      static_cast<std::size_t>(random.integer(1, large ? 40 : 70)), random);
        const batch_norm norm = l.norm(random.integer(0, 1) == 1);
        const std::vector<float> dy = random_floats(l.z.size(), random);
        const auto everything = [&](const auto& run) {
            std::vector<std::vector<float>> floats;
            const auto keep = [&](const std::vector<float>& v) { floats.push_back(v); };
            std::vector<float> folded(l.w.size());
            fold_weights(l.w, 1, norm, folded, run);
            keep(folded);
            std::vector<float> y(l.z.size());
            batch_norm_forward(l.z, norm, y, run);
            keep(y);
            std::vector<double> d(4 * l.outputs);
            const std::span all(d);
            const batch_norm_gradients grads{all.subspan(0, l.outputs), all.subspan(l.outputs, l.outputs),
                                             all.subspan(2 * l.outputs, l.outputs), all.last(l.outputs)};
            std::vector<float> du = dy;
            batch_norm_backward(l.z, du, norm, grads, du, run);
            keep(du);
            std::vector<float> dz = l.z;
            batch_moments_backward(dz, l.batch_mean, grads.batch_mean, grads.batch_variance, dz, run);
            keep(dz);
            std::vector<float> dw = folded;
            fold_weights_backward(l.w, dw, 1, norm, dw, grads.gamma, run);
            keep(dw);
            for (const double v : d)
                floats.push_back(
                    {static_cast<float>(v), static_cast<float>(v - static_cast<double>(static_cast<float>(v)))});
            return floats;
        };
        const auto expected = everything(serial);
        for (const auto& executor : test::executors()) CHECK(everything(executor) == expected);
    }
}

TEST_CASE("fold_weights: the specification's values in every layout, and no access outside") {
    test::random_source random;
    for (int round = 0; round < 60; ++round) {
        const layer l(3, 2, static_cast<std::size_t>(random.integer(1, 40)), random);
        const batch_norm norm = l.norm(random.integer(0, 1) == 1);
        const auto outer = static_cast<std::size_t>(random.integer(0, 300));
        const auto inner = static_cast<std::size_t>(random.integer(0, 1) ? 1 : random.integer(2, 700));
        const std::size_t n = (inner == 1 ? outer : outer % 3) * l.outputs * inner;
        const std::vector<float> w = random_floats(n, random);
        const std::vector<float> df = random_floats(n, random);
        if (n == 0) continue;
        test::guarded_memory memory(n * sizeof(float) + 64);
        const auto folded = memory.buffer<float>(n, random.one_of(test::edges), random.bits() % 4);
        fold_weights(w, static_cast<std::int64_t>(inner), norm, folded);
        CHECK(memory.untouched_outside(folded));
        std::vector<float> dw(n);
        std::vector<double> dgamma(l.outputs, 100.0);
        fold_weights_backward(w, df, static_cast<std::int64_t>(inner), norm, dw, dgamma);
        std::vector<long double> sums(l.outputs, 0);
        bool close = true;
        for (std::size_t i = 0; i < n; ++i) {
            const auto truth = l.truth(i / inner % l.outputs, false);
            const auto near = [](float given, long double wanted) {
                return std::abs(static_cast<long double>(given) - wanted) <= 0x1.001p-24L * std::abs(wanted);
            };
            close = close && near(folded[i], truth.folded_weight(static_cast<long double>(w[i]))) &&
                    near(dw[i], truth.folded_weight(static_cast<long double>(df[i])));
            sums[i / inner % l.outputs] +=
                static_cast<long double>(df[i]) * static_cast<long double>(w[i]) / truth.sigma(truth.moving);
        }
        CHECK(close);
        for (std::size_t o = 0; o < l.outputs; ++o)
            CHECK(std::abs(static_cast<long double>(dgamma[o]) - 100 - sums[o]) < 1e-11L);
    }
}

TEST_CASE("unfrozen, without quantization, training is conv and batch norm; frozen, it is inference") {
    test::random_source random;
    for (int round = 0; round < 40; ++round) {
        const layer l(static_cast<std::size_t>(random.integer(2, 300)), static_cast<std::size_t>(random.integer(1, 20)),
                      static_cast<std::size_t>(random.integer(1, 40)), random);
        for (const bool frozen : {false, true}) {
            const batch_norm norm = l.norm(frozen);
            std::vector<float> folded(l.w.size());
            fold_weights(l.w, 1, norm, folded);
            const std::vector<float> u = multiply(l.x, folded, l.inputs, l.outputs);
            std::vector<float> y(u.size());
            batch_norm_forward(u, norm, y);
            long double worst = 0;
            for (std::size_t i = 0; i < y.size(); ++i) {
                const auto truth = l.truth(i % l.outputs, frozen);
                const long double wanted = truth.normalized(static_cast<long double>(l.z[i]));
                // Roundings to float: of w_fold (each term, inputs · |x w| <= 2 · inputs), u, z and y.
                const long double gain = std::abs(truth.gamma) / truth.sigma(frozen ? truth.moving : truth.batch);
                const long double size =
                    gain * (2.0L * static_cast<long double>(l.inputs) + std::abs(truth.batch.mean)) + 4;
                worst = std::max(worst, std::abs(static_cast<long double>(y[i]) - wanted) / size);
            }
            CHECK(worst < 4 * 0x1p-24L);
            if (!frozen) continue;
            // Deployed: the folded weights and bias alone, to the last bit.
            std::vector<float> bias(l.outputs);
            fold_bias(l.norm(false), bias);
            std::vector<float> deployed(u.size());
            for (std::size_t i = 0; i < u.size(); ++i) deployed[i] = u[i] + bias[i % l.outputs];
            CHECK(deployed == y);
        }
    }
}

TEST_CASE("quantized weights do not depend on the batch, and the correction undoes the moving average's scale") {
    test::random_source random;
    layer l(50, 6, 5, random);
    std::vector<float> first(l.w.size());
    fold_weights(l.w, 1, l.norm(false), first);
    fake_quantize(first, first, {.exponent = -6});
    for (double& v : l.batch_variance) v *= 3;
    std::vector<float> second(l.w.size());
    fold_weights(l.w, 1, l.norm(false), second);
    fake_quantize(second, second, {.exponent = -6});
    CHECK(first == second);
    // With the moving averages at the batch's moments frozen and unfrozen agree.
    batch_moments(l.z, l.batch_mean, l.batch_variance);
    l.moving_mean = l.batch_mean;
    l.moving_variance = l.batch_variance;
    const std::vector<float> u = multiply(l.x, first, l.inputs, l.outputs);
    std::vector<float> unfrozen(u.size());
    std::vector<float> frozen(u.size());
    batch_norm_forward(u, l.norm(false), unfrozen);
    batch_norm_forward(u, l.norm(true), frozen);
    for (std::size_t i = 0; i < u.size(); ++i)
        CHECK(std::abs(unfrozen[i] - frozen[i]) <= 1e-6F * (1 + std::abs(u[i])) * 4);
}

TEST_CASE("gradients: central finite differences of the whole layer") {
    test::random_source random;
    for (const bool frozen : {false, true}) {
        const layer l(13, 4, 3, random);
        const std::vector<float> dy = random_floats(l.rows * l.outputs, random);
        const auto reals = [](const auto& v) { return std::vector<double>(v.begin(), v.end()); };
        // The loss Σ dy · y in double, straight from the formulas: everything moves, the batch's moments included.
        const auto loss = [&](const std::vector<double>& x, const std::vector<double>& w,
                              const std::vector<double>& gamma, const std::vector<double>& beta) {
            double total = 0;
            for (std::size_t o = 0; o < l.outputs; ++o) {
                std::vector<double> z(l.rows, 0.0);
                for (std::size_t row = 0; row < l.rows; ++row)
                    for (std::size_t i = 0; i < l.inputs; ++i) z[row] += x[row * l.inputs + i] * w[i * l.outputs + o];
                reference::normalization<double> n{gamma[o], beta[o], {l.moving_mean[o], l.moving_variance[o]},
                                                   {0, 0},   1e-3,    frozen};
                for (const double v : z) n.batch.mean += v / static_cast<double>(l.rows);
                for (const double v : z)
                    n.batch.variance += (v - n.batch.mean) * (v - n.batch.mean) / static_cast<double>(l.rows);
                for (std::size_t row = 0; row < l.rows; ++row) {
                    double u = 0;
                    for (std::size_t i = 0; i < l.inputs; ++i)
                        u += x[row * l.inputs + i] * n.folded_weight(w[i * l.outputs + o]);
                    total += static_cast<double>(dy[row * l.outputs + o]) * n.output(u);
                }
            }
            return total;
        };

        // The same by the library; the host's parts are products with the transposed matrices.
        const batch_norm norm = l.norm(frozen);
        std::vector<float> folded(l.w.size());
        fold_weights(l.w, 1, norm, folded);
        const std::vector<float> u = multiply(l.x, folded, l.inputs, l.outputs);
        std::vector<double> dgamma(l.outputs), dbeta(l.outputs), dmean(l.outputs), dvariance(l.outputs);
        std::vector<float> du(u.size());
        batch_norm_backward(u, dy, norm, {dgamma, dbeta, dmean, dvariance}, du);
        std::vector<float> dfolded(l.w.size());
        const auto to_weights = [&](const std::vector<float>& d, std::vector<float>& sum) {
            for (std::size_t i = 0; i < l.inputs; ++i)
                for (std::size_t o = 0; o < l.outputs; ++o)
                    for (std::size_t row = 0; row < l.rows; ++row)
                        sum[i * l.outputs + o] += l.x[row * l.inputs + i] * d[row * l.outputs + o];
        };
        const auto to_inputs = [&](const std::vector<float>& d, const std::vector<float>& w, std::vector<float>& sum) {
            for (std::size_t row = 0; row < l.rows; ++row)
                for (std::size_t i = 0; i < l.inputs; ++i)
                    for (std::size_t o = 0; o < l.outputs; ++o)
                        sum[row * l.inputs + i] += d[row * l.outputs + o] * w[i * l.outputs + o];
        };
        to_weights(du, dfolded);
        std::vector<float> dw(l.w.size());
        fold_weights_backward(l.w, dfolded, 1, norm, dw, dgamma);
        std::vector<float> dz(l.z.size());
        batch_moments_backward(l.z, l.batch_mean, dmean, dvariance, dz);
        if (frozen) CHECK(std::all_of(dz.begin(), dz.end(), [](float v) { return v == 0; }));
        to_weights(dz, dw);
        std::vector<float> dx(l.x.size());
        to_inputs(du, folded, dx);
        to_inputs(dz, l.w, dx);

        const auto check = [&](const char* name, std::vector<double> at, const auto& gradient, auto&& loss_at) {
            for (std::size_t i = 0; i < at.size(); ++i) {
                const double h = 1e-5;
                const double kept = at[i];
                at[i] = kept + h;
                const double high = loss_at(at);
                at[i] = kept - h;
                const double low = loss_at(at);
                at[i] = kept;
                const double wanted = (high - low) / (2 * h);
                CAPTURE(name, i, wanted, gradient[i], frozen);
                // Floats carry the gradients: some 50 roundings of 2^-24 of terms up to about 10.
                CHECK(std::abs(static_cast<double>(gradient[i]) - wanted) < 3e-5 + 1e-5 * std::abs(wanted));
            }
        };
        const auto x = reals(l.x);
        const auto w = reals(l.w);
        const auto gamma = reals(l.gamma);
        const auto beta = reals(l.beta);
        check("x", x, dx, [&](const auto& v) { return loss(v, w, gamma, beta); });
        check("w", w, dw, [&](const auto& v) { return loss(x, v, gamma, beta); });
        check("gamma", gamma, dgamma, [&](const auto& v) { return loss(x, w, v, beta); });
        check("beta", beta, dbeta, [&](const auto& v) { return loss(x, w, gamma, v); });
    }
}

TEST_CASE("batch_norm: without gamma and beta they are 1 and 0") {
    test::random_source random;
    layer l(20, 3, 4, random);
    batch_norm bare = l.norm(false);
    bare.gamma = {};
    bare.beta = {};
    l.gamma.assign(4, 1);
    l.beta.assign(4, 0);
    std::vector<float> a(l.z.size());
    std::vector<float> b(l.z.size());
    batch_norm_forward(l.z, bare, a);
    batch_norm_forward(l.z, l.norm(false), b);
    CHECK(a == b);
}

TEST_CASE("track_moments: the moving average, and what is not finite is counted and left out") {
    std::vector<double> mean{1, 2};
    std::vector<double> variance{1, 1};
    CHECK(track_moments(std::vector<double>{3, 2}, std::vector<double>{5, 1}, mean, variance, 0.75) == 0);
    CHECK(mean == std::vector<double>{1.5, 2});
    CHECK(variance == std::vector<double>{2, 1});
    CHECK(track_moments(std::vector<double>{HUGE_VAL, 4}, std::vector<double>{5, 3}, mean, variance, 0.5) == 1);
    CHECK(track_moments(std::vector<double>{0, 4}, std::vector<double>{std::nan(""), 3}, mean, variance, 0.5) == 1);
    CHECK(mean == std::vector<double>{1.5, 3.5});
    CHECK(variance == std::vector<double>{2, 2.5});
    for (const double bad : {-0.5, 1.0, std::nan("")})
        test::check_refused([&] { track_moments(mean, variance, mean, variance, bad); }, {"track_moments: decay is "});
    test::check_refused([&] { track_moments(mean, std::span(variance).first(1), mean, variance); },
                        {"batch_variance.size() is 1", "exactly 2"});
}

TEST_CASE("batch_norm: bad arguments are refused before anything is written") {
    test::random_source random;
    const layer l(4, 2, 3, random);
    std::vector<float> out(l.z.size(), 77.0F);
    std::vector<double> numbers(12, 77.0);
    const std::span all(numbers);
    const batch_norm_gradients grads{all.subspan(0, 3), all.subspan(3, 3), all.subspan(6, 3), all.subspan(9, 3)};
    const auto refused = [&](auto&& call, std::initializer_list<const char*> parts) {
        test::check_refused(call, parts);
        CHECK(std::all_of(out.begin(), out.end(), [](float v) { return v == 77.0F; }));
        CHECK(std::all_of(numbers.begin(), numbers.end(), [](double v) { return v == 77.0; }));
    };
    const std::span<const float> z(l.z);
    const std::span<const float> w(l.w);
    const std::span out_w = std::span(out).first(l.w.size());
    // Every function that takes a batch_norm.
    const auto each = [&](auto&& spoil, const char* what, const char* allowed) {
        batch_norm n = l.norm(false);
        spoil(n);
        refused([&] { fold_weights(w, 1, n, out_w); }, {"fold_weights: ", what, allowed});
        refused([&] { fold_weights_backward(w, w, 1, n, out_w, grads.gamma); },
                {"fold_weights_backward: ", what, allowed});
        refused([&] { batch_norm_forward(z, n, out); }, {"batch_norm_forward: ", what, allowed});
        refused([&] { batch_norm_backward(z, z, n, grads, out); }, {"batch_norm_backward: ", what, allowed});
    };
    const std::vector<double> negative{1, -1, 1};
    const std::vector<float> two(2);
    for (const double bad : {0.0, -1.0, static_cast<double>(HUGE_VALF), std::nan("")})
        each([&](batch_norm& n) { n.epsilon = bad; }, "epsilon is ", "finite numbers > 0");
    each([&](batch_norm& n) { n.moving_variance = negative; }, "moving_variance[1] is -1", "numbers >= 0");
    each([&](batch_norm& n) { n.batch_variance = negative; }, "batch_variance[1] is -1", "numbers >= 0");
    each([&](batch_norm& n) { n.batch_mean = {}; }, "batch_mean.size() is 0", "exactly 3");
    each([&](batch_norm& n) { n.gamma = two; }, "gamma.size() is 2", "exactly 3");
    each([&](batch_norm& n) { n.beta = two; }, "beta.size() is 2", "exactly 3");
    each([&](batch_norm& n) { n.moving_mean = {}; }, "number of channels is 0", "1 or more");
    each(
        [&](batch_norm& n) {
            n.moving_variance = {static_cast<const double*>(nullptr), 3};
        },
        "moving_variance.data() is null", "an address");

    const batch_norm n = l.norm(false);
    refused([&] { fold_weights(w, 0, n, out_w); }, {"fold_weights: inner is 0"});
    refused([&] { fold_weights(w.first(5), 1, n, std::span(out).first(5)); }, {"size is 5", "3 * 1"});
    refused([&] { fold_weights(w, 1, n, out); }, {"folded.size() is 12", "exactly 6"});
    refused([&] { fold_weights(std::span(out).first(6), 1, n, std::span(out).subspan(1, 6)); },
            {"folded is memory that overlaps"});
    refused([&] { fold_weights_backward(out_w, w, 1, n, out_w, grads.gamma); },
            {"grad_weights is memory that overlaps"});
    refused([&] { fold_weights_backward(w, w, 1, n, out_w, grads.gamma.first(2)); }, {"grad_gamma.size() is 2"});
    refused([&] { fold_bias(n, std::span(out).first(2)); }, {"fold_bias: bias.size() is 2"});
    refused([&] { batch_norm_forward(z.first(11), n, std::span(out).first(11)); }, {"size is 11", "channels = 3"});
    refused([&] { batch_norm_forward(z, n, std::span(out).first(9)); }, {"y.size() is 9", "exactly 12"});
    refused([&] { batch_norm_backward(z, z.first(3), n, grads, out); }, {"grad_y.size() is 3"});
    refused(
        [&] {
            batch_norm_backward(z, z, n, {grads.gamma, grads.beta, grads.batch_mean, {}}, out);
        },
        {"grads.batch_variance.size() is 0"});
    refused([&] { batch_norm_backward(out, z, n, grads, out); }, {"grad_u is memory that overlaps"});
    refused([&] { batch_moments(z, all.first(5), all.last(5)); }, {"batch_moments: size is 12", "channels = 5"});
    refused([&] { batch_moments(z, all.first(0), all.first(0)); }, {"number of channels is 0"});
    refused([&] { batch_moments(z, all.first(3), all.first(2)); }, {"variance.size() is 2"});
    refused([&] { batch_moments(z, all.first(3), all.subspan(1, 3)); }, {"variance is memory that overlaps"});
    refused([&] { batch_moments_backward(z, grads.gamma, grads.beta, grads.beta.first(1), out); },
            {"batch_moments_backward: grad_variance.size() is 1"});
    refused([&] { batch_moments_backward(z, grads.gamma, grads.beta, grads.beta, std::span(out).first(3)); },
            {"grad_x.size() is 3"});
    // Frozen, the batch's moments are not read.
    batch_norm frozen = l.norm(true);
    frozen.batch_mean = {};
    frozen.batch_variance = negative;
    CHECK_NOTHROW(batch_norm_forward(z, frozen, out));
}
