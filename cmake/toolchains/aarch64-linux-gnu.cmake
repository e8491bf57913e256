# AArch64 by Debian's cross compiler, its programs run by an emulator: apt-get install g++-aarch64-linux-gnu qemu-user.
# The variable QEMU_CPU chooses the emulated CPU at run time, cortex-a53 for one; without it, it has all there is.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
find_program(PO2QUANT_EMULATOR qemu-aarch64 REQUIRED)
set(CMAKE_CROSSCOMPILING_EMULATOR ${PO2QUANT_EMULATOR} -L /usr/aarch64-linux-gnu)
# Libraries of the build machine are not the target's; headers alone may be.
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
