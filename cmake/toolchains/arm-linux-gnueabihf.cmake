# 32-bit ARM: apt-get install g++-arm-linux-gnueabihf qemu-user. It needs xsimd 14, which emulates registers: NEON takes
# subnormal numbers for 0.
set(CMAKE_SYSTEM_PROCESSOR arm)
set(triple arm-linux-gnueabihf)
include(${CMAKE_CURRENT_LIST_DIR}/emulated.cmake)
