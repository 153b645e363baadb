// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "ebb/ops/op_util.h"

// What the factorisations share: stacks of matrices, as [..., rows, cols]. Not for users.
namespace ebb::ops {

/// How many matrices, of what size.
struct Stack {
  explicit Stack(const Shape& shape);
  int64_t count = 1;
  int64_t rows;
  int64_t cols;
  int64_t numel() const { return rows * cols; }
};

/// Throws unless input 0 alone is given, float32 or float64, with two axes at least, no larger than
/// LAPACK takes, and square where that is asked for.
void require_stack(const OpDoc& doc, Span<const Meta> in, bool square);
/// The same of one of several inputs, by its name.
void require_stack(const OpDoc& doc, const Shape& shape, const char* name, bool square);

/// The axes before the last two.
Shape batch_of(const Shape& shape);
/// Those axes, and two more.
Shape with_matrix(Shape batch, int64_t rows, int64_t cols);

/// "cholesky: a is [3,3]; ", and of a stack which matrix it is about.
std::string about_matrix(const OpDoc& doc, const Shape& shape, int64_t index);

/// Throws NumericError where an element is NaN or infinite.
void require_finite(const OpDoc& doc, const Array& a);

/// The transpose of each matrix.
Tensor mt(const Tensor& x);
/// The identity [n,n], constant.
Tensor identity(DType dtype, int64_t n);

/// For the matrices of a and b, whose stacks broadcast to that of `shape`: calls f(i, j, k) with
/// the numbers of the matrix of the result, of a and of b.
template <class F>
void for_broadcast_stacks(const Shape& shape, const Shape& a, const Shape& b, F&& f) {
  // Matrices of a contiguous array lie in the order of their numbers.
  const auto strides_at = [&](const Shape& s, int64_t* strides) {
    const int lead = shape.rank() - s.rank();
    int64_t stride = 1;
    for (int i = shape.rank() - 3; i >= 0; --i) {
      const int64_t size = i < lead ? 1 : s[i - lead];
      strides[i] = size == 1 ? 0 : stride;
      stride *= size;
    }
  };
  int64_t sa[kMaxRank];
  int64_t sb[kMaxRank];
  strides_at(a, sa);
  strides_at(b, sb);
  const int64_t count = Stack(shape).count;
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i;
    int64_t j = 0;
    int64_t k = 0;
    for (int axis = shape.rank() - 3; axis >= 0; --axis) {
      const int64_t at = rest % shape[axis];
      rest /= shape[axis];
      j += at * sa[axis];
      k += at * sb[axis];
    }
    f(i, j, k);
  }
}

}  // namespace ebb::ops
