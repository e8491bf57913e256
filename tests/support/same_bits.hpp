#pragma once
/// Comparison to the last bit, with messages that show both sides.
#include <bit>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <type_traits>

#include <po2quant/numerics/storage.hpp>
#include <po2quant/simd/arch.hpp>

#include "catch.hpp"

namespace po2quant::test {

/// "0x1.8p+1 (0x40400000)" or "-7".
template <class T>
std::string shown(T v) {
    if constexpr (std::is_floating_point_v<T>) {
        char text[64];
        using bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
        std::snprintf(text, sizeof text, "%a (0x%0*llx)", static_cast<double>(v), static_cast<int>(2 * sizeof v),
                      static_cast<unsigned long long>(std::bit_cast<bits>(v)));
        return text;
    } else if constexpr (half_type<T>) {
        char text[16];
        std::snprintf(text, sizeof text, " (0x%04x)", static_cast<unsigned>(v.bits));
        return shown(to_float(v)) + text;
    } else {
        return std::to_string(v);
    }
}

/// The same to the last bit, NaN too: for what is copied.
template <class T>
bool identical(T a, T b) {
    if constexpr (std::is_same_v<T, float>) return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
    else if constexpr (std::is_same_v<T, double>)
        return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
    else if constexpr (half_type<T>) return a.bits == b.bits;
    else return a == b;
}

/// The same bits, or NaN both: which NaN comes out of arithmetic is not promised.
template <class T>
bool same_bits(T a, T b) {
    if constexpr (half_type<T>) return identical(a, b) || same_bits(to_float(a), to_float(b));
    else return identical(a, b) || (a != a && b != b);
}

/// Checks that same(actual[i], expected[i]) for all i. `context()` says what was computed; `input`, if given, is what
/// element i was computed from.
template <class T, class U, class Context, class Same>
bool check_each(std::span<T> actual, std::span<U> expected, Context&& context, std::span<const float> input,
                Same same) {
    if (actual.size() != expected.size()) {
        FAIL_CHECK("sizes differ: " << actual.size() << " and " << expected.size());
        return false;
    }
    std::size_t wrong = 0;
    std::size_t first = 0;
    for (std::size_t i = 0; i < actual.size(); ++i)
        if (!same(actual[i], expected[i]) && wrong++ == 0) first = i;
    if (wrong == 0) {
        SUCCEED();
        return true;
    }
    FAIL_CHECK(default_arch::name << ": " << context() << "\n  element " << first << " of " << actual.size() << " is "
                                  << shown(actual[first]) << ", expected " << shown(expected[first])
                                  << (first < input.size() ? ", input " + shown(input[first]) : "") << "; " << wrong
                                  << " differ");
    return false;
}

template <class T, class U, class Context>
bool check_same(std::span<T> actual, std::span<U> expected, Context&& context, std::span<const float> input = {}) {
    return check_each(actual, expected, context, input, same_bits<std::remove_cv_t<T>>);
}

template <class T, class U, class Context>
bool check_identical(std::span<T> actual, std::span<U> expected, Context&& context, std::span<const float> input = {}) {
    return check_each(actual, expected, context, input, identical<std::remove_cv_t<T>>);
}

}  // namespace po2quant::test
