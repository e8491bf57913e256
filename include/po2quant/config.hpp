#pragma once
/// The only macros of the library: its version, always-inline, assertions of kernels, no-alias pointers.

#define PO2Q_VERSION_MAJOR 0
#define PO2Q_VERSION_MINOR 1
#define PO2Q_VERSION_PATCH 0
/// 10000 * major + 100 * minor + patch, for comparisons in #if.
#define PO2Q_VERSION (PO2Q_VERSION_MAJOR * 10000 + PO2Q_VERSION_MINOR * 100 + PO2Q_VERSION_PATCH)

#if !defined(__GNUC__)
#error "po2quant needs g++ (12 or newer) or clang (14 or newer)"
#endif

/// Bit-exactness rests on IEEE arithmetic: NaN is tested for, zero has a sign, sums have an order, and no product is
/// fused into one.
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "po2quant promises the same bits everywhere: build without -ffast-math or any of its parts"
#endif

/// Functions that kernels of several instruction sets share must leave no out-of-line copy behind: the linker would
/// keep one of them, perhaps the one that the oldest CPU cannot run.
#define PO2Q_INLINE inline __attribute__((always_inline))
/// The same for a lambda, written behind its parameter list.
#define PO2Q_INLINE_LAMBDA __attribute__((always_inline))

#define PO2Q_RESTRICT __restrict__

/// Preconditions of kernels, checked one layer up; on only where a build asks for it.
#if defined(PO2Q_ENABLE_ASSERTIONS)
#include <cassert>
#define PO2Q_ASSERT(condition) assert(condition)
#else
#define PO2Q_ASSERT(condition) static_cast<void>(0)
#endif
