// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "ebb/autograd/tensor.h"

namespace ebb {

struct TapePrintOptions {
  /// Nodes shown at most, those nearest to the tensor first.
  int64_t max_nodes = 500;
};

/// The tape behind `t`, one line a node, in the order of recording:
///   %0 = leaf "fc.weight" float32[128,784]
///   %1 = mv(%0, -) float32[128]  saves in 1 float32[784]  at train.cc:12
/// "-" is an input that needs no gradient, %3:1 the second output of %3, "..." a node beyond the
/// limit. The shape of a result is shown where the tape knows it.
std::string tape_to_string(const Tensor& t, const TapePrintOptions& options = {});

/// The same as a graph for Graphviz: `dot -Tsvg`.
std::string tape_to_dot(const Tensor& t, const TapePrintOptions& options = {});

}  // namespace ebb
