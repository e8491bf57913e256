# RISC-V with vectors of 256 bits by clang 19, its programs run by an emulator: apt-get install clang-19 lld-19
# g++-riscv64-linux-gnu, and qemu-user of version 8 or newer (7.2 stops at a conversion), named by PO2QUANT_QEMU_DIR
# where it is not installed. Floats are in vectors, by xsimd 14 or newer; integers as the compiler has them.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_CXX_COMPILER_TARGET riscv64-linux-gnu)
set(CMAKE_CXX_FLAGS_INIT "-march=rv64gcv_zvl256b -mrvv-vector-bits=zvl")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-fuse-ld=lld")
find_program(PO2QUANT_EMULATOR qemu-riscv64 HINTS $ENV{PO2QUANT_QEMU_DIR} REQUIRED)
set(CMAKE_CROSSCOMPILING_EMULATOR ${PO2QUANT_EMULATOR} -L /usr/riscv64-linux-gnu
    -cpu rv64,v=true,vext_spec=v1.0,vlen=256)
set(CMAKE_FIND_ROOT_PATH /usr/riscv64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
