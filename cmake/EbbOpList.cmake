# SPDX-License-Identifier: Apache-2.0
# ebb_add_op_list(<target>): collects the ops of ops/*.cc, each marked by a line `EBB_OP(Name)`, into
# a generated source that defines ebb::registered_ops(). A generated list needs no static
# constructors, which a linker drops from a static library.

function(ebb_add_op_list target)
  set(script "${PROJECT_SOURCE_DIR}/cmake/op_list.cmake")
  set(output "${PROJECT_BINARY_DIR}/generated/op_list.cc")
  file(GLOB op_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/ops/*.cc")

  # Once now, so that a name defined twice stops the configuration; then whenever an op file changes.
  set(command "${CMAKE_COMMAND}" "-DOUTPUT=${output}" "-DSOURCE_DIR=${PROJECT_SOURCE_DIR}" -P "${script}")
  execute_process(COMMAND ${command} COMMAND_ERROR_IS_FATAL ANY)
  add_custom_command(
    OUTPUT "${output}"
    COMMAND ${command}
    DEPENDS ${op_sources} "${script}"
    COMMENT "Listing the ops"
    VERBATIM)
  target_sources(${target} PRIVATE "${output}")
endfunction()
