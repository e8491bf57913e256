#include <po2quant/numerics/storage.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <po2quant/tensor/storage.hpp>

#include "../support/float_cases.hpp"
#include "../support/half_cases.hpp"
#include "../support/same_bits.hpp"

using namespace po2quant;

namespace {

constexpr int bias_of(bfloat16) { return 127; }
constexpr int bias_of(float16) { return 15; }

/// By IEEE's definition of the fields.
template <half_type Half>
double value_of(Half h) {
    const int fraction = h.bits % (1 << Half::fraction_bits);
    const int most = Half::infinity >> Half::fraction_bits;
    const int exponent = (h.bits >> Half::fraction_bits) & most;
    const double sign = h.bits >> 15 != 0 ? -1 : 1;
    const double one = std::ldexp(1.0, Half::fraction_bits);
    if (exponent == most) return fraction == 0 ? sign * HUGE_VAL : std::numeric_limits<double>::quiet_NaN();
    if (exponent == 0) return sign * std::ldexp(fraction / one, 1 - bias_of(h));
    return sign * std::ldexp(1 + fraction / one, exponent - bias_of(h));
}

/// The nearest of all finite values and of the one that would follow the largest, by comparing distances.
template <half_type Half>
class nearest {
public:
    nearest() {
        for (std::uint16_t bits = 0; bits < Half::infinity; ++bits) values_.push_back(value_of(Half{bits}));
        values_.push_back(2 * values_.back() - values_[values_.size() - 2]);
    }
    Half operator()(float v) const {
        const unsigned sign = std::signbit(v) ? 0x8000 : 0;
        const double magnitude = std::fabs(static_cast<double>(v));
        const auto above = std::lower_bound(values_.begin(), values_.end(), magnitude);
        auto bits = static_cast<unsigned>(above - values_.begin());
        if (above == values_.end()) bits = Half::infinity;
        else if (bits != 0) {
            const double down = magnitude - values_[bits - 1];
            const double up = *above - magnitude;
            if (down < up || (down == up && bits % 2 == 1)) --bits;
        }
        return {static_cast<std::uint16_t>(sign | bits)};
    }

private:
    std::vector<double> values_;
};

template <half_type Half>
void check_from_half() {
    std::size_t wrong = 0;
    for (const Half h : test::all_halves<Half>()) {
        const float v = to_float(h);
        wrong += !test::same_bits(v, static_cast<float>(value_of(h)));
        const Half back = to_storage<Half>(v);
        wrong += !test::same_bits(back, h);
        if (v != v) wrong += (back.bits >> (Half::fraction_bits - 1) & 1) == 0 || (back.bits ^ h.bits) >> 15 != 0;
    }
    CHECK(wrong == 0);
}

template <half_type Half>
void check_to_half() {
    const nearest<Half> expected;
    std::size_t wrong = 0;
    const auto check = [&](float v) {
        const Half h = to_storage<Half>(v);
        if (v != v ? to_float(h) == to_float(h) : !test::identical(h, expected(v)))
            if (wrong++ == 0)
                FAIL_CHECK(test::name_of_type<Half>() << " of " << test::shown(v) << " is " << test::shown(h)
                                                      << ", expected " << test::shown(expected(v)));
    };
    for (const float v : test::ties_of<Half>()) check(v);
    for (const float v : test::special_values()) check(v);
    // One pattern out of 2^spread neighbours, the lower bits mixed.
    const int spread = test::full() ? 5 : 11;
    for (std::uint64_t i = 0; i < std::uint64_t{1} << (32 - spread); ++i) {
        const auto base = static_cast<std::uint32_t>(i << spread);
        check(std::bit_cast<float>(base | (mix_bits(base) & ((1U << spread) - 1U))));
    }
    CHECK(wrong == 0);
}

#if defined(__ARM_FP16_FORMAT_IEEE)
#define PO2QUANT_COMPILERS_HALF __fp16
#elif defined(__FLT16_MAX__)
#define PO2QUANT_COMPILERS_HALF _Float16
#endif
#if defined(PO2QUANT_COMPILERS_HALF)
/// What the compiler makes of its own type.
void check_against_compiler() {
    std::size_t wrong = 0;
    for (const float16 h : test::all_halves<float16>())
        wrong += !test::same_bits(to_float(h), static_cast<float>(std::bit_cast<PO2QUANT_COMPILERS_HALF>(h)));
    for (const float v : test::ties_of<float16>())
        wrong += to_storage<float16>(v).bits != std::bit_cast<std::uint16_t>(static_cast<PO2QUANT_COMPILERS_HALF>(v));
    CHECK(wrong == 0);
}
#endif

/// Every code, one by one.
template <half_type Half>
bool holds_each(integer_format f, int exponent) {
    for (int code = f.qmax(); code >= f.qmin(); --code) {
        const auto y = static_cast<float>(code * exp2_double(exponent));
        if (to_float(to_storage<Half>(y)) != y) return false;
    }
    return true;
}

template <half_type Half>
void check_holds_grid() {
    for (const integer_format f : test::all_formats())
        for (int e = min_exponent; e <= max_exponent; ++e)
            if (holds_grid<Half>(f, e) != holds_each<Half>(f, e))
                FAIL_CHECK(test::name_of_type<Half>() << ", " << test::name_of(f) << ", exponent " << e);
}

static_assert(to_storage<bfloat16>(1.0F + 3 * 0x1p-8F).bits == to_storage<bfloat16>(1.0F + 0x1p-6F).bits);
static_assert(to_storage<float16>(65519.0F).bits == 0x7bff && to_storage<float16>(65520.0F).bits == 0x7c00);
static_assert(to_storage<float16>(0x1p-25F).bits == 0 && to_storage<float16>(0x1.000002p-25F).bits == 1);
static_assert(to_float(float16{0x8001}) == -0x1p-24F && to_float(bfloat16{0x0001}) == 0x1p-133F);
static_assert(holds_grid<bfloat16>(uint8, max_exponent) && !holds_grid<bfloat16>({.bits = 10}, 0));
static_assert(holds_grid<float16>({.bits = 12}, -24) && !holds_grid<float16>(int8, -25));
static_assert(holds_grid<float16>(int8, 8) && !holds_grid<float16>(int8, 9) && holds_grid<float16>(int8_narrow, 9));
static_assert(holds_grid<float>(uint16, min_exponent));

}  // namespace

TEST_CASE("storage: every bfloat16 and float16 as a float and back") {
    check_from_half<bfloat16>();
    check_from_half<float16>();
}

TEST_CASE("storage: floats to the nearest bfloat16 and float16, every tie and its neighbours") {
    check_to_half<bfloat16>();
    check_to_half<float16>();
#if defined(PO2QUANT_COMPILERS_HALF)
    check_against_compiler();
#endif
}

TEST_CASE("storage: which grids bfloat16 and float16 have") {
    check_holds_grid<bfloat16>();
    check_holds_grid<float16>();
}

TEST_CASE("storage: a host's own type") {
    std::uint16_t host[] = {0x3c00, 0xbc00};
    const std::span<float16> ours = as_storage<float16>(host, 2);
    CHECK(to_float(ours[1]) == -1.0F);
    const std::uint16_t* constant = host;
    static_assert(std::same_as<decltype(as_storage<bfloat16>(constant, 2)), std::span<const bfloat16>>);
    static_assert(storage_range<std::vector<float16>> && storage_range<const float(&)[3]>);
    static_assert(!storage_range<std::vector<double>> && !storage_range<std::vector<std::uint16_t>>);
    static_assert(std::same_as<storage_of<std::vector<bfloat16>>, bfloat16>);
    static_assert(writable_like<std::vector<float>&, std::span<const float>>);
    static_assert(!writable_like<const std::vector<float>&, std::span<const float>>);
    static_assert(!writable_like<std::vector<float>&, std::vector<float16>>);
}
