# SPDX-License-Identifier: Apache-2.0
# For 64-bit ARM with Debian's cross compiler; EBB_ARM64_SYSTEM is a folder with the system's
# headers and libraries for it. See scripts/test_arm64.sh.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EBB_ARM64_SYSTEM)
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_SYSROOT "${EBB_ARM64_SYSTEM}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64;-L;${EBB_ARM64_SYSTEM}")
# Where the libraries that libraries need are, at build time and on the system.
set(EBB_ARM64_LIBRARIES "/usr/lib/aarch64-linux-gnu")
string(CONCAT CMAKE_EXE_LINKER_FLAGS_INIT
  "-Wl,-rpath-link,${EBB_ARM64_SYSTEM}${EBB_ARM64_LIBRARIES}:${EBB_ARM64_SYSTEM}/lib/aarch64-linux-gnu "
  "-Wl,-rpath,${EBB_ARM64_LIBRARIES}/openblas-serial")
