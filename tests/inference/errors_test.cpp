// Bad arguments of the inference ops: each is refused with a message that names it, and nothing is written.
#include <po2quant/inference/add.hpp>
#include <po2quant/inference/average_pool.hpp>
#include <po2quant/inference/concat.hpp>
#include <po2quant/inference/max_pool.hpp>

#include "inference/kernels.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace po2quant::test {
namespace {

constexpr int e7[] = {-7};
constexpr int e10[] = {-10};
constexpr int far[] = {-101};
constexpr int three[] = {-7, -7, -7};
constexpr std::int64_t huge = std::int64_t{1} << 30;

std::span<const std::int8_t> null_codes(std::size_t n) { return {static_cast<const std::int8_t*>(nullptr), n}; }

/// Few inputs, an output beyond all memory.
constexpr nhwc wide_input{1, 1, 1 << 18, huge};
constexpr window2d tall_padding{{1024, 1}, {1, 1}, {4096, 1}, {4190208, 4190208, 0, 0}};

/// What every op with a window refuses; `refused(change, parts)` makes an op of a changed {input, window}.
template <class Refused>
void check_windows(Refused refused) {
    using I = nhwc;
    using W = window2d;
    refused([](I& i, W&) { i.batch = 0; }, {"input.batch is 0", "1.."});
    refused([](I& i, W&) { i.height = 0; }, {"input.height is 0", "1.."});
    refused([](I& i, W&) { i.width = -5; }, {"input.width is -5", "1.."});
    refused([](I& i, W&) { i.channels = -3; }, {"input.channels is -3", "1.."});
    refused([](I& i, W&) { i.height = huge + 1; }, {"input.height is 1073741825", "1073741824"});
    refused(
        [](I& i, W&) {
            i = {huge, huge, huge, 4};
        },
        {"input elements", "1073741824 * 1073741824 * 1073741824 * 4", "2^48"});
    refused([](I&, W& w) { w.kernel = {0, 3}; }, {"kernel.height is 0", "1.."});
    refused([](I&, W& w) { w.kernel = {3, -1}; }, {"kernel.width is -1", "1.."});
    refused([](I&, W& w) { w.kernel.width = 4097; }, {"kernel.width is 4097", "4096"});
    refused([](I&, W& w) { w.stride.height = 0; }, {"stride.height is 0", "1.."});
    refused([](I&, W& w) { w.stride.width = -2; }, {"stride.width is -2", "1.."});
    refused([](I&, W& w) { w.dilation.height = 0; }, {"dilation.height is 0", "1.."});
    refused([](I&, W& w) { w.dilation.width = -1; }, {"dilation.width is -1", "1.."});
    refused([](I&, W& w) { w.padding.top = 3; }, {"padding.top is 3", "0..2"});
    refused([](I&, W& w) { w.padding.bottom = -1; }, {"padding.bottom is -1", "0..2"});
    refused([](I&, W& w) { w.dilation.width = 2, w.padding.left = 5; }, {"padding.left is 5", "0..4"});
    refused([](I&, W& w) { w.padding.right = -1; }, {"padding.right is -1", "0..2"});
    refused([](I&, W& w) { w.kernel = {9, 3}; }, {"kernel height", "9", "5"});
    refused([](I&, W& w) { w.dilation.width = 3; }, {"kernel width", "7", "6"});
}

/// What every op with a requantization refuses, of 4 output channels.
template <class Refused>
void check_requantizations(Refused refused, const char* input_bits) {
    using R = requantization;
    refused([](R& r) { r.input_exponent = 101; }, {"input_exponent is 101", "-100..100"});
    refused([](R& r) { r.output_exponent = -101; }, {"output_exponent is -101", "-100..100"});
    refused([](R& r) { r.weight_exponents = {}; }, {"weight_exponents.size() is 0", "1 or", "output channels, 4"});
    refused([](R& r) { r.weight_exponents = three; }, {"weight_exponents.size() is 3", "1 or", "4"});
    refused(
        [](R& r) {
            r.weight_exponents = {static_cast<const int*>(nullptr), 1};
        },
        {"weight_exponents.data() is null"});
    refused([](R& r) { r.weight_exponents = far; }, {"weight_exponents[0] is -101", "-100..100"});
    refused([](R& r) { r.bias_exponents = {}; }, {"bias_exponents.size() is 0", "4"});
    refused([](R& r) { r.bias_exponents = far; }, {"bias_exponents[0] is -101"});
    refused([](R& r) { r.mode = rounding::stochastic; }, {"mode is 4", "0..3"});
    refused([](R& r) { r.clamp = static_cast<activation>(3); }, {"clamp is 3", "0..2"});
    refused([](R& r) { r.input_format = {.bits = 17}; }, {"input_format is signed 17 bits", "2..", input_bits});
    refused([](R& r) { r.input_format = {.bits = 1}; }, {"input_format is signed 1 bits"});
    refused([](R& r) { r.input_format = uint16; }, {"input_format is unsigned 16 bits", "signed"});
    refused([](R& r) { r.output_format = uint8; }, {"output_format is unsigned 8 bits", "signed"});
    refused([](R& r) { r.output_format = int16; }, {"output_format is signed 16 bits", "2..8"});
    refused([](R& r) { r.output_format = {.bits = 0}; }, {"output_format is signed 0 bits"});
}

/// Layers: sizes, null, overlap. `layer` takes `inputs` codes and gives `outputs`.
template <class Layer>
void check_runs(const Layer& layer, const char* name, std::size_t inputs, std::size_t outputs) {
    std::vector<std::int8_t> input(inputs, 1);
    std::vector<std::int8_t> output(outputs, 77);
    std::vector<std::int32_t> sums(outputs, 77);
    const std::span<const std::int8_t> in(input);
    const std::string in_size = "allowed: exactly " + std::to_string(inputs);
    const std::string out_size = "allowed: exactly " + std::to_string(outputs);
    check_refused([&] { layer.run(in.first(5), output); }, {name, "input.size() is 5", in_size.c_str()});
    check_refused([&] { layer.run(in, std::span(output).first(6)); }, {name, "output.size() is 6", out_size.c_str()});
    check_refused([&] { layer.run(in.first(0), output); }, {name, "input.size() is 0"});
    check_refused([&] { layer.run(null_codes(inputs), output); }, {name, "input.data() is null"});
    check_refused([&] { layer.run(in, std::span(static_cast<std::int8_t*>(nullptr), outputs)); },
                  {name, "output.data() is null"});
    check_refused([&] { layer.accumulate(in.first(5), sums); }, {name, "input.size() is 5"});
    check_refused([&] { layer.accumulate(in, std::span(sums).first(6)); },
                  {name, "output.size() is 6", out_size.c_str()});
    std::vector<std::int8_t> both(inputs + outputs, 77);
    check_refused([&] { layer.run(std::span(both).first(inputs), std::span(both).subspan(inputs - 1, outputs)); },
                  {name, "output", "overlap", "apart from the input"});
    check_refused([&] { layer.run(std::span(both).last(inputs), std::span(both).subspan(1, outputs)); },
                  {name, "overlap"});
    CHECK(output == std::vector<std::int8_t>(outputs, 77));
    CHECK(sums == std::vector<std::int32_t>(outputs, 77));
    CHECK(both == std::vector<std::int8_t>(inputs + outputs, 77));
    // Side by side is apart.
    layer.run(std::span(both).first(inputs), std::span(both).last(outputs));
}

TEST_CASE("conv2d: bad arguments") {
    const conv2d_shape good{.input = {1, 5, 6, 4}, .outputs = 4, .window = {.kernel = {3, 3}}};
    const std::vector<std::int8_t> weights(static_cast<std::size_t>(good.weights()), 1);
    const std::vector<std::int16_t> bias(4, 1);
    const requantization q{.input_exponent = -4, .weight_exponents = e7, .bias_exponents = e10, .output_exponent = -4};
    check_windows([&](auto change, std::initializer_list<const char*> parts) {
        conv2d_shape s = good;
        change(s.input, s.window);
        check_refused([&] { make_layer(s, weights, bias, q); }, parts);
        check_refused([&] { pack_conv2d_weights(s, weights, weight_layout::hwio, int8, layers.conv2d); }, parts);
    });
    check_requantizations(
        [&](auto change, std::initializer_list<const char*> parts) {
            requantization r = q;
            change(r);
            check_refused([&] { make_layer(good, weights, bias, r); }, parts);
        },
        "16");
    const auto refused = [&](auto change, std::initializer_list<const char*> parts) {
        conv2d_shape s = good;
        std::span<const std::int8_t> w(weights);
        bias_codes b(bias);
        auto layout = weight_layout::hwio;
        change(s, w, b, layout);
        check_refused([&] { make_layer(s, w, b, q, layout); }, parts);
    };
    using S = conv2d_shape;
    using W = std::span<const std::int8_t>;
    using B = bias_codes;
    using L = weight_layout;
    refused([](S& s, W&, B&, L&) { s.outputs = 0; }, {"conv2d: outputs is 0", "1.."});
    refused([](S& s, W&, B&, L&) { s.groups = 0; }, {"groups is 0", "1..4"});
    refused([](S& s, W&, B&, L&) { s.groups = 3; }, {"groups is 3", "divisors", "input.channels, 4", "outputs, 4"});
    refused([](S& s, W&, B&, L&) { s.outputs = 6, s.groups = 4; }, {"groups is 4", "outputs, 6"});
    refused([](S&, W&, B&, L& l) { l = static_cast<L>(3); }, {"layout is 3", "0..2"});
    refused([](S&, W& w, B&, L&) { w = w.first(7); }, {"weights.size() is 7", "exactly 144"});
    refused([](S&, W& w, B&, L&) { w = {}; }, {"weights.size() is 0", "exactly 144"});
    refused([](S&, W& w, B&, L&) { w = null_codes(w.size()); }, {"weights.data() is null"});
    refused([&](S&, W&, B& b, L&) { b = std::span(bias).first(3); }, {"bias.size() is 3", "0 or", "4"});
    refused([&](S&, W&, B& b, L&) { b = std::span(static_cast<const std::int16_t*>(nullptr), 4); },
            {"bias.data() is null"});
    refused([&](S&, W&, B& b, L&) { b = std::span(static_cast<const std::int32_t*>(nullptr), 4); },
            {"bias.data() is null"});
    refused([](S& s, W&, B&, L&) { s = {wide_input, huge, tall_padding}; }, {"number of output elements", "2^48"});
    // 2^64 weights are not 0 weights.
    refused(
        [](S& s, W& w, B& b, L&) {
            s = {.input = {1, 1, 1, huge}, .outputs = huge, .window = {.kernel = {16, 1}, .padding = {15, 0, 0, 0}}};
            w = {};
            b = {};
        },
        {"number of weights", "16 * 1 * 1073741824 * 1073741824", "2^48"});

    check_runs(make_layer(good, weights, bias, q), "conv2d", 120, 48);
    requantization wide = q;
    wide.input_format = {.bits = 9};
    std::vector<std::int8_t> output(48, 77);
    check_refused([&] { make_layer(good, weights, bias, wide).run(std::vector<std::int8_t>(120), output); },
                  {"conv2d", "element type", "int8", "int16"});
    check_refused([&] { make_layer(good, weights, bias, q).run(std::vector<std::int16_t>(120), output); },
                  {"conv2d", "element type", "int16", "int8"});
    check_refused([&] { fully_connected(0, 4, 4, weights, bias, q, weight_layout::hwio, layers.conv2d); },
                  {"input.batch is 0"});
    check_refused([&] { fully_connected(1, 4, 4, weights, bias, q, weight_layout::hwio, layers.conv2d); },
                  {"weights.size() is 144", "exactly 16"});
    CHECK(output == std::vector<std::int8_t>(48, 77));
}

TEST_CASE("depthwise_conv2d: bad arguments") {
    const depthwise_conv2d_shape good{.input = {1, 5, 6, 2}, .multiplier = 2, .window = {.kernel = {3, 3}}};
    const std::vector<std::int8_t> weights(static_cast<std::size_t>(good.weights()), 1);
    const std::vector<std::int32_t> bias(4, 1);
    const requantization q{.input_exponent = -4, .weight_exponents = e7, .bias_exponents = e10, .output_exponent = -4};
    check_windows([&](auto change, std::initializer_list<const char*> parts) {
        depthwise_conv2d_shape s = good;
        change(s.input, s.window);
        check_refused([&] { make_layer(s, weights, bias, q); }, parts);
        check_refused([&] { pack_depthwise_weights(s, weights, weight_layout::hwio, layers.depthwise_conv2d); }, parts);
    });
    check_requantizations(
        [&](auto change, std::initializer_list<const char*> parts) {
            requantization r = q;
            change(r);
            check_refused([&] { make_layer(good, weights, bias, r); }, parts);
        },
        "8");
    const std::span<const std::int8_t> w(weights);
    const auto with_multiplier = [&](std::int64_t m) { return depthwise_conv2d_shape{good.input, m, good.window}; };
    check_refused([&] { make_layer(with_multiplier(0), w, bias, q); },
                  {"depthwise_conv2d: multiplier is 0", "1..4096"});
    check_refused([&] { make_layer(with_multiplier(4097), w, bias, q); }, {"multiplier is 4097", "1..4096"});
    check_refused([&] { make_layer(with_multiplier(3), w, bias, q); }, {"bias.size() is 4", "6"});
    check_refused([&] { make_layer(good, w.first(8), bias, q); }, {"weights.size() is 8", "exactly 36"});
    check_refused([&] { make_layer(good, null_codes(36), bias, q); }, {"weights.data() is null"});
    check_refused([&] { make_layer(good, w, std::span(bias).first(1), q); }, {"bias.size() is 1", "4"});
    check_refused([&] { make_layer(good, w, bias, q, static_cast<weight_layout>(7)); }, {"layout is 7", "0..2"});
    requantization wide = q;
    wide.input_format = {.bits = 9};
    check_refused([&] { make_layer(good, w, bias, wide); }, {"input_format is signed 9 bits", "2..8"});
    const depthwise_conv2d_shape endless{
        {1, 1, 1, huge}, 4096, {.kernel = {4096, 4096}, .padding = {4095, 0, 4095, 0}}};
    check_refused([&] { make_layer(endless, {}, {}, q); }, {"number of weights", "4096 * 4096 * ", "2^48"});
    check_refused(
        [&] {
            make_layer(depthwise_conv2d_shape{wide_input, 1, tall_padding}, w, {}, q);
        },
        {"number of output elements", "2^48"});
    check_runs(make_layer(good, weights, bias, q), "depthwise_conv2d", 60, 48);
}

TEST_CASE("integer_forward_conv2d: bad arguments") {
    const conv2d_shape good{.input = {1, 5, 6, 4}, .outputs = 4, .window = {.kernel = {3, 3}}};
    const auto make = [](const conv2d_shape& s, integer_format input = int8,
                         weight_layout layout = weight_layout::hwio) {
        return integer_forward_conv2d(s, input, layout, layers.conv2d, layers.quantize);
    };
    check_windows([&](auto change, std::initializer_list<const char*> parts) {
        conv2d_shape s = good;
        change(s.input, s.window);
        check_refused([&] { make(s); }, parts);
    });
    check_refused([&] { make(good, {.bits = 17}); }, {"input_format is signed 17 bits", "2..16"});
    check_refused([&] { make(good, int8, static_cast<weight_layout>(3)); }, {"layout is 3", "0..2"});
    check_refused(
        [&] {
            integer_forward_depthwise_conv2d({good.input, 1, good.window}, uint8, weight_layout::hwio,
                                             layers.depthwise_conv2d, layers.quantize);
        },
        {"integer_forward_depthwise_conv2d: input_format is unsigned 8 bits", "2..8"});

    std::vector<float> input(120, 1);
    std::vector<float> weights(144, 1);
    std::vector<float> bias(4, 1);
    std::vector<float> output(48, 77);
    struct arguments {
        std::span<const float> input;
        quantizer input_q = {};
        std::span<const float> weights;
        channel_quantizer weight_q = {.exponents = e7};
        std::span<const float> bias;
        std::span<float> output;
    };
    using A = arguments;
    auto layer = make(good);
    const auto refused = [&](auto change, std::initializer_list<const char*> parts) {
        A a{.input = input, .weights = weights, .bias = bias, .output = output};
        change(a);
        check_refused([&] { layer.run(a.input, a.input_q, a.weights, a.weight_q, a.bias, a.output); }, parts);
    };
    refused([](A& a) { a.input = a.input.first(7); },
            {"integer_forward_conv2d: input.size() is 7", "allowed: exactly 120"});
    refused([](A& a) { a.input = {static_cast<const float*>(nullptr), 120}; }, {"input.data() is null"});
    refused([](A& a) { a.input_q.format = int4; }, {"input_q.format is -8..7", "the constructor's, -128..127"});
    refused([](A& a) { a.input_q.exponent = 101; }, {"exponent is 101", "-100..100"});
    refused([](A& a) { a.weights = a.weights.first(143); }, {"weights.size() is 143", "exactly 144"});
    refused([](A& a) { a.weight_q.exponents = {}; }, {"weight_q.exponents.size() is 0", "1 or", "4"});
    refused([](A& a) { a.weight_q.exponents = three; }, {"weight_q.exponents.size() is 3", "1 or", "4"});
    refused([](A& a) { a.weight_q.exponents = far; }, {"weight_q.exponents[0] is -101"});
    refused([](A& a) { a.weight_q.format = int16; }, {"weight_q.format is signed 16 bits", "2..8"});
    refused([](A& a) { a.weight_q.format = uint8; }, {"weight_q.format is unsigned 8 bits"});
    refused([](A& a) { a.weight_q.mode = static_cast<rounding>(9); }, {"mode is 9", "0..4"});
    constexpr int four[] = {-7, -7, -7, -7};
    refused([&](A& a) { a.weight_q = {.exponents = four, .inner = 36}; }, {"weight_q.inner is 36", "1..1"});
    refused([](A& a) { a.bias = a.bias.first(3); }, {"bias.size() is 3", "exactly 4"});
    refused([](A& a) { a.output = a.output.first(47); }, {"output.size() is 47", "exactly 48"});
    refused([&](A& a) { a.output = std::span(input).last(48); }, {"output", "overlap"});
    refused([&](A& a) { a.output = std::span(weights).first(48); }, {"output", "overlap"});
    bias[2] = std::numeric_limits<float>::infinity();
    refused([](A&) {}, {"bias[2] is inf", "finite numbers"});
    CHECK(output == std::vector<float>(48, 77));

    // 2^17 + 2^11 products of 128·128 reach 2^31.
    const conv2d_shape deep{.input = {1, 1, 1, (1 << 17) + (1 << 11)}, .outputs = 1};
    auto sums = make(deep);
    const std::vector<float> most(static_cast<std::size_t>(deep.input.channels), -1.0F);
    check_refused([&] { sums.run(most, {.exponent = -7}, most, {.exponents = e7}, {}, std::span(output).first(1)); },
                  {"worst sum of output channel 0", "below 2^31"});
    CHECK(output[0] == 77);
}

TEST_CASE("pools: bad arguments") {
    const pool_shape good{.input = {1, 5, 6, 4}, .window = {.kernel = {3, 3}}};
    std::vector<std::int8_t> input(120, 1);
    std::vector<std::int8_t> output(48, 77);
    std::vector<std::int16_t> wide(48, 77);
    const auto refused = [&](const pool_shape& s, std::span<const std::int8_t> in, std::span<std::int8_t> out,
                             std::initializer_list<const char*> parts) {
        check_refused([&] { max_pool(s, in, out); }, parts);
        check_refused([&] { average_pool(s, in, out); }, parts);
    };
    check_windows([&](auto change, std::initializer_list<const char*> parts) {
        pool_shape s = good;
        change(s.input, s.window);
        refused(s, input, output, parts);
    });
    const pool_shape large{.input = {1, 40, 40, 1}, .window = {.kernel = {32, 33}}};
    refused({wide_input, tall_padding}, input, output, {"number of output elements", "2^48"});
    refused(large, input, output, {"kernel.height * kernel.width is 1056", "1..1024"});
    refused(good, std::span(input).first(7), output, {"_pool: input.size() is 7", "exactly 120"});
    refused(good, input, std::span(output).first(7), {"_pool: output.size() is 7", "exactly 48"});
    refused(good, null_codes(120), output, {"_pool: input.data() is null"});
    refused(good, input, std::span(static_cast<std::int8_t*>(nullptr), 48), {"_pool: output.data() is null"});
    refused(good, input, std::span(input).last(48), {"_pool: output", "overlap"});
    check_refused([&] { average_pool(good, std::span<const std::int8_t>(input).first(7), wide); },
                  {"average_pool", "input.size() is 7"});
    CHECK(input == std::vector<std::int8_t>(120, 1));
    CHECK(output == std::vector<std::int8_t>(48, 77));
    CHECK(wide == std::vector<std::int16_t>(48, 77));
}

TEST_CASE("requantize and add: bad arguments") {
    std::vector<std::int8_t> input(20, 1);
    std::vector<std::int8_t> other(20, 1);
    std::vector<std::int8_t> output(20, 77);
    const auto none = std::span(static_cast<std::int8_t*>(nullptr), 20);
    const auto shorter = std::span(output).first(19);
    const auto rescale = [&](const requantize_options& o, std::initializer_list<const char*> parts) {
        check_refused([&] { requantize(input, output, o); }, parts);
    };
    rescale({.input_exponent = -101}, {"requantize: input_exponent is -101", "-100..100"});
    rescale({.output_exponent = 200}, {"requantize: output_exponent is 200", "-100..100"});
    rescale({.clamp = static_cast<activation>(9)}, {"clamp is 9", "0..2"});
    rescale({.mode = rounding::stochastic}, {"mode is 4", "0..3"});
    rescale({.output_format = {.bits = 9}}, {"output_format is signed 9 bits", "2..8"});
    rescale({.output_format = uint8}, {"output_format is unsigned 8 bits"});
    rescale({.output_format = {.bits = 1}}, {"output_format is signed 1 bits"});
    check_refused([&] { requantize(input, shorter, {}); }, {"requantize: output.size() is 19", "exactly 20"});
    check_refused([&] { requantize(none, output, {}); }, {"requantize: input.data() is null"});
    check_refused([&] { requantize(input, none, {}); }, {"requantize: output.data() is null"});
    check_refused([&] { requantize(std::span(output).first(10), std::span(output).subspan(1, 10), {}); },
                  {"requantize: output", "overlap", "the input itself or"});
    // The same address, but codes of another width.
    std::vector<std::int16_t> wide(20, 77);
    const std::span<const std::int8_t> bytes(reinterpret_cast<const std::int8_t*>(wide.data()), 20);
    check_refused([&] { requantize(bytes, wide, {}); }, {"requantize: output", "overlap"});

    const auto sum = [&](const add_quantization& q, std::initializer_list<const char*> parts) {
        check_refused([&] { add(input, other, output, q); }, parts);
    };
    sum({.a_exponent = 101}, {"add: a_exponent is 101", "-100..100"});
    sum({.b_exponent = -101}, {"add: b_exponent is -101", "-100..100"});
    sum({.output_exponent = 101}, {"add: output_exponent is 101", "-100..100"});
    sum({.a_exponent = -20, .b_exponent = 3}, {"a_exponent - b_exponent is -23", "-22..22"});
    sum({.clamp = static_cast<activation>(3)}, {"clamp is 3"});
    sum({.mode = rounding::stochastic}, {"mode is 4"});
    sum({.output_format = int16}, {"output_format is signed 16 bits", "2..8"});
    check_refused([&] { add(input, std::span(other).first(19), output, {}); }, {"add: b.size() is 19", "exactly 20"});
    check_refused([&] { add(input, other, shorter, {}); }, {"add: output.size() is 19", "exactly 20"});
    check_refused([&] { add(none, other, output, {}); }, {"add: a.data() is null"});
    check_refused([&] { add(input, none, output, {}); }, {"add: b.data() is null"});
    check_refused([&] { add(input, other, none, {}); }, {"add: output.data() is null"});
    check_refused(
        [&] { add(std::span(input).first(10), std::span(output).first(10), std::span(output).subspan(3, 10), {}); },
        {"add: output", "overlap"});
    CHECK(input == std::vector<std::int8_t>(20, 1));
    CHECK(output == std::vector<std::int8_t>(20, 77));
    CHECK(wide == std::vector<std::int16_t>(20, 77));
}

TEST_CASE("concat: bad arguments") {
    std::vector<std::int8_t> input(21, 1);
    std::vector<std::int8_t> output(42, 77);
    using part = concat_part<std::int8_t>;
    const auto refused = [&](part second, std::int64_t pixels, const concat_options& o,
                             std::initializer_list<const char*> parts) {
        const part both[] = {{input, 7, 0}, second};
        check_refused([&] { concat(std::span<const part>(both), pixels, output, o); }, parts);
    };
    const part good{input, 7, 0};
    refused(good, 0, {}, {"concat: pixels is 0", "1.."});
    refused(good, -3, {}, {"concat: pixels is -3", "1.."});
    refused(good, 4, {}, {"codes.size() is 21", "exactly 28"});
    refused({input, 0, 0}, 3, {}, {"channels is 0", "1.."});
    refused({input, -7, 0}, 3, {}, {"channels is -7", "1.."});
    refused({input, 6, 0}, 3, {}, {"codes.size() is 21", "exactly 18"});
    refused({null_codes(21), 7, 0}, 3, {}, {"codes.data() is null"});
    refused({input, 7, 101}, 3, {}, {"exponent is 101", "-100..100"});
    refused(good, 3, {.output_exponent = -101}, {"output_exponent is -101", "-100..100"});
    refused(good, 3, {.mode = rounding::stochastic}, {"mode is 4", "0..3"});
    refused(good, 3, {.output_format = {.bits = 9}}, {"output_format is signed 9 bits", "2..8"});
    refused({std::span(output).first(21), 7, 0}, 3, {}, {"output", "overlap"});
    check_refused([&] { concat(std::span<const part>(), 3, output, {}); }, {"parts.size() is 0", "1.."});
    check_refused([&] { concat(std::span<const part>(&good, 1), 3, output, {}); },
                  {"output.size() is 42", "exactly 21"});
    check_refused(
        [&] { concat(std::span<const part>(&good, 1), 3, std::span(static_cast<std::int8_t*>(nullptr), 21), {}); },
        {"output.data() is null"});
    CHECK(output == std::vector<std::int8_t>(42, 77));
}

}  // namespace
}  // namespace po2quant::test
