// The certificate: worst cases that inputs reach and none exceeds, overflow that is refused, and float32 training that
// gives the integers' bits where it says so.
#include <algorithm>
#include <cmath>

#include <po2quant/reference/fake_quantize.hpp>
#include <po2quant/training/quantize.hpp>
#include <po2quant/training/quantize_bias.hpp>
#include <po2quant/training/range.hpp>

#include "inference/kernels.hpp"
#include "inference/random_layers.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace po2quant::test {
namespace {

constexpr int e7[] = {-7};
constexpr rounding deterministic[] = {rounding::half_up, rounding::half_even, rounding::half_away, rounding::floor};

conv2d one_output(const std::vector<std::int8_t>& weights, const bias_codes& bias, const requantization& q) {
    return make_layer(fully_connected_shape(1, static_cast<std::int64_t>(weights.size()), 1), weights, bias, q);
}

/// Calls visit(input) with every vector of n codes of a format.
template <class Visit>
void for_each_input(std::size_t n, integer_format format, Visit visit) {
    std::vector<std::int8_t> input(n, static_cast<std::int8_t>(format.qmin()));
    for (;;) {
        visit(input);
        std::size_t i = 0;
        while (i < n && input[i] == format.qmax()) input[i++] = static_cast<std::int8_t>(format.qmin());
        if (i == n) return;
        ++input[i];
    }
}

TEST_CASE("the worst sum over all inputs and all orders of summation is the certified one") {
    random_source random;
    for (int round = 0; round < 60; ++round) {
        std::vector<std::int8_t> weights(static_cast<std::size_t>(random.integer(1, 4)));
        fill(weights, random);
        std::vector<std::int32_t> bias{static_cast<std::int32_t>(random.integer(-300, 300))};
        const bool has_bias = random.integer(0, 3) != 0;
        const int bias_exponents[] = {static_cast<int>(random.integer(-14, -8))};
        const integer_format format{.bits = static_cast<int>(random.integer(2, 3)),
                                    .narrow_range = random.integer(0, 1) == 1};
        const requantization q{.input_exponent = -4,
                               .weight_exponents = e7,
                               .bias_exponents = bias_exponents,
                               .output_exponent = static_cast<int>(random.integer(-13, -3)),
                               .mode = random.one_of(deterministic),
                               .input_format = format};
        const conv2d layer = one_output(weights, has_bias ? bias_codes(bias) : bias_codes(), q);
        // Whatever the order, what has been summed at some time is some of the terms; each choice of them is met.
        const auto aligned = static_cast<std::int64_t>(std::floor(std::ldexp(bias[0], bias_exponents[0] + 11)));
        const int shift = q.output_exponent + 11;
        std::int64_t worst = 0;
        for_each_input(weights.size(), format, [&](const std::vector<std::int8_t>& input) {
            std::vector<std::int64_t> terms;
            for (std::size_t i = 0; i < weights.size(); ++i) terms.push_back(input[i] * weights[i]);
            if (has_bias) terms.push_back(aligned);
            if (q.mode == rounding::half_up && shift > 0) terms.push_back(std::int64_t{1} << (shift - 1));
            for (std::size_t chosen = 0; chosen < std::size_t{1} << terms.size(); ++chosen) {
                std::int64_t sum = 0;
                for (std::size_t i = 0; i < terms.size(); ++i) sum += (chosen >> i & 1) ? terms[i] : 0;
                worst = std::max(worst, std::abs(sum));
            }
        });
        const certificate& proof = layer.certificate();
        CHECK(proof.worst == worst);
        CHECK(proof.magnitude == std::vector<std::int64_t>{worst});
        CHECK(proof.int32_safe);
        // The fewest bits that hold ±worst.
        CHECK(worst < std::int64_t{1} << (proof.bits - 1));
        CHECK((worst == 0 || worst >= std::int64_t{1} << (proof.bits - 2)));
    }
}

TEST_CASE("inputs reach the certified sums in the kernels, channel by channel") {
    random_source random;
    for (int round = 0; round < 60; ++round) {
        // One image per channel and sign: the whole image is under the kernel, each code at the end that helps.
        conv2d_shape s{.input = {.height = random.integer(1, 4),
                                 .width = random.integer(1, 4),
                                 .channels = random_channels(random)},
                       .outputs = random.integer(1, 20)};
        s.window.kernel = {s.input.height, s.input.width};
        s.input.batch = 2 * s.outputs;
        std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()));
        fill(weights, random);
        std::vector<std::int32_t> bias(static_cast<std::size_t>(s.outputs));
        for (auto& b : bias) b = static_cast<std::int32_t>(random.integer(-2000000, 2000000));
        const int bias_exponents[] = {-11};
        const requantization q{.input_exponent = -4,
                               .weight_exponents = e7,
                               .bias_exponents = bias_exponents,
                               .output_exponent = -4,
                               .mode = rounding::floor};
        const conv2d layer = make_layer(s, weights, bias, q);
        const auto outputs = static_cast<std::size_t>(s.outputs);
        std::vector<std::int8_t> input;
        for (std::size_t image = 0; image < 2 * outputs; ++image)
            for (std::size_t i = image / 2; i < weights.size(); i += outputs)
                input.push_back((weights[i] > 0) == (image % 2 == 0) ? std::int8_t{127} : std::int8_t{-128});
        std::vector<std::int32_t> sums(2 * outputs * outputs);
        layer.accumulate(input, sums);
        for (std::size_t o = 0; o < outputs; ++o) {
            const std::int64_t high = sums[2 * o * outputs + o];
            const std::int64_t low = sums[(2 * o + 1) * outputs + o];
            // A bias that helps is in the worst sum; one that does not is not: the products alone come first.
            CHECK(layer.certificate().magnitude[o] ==
                  std::max(high - std::min(bias[o], 0), std::max(bias[o], 0) - low));
        }
    }
}

TEST_CASE("layers that could overflow int32 are refused, and no others") {
    const auto refused = [](const std::vector<std::int8_t>& weights, const bias_codes& bias, int bias_exponent,
                            integer_format input = int8) {
        const int bias_exponents[] = {bias_exponent};
        const requantization q{.input_exponent = -4,
                               .weight_exponents = e7,
                               .bias_exponents = bias_exponents,
                               .output_exponent = -11,
                               .input_format = input};
        try {
            return !one_output(weights, bias, q).certificate().int32_safe;
        } catch (const std::invalid_argument&) {
            check_refused([&] { one_output(weights, bias, q); }, {"conv2d", "worst accumulator of output channel 0",
                                                                  "below 2^31", "weights", "bias", "input_format"});
            return true;
        }
    };
    const auto all = [](std::size_t n, int w) { return std::vector<std::int8_t>(n, static_cast<std::int8_t>(w)); };
    const std::vector<std::int32_t> none{};
    // 131072 · 128 · 128 = 2^31, one code less is below.
    CHECK(refused(all(131072, -128), none, 0));
    CHECK_FALSE(refused(all(131071, -128), none, 0));
    CHECK_FALSE(refused(all(131072, 127), none, 0));
    // 512 · 32768 · 128 = 2^31
    CHECK(refused(all(512, -128), none, 0, int16));
    CHECK_FALSE(refused(all(511, -128), none, 0, int16));
    // With a bias: 127 + 2^31 − 128 is the last that fits.
    const auto highest = std::numeric_limits<std::int32_t>::max();
    const auto lowest = std::numeric_limits<std::int32_t>::min();
    const auto bias = [](std::int32_t b) { return std::vector<std::int32_t>{b}; };
    CHECK_FALSE(refused(all(1, 1), bias(highest - 127), -11));
    CHECK(refused(all(1, 1), bias(highest - 126), -11));
    CHECK_FALSE(refused(all(1, 1), bias(lowest + 129), -11));
    CHECK(refused(all(1, 1), bias(lowest + 128), -11));
    // Biases of every distance to the sums' grid: fits iff b · 2^distance + 127 does.
    for (int distance = -50; distance <= 100; ++distance)
        for (const std::int32_t b : {0, 1, -1, 5, -7, 32767, -32768, highest - 127, lowest + 129, highest, lowest}) {
            CAPTURE(distance, b);
            const long double aligned = std::floor(std::ldexp(static_cast<long double>(b), distance));
            const long double worst = aligned < 0 ? 128 - aligned : 127 + aligned;
            CHECK(refused(all(1, 1), bias(b), distance - 11) == (worst >= 0x1p31L));
        }
    // The message counts channels.
    const std::vector<std::int32_t> third{1, 2, highest};
    check_refused(
        [&] {
            make_layer(fully_connected_shape(1, 1, 3), all(3, 1), third,
                       {.input_exponent = -4, .weight_exponents = e7, .bias_exponents = e7, .output_exponent = -4});
        },
        {"output channel 2", std::to_string((std::int64_t{highest} << 4) + 127 + 64).c_str()});
}

// ---- training equals deployment ----

/// What training does with tensors that are on their grids already: a float32 convolution, the bias added in float32,
/// the activation, fake quantization. Terms are summed in an order of chance.
std::vector<float> float_forward(const conv2d_shape& s, const std::vector<float>& input,
                                 const std::vector<float>& weights, const std::vector<float>& bias, activation clamp,
                                 random_source& random) {
    const nhwc out = s.output();
    const window2d& w = s.window;
    std::vector<float> y;
    std::vector<float> terms;
    for (std::int64_t n = 0; n < out.batch; ++n)
        for (std::int64_t oy = 0; oy < out.height; ++oy)
            for (std::int64_t ox = 0; ox < out.width; ++ox)
                for (std::int64_t o = 0; o < s.outputs; ++o) {
                    terms.clear();
                    for (std::int64_t i = o; i < s.weights(); i += s.outputs) {
                        const std::int64_t c =
                            i / s.outputs % s.group_inputs() + o / s.group_outputs() * s.group_inputs();
                        const std::int64_t tap = i / s.outputs / s.group_inputs();
                        const std::int64_t iy =
                            oy * w.stride.height - w.padding.top + tap / w.kernel.width * w.dilation.height;
                        const std::int64_t ix =
                            ox * w.stride.width - w.padding.left + tap % w.kernel.width * w.dilation.width;
                        if (iy < 0 || iy >= s.input.height || ix < 0 || ix >= s.input.width) continue;
                        terms.push_back(input[static_cast<std::size_t>(
                                            ((n * s.input.height + iy) * s.input.width + ix) * s.input.channels + c)] *
                                        weights[static_cast<std::size_t>(i)]);
                    }
                    if (!terms.empty())
                        std::rotate(terms.begin(),
                                    terms.begin() + random.integer(0, static_cast<std::int64_t>(terms.size()) - 1),
                                    terms.end());
                    float sum = 0;
                    for (const float term : terms) sum += term;
                    if (!bias.empty()) sum += bias[static_cast<std::size_t>(o)];
                    if (clamp != activation::none) sum = std::max(sum, 0.0F);
                    if (clamp == activation::relu6) sum = std::min(sum, 6.0F);
                    y.push_back(sum);
                }
    return y;
}

struct trained_and_deployed {
    bool certified;
    bool equal;
};

/// Quantizes float tensors both ways, runs both networks of one layer, and compares their outputs bit for bit.
template <class Input>
trained_and_deployed compare_forward(const conv2d_shape& s, const random_requantization& r, std::vector<float> input,
                                     std::vector<float> weights, std::vector<float> bias, random_source& random) {
    const requantization& q = r.q;
    const quantizer x{.format = q.input_format, .exponent = q.input_exponent};
    const channel_quantizer w{.exponents = q.weight_exponents};
    const channel_quantizer b{.format = int16, .exponents = q.bias_exponents};
    const quantizer y{.format = q.output_format, .exponent = q.output_exponent, .mode = q.mode};
    std::vector<Input> input_codes(input.size());
    std::vector<std::int8_t> weight_codes(weights.size());
    std::vector<std::int16_t> bias_of_layer(bias.size());
    quantize(input, input_codes, x);
    quantize(weights, weight_codes, w);
    quantize(bias, bias_of_layer, b);
    reference::fake_quantize(input, input, x);
    reference::fake_quantize_channels(weights, weights, {.format = w.format}, w.exponents, 1);
    reference::fake_quantize_channels(bias, bias, {.format = b.format}, b.exponents, 1);
    std::vector<float> trained = float_forward(s, input, weights, bias, q.clamp, random);
    reference::fake_quantize(trained, trained, y);
    const conv2d layer = make_layer(s, weight_codes, bias_of_layer, q);
    std::vector<std::int8_t> codes(trained.size());
    layer.run(input_codes, codes);
    bool equal = true;
    for (std::size_t i = 0; i < codes.size(); ++i)
        equal = equal && std::bit_cast<std::uint32_t>(trained[i]) ==
                             std::bit_cast<std::uint32_t>(dequantize(codes[i], q.output_exponent));
    return {layer.certificate().float32_exact, equal};
}

/// Floats around the whole range of codes of a format.
std::vector<float> random_floats(std::int64_t n, int exponent, int bits, random_source& random) {
    std::vector<float> all(static_cast<std::size_t>(n));
    for (float& v : all) v = static_cast<float>(std::ldexp(random.uniform(-1.1, 1.1), exponent + bits - 1));
    return all;
}

template <class Input>
void check_training(random_source& random, int& certified, int& not_certified, int& differing) {
    conv2d_shape s = random_conv2d_shape(random);
    while (s.macs() > 100000) s = random_conv2d_shape(random);
    random_requantization r(random, s.outputs);
    const int input_bits = sizeof(Input) == 2 ? 12 : 8;
    if (sizeof(Input) == 2) r.q.input_format = {.bits = input_bits};
    const std::int64_t outputs = r.bias().empty() ? 0 : s.outputs;
    CAPTURE(s.input.channels, s.outputs, s.window.kernel.height, s.window.kernel.width, r.q.input_exponent,
            r.weight_exponents[0], r.bias_exponents[0], r.q.output_exponent, static_cast<int>(r.q.mode),
            static_cast<int>(r.q.clamp));
    try {
        const trained_and_deployed both =
            compare_forward<Input>(s, r, random_floats(s.input.elements(), r.q.input_exponent, input_bits, random),
                                   random_floats(s.weights(), r.weight_exponents[0], 8, random),
                                   random_floats(outputs, r.bias_exponents[0], 16, random), random);
        if (both.certified) CHECK(both.equal);
        (both.certified ? certified : not_certified) += 1;
        differing += !both.certified && !both.equal;
    } catch (const std::invalid_argument& error) {
        CHECK(std::string(error.what()).find("worst accumulator") != std::string::npos);
    }
}

TEST_CASE("where the certificate says so, float32 training and integers give the same bits") {
    random_source random;
    int certified = 0;
    int not_certified = 0;
    int differing = 0;
    for (int round = 0; round < (full() ? 20000 : 2400); ++round) {
        check_training<std::int8_t>(random, certified, not_certified, differing);
        check_training<std::int16_t>(random, certified, not_certified, differing);
    }
    CAPTURE(certified, not_certified, differing);
    CHECK(certified > 100);
    // Where it does not, they do differ now and then: the certificate is not idle caution.
    CHECK(not_certified > 100);
    CHECK(differing > 10);
}

/// One output from given floats.
trained_and_deployed compare_one(const std::vector<float>& input, const std::vector<float>& weights,
                                 std::vector<float> bias, int input_exponent, int weight_exponent, int bias_exponent,
                                 int output_exponent, rounding mode) {
    static random_source random;
    random_requantization r(random, 1);
    const int weight_exponents[] = {weight_exponent};
    const int bias_exponents[] = {bias_exponent};
    r.q = {.input_exponent = input_exponent,
           .weight_exponents = weight_exponents,
           .bias_exponents = bias_exponents,
           .output_exponent = output_exponent,
           .mode = mode};
    const auto s = fully_connected_shape(1, static_cast<std::int64_t>(input.size()), 1);
    return compare_forward<std::int8_t>(s, r, input, weights, std::move(bias), random);
}

TEST_CASE("each reason not to certify has a counterexample") {
    // A bias between two accumulators: 1 + 1/2 is 2 by half_even, but the integers' bias is floored to 0. Behind a
    // shift half_up does not see it.
    CHECK_FALSE(compare_one({1}, {1}, {0.5F}, 0, 0, -1, 0, rounding::half_even).certified);
    CHECK_FALSE(compare_one({1}, {1}, {0.5F}, 0, 0, -1, 0, rounding::half_even).equal);
    CHECK_FALSE(compare_one({1}, {1}, {0.5F}, 0, 0, -1, 0, rounding::half_up).equal);
    CHECK_FALSE(compare_one({1}, {1}, {0.5F}, 0, 0, -1, 0, rounding::half_up).certified);
    for (const float x : {-3.0F, -2.0F, -1.0F, 0.0F, 1.0F, 2.0F, 3.0F})
        for (const rounding mode : {rounding::half_up, rounding::floor}) {
            const trained_and_deployed both = compare_one({x}, {1}, {0.5F}, 0, 0, -1, 1, mode);
            CHECK((both.certified && both.equal));
        }

    // Sums of 2^24 and more: half of 3000 odd products pass it, and float32 drops their last bit; then the way back to
    // the codes.
    std::vector<float> weights(3000, 127.0F);
    weights.insert(weights.end(), 3000, -127.0F);
    weights.push_back(1);
    std::vector<float> input(6001, 127.0F);
    input.back() = 3;
    int equal = 0;
    for (int round = 0; round < 8; ++round) {
        const trained_and_deployed both = compare_one(input, weights, {}, 0, 0, 0, 0, rounding::half_up);
        CHECK_FALSE(both.certified);
        equal += both.equal;
    }
    CHECK(equal < 8);

    // Products below float32's smallest: -2^-180 is lost, but its floor is -1.
    CHECK_FALSE(compare_one({-0x1p-90F}, {0x1p-90F}, {}, -90, -90, 0, -100, rounding::floor).equal);
    CHECK_FALSE(compare_one({-0x1p-90F}, {0x1p-90F}, {}, -90, -90, 0, -100, rounding::floor).certified);
    // Products above its largest: inf - inf is no number.
    CHECK_FALSE(compare_one({0x1p90F, 0x1p90F}, {0x1p90F, -0x1p90F}, {}, 90, 90, 0, 0, rounding::half_up).equal);
    CHECK_FALSE(compare_one({0x1p90F, 0x1p90F}, {0x1p90F, -0x1p90F}, {}, 90, 90, 0, 0, rounding::half_up).certified);
}

TEST_CASE("channels of all but zeros beside a bias: refused at their range's exponent, certified at the least one") {
    random_source random;
    for (int round = 0; round < 200; ++round) {
        const auto channels = static_cast<std::size_t>(random.integer(2, 20));
        const int input_exponent = static_cast<int>(random.integer(-12, 2));
        std::vector<float> weights(9 * channels);
        std::vector<float> bias(channels);
        for (float& w : weights) w = random.uniform(-1, 1);
        for (float& b : bias) b = static_cast<float>(std::ldexp(random.uniform(-1, 1), input_exponent + 6));
        bias[0] = static_cast<float>(std::ldexp(random.one_of(std::vector{-1.0, 1.0, 0.7}), input_exponent + 6));
        const auto dead = static_cast<std::size_t>(random.integer(0, 1));  // channel 0, or it and 1
        for (std::size_t i = 0; i < weights.size(); ++i)
            if (i % channels <= dead) weights[i] = i % channels == 0 ? 0.0F : weights[i] * 0x1p-60F;

        std::vector<range> ranges(channels);
        observe_channels(weights, 1, ranges);
        std::vector<int> of_range;
        for (const range& r : ranges) of_range.push_back(exponent_for(r, int8));
        const quantized_bias b = quantize_bias(bias, std::vector<int>(channels, 0));
        std::vector<int> kept = of_range;
        for (std::size_t c = 0; c < channels; ++c)
            kept[c] = std::max(kept[c], least_weight_exponent(dequantize(b.i16[c], b.exponents[0]), input_exponent));
        for (std::size_t c = 2; c < channels; ++c) CHECK(kept[c] == of_range[c]);

        const auto layer_of = [&](const std::vector<int>& exponents) {
            std::vector<std::int8_t> codes(weights.size());
            quantize(weights, codes, channel_quantizer{.format = int8, .exponents = exponents, .inner = 1});
            const requantization q{.input_exponent = input_exponent,
                                   .weight_exponents = exponents,
                                   .bias_exponents = b.exponents,
                                   .output_exponent = input_exponent};
            return depthwise_conv2d({.input = {1, 4, 4, static_cast<std::int64_t>(channels)},
                                     .window = {.kernel = {3, 3}, .padding = {1, 1, 1, 1}}},
                                    codes, b.codes(), q);
        };
        check_refused([&] { layer_of(of_range); }, {"accumulator", "channel 0", "least_weight_exponent"});
        const depthwise_conv2d layer = layer_of(kept);
        CHECK(layer.certificate().float32_exact);
        std::vector<std::int8_t> input(16 * channels);
        std::vector<std::int8_t> output(16 * channels);
        fill(input, random);
        layer.run(input, output);
        const int expected = quantize(dequantize(b.i16[0], b.exponents[0]), {int8, input_exponent});
        for (std::size_t i = 0; i < output.size(); i += channels) CHECK(output[i] == expected);
    }
}

}  // namespace
}  // namespace po2quant::test
