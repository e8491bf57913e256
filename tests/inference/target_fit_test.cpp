// Layers on targets: where everything fits, the target's own arithmetic gives our codes; where not, it says what.
#include <po2quant/inference/target_fit.hpp>

#include <array>

#include <po2quant/reference/saturating_dot.hpp>
#include <po2quant/training/quantize_bias.hpp>

#include "inference/kernels.hpp"
#include "inference/random_layers.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace po2quant::test {
namespace {

/// A fully connected layer of few bits and small exponents, so that it fits now and then.
struct small_layer {
    std::int64_t inputs;
    std::int64_t outputs;
    std::vector<std::int8_t> weights;  // [outputs][inputs]
    std::vector<std::int32_t> bias;
    std::vector<int> weight_exponents;
    std::vector<int> bias_exponents;
    requantization q;

    explicit small_layer(random_source& random) {
        inputs = random.integer(1, 70);
        outputs = random.integer(1, 5);
        weights.resize(static_cast<std::size_t>(inputs * outputs));
        fill(weights, random, {.bits = static_cast<int>(random.integer(2, 8))});
        bias.resize(static_cast<std::size_t>(outputs));
        const std::int64_t most = random.one_of(std::vector<std::int64_t>{0, 100, 127, 4000, 600000});
        for (auto& b : bias) b = static_cast<std::int32_t>(random.integer(-most, most));
        const bool one = random.integer(0, 1) == 0;
        weight_exponents.assign(one ? 1 : static_cast<std::size_t>(outputs), -7);
        if (!one)
            for (int& e : weight_exponents) e = static_cast<int>(random.integer(-9, -7));
        bias_exponents = {static_cast<int>(random.integer(0, 1) == 0 ? -11 : random.integer(-14, -8))};
        q = {.input_exponent = -4,
             .weight_exponents = weight_exponents,
             .bias_exponents = bias_exponents,
             .output_exponent = static_cast<int>(random.integer(-12, 4)),
             .mode = random.integer(0, 1) == 0 ? rounding::half_up : rounding::half_even};
    }
    conv2d make() const {
        return make_layer(fully_connected_shape(1, inputs, outputs), weights, bias, q, weight_layout::ohwi);
    }
    std::span<const std::int8_t> row(std::int64_t o) const {
        return std::span(weights).subspan(static_cast<std::size_t>(o * inputs), static_cast<std::size_t>(inputs));
    }
    int shift(std::int64_t o) const {
        return q.output_exponent - q.input_exponent -
               detail::per_channel(q.weight_exponents, static_cast<std::size_t>(o));
    }
    std::int64_t aligned(std::int64_t o) const {
        return align_bias(bias[static_cast<std::size_t>(o)], bias_exponents[0], q.output_exponent - shift(o));
    }
};

int held(std::int64_t v) { return static_cast<int>(std::max<std::int64_t>(-128, std::min<std::int64_t>(127, v))); }

/// The ESP32-S3: 20 bits that saturate, then half up, or a left shift.
int on_esp32_s3(const small_layer& layer, std::span<const std::int8_t> input, std::int64_t o) {
    const std::int64_t sum =
        reference::saturating_dot(input, layer.row(o), static_cast<std::int32_t>(layer.aligned(o)));
    const int s = layer.shift(o);
    return held(s <= 0 ? sum * (1 << -s) : ((sum >> (s - 1)) + 1) >> 1);
}

/// CMSIS-NN and NNoM: the bias as a code of 8 bits and a left shift.
int on_cmsis(const small_layer& layer, std::span<const std::int8_t> input, std::int64_t o) {
    std::int64_t code = layer.aligned(o);
    int bias_shift = 0;
    while (code != 0 && code % 2 == 0) {
        code /= 2;
        ++bias_shift;
    }
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < input.size(); ++i) sum += input[i] * layer.row(o)[i];
    return requantize_q7(sum, static_cast<std::int8_t>(code), {.bias = bias_shift, .out = layer.shift(o)});
}

TEST_CASE("a layer that fits the ESP32-S3, CMSIS-NN or NNoM has their integers") {
    random_source random;
    int fitting[3] = {};
    int saturated = 0;
    for (int round = 0; round < 800; ++round) {
        const small_layer layer(random);
        const conv2d ours = layer.make();
        const target_fit fits[] = {fit_target(targets::esp32_s3, ours.certificate(), layer.q, layer.bias),
                                   fit_target(targets::cmsis_q7, ours.certificate(), layer.q, layer.bias),
                                   fit_target(targets::nnom, ours.certificate(), layer.q, layer.bias)};
        for (int t = 0; t < 3; ++t) fitting[t] += fits[t].exact();
        for (int trial = 0; trial < 3; ++trial) {
            std::vector<std::int8_t> input(static_cast<std::size_t>(layer.inputs));
            fill(input, random);
            std::vector<std::int8_t> output(static_cast<std::size_t>(layer.outputs));
            ours.run(input, output);
            for (std::int64_t o = 0; o < layer.outputs; ++o) {
                const int code = output[static_cast<std::size_t>(o)];
                if (fits[0].exact() && on_esp32_s3(layer, input, o) != code) FAIL_CHECK("ESP32-S3, output " << o);
                if (fits[1].exact() && on_cmsis(layer, input, o) != code) FAIL_CHECK("CMSIS-NN, output " << o);
                if (fits[2].exact() && on_cmsis(layer, input, o) != code) FAIL_CHECK("NNoM, output " << o);
                if (!fits[0].accumulators && layer.q.mode == rounding::half_up && layer.shift(o) <= 31)
                    saturated += on_esp32_s3(layer, input, o) != code;
            }
        }
    }
    // All of it happens, or the test would say nothing.
    CHECK(fitting[0] > 20);
    CHECK(fitting[1] > 20);
    CHECK(fitting[2] > fitting[1]);
    CHECK(saturated > 0);
}

constexpr int e7[] = {-7};
constexpr int e11[] = {-11};
constexpr int two_exponents[] = {-7, -8};

requantization plain() {
    return {.input_exponent = -4, .weight_exponents = e7, .bias_exponents = e11, .output_exponent = -4};
}

certificate worst_of(std::initializer_list<std::int64_t> magnitudes) {
    certificate proof;
    proof.magnitude = magnitudes;
    for (const std::int64_t m : magnitudes) proof.worst = std::max(proof.worst, m);
    return proof;
}

TEST_CASE("what does not fit, and where") {
    const std::vector<std::int32_t> bias{100, 100};
    const auto on = [&](const target_preset& target, const certificate& proof, const requantization& q,
                        const std::vector<std::int32_t>& codes) { return fit_target(target, proof, q, codes); };
    const certificate small = worst_of({1000, 2000});
    for (const target_preset* target : targets::all) {
        INFO(target->name);
        requantization q = plain();
        q.mode = target->requantize;
        const target_fit good = on(*target, small, q, bias);
        CHECK(good.exact());
        CHECK(good.channel == -1);
        // Another rounding differs, but not where nothing is shifted out.
        q.mode = q.mode == rounding::half_up ? rounding::half_even : rounding::half_up;
        CHECK(!on(*target, small, q, bias).rounding);
        q.output_exponent = -11;
        CHECK(on(*target, small, q, bias).exact());
        // Outputs finer than sums.
        q.output_exponent = -12;
        CHECK(on(*target, small, q, bias).shifts == target->left_shifts);
        // One exponent per channel.
        q = plain();
        q.mode = target->requantize;
        q.weight_exponents = two_exponents;
        const target_fit channels = on(*target, small, q, {0, 0});
        CHECK(channels.exponents == target->weight_exponents_per_channel);
        CHECK(channels.channel == (target->weight_exponents_per_channel ? -1 : 1));
        // The limit of the sums.
        q = plain();
        const std::int64_t limit = std::int64_t{1} << (target->accumulator_bits - 1);
        CHECK(on(*target, worst_of({0, limit - 1}), q, bias).accumulators);
        const target_fit over = on(*target, worst_of({limit, 0}), q, bias);
        CHECK(!over.accumulators);
        CHECK(over.channel == 0);
        CHECK(!over.exact());
    }
    requantization q = plain();
    q.output_exponent = 21;
    CHECK(!on(targets::esp32_s3, small, q, bias).shifts);
}

TEST_CASE("which biases fit") {
    const auto fits = [](const target_preset& target, std::int32_t code, int exponent) {
        const int exponents[] = {exponent};
        requantization q = plain();
        q.bias_exponents = exponents;
        return fit_target(target, worst_of({0}), q, std::vector<std::int32_t>{code}).bias;
    };
    // 8 bits and a left shift; sums are on 2^-11.
    CHECK(fits(targets::cmsis_q7, 127, -11));
    CHECK(fits(targets::cmsis_q7, -128, -4));
    CHECK(!fits(targets::cmsis_q7, 129, -11));
    CHECK(fits(targets::cmsis_q7, 130, -11));  // 65 · 2
    CHECK(fits(targets::cmsis_q7, 1 << 20, -11));
    CHECK(!fits(targets::cmsis_q7, -257, -11));
    CHECK(fits(targets::nnom, 255, -12));  // floor(255 / 2) = 127, which is what our sums get too
    // 20 bits on the grid of the sums.
    CHECK(fits(targets::esp32_s3, (1 << 19) - 1, -11));
    CHECK(!fits(targets::esp32_s3, 1 << 19, -11));
    CHECK(fits(targets::esp32_s3, -(1 << 19), -11));
    CHECK(!fits(targets::esp32_s3, 1 << 18, -10));
    CHECK(fits(targets::esp32_p4, 1 << 19, -11));
    // 16 bits with any exponent.
    CHECK(fits(targets::tensorflow, 32767, -20));
    CHECK(fits(targets::tensorflow, -32768, 0));
    CHECK(!fits(targets::tensorflow, 32768, -11));
    // No bias always fits.
    CHECK(fit_target(targets::cmsis_q7, worst_of({0}), plain()).exact());
}

TEST_CASE("biases as a target's tools make them fit it") {
    random_source random;
    for (int round = 0; round < 200; ++round) {
        const auto outputs = static_cast<std::size_t>(random.integer(1, 6));
        std::vector<float> bias(outputs);
        for (float& b : bias) b = static_cast<float>(random.uniform(-1, 1));
        for (const target_preset* target : targets::all) {
            INFO(target->name);
            std::vector<int> weights(target->weight_exponents_per_channel ? outputs : 1);
            for (int& e : weights) e = static_cast<int>(random.integer(-9, -5));
            std::vector<int> sums = weights;
            for (int& e : sums) e += -4;
            const quantized_bias b = quantize_bias(bias, sums, bias_quantization_for(*target));
            const requantization q{.input_exponent = -4,
                                   .weight_exponents = weights,
                                   .bias_exponents = b.exponents,
                                   .output_exponent = -4,
                                   .mode = target->requantize};
            certificate proof = worst_of({});
            proof.magnitude.assign(outputs, 1000);
            CHECK(fit_target(*target, proof, q, b.codes()).exact());
        }
    }
}

TEST_CASE("errors: fit_target") {
    const std::vector<std::int32_t> bias{1, 2, 3};
    check_refused(
        [&] {
            static_cast<void>(fit_target(targets::nnom, worst_of({1, 2}), plain(), bias));
        },
        {"fit_target: bias.size() is 3", "2"});
    check_refused([&] { static_cast<void>(fit_target(targets::nnom, {}, plain())); },
                  {"fit_target: number of output channels is 0"});
    requantization q = plain();
    q.weight_exponents = two_exponents;
    check_refused(
        [&] {
            static_cast<void>(fit_target(targets::nnom, worst_of({1, 2, 3}), q));
        },
        {"fit_target: weight_exponents.size() is 2"});
}

TEST_CASE("presets: what is trained is what is deployed, and quantizes as the target does") {
    for (const target_preset* target : targets::all) {
        INFO(target->name);
        CHECK(target->activations == target->requantize);
        CHECK(target->accumulator_bits >= target->bias_bits);
    }
    // Ties as each tool's sources have them, and whether the gradient passes at 127.25, which rounds to 127.
    struct expected {
        const target_preset& target;
        std::array<int, 4> activations;  // of −2.5, −1.5, 1.5, 2.5
        std::array<int, 4> parameters;   // of weights and biases
        bool passes;
    };
    constexpr std::array up{-2, -1, 2, 3};
    constexpr std::array even{-2, -2, 2, 2};
    constexpr std::array away{-3, -2, 2, 3};
    const expected all[] = {{targets::tensorflow, up, up, false}, {targets::graffitist, even, even, true},
                            {targets::esp32_s3, up, up, true},    {targets::esp32_p4, even, even, true},
                            {targets::cmsis_q7, up, even, true},  {targets::nnom, up, even, true},
                            {targets::vitis, up, away, true}};
    REQUIRE(std::size(all) == std::size(targets::all));
    for (const expected& e : all) {
        INFO(e.target.name);
        const auto ties = [](rounding mode) {
            const quantizer q{.exponent = 0, .mode = mode};
            return std::array{quantize(-2.5F, q), quantize(-1.5F, q), quantize(1.5F, q), quantize(2.5F, q)};
        };
        CHECK(ties(e.target.activations) == e.activations);
        CHECK(ties(e.target.weights) == e.parameters);
        CHECK(ties(e.target.bias) == e.parameters);
        const quantizer q{.exponent = 0, .mode = e.target.activations};
        CHECK((fake_quantize_gradient(127.25F, 1.0F, q, e.target.estimator) != 0) == e.passes);
        CHECK(fake_quantize_gradient(127.75F, 1.0F, q, e.target.estimator) == 0);
        CHECK(fake_quantize_gradient(-127.75F, 1.0F, q, e.target.estimator) == 1.0F);
    }
}

}  // namespace
}  // namespace po2quant::test
