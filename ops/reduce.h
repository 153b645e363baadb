// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <optional>

#include "ebb/autograd/tensor.h"

// Reductions over any axes; none named means all. With `keepdim` a reduced axis stays, of size 1.
// A bad axis is an IndexError, an axis named twice a ValueError, a type that an op does not take a
// DTypeError. Sums of floating numbers are taken pairwise; the same call gives the same result.
namespace ebb {

/// Sum; 0 of no elements. Integers and bool add up in int64.
Tensor sum(const Tensor& x, Axes axes = {}, bool keepdim = false, Where where = Where::current());

/// Sums x over what would have to be repeated to get from `shape` to x's: the opposite of expand.
/// x itself where the shapes are equal. Integers add up in int64. Throws ShapeError where `shape`
/// does not repeat to x's.
Tensor sum_to(const Tensor& x, const Shape& shape, Where where = Where::current());

/// Mean of floating x; NaN of no elements.
Tensor mean(const Tensor& x, Axes axes = {}, bool keepdim = false, Where where = Where::current());

/// Product; 1 of no elements. Integers and bool multiply in int64, where they wrap. The gradient is
/// right where elements are 0, at any order.
Tensor prod(const Tensor& x, Axes axes = {}, bool keepdim = false, Where where = Where::current());

/// Largest element over axes; NaN if there is one. The gradient is shared out evenly among equal
/// largest elements (torch.amax). Throws ShapeError where there is no element to compare.
Tensor max(const Tensor& x, Axes axes = {}, bool keepdim = false, Where where = Where::current());
/// Smallest element over axes, as max.
Tensor min(const Tensor& x, Axes axes = {}, bool keepdim = false, Where where = Where::current());

/// Elements picked along an axis, and their indices there, int64.
struct ValuesIndices {
  Tensor values;
  Tensor indices;
};

namespace detail {
ValuesIndices max_along(const Tensor& x, int64_t axis, bool keepdim, Where where);
ValuesIndices min_along(const Tensor& x, int64_t axis, bool keepdim, Where where);
}  // namespace detail

/// Largest elements along one axis and where they are, the first of several or of NaNs. The
/// gradient goes to the element that is named:
///   auto [values, indices] = max(x, -1);
/// With the axis in braces, max(x, {-1}), it is the max over axes above, which gives no indices.
template <std::integral I>
ValuesIndices max(const Tensor& x, I axis, bool keepdim = false, Where where = Where::current()) {
  return detail::max_along(x, static_cast<int64_t>(axis), keepdim, where);
}
/// Smallest elements along one axis and where they are, as max.
template <std::integral I>
ValuesIndices min(const Tensor& x, I axis, bool keepdim = false, Where where = Where::current()) {
  return detail::min_along(x, static_cast<int64_t>(axis), keepdim, where);
}

/// Index of the largest element along an axis, int64: of the first of several or of NaNs. Without
/// an axis, of all elements in row-major order. Throws ShapeError where there is none to compare.
Tensor argmax(const Tensor& x, std::optional<int64_t> axis = std::nullopt, bool keepdim = false,
              Where where = Where::current());
/// Index of the smallest element, as argmax.
Tensor argmin(const Tensor& x, std::optional<int64_t> axis = std::nullopt, bool keepdim = false,
              Where where = Where::current());

/// ln of the sum of e^x, without overflow; -infinity of no elements.
Tensor logsumexp(const Tensor& x, Axes axes = {}, bool keepdim = false,
                 Where where = Where::current());

/// Variance: the sum of squared distances from the mean over max(count - correction, 0); NaN where
/// both are 0. `correction` 1, or true, is unbiased (Bessel); 0, or false, the variance of the
/// sample.
Tensor var(const Tensor& x, Axes axes = {}, double correction = 1, bool keepdim = false,
           Where where = Where::current());
/// Standard deviation, the root of var; the gradient where it is 0 is 0.
Tensor std(const Tensor& x, Axes axes = {}, double correction = 1, bool keepdim = false,
           Where where = Where::current());

/// Vector norm (sum |x|^p)^(1/p) over axes: p = 0 counts what is not 0, p = infinity is the
/// largest |x| and -infinity the smallest; any other p too. Neither overflows nor underflows before
/// its value does. The gradient is 0 where the norm is, and where x is for p < 1; for p =
/// +-infinity it is shared out evenly among equal extremes. Throws ShapeError for an extreme of no
/// elements, that is for infinite and negative p.
Tensor norm(const Tensor& x, double p = 2, Axes axes = {}, bool keepdim = false,
            Where where = Where::current());

/// y[i] = x[0] + ... + x[i] along an axis. Integers and bool add up in int64.
Tensor cumsum(const Tensor& x, int64_t axis, Where where = Where::current());
/// y[i] = x[0] * ... * x[i] along an axis. Integers and bool multiply in int64. The gradient is
/// right where elements are 0, at any order.
Tensor cumprod(const Tensor& x, int64_t axis, Where where = Where::current());

/// Whether any element is not 0, as bool; false of no elements. NaN is not 0.
Tensor any(const Tensor& x, Axes axes = {}, bool keepdim = false, Where where = Where::current());
/// Whether no element is 0, as bool; true of no elements.
Tensor all(const Tensor& x, Axes axes = {}, bool keepdim = false, Where where = Where::current());

}  // namespace ebb
