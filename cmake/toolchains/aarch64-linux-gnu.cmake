# apt-get install g++-aarch64-linux-gnu qemu-user
# The environment variable QEMU_CPU chooses the emulated CPU when programs run, cortex-a53 for one; without it, the CPU
# has all there is.
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(triple aarch64-linux-gnu)
include(${CMAKE_CURRENT_LIST_DIR}/emulated.cmake)
