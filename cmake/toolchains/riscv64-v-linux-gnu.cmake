# RISC-V with vectors of PO2QUANT_RVV_BITS: apt-get install clang-19 lld-19 g++-riscv64-linux-gnu, and qemu-user of
# version 8 or newer (7.2 stops at a conversion). Floats are in vectors, by xsimd 14 or newer; integers as the compiler
# has them.
set(PO2QUANT_RVV_BITS 256 CACHE STRING "Bits of RISC-V's vector registers, a power of two from 128 on")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES PO2QUANT_RVV_BITS)
include(${CMAKE_CURRENT_LIST_DIR}/riscv64-linux-gnu.cmake)
set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_CXX_COMPILER_TARGET ${triple})
set(CMAKE_CXX_FLAGS_INIT "-march=rv64gcv_zvl${PO2QUANT_RVV_BITS}b -mrvv-vector-bits=zvl")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-fuse-ld=lld")
list(APPEND CMAKE_CROSSCOMPILING_EMULATOR -cpu rv64,v=true,vext_spec=v1.0,vlen=${PO2QUANT_RVV_BITS})
