// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/blas.h"

#include <cstdlib>
#include <memory>

namespace ebb::kernels {

void* detail::gemm_scratch() {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  constexpr size_t kAlign = 64;
  static thread_local const std::unique_ptr<void, Free> scratch(
      std::aligned_alloc(kAlign, kGemmScratchBytes));
  return scratch.get();
}

}  // namespace ebb::kernels
