// 16-bit floats compared as integers: the same order, the same intervals.
#include <po2quant/simd/words.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include "../support/catch.hpp"
#include "../support/random.hpp"

using namespace po2quant;

namespace {

template <half_type Half>
void check_order() {
    // Every value beside the next larger one, from the least NaN over both zeros to the largest.
    for (int v = -32768; v < 32767; ++v) {
        const auto value_of = [](int word) {
            return to_float(Half{static_cast<std::uint16_t>(word ^ (word >> 15 & 0x7fff))});
        };
        const float own = value_of(v);
        const float next = value_of(v + 1);
        REQUIRE(simd::ordered(static_cast<std::uint16_t>(v ^ (v >> 15 & 0x7fff))) == v);
        if (own == own && next == next) REQUIRE((v == -1 ? own == next : own < next));
    }
}

template <half_type Half>
void check_intervals() {
    test::random_source random;
    const float infinity = std::numeric_limits<float>::infinity();
    std::vector<float> ends{0.0F,     -0.0F,    infinity,  -infinity, 1.0F,  65504.0F,
                            65519.0F, 65520.0F, -65520.0F, 1e30F,     1e-38F};
    for (const float v :
         {0x1p-24F, 0x1p-25F, 0x1p-26F, 0x1p-133F, 0x1p-134F, 0x1p-149F, 0x1.8p-24F, 0x1.ffp0F, 3.4e38F})
        for (const float signed_v : {v, -v})
            for (const float end : {signed_v, std::nextafter(signed_v, infinity), std::nextafter(signed_v, -infinity)})
                ends.push_back(end);
    for (int i = 0; i < 20; ++i)
        ends.push_back(
            static_cast<float>(std::ldexp(random.uniform(-1, 1), static_cast<int>(random.integer(-30, 20)))));
    for (const float low : ends)
        for (int k = 0; k < 8; ++k) {
            const float_interval floats{low, k == 0 ? low : random.one_of(ends)};
            const simd::word_interval words = simd::words_of<Half>(floats);
            std::size_t wrong = 0;
            for (int bits = 0; bits < 1 << 16; ++bits) {
                const Half v{static_cast<std::uint16_t>(bits)};
                wrong += words.contains(v.bits) != floats.contains(to_float(v));
            }
            INFO("[" << floats.low << ", " << floats.high << "] as [" << words.low << ", " << words.high << "]");
            CHECK(wrong == 0);
        }
}

}  // namespace

TEST_CASE("16-bit floats as integers: the same order") {
    check_order<bfloat16>();
    check_order<float16>();
}

TEST_CASE("16-bit floats as integers: every value is in the interval that its float is in") {
    check_intervals<bfloat16>();
    check_intervals<float16>();
}
