# SPDX-License-Identifier: Apache-2.0
# ebb_compile_settings(<target>): warnings, sanitizers and SIMD targets of everything the project
# compiles. Private to the build: none of it is exported to programs that use an installed Ebb.

add_library(ebb_settings INTERFACE)

target_compile_options(ebb_settings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow
  # GCC 12 sees overlapping copies in std::string's own code (GCC bug 105651).
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>
  $<$<BOOL:${EBB_WERROR}>:-Werror>
  # A product and a sum are fused only where the source says so, whatever the compiler and instruction set.
  -ffp-contract=off
  # Lets a user's linker drop what the program does not reach.
  -ffunction-sections -fdata-sections)

if(EBB_SANITIZE)
  target_compile_options(ebb_settings INTERFACE -fsanitize=${EBB_SANITIZE})
  target_link_options(ebb_settings INTERFACE -fsanitize=${EBB_SANITIZE})
  if(EBB_SANITIZE MATCHES "undefined")
    target_compile_options(ebb_settings INTERFACE -fno-sanitize-recover=undefined)
  endif()
endif()

if(EBB_SIMD_DISPATCH)
  # SSE4, AVX2 and AVX3 (AVX-512), with plain scalar code as the fallback of older machines. The
  # others Highway knows on x86 cost compile time and gain nothing here. On ARM it is NEON, which all
  # 64-bit ones have: the kernels hold arrays of vectors, and those of SVE have no fixed size.
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
    set(EBB_TARGETS_LEFT_OUT "HWY_SVE|HWY_SVE2|HWY_SVE_256|HWY_SVE2_128")
    # As Highway marks its own functions, so that GCC may inline them into constructors it makes.
    target_compile_options(ebb_settings INTERFACE -march=armv8-a+crypto)
  else()
    set(EBB_TARGETS_LEFT_OUT "HWY_SSSE3|HWY_AVX3_DL")
  endif()
  target_compile_definitions(ebb_settings INTERFACE
    "HWY_DISABLED_TARGETS=(${EBB_TARGETS_LEFT_OUT})")
else()
  # One target: the best of AVX2, SSE4 and scalar that this machine runs.
  target_compile_definitions(ebb_settings INTERFACE HWY_COMPILE_ONLY_STATIC)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$" AND NOT CMAKE_CROSSCOMPILING)
    include(CheckCXXSourceRuns)
    check_cxx_source_runs(
      "int main() { return __builtin_cpu_supports(\"avx2\") && __builtin_cpu_supports(\"fma\") && __builtin_cpu_supports(\"bmi2\") ? 0 : 1; }"
      EBB_HOST_HAS_AVX2)
    check_cxx_source_runs(
      "int main() { return __builtin_cpu_supports(\"sse4.2\") ? 0 : 1; }" EBB_HOST_HAS_SSE4)
    if(EBB_HOST_HAS_AVX2)
      target_compile_options(ebb_settings INTERFACE
        -mavx2 -mfma -mbmi -mbmi2 -mf16c -maes -mpclmul)
    elseif(EBB_HOST_HAS_SSE4)
      target_compile_options(ebb_settings INTERFACE -msse4.2)
      target_compile_definitions(ebb_settings INTERFACE HWY_DISABLE_PCLMUL_AES)
    endif()
  endif()
endif()

function(ebb_compile_settings target)
  target_link_libraries(${target} PRIVATE "$<BUILD_INTERFACE:ebb_settings>")
endfunction()
