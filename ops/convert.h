// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

namespace ebb {

/// x with elements of another type; x itself where it has that type. The gradient is converted
/// back; it flows between float32 and float64 only. Fractions are cut toward zero on the way to
/// integers; anything but 0 is true.
Tensor cast(const Tensor& x, DType dtype, Where where = Where::current());

/// x with its elements in row-major order; x itself where they are.
Tensor contiguous(const Tensor& x, Where where = Where::current());

}  // namespace ebb
