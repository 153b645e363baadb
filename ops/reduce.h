// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// Reductions over any axes; none named means all. With `keepdim` a reduced axis stays, of size 1.
// A bad axis is an IndexError, an axis named twice a ValueError.
namespace ebb {

/// Sum. Integers add up in int64.
Tensor sum(const Tensor& x, Axes axes = {}, bool keepdim = false, Where where = Where::current());

/// Sums x over what would have to be repeated to get from `shape` to x's: the opposite of expand.
/// x itself where the shapes are equal.
Tensor sum_to(const Tensor& x, const Shape& shape, Where where = Where::current());

}  // namespace ebb
