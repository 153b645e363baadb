// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// Ops that rearrange one tensor of any type. Those marked "view" share the elements with their
// input and cost no copy. Axes may be negative, counting from the last. A bad axis is an
// IndexError, sizes that do not fit a ShapeError.
namespace ebb {

/// x with another shape of as many elements; one size may be -1 and is worked out. A view where the
/// strides of x allow one (always where x is contiguous), else a copy.
Tensor reshape(const Tensor& x, const Shape& shape, Where where = Where::current());
/// Joins the axes from start_axis to end_axis to one; a scalar becomes [1]. A view or a copy, as
/// reshape.
Tensor flatten(const Tensor& x, int64_t start_axis = 0, int64_t end_axis = -1,
               Where where = Where::current());
/// Axis i of the result is axis axes[i] of x. View.
Tensor permute(const Tensor& x, Axes axes, Where where = Where::current());
/// Swaps two axes. View.
Tensor transpose(const Tensor& x, int64_t axis0, int64_t axis1, Where where = Where::current());
/// The transpose of a matrix; a vector or scalar stays as it is. View.
Tensor t(const Tensor& x, Where where = Where::current());
/// Repeats sizes of 1, and puts new axes in front; -1 keeps a size. View.
Tensor expand(const Tensor& x, const Shape& shape, Where where = Where::current());
/// Drops those of the named axes that have size 1; none named means all axes. As in PyTorch, a
/// named axis of another size stays. View.
Tensor squeeze(const Tensor& x, Axes axes = {}, Where where = Where::current());
/// Puts in an axis of size 1 before `axis`, in [-rank-1, rank]. View.
Tensor unsqueeze(const Tensor& x, int64_t axis, Where where = Where::current());
/// Turns round the order along the named axes; none named means all. View.
Tensor flip(const Tensor& x, Axes axes = {}, Where where = Where::current());

}  // namespace ebb
