# The instruction sets that tests and benchmarks are built for, and the flags of each: the one table of flags.
# Their order is that of po2quant::arch; names are those of its tags.

# g++ 12 miscompiles copies of small structs that it vectorizes with 512 bits by itself; intrinsics are not touched.
set(po2quant_avx512bw_flags -mavx512f -mavx512cd -mavx512dq -mavx512bw -mavx512vl
    $<$<CXX_COMPILER_ID:GNU>:-mprefer-vector-width=256>)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(po2quant_isas generic sse2 sse4_1 avx2 avx_vnni avx512bw avx512_vnni)
  set(po2quant_flags_generic -DPO2QUANT_PORTABLE)
  set(po2quant_flags_sse2 -msse2)
  set(po2quant_flags_sse4_1 -msse4.1)
  set(po2quant_flags_avx2 -mavx2 -mf16c)
  set(po2quant_flags_avx_vnni -mavx2 -mf16c -mavxvnni)
  set(po2quant_flags_avx512bw ${po2quant_avx512bw_flags})
  set(po2quant_flags_avx512_vnni ${po2quant_avx512bw_flags} -mavx512vnni)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(po2quant_isas generic neon64 neon_dotprod neon_i8mm)
  set(po2quant_flags_generic -DPO2QUANT_PORTABLE)
  set(po2quant_flags_neon64 -march=armv8-a)
  set(po2quant_flags_neon_dotprod -march=armv8.2-a+dotprod)
  set(po2quant_flags_neon_i8mm -march=armv8.2-a+dotprod+i8mm)
else()
  set(po2quant_isas generic)
  set(po2quant_flags_generic "")
endif()
set(PO2QUANT_ISAS "${po2quant_isas}" CACHE STRING "Instruction sets that tests are built for")
list(REMOVE_DUPLICATES PO2QUANT_ISAS)

# Warnings for our own targets. g++ 12 takes the undefined operands of AVX-512 intrinsics for uninitialized variables, and
# sums of std::string for overlapping copies (its bug 105651).
add_library(po2quant_warnings INTERFACE)
target_compile_options(po2quant_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow
                       $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized -Wno-uninitialized -Wno-restrict -Wno-psabi>)

# po2quant_add_isa_tests(NAME <name> SOURCES <source> … [LAYERS])
# One executable and one test per instruction set, <name>_<isa>. Each is wholly compiled for its set, so nothing in it can
# run on a CPU without it; the launcher starts it, or skips it with a message. LAYERS: links the set's kernels of networks
# of integers, and defines PO2QUANT_ISA.
function(po2quant_add_isa_tests)
  cmake_parse_arguments(arg "LAYERS" "NAME" "SOURCES" ${ARGN})
  foreach(isa IN LISTS PO2QUANT_ISAS)
    set(target ${arg_NAME}_${isa})
    add_executable(${target} ${arg_SOURCES})
    add_dependencies(kernel_tests ${target})
    target_compile_options(${target} PRIVATE ${po2quant_flags_${isa}})
    target_link_libraries(${target} PRIVATE po2quant::po2quant po2quant_warnings po2quant_catch Threads::Threads)
    if(arg_LAYERS)
      po2quant_layer_kernels(${isa} layers)
      target_sources(${target} PRIVATE $<TARGET_OBJECTS:${layers}>)
      target_compile_definitions(${target} PRIVATE PO2QUANT_ISA=${isa})
    endif()
    if(OpenMP_CXX_FOUND)
      target_link_libraries(${target} PRIVATE OpenMP::OpenMP_CXX)
    endif()
    add_test(NAME ${arg_NAME}/${isa} COMMAND run_if_supported ${isa} ${CMAKE_CROSSCOMPILING_EMULATOR} $<TARGET_FILE:${target}>)
    set_tests_properties(${arg_NAME}/${isa} PROPERTIES LABELS kernels SKIP_RETURN_CODE 77 TIMEOUT 3600)
  endforeach()
endfunction()

# po2quant_layer_kernels(<isa> <variable>)
# The object library with the kernels of networks of integers for one instruction set, <isa>_layers of
# layer_kernels.hpp. A minute to compile, so tests, benchmarks and examples share it.
set(po2quant_layer_kernels_source ${CMAKE_CURRENT_LIST_DIR}/layer_kernels.cpp)
function(po2quant_layer_kernels isa variable)
  set(library po2quant_layer_kernels_${isa})
  if(NOT TARGET ${library})
    add_library(${library} OBJECT ${po2quant_layer_kernels_source})
    target_compile_options(${library} PRIVATE ${po2quant_flags_${isa}})
    target_compile_definitions(${library} PRIVATE PO2QUANT_ISA=${isa})
    target_link_libraries(${library} PRIVATE po2quant::po2quant po2quant_warnings)
  endif()
  set(${variable} ${library} PARENT_SCOPE)
endfunction()

# po2quant_add_isa_library(NAME <name> SOURCES <source> … [ISAS <isa> …])
# Compiles the sources once per instruction set, with PO2QUANT_ISA set to its name, and the kernels of networks of
# integers with them. What links <name> has all of these objects, and isa_list.hpp, which defines
# PO2QUANT_FOR_EACH_ISA(X): X of each name, the best last. <name>_OBJECTS lists them, those of a set joined by commas.
function(po2quant_add_isa_library)
  cmake_parse_arguments(arg "" "NAME" "SOURCES;ISAS" ${ARGN})
  if(NOT arg_ISAS)
    set(arg_ISAS ${po2quant_isas})
  endif()
  set(all "")
  set(groups "")
  foreach(isa IN LISTS arg_ISAS)
    set(objects ${arg_NAME}_${isa})
    add_library(${objects} OBJECT ${arg_SOURCES})
    target_compile_options(${objects} PRIVATE ${po2quant_flags_${isa}})
    target_compile_definitions(${objects} PRIVATE PO2QUANT_ISA=${isa})
    target_link_libraries(${objects} PRIVATE po2quant::po2quant po2quant_warnings)
    po2quant_layer_kernels(${isa} layers)
    list(APPEND all $<TARGET_OBJECTS:${objects}> $<TARGET_OBJECTS:${layers}>)
    list(APPEND groups "$<TARGET_OBJECTS:${objects}>,$<TARGET_OBJECTS:${layers}>")
  endforeach()
  list(TRANSFORM arg_ISAS REPLACE "(.+)" "X(\\1)" OUTPUT_VARIABLE entries)
  list(JOIN entries " " entries)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/${arg_NAME})
  file(CONFIGURE OUTPUT ${folder}/isa_list.hpp CONTENT "#define PO2QUANT_FOR_EACH_ISA(X) @entries@\n" @ONLY)
  add_library(${arg_NAME} INTERFACE)
  target_sources(${arg_NAME} INTERFACE ${all})
  target_include_directories(${arg_NAME} INTERFACE ${folder})
  set(${arg_NAME}_OBJECTS ${groups} PARENT_SCOPE)
endfunction()
