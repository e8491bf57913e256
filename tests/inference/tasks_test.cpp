// Layers that are cut into many tasks: threads, the order of tasks, batches and copies change nothing.
#include <memory>

#include "inference/kernels.hpp"
#include "inference/random_layers.hpp"
#include "support/catch.hpp"

namespace po2quant::test {
namespace {

std::int64_t outputs_of(const conv2d_shape& s) { return s.outputs; }
std::int64_t outputs_of(const depthwise_conv2d_shape& s) { return s.outputs(); }

void reference_sums(const conv2d_shape& s, const std::vector<std::int8_t>& input,
                    const std::vector<std::int8_t>& weights, const random_requantization& r,
                    std::vector<std::int32_t>& sums) {
    reference::conv2d_sums<std::int8_t>(s, input, weights, r.bias(), r.q, weight_layout::hwio, sums);
}
void reference_sums(const depthwise_conv2d_shape& s, const std::vector<std::int8_t>& input,
                    const std::vector<std::int8_t>& weights, const random_requantization& r,
                    std::vector<std::int32_t>& sums) {
    reference::depthwise_conv2d_sums(s, input, weights, r.bias(), r.q, weight_layout::hwio, sums);
}

/// Exponents and bias that no accumulator overflows with.
void tame(random_requantization& r) {
    r.q.input_format = int8;
    r.q.input_exponent = -4;
    for (int& e : r.weight_exponents) e = -7;
    for (int& e : r.bias_exponents) e = -12;
}

/// Every executor gives the reference's codes and sums.
template <class Shape>
void check_executors(const Shape& s, random_source& random) {
    std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()));
    std::vector<std::int8_t> input(static_cast<std::size_t>(s.input.elements()));
    fill(weights, random);
    fill(input, random);
    random_requantization r(random, outputs_of(s));
    tame(r);
    const auto layer = make_layer(s, weights, r.bias(), r.q);
    std::vector<std::int32_t> sums(static_cast<std::size_t>(s.output().elements()));
    std::vector<std::int8_t> codes(sums.size());
    reference_sums(s, input, weights, r, sums);
    reference::requantize_sums(sums, codes, outputs_of(s), r.q);
    for (const test_executor& executor : executors()) {
        INFO(executor.name());
        std::vector<std::int8_t> own(codes.size());
        layer.run(input, own, executor);
        CHECK(own == codes);
        std::vector<std::int32_t> own_sums(sums.size());
        layer.accumulate(input, own_sums, executor);
        CHECK(own_sums == sums);
    }
}

/// Counts the tasks of a call.
struct counting_executor {
    std::int64_t& tasks;
    template <class F>
    void parallel_for(std::int64_t count, F&& f) const {
        tasks = count;
        for (std::int64_t task = 0; task < count; ++task) f(task);
    }
};

TEST_CASE("threads and the order of tasks change nothing") {
    random_source random;
    const window2d same{.kernel = {3, 3}, .padding = {1, 1, 1, 1}};
    const window2d wide{.kernel = {2, 5}, .stride = {1, 2}, .dilation = {2, 1}, .padding = {1, 2, 3, 0}};
    check_executors(conv2d_shape{.input = {2, 20, 23, 64}, .outputs = 130, .window = same}, random);
    check_executors(conv2d_shape{.input = {2, 40, 45, 64}, .outputs = 130}, random);
    check_executors(conv2d_shape{.input = {1, 5, 601, 48}, .outputs = 72, .window = wide, .groups = 2}, random);
    check_executors(depthwise_conv2d_shape{.input = {2, 40, 45, 72}, .window = same}, random);
    check_executors(depthwise_conv2d_shape{.input = {1, 4, 1999, 33}, .multiplier = 2, .window = wide}, random);
}

TEST_CASE("work of some size is cut into tasks") {
    random_source random;
    std::int64_t tasks = 0;
    const auto count = [&](const auto& s) {
        std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()), 1);
        std::vector<std::int8_t> input(static_cast<std::size_t>(s.input.elements()), 1);
        std::vector<std::int8_t> codes(static_cast<std::size_t>(s.output().elements()));
        const int exponents[] = {-7};
        const requantization q{.weight_exponents = exponents};
        make_layer(s, weights, {}, q).run(input, codes, counting_executor{tasks});
        return tasks;
    };
    const window2d same{.kernel = {3, 3}, .padding = {1, 1, 1, 1}};
    CHECK(count(conv2d_shape{.input = {1, 28, 28, 64}, .outputs = 64, .window = same}) >= 7);
    CHECK(count(conv2d_shape{.input = {1, 1, 1000, 128}, .outputs = 64, .window = same}) >= 7);
    CHECK(count(depthwise_conv2d_shape{.input = {1, 56, 56, 64}, .window = same}) >= 7);
    CHECK(count(depthwise_conv2d_shape{.input = {1, 1, 4000, 64}, .window = same}) >= 7);
}

template <class Shape>
void check_batch(Shape s, random_source& random) {
    s.input.batch = random.integer(2, 5);
    std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()));
    std::vector<std::int8_t> input(static_cast<std::size_t>(s.input.elements()));
    fill(weights, random);
    fill(input, random);
    random_requantization r(random, outputs_of(s));
    tame(r);
    const auto together = make_layer(s, weights, r.bias(), r.q);
    std::vector<std::int8_t> codes(static_cast<std::size_t>(s.output().elements()));
    together.run(input, codes);
    const auto images = static_cast<std::size_t>(s.input.batch);
    s.input.batch = 1;
    const auto one = make_layer(s, weights, r.bias(), r.q);
    std::vector<std::int8_t> all;
    for (std::size_t n = 0; n < images; ++n) {
        std::vector<std::int8_t> own(codes.size() / images);
        one.run(std::span(input).subspan(n * input.size() / images, input.size() / images), own);
        all.insert(all.end(), own.begin(), own.end());
    }
    CHECK(all == codes);
}

TEST_CASE("a batch is its images one by one") {
    random_source random;
    for (int round = 0; round < 40; ++round) {
        check_batch(random_conv2d_shape(random), random);
        check_batch(random_walked_shape(random), random);
        check_batch(fully_connected_shape(1, random.integer(1, 99), random.integer(1, 99)), random);
    }
}

TEST_CASE("a layer keeps nothing of what it was made from, and is copied and moved whole") {
    random_source random;
    const conv2d_shape s{.input = {2, 7, 6, 5}, .outputs = 40, .window = {.kernel = {3, 2}, .padding = {2, 1, 0, 1}}};
    std::vector<std::int8_t> input(static_cast<std::size_t>(s.input.elements()));
    fill(input, random);
    std::vector<std::int32_t> want(static_cast<std::size_t>(s.output().elements()));
    std::unique_ptr<conv2d> layer;
    {
        std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()));
        fill(weights, random);
        random_requantization r(random, s.outputs);
        tame(r);
        reference_sums(s, input, weights, r, want);
        layer = std::make_unique<conv2d>(make_layer(s, weights, r.bias(), r.q));
        std::fill(weights.begin(), weights.end(), std::int8_t{99});
        for (int& e : r.weight_exponents) e = 99;
        for (auto& b : r.bias_i32) b = 99;
        for (auto& b : r.bias_i16) b = 99;
    }
    const conv2d copy = *layer;
    conv2d moved = std::move(*layer);
    layer.reset();
    for (const conv2d* each : {&copy, static_cast<const conv2d*>(&moved)}) {
        std::vector<std::int32_t> sums(want.size());
        each->accumulate(input, sums);
        CHECK(sums == want);
    }
}

}  // namespace
}  // namespace po2quant::test
