// Fused ops give the bits of the ops apart: a convolution with a residual, a depthwise convolution with the 1×1 one
// behind it, and all three.
#include <po2quant/inference/add.hpp>
#include <po2quant/inference/separable_conv2d.hpp>

#include "inference/kernels.hpp"
#include "inference/random_layers.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/guarded_memory.hpp"

namespace po2quant::test {
namespace {

const int e7[] = {-7};
const int e10[] = {-10};

std::vector<std::int8_t> random_codes(random_source& random, std::int64_t n, integer_format format = int8) {
    std::vector<std::int8_t> codes(static_cast<std::size_t>(n));
    fill(codes, random, format);
    return codes;
}

std::vector<std::int32_t> random_bias(random_source& random, std::int64_t n) {
    std::vector<std::int32_t> bias(static_cast<std::size_t>(n));
    for (auto& b : bias) b = static_cast<std::int32_t>(random.integer(-3000, 3000));
    return bias;
}

/// Exponents that leave sums neither all 0 nor all saturated.
requantization layer(random_source& random, integer_format input = int8) {
    return {.input_exponent = -4,
            .weight_exponents = e7,
            .bias_exponents = e10,
            .output_exponent = static_cast<int>(random.integer(-5, -2)),
            .clamp = static_cast<activation>(random.integer(0, 2)),
            .mode = static_cast<rounding>(random.integer(0, 3)),
            .input_format = input};
}

add_quantization residual_of(random_source& random, int exponent) {
    return {.a_exponent = exponent,
            .b_exponent = static_cast<int>(random.integer(-8, 0)),
            .output_exponent = static_cast<int>(random.integer(-6, -1)),
            .clamp = static_cast<activation>(random.integer(0, 2)),
            .mode = static_cast<rounding>(random.integer(0, 3))};
}

/// Runs `fused(input, output, executor)` between guard pages by every executor and compares with what is wanted.
template <class Fused>
void compare(const std::vector<std::int8_t>& input, const std::vector<std::int8_t>& want, random_source& random,
             Fused fused) {
    guarded_memory in_memory(input.size() + 64);
    guarded_memory out_memory(want.size() + 64);
    for (const test_executor& executor : {random_executor(random), executors().back()}) {
        const edge side = random.one_of(edges);
        const auto in = in_memory.buffer<std::int8_t>(input.size(), side);
        std::copy(input.begin(), input.end(), in.begin());
        const auto out = out_memory.buffer<std::int8_t>(want.size(), side);
        fused(in, out, executor);
        CHECK(std::equal(out.begin(), out.end(), want.begin()));
        CHECK(out_memory.untouched_outside(out));
    }
}

TEST_CASE("conv2d::run_add equals run and add") {
    random_source random;
    for (int round = 0; round < 300; ++round) {
        const conv2d_shape s = random_conv2d_shape(random);
        const auto weights = random_codes(random, s.weights());
        const auto bias = random_bias(random, s.outputs);
        const requantization q = layer(random);
        const conv2d op = make_layer(s, weights, bias, q);
        const auto input = random_codes(random, s.input.elements());
        const auto residual = random_codes(random, s.output().elements());
        const add_quantization sum = residual_of(random, q.output_exponent);
        std::vector<std::int8_t> want(residual.size());
        op.run(input, want);
        add(want, residual, want, sum);
        CAPTURE(s.input.height, s.input.width, s.input.channels, s.outputs, s.groups, s.window.kernel.height,
                s.window.kernel.width);
        compare(input, want, random,
                [&](auto in, auto out, const auto& executor) { op.run_add(in, residual, out, sum, executor); });
    }
}

/// A separable block and its ops apart.
void check_separable(random_source& random, const depthwise_conv2d_shape& d) {
    const nhwc between = d.output();
    const conv2d_shape p{.input = between, .outputs = random_channels(random)};
    const auto depthwise_weights = random_codes(random, d.weights());
    const auto depthwise_bias = random_bias(random, d.outputs());
    requantization q = layer(random);
    const bool positive = random.integer(0, 1) == 1;
    if (positive) q.clamp = activation::relu;
    const depthwise_conv2d first = make_layer(d, depthwise_weights, depthwise_bias, q);
    const auto weights = random_codes(random, p.weights());
    const auto bias = random_bias(random, p.outputs);
    requantization last = layer(random, positive ? uint7 : int8);
    last.input_exponent = q.output_exponent;
    last.output_exponent = q.output_exponent + static_cast<int>(random.integer(0, 3));
    const conv2d second = make_layer(p, weights, bias, last);

    const auto input = random_codes(random, d.input.elements());
    std::vector<std::int8_t> middle(static_cast<std::size_t>(between.elements()));
    std::vector<std::int8_t> want(static_cast<std::size_t>(p.output().elements()));
    first.run(input, middle);
    second.run(middle, want);
    CAPTURE(d.input.batch, d.input.height, d.input.width, d.input.channels, d.multiplier, d.window.kernel.height,
            d.window.kernel.width, d.window.stride.width, p.outputs);
    const separable_conv2d op(first, second);
    CHECK(op.output() == p.output());
    compare(input, want, random, [&](auto in, auto out, const auto& executor) { op.run(in, out, executor); });
    const auto residual = random_codes(random, p.output().elements());
    const add_quantization sum = residual_of(random, last.output_exponent);
    add(want, residual, want, sum);
    compare(input, want, random,
            [&](auto in, auto out, const auto& executor) { op.run_add(in, residual, out, sum, executor); });
}

TEST_CASE("separable_conv2d equals its ops: strips of one task, random geometry") {
    random_source random;
    for (int round = 0; round < 300; ++round) check_separable(random, random_walked_shape(random));
}

TEST_CASE("separable_conv2d equals its ops: strips of rows") {
    random_source random;
    for (const std::int64_t channels : {24, 32, 33, 64, 130})
        for (const std::int64_t stride : {1, 2}) {
            depthwise_conv2d_shape d{.input = {random.integer(1, 2), 61, 57, channels},
                                     .window = {.kernel = {3, 3}, .stride = {stride, stride}}};
            d.window.padding = same_padding(d.input, d.window);
            check_separable(random, d);
        }
}

TEST_CASE("separable_conv2d equals its ops: rows that are cut") {
    random_source random;
    for (const std::int64_t channels : {33, 48, 64, 250})
        for (const std::int64_t multiplier : {1, 2}) {
            depthwise_conv2d_shape d{.input = {1, 3, 65536 / channels * 2 + random.integer(0, 90), channels},
                                     .multiplier = multiplier,
                                     .window = {.kernel = {3, 3}, .padding = {1, 1, 1, 1}}};
            check_separable(random, d);
        }
}

TEST_CASE("fused ops refuse what does not fit together") {
    random_source random;
    const depthwise_conv2d_shape d{.input = {1, 6, 5, 8}, .window = {.kernel = {3, 3}, .padding = {1, 1, 1, 1}}};
    const auto dw = random_codes(random, d.weights());
    const requantization q{.input_exponent = -4, .weight_exponents = e7, .output_exponent = -3};
    const depthwise_conv2d first = make_layer(d, dw, {}, q);
    const auto second = [&](auto change) {
        conv2d_shape s{.input = d.output(), .outputs = 12};
        requantization r{.input_exponent = -3, .weight_exponents = e7, .output_exponent = -2};
        change(s, r);
        const auto weights = random_codes(random, s.weights());
        return make_layer(s, weights, {}, r);
    };
    const auto refused = [&](auto change, std::initializer_list<const char*> parts) {
        const conv2d pointwise = second(change);
        check_refused([&] { separable_conv2d(first, pointwise); }, parts);
    };
    using S = conv2d_shape;
    using R = requantization;
    refused([](S& s, R&) { s.window.kernel = {1, 2}; }, {"separable_conv2d", "1x1"});
    refused([](S& s, R&) { s.window.stride = {2, 1}; }, {"separable_conv2d", "stride 1"});
    refused([](S& s, R&) { s.groups = 2; }, {"separable_conv2d", "1 group"});
    refused([](S&, R& r) { r.input_format = int16; }, {"separable_conv2d", "int8"});
    refused([](S& s, R&) { s.input.width = 6; }, {"1x6x6x8", "1x6x5x8"});
    refused([](S&, R& r) { r.input_exponent = -4; }, {"input_exponent is -4", "-3"});
    refused([](S&, R& r) { r.input_format = uint7; }, {"input_format", "-128..127"});
    {
        const depthwise_conv2d_shape wide{.input = {1, 1, 1, 65536}};
        const auto weights = random_codes(random, wide.weights());
        const conv2d_shape s{.input = wide.output(), .outputs = 1};
        const std::vector<std::int8_t> one(static_cast<std::size_t>(s.weights()), 1);
        requantization r = q;
        r.input_exponent = -3;
        check_refused([&] { separable_conv2d(make_layer(wide, weights, {}, q), make_layer(s, one, {}, r)); },
                      {"separable_conv2d", "65536", "65408"});
    }

    const separable_conv2d op(first, second([](S&, R&) {}));
    const auto input = random_codes(random, d.input.elements());
    std::vector<std::int8_t> output(static_cast<std::size_t>(op.output().elements()), 77);
    std::vector<std::int8_t> residual(output.size());
    const add_quantization good{.a_exponent = -2, .b_exponent = -3, .output_exponent = -2};
    using bytes = std::span<std::int8_t>;
    check_refused([&] { op.run(bytes(residual).first(3), output); }, {"separable_conv2d", "input"});
    check_refused([&] { op.run(input, bytes(output).first(3)); }, {"separable_conv2d", "output"});
    check_refused([&] { op.run_add(input, bytes(residual).first(3), output, good); }, {"residual"});
    check_refused([&] { op.run_add(input, output, output, good); }, {"output", "overlaps"});
    add_quantization bad = good;
    bad.a_exponent = -3;
    check_refused([&] { op.run_add(input, residual, output, bad); }, {"a_exponent is -3", "output_exponent, -2"});
    check_refused([&] { op.pointwise().run_add(residual, residual, output, bad); }, {"conv2d", "a_exponent"});
    CHECK(output == std::vector<std::int8_t>(output.size(), 77));
}

}  // namespace
}  // namespace po2quant::test
