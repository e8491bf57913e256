# RISC-V without vectors: apt-get install g++-riscv64-linux-gnu qemu-user. It needs xsimd 14, which emulates
# registers.
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(triple riscv64-linux-gnu)
include(${CMAKE_CURRENT_LIST_DIR}/emulated.cmake)
