// Packed weights of 4 and 2 bits: against the specification, between guard pages, and layers made of them.
#include <po2quant/inference/pack_codes.hpp>

#include <algorithm>

#include <po2quant/reference/fake_quantize.hpp>
#include <po2quant/reference/pack_codes.hpp>
#include <po2quant/training/quantize.hpp>
#include <po2quant/training/quantize_bias.hpp>

#include "inference/kernels.hpp"
#include "inference/random_layers.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/guarded_memory.hpp"
#include "support/sizes.hpp"

namespace po2quant::test {
namespace {

integer_format format_of(int bits) { return {.bits = bits}; }

std::vector<std::byte> packed(const std::vector<std::int8_t>& codes, int bits) {
    std::vector<std::byte> bytes(packed_bytes(codes.size(), bits));
    pack_codes(codes, bits, bytes);
    return bytes;
}

static_assert(int2.qmin() == -2 && int2.qmax() == 1 && int2_narrow.qmin() == -1 && int4_narrow.qmin() == -7);
static_assert(packed_bytes(0, 4) == 0 && packed_bytes(1, 4) == 1 && packed_bytes(3, 4) == 2 && packed_bytes(9, 2) == 3);

TEST_CASE("packed codes: the bytes") {
    CHECK(packed({1, -2, 7, -8, 3}, 4) == std::vector<std::byte>{std::byte{0xe1}, std::byte{0x87}, std::byte{0x03}});
    CHECK(packed({1, -2, 0, -1, 1}, 2) == std::vector<std::byte>{std::byte{0b11'00'10'01}, std::byte{0b01}});
    // Bits behind the last code are not read.
    std::vector<std::int8_t> codes(1);
    const std::byte bytes[] = {std::byte{0xf9}};
    unpack_codes({bytes, 4}, codes);
    CHECK(codes[0] == -7);
    unpack_codes({bytes, 2}, codes);
    CHECK(codes[0] == 1);
}

TEST_CASE("packed codes: the specification, every size, nothing outside touched") {
    random_source random;
    for (const int bits : {2, 4})
        for (const std::size_t n : sizes_worth_trying(64, 3000)) {
            std::vector<std::int8_t> codes(n);
            fill(codes, random, format_of(bits));
            const std::size_t size = packed_bytes(n, bits);
            std::vector<std::byte> want(size);
            reference::pack_codes(codes, bits, want);
            CAPTURE(bits, n);
            for (const edge side : edges) {
                guarded_memory code_memory(n + 64);
                guarded_memory byte_memory(size + 64);
                const auto gap = static_cast<std::size_t>(random.integer(0, 3));
                const auto in = code_memory.buffer<std::int8_t>(n, side, gap);
                std::copy(codes.begin(), codes.end(), in.begin());
                const auto bytes = byte_memory.buffer<std::byte>(size, side, gap);
                pack_codes(in, bits, bytes);
                CHECK(std::equal(want.begin(), want.end(), bytes.begin()));
                CHECK(byte_memory.untouched_outside(bytes));
                const auto out = code_memory.buffer<std::int8_t>(n, side, gap);
                unpack_codes({bytes, bits}, out);
                CHECK(std::equal(codes.begin(), codes.end(), out.begin()));
                CHECK(code_memory.untouched_outside(out));
                // All bytes, not only those that pack_codes writes.
                for (std::byte& b : bytes) b = static_cast<std::byte>(random.bits());
                unpack_codes({bytes, bits}, out);
                std::vector<std::int8_t> unpacked(n);
                reference::unpack_codes(bytes, bits, unpacked);
                CHECK(std::equal(unpacked.begin(), unpacked.end(), out.begin()));
            }
        }
}

/// Both layers' codes for one input.
template <class Layer>
void check_same_layer(const Layer& a, const Layer& b, random_source& random) {
    const std::int64_t inputs = a.shape().input.elements();
    std::vector<std::int8_t> input(static_cast<std::size_t>(inputs));
    fill(input, random, {.bits = 2, .is_signed = false});  // inside every input format
    const auto outputs = static_cast<std::size_t>(a.output().elements());
    std::vector<std::int8_t> of_a(outputs);
    std::vector<std::int8_t> of_b(outputs);
    a.run(input, of_a);
    b.run(input, of_b);
    CHECK(of_a == of_b);
    CHECK(a.certificate().magnitude == b.certificate().magnitude);
}

TEST_CASE("layers of packed weights are the layers of the same codes") {
    random_source random;
    int compared = 0;
    for (int round = 0; round < 150; ++round) {
        const int bits = random.integer(0, 1) ? 4 : 2;
        const auto layout = static_cast<weight_layout>(random.integer(0, 2));
        const conv2d_shape s = random_conv2d_shape(random);
        const depthwise_conv2d_shape d = random_depthwise_shape(random);
        const auto inputs = random.integer(1, 40);
        const auto outputs = random.integer(1, 40);
        std::vector<std::int8_t> w(static_cast<std::size_t>(s.weights()));
        std::vector<std::int8_t> dw(static_cast<std::size_t>(d.weights()));
        std::vector<std::int8_t> fw(static_cast<std::size_t>(inputs * outputs));
        fill(w, random, format_of(bits));
        fill(dw, random, format_of(bits));
        fill(fw, random, format_of(bits));
        const std::vector<std::byte> pw = packed(w, bits);
        const std::vector<std::byte> pdw = packed(dw, bits);
        const std::vector<std::byte> pfw = packed(fw, bits);
        const random_requantization r(random, s.outputs);
        const random_requantization rd(random, d.outputs());
        const random_requantization rf(random, outputs);
        CAPTURE(bits, static_cast<int>(layout), s.outputs, d.outputs(), inputs, outputs);
        const auto either = [&](auto&& call) {
            try {
                call();
                ++compared;
            } catch (const std::invalid_argument& error) {
                CHECK(std::string(error.what()).find("worst accumulator") != std::string::npos);
            }
        };
        either([&] {
            check_same_layer(conv2d(s, packed_codes{pw, bits}, r.bias(), r.q, layout, layers.conv2d),
                             make_layer(s, w, r.bias(), r.q, layout), random);
        });
        either([&] {
            check_same_layer(
                depthwise_conv2d(d, packed_codes{pdw, bits}, rd.bias(), rd.q, layout, layers.depthwise_conv2d),
                make_layer(d, dw, rd.bias(), rd.q, layout), random);
        });
        either([&] {
            check_same_layer(
                fully_connected(1, inputs, outputs, packed_codes{pfw, bits}, rf.bias(), rf.q, layout, layers.conv2d),
                fully_connected(1, inputs, outputs, fw, rf.bias(), rf.q, layout, layers.conv2d), random);
        });
    }
    CHECK(compared > 300);
}

TEST_CASE("int4 and int2 weights: fake-quantized training and packed integers give the same bits") {
    random_source random;
    for (const integer_format format : {int4, int4_narrow, int2, int2_narrow})
        for (const int bias_bits : {16, 32}) {
            const std::int64_t inputs = 33;
            const std::int64_t outputs = 7;
            const auto floats = [&](std::int64_t n, double low, double high) {
                std::vector<float> all(static_cast<std::size_t>(n));
                for (float& v : all) v = static_cast<float>(random.uniform(low, high));
                return all;
            };
            std::vector<float> x = floats(inputs, -4, 4);
            std::vector<float> w = floats(inputs * outputs, -2, 2);
            w[static_cast<std::size_t>(random.integer(0, inputs * outputs - 1))] = -2;  // the lowest code, always
            std::vector<float> b = floats(outputs, -1, 1);
            const quantizer qx{int8, -5};
            const quantizer qw{format, 2 - format.bits};
            const int weight_exponents[] = {qw.exponent};
            const int grid[] = {qx.exponent + qw.exponent};
            std::vector<std::int8_t> input(x.size());
            std::vector<std::int8_t> codes(w.size());
            quantize(x, input, qx);
            quantize(w, codes, qw);
            CHECK(*std::min_element(codes.begin(), codes.end()) == format.qmin());
            const quantized_bias bias = quantize_bias(b, grid, {.bits = bias_bits});
            const std::vector<std::byte> bytes = packed(codes, format.bits);
            const fully_connected layer(1, inputs, outputs, packed_codes{bytes, format.bits}, bias.codes(),
                                        {.input_exponent = qx.exponent,
                                         .weight_exponents = weight_exponents,
                                         .bias_exponents = bias.exponents,
                                         .output_exponent = -2},
                                        weight_layout::hwio, layers.conv2d);
            std::vector<std::int8_t> output(static_cast<std::size_t>(outputs));
            layer.run(input, output);
            // In training: everything on its grid, sums in float32.
            reference::fake_quantize(x, x, qx);
            reference::fake_quantize(w, w, qw);
            for (std::size_t o = 0; o < b.size(); ++o) {
                float sum = 0;
                for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * w[i * b.size() + o];
                const int e = bias.exponents[0];
                sum += dequantize(bias_bits == 16 ? bias.i16[o] : bias.i32[o], e);
                CHECK(layer.certificate().float32_exact);
                CHECK(dequantize(output[o], -2) == fake_quantize(sum, {int8, -2}));
            }
        }
}

TEST_CASE("errors: packed codes") {
    std::vector<std::int8_t> codes{1, 7, -8};
    std::vector<std::byte> bytes(2, std::byte{0x55});
    const auto refused = [&](auto&& call, std::initializer_list<const char*> parts) {
        check_refused(call, parts);
        CHECK(codes == std::vector<std::int8_t>{1, 7, -8});
        CHECK(bytes == std::vector<std::byte>(2, std::byte{0x55}));
    };
    for (const int bits : {0, 1, 3, 8}) {
        refused([&] { pack_codes(codes, bits, bytes); }, {"pack_codes: bits is ", "2 and 4"});
        refused([&] { unpack_codes({bytes, bits}, codes); }, {"unpack_codes: bits is "});
    }
    refused([&] { pack_codes(codes, 2, std::span(bytes).first(1)); }, {"pack_codes: codes[1] is 7", "-2..1"});
    refused([&] { pack_codes(std::vector<std::int8_t>{8}, 4, std::span(bytes).first(1)); }, {"codes[0] is 8", "-8..7"});
    refused([&] { pack_codes(codes, 4, std::span(bytes).first(1)); }, {"packed.size() is 1", "exactly 2"});
    refused(
        [&] {
            unpack_codes({std::span(bytes).first(1), 4}, codes);
        },
        {"unpack_codes: bytes.size() is 1", "exactly 2"});
    refused([&] { pack_codes({static_cast<const std::int8_t*>(nullptr), 3}, 4, bytes); }, {"codes.data() is null"});
    refused([&] { unpack_codes({{static_cast<const std::byte*>(nullptr), 2}, 4}, codes); }, {"bytes.data() is null"});
    refused(
        [&] {
            unpack_codes({bytes, 4}, {reinterpret_cast<std::int8_t*>(bytes.data()), 3});
        },
        {"codes is memory that overlaps"});
    refused(
        [&] {
            pack_codes(codes, 4, {reinterpret_cast<std::byte*>(codes.data()), 2});
        },
        {"packed is memory that overlaps"});
    CHECK_NOTHROW(pack_codes({}, 4, {}));
    CHECK_NOTHROW(unpack_codes({}, {}));

    constexpr int e7[] = {-7};
    const requantization q{.weight_exponents = e7};
    refused(
        [&] {
            conv2d({.input = {1, 1, 1, 5}}, packed_codes{bytes, 4}, {}, q, {}, layers.conv2d);
        },
        {"conv2d: weights.bytes.size() is 2", "exactly 3"});
    refused(
        [&] {
            conv2d({.input = {1, 1, 1, 5}}, packed_codes{bytes, 5}, {}, q, {}, layers.conv2d);
        },
        {"conv2d: bits is 5"});
    refused(
        [&] {
            conv2d({.input = {1, 1, 1, 5}, .outputs = 0}, packed_codes{bytes, 4}, {}, q, {}, layers.conv2d);
        },
        {"conv2d: outputs is 0"});
    refused(
        [&] {
            depthwise_conv2d({.input = {1, 1, 1, 5}}, packed_codes{bytes, 4}, {}, q, {}, layers.depthwise_conv2d);
        },
        {"depthwise_conv2d: weights.bytes.size() is 2", "exactly 3"});
    refused(
        [&] {
            depthwise_conv2d({.input = {1, 1, 1, 0}}, packed_codes{bytes, 4}, {}, q, {}, layers.depthwise_conv2d);
        },
        {"depthwise_conv2d: input.channels is 0"});
}

}  // namespace
}  // namespace po2quant::test
