/// The kernels against the scalar rules on float bit patterns, every exponent among them: outputs, codes, masks, codes
/// beside outputs, gradients and the terms of threshold gradients. When PO2QUANT_FULL is set, all 2^32 of them: for the
/// original's rounding on four formats at two exponents each, for the others on int8; else, and for odd grids, evenly
/// spread ones.
#include <atomic>
#include <bit>
#include <cmath>
#include <thread>
#include <vector>

#include <po2quant/kernels/fake_quantize.hpp>
#include <po2quant/kernels/fake_quantize_backward.hpp>
#include <po2quant/kernels/quantize.hpp>

#include "../support/float_cases.hpp"
#include "../support/same_bits.hpp"

using namespace po2quant;

namespace {

constexpr std::size_t block = 1 << 14;

/// What one thread works with; `wrong` is the first mistake it met.
struct bench {
    std::vector<float> x = std::vector<float>(block);
    std::vector<float> y = std::vector<float>(block);
    std::vector<float> alone = std::vector<float>(block);  // y by a pass that leaves nothing else
    std::vector<float> ones = std::vector<float>(block, 1.0F);
    std::vector<double> terms = std::vector<double>(block);
    std::vector<float> dx = std::vector<float>(block);
    std::vector<std::int8_t> codes8 = std::vector<std::int8_t>(block);
    std::vector<std::int16_t> codes16 = std::vector<std::int16_t>(block);
    std::vector<std::int16_t> beside = std::vector<std::int16_t>(block);
    std::vector<std::uint8_t> mask = std::vector<std::uint8_t>(block / 8);
    std::string wrong;
};

template <rounding Mode>
void check_block(bench& b, const quantizer& q, std::uint64_t first_index) {
    const kernels::grid g = kernels::grid_of(q, first_index);
    kernels::forward_extras extras;
    extras.codes = b.beside.data();
    extras.code_bytes = 2;
    extras.mask = b.mask.data();
    extras.pass = pass_interval(q.format, q.mode, ste::clip_code);
    extras.pass_by_code = Mode == rounding::stochastic;
    kernels::fake_quantize<default_arch, Mode>(b.x.data(), b.y.data(), block, q.exponent, g, extras);
    kernels::fake_quantize<default_arch, Mode>(b.x.data(), b.alone.data(), block, q.exponent, g);
    // Sixteen elements have a sum each.
    for (std::size_t i = 0; i < block; i += simd::sum_lanes) {
        simd::compensated_lanes<simd::sum_lanes> lanes{};
        const kernels::grid from = kernels::grid_of(q, first_index + i);
        kernels::pass_gradient_and_sum<default_arch, Mode>(
            b.x.data() + i, b.ones.data(), b.dx.data(), 1, 0, simd::sum_lanes, q.exponent,
            {from, threshold_term::error, extras.pass, extras.pass, extras.pass_by_code}, lanes);
        for (std::size_t k = 0; k < simd::sum_lanes; ++k) b.terms[i + k] = lanes.total(k);
    }
    // int8 and uint8 codes have the same low 8 bits.
    const bool bytes = q.format.bits <= 8;
    if (bytes) kernels::quantize<default_arch, Mode>(b.x.data(), b.codes8.data(), block, q.exponent, g);
    kernels::quantize<default_arch, Mode>(b.x.data(), b.codes16.data(), block, q.exponent, g);
    // The upstream gradient is x itself: any bits.
    const float_interval pass = pass_interval(q.format, q.mode, ste::clip_code);
    const float scale = exp2_float(q.exponent);
    if (Mode == rounding::stochastic)
        kernels::pass_gradient_stochastic<default_arch>(b.x.data(), b.x.data(), b.dx.data(), block, q.exponent, g);
    else
        kernels::pass_gradient<default_arch>(b.x.data(), b.x.data(), b.dx.data(), block,
                                             {pass.low * scale, pass.high * scale});
    for (std::size_t i = 0; i < block; ++i) {
        const float x = b.x[i];
        const std::int32_t code = quantize(x, q, first_index + i);
        const float y = x != x ? x : dequantize(code, q.exponent);
        const float dx = fake_quantize_gradient(x, x, q, ste::clip_code, first_index + i);
        const bool passes = fake_quantize_gradient(x, 1.0F, q, ste::clip_code, first_index + i) != 0;
        const bool same_codes = b.codes16[i] == code && b.beside[i] == code &&
                                (!bytes || static_cast<std::uint8_t>(b.codes8[i]) == static_cast<std::uint8_t>(code));
        const float term = x != x   ? 0.0F
                           : passes ? static_cast<float>(code) - x * exp2_float(-q.exponent)
                                    : static_cast<float>(code);
        if (!test::same_bits(b.y[i], y) || !test::same_bits(b.alone[i], y) || b.terms[i] != term || !same_codes ||
            !test::identical(b.dx[i], dx) || (b.mask[i / 8] >> (i % 8) & 1) != static_cast<int>(passes)) {
            b.wrong = test::name_of(q) + ", index " + std::to_string(first_index + i) + ": " + test::shown(x) +
                      " gives " + test::shown(b.y[i]) + ", codes " + std::to_string(b.codes8[i]) + ", " +
                      std::to_string(b.codes16[i]) + " and " + std::to_string(b.beside[i]) + ", bit " +
                      std::to_string(b.mask[i / 8] >> (i % 8) & 1) + ", gradient " + test::shown(b.dx[i]) + ", term " +
                      test::shown(static_cast<float>(b.terms[i])) + ", alone " + test::shown(b.alone[i]) +
                      "; expected " + test::shown(y) + ", " + std::to_string(code) + ", " + test::shown(dx) + ", " +
                      test::shown(term);
            return;
        }
    }
}

/// One pattern out of each 2^32 / count neighbours, the lower bits mixed so that all mantissa bits vary.
std::uint32_t pattern(std::uint64_t i, int spread) {
    const auto base = static_cast<std::uint32_t>(i << spread);
    return spread == 0 ? base : base | (mix_bits(base) & ((1U << spread) - 1U));
}

template <rounding Mode>
void sweep(integer_format format, int exponent, int spread) {
    const std::uint64_t blocks = (std::uint64_t{1} << (32 - spread)) / block;
    const quantizer q{format, exponent, Mode, 0x123456789};
    std::atomic<std::uint64_t> next = 0;
    const auto work = [&](bench& b) {
        for (std::uint64_t n = next++; n < blocks && b.wrong.empty(); n = next++) {
            for (std::size_t i = 0; i < block; ++i) b.x[i] = std::bit_cast<float>(pattern(n * block + i, spread));
            check_block<Mode>(b, q, n * block);
        }
    };
    std::vector<bench> benches(std::max(1U, std::thread::hardware_concurrency()));
    std::vector<std::thread> threads;
    for (bench& b : benches) threads.emplace_back(work, std::ref(b));
    for (std::thread& t : threads) t.join();
    for (const bench& b : benches) {
        INFO(default_arch::name << ": " << b.wrong);
        CHECK(b.wrong.empty());
    }
}

template <rounding Mode>
void sweep_all() {
    sweep<Mode>(int8, -4, test::full() ? 0 : 10);
    const int spread = test::full() ? 6 : 14;
    sweep<Mode>(int4, max_exponent, spread);  // small products underflow
    sweep<Mode>(int8_narrow, min_exponent, spread);
    sweep<Mode>(integer_format{.bits = 7, .is_signed = false}, 0, spread);
}

}  // namespace

TEST_CASE("float patterns: half_up") { sweep_all<rounding::half_up>(); }
TEST_CASE("float patterns: half_up on four formats") {
    for (const integer_format format : {int8, uint8, int4, int16})
        for (const int exponent : {-4, 2}) sweep<rounding::half_up>(format, exponent, test::full() ? 0 : 13);
}
TEST_CASE("float patterns: half_even") { sweep_all<rounding::half_even>(); }
TEST_CASE("float patterns: half_away") { sweep_all<rounding::half_away>(); }
TEST_CASE("float patterns: floor") { sweep_all<rounding::floor>(); }
TEST_CASE("float patterns: stochastic") { sweep_all<rounding::stochastic>(); }

TEST_CASE("stochastic rounding: element indices around and beyond 2^32") {
    test::random_source random;
    bench b;
    const std::uint64_t step = std::uint64_t{1} << 32;
    for (const std::uint64_t near : {step, 3 * step, std::uint64_t{1} << 62})
        for (std::uint64_t before = 0; before < 40; ++before) {
            const quantizer q{int8, -4, rounding::stochastic, random.bits()};
            test::fill_values(b.x, random, int8, std::vector{q.exponent});
            check_block<rounding::stochastic>(b, q, near - 64 - before);
            INFO(default_arch::name << ": " << b.wrong);
            CHECK(b.wrong.empty());
        }
}

TEST_CASE("stochastic rounding: random bits of 0 take up any fraction") {
    constexpr std::uint64_t seed = 7;
    std::uint64_t zero = block;
    while (random_bits(seed, zero) >> 8 != 0) ++zero;
    bench b;
    for (const int exponent : {min_exponent, -4, 3, max_exponent}) {
        const quantizer q{int8, exponent, rounding::stochastic, seed};
        REQUIRE(quantize(std::ldexp(1.0F, std::min(exponent - 20, 0)), q, zero) == 1);
        for (const float magnitude : {0x1p-149F, 0x1p-126F, 0x1.8p-100F, 0x1p-76F, 0x1p-30F, 1.0F})
            for (const float x : {magnitude, -magnitude}) {
                std::fill(b.x.begin(), b.x.end(), x);
                check_block<rounding::stochastic>(b, q, zero - 77);
                INFO(default_arch::name << ": " << b.wrong);
                CHECK(b.wrong.empty());
            }
    }
}
