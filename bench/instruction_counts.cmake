# Compares the instructions of one call of each row of TABLE, as callgrind counts them, with what the table says for one
# instruction set: a kernel that grew or shrank shows on the noisiest machine. With UPDATE it writes them there instead.
# The counts hold for one compiler, xsimd and set of flags, which the table names; others skip.
#   -D PROGRAM=<po2quant_instruction_counts> -D ISA=<isa> -D TABLE=<file> -D WORK_DIR=<folder> [-D UPDATE=ON]
cmake_minimum_required(VERSION 3.22)
set(allowed_percent 2)

find_program(VALGRIND valgrind)
if(NOT VALGRIND)
  message("SKIP: there is no valgrind")
  return()
endif()
execute_process(COMMAND ${PROGRAM} ${ISA} OUTPUT_VARIABLE compiler OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
# A comment, the compiler, the names of the columns, then the rows; columns are separated by tabs.
file(STRINGS ${TABLE} lines)
list(POP_FRONT lines comment table_compiler names)
if(NOT UPDATE AND NOT table_compiler STREQUAL "# ${compiler}")
  message("SKIP: the counts hold for\n${table_compiler}\nnot for\n# ${compiler}")
  return()
endif()
string(REPLACE "\t" ";" columns "${names}")
list(FIND columns ${ISA} column)
list(TRANSFORM lines REPLACE "\t.*" "" OUTPUT_VARIABLE rows)

set(counts_file ${WORK_DIR}/callgrind.${ISA})
execute_process(COMMAND ${VALGRIND} --tool=callgrind --collect-atstart=no --toggle-collect=counted_call
                        --dump-after=counted_call --combine-dumps=yes --callgrind-out-file=${counts_file}
                        ${PROGRAM} ${ISA} ${rows}
                OUTPUT_VARIABLE output ERROR_VARIABLE errors RESULT_VARIABLE result)
if(output MATCHES "SKIP: ")
  message("${output}")
  return()
elseif(NOT result EQUAL 0)
  message(FATAL_ERROR "${output}${errors}")
endif()
file(STRINGS ${counts_file} counts REGEX "^totals: ")
list(TRANSFORM counts REPLACE "totals: " "")
list(POP_BACK counts)  # at the program's end: none
list(LENGTH counts counted)
list(LENGTH rows expected)
if(expected EQUAL 0 OR NOT counted EQUAL expected)
  message(FATAL_ERROR "${counted} counts of ${expected} rows in ${counts_file}")
endif()

set(updated "${comment}\n# ${compiler}\n${names}\n")
foreach(line count IN ZIP_LISTS lines counts)
  string(REPLACE "\t" ";" cells "${line}")
  list(GET cells 0 row)
  list(GET cells ${column} before)
  math(EXPR change "100 * (${count} - ${before})")
  math(EXPR allowed "${allowed_percent} * ${before}")
  if(NOT UPDATE AND (change GREATER allowed OR change LESS -${allowed}))
    message(SEND_ERROR "${row} on ${ISA}: ${count} instructions, ${before} before; allowed are ${allowed_percent} % in "
                       "either direction. Where it is meant to be so: cmake --build <folder> --target "
                       "update_instruction_counts, and commit ${TABLE}")
  endif()
  list(REMOVE_AT cells ${column})
  list(INSERT cells ${column} ${count})
  list(JOIN cells "\t" cells)
  string(APPEND updated "${cells}\n")
endforeach()
if(UPDATE)
  file(WRITE ${TABLE} "${updated}")
endif()
message(STATUS "${counted} rows on ${ISA}")
