// SPDX-License-Identifier: Apache-2.0
// The start of a process that only loads OpenBLAS: what first_op.cc is compared with.
#include <cblas.h>

#include <cstdlib>

int main() {
  const float x[2] = {1, 2};
  std::_Exit(cblas_sdot(2, x, 1, x, 1) == 5 ? 0 : 1);
}
