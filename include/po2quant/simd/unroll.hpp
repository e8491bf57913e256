#pragma once
/// Loops written out by the compiler at every optimization level, so that arrays of registers stay in registers:
/// g++ 12 at −O2 keeps an array in memory once a loop variable indexes it.
#include <type_traits>
#include <utility>

#include <po2quant/config.hpp>

namespace po2quant::simd {

/// f(0), f(1), … f(Count − 1), each a constant.
template <int Count, int First = 0, class F>
PO2Q_INLINE constexpr void unroll(F&& f) {
    // Not an expansion of a pack, which takes one more function: compilers spend most of their time on these.
    if constexpr (Count > 0) f(std::integral_constant<int, First>{});
    if constexpr (Count > 1) f(std::integral_constant<int, First + 1>{});
    if constexpr (Count > 2) f(std::integral_constant<int, First + 2>{});
    if constexpr (Count > 3) f(std::integral_constant<int, First + 3>{});
    if constexpr (Count > 4) f(std::integral_constant<int, First + 4>{});
    if constexpr (Count > 5) f(std::integral_constant<int, First + 5>{});
    if constexpr (Count > 6) f(std::integral_constant<int, First + 6>{});
    if constexpr (Count > 7) f(std::integral_constant<int, First + 7>{});
    if constexpr (Count > 8) unroll<Count - 8, First + 8>(f);
}

/// 0, 1, … Count − 1 for a function that takes them as indices<I...>: what it says of I it says of all, as a fold
/// expression, where unroll wants a function for each.
template <int... I>
using indices = std::integer_sequence<int, I...>;
template <int Count>
inline constexpr std::make_integer_sequence<int, Count> up_to{};

}  // namespace po2quant::simd
