// One digest per op, over a fixed battery of inputs: the same on every instruction set, compiler, optimization level,
// number of threads and version of xsimd. digests.inc holds them.
//   battery            compares; exit code 1 where one differs
//   battery --print    writes digests.inc, after a change of what an op computes
#include <bit>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <po2quant/po2quant.hpp>

#include "../../examples/run_network/sha256.hpp"
#include "inference/kernels.hpp"
#include "inference/random_layers.hpp"

namespace po2quant::test {
namespace {

constexpr std::uint64_t seed = 2026;

/// Gathers what ops give. NaN counts as one value, since its bits are not promised; -0 is not 0.
class digest {
public:
    template <class T>
    void add(std::span<const T> values) {
        for (T v : values) {
            if constexpr (std::is_floating_point_v<T>)
                if (v != v) v = std::numeric_limits<T>::quiet_NaN();
            const auto* bytes = reinterpret_cast<const std::byte*>(&v);
            bytes_.insert(bytes_.end(), bytes, bytes + sizeof v);
        }
    }
    template <class T>
    void add(const std::vector<T>& values) {
        add(std::span<const T>(values));
    }
    template <class T>
    requires std::is_arithmetic_v<T>
    void add(T value) { add(std::span<const T>(&value, 1)); }
    void add(const range& r) {
        add(r.min);
        add(r.max);
        add(r.finite);
        add(r.non_finite);
    }
    std::string sha256() const { return run_network::sha256(bytes_); }

private:
    std::vector<std::byte> bytes_;
};

/// A third of each: around the codes of a grid, ties and their neighbours, any bits.
std::vector<float> floats(random_source& random, std::size_t n, int exponent) {
    std::vector<float> all(n);
    for (std::size_t i = 0; i < n; ++i) {
        if (i % 3 == 0) {
            all[i] = static_cast<float>(std::ldexp(random.uniform(-160, 160), exponent));
        } else if (i % 3 == 1) {
            const auto halves = static_cast<float>(random.integer(-300, 300));
            const auto bits = std::bit_cast<std::uint32_t>(std::ldexp(halves, exponent - 1));
            all[i] =
                std::bit_cast<float>(halves == 0 ? bits : bits + static_cast<std::uint32_t>(random.integer(-1, 1)));
        } else {
            all[i] = std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
        }
    }
    return all;
}

/// What a loop sees: finite, of moderate size.
std::vector<float> moderate(random_source& random, std::size_t n) {
    std::vector<float> all(n);
    for (float& v : all) v = static_cast<float>(random.uniform(-4, 4));
    return all;
}

template <class T>
std::vector<T> codes(random_source& random, std::int64_t n, integer_format format = {.bits = 8 * sizeof(T)}) {
    std::vector<T> all(static_cast<std::size_t>(n));
    fill(all, random, format);
    return all;
}

constexpr integer_format formats[] = {
    int8, {.bits = 8, .is_signed = false}, {.bits = 4, .narrow_range = true}, {.bits = 16}};
constexpr rounding modes[] = {rounding::half_up, rounding::half_even, rounding::half_away, rounding::floor,
                              rounding::stochastic};
constexpr std::size_t elements = 3 * 7 * 1601;  // several tasks and a part of a vector

/// Channels innermost, in the middle and outermost, with exponents of their own.
template <class F>
void for_each_layout(F&& f) {
    for (const auto& [channels, inner] : {std::pair{7, 1}, std::pair{21, 1}, std::pair{3, 7}, std::pair{3, 7 * 1601}}) {
        std::vector<int> exponents;
        for (int c = 0; c < channels; ++c) exponents.push_back(-7 + c % 4);
        f(channel_quantizer{.exponents = exponents, .inner = inner, .seed = 3});
    }
}

struct op {
    const char* name;
    void (*run)(digest& out, random_source& random, const test_executor& executor);
};

// ---- training -------------------------------------------------------------------------------------------------------

void fake_quantize_op(digest& out, random_source& random, const test_executor& executor) {
    const std::vector<float> x = floats(random, elements, -5);
    std::vector<float> y(x.size());
    std::vector<std::int16_t> q(x.size());
    std::vector<std::uint8_t> mask(mask_bytes(x.size()));
    for (const integer_format format : formats)
        for (const rounding mode : modes)
            for (const int exponent : {-5, 3}) {
                range seen;
                exponent_histogram exponents;
                fake_quantize(
                    x, y, quantizer{format, exponent, mode, 11},
                    {.codes = q, .mask = mask, .estimator = ste::clip_range, .seen = &seen, .exponents = &exponents},
                    executor);
                out.add(y);
                out.add(q);
                out.add(mask);
                out.add(seen);
                out.add(std::span<const std::uint64_t>(exponents.counts));
            }
    for_each_layout([&](channel_quantizer cq) {
        for (const rounding mode : modes) {
            cq.mode = mode;
            fake_quantize(x, y, cq, {.codes = q, .mask = mask}, executor);
            out.add(y);
            out.add(q);
            out.add(mask);
        }
    });
}

template <class Half>
void fake_quantize_half(digest& out, random_source& random, const test_executor& executor) {
    std::vector<Half> x;
    for (const float v : floats(random, elements, -5)) x.push_back(to_storage<Half>(v));
    std::vector<Half> y(x.size());
    for (const rounding mode : modes) {
        fake_quantize(x, y, quantizer{int8, -5, mode, 11}, executor);
        for (const Half v : y) out.add(to_float(v));
    }
}

void backward_op(digest& out, random_source& random, const test_executor& executor) {
    const std::vector<float> x = floats(random, elements, -5);
    const std::vector<float> dy = moderate(random, elements);
    std::vector<float> dx(x.size());
    for (const integer_format format : formats)
        for (const ste estimator : {ste::clip_code, ste::clip_range, ste::plain, ste::pact}) {
            fake_quantize_backward(x, dy, dx, quantizer{format, -5}, {estimator}, executor);
            out.add(dx);
        }
    for_each_layout([&](const channel_quantizer& cq) {
        fake_quantize_backward(x, dy, dx, cq, {}, executor);
        out.add(dx);
    });
    std::vector<std::uint8_t> mask(mask_bytes(x.size()));
    fake_quantize(x, dx, quantizer{int8, -5}, {.mask = mask}, executor);
    fake_quantize_backward(mask, dy, dx, executor);
    out.add(dx);
}

void threshold_op(digest& out, random_source& random, const test_executor& executor) {
    const std::vector<float> x = floats(random, elements, -5);
    const std::vector<float> dy = moderate(random, elements);
    std::vector<float> dx(x.size());
    for (const integer_format format : formats)
        for (const threshold_term term : {threshold_term::error, threshold_term::beyond}) {
            out.add(fake_quantize_backward_threshold(x, dy, dx, quantizer{format, -5}, term, {}, executor));
            out.add(dx);
        }
    for_each_layout([&](const channel_quantizer& cq) {
        std::vector<double> sums(cq.exponents.size());
        fake_quantize_backward_threshold(x, dy, dx, cq, threshold_term::error, sums, {}, executor);
        out.add(sums);
        out.add(dx);
    });
}

void observe_op(digest& out, random_source& random, const test_executor& executor) {
    const std::vector<float> x = floats(random, elements, -5);
    out.add(observe(x, executor));
    for (const auto& [channels, inner] : {std::pair{21, 1}, std::pair{3, 7 * 1601}}) {
        std::vector<range> ranges(static_cast<std::size_t>(channels));
        observe_channels(x, inner, ranges, executor);
        for (const range& r : ranges) out.add(r);
    }
    const exponent_histogram exponents = observe_exponents(x, executor);
    out.add(std::span<const std::uint64_t>(exponents.counts));
    for (const double fraction : {0.5, 0.99, 1.0}) out.add(percentile_exponent(exponents, int8, fraction));
    const auto magnitudes = serialize(observe_magnitudes(moderate(random, elements), executor));
    for (const std::byte b : magnitudes) out.add(static_cast<std::uint8_t>(b));
}

void exponent_op(digest& out, random_source& random, const test_executor& executor) {
    for (int i = 0; i < 2000; ++i) {
        range r;
        // One by one: the order of a call's arguments is the compiler's.
        for (float* end : {&r.min, &r.max}) {
            *end = static_cast<float>(end == &r.min ? random.uniform(-1, 0) : random.uniform(0, 1));
            *end = std::ldexp(*end, static_cast<int>(random.integer(-20, 20)));
        }
        r.finite = 2;
        for (const exponent_rule rule : {exponent_rule::ceil_log2, exponent_rule::no_clip, exponent_rule::round_log2,
                                         exponent_rule::esp_ppq, exponent_rule::vitis})
            for (const integer_format format : formats) out.add(exponent_for(r, format, rule));
    }
    const std::vector<float> x = moderate(random, elements);
    for (const integer_format format : formats) {
        const squared_errors errors = observe_squared_errors(x, quantizer{format}, {.first = -1, .count = 8}, executor);
        out.add(std::span<const double>(errors.sums));
        out.add(errors.exponent());
    }
}

void quantize_op(digest& out, random_source& random, const test_executor& executor) {
    const std::vector<float> x = floats(random, elements, -5);
    std::vector<float> y(x.size());
    const auto both = [&]<class Code>(Code, integer_format format) {
        std::vector<Code> q(x.size());
        for (const rounding mode : modes) {
            quantize(x, q, quantizer{format, -5, mode, 5}, executor);
            out.add(q);
            dequantize(q, y, -5, executor);
            out.add(y);
        }
        for_each_layout([&](channel_quantizer cq) {
            cq.format = format;
            quantize(x, q, cq, executor);
            out.add(q);
            dequantize(q, y, cq, executor);
            out.add(y);
        });
    };
    both(std::int8_t{}, int8);
    both(std::uint8_t{}, {.bits = 8, .is_signed = false});
    both(std::int16_t{}, {.bits = 16});
}

void batch_norm_op(digest& out, random_source& random, const test_executor& executor) {
    constexpr std::size_t channels = 21;
    const std::vector<float> u = moderate(random, channels * 1601);
    const std::vector<float> dy = moderate(random, u.size());
    std::vector<float> y(u.size());
    std::vector<double> mean(channels);
    std::vector<double> variance(channels);
    batch_moments(u, mean, variance, executor);
    out.add(mean);
    out.add(variance);
    std::vector<float> gamma = moderate(random, channels);
    std::vector<float> beta = moderate(random, channels);
    std::vector<double> moving_mean(channels);
    std::vector<double> moving_variance(channels);
    for (std::size_t c = 0; c < channels; ++c) {
        moving_mean[c] = random.uniform(-1, 1);
        moving_variance[c] = random.uniform(0.5, 4);
    }
    const std::vector<float> weights = moderate(random, channels * 9);
    for (const bool frozen : {false, true}) {
        const batch_norm norm{.gamma = gamma,
                              .beta = beta,
                              .moving_mean = moving_mean,
                              .moving_variance = moving_variance,
                              .batch_mean = mean,
                              .batch_variance = variance,
                              .frozen = frozen};
        std::vector<double> grads[4] = {};
        for (auto& g : grads) g.resize(channels);
        batch_norm_forward(u, norm, y, executor);
        out.add(y);
        batch_norm_backward(u, dy, norm, {grads[0], grads[1], grads[2], grads[3]}, y, executor);
        out.add(y);
        std::vector<float> folded(weights.size());
        std::vector<float> grad_weights(weights.size());
        for (const std::int64_t inner : {1, 9}) {
            fold_weights(weights, inner, norm, folded, executor);
            out.add(folded);
            fold_weights_backward(weights, folded, inner, norm, grad_weights, grads[0], executor);
            out.add(grad_weights);
        }
        for (const auto& g : grads) out.add(g);
        batch_moments_backward(u, mean, grads[2], grads[3], y, executor);
        out.add(y);
        std::vector<float> bias(channels);
        fold_bias(norm, bias);
        out.add(bias);
    }
}

void tracker_op(digest& out, random_source& random, const test_executor& executor) {
    ema_range ema{.decay = 0.9F, .zero_debias = true, .delay = 5};
    min_max_range all;
    tqt_threshold threshold{.log2_t = 0.75};
    lsq_step step{.step = 0.03};
    for (int i = 0; i < 50; ++i) {
        const range seen = observe(moderate(random, 999), executor);
        ema.update(seen);
        all.update(seen);
        out.add(ema.current());
        out.add(all.current());
        // The published rule normalizes by tanh, whose last bit is the C library's; Adam and momentum are arithmetic.
        threshold = tqt_update(threshold, random.uniform(-1, 1));
        step = lsq_update(step, random.uniform(-1e-3, 1e-3));
        out.add(threshold.log2_t);
        out.add(step.step);
        out.add(threshold.exponent(int8));
        out.add(step.exponent());
    }
    for (const std::byte b : serialize(ema)) out.add(static_cast<std::uint8_t>(b));
}

// ---- inference ------------------------------------------------------------------------------------------------------

void conv2d_op(digest& out, random_source& random, const test_executor& executor) {
    for (int i = 0; i < 150; ++i) {
        const conv2d_shape s = random_conv2d_shape(random);
        const random_requantization r(random, s.outputs);
        const auto weights = codes<std::int8_t>(random, s.weights());
        const auto input = codes<std::int8_t>(random, s.input.elements(), r.q.input_format);
        std::vector<std::int8_t> y(static_cast<std::size_t>(s.output().elements()));
        const certificate proof = certify(s, weights, r.bias(), r.q);
        out.add(proof.magnitude);
        if (proof.int32_safe) {
            const conv2d layer = make_layer(s, weights, r.bias(), r.q);
            layer.run(input, y, executor);
            out.add(y);
            std::vector<std::int32_t> sums(y.size());
            layer.accumulate(input, sums, executor);
            out.add(sums);
        }
        requantization wide = r.q;
        wide.input_format = {.bits = 16};
        if (i % 3 != 0 || !certify(s, weights, r.bias(), wide).int32_safe) continue;
        const auto words = codes<std::int16_t>(random, s.input.elements());
        make_layer(s, weights, r.bias(), wide).run(words, y, executor);
        out.add(y);
    }
}

void depthwise_op(digest& out, random_source& random, const test_executor& executor) {
    for (int i = 0; i < 150; ++i) {
        const depthwise_conv2d_shape s = random_depthwise_shape(random);
        const random_requantization r(random, s.outputs());
        const auto weights = codes<std::int8_t>(random, s.weights());
        const auto input = codes<std::int8_t>(random, s.input.elements(), r.q.input_format);
        std::vector<std::int8_t> y(static_cast<std::size_t>(s.output().elements()));
        const certificate proof = certify(s, weights, r.bias(), r.q);
        out.add(proof.magnitude);
        if (!proof.int32_safe) continue;
        make_layer(s, weights, r.bias(), r.q).run(input, y, executor);
        out.add(y);
    }
}

/// A network's usual block: depthwise, pointwise and a residual, fused.
void separable_op(digest& out, random_source& random, const test_executor& executor) {
    const int weight_exponent[] = {-7};
    const requantization q{.input_exponent = -5, .weight_exponents = weight_exponent, .output_exponent = -4};
    for (const std::int64_t channels : {8, 24, 33, 64, 160})
        for (const std::int64_t side : {7, 20}) {
            const depthwise_conv2d_shape first{.input = {2, side, side, channels},
                                               .window = {.kernel = {3, 3}, .padding = {1, 1, 1, 1}}};
            const conv2d_shape second{.input = first.output(), .outputs = channels};
            requantization next = q;
            next.input_exponent = q.output_exponent;
            // By themselves: the order of arguments is the compiler's.
            const auto first_weights = codes<std::int8_t>(random, first.weights());
            const auto second_weights = codes<std::int8_t>(random, second.weights());
            const separable_conv2d block(make_layer(first, first_weights, {}, q),
                                         make_layer(second, second_weights, {}, next));
            const auto input = codes<std::int8_t>(random, first.input.elements());
            std::vector<std::int8_t> y(static_cast<std::size_t>(block.output().elements()));
            block.run(input, y, executor);
            out.add(y);
            block.run_add(input, input, y, {.a_exponent = -4, .b_exponent = -5, .output_exponent = -4}, executor);
            out.add(y);
        }
}

void integer_forward_op(digest& out, random_source& random, const test_executor& executor) {
    for (int i = 0; i < 60; ++i) {
        conv2d_shape s = random_conv2d_shape(random);
        while (s.macs() > 200000) s = random_conv2d_shape(random);
        const int exponents[] = {-7};
        const channel_quantizer weight_q{.exponents = exponents};
        const quantizer input_q{int8, -5};
        const std::vector<float> x = moderate(random, static_cast<std::size_t>(s.input.elements()));
        const std::vector<float> w = moderate(random, static_cast<std::size_t>(s.weights()));
        const std::vector<float> b = moderate(random, static_cast<std::size_t>(s.outputs));
        std::vector<float> y(static_cast<std::size_t>(s.output().elements()));
        integer_forward_conv2d layer(s, int8, weight_layout::hwio, layers.conv2d, layers.quantize);
        layer.run(x, input_q, w, weight_q, b, y, executor);
        out.add(y);
        const depthwise_conv2d_shape d{.input = s.input, .window = s.window};
        std::vector<float> z(static_cast<std::size_t>(d.output().elements()));
        integer_forward_depthwise_conv2d depthwise(d, int8, weight_layout::hwio, layers.depthwise_conv2d,
                                                   layers.quantize);
        depthwise.run(x, input_q, moderate(random, static_cast<std::size_t>(d.weights())), weight_q, {}, z, executor);
        out.add(z);
    }
}

void pools_op(digest& out, random_source& random, const test_executor& executor) {
    for (int i = 0; i < 60; ++i) {
        pool_shape s{.input = random_input(random)};
        s.window = random_window(random, s.input);
        s.window.padding = {};
        if (s.output().height < 1 || s.output().width < 1) s.window = {};
        const auto x = codes<std::int8_t>(random, s.input.elements());
        std::vector<std::int8_t> y(static_cast<std::size_t>(s.output().elements()));
        std::vector<std::int16_t> means(y.size());
        average_pool(s, x, y, executor, layers.pool);
        out.add(y);
        average_pool(s, x, means, executor, layers.pool);
        out.add(means);
        max_pool(s, x, y, executor, layers.pool);
        out.add(y);
    }
}

void rescale_op(digest& out, random_source& random, const test_executor& executor) {
    const auto a = codes<std::int8_t>(random, elements);
    const auto b = codes<std::int8_t>(random, elements);
    const auto wide = codes<std::int16_t>(random, elements);
    std::vector<std::int8_t> y(elements);
    std::vector<std::int16_t> words(elements);
    for (const rounding mode : {rounding::half_up, rounding::half_even, rounding::half_away, rounding::floor})
        for (const int exponent : {-9, -5, -4, 0}) {
            add(a, b, y, {.a_exponent = -6, .b_exponent = -4, .output_exponent = exponent, .mode = mode}, executor,
                layers.rescale);
            out.add(y);
            requantize(wide, y, {.input_exponent = -8, .output_exponent = exponent, .mode = mode}, executor,
                       layers.rescale);
            out.add(y);
            requantize(a, words, {.input_exponent = -8, .output_exponent = exponent, .mode = mode}, executor,
                       layers.rescale);
            out.add(words);
            std::vector<std::int8_t> joined(elements * 2);
            const concat_part<std::int8_t> parts[] = {{a, 21, -6}, {b, 21, -4}};
            concat<std::int8_t>(parts, elements / 21, joined, {.output_exponent = exponent, .mode = mode}, executor,
                                layers.rescale);
            out.add(joined);
        }
}

constexpr op ops[] = {
    {"fake_quantize", fake_quantize_op},
    {"fake_quantize, bfloat16", fake_quantize_half<bfloat16>},
    {"fake_quantize, float16", fake_quantize_half<float16>},
    {"fake_quantize_backward", backward_op},
    {"fake_quantize_backward_threshold", threshold_op},
    {"observe", observe_op},
    {"exponent_for, observe_squared_errors", exponent_op},
    {"quantize, dequantize", quantize_op},
    {"batch norm", batch_norm_op},
    {"trackers, thresholds", tracker_op},
    {"conv2d", conv2d_op},
    {"depthwise_conv2d", depthwise_op},
    {"separable_conv2d", separable_op},
    {"integer_forward", integer_forward_op},
    {"pools", pools_op},
    {"add, concat, requantize", rescale_op},
};

struct expected_digest {
    std::string_view op;
    std::string_view sha256;
};
constexpr expected_digest expected[] = {
#include "digests.inc"
};

std::string digest_of(const op& o, const test_executor& executor) {
    digest out;
    random_source random(seed);
    o.run(out, random, executor);
    return out.sha256();
}

void print_digests() {
    for (const op& o : ops) std::printf("{\"%s\", \"%s\"},\n", o.name, digest_of(o, {}).c_str());
}

/// How many digests differ, of all ops and executors.
int compare() {
    int differing = 0;
    for (const op& o : ops) {
        std::string_view wanted = "none: battery --print writes it";
        for (const expected_digest& e : expected)
            if (e.op == o.name) wanted = e.sha256;
        std::printf("%.*s  %s\n", static_cast<int>(wanted.size()), wanted.data(), o.name);
        for (const int threads : {1, 3}) {
            const test_executor executor{test_executor::shuffled_threads, threads};
            const std::string found = digest_of(o, executor);
            if (found == wanted) continue;
            ++differing;
            std::printf("%s  by %s: DIFFERS\n", found.c_str(), executor.name().c_str());
        }
    }
    std::printf("%s: %zu ops, %d digests differ\n", layers.arch, std::size(ops), differing);
    return differing;
}

}  // namespace
}  // namespace po2quant::test

int main(int argc, char** argv) {
    if (argc > 2 || (argc == 2 && std::strcmp(argv[1], "--print") != 0)) {
        std::fprintf(stderr, "%s: allowed is --print\n", argv[argc - 1]);
        return 2;
    }
    if (argc == 2) {
        po2quant::test::print_digests();
        return 0;
    }
    return po2quant::test::compare() == 0 ? 0 : 1;
}
