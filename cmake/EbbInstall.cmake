# SPDX-License-Identifier: Apache-2.0
# cmake --install: headers, libraries and the package that find_package(ebb) reads.
include(CMakePackageConfigHelpers)

set(EBB_PACKAGE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/ebb")

foreach(folder core autograd ops nn)
  if(IS_DIRECTORY "${PROJECT_SOURCE_DIR}/${folder}")
    install(DIRECTORY "${PROJECT_SOURCE_DIR}/${folder}"
            DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/ebb"
            FILES_MATCHING PATTERN "*.h" PATTERN "ops/kernels" EXCLUDE
            # What families share among themselves.
            PATTERN "*_util.h" EXCLUDE PATTERN "unary_op.h" EXCLUDE PATTERN "product.h" EXCLUDE
            PATTERN "matrix_stack.h" EXCLUDE PATTERN "shape_view.h" EXCLUDE
            PATTERN "missed.h" EXCLUDE PATTERN "rule.h" EXCLUDE PATTERN "slot.h" EXCLUDE
            PATTERN "pass.h" EXCLUDE PATTERN "short_way.h" EXCLUDE
            PATTERN "gather.h" EXCLUDE PATTERN "segment.h" EXCLUDE
            PATTERN "call.h" EXCLUDE PATTERN "shape_memo.h" EXCLUDE)
  endif()
endforeach()
install(FILES "${PROJECT_SOURCE_DIR}/ebb.h" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/ebb" OPTIONAL)

install(TARGETS ebb ebb_testing EXPORT ebbTargets
        ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(EXPORT ebbTargets NAMESPACE ebb:: DESTINATION "${EBB_PACKAGE_DIR}")

configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/ebbConfig.cmake.in" "${PROJECT_BINARY_DIR}/ebbConfig.cmake"
  INSTALL_DESTINATION "${EBB_PACKAGE_DIR}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/ebbConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/ebbConfig.cmake"
              "${PROJECT_BINARY_DIR}/ebbConfigVersion.cmake"
              "${PROJECT_SOURCE_DIR}/cmake/FindEbbOpenBLAS.cmake"
        DESTINATION "${EBB_PACKAGE_DIR}")
