# Copies INPUTS, the objects of one instruction set, to OUTPUTS (both separated by |), where every name that they define
# ends in .<isa>, but names that have the tag of ISA in them. So the linker takes none of them for another object's.
cmake_minimum_required(VERSION 3.22)  # for IN_LIST in a script
string(REPLACE "|" ";" INPUTS "${INPUTS}")
string(REPLACE "|" ";" OUTPUTS "${OUTPUTS}")

# As names of the C++ ABI spell po2quant::arch::<isa>. Lists of tags belong to the dispatcher.
string(LENGTH ${ISA} length)
set(tag "4arch${length}${ISA}E")
set(renamed "")
foreach(input IN LISTS INPUTS)
  execute_process(COMMAND ${NM} --format=sysv --defined-only ${input} OUTPUT_VARIABLE symbols RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "po2quant: cannot read ${input}")
  endif()
  if(symbols MATCHES "(_GLOBAL__sub_I_[^0 |]|__cxx_global_var_init)")
    message(FATAL_ERROR "po2quant: ${input} runs code at the program's start, on every CPU, but is compiled for ${ISA}; "
                        "allowed in such a source: no variables with constructors outside of functions, no <iostream>")
  endif()
  # Names of global symbols, and n: names of groups of which the linker keeps one.
  string(REGEX MATCHALL "[^\n|]+\\|[^|\n]*\\| +[A-Zuvn] +\\|[^\n]+" lines "${symbols}")
  # One for all: type information, by whose names exceptions are caught, and variables of inline functions.
  list(FILTER lines EXCLUDE REGEX "^(_ZTI|_ZTS|DW\\.ref\\.)")
  set(variables ${lines})
  list(FILTER variables INCLUDE REGEX "\\| +[uV] +\\|.*\\|\\.(bss|data|tbss|tdata)")
  list(FILTER variables EXCLUDE REGEX "\\|\\.data\\.rel\\.ro")
  list(REMOVE_ITEM lines ${variables})
  list(TRANSFORM lines REPLACE " *\\|.*" "")
  list(APPEND renamed ${lines})
endforeach()
list(REMOVE_DUPLICATES renamed)
set(seen ${renamed})
list(FILTER seen INCLUDE REGEX ${tag})
list(FILTER seen EXCLUDE REGEX "8isa_list")
list(REMOVE_ITEM renamed ${seen})
list(TRANSFORM renamed REPLACE "(.+)" "\\1 \\1.${ISA}\n")
list(JOIN renamed "" renames)
list(GET OUTPUTS 0 first)
set(names ${first}.names)
file(WRITE ${names} "${renames}")  # empty where all have the tag
foreach(input output IN ZIP_LISTS INPUTS OUTPUTS)
  execute_process(COMMAND ${OBJCOPY} --redefine-syms=${names} ${input} ${output} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "po2quant: ${OBJCOPY} could not rename the symbols of ${input}")
  endif()
endforeach()
