// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>

#include "ebb/ops/reduce.h"

// Picking elements, and putting them back, of any type where nothing else is said. Axes may be
// negative, counting from the last. Indices are int64 or int32 and may be negative too, counting
// from the end; one outside the range is an IndexError naming it, an index tensor of another type a
// DTypeError, a shape that does not fit a ShapeError. All are thrown before anything is written.
//
// Sums of elements that meet in one place are taken in row-major order of the indices, whatever the
// layout; where elements overwrite each other the last one in that order stays, and only it has a
// gradient.
namespace ebb {

// ---- runs of an axis
// -----------------------------------------------------------------------------

/// Elements start, start + step, ... before stop along an axis. Negative start and stop count from
/// the end, and are cut to the range as in Python; step may be negative (then stop = INT64_MIN runs
/// to the front), but not 0, a ValueError. View. The gradient of a short run stays sparse up to the
/// optimiser, and structure that the gradient has (a product, rows, columns) is kept.
Tensor slice(const Tensor& x, int64_t axis, int64_t start, int64_t stop = INT64_MAX,
             int64_t step = 1, Where where = Where::current());
/// `length` elements from `start` on, which may be negative; they must all exist, else an
/// IndexError. View.
Tensor narrow(const Tensor& x, int64_t axis, int64_t start, int64_t length,
              Where where = Where::current());
/// The slice at one index of an axis, which is dropped. View; gradient as that of slice.
Tensor select(const Tensor& x, int64_t axis, int64_t index, Where where = Where::current());
/// A copy of x with slice(x, axis, start, stop, step) replaced by `src`, of the same shape.
Tensor slice_scatter(const Tensor& x, const Tensor& src, int64_t axis, int64_t start,
                     int64_t stop = INT64_MAX, int64_t step = 1, Where where = Where::current());

// ---- whole slices by index
// -----------------------------------------------------------------------

/// The slices at `indices` [k] of an axis, in that order. The gradient touches only the slices that
/// were read: along axis 0, and along axis 1 of a matrix, it stays sparse up to the optimiser.
Tensor index_select(const Tensor& x, int64_t axis, const Tensor& indices,
                    Where where = Where::current());
/// A copy of x in which slice indices[i] of the axis has grown by alpha * slice i of `src`. What
/// several indices name adds up. Not for float16 and bfloat16.
Tensor index_add(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& src,
                 double alpha = 1, Where where = Where::current());

// ---- single elements along an axis
// ---------------------------------------------------------------

/// y[..,i,..] = x[..,indices[..,i,..],..]: of the shape of `indices`, which has the rank of x and
/// is no larger than x in any other axis.
Tensor gather(const Tensor& x, int64_t axis, const Tensor& indices, Where where = Where::current());
/// The same where x and `indices` are broadcast against each other in all other axes: NumPy's
/// take_along_axis, PyTorch's take_along_dim.
Tensor take_along(const Tensor& x, const Tensor& indices, int64_t axis,
                  Where where = Where::current());
/// A copy of x with y[..,indices[..,i,..],..] = src[..,i,..] for every index. `indices` has the
/// rank of x and is no larger than `src`, nor, in any other axis, than x.
Tensor scatter(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& src,
               Where where = Where::current());
/// The same with one value for all.
Tensor scatter(const Tensor& x, int64_t axis, const Tensor& indices, double value,
               Where where = Where::current());
/// A copy of x with src added at those places instead. Not for float16 and bfloat16.
Tensor scatter_add(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& src,
                   Where where = Where::current());

// ---- brackets
// ------------------------------------------------------------------------------------

/// A slice as an index: Slice(), Slice(1), Slice(1, -1), Slice(0, INT64_MAX, 2).
struct Slice {
  explicit Slice(int64_t from = kOpen, int64_t to = kOpen, int64_t by = 1)
      : start(from), stop(to), step(by) {}
  static constexpr int64_t kOpen = std::numeric_limits<int64_t>::min();  ///< from or to the end
  int64_t start;
  int64_t stop;
  int64_t step;
};
struct NewAxis {};   ///< puts in an axis of size 1
struct Ellipsis {};  ///< as many whole axes as the other items leave; once at most

/// One of the items between brackets: an integer, Slice, NewAxis, Ellipsis, index tensor or mask.
struct IndexItem {
  enum Kind : uint8_t { kInteger, kSlice, kNewAxis, kEllipsis, kTensor };

  template <class I>
  requires std::is_integral_v<I> IndexItem(I i)
      : kind(kInteger), slice(static_cast<int64_t>(i)) {}  // NOLINT
  IndexItem(const Slice& s) : kind(kSlice), slice(s) {}    // NOLINT
  IndexItem(NewAxis) : kind(kNewAxis) {}                   // NOLINT
  IndexItem(Ellipsis) : kind(kEllipsis) {}                 // NOLINT
  /// int64, int32 or bool; undefined for a whole axis.
  IndexItem(const Tensor& t) : kind(t.defined() ? kTensor : kSlice), tensor(t) {}  // NOLINT

  Kind kind;
  Slice slice{};  // of an integer: start
  Tensor tensor;
};

/// x[items], as in NumPy and PyTorch: `index(x, {Slice(1, 3), NewAxis(), ids})`. Without tensors a
/// view. Index tensors are broadcast against each other, to a shape B; the result has B in the
/// place of the axes they index where these are neighbours, and in front otherwise (integers are
/// applied first, as in PyTorch). A mask of k axes counts as k index tensors, those of its true
/// elements. Indexed by integers along axis 0 alone the gradient is row-sparse, along axis 1 of a
/// matrix column-sparse. Throws IndexError where there are too many items, or a mask does not fit.
Tensor index(const Tensor& x, Span<const IndexItem> items, Where where = Where::current());
/// A copy of x with x[indices] replaced by `values`, which are broadcast to its shape; with
/// `accumulate` they are added instead (not for float16 and bfloat16). `indices` are index tensors
/// or masks, one for each of the first axes of x, undefined for a whole axis.
Tensor index_put(const Tensor& x, Span<const Tensor> indices, const Tensor& values,
                 bool accumulate = false, Where where = Where::current());

// ---- masks
// ---------------------------------------------------------------------------------------

/// The slices x[i,j,..] at which `mask` is true, in order: [count, the axes of x that mask lacks].
/// The bool `mask` has the sizes of the first axes of x; of x's own shape it picks single elements.
/// The gradient of a few of many rows is row-sparse.
Tensor masked_select(const Tensor& x, const Tensor& mask, Where where = Where::current());
/// A copy of x with these slices replaced by those of `src`, of that shape.
Tensor masked_scatter(const Tensor& x, const Tensor& mask, const Tensor& src,
                      Where where = Where::current());
/// x with `value` wherever `mask`, a bool tensor, is true; x and mask are broadcast.
Tensor masked_fill(const Tensor& x, const Tensor& mask, double value,
                   Where where = Where::current());
/// The same with a scalar tensor, which has a gradient too.
Tensor masked_fill(const Tensor& x, const Tensor& mask, const Tensor& value,
                   Where where = Where::current());

// ---- order
// ---------------------------------------------------------------------------------------

/// x sorted along an axis, ascending or descending, and the index at which each element was
/// (int64). Stable; NaN counts as the largest number.
ValuesIndices sort(const Tensor& x, int64_t axis = -1, bool descending = false,
                   Where where = Where::current());
/// The indices alone.
Tensor argsort(const Tensor& x, int64_t axis = -1, bool descending = false,
               Where where = Where::current());
/// The k largest elements, or smallest, along an axis. Among equals those of lower index come
/// first; NaN counts as the largest number. `sorted`: in that order, else in the order of their
/// indices. A k outside [0, size] is an IndexError, as is
/// any but 1 for a scalar.
ValuesIndices topk(const Tensor& x, int64_t k, int64_t axis = -1, bool largest = true,
                   bool sorted = true, Where where = Where::current());

}  // namespace ebb
