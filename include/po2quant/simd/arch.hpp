#pragma once
/// Instruction sets as tags. Each names xsimd's architecture for floats and, by its type, selects our integer
/// primitives; xsimd 8 has no tags for the int8 dot products, so the int8 level is ours. A tag derives from the one it
/// extends: whatever is not specialised for it falls back to that one.
///
///   generic ← sse2 ← sse4_1 ← avx2 ← avx512bw ← avx512_vnni ← amx_int8
///                             avx2 ← avx_vnni
///   generic ← neon64 ← neon_dotprod ← neon_i8mm ← sve256
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#include <sys/prctl.h>
#endif
#include <type_traits>

#include <po2quant/config.hpp>
#include <po2quant/simd/xsimd.hpp>

namespace po2quant {
namespace arch {

/// Whatever the compiler's baseline is, in portable C++ for integers; floats as xsimd has them: SSE2 on x86-64, NEON on
/// AArch64; where it has none, xsimd 14 emulates them, and on 32-bit ARM, whose NEON takes subnormal numbers for 0.
struct generic {
    static constexpr const char* name = "generic";
#if defined(__x86_64__) || defined(__i386__)
    using xsimd_arch = xsimd::sse2;
#elif defined(__aarch64__)
    using xsimd_arch = xsimd::neon64;
#elif defined(__arm__)
    using xsimd_arch = xsimd::emulated<128>;
#elif XSIMD_WITH_EMULATED
    using xsimd_arch = std::conditional_t<std::is_same_v<xsimd::default_arch, xsimd::unavailable>, xsimd::emulated<128>,
                                          xsimd::default_arch>;
#else
    using xsimd_arch = xsimd::default_arch;
#endif
};

#if defined(__x86_64__) || defined(__i386__)
/// What every x86-64 CPU has.
struct sse2 : generic {
    static constexpr const char* name = "sse2";
};

struct sse4_1 : sse2 {
    static constexpr const char* name = "sse4_1";
    using xsimd_arch = xsimd::sse4_1;
};

/// Where the flags bring F16C too, as -march=haswell and x86-64-v3 do but -mavx2 alone does not, float16 is converted
/// by it, else by integers: the same values.
struct avx2 : sse4_1 {
    static constexpr const char* name = "avx2";
    using xsimd_arch = xsimd::avx2;
};

/// AVX2 with VNNI in 256 bits: four int8 products summed into an int32 lane by one instruction. Client CPUs since 2021.
struct avx_vnni : avx2 {
    static constexpr const char* name = "avx_vnni";
};

/// AVX-512 F, CD, DQ, BW and VL, as every server since Skylake has them (x86-64-v4).
struct avx512bw : avx2 {
    static constexpr const char* name = "avx512bw";
    using xsimd_arch = xsimd::avx512bw;
};

/// The same with VNNI: four int8 products summed into an int32 lane by one instruction.
struct avx512_vnni : avx512bw {
    static constexpr const char* name = "avx512_vnni";
};

/// The same with products of tiles: 64 int8 products summed for each of 16 pixels and 16 outputs by one instruction.
/// Servers since Sapphire Rapids. Only where asked for by PO2QUANT_AMX, since it was not timed yet.
struct amx_int8 : avx512_vnni {
    static constexpr const char* name = "amx_int8";
};
#endif

#if defined(__aarch64__)
/// What every AArch64 CPU has.
struct neon64 : generic {
    static constexpr const char* name = "neon64";
};

/// The same with the dot products of ARMv8.2: four int8 products summed into an int32 lane by one instruction.
/// Cortex-A55 and A76, Neoverse N1 and Apple M1 and later.
struct neon_dotprod : neon64 {
    static constexpr const char* name = "neon_dotprod";
};

/// The same with the int8 matrix products of ARMv8.6: eight products for each of two pixels and two outputs by one
/// instruction. Cortex-A510 and A710, Neoverse V1 and N2, Apple M2 and later.
struct neon_i8mm : neon_dotprod {
    static constexpr const char* name = "neon_i8mm";
};

/// The same with floats in SVE registers of 256 bits, by xsimd 14 or newer: -msve-vector-bits=256. Neoverse V1.
struct sve256 : neon_i8mm {
    static constexpr const char* name = "sve256";
#if XSIMD_VERSION_MAJOR >= 14
    using xsimd_arch = xsimd::detail::sve<256>;
#endif
};
#endif

}  // namespace arch

/// Arch is Base or extends it. Never compare tags for equality: a new tag would silently miss the branch.
template <class Base, class Arch>
inline constexpr bool is_at_least = std::is_base_of_v<Base, Arch>;

/// Whether an instruction set has AVX-512's registers. Its tag is there for x86 only.
template <class Arch>
#if defined(__x86_64__) || defined(__i386__)
inline constexpr bool has_avx512 = is_at_least<arch::avx512bw, Arch>;
#else
inline constexpr bool has_avx512 = false;
#endif

// clang has spelled its macros without the second underscore up to 15.
#if defined(PO2QUANT_AMX) && !((defined(__AMX_INT8__) || defined(__AMXINT8__)) && defined(__AVX512VNNI__) && \
                               defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__))
#error "PO2QUANT_AMX wants the flags of AMX-INT8 and AVX-512 VNNI, as cmake/po2quant_isa.cmake has them"
#endif

/// The best instruction set that the compiler's flags allow, amx_int8 only where PO2QUANT_AMX is defined.
/// PO2QUANT_PORTABLE chooses generic whatever they are.
#if defined(PO2QUANT_PORTABLE)
using default_arch = arch::generic;
#elif defined(PO2QUANT_AMX)
using default_arch = arch::amx_int8;
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
using default_arch = arch::avx512_vnni;
#elif defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
using default_arch = arch::avx512bw;
#elif defined(__AVXVNNI__) && defined(__AVX2__)
using default_arch = arch::avx_vnni;
#elif defined(__AVX2__)
using default_arch = arch::avx2;
#elif defined(__SSE4_1__)
using default_arch = arch::sse4_1;
#elif defined(__SSE2__)
using default_arch = arch::sse2;
#elif defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8) && defined(__ARM_FEATURE_DOTPROD) && \
    __ARM_FEATURE_SVE_BITS == 256 && XSIMD_VERSION_MAJOR >= 14
using default_arch = arch::sve256;
#elif defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8) && defined(__ARM_FEATURE_DOTPROD)
using default_arch = arch::neon_i8mm;
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
using default_arch = arch::neon_dotprod;
#elif defined(__aarch64__)
using default_arch = arch::neon64;
#else
using default_arch = arch::generic;
#endif

/// Whether this CPU has the tiles of AMX with int8 products, and Linux lets this process use them. Linux wants to be
/// asked once by each process; from then on it refuses stacks for signals that cannot hold the tiles too, some 11 KB.
PO2Q_INLINE bool amx_allowed() {
#if defined(__x86_64__) && defined(__linux__)
    constexpr long request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM, since Linux 5.16
    constexpr long tile_data = 18;               // the component of XSAVE
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx >> 24 & 1) != 0 && (edx >> 25 & 1) != 0 &&
           syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}

/// Whether the CPU that runs this can run kernels of an instruction set, asked for by name; false for unknown names,
/// and where the system is not Linux for AMX, and for what AArch64 has beside neon64. For amx_int8 see amx_allowed.
inline bool cpu_supports(const char* name) {
    const auto is = [name](const char* other) { return __builtin_strcmp(name, other) == 0; };
    if (is("generic")) return true;
#if defined(__x86_64__) || defined(__i386__)
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl");
    if (is("sse2")) return __builtin_cpu_supports("sse2");
    if (is("sse4_1")) return __builtin_cpu_supports("sse4.1");
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    // F16C came before AVX2; kernels of avx2 may be compiled to use it.
    const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx >> 29 & 1) != 0;
    const bool avx2 = __builtin_cpu_supports("avx2") && f16c;
    if (is("avx_vnni")) return avx2 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1) != 0;
    if (is("avx2")) return avx2;
    if (is("avx512bw")) return avx512;
    const bool avx512_vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    if (is("avx512_vnni")) return avx512_vnni;
    if (is("amx_int8")) return avx512_vnni && amx_allowed();
#elif defined(__aarch64__)
    if (is("neon64")) return true;
#if defined(__linux__)
    const bool dotprod = (getauxval(AT_HWCAP) >> 20 & 1) != 0;           // HWCAP_ASIMDDP
    const bool i8mm = dotprod && (getauxval(AT_HWCAP2) >> 13 & 1) != 0;  // HWCAP2_I8MM
    if (is("neon_dotprod")) return dotprod;
    if (is("neon_i8mm")) return i8mm;
    const bool sve = i8mm && (getauxval(AT_HWCAP) >> 22 & 1) != 0;  // HWCAP_SVE
    if (is("sve256")) return sve && (prctl(51) & 0xffff) == 32;     // PR_SVE_GET_VL: bytes of a register
#endif
#endif
    return false;
}

#if defined(PO2QUANT_ISA)
static_assert(
    std::is_same_v<default_arch, arch::PO2QUANT_ISA>,
    "this source is compiled for the instruction set PO2QUANT_ISA, but flags of yours bring a better one: take "
    "-march= and -m options out of CMAKE_CXX_FLAGS and of the target; or xsimd is too old for it: sve256 needs 14");
#endif

}  // namespace po2quant
