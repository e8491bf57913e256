#pragma once
/// The one place that includes xsimd, 8.1 or newer, with the few names that differ between its versions.

// For targets whose registers it does not know, or we do not want (arch::generic), xsimd 14 emulates them, if asked to
// before it is included.
#if !defined(XSIMD_WITH_EMULATED) && !defined(__SSE2__) && !defined(__aarch64__) && !defined(__riscv_v_fixed_vlen) && \
    !defined(__EMSCRIPTEN__) && !defined(__VSX__) && !defined(__VEC__)
#define XSIMD_WITH_EMULATED 1
#endif
#include <xsimd/xsimd.hpp>

#include <po2quant/config.hpp>

#if XSIMD_VERSION_MAJOR < 8 || (XSIMD_VERSION_MAJOR == 8 && XSIMD_VERSION_MINOR < 1)
#error "po2quant needs xsimd 8.1 or newer: apt-get install libxsimd-dev, or -I<xsimd>/include"
#elif defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#error "po2quant needs xsimd 14 or newer on this target, of which older ones know no registers"
#endif

namespace po2quant::simd {

template <class Arch>
using f32 = xsimd::batch<float, typename Arch::xsimd_arch>;
template <class Arch>
using i32 = xsimd::batch<std::int32_t, typename Arch::xsimd_arch>;
template <class Arch>
using u32 = xsimd::batch<std::uint32_t, typename Arch::xsimd_arch>;

/// The bits of a batch read as another type of the same width: bitwise_cast took the batch type up to xsimd 8 and takes
/// the element type since 9. On NEON xsimd 8 calls a function for it.
template <class To, class From, class A>
PO2Q_INLINE xsimd::batch<To, A> bit_cast(const xsimd::batch<From, A>& v) {
#if defined(__aarch64__)
    const typename xsimd::batch<From, A>::register_type from = v;
    return xsimd::batch<To, A>(__builtin_bit_cast(typename xsimd::batch<To, A>::register_type, from));
#elif XSIMD_VERSION_MAJOR < 9
    return xsimd::bitwise_cast<xsimd::batch<To, A>>(v);
#else
    return xsimd::bitwise_cast<To>(v);
#endif
}

}  // namespace po2quant::simd
