// Dot products that want unsigned inputs add 128 to every code, and the layers take it off again, at borders too. Here
// in plain C++, so that this is tested on CPUs without such instructions.
#include <po2quant/inference/separable_conv2d.hpp>

#include "inference/random_layers.hpp"
#include "support/catch.hpp"

namespace po2quant {
namespace test {
struct offset_arch : arch::generic {
    static constexpr const char* name = "offset";
};
}  // namespace test

namespace simd {

template <>
struct integer<test::offset_arch> : integer_generic {
    struct dot_i8 : integer_generic::dot_i8 {
        static constexpr int input_offset = 128;
        static reg dot(reg acc, step x, step_weights w) {
            reg sum = set(0);
            for (int i = 0; i < lanes; ++i)
                for (int k = 0; k < codes; ++k) sum.lane[i] += (x.code[k] + 128) * w.code[codes * i + k];
            return add(acc, sum);
        }
    };
    struct dot_u7 : integer_generic::dot_i8 {
        static reg dot(reg acc, step x, step_weights w) {
            reg sum = set(0);
            for (int i = 0; i < lanes; ++i)
                for (int k = 0; k < codes; ++k)
                    sum.lane[i] += static_cast<std::uint8_t>(x.code[k]) * w.code[codes * i + k];
            return add(acc, sum);
        }
    };
    static bytes offset_bytes(bytes b) {
        for (std::int8_t& code : b.lane) code = static_cast<std::int8_t>(code ^ -128);
        return b;
    }
};

/// By four taps, as the instructions that want the offset have it.
template <>
struct depthwise_steps<test::offset_arch> {
    using isa = test::offset_arch;
    using ops = integer<test::offset_arch>;
    using reg = ops::reg;
    struct channels {
        std::int8_t code[16];
    };
    struct lane_taps {
        std::int8_t code[4][4];
    };
    struct part {
        std::int64_t begin;
        std::int64_t end;
    };
    static constexpr int taps = 4;
    static constexpr int vectors = 4;
    static constexpr int lanes = 16;
    static constexpr int input_offset = 128;
    static constexpr int weight_registers = 0;

    static part part_of(std::int64_t begin, std::int64_t end) { return {begin, end}; }
    static channels load(const std::int8_t* p) { return load(p, {0, lanes}); }
    static channels none() {
        channels c;
        std::fill_n(c.code, lanes, std::int8_t{-128});
        return c;
    }
    static channels load(const std::int8_t* p, part k) {
        channels c{};
        for (std::int64_t i = k.begin; i < k.end; ++i) c.code[i] = p[i];
        return c;
    }
    static void interleave(const channels (&x)[taps], lane_taps (&out)[vectors]) {
        for (int v = 0; v < vectors; ++v)
            for (int i = 0; i < 4; ++i)
                for (int k = 0; k < taps; ++k) out[v].code[i][k] = x[k].code[ops::channel_of(vectors, v, i)];
    }
    static lane_taps load_weights(const std::int32_t* p) {
        lane_taps w;
        std::memcpy(&w, p, sizeof w);
        return w;
    }
    static reg dot(reg acc, const lane_taps& x, const lane_taps& w) {
        reg sum = ops::set(0);
        for (int i = 0; i < 4; ++i)
            for (int k = 0; k < taps; ++k) sum.lane[i] += (x.code[i][k] + 128) * w.code[i][k];
        return ops::add(acc, sum);
    }
    static reg dot(reg acc, const lane_taps& x, const std::int32_t* w) { return dot(acc, x, load_weights(w)); }
};

}  // namespace simd

namespace test {
namespace {

/// Codes and sums of a layer are those of the reference.
template <class Layer>
void compare(const Layer& layer, const std::vector<std::int8_t>& input, const std::vector<std::int32_t>& sums,
             const requantization& q) {
    const std::int64_t outputs = layer.output().channels;
    std::vector<std::int8_t> codes(sums.size());
    reference::requantize_sums(sums, codes, outputs, q);
    std::vector<std::int32_t> own_sums(sums.size());
    std::vector<std::int8_t> own(sums.size());
    layer.accumulate(input, own_sums);
    layer.run(input, own);
    CHECK(own_sums == sums);
    CHECK(own == codes);
}

/// Exponents, and an input of the layer's format; false where an accumulator could overflow.
template <class Make, class Check>
bool with_layer(random_source& random, std::int64_t inputs, std::int64_t outputs, std::int64_t weight_count, Make make,
                Check check) {
    random_requantization r(random, outputs);
    std::vector<std::int8_t> weights(static_cast<std::size_t>(weight_count));
    std::vector<std::int8_t> input(static_cast<std::size_t>(inputs));
    fill(weights, random);
    fill(input, random, r.q.input_format);
    try {
        check(make(weights, r), weights, input, r);
    } catch (const std::invalid_argument&) {
        return false;
    }
    return true;
}

TEST_CASE("conv2d takes an input offset off") {
    random_source random;
    int compared = 0;
    for (int round = 0; round < 500; ++round) {
        const conv2d_shape s = random_conv2d_shape(random);
        CAPTURE(s.input.height, s.input.width, s.input.channels, s.outputs, s.groups, s.window.kernel.height,
                s.window.kernel.width);
        compared += with_layer(
            random, s.input.elements(), s.outputs, s.weights(),
            [&](const auto& w, const auto& r) {
                return conv2d(s, w, r.bias(), r.q, weight_layout::hwio, offset_arch{});
            },
            [&](const conv2d& layer, const auto& w, const auto& input, const auto& r) {
                std::vector<std::int32_t> sums(static_cast<std::size_t>(s.output().elements()));
                reference::conv2d_sums<std::int8_t>(s, input, w, r.bias(), r.q, weight_layout::hwio, sums);
                compare(layer, input, sums, r.q);
            });
    }
    CHECK(compared > 250);
}

TEST_CASE("depthwise_conv2d takes an input offset off") {
    random_source random;
    int compared = 0;
    for (int round = 0; round < 1000; ++round) {
        const depthwise_conv2d_shape s = random_walked_shape(random);
        CAPTURE(s.input.height, s.input.width, s.input.channels, s.multiplier, s.window.kernel.height,
                s.window.kernel.width, s.window.stride.width, s.window.dilation.width);
        compared += with_layer(
            random, s.input.elements(), s.outputs(), s.weights(),
            [&](const auto& w, const auto& r) {
                return depthwise_conv2d(s, w, r.bias(), r.q, weight_layout::hwio, offset_arch{});
            },
            [&](const depthwise_conv2d& layer, const auto& w, const auto& input, const auto& r) {
                std::vector<std::int32_t> sums(static_cast<std::size_t>(s.output().elements()));
                reference::depthwise_conv2d_sums(s, input, w, r.bias(), r.q, weight_layout::hwio, sums);
                compare(layer, input, sums, r.q);
            });
    }
    CHECK(compared > 500);
}

}  // namespace
}  // namespace test
}  // namespace po2quant
