# SPDX-License-Identifier: Apache-2.0
# Finds OpenBLAS, its serial build first: Ebb runs its own threads and calls it under a lock.
# Defines the target EbbOpenBLAS::EbbOpenBLAS.
find_path(EbbOpenBLAS_INCLUDE_DIR cblas.h
  PATH_SUFFIXES openblas-serial openblas-openmp openblas-pthread openblas)
find_library(EbbOpenBLAS_LIBRARY openblas
  PATH_SUFFIXES openblas-serial openblas-openmp openblas-pthread)
mark_as_advanced(EbbOpenBLAS_INCLUDE_DIR EbbOpenBLAS_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(EbbOpenBLAS
  REQUIRED_VARS EbbOpenBLAS_LIBRARY EbbOpenBLAS_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "Debian's package is libopenblas-serial-dev.")

if(EbbOpenBLAS_FOUND AND NOT TARGET EbbOpenBLAS::EbbOpenBLAS)
  add_library(EbbOpenBLAS::EbbOpenBLAS UNKNOWN IMPORTED)
  set_target_properties(EbbOpenBLAS::EbbOpenBLAS PROPERTIES
    IMPORTED_LOCATION "${EbbOpenBLAS_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${EbbOpenBLAS_INCLUDE_DIR}")
endif()
