#pragma once
/// Loops written out by the compiler at every optimization level, so that arrays of registers stay in registers:
/// g++ 12 at −O2 keeps an array in memory once a loop variable indexes it.
#include <type_traits>
#include <utility>

#include <po2quant/config.hpp>

namespace po2quant::simd {

template <int Count, class F>
PO2Q_INLINE constexpr void unroll(F&& f) {
    [&]<int... I>(std::integer_sequence<int, I...>) PO2Q_INLINE_LAMBDA { (f(std::integral_constant<int, I>{}), ...); }
    (std::make_integer_sequence<int, Count>{});
}

}  // namespace po2quant::simd
