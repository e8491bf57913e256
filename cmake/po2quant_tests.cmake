# Our own targets: their warnings, and tests for every instruction set.

set(PO2QUANT_ISAS "${po2quant_isas}" CACHE STRING "Instruction sets that tests are built for")
list(REMOVE_DUPLICATES PO2QUANT_ISAS)

# Warnings for our own targets. g++ 12 takes the undefined operands of AVX-512 intrinsics for uninitialized variables, and
# sums of std::string for overlapping copies (its bug 105651).
add_library(po2quant_warnings INTERFACE)
target_compile_options(po2quant_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow
                       $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized -Wno-uninitialized -Wno-restrict -Wno-psabi>)

# po2quant_add_isa_tests(NAME <name> SOURCES <source> … [LAYERS] [PLAIN] [ISAS <isa> …])
# One executable and one test per instruction set, <name>_<isa>, and a target <name> that builds them all. Each is wholly
# compiled for its set, so nothing in it can run on a CPU without it; the launcher starts it, or skips it with a message.
# LAYERS: links the set's kernels of networks of integers. PLAIN: without Catch2. ISAS: by default PO2QUANT_ISAS.
function(po2quant_add_isa_tests)
  cmake_parse_arguments(arg "LAYERS;PLAIN" "NAME" "SOURCES;ISAS" ${ARGN})
  if(NOT arg_ISAS)
    set(arg_ISAS ${PO2QUANT_ISAS})
  endif()
  add_custom_target(${arg_NAME})
  foreach(isa IN LISTS arg_ISAS)
    set(target ${arg_NAME}_${isa})
    add_executable(${target} ${arg_SOURCES})
    add_dependencies(kernel_tests ${target})
    add_dependencies(${arg_NAME} ${target})
    target_compile_options(${target} PRIVATE ${po2quant_flags_${isa}})
    target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_link_libraries(${target} PRIVATE po2quant::po2quant po2quant_warnings Threads::Threads)
    if(NOT arg_PLAIN)
      target_link_libraries(${target} PRIVATE po2quant_catch)
    endif()
    if(arg_LAYERS)
      po2quant_layer_kernels(${isa} layers)
      target_sources(${target} PRIVATE $<TARGET_OBJECTS:${layers}>)
    endif()
    if(OpenMP_CXX_FOUND)
      target_link_libraries(${target} PRIVATE OpenMP::OpenMP_CXX)
    endif()
    if(isa STREQUAL generic)
      add_test(NAME ${arg_NAME}/${isa} COMMAND ${target})
    else()
      add_dependencies(${target} run_if_supported)
      add_test(NAME ${arg_NAME}/${isa} COMMAND run_if_supported ${isa} ${CMAKE_CROSSCOMPILING_EMULATOR} $<TARGET_FILE:${target}>)
    endif()
    set_tests_properties(${arg_NAME}/${isa} PROPERTIES LABELS kernels SKIP_RETURN_CODE 77 TIMEOUT 3600)
  endforeach()
endfunction()

# po2quant_add_one_definition_test(<name> TARGETS <target> … [ISA_TARGET <target>])
# No two of these define the same code: the objects of each target, and what po2quant_add_isa_sources linked into
# ISA_TARGET for each instruction set.
function(po2quant_add_one_definition_test name)
  cmake_parse_arguments(arg "" "ISA_TARGET" "TARGETS" ${ARGN})
  list(TRANSFORM arg_TARGETS REPLACE "(.+)" "$<JOIN:$<TARGET_OBJECTS:\\1>,$<COMMA>>" OUTPUT_VARIABLE groups)
  if(arg_ISA_TARGET)
    get_target_property(isa_groups ${arg_ISA_TARGET} po2quant_isa_objects)
    list(APPEND groups ${isa_groups})
  endif()
  list(JOIN groups "|" groups)
  add_test(NAME one_definition/${name} COMMAND ${CMAKE_COMMAND} -D "OBJECTS=${groups}" -D NM=${CMAKE_NM}
                                               -P ${PROJECT_SOURCE_DIR}/tests/one_definition.cmake)
  set_tests_properties(one_definition/${name} PROPERTIES LABELS kernels)
endfunction()
