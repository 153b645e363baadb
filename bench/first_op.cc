// SPDX-License-Identifier: Apache-2.0
// The start of a process up to the end of its first recorded op and playback.
#include <ebb/ebb.h>

#include <cstdlib>

int main() {
  const ebb::Tensor x = ebb::variable(ebb::ones({16}));
  (x * x).sum().backward();
  std::_Exit(x.grad().defined() ? 0 : 1);
}
