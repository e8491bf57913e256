// Certificates channel by channel, by every input there is, and the tables made of them.
#include <po2quant/inference/certificate_report.hpp>

#include <cmath>
#include <limits>

#include "inference/kernels.hpp"
#include "inference/random_layers.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace po2quant::test {
namespace {

constexpr int zero[] = {0};

/// Calls visit(input) with every vector of n codes of a format.
template <class Visit>
void for_each_input(std::size_t n, integer_format format, Visit visit) {
    std::vector<int> input(n, format.qmin());
    for (;;) {
        visit(input);
        std::size_t i = 0;
        while (i < n && input[i] == format.qmax()) input[i++] = format.qmin();
        if (i == n) return;
        ++input[i];
    }
}

/// Fewest bits of two's complement that hold ±magnitude.
int bits_by_search(std::int64_t magnitude) {
    int bits = 1;
    while (magnitude > (std::int64_t{1} << (bits - 1)) - 1) ++bits;
    return bits;
}

TEST_CASE("certify: every channel of small layers, by all inputs") {
    random_source random;
    for (int round = 0; round < 60; ++round) {
        const bool depthwise = random.integer(0, 1) == 1;
        const integer_format format =
            random.one_of(std::vector<integer_format>{int2, int2_narrow, {.bits = 2, .is_signed = false}, {.bits = 3}});
        const auto outputs = static_cast<std::size_t>(random.integer(1, 4));
        const auto taps = static_cast<std::size_t>(random.integer(1, 4));  // inputs of one output
        std::vector<std::int8_t> weights(taps * outputs);
        fill(weights, random);
        std::vector<std::int32_t> bias(outputs);
        for (auto& b : bias) b = static_cast<std::int32_t>(random.integer(-300, 300));
        std::vector<int> weight_exponents(random.integer(0, 1) ? outputs : 1);
        for (int& e : weight_exponents) e = static_cast<int>(random.integer(-3, 3));
        const requantization q{.weight_exponents = weight_exponents,
                               .bias_exponents = zero,
                               .output_exponent = static_cast<int>(random.integer(-4, 6)),
                               .mode = static_cast<rounding>(random.integer(0, 3)),
                               .input_format = format};
        const auto width = static_cast<std::int64_t>(taps);
        const auto channels = static_cast<std::int64_t>(outputs);
        const depthwise_conv2d_shape d{.input = {1, 1, width, channels}, .window = {.kernel = {1, width}}};
        const auto f = fully_connected_shape(1, width, channels);
        const certificate proof = depthwise ? certify(d, weights, bias, q) : certify(f, weights, bias, q);
        const certificate own =
            depthwise ? make_layer(d, weights, bias, q).certificate() : make_layer(f, weights, bias, q).certificate();
        CHECK(proof.magnitude == own.magnitude);
        CHECK(proof.channel_float32_exact == own.channel_float32_exact);
        REQUIRE(proof.channels() == outputs);
        std::int64_t worst = -1;
        std::size_t worst_channel = 0;
        for (std::size_t o = 0; o < outputs; ++o) {
            // The products' extremes over all inputs; the bias and half_up's constant come on top where they make it
            // worse.
            std::int64_t low = 0;
            std::int64_t high = 0;
            for_each_input(taps, format, [&](const std::vector<int>& x) {
                std::int64_t sum = 0;
                for (std::size_t i = 0; i < taps; ++i) sum += x[i] * weights[i * outputs + o];
                low = std::min(low, sum);
                high = std::max(high, sum);
            });
            const int grid = weight_exponents[weight_exponents.size() == 1 ? 0 : o];
            const auto aligned = static_cast<std::int64_t>(std::floor(std::ldexp(bias[o], -grid)));
            const int shift = q.output_exponent - grid;
            low += std::min<std::int64_t>(aligned, 0);
            high += std::max<std::int64_t>(aligned, 0);
            if (q.mode == rounding::half_up && shift > 0) high += std::int64_t{1} << (shift - 1);
            const std::int64_t magnitude = std::max(-low, high);
            CHECK(proof.magnitude[o] == magnitude);
            CHECK(proof.channel_bits(o) == bits_by_search(magnitude));
            CHECK(proof.channel_int32_safe(o));
            if (magnitude > worst) {
                worst = magnitude;
                worst_channel = o;
            }
        }
        CHECK(proof.worst == worst);
        CHECK(proof.worst_channel == worst_channel);
        CHECK(proof.bits == bits_by_search(worst));
    }
}

TEST_CASE("certify: the borders of float32's exact sums and of int32") {
    CHECK(certificate::accumulator_bits(0) == 1);
    for (int k = 0; k < 62; ++k) {
        CHECK(certificate::accumulator_bits(std::int64_t{1} << k) == k + 2);
        CHECK(certificate::accumulator_bits((std::int64_t{1} << k) - 1) == k + 1);
    }
    // 1024 · 128 · 128 = 2^24, one weight of −127 in place of −128 less is below; 131072 · 128 · 128 = 2^31.
    const auto proof = [](std::int64_t inputs, std::int8_t last) {
        std::vector<std::int8_t> weights(static_cast<std::size_t>(2 * inputs), 1);
        for (std::size_t i = 0; i < weights.size(); i += 2) weights[i] = -128;
        weights[weights.size() - 2] = last;
        return certify(fully_connected_shape(1, inputs, 2), weights, {},
                       {.weight_exponents = zero, .mode = rounding::floor});
    };
    const certificate exact = proof(1024, -127);
    CHECK(exact.worst == (1 << 24) - 128);
    CHECK(exact.float32_exact);
    const certificate inexact = proof(1024, -128);
    CHECK(inexact.worst == 1 << 24);
    CHECK(inexact.bits == 26);
    CHECK_FALSE(inexact.float32_exact);
    CHECK(inexact.channel_float32_exact == std::vector<bool>{false, true});
    CHECK(proof(131072, -127).int32_safe);
    CHECK(proof(131072, -127).bits == 32);
    // Refused as a layer, reported as a certificate.
    const certificate unsafe = proof(131072, -128);
    CHECK(unsafe.worst == std::int64_t{1} << 31);
    CHECK(unsafe.bits == 33);
    CHECK_FALSE(unsafe.int32_safe);
    CHECK_FALSE(unsafe.channel_int32_safe(0));
    CHECK(unsafe.channel_int32_safe(1));
    CHECK(unsafe.channel_bits(1) == 26);
    // A bias far beyond everything.
    const std::vector<std::int32_t> bias{std::numeric_limits<std::int32_t>::max()};
    const int far[] = {100};
    const certificate endless = certify(fully_connected_shape(1, 1, 1), std::vector<std::int8_t>{1}, bias,
                                        {.weight_exponents = zero, .bias_exponents = far});
    CHECK_FALSE(endless.int32_safe);
    CHECK(endless.bits > 60);
}

TEST_CASE("certificate_report: the table") {
    certificate conv;
    conv.magnitude = {54864, 7, 100};
    conv.channel_float32_exact = {true, true, true};
    conv.worst = 54864;
    conv.bits = 17;
    certificate large = certify(fully_connected_shape(1, 131072, 2),
                                [] {
                                    std::vector<std::int8_t> w(2 * 131072, 0);
                                    for (std::size_t i = 1; i < w.size(); i += 2) w[i] = -128;
                                    return w;
                                }(),
                                {}, {.weight_exponents = zero, .mode = rounding::floor});
    const certificate_row rows[] = {{"conv1 3×3", conv}, {"fc", large}};
    CHECK(certificate_report(rows) ==
          "layer      channels  worst |acc|  bits  float32 exact  int32 safe  worst channel\n"
          "--------------------------------------------------------------------------------\n"
          "conv1 3×3         3        54864    17            yes         yes              0\n"
          "fc                2   2147483648    33         1 of 2      1 of 2              1\n"
          "--------------------------------------------------------------------------------\n"
          "network           5   2147483648    33         4 of 5      4 of 5             fc\n");
    CHECK(channel_report(large) ==
          "channel  worst |acc|  bits  float32 exact  int32 safe\n"
          "-----------------------------------------------------\n"
          "0                  0     1            yes         yes\n"
          "1         2147483648    33             no          no\n");
    CHECK(certificate_report({}) ==
          "layer    channels  worst |acc|  bits  float32 exact  int32 safe  worst channel\n"
          "------------------------------------------------------------------------------\n"
          "------------------------------------------------------------------------------\n"
          "network         0            0     1            yes         yes              -\n");
}

TEST_CASE("errors: certify and certificate_report") {
    const std::vector<std::int8_t> weights(4, 1);
    const requantization q{.weight_exponents = zero};
    const auto f = fully_connected_shape(1, 2, 2);
    const depthwise_conv2d_shape d{.input = {1, 1, 1, 4}};
    CHECK_NOTHROW(certify(f, weights, {}, q));
    CHECK_NOTHROW(certify(d, weights, {}, q));
    check_refused([&] { static_cast<void>(certify(f, std::span(weights).first(3), {}, q)); },
                  {"certify: weights.size() is 3", "exactly 4"});
    check_refused([&] { static_cast<void>(certify(d, std::span(weights).first(3), {}, q)); },
                  {"certify: weights.size() is 3", "exactly 4"});
    check_refused([&] { static_cast<void>(certify(f, weights, {}, {})); }, {"certify: weight_exponents.size() is 0"});
    check_refused(
        [&] { static_cast<void>(certify(d, weights, {}, {.weight_exponents = zero, .input_format = int16})); },
        {"certify: input_format is signed 16 bits"});
    check_refused([&] { static_cast<void>(certify(f, weights, {}, q, static_cast<weight_layout>(7))); },
                  {"certify: layout is 7"});
    check_refused(
        [&] {
            static_cast<void>(certify(conv2d_shape{.input = {1, 1, 1, 4}, .groups = 3}, weights, {}, q));
        },
        {"certify: groups is 3"});
    check_refused(
        [&] {
            static_cast<void>(certificate_report({static_cast<const certificate_row*>(nullptr), 1}));
        },
        {"certificate_report: rows.data() is null"});
}

}  // namespace
}  // namespace po2quant::test
