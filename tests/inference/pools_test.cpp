// Pools against their specification.
#include <po2quant/inference/average_pool.hpp>
#include <po2quant/inference/max_pool.hpp>
#include <po2quant/reference/pool.hpp>

#include "inference/random_layers.hpp"
#include "support/catch.hpp"
#include "support/guarded_memory.hpp"

namespace po2quant::test {
namespace {

const int rounds = full() ? 10000 : 700;

template <class Pool, class Output>
void compare(const Pool& pool, const std::vector<std::int8_t>& codes, const std::vector<Output>& want,
             random_source& random) {
    guarded_memory in_memory(codes.size() + 64);
    guarded_memory out_memory(want.size() * sizeof(Output) + 64);
    for (const edge side : edges) {
        const auto gap = random.integer(0, 2) == 0 ? static_cast<std::size_t>(random.integer(0, 15)) : 0;
        const auto in = in_memory.buffer<std::int8_t>(codes.size(), side, gap);
        std::copy(codes.begin(), codes.end(), in.begin());
        const auto out = out_memory.buffer<Output>(want.size(), side, gap);
        pool(std::span<const std::int8_t>(in), out);
        CHECK(std::equal(want.begin(), want.end(), out.begin()));
        CHECK(out_memory.untouched_outside(out));
        CHECK(std::equal(codes.begin(), codes.end(), in.begin()));
    }
}

TEST_CASE("pools equal the reference") {
    random_source random;
    for (int round = 0; round < rounds; ++round) {
        pool_shape s{random_input(random), {}};
        s.window = random_window(random, s.input);
        CAPTURE(s.input.batch, s.input.height, s.input.width, s.input.channels, s.window.kernel.height,
                s.window.kernel.width, s.window.dilation.height, s.window.dilation.width);
        std::vector<std::int8_t> codes(static_cast<std::size_t>(s.input.elements()));
        fill(codes, random);
        const auto n = static_cast<std::size_t>(s.output().elements());
        const test_executor executor = random_executor(random);
        const auto average = [&]<class Output>(Output) {
            std::vector<Output> want(n);
            reference::average_pool(s, std::span<const std::int8_t>(codes), std::span<Output>(want));
            compare([&](auto in, auto out) { average_pool(s, in, out, executor); }, codes, want, random);
        };
        average(std::int8_t{});
        average(std::int16_t{});
        average(std::int32_t{});
        std::vector<std::int8_t> want(n);
        reference::max_pool(s, codes, want);
        compare([&](auto in, auto out) { max_pool(s, in, out, executor); }, codes, want, random);
    }
}

TEST_CASE("the mean is the rounded quotient: every sum of up to 49 codes") {
    for (std::int64_t area = 1; area <= 49; ++area)
        for (std::int64_t sum = -128 * area; sum <= 127 * area; ++sum) {
            // Twice the distance to the exact quotient is at most the divisor, and a tie lies below the mean.
            const std::int64_t narrow = 2 * (sum - rounded_mean(sum, area, 0) * area);
            const std::int64_t wide = 2 * (256 * sum - rounded_mean(sum, area, 8) * area);
            if (narrow < -area || narrow >= area || wide < -area || wide >= area) FAIL_CHECK(sum << " / " << area);
        }
    SUCCEED();
}

TEST_CASE("a global average is the mean of each channel") {
    random_source random;
    for (const std::int64_t side : {1, 4, 5, 7, 32}) {
        const pool_shape s{{3, side, side, 70}, {.kernel = {side, side}, .stride = {2, 2}}};
        CHECK(s.output() == nhwc{3, 1, 1, 70});
        std::vector<std::int8_t> codes(static_cast<std::size_t>(s.input.elements()));
        fill(codes, random);
        std::vector<std::int32_t> sums(210);
        std::vector<std::int16_t> wide(210);
        std::vector<std::int8_t> narrow(210);
        average_pool(s, codes, sums);
        average_pool(s, codes, wide);
        average_pool(s, codes, narrow);
        const auto area = static_cast<std::size_t>(side * side);
        for (std::size_t at = 0; at < 210; ++at) {
            std::int32_t sum = 0;
            for (std::size_t p = 0; p < area; ++p) sum += codes[(at / 70 * area + p) * 70 + at % 70];
            const long double mean = static_cast<long double>(sum) / static_cast<long double>(area);
            CHECK(sums[at] == sum);
            CHECK(wide[at] == static_cast<int>(std::floor(256 * mean + 0.5L)));
            CHECK(narrow[at] == static_cast<int>(std::floor(mean + 0.5L)));
        }
    }
}

TEST_CASE("windows that see only padding give 0 and -128") {
    // The two taps are at -1 and 1, beside the only pixel.
    const pool_shape s{{1, 1, 1, 3}, {.kernel = {1, 2}, .dilation = {1, 2}, .padding = {0, 0, 1, 1}}};
    const std::vector<std::int8_t> codes{1, -2, 3};
    std::vector<std::int8_t> out(3, 77);
    average_pool(s, codes, out);
    CHECK(out == std::vector<std::int8_t>{0, 0, 0});
    max_pool(s, codes, out);
    CHECK(out == std::vector<std::int8_t>{-128, -128, -128});
}

TEST_CASE("the largest window") {
    random_source random;
    const pool_shape s{{1, 32, 40, 5}, {.kernel = {32, 32}, .padding = {31, 0, 5, 31}}};
    std::vector<std::int8_t> codes(static_cast<std::size_t>(s.input.elements()));
    fill(codes, random);
    std::vector<std::int16_t> want(static_cast<std::size_t>(s.output().elements()));
    std::vector<std::int16_t> means(want.size());
    reference::average_pool(s, std::span<const std::int8_t>(codes), std::span<std::int16_t>(want));
    average_pool(s, codes, means);
    CHECK(means == want);
}

}  // namespace
}  // namespace po2quant::test
