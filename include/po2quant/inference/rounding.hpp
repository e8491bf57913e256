#pragma once
/// The deterministic rounding modes as template arguments, for ops on integers.
#include <type_traits>

#include <po2quant/numerics/rounding.hpp>

namespace po2quant::detail {

/// Calls f(std::integral_constant<rounding, mode>); `mode` is not stochastic.
template <class F>
decltype(auto) with_shift_rounding(rounding mode, F&& f) {
    switch (mode) {
    case rounding::half_even: return f(std::integral_constant<rounding, rounding::half_even>{});
    case rounding::half_away: return f(std::integral_constant<rounding, rounding::half_away>{});
    case rounding::floor: return f(std::integral_constant<rounding, rounding::floor>{});
    default: return f(std::integral_constant<rounding, rounding::half_up>{});
    }
}

}  // namespace po2quant::detail
