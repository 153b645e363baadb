// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/ops/op_util.h"

// Products on arrays, as linalg.cc and einsum.cc share them, and the gradients of their operands.
// Operands are float32 or float64, all of one type; results are contiguous. Not for users.
namespace ebb::ops {

/// The last two axes of an array as the kernels take them: where they are the transpose of a matrix
/// in row-major order, that matrix and a flag, so that no transposed copy is made. Other strides
/// cost a copy of the whole array. Refers to the array, which must outlive it.
class Matrices {
 public:
  /// The transposes of the matrices where `transpose`.
  explicit Matrices(const Array& a, bool transpose = false);
  Matrices(const Matrices&) = delete;
  Matrices& operator=(const Matrices&) = delete;

  const Array& array() const { return copy_.defined() ? copy_ : array_; }
  template <class T>
  const T* data() const {
    return array().data<T>();
  }
  bool trans() const { return trans_; }
  int64_t ld() const { return ld_; }

 private:
  const Array& array_;
  Array copy_;
  bool trans_;
  int64_t ld_;
};

/// y = op(a) x + beta y for a matrix a; op transposes where `ta`.
void run_mv(bool ta, const Array& a, const Array& x, const Array& y, double beta = 0);

/// c = alpha op(a) op(b) + beta c for matrices; op transposes where `ta` or `tb`.
void run_mm(bool ta, bool tb, const Array& a, const Array& b, const Array& c, double alpha = 1,
            double beta = 0);

/// c = a b for a [...,m,k], b [...,k,n], c [...,m,n], whose leading axes the other two broadcast
/// to.
void run_matmul(const Array& a, const Array& b, const Array& c);

/// y = u' v for u [m], v [n], y [m,n].
void run_outer(const Array& u, const Array& v, const Array& y);

/// Sum of a[i] b[i] for vectors of the same length.
void run_dot(const Array& a, const Array& b, const Array& y);

/// A factor of a gradient: vectors, and the input whose saved value they are; -1 where they are
/// something else.
struct GradFactor {
  const Array& vectors;
  int input = -1;
};

/// The gradient of input `input`, the sum of u_i' v_i over the rows i of u [r,m] and v [r,n], or
/// over their columns, of u [m,r] and v [n,r], where `columns`; vectors [m] and [n] count as r = 1.
/// It keeps its factors where it goes to a leaf and they are cheaper than the product.
Gradient product_gradient(const Saved& s, int input, GradFactor u, GradFactor v,
                          bool columns = false);

/// The gradient of input `x` of y = w x, or of y = w' x where `transposed`, for the matrix that is
/// input `weight`: the transpose of that times `g`, deferred where the playback wants it.
void transpose_times(bool transposed, const Saved& s, int weight, const Array& g, int x,
                     GradSink& sink);

/// The gradients of inputs 0 and 1, a [m,k] and x [k], of y = a x.
void mv_gradients(const Saved& s, const Array& g, GradSink& sink);
/// The gradients of inputs `first` and `first` + 1, a [m,k] and b [k,n], of y = alpha a b.
void mm_gradients(const Saved& s, const Array& g, GradSink& sink, int first = 0, double alpha = 1);

}  // namespace ebb::ops
