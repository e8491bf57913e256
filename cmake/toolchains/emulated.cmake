# Debian's cross compiler for `triple`, its programs run by an emulator: that of PO2QUANT_QEMU_DIR, if the environment
# names one.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_CXX_COMPILER ${triple}-g++)
find_program(PO2QUANT_EMULATOR qemu-${CMAKE_SYSTEM_PROCESSOR} HINTS $ENV{PO2QUANT_QEMU_DIR} REQUIRED)
set(CMAKE_CROSSCOMPILING_EMULATOR ${PO2QUANT_EMULATOR} -L /usr/${triple})
# Libraries of the build machine are not the target's; headers alone may be.
set(CMAKE_FIND_ROOT_PATH /usr/${triple})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
