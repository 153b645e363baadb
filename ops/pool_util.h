// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "ebb/autograd/op.h"
#include "ebb/ops/kernels/pool.h"
#include "ebb/ops/window.h"

// What the ops of pooling share. Not for users, but for the transposes of the two means, which are
// ops of their own.
namespace ebb {
namespace ops {

/// Windows over the last `dims` of three axes; the entries of the others are left as they are.
struct PoolAttrs {
  int dims = 0;
  bool ceil_mode = false;
  int64_t kernel[3] = {1, 1, 1};
  int64_t stride[3] = {1, 1, 1};
  int64_t pad[3] = {};
  int64_t dilation[3] = {1, 1, 1};
};

/// As it is in the cost table: windows of 2 side by side.
template <class Attrs, int D>
struct PoolOf : Attrs {
  PoolOf() {
    this->dims = D;
    for (int i = 3 - D; i < 3; ++i) this->kernel[i] = this->stride[i] = 2;
  }
};

template <int D>
void set_axes(int64_t (&to)[3], const PerAxis<D>& from) {
  for (int d = 0; d < D; ++d) to[3 - D + d] = from[d];
}
/// Sets windows and strides; a stride of 0 is that of the window.
template <int D>
void set_windows(PoolAttrs& a, const PerAxis<D>& kernel, const PerAxis<D>& stride) {
  set_axes(a.kernel, kernel);
  for (int i = 3 - D; i < 3; ++i) {
    const int64_t s = stride[i - (3 - D)];
    a.stride[i] = s == 0 ? a.kernel[i] : s;
  }
}

/// Of the last `dims` of three axes.
struct AdaptivePoolAttrs {
  int64_t out[3] = {1, 1, 1};
};

std::string describe(const PoolAttrs& a);
std::string describe(const AdaptivePoolAttrs& a, int dims);
/// The last `dims` of three numbers as a list.
std::string list_of(const int64_t (&v)[3], int dims);

/// Throws DTypeError unless the first input is floating, ShapeError unless it has rank dims + 1 or
/// dims + 2 and elements along all axes but that of a batch.
void check_pooled(const OpDoc& doc, int dims, Span<const Meta> in, const char* name = "x");
/// Throws ValueError where a number of the windows is out of its range.
void check_windows(const OpDoc& doc, const PoolAttrs& a, const Shape& x);
/// The shape of the result for x; throws ShapeError where it has no elements.
Shape pooled_shape(const OpDoc& doc, const PoolAttrs& a, const Shape& x);

/// The shape of x with the sizes asked for, where 0 keeps a size. Throws ShapeError where one is
/// negative or the result cannot be addressed.
Shape adaptive_shape(const OpDoc& doc, int dims, const int64_t (&sizes)[3], const Meta& x);
/// `x` with other sizes of its last axes.
Shape with_sizes(const Shape& x, int dims, const int64_t (&sizes)[3]);
/// Throws ShapeError where a tensor of that shape cannot be addressed.
void check_addressable(const OpDoc& doc, const Shape& x, const Shape& result, DType dtype);

kernels::PoolShape kernel_shape(const PoolAttrs& a, const Shape& x, const Shape& y);
/// Sizes alone, for what has no windows of a fixed size.
kernels::PoolShape kernel_shape(int dims, const Shape& x, const Shape& y);

/// Elements of x at `indices` in its last axes taken as one, and the sums of elements by where they
/// belong: the transpose of it, for x of the shape `shape`.
Tensor gather_planes(const Tensor& x, const Tensor& indices, int dims);
Tensor scatter_planes(const Tensor& g, const Tensor& indices, int dims, const Shape& shape);

struct AvgPoolAttrs : PoolAttrs {
  bool count_include_pad = true;
  int64_t divisor = 0;  // 0: the count
};
struct AvgPoolBackwardAttrs : AvgPoolAttrs {
  int64_t in[3] = {1, 1, 1};
};

}  // namespace ops

/// The transpose of avg_pool1d, avg_pool2d or avg_pool3d: the gradient of x, whose last axes have
/// sizes `in`, from that of the result.
Tensor avg_pool_backward(const ops::AvgPoolAttrs& attrs, const Tensor& g, const Shape& x,
                         Where where = Where::current());
/// The same of adaptive_avg_pool1d and so on, over the last `dims` axes.
Tensor adaptive_avg_pool_backward(int dims, const Tensor& g, const Shape& x,
                                  Where where = Where::current());

}  // namespace ebb
