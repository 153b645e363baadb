// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

namespace ebb {

/// A copy of x[index], whose gradient is a sparse row: what a table of embeddings is asked for.
/// Unlike the view that select() gives, it stays what it was when x is written, and brings only
/// this row of x up to date where an optimiser has put updates off.
/// Throws IndexError where there is no such row.
Tensor take_row(const Tensor& x, int64_t index, Where where = Where::current());
/// The same for an index in a tensor [1], int64 or int32.
Tensor take_row(const Tensor& x, const Tensor& index, Where where = Where::current());

}  // namespace ebb
