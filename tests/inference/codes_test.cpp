// Requantization, addition and concatenation of codes against their specification.
#include <numeric>

#include <po2quant/inference/add.hpp>
#include <po2quant/inference/concat.hpp>
#include <po2quant/reference/requantize.hpp>

#include "inference/kernels.hpp"
#include "inference/random_layers.hpp"
#include "support/catch.hpp"
#include "support/guarded_memory.hpp"
#include "support/sizes.hpp"

namespace po2quant::test {
namespace {

const int rounds = full() ? 20000 : 1000;

/// Lengths around registers; now and then several tasks.
std::size_t random_length(random_source& random) {
    static const std::vector<std::size_t> sizes = sizes_worth_trying(16, 400);
    return random.integer(0, 99) == 0 ? 100001 : random.one_of(sizes);
}

template <class T>
integer_format random_format(random_source& random) {
    constexpr int bits = 8 * sizeof(T);
    if (random.integer(0, 1) == 0) return {.bits = bits};
    return {.bits = static_cast<int>(random.integer(2, bits)), .narrow_range = random.integer(0, 1) == 1};
}

/// Copies of `codes` at both ends of guarded memory, and output buffers of n elements there, at any alignment.
template <class Out, class In, class Call>
void between_guards(const std::vector<In>& codes, const std::vector<Out>& want, random_source& random, Call call) {
    guarded_memory in_memory(codes.size() * sizeof(In) + 64);
    guarded_memory out_memory(want.size() * sizeof(Out) + 64);
    for (const edge side : edges) {
        const auto gap = random.integer(0, 1) == 0 ? static_cast<std::size_t>(random.integer(0, 15)) : 0;
        const auto in = in_memory.buffer<In>(codes.size(), side, gap);
        std::copy(codes.begin(), codes.end(), in.begin());
        const auto out = out_memory.buffer<Out>(want.size(), side, gap);
        call(std::span<const In>(in), out);
        CHECK(std::equal(want.begin(), want.end(), out.begin()));
        CHECK(out_memory.untouched_outside(out));
        CHECK(std::equal(codes.begin(), codes.end(), in.begin()));
    }
}

template <class In, class Out>
void check_requantize(random_source& random) {
    std::vector<In> codes(random_length(random));
    fill(codes, random);
    requantize_options o{.input_exponent = static_cast<int>(random.integer(-100, 100)),
                         .output_exponent = static_cast<int>(random.integer(-100, 100)),
                         .clamp = static_cast<activation>(random.integer(0, 2)),
                         .mode = static_cast<rounding>(random.integer(0, 3)),
                         .output_format = random_format<Out>(random)};
    // Mostly shifts that leave something.
    if (random.integer(0, 3) != 0)
        o.output_exponent = std::clamp(o.input_exponent + static_cast<int>(random.integer(-9, 20)), -100, 100);
    CAPTURE(codes.size(), o.input_exponent, o.output_exponent, static_cast<int>(o.mode), o.output_format.bits);
    std::vector<Out> want(codes.size());
    reference::requantize<In, Out>(codes, want, o.output_exponent - o.input_exponent, o.mode,
                                   clamp_range(o.clamp, o.output_format, o.output_exponent, o.mode));
    const test_executor executor = random_executor(random);
    between_guards(codes, want, random, [&](auto in, auto out) { requantize(in, out, o, executor); });
    if constexpr (sizeof(In) == sizeof(Out)) {
        requantize(codes, codes, o, executor);
        CHECK(codes == want);
    }
    // The same by default.
    if (o.output_format == integer_format{.bits = 8 * sizeof(Out)}) {
        o.output_format = {.bits = 0};
        std::vector<Out> again(codes.size());
        if constexpr (sizeof(In) != sizeof(Out)) {
            requantize(codes, again, o, executor);
            CHECK(again == want);
        }
    }
}

TEST_CASE("requantize equals the reference, in place too") {
    random_source random;
    for (int round = 0; round < rounds; ++round) {
        check_requantize<std::int8_t, std::int8_t>(random);
        check_requantize<std::int8_t, std::int16_t>(random);
        check_requantize<std::int16_t, std::int8_t>(random);
        check_requantize<std::int16_t, std::int16_t>(random);
    }
}

TEST_CASE("requantize: every int16 code, every shift, every rounding mode") {
    std::vector<std::int16_t> codes(65536);
    std::iota(codes.begin(), codes.end(), std::int16_t{-32768});
    std::vector<std::int16_t> want(codes.size());
    std::vector<std::int16_t> out(codes.size());
    for (int shift = -34; shift <= 34; ++shift)
        for (const rounding mode : {rounding::half_up, rounding::half_even, rounding::half_away, rounding::floor}) {
            CAPTURE(shift, static_cast<int>(mode));
            reference::requantize<std::int16_t, std::int16_t>(codes, want, shift, mode, {-32768, 32767});
            requantize(codes, out, {.output_exponent = shift, .mode = mode}, test_executor{});
            CHECK(out == want);
        }
}

TEST_CASE("add: every pair of codes, every rounding mode, the exponents of networks") {
    std::vector<std::int8_t> a(65536);
    std::vector<std::int8_t> b(a.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
        a[i] = static_cast<std::int8_t>(i % 256);
        b[i] = static_cast<std::int8_t>(i / 256);
    }
    std::vector<std::int8_t> want(a.size());
    std::vector<std::int8_t> out(a.size());
    for (int apart = -8; apart <= 8; ++apart)
        for (int shift = -1; shift <= 15; ++shift)
            for (const rounding mode : {rounding::half_up, rounding::half_even, rounding::half_away, rounding::floor}) {
                const add_quantization q{
                    .b_exponent = apart, .output_exponent = std::min(0, apart) + shift, .mode = mode};
                CAPTURE(apart, shift, static_cast<int>(mode));
                reference::add(a, b, want, 0, apart, q.output_exponent, mode, {-128, 127});
                add(a, b, out, q, test_executor{});
                CHECK(out == want);
            }
}

TEST_CASE("add equals the reference, in place too") {
    random_source random;
    for (int round = 0; round < 2 * rounds; ++round) {
        std::vector<std::int8_t> a(random_length(random));
        std::vector<std::int8_t> b(a.size());
        fill(a, random);
        fill(b, random);
        const int exponent = static_cast<int>(random.integer(-50, 50));
        add_quantization q{.a_exponent = exponent,
                           .b_exponent = exponent + static_cast<int>(random.integer(-22, 22)),
                           .output_exponent = static_cast<int>(random.integer(-100, 100)),
                           .clamp = static_cast<activation>(random.integer(0, 2)),
                           .mode = static_cast<rounding>(random.integer(0, 3)),
                           .output_format = random_format<std::int8_t>(random)};
        const int finer = std::min(q.a_exponent, q.b_exponent);
        if (random.integer(0, 3) != 0) q.output_exponent = finer + static_cast<int>(random.integer(-3, 33));
        CAPTURE(a.size(), q.a_exponent, q.b_exponent, q.output_exponent, static_cast<int>(q.mode),
                q.output_format.bits);
        std::vector<std::int8_t> want(a.size());
        const code_range range = clamp_range(q.clamp, q.output_format, q.output_exponent, q.mode);
        reference::add(a, b, want, q.a_exponent, q.b_exponent, q.output_exponent, q.mode, range);
        const test_executor executor = random_executor(random);
        guarded_memory b_memory(b.size() + 64);
        const auto own_b = b_memory.buffer<std::int8_t>(b.size(), random.one_of(edges));
        std::copy(b.begin(), b.end(), own_b.begin());
        between_guards(a, want, random, [&](auto in, auto out) { add(in, own_b, out, q, executor); });
        if (round % 2) {
            add(a, b, a, q, executor);
            CHECK(a == want);
        } else {
            add(a, b, b, q, executor);
            CHECK(b == want);
        }
    }
}

TEST_CASE("add of a code to itself doubles it") {
    std::vector<std::int8_t> codes(256);
    std::iota(codes.begin(), codes.end(), std::int8_t{-128});
    std::vector<std::int8_t> out(256);
    add(codes, codes, out, {.output_exponent = 1}, test_executor{});
    CHECK(out == codes);
    add(codes, codes, codes, {.output_exponent = 0}, test_executor{});
    for (int i = 0; i < 256; ++i) CHECK(codes[static_cast<std::size_t>(i)] == std::clamp(2 * (i - 128), -128, 127));
}

/// Sums around the ends of int16, of what a shift by 8 leaves of int8, and far away.
std::vector<std::int32_t> sums_worth_trying() {
    std::vector<std::int32_t> all;
    for (const std::int32_t around : {0, 127 << 8, -128 * 256, 32767, -32768, 65535, 1 << 20, -(1 << 24), 1 << 29})
        for (std::int32_t d = -260; d <= 260; ++d) all.push_back(around + d);
    return all;
}

TEST_CASE("words suffice exactly where saturating sums to int16 changes no code") {
    for (int shift = 0; shift <= 31; ++shift)
        for (const std::int64_t magnitude : {1, 32767, 32768, 1 << 20, 1 << 30}) {
            CAPTURE(shift, magnitude);
            bool same = 2 <= shift && shift <= 15;  // 2^(16 - shift) is an int16
            for (const std::int32_t sum : sums_worth_trying()) {
                if (!same || std::abs(std::int64_t{sum}) > magnitude) continue;
                const auto shifted = saturate<std::int16_t>(sum) * (1 << (16 - shift)) >> 16;
                same = clamp(shifted, -128, 127) == clamp(sum >> shift, -128, 127);
            }
            CHECK(kernels::words_suffice(shift, magnitude) == same);
        }
}

/// Layers of which each output channel's sum is its bias, shifted by `shift` to `shift` + 2.
void check_requantized_sums(const std::vector<std::int32_t>& sums, int shift, rounding mode, activation clamp) {
    const auto outputs = static_cast<std::int64_t>(sums.size());
    const std::vector<std::int8_t> weights(sums.size(), 0);
    std::vector<int> exponents;
    std::vector<std::int8_t> want;
    for (const std::int32_t sum : sums) {
        const int finer = static_cast<int>(exponents.size() % 3);
        exponents.push_back(-finer);
        want.push_back(static_cast<std::int8_t>(
            requantize(sum, shift + finer, mode, {clamp == activation::none ? -128 : 0, 127})));
    }
    const requantization q{.weight_exponents = exponents,
                           .bias_exponents = exponents,
                           .output_exponent = shift,
                           .clamp = clamp,
                           .mode = mode};
    CAPTURE(shift, static_cast<int>(mode), static_cast<int>(clamp), outputs);
    std::vector<std::int8_t> out(sums.size());
    const std::vector<std::int8_t> one(1, 5);
    const conv2d_shape point{.input = {.height = 1, .width = 1, .channels = 1}, .outputs = outputs};
    make_layer(point, weights, sums, q).run(one, out);
    CHECK(out == want);
    const std::vector<std::int8_t> many(sums.size(), 5);
    const depthwise_conv2d_shape points{.input = {.height = 1, .width = 1, .channels = outputs}};
    make_layer(points, weights, sums, q).run(many, out);
    CHECK(out == want);
    // A kernel with rows, which has ways of its own.
    const depthwise_conv2d_shape squares{.input = {.height = 1, .width = 1, .channels = outputs},
                                         .window = {.kernel = {3, 3}, .padding = {1, 1, 1, 1}}};
    make_layer(squares, std::vector<std::int8_t>(9 * sums.size(), 0), sums, q).run(many, out);
    CHECK(out == want);
}

TEST_CASE("layers: sums at the ends of int16, every shift") {
    for (int shift = 0; shift <= 20; ++shift)
        for (const activation clamp : {activation::none, activation::relu})
            check_requantized_sums(sums_worth_trying(), shift, rounding::half_up, clamp);
}

/// Ties of all shifts and their neighbours, of both signs, up to `limit`.
std::vector<std::int32_t> ties_up_to(std::int64_t limit) {
    std::vector<std::int32_t> all;
    for (int bit = 0; bit <= 31; ++bit)
        for (const std::int64_t times : {1, 3, 5, 255, 257})
            for (const std::int64_t d : {-1, 0, 1})
                for (const std::int64_t sum : {(times << bit) + d, -(times << bit) + d})
                    if (std::abs(sum) <= limit) all.push_back(static_cast<std::int32_t>(sum));
    for (const std::int64_t d : {0, 1, 2}) all.push_back(static_cast<std::int32_t>(limit - d));
    return all;
}

TEST_CASE("layers: every rounding, every shift, sums up to the ends of int32") {
    for (const rounding mode : {rounding::half_up, rounding::half_even, rounding::half_away, rounding::floor})
        for (int shift = -36; shift <= 36; ++shift) {
            // half_up adds its constant to the sums, which int32 has to hold.
            const bool adds = mode == rounding::half_up && shift <= 31 && shift + 2 >= 1;
            const std::int64_t most = INT32_MAX - (adds ? (std::int64_t{1} << std::min(shift + 2, 31)) / 2 : 0);
            for (const std::int64_t limit : {std::int64_t{127}, std::int64_t{1} << 20, most})
                check_requantized_sums(ties_up_to(limit), shift, mode, activation::none);
        }
}

template <class In, class Out>
void check_concat(random_source& random) {
    const std::int64_t pixels = random.integer(0, 49) == 0 ? 3000 : random.integer(1, 30);
    std::vector<std::vector<In>> codes(static_cast<std::size_t>(random.integer(1, 5)));
    std::vector<std::unique_ptr<guarded_memory>> memory;
    std::vector<concat_part<In>> parts;
    std::int64_t channels = 0;
    const int center = static_cast<int>(random.integer(-95, 95));
    for (auto& own : codes) {
        const std::int64_t width = random.integer(1, 70);
        own.resize(static_cast<std::size_t>(pixels * width));
        fill(own, random);
        memory.push_back(std::make_unique<guarded_memory>(own.size() * sizeof(In)));
        const auto guarded = memory.back()->template buffer<In>(own.size(), random.one_of(edges));
        std::copy(own.begin(), own.end(), guarded.begin());
        parts.push_back({guarded, width, center + static_cast<int>(random.integer(-5, 5))});
        channels += width;
    }
    const concat_options o{.output_exponent = random.integer(0, 9) == 0
                                                  ? static_cast<int>(random.integer(-100, 100))
                                                  : center + static_cast<int>(random.integer(-5, 5)),
                           .mode = static_cast<rounding>(random.integer(0, 3)),
                           .output_format = random_format<Out>(random)};
    std::vector<Out> want;
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel)
        for (std::size_t p = 0; p < parts.size(); ++p)
            for (std::int64_t c = 0; c < parts[p].channels; ++c)
                want.push_back(static_cast<Out>(requantize(
                    codes[p][static_cast<std::size_t>(pixel * parts[p].channels + c)],
                    o.output_exponent - parts[p].exponent, o.mode, {o.output_format.qmin(), o.output_format.qmax()})));
    const test_executor executor = random_executor(random);
    CAPTURE(pixels, channels, parts.size(), o.output_exponent, center, static_cast<int>(o.mode));
    between_guards(codes[0], want, random,
                   [&](auto, auto out) { concat(std::span<const concat_part<In>>(parts), pixels, out, o, executor); });
}

TEST_CASE("concat puts every part behind the one before, on one exponent") {
    random_source random;
    for (int round = 0; round < rounds / 4; ++round) {
        check_concat<std::int8_t, std::int8_t>(random);
        check_concat<std::int8_t, std::int16_t>(random);
        check_concat<std::int16_t, std::int8_t>(random);
        check_concat<std::int16_t, std::int16_t>(random);
    }
}

}  // namespace
}  // namespace po2quant::test
