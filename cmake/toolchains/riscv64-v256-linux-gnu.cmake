# RISC-V with vectors of 256 bits: apt-get install clang-19 lld-19 g++-riscv64-linux-gnu, and qemu-user of version 8 or
# newer (7.2 stops at a conversion). Floats are in vectors, by xsimd 14 or newer; integers as the compiler has them.
set(CMAKE_SYSTEM_PROCESSOR riscv64)
include(${CMAKE_CURRENT_LIST_DIR}/emulated.cmake)
set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_CXX_COMPILER_TARGET riscv64-linux-gnu)
set(CMAKE_CXX_FLAGS_INIT "-march=rv64gcv_zvl256b -mrvv-vector-bits=zvl")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-fuse-ld=lld")
list(APPEND CMAKE_CROSSCOMPILING_EMULATOR -cpu rv64,v=true,vext_spec=v1.0,vlen=256)
