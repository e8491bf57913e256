// conv2d, depthwise_conv2d and fully_connected against their specification, bit for bit, on this executable's
// instruction set.
#include "inference/kernels.hpp"
#include "inference/random_layers.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/guarded_memory.hpp"

namespace po2quant::test {

namespace {

struct expected {
    std::vector<std::int32_t> sums;
    std::vector<std::int8_t> codes;
    explicit expected(const nhwc& shape) : sums(static_cast<std::size_t>(shape.elements())), codes(sums.size()) {}
};

/// Runs a layer between guard pages, at either end, at any alignment, and compares codes and sums.
template <class Layer, class Input>
void compare(const Layer& layer, const std::vector<Input>& input, const expected& want, random_source& random) {
    const std::size_t n = want.codes.size();
    guarded_memory in_memory(input.size() * sizeof(Input) + 64);
    guarded_memory out_memory(n * 4 + 64);
    for (const edge side : edges) {
        const auto gap = random.integer(0, 2) == 0 ? static_cast<std::size_t>(random.integer(0, 15)) : 0;
        const test_executor executor = random_executor(random);
        const auto in = in_memory.buffer<Input>(input.size(), side, gap);
        std::copy(input.begin(), input.end(), in.begin());
        const auto codes = out_memory.buffer<std::int8_t>(n, side, gap);
        layer.run(std::span<const Input>(in), codes, executor);
        CHECK(std::equal(codes.begin(), codes.end(), want.codes.begin()));
        CHECK(out_memory.untouched_outside(codes));
        const auto sums = out_memory.buffer<std::int32_t>(n, side, gap);
        layer.accumulate(std::span<const Input>(in), sums, executor);
        CHECK(std::equal(sums.begin(), sums.end(), want.sums.begin()));
        CHECK(out_memory.untouched_outside(sums));
        CHECK(std::equal(in.begin(), in.end(), input.begin()));
    }
}

/// Calls make(weights) with weights that touch a guard page. What could overflow must be refused, all else be certified
/// with the worst sums that are expected.
template <class Make, class Run>
bool build(const std::vector<std::int8_t>& weights, const std::vector<long double>& worst, random_source& random,
           Make make, Run run) {
    guarded_memory memory(weights.size());
    const auto packed = memory.buffer<std::int8_t>(weights.size(), random.one_of(edges));
    std::copy(weights.begin(), weights.end(), packed.begin());
    if (*std::max_element(worst.begin(), worst.end()) >= 0x1p31L) {
        check_refused([&] { make(packed); }, {"conv2d", "worst accumulator of output channel", "below 2^31"});
        return false;
    }
    const auto layer = make(packed);
    CHECK(std::string(layer.arch()) == default_arch::name);
    CHECK(std::equal(worst.begin(), worst.end(), layer.certificate().magnitude.begin(),
                     layer.certificate().magnitude.end()));
    run(layer);
    return true;
}

const int rounds = full() ? 20000 : 1500;

template <class Input>
bool check_conv2d(random_source& random, const conv2d_shape& s) {
    const auto layout = static_cast<weight_layout>(random.integer(0, 2));
    std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()));
    fill(weights, random);
    random_requantization r(random, s.outputs);
    if (sizeof(Input) == 2) r.q.input_format = {.bits = static_cast<int>(random.integer(9, 16))};
    std::vector<Input> input(static_cast<std::size_t>(s.input.elements()));
    fill(input, random, r.q.input_format);
    CAPTURE(s.input.batch, s.input.height, s.input.width, s.input.channels, s.outputs, s.groups, s.window.kernel.height,
            s.window.kernel.width, s.window.dilation.height, s.window.dilation.width, static_cast<int>(r.q.mode),
            r.q.output_exponent);
    const auto own = in_layout(layout, s.window.kernel, s.group_inputs(), s.outputs, weights);
    const auto make = [&](std::span<const std::int8_t> w) { return make_layer(s, w, r.bias(), r.q, layout); };
    return build(own, worst_sums(s, weights, r.q, r.bias()), random, make, [&](const conv2d& layer) {
        expected want(s.output());
        reference::conv2d_sums<Input>(s, input, weights, r.bias(), r.q, weight_layout::hwio, want.sums);
        reference::requantize_sums(want.sums, want.codes, s.outputs, r.q);
        compare(layer, input, want, random);
    });
}

TEST_CASE("conv2d equals the reference: int8 inputs") {
    random_source random;
    int compared = 0;
    for (int round = 0; round < rounds; ++round)
        compared += check_conv2d<std::int8_t>(random, random_conv2d_shape(random));
    CHECK(compared > rounds / 2);
}

TEST_CASE("conv2d equals the reference: lines of 1 to 50 pixels, blocks of 1 to 4 registers") {
    random_source random;
    const std::int64_t lanes = layers.conv2d.lanes;
    int compared = 0;
    for (std::int64_t pixels = 1; pixels <= 50; ++pixels)
        for (std::int64_t registers = 1; registers <= 4; ++registers) {
            // Along a row and down a column; runs of less than a step of codes, of one, and of more.
            const bool row = random.integer(0, 1) != 0;
            const conv2d_shape s{.input = {1, row ? 1 : pixels, row ? pixels : 1, random.integer(1, 9)},
                                 .outputs = registers * lanes - random.integer(0, lanes - 1)};
            compared += check_conv2d<std::int8_t>(random, s);
        }
    CHECK(compared > 150);
}

TEST_CASE("conv2d equals the reference: int16 inputs") {
    random_source random;
    int compared = 0;
    for (int round = 0; round < rounds / 2; ++round)
        compared += check_conv2d<std::int16_t>(random, random_conv2d_shape(random));
    CHECK(compared > rounds / 8);
}

TEST_CASE("fully_connected equals the reference") {
    random_source random;
    for (int round = 0; round < rounds / 10; ++round) {
        const conv2d_shape s =
            fully_connected_shape(random.integer(1, 20), random.integer(1, 300), random_channels(random));
        CHECK((s.input == nhwc{s.input.batch, 1, 1, s.input.channels} && s.window.kernel == extent2d{1, 1} &&
               s.groups == 1));
        check_conv2d<std::int8_t>(random, s);
        // Its weights [outputs][inputs] are both ohwi and oihw.
        std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()));
        std::vector<std::int8_t> input(static_cast<std::size_t>(s.input.elements()));
        fill(weights, random);
        fill(input, random);
        const int exponents[] = {-7};
        const requantization q{.input_exponent = -4, .weight_exponents = exponents, .output_exponent = -3};
        std::vector<std::int32_t> sums(static_cast<std::size_t>(s.output().elements()));
        for (const weight_layout layout : {weight_layout::ohwi, weight_layout::oihw}) {
            const fully_connected layer(s.input.batch, s.input.channels, s.outputs, weights, {}, q, layout,
                                        layers.conv2d);
            layer.accumulate(input, sums);
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < sums.size(); ++i) {
                const auto inputs = static_cast<std::size_t>(s.input.channels);
                const auto outputs = static_cast<std::size_t>(s.outputs);
                std::int32_t sum = 0;
                for (std::size_t c = 0; c < inputs; ++c)
                    sum += input[i / outputs * inputs + c] * weights[i % outputs * inputs + c];
                wrong += sum != sums[i];
            }
            CHECK(wrong == 0);
        }
    }
}

TEST_CASE("depthwise_conv2d equals the reference") {
    random_source random;
    int compared = 0;
    for (int round = 0; round < rounds; ++round) {
        const depthwise_conv2d_shape s = random_walked_shape(random);
        const auto layout = static_cast<weight_layout>(random.integer(0, 2));
        std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()));
        fill(weights, random);
        random_requantization r(random, s.outputs());
        std::vector<std::int8_t> input(static_cast<std::size_t>(s.input.elements()));
        fill(input, random, r.q.input_format);
        CAPTURE(s.input.batch, s.input.height, s.input.width, s.input.channels, s.multiplier, s.window.kernel.height,
                s.window.kernel.width, s.window.dilation.height, s.window.dilation.width, static_cast<int>(r.q.mode),
                r.q.output_exponent);
        // A depthwise convolution is one with as many groups as channels, and one input in each.
        const conv2d_shape grouped{s.input, s.outputs(), s.window, s.input.channels};
        const auto own = in_layout(layout, s.window.kernel, 1, s.outputs(), weights);
        const auto make = [&](std::span<const std::int8_t> w) { return make_layer(s, w, r.bias(), r.q, layout); };
        const auto worst = worst_sums(grouped, weights, r.q, r.bias());
        compared += build(own, worst, random, make, [&](const depthwise_conv2d& layer) {
            expected want(s.output());
            reference::depthwise_conv2d_sums(s, input, weights, r.bias(), r.q, weight_layout::hwio, want.sums);
            reference::requantize_sums(want.sums, want.codes, s.outputs(), r.q);
            compare(layer, input, want, random);
            std::vector<std::int32_t> sums(want.sums.size());
            reference::conv2d_sums<std::int8_t>(grouped, input, weights, r.bias(), r.q, weight_layout::hwio, sums);
            CHECK(sums == want.sums);
        });
    }
    CHECK(compared > rounds / 2);
}

}  // namespace
}  // namespace po2quant::test
