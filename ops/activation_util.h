// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/ops/convert.h"
#include "ebb/ops/elementwise.h"

// What the activations share. Not for users.
namespace ebb::ops {

/// 1 where the condition holds, else 0, of the type of g.
inline Tensor indicator(const Tensor& condition, const Tensor& g) {
  return cast(condition, g.dtype());
}

/// Derivatives at x.
Tensor gelu_slope(const Tensor& x);
Tensor silu_slope(const Tensor& x);

}  // namespace ebb::ops
