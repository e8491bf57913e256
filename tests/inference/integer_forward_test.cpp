// Forward passes by integers against their specification, and against float32 convolutions of fake-quantized tensors.
#include <cmath>

#include <po2quant/reference/integer_forward.hpp>

#include "inference/kernels.hpp"
#include "inference/random_layers.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/guarded_memory.hpp"
#include "support/same_bits.hpp"

namespace po2quant::test {
namespace {

/// A pass's quantizers and floats, with the memory that spans point to. `grouped` is the shape, depthwise ones with a
/// group per input channel.
struct random_pass {
    conv2d_shape grouped;
    weight_layout layout;
    quantizer input_q;
    std::vector<int> exponents;
    channel_quantizer weight_q;
    std::vector<float> input;
    std::vector<float> weights;
    std::vector<float> bias;

    random_pass(random_source& random, const conv2d_shape& shape, int most_bits)
        : grouped(shape), layout(static_cast<weight_layout>(random.integer(0, 2))) {
        const bool wild = random.integer(0, 15) == 0;
        const auto exponent = [&](std::int64_t low, std::int64_t high) {
            return static_cast<int>(wild ? random.integer(-100, 100) : random.integer(low, high));
        };
        const auto mode = [&] { return static_cast<rounding>(random.integer(0, 4)); };
        input_q = {{.bits = static_cast<int>(random.integer(2, most_bits))}, exponent(-7, -3), mode(), 5};
        if (random.integer(0, 2) == 0 && input_q.format.bits < most_bits) input_q.format.is_signed = false;
        exponents.resize(static_cast<std::size_t>(random.integer(0, 1) ? shape.outputs : 1));
        for (int& e : exponents) e = exponent(-9, -6);
        weight_q = {
            .format = {.bits = static_cast<int>(random.integer(2, 8)), .narrow_range = random.integer(0, 1) == 1},
            .exponents = exponents,
            .inner = layout == weight_layout::hwio ? 1 : shape.weights() / shape.outputs,
            .mode = mode(),
            .seed = 7};
        input.resize(static_cast<std::size_t>(shape.input.elements()));
        weights.resize(static_cast<std::size_t>(shape.weights()));
        bias.resize(random.integer(0, 3) == 0 ? 0 : static_cast<std::size_t>(shape.outputs));
        fill(random, input, input_q.format, input_q.exponent);
        fill(random, weights, weight_q.format, exponents[0]);
        // On the grid of the sums, on a coarser one, or on a finer one.
        const int grid = input_q.exponent + exponents[0];
        const auto kind = random.integer(0, 3);
        for (float& b : bias) {
            const auto off = static_cast<int>(kind == 0 ? 0 : random.integer(-12, kind == 1 ? -1 : 12));
            b = std::ldexp(static_cast<float>(random.integer(-40000, 40000)), std::min(grid + off, 111));
        }
    }

    /// Codes inside and outside of the format, ties, and what is no number.
    static void fill(random_source& random, std::vector<float>& values, integer_format format, int exponent) {
        for (float& v : values) {
            const auto quarters = random.integer(format.qmin() * 4 - 8, format.qmax() * 4 + 8);
            v = std::ldexp(static_cast<float>(quarters), exponent - 2);
            if (random.integer(0, 40) == 0) v = -0.0F;
            if (random.integer(0, 200) == 0) v = std::numeric_limits<float>::infinity();
            if (random.integer(0, 200) == 0) v = std::numeric_limits<float>::quiet_NaN();
        }
    }
    quantizer weight_quantizer() const { return {weight_q.format, 0, weight_q.mode, weight_q.seed}; }
    std::vector<float> expected() const {
        std::vector<float> y(static_cast<std::size_t>(grouped.output().elements()));
        reference::integer_forward_conv2d(grouped, input, input_q, weights, weight_quantizer(), exponents, layout, bias,
                                          y);
        return y;
    }

    /// A float32 convolution of the fake-quantized tensors, NaN as 0, in the order of textbooks or backwards.
    std::vector<float> by_floats(bool backwards) const {
        const conv2d_shape& s = grouped;
        std::vector<float> x(input.size());
        std::vector<float> w(weights.size());
        const auto real = [](float v) { return v == v ? v : 0.0F; };
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = fake_quantize(real(input[i]), input_q, i);
        std::vector<float> y;
        const nhwc out = s.output();
        const std::int64_t cin = s.group_inputs();
        const auto [kh, kw] = s.window.kernel;
        for (std::int64_t p = 0; p < out.batch * out.height * out.width; ++p)
            for (std::int64_t o = 0; o < s.outputs; ++o) {
                float sum = 0;
                for (std::int64_t i = 0; i < kh * kw * cin; ++i) {
                    const std::int64_t term = backwards ? kh * kw * cin - 1 - i : i;
                    const std::int64_t ky = term / cin / kw;
                    const std::int64_t kx = term / cin % kw;
                    const std::int64_t iy = p / out.width % out.height * s.window.stride.height - s.window.padding.top +
                                            ky * s.window.dilation.height;
                    const std::int64_t ix =
                        p % out.width * s.window.stride.width - s.window.padding.left + kx * s.window.dilation.width;
                    if (iy < 0 || iy >= s.input.height || ix < 0 || ix >= s.input.width) continue;
                    const auto at = static_cast<std::size_t>(
                        ((p / out.width / out.height * s.input.height + iy) * s.input.width + ix) * s.input.channels +
                        o / s.group_outputs() * cin + term % cin);
                    const auto k = static_cast<std::size_t>(s.weight_index(layout, ky, kx, term % cin, o));
                    quantizer q = weight_quantizer();
                    q.exponent = exponents[exponents.size() == 1 ? 0 : static_cast<std::size_t>(o)];
                    sum += x[at] * fake_quantize(real(weights[k]), q, k);
                }
                y.push_back(bias.empty() ? sum : sum + bias[static_cast<std::size_t>(o)]);
            }
        return y;
    }
};

struct counts {
    int exact = 0;    ///< passes whose certificate says so
    int rounded = 0;  ///< passes where a float32 convolution gives other bits
};

/// Runs a pass between guard pages, twice: its buffers keep nothing of the first.
template <class Layer>
void compare(Layer& layer, const random_pass& pass, random_source& random, counts& seen) {
    const std::vector<float> want = pass.expected();
    guarded_memory in_memory(pass.input.size() * sizeof(float) + 64);
    guarded_memory weight_memory(pass.weights.size() * sizeof(float) + 64);
    guarded_memory out_memory(want.size() * sizeof(float) + 64);
    for (const edge side : edges) {
        const auto gap = random.integer(0, 2) == 0 ? static_cast<std::size_t>(random.integer(0, 15)) : 0;
        const auto in = in_memory.buffer<float>(pass.input.size(), side, gap);
        const auto weights = weight_memory.buffer<float>(pass.weights.size(), side, gap);
        const auto out = out_memory.buffer<float>(want.size(), side, gap);
        std::copy(pass.input.begin(), pass.input.end(), in.begin());
        std::copy(pass.weights.begin(), pass.weights.end(), weights.begin());
        const certificate& proof =
            layer.run(in, pass.input_q, weights, pass.weight_q, pass.bias, out, random_executor(random));
        check_same(out, std::span(want), [] { return "integer forward pass"; });
        CHECK(out_memory.untouched_outside(out));
        CHECK(proof.channels() == static_cast<std::size_t>(pass.grouped.outputs));
        CHECK(&proof == &layer.certificate());
    }
    const auto agrees = [&](const std::vector<float>& y) {
        return std::equal(y.begin(), y.end(), want.begin(), want.end(), identical<float>);
    };
    const bool same = agrees(pass.by_floats(false)) && agrees(pass.by_floats(true));
    if (layer.certificate().float32_exact) CHECK(same);
    seen.exact += layer.certificate().float32_exact;
    seen.rounded += !same;
}

const int rounds = full() ? 10000 : 700;

TEST_CASE("integer_forward_conv2d equals the reference, and float32 convolutions that are exact") {
    random_source random;
    counts seen;
    for (int round = 0; round < rounds; ++round) {
        conv2d_shape s = random_conv2d_shape(random);
        const int bits = random.integer(0, 3) == 0 ? 16 : 8;
        // The loops in floats take a while; int32 must hold the worst sum.
        const auto products = [&] { return s.window.kernel.height * s.window.kernel.width * s.group_inputs(); };
        while (s.macs() > 100000 || products() >> (25 - bits) > 0) s = random_conv2d_shape(random);
        const random_pass pass(random, s, bits);
        CAPTURE(s.input.batch, s.input.height, s.input.width, s.input.channels, s.outputs, s.groups,
                pass.input_q.format.bits, pass.input_q.exponent, pass.exponents[0]);
        integer_forward_conv2d layer(s, pass.input_q.format, pass.layout, layers.conv2d, layers.quantize);
        CHECK(std::string(layer.arch()) == default_arch::name);
        compare(layer, pass, random, seen);
    }
    CHECK(seen.exact > rounds / 4);
    CHECK(seen.rounded > 0);
}

TEST_CASE("integer_forward_depthwise_conv2d equals the reference, and float32 convolutions that are exact") {
    random_source random;
    counts seen;
    for (int round = 0; round < rounds; ++round) {
        const depthwise_conv2d_shape s = random_walked_shape(random);
        const random_pass pass(random, {s.input, s.outputs(), s.window, s.input.channels}, 8);
        CAPTURE(s.input.batch, s.input.height, s.input.width, s.input.channels, s.multiplier, pass.input_q.format.bits,
                pass.input_q.exponent, pass.exponents[0]);
        integer_forward_depthwise_conv2d layer(s, pass.input_q.format, pass.layout, layers.depthwise_conv2d,
                                               layers.quantize);
        compare(layer, pass, random, seen);
    }
    CHECK(seen.exact > rounds / 4);
}

/// Passes of one layer one after the other, each with quantizers and tensors of its own.
template <class Layer>
void compare_passes(Layer& layer, const conv2d_shape& s, integer_format input, weight_layout layout, int passes,
                    random_source& random) {
    counts seen;
    for (int i = 0; i < passes; ++i) {
        random_pass pass(random, s, input.signed_bits() > 8 ? 16 : 8);
        pass.layout = layout;
        pass.input_q.format = input;
        pass.weight_q.inner = layout == weight_layout::hwio ? 1 : s.weights() / s.outputs;
        compare(layer, pass, random, seen);
    }
}

TEST_CASE("integer forward: exponents, bias and weights that change from run to run") {
    random_source random;
    for (int round = 0; round < 20; ++round) {
        const depthwise_conv2d_shape d = random_walked_shape(random);
        integer_forward_depthwise_conv2d depthwise(d, int8, weight_layout::hwio, layers.depthwise_conv2d,
                                                   layers.quantize);
        compare_passes(depthwise, {d.input, d.outputs(), d.window, d.input.channels}, int8, weight_layout::hwio, 3,
                       random);
        conv2d_shape s = random_conv2d_shape(random);
        while (s.macs() > 100000) s = random_conv2d_shape(random);
        integer_forward_conv2d standard(s, int8, weight_layout::oihw, layers.conv2d, layers.quantize);
        compare_passes(standard, s, int8, weight_layout::oihw, 3, random);
    }
}

TEST_CASE("integer forward: batches in parts") {
    random_source random;
    // An image's codes are two fifths of what a part may have: 6 images make 3 parts, 5 make 5.
    for (const std::int64_t batch : {6, 5}) {
        const conv2d_shape s{
            .input = {batch, 64, 64, 102}, .outputs = 3, .window = {.kernel = {1, 1}, .stride = {9, 9}}};
        for (const integer_format format : {int8, integer_format{.bits = 12}}) {
            integer_forward_conv2d layer(s, format, weight_layout::ohwi, layers.conv2d, layers.quantize);
            compare_passes(layer, s, format, weight_layout::ohwi, 1, random);
        }
        integer_forward_depthwise_conv2d layer({s.input, 1, s.window}, int8, weight_layout::hwio,
                                               layers.depthwise_conv2d, layers.quantize);
        compare_passes(layer, {s.input, 102, s.window, 102}, int8, weight_layout::hwio, 1, random);
    }
}

TEST_CASE("integer forward: outputs that go past the caches") {
    random_source random;
    const nhwc input{4, 128, 128, 32};  // 8 MB of floats
    for (const std::int64_t outputs : {48, 80}) {
        const conv2d_shape s{.input = input, .outputs = outputs, .window = {.kernel = {1, 1}, .stride = {3, 3}}};
        integer_forward_conv2d layer(s, int8, weight_layout::hwio, layers.conv2d, layers.quantize);
        compare_passes(layer, s, int8, weight_layout::hwio, 2, random);
    }
    for (const std::int64_t stride : {1, 2}) {
        const window2d window{.kernel = {3, 3}, .stride = {stride, stride}, .padding = {1, 1, 1, 1}};
        integer_forward_depthwise_conv2d layer({input, 1, window}, int8, weight_layout::hwio, layers.depthwise_conv2d,
                                               layers.quantize);
        compare_passes(layer, {input, 32, window, 32}, int8, weight_layout::hwio, 1, random);
    }
}

TEST_CASE("integer forward: sums beyond 2^24 are rounded once") {
    // 2^17 products of 127·127: 2^31 and more is refused, what is below is rounded to the nearest float.
    for (const std::int64_t inputs : {1041, 131072, 133144}) {
        const conv2d_shape s{.input = {1, 1, 1, inputs}, .outputs = 2};
        const std::vector<float> x(static_cast<std::size_t>(inputs), 127.0F);
        std::vector<float> w(static_cast<std::size_t>(2 * inputs), 127.0F);
        w[1] = 1.0F;
        std::vector<float> y(2);
        const int zero[] = {0};
        integer_forward_conv2d layer(s, uint7, weight_layout::hwio, layers.conv2d, layers.quantize);
        for (const float b : {0.0F, 1.0F, 0.25F, 0x1p-20F}) {
            const float bias[] = {b, -b};
            const certificate& proof = layer.run(x, {.format = uint7}, w, {.exponents = zero}, bias, y);
            CHECK(!proof.float32_exact);
            CHECK(proof.bits == (inputs == 1041 ? 26 : 32));
            const double sums[] = {16129.0 * static_cast<double>(inputs),
                                   16129.0 * static_cast<double>(inputs - 1) + 127};
            CHECK(y[0] == static_cast<float>(sums[0] + b));  // doubles hold these sums
            CHECK(y[1] == static_cast<float>(sums[1] - b));
        }
    }
}

}  // namespace
}  // namespace po2quant::test
