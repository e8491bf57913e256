# RISC-V without vectors by Debian's cross compiler, its programs run by an emulator: apt-get install
# g++-riscv64-linux-gnu qemu-user. It needs xsimd 13 or newer, which emulates registers.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(CMAKE_CXX_COMPILER riscv64-linux-gnu-g++)
find_program(PO2QUANT_EMULATOR qemu-riscv64 REQUIRED)
set(CMAKE_CROSSCOMPILING_EMULATOR ${PO2QUANT_EMULATOR} -L /usr/riscv64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH /usr/riscv64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
