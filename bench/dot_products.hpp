#pragma once
/// The roof of integer layers: int8 multiply-accumulates by an instruction set's dot product, sums in registers.
#include <cstdint>

#include <po2quant/simd/integer.hpp>

namespace po2quant::bench {

/// Makes a compiler forget what a step of dot products holds, if it can in a register.
template <class Step>
PO2Q_INLINE void forget(Step& s) {
    if constexpr (requires { s.even; }) asm volatile("" : "+x"(s.even), "+x"(s.odd));
    else asm volatile("" : "+m"(s));
}

/// Independent chains of dot products, more than latency times throughput on any CPU so far: twelve, or where there are
/// few registers eight, or four of dot products that take two registers and several instructions. Returns the
/// multiply-accumulates done.
template <class Arch>
std::int64_t dot_products(std::int64_t repetitions) {
    using ops = simd::integer<Arch>;
    using dot = typename ops::dot_i8;
    constexpr int inputs = ops::registers >= 32 || dot::registers == 1 ? 4 : 2;
    constexpr int outputs = ops::registers >= 32 ? 3 : 2;
    constexpr int chains = inputs * outputs;
    alignas(64) static const std::int8_t codes[64] = {3, 1, 4, 1, 5, 9, 2, 6};
    alignas(64) static const typename dot::weight weights[64] = {2, 7, 1, 8, 2, 8, 1, 8};
    alignas(64) std::int32_t sink[16] = {};
    decltype(dot::broadcast(codes)) x[inputs];
    decltype(dot::load(weights)) w[outputs];
    simd::unroll<inputs>([&](auto i) PO2Q_INLINE_LAMBDA { x[i] = dot::broadcast(codes); });
    simd::unroll<outputs>([&](auto i) PO2Q_INLINE_LAMBDA { w[i] = dot::load(weights); });
    typename ops::reg acc[chains];
    simd::unroll<chains>([&](auto i) PO2Q_INLINE_LAMBDA { acc[i] = ops::set(i); });
    for (std::int64_t r = 0; r < repetitions; ++r) {
        // Else products are taken out of the loop, or shared.
        simd::unroll<inputs>([&](auto i) PO2Q_INLINE_LAMBDA { forget(x[i]); });
        simd::unroll<outputs>([&](auto i) PO2Q_INLINE_LAMBDA { forget(w[i]); });
        simd::unroll<chains>([&](auto i)
                                 PO2Q_INLINE_LAMBDA { acc[i] = dot::dot(acc[i], x[i / outputs], w[i % outputs]); });
    }
    simd::unroll<chains>([&](auto i) PO2Q_INLINE_LAMBDA { ops::store(sink, ops::add(acc[i], ops::load(sink))); });
    asm volatile("" : : "r"(sink) : "memory");  // somebody may read it
    return repetitions * chains * ops::lanes * 4;
}

}  // namespace po2quant::bench
