// SPDX-License-Identifier: Apache-2.0
// Prints the ops of the library, one a line: name, formula, shapes, and the cost of a forward pass
// where every size in the shapes is 64, in float32.
#include <cstdio>

#include "ebb/autograd/registry.h"

int main() {
  const std::string table = ebb::op_table();
  return std::fputs(table.c_str(), stdout) < 0 ? 1 : 0;
}
