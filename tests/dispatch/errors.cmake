# Calls of po2quant_add_isa_sources that are refused, each with a message that says what was given and what is allowed.
cmake_minimum_required(VERSION 3.22)
file(REMOVE_RECURSE ${WORK_DIR})

# check_refused(<expected> <option> …): configures this folder's project and builds its app; the output must match.
function(check_refused expected)
  execute_process(COMMAND ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${WORK_DIR} -G ${GENERATOR}
                          -D CMAKE_CXX_COMPILER=${CXX} -D PO2QUANT_XSIMD_INCLUDE_DIR=${XSIMD}
                          -D PO2QUANT_FETCH_DEPENDENCIES=OFF -D PO2QUANT_SOURCE_DIR=${SOURCE_DIR} -D ISAS=sse4_1
                          ${ARGN}
                  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(result EQUAL 0)
    execute_process(COMMAND ${CMAKE_COMMAND} --build ${WORK_DIR} --target app
                    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  endif()
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  if(result EQUAL 0 OR NOT output MATCHES "${expected}")
    message(FATAL_ERROR "not refused with '${expected}': ${ARGN}\n${output}")
  endif()
  message(STATUS "refused: ${expected}")
endfunction()

set(call "po2quant_add_isa_sources\\(app\\): ")
check_refused("${call}ISAS has 'avx3', which .* does not; allowed: generic, .*avx2" "-DCALL=app SOURCES kernels.cpp ISAS avx2 avx3")
check_refused("${call}ISAS has 'neon64', which x86_64 does not; allowed: generic, .*avx2" "-DCALL=app SOURCES kernels.cpp ISAS neon64")
check_refused("${call}nothing to compile; allowed: SOURCES" "-DCALL=app ISAS avx2")
check_refused("${call}given 'FILES;kernels.cpp'; allowed: SOURCES" "-DCALL=app FILES kernels.cpp")
check_refused("${call}SOURCES has 'kernels.hpp'; allowed: C\\+\\+ sources" "-DCALL=app SOURCES kernels.hpp")
check_refused("\\(nobody\\): there is no target of this name; allowed: " "-DCALL=nobody SOURCES kernels.cpp")
check_refused("\\(interface\\): the target is of type INTERFACE_LIBRARY; allowed: " "-DCALL=interface SOURCES kernels.cpp")
check_refused("\\(kernels\\): called a second time; allowed: one call" "-DCALL=kernels SOURCES kernels.cpp")
check_refused("runs code at the program's start, on every CPU, but is compiled for avx2; allowed in such a source: no variables"
              "-DCALL=app SOURCES starts.cpp ISAS avx2")
check_refused("flags of yours bring a better one" "-DCALL=app SOURCES kernels.cpp ISAS sse4_1" -D CMAKE_CXX_FLAGS=-mavx2)
