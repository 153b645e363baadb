// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/ops/op_util.h"

// Products on arrays, as linalg.cc and einsum.cc share them, and the gradients of their operands.
// Operands are float32 or float64, all of one type; results are contiguous. Not for users.
namespace ebb::ops {

/// The last two axes of an array as the kernels take them: where they are the transpose of a matrix
/// in row-major order, that matrix and a flag, so that no transposed copy is made. Other strides
/// cost a copy of the whole array.
struct Matrices {
  explicit Matrices(const Array& a);
  Array array;
  bool trans = false;
  int64_t ld;
};

/// y = a x + beta y for a [m,k], x [k], y [m].
void run_mv(const Array& a, const Array& x, const Array& y, double beta = 0);

/// c = alpha a b + beta c for a [m,k], b [k,n], c [m,n].
void run_mm(const Array& a, const Array& b, const Array& c, double alpha = 1, double beta = 0);

/// c = a b for a [...,m,k], b [...,k,n], c [...,m,n], whose leading axes the other two broadcast to.
void run_matmul(const Array& a, const Array& b, const Array& c);

/// y = u' v for u [m], v [n], y [m,n].
void run_outer(const Array& u, const Array& v, const Array& y);

/// Sum of a[i] b[i] for vectors of the same length.
void run_dot(const Array& a, const Array& b, const Array& y);

/// The gradient u' v of input `input`, u [r,m] and v [r,n], or [m] and [n] for r = 1. It keeps its
/// factors where it goes to a leaf and they are cheaper than the product. Inputs `from_u` and
/// `from_v` are those whose saved values the factors are, -1 where they are gradients.
Gradient product_gradient(const Saved& s, int input, const Array& u, int from_u, const Array& v,
                          int from_v);

/// The gradients of inputs 0 and 1, a [m,k] and x [k], of y = a x.
void mv_gradients(const Saved& s, const Array& g, GradSink& sink);
/// ... of inputs 0 and 1, a [m,k] and b [k,n], of y = alpha a b; of inputs `first` and `first` + 1.
void mm_gradients(const Saved& s, const Array& g, GradSink& sink, int first = 0, double alpha = 1);

}  // namespace ebb::ops
