# apt-get install g++-riscv64-linux-gnu qemu-user
# xsimd has no architecture for it with g++ 12: 14 or newer emulates one, asked to by -DXSIMD_WITH_EMULATED=1.
set(CMAKE_SYSTEM_PROCESSOR riscv64)
include(${CMAKE_CURRENT_LIST_DIR}/emulated.cmake)
set(CMAKE_CXX_FLAGS_INIT -DXSIMD_WITH_EMULATED=1)
