# 1, 2, 4 and 16 ranks leave the quickstart's checkpoint, byte for byte: serialized range trackers and weights.

# Open MPI refuses root and more ranks than cores unless told; bound ranks would crowd on one core. Others ignore these.
set(ENV{OMPI_ALLOW_RUN_AS_ROOT} 1)
set(ENV{OMPI_ALLOW_RUN_AS_ROOT_CONFIRM} 1)
set(ENV{OMPI_MCA_rmaps_base_oversubscribe} 1)
set(ENV{OMPI_MCA_hwloc_base_binding_policy} none)

set(arguments --shapes --steps 12 --seed 1)

# run(NAME COMMAND …): the command with the arguments and an empty folder of that name to write to.
function(run name)
  file(REMOVE_RECURSE ${WORK_DIR}/${name})
  execute_process(COMMAND ${ARGN} ${arguments} --out ${WORK_DIR}/${name} COMMAND_ECHO STDOUT RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${name} ended with ${result}")
  endif()
endfunction()

run(quickstart ${QUICKSTART})
foreach(ranks 1 2 4 16)
  run(ranks_${ranks} ${MPIEXEC} ${RANKS} ${ranks} ${PROGRAM})
  foreach(file trackers.bin weights.bin)
    execute_process(COMMAND ${CMAKE_COMMAND} -E compare_files ${WORK_DIR}/quickstart/${file}
                            ${WORK_DIR}/ranks_${ranks}/${file} RESULT_VARIABLE result)
    if(NOT result EQUAL 0)
      message(FATAL_ERROR "${file} of ${ranks} ranks is not the quickstart's")
    endif()
  endforeach()
endforeach()
