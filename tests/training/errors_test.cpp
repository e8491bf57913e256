/// Every bad argument of the training ops is refused with a message that names it, before anything is written.
#include <algorithm>
#include <vector>

#include <po2quant/training/fake_quantize.hpp>
#include <po2quant/training/fake_quantize_backward.hpp>
#include <po2quant/training/quantize.hpp>
#include <po2quant/training/range.hpp>

#include "../support/errors.hpp"

using namespace po2quant;

namespace {

constexpr std::size_t n = 12;

/// Arguments of a good call; each check spoils one.
struct arguments {
    std::vector<float> x = std::vector<float>(n, 0.5F);
    std::vector<float> dy = std::vector<float>(n, 1.0F);
    std::vector<float> y = std::vector<float>(n, 77.0F);
    std::vector<std::int8_t> codes = std::vector<std::int8_t>(n, 77);
    std::vector<int> exponents = {-4, -3, -2};
    quantizer q{.exponent = -4};
    channel_quantizer channels{.exponents = exponents, .inner = 2};

    bool nothing_written() const {
        return std::all_of(y.begin(), y.end(), [](float v) { return v == 77.0F; }) &&
               std::all_of(codes.begin(), codes.end(), [](int c) { return c == 77; });
    }
};

using floats = std::span<const float>;
using codes = std::span<std::int8_t>;
using const_codes = std::span<const std::int8_t>;
using parts = std::initializer_list<const char*>;

/// Calls run(arguments, quantizer) with every quantizer that is out of range, per tensor and per channel.
template <class F>
void for_each_bad_quantizer(F&& run) {
    const auto check = [&](auto&& spoil, parts expected) {
        arguments a;
        spoil(a.q);
        test::check_refused([&] { run(a, a.q); }, expected);
        CHECK(a.nothing_written());
    };
    const auto check_channels = [&](auto&& spoil, parts expected) {
        arguments a;
        spoil(a.channels);
        test::check_refused([&] { run(a, a.channels); }, expected);
        CHECK(a.nothing_written());
    };
    const auto both = [&](auto&& spoil, parts expected) {
        check(spoil, expected);
        check_channels(spoil, expected);
    };
    both([](auto& q) { q.format.bits = 1; }, {"format.bits is 1", "2..16"});
    both([](auto& q) { q.format.bits = 17; }, {"format.bits is 17", "2..16"});
    both([](auto& q) { q.format.bits = -8; }, {"format.bits is -8"});
    both([](auto& q) { q.format = {.bits = 8, .is_signed = false, .narrow_range = true}; },
         {"format.narrow_range is true for an unsigned format"});
    both([](auto& q) { q.mode = static_cast<rounding>(9); }, {"mode is 9", "0..4"});
    check([](quantizer& q) { q.exponent = 101; }, {"exponent is 101", "-100..100"});
    check([](quantizer& q) { q.exponent = -101; }, {"exponent is -101", "-100..100"});
    check([](quantizer& q) { q.exponent = std::numeric_limits<int>::min(); }, {"exponent is -2147483648"});
    static const int too_large[] = {0, 0, 101};
    static const int too_small[] = {0, -1000, 0};
    check_channels([](auto& q) { q.exponents = too_large; }, {"exponents[2] is 101", "-100..100"});
    check_channels([](auto& q) { q.exponents = too_small; }, {"exponents[1] is -1000", "-100..100"});
    check_channels([](auto& q) { q.exponents = {}; }, {"number of channels is 0", "1 or more"});
    check_channels([](auto& q) { q.exponents = {static_cast<const int*>(nullptr), 3}; }, {"exponents.data() is null"});
    check_channels([](auto& q) { q.inner = 0; }, {"inner is 0", "1..12"});
    check_channels([](auto& q) { q.inner = -1; }, {"inner is -1"});
    check_channels([](auto& q) { q.inner = std::numeric_limits<std::int64_t>::max(); },
                   {"inner is 9223372036854775807"});
    check_channels([](auto& q) { q.inner = 5; }, {"size is 12", "3 * 5"});
}

/// The calls must be refused, and so must their per-channel twins.
template <class F>
void refused_either_way(F&& run, parts expected) {
    arguments a;
    test::check_refused([&] { run(a, a.q); }, expected);
    test::check_refused([&] { run(a, a.channels); }, expected);
    CHECK(a.nothing_written());
}

const floats null_floats(static_cast<const float*>(nullptr), n);
const std::span<float> null_output(static_cast<float*>(nullptr), n);

}  // namespace

TEST_CASE("errors: fake_quantize") {
    for_each_bad_quantizer([](arguments& a, const auto& q) { fake_quantize(a.x, a.y, q); });
    const auto check = [](auto&& run, parts expected) { refused_either_way(run, expected); };
    check([](arguments& a, const auto& q) { fake_quantize(a.x, std::span(a.y).first(11), q); },
          {"fake_quantize: output.size() is 11", "exactly 12"});
    check([](arguments&, const auto& q) { fake_quantize(null_floats, null_output, q); },
          {"fake_quantize: input.data() is null"});
    check([](arguments& a, const auto& q) { fake_quantize(a.x, null_output, q); },
          {"fake_quantize: output.data() is null"});
    std::vector<float> shared(n + 1, 0.5F);
    check([&](arguments&, const auto& q) { fake_quantize(floats(shared).first(n), std::span(shared).last(n), q); },
          {"fake_quantize: output is memory that overlaps", "the input itself"});
    CHECK(shared == std::vector<float>(n + 1, 0.5F));
}

TEST_CASE("errors: fake_quantize_backward") {
    for_each_bad_quantizer([](arguments& a, const auto& q) { fake_quantize_backward(a.x, a.dy, a.y, q); });
    const auto check = [](auto&& run, parts expected) { refused_either_way(run, expected); };
    check([](arguments& a, const auto& q) { fake_quantize_backward(a.x, floats(a.dy).first(3), a.y, q); },
          {"fake_quantize_backward: grad_output.size() is 3", "exactly 12"});
    check([](arguments& a, const auto& q) { fake_quantize_backward(a.x, a.dy, std::span(a.y).first(0), q); },
          {"fake_quantize_backward: grad_input.size() is 0", "exactly 12"});
    check([](arguments& a, const auto& q) { fake_quantize_backward(a.x, null_floats, a.y, q); },
          {"grad_output.data() is null"});
    check([](arguments& a, const auto& q) { fake_quantize_backward(a.x, a.dy, null_output, q); },
          {"grad_input.data() is null"});
    check([](arguments& a, const auto& q) { fake_quantize_backward(null_floats, a.dy, a.y, q); },
          {"input.data() is null"});
    check([](arguments& a, const auto& q) { fake_quantize_backward(a.x, a.dy, a.y, q, {static_cast<ste>(4)}); },
          {"estimator is 4", "0..3"});
    std::vector<float> shared(n + 1, 0.5F);
    check([&](arguments& a,
              const auto& q) { fake_quantize_backward(a.x, floats(shared).first(n), std::span(shared).last(n), q); },
          {"grad_input is memory that overlaps"});
    check([&](arguments& a,
              const auto& q) { fake_quantize_backward(floats(shared).last(n), a.dy, std::span(shared).first(n), q); },
          {"grad_input is memory that overlaps"});
    CHECK(shared == std::vector<float>(n + 1, 0.5F));
}

TEST_CASE("errors: 16-bit storage is checked as float is") {
    std::vector<bfloat16> x(n + 1, to_storage<bfloat16>(0.5F));
    const std::vector<std::uint16_t> untouched(n + 1, x[0].bits);
    const std::span<const bfloat16> in(x.data(), n);
    const std::span<bfloat16> shifted = std::span(x).last(n);
    std::vector<bfloat16> other(n, x[0]);
    std::vector<std::uint8_t> mask(1);
    const auto check = [&](auto&& run, parts expected) {
        arguments a;
        test::check_refused([&] { run(a.q); }, expected);
        test::check_refused([&] { run(a.channels); }, expected);
    };
    check([&](const auto& q) { fake_quantize(in, std::span(other).first(11), q); },
          {"fake_quantize: output.size() is 11", "exactly 12"});
    check([&](const auto& q) { fake_quantize(in, std::span(static_cast<bfloat16*>(nullptr), n), q); },
          {"fake_quantize: output.data() is null"});
    check([&](const auto& q) { fake_quantize(in, shifted, q); },
          {"output is memory that overlaps", "the input itself"});
    check([&](const auto& q) { fake_quantize(in, other, q, {.mask = mask}); }, {"mask.size() is 1", "exactly 2"});
    check([&](const auto& q) { fake_quantize_backward(in, std::span(other).first(3), other, q); },
          {"fake_quantize_backward: grad_output.size() is 3", "exactly 12"});
    check([&](const auto& q) { fake_quantize_backward(in, other, shifted, q); },
          {"grad_input is memory that overlaps"});
    test::check_refused([&] { fake_quantize_backward(mask, other, other); }, {"mask.size() is 1", "exactly 2"});
    test::check_refused([&] { fake_quantize(x, x, quantizer{.exponent = 101}); }, {"exponent is 101", "-100..100"});
    test::check_refused([] { static_cast<void>(observe(std::span(static_cast<const float16*>(nullptr), n))); },
                        {"observe: data.data() is null"});
    CHECK(std::equal(x.begin(), x.end(), untouched.begin(),
                     [](bfloat16 v, std::uint16_t bits) { return v.bits == bits; }));
}

TEST_CASE("errors: quantize") {
    for_each_bad_quantizer([](arguments& a, const auto& q) { quantize(floats(a.x), codes(a.codes), q); });
    const auto check = [](auto&& run, parts expected) { refused_either_way(run, expected); };
    check(
        [](arguments& a, auto q) {
            q.format = uint8;
            quantize(floats(a.x), codes(a.codes), q);
        },
        {"quantize: format is 0..255", "-128..127"});
    check(
        [](arguments& a, auto q) {
            q.format = {.bits = 9};
            quantize(floats(a.x), codes(a.codes), q);
        },
        {"quantize: format is -256..255", "-128..127"});
    check([](arguments& a, const auto& q) { quantize(floats(a.x), codes(a.codes).first(7), q); },
          {"quantize: output.size() is 7", "exactly 12"});
    check([](arguments& a, const auto& q) { quantize(null_floats, codes(a.codes), q); },
          {"quantize: input.data() is null"});
    check([](arguments& a, const auto& q) { quantize(floats(a.x), codes(static_cast<std::int8_t*>(nullptr), n), q); },
          {"quantize: output.data() is null"});
    check([](arguments& a,
             const auto& q) { quantize(floats(a.x), codes(reinterpret_cast<std::int8_t*>(a.x.data()), n), q); },
          {"quantize: output is memory that overlaps", "memory apart"});
}

TEST_CASE("errors: dequantize") {
    arguments a;
    const const_codes good(a.codes);
    for (const int e : {-101, 101})
        test::check_refused([&] { dequantize(good, std::span(a.y), e); }, {"dequantize: exponent is ", "-100..100"});
    test::check_refused([&] { dequantize(good, std::span(a.y).first(11), 0); }, {"output.size() is 11", "exactly 12"});
    test::check_refused([&] { dequantize(good, null_output, 0); }, {"output.data() is null"});
    test::check_refused([&] { dequantize(const_codes(static_cast<std::int8_t*>(nullptr), n), std::span(a.y), 0); },
                        {"dequantize: input.data() is null"});
    test::check_refused(
        [&] { dequantize(const_codes(reinterpret_cast<std::int8_t*>(a.y.data()), n), std::span(a.y), 0); },
        {"output is memory that overlaps"});
    channel_quantizer bad = a.channels;
    bad.inner = 7;
    test::check_refused([&] { dequantize(good, std::span(a.y), bad); }, {"size is 12", "3 * 7"});
    const int exponents[] = {1, 2, 300};
    bad = {.exponents = exponents};
    test::check_refused([&] { dequantize(good, std::span(a.y), bad); }, {"dequantize: exponents[2] is 300"});
    CHECK(a.nothing_written());
    // Format and mode mean nothing here and are not looked at.
    bad = {.format = {.bits = 99}, .exponents = a.exponents, .mode = static_cast<rounding>(9)};
    CHECK_NOTHROW(dequantize(good, std::span(a.y), bad));
}

TEST_CASE("errors: observe and observe_channels") {
    arguments a;
    test::check_refused([] { static_cast<void>(observe(null_floats)); }, {"observe: data.data() is null"});
    std::vector<range> ranges(3, range{1, 2, 3, 4});
    const auto refused = [&](floats data, std::int64_t inner, std::span<range> to, parts expected) {
        test::check_refused([&] { observe_channels(data, inner, to); }, expected);
    };
    refused(null_floats, 1, ranges, {"observe_channels: data.data() is null"});
    refused(a.x, 0, ranges, {"observe_channels: inner is 0", "1..12"});
    refused(a.x, -4, ranges, {"inner is -4"});
    refused(a.x, 5, ranges, {"size is 12", "3 * 5"});
    refused(a.x, 1, {}, {"number of channels is 0", "1 or more"});
    refused(a.x, 1, {static_cast<range*>(nullptr), 3}, {"ranges.data() is null"});
    CHECK(ranges == std::vector<range>(3, range{1, 2, 3, 4}));
}

TEST_CASE("nothing to do is no error") {
    const quantizer q;
    const int exponents[] = {1, 2};
    const channel_quantizer channels{.exponents = exponents};
    CHECK_NOTHROW(fake_quantize(floats(), std::span<float>(), q));
    CHECK_NOTHROW(fake_quantize(floats(), std::span<float>(), channels));
    CHECK_NOTHROW(fake_quantize_backward(floats(), floats(), std::span<float>(), q));
    CHECK_NOTHROW(quantize(floats(), codes(), channels));
    CHECK_NOTHROW(dequantize(const_codes(), std::span<float>(), 0));
    CHECK(observe(floats()).empty());
}
