// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// Picking elements. Indices are int64 or int32 and may be negative, counting from the end; one
// outside the range is an IndexError naming it.
namespace ebb {

/// Elements start, start + step, ... before stop along an axis. Negative start and stop count from
/// the end, and are cut to the range as in Python; step may be negative (then stop = INT64_MIN runs
/// to the front), but not 0. View.
Tensor slice(const Tensor& x, int64_t axis, int64_t start, int64_t stop = INT64_MAX,
             int64_t step = 1, Where where = Where::current());
/// The slice at one index of an axis, which is dropped. View.
Tensor select(const Tensor& x, int64_t axis, int64_t index, Where where = Where::current());
/// The slices at `indices` [k] of an axis, in that order. Along axis 0 the gradient touches only
/// the rows that were read, and stays row-sparse up to the optimiser.
Tensor index_select(const Tensor& x, int64_t axis, const Tensor& indices,
                    Where where = Where::current());

}  // namespace ebb
