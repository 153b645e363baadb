// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// Products of vectors and matrices, and the parts of a matrix. The operands of a product are
// float32 or float64, of one type (DTypeError); sizes that do not fit are a ShapeError naming the
// operands.
//
// The gradient of a matrix that was used on few vectors is a sum of few products of two vectors,
// and stays one up to the optimiser where that is cheaper than the matrix (gradient.h).
namespace ebb {

/// Sum of a[i] b[i], for vectors of the same length.
Tensor dot(const Tensor& a, const Tensor& b, Where where = Where::current());
/// Column times row: u [m], v [n] to [m,n].
Tensor outer(const Tensor& u, const Tensor& v, Where where = Where::current());
/// Matrix [m,k] times vector [k]: [m].
Tensor mv(const Tensor& a, const Tensor& x, Where where = Where::current());
/// Matrix [m,k] times matrix [k,n]: [m,n].
Tensor mm(const Tensor& a, const Tensor& b, Where where = Where::current());
/// As many matrix products: [b,m,k] times [b,k,n] to [b,m,n].
Tensor bmm(const Tensor& a, const Tensor& b, Where where = Where::current());
/// The product of vectors, matrices and stacks of matrices, as in NumPy and PyTorch: a vector on
/// the left counts as a row, on the right as a column, and that axis is gone from the result; axes
/// before the last two broadcast. [k][k] -> [], [m,k][k] -> [m], [k][...,k,n] -> [...,n],
/// [...,m,k][...,k,n] -> [...,m,n].
Tensor matmul(const Tensor& a, const Tensor& b, Where where = Where::current());

struct AddmmOptions {
  double beta = 1;   ///< factor of `input`, which is not read where this is 0
  double alpha = 1;  ///< factor of the product, which is not formed where this is 0
};
/// beta input + alpha a b, with a [m,k], b [k,n] and `input` broadcast to [m,n].
Tensor addmm(const Tensor& input, const Tensor& a, const Tensor& b,
             const AddmmOptions& options = {}, Where where = Where::current());

/// x weight' + bias: x [...,k], or [k] for a single vector, weight [n,k], bias [n] (none where it
/// is undefined) to [...,n]. One op, the fast path of every dense layer.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = Tensor(),
              Where where = Where::current());

// Parts of a matrix. Any type of element; gradients where it is float32 or float64. Diagonal
// `offset` lies above the main one where it is positive, below where it is negative.

/// x [...,m,n] with 0 above the diagonal `offset`.
Tensor tril(const Tensor& x, int64_t offset = 0, Where where = Where::current());
/// x [...,m,n] with 0 below the diagonal `offset`.
Tensor triu(const Tensor& x, int64_t offset = 0, Where where = Where::current());
/// Of a vector [n] the matrix [n+|offset|, n+|offset|] that has it on the diagonal and 0 elsewhere;
/// of a matrix [m,n] the diagonal, empty where that lies outside.
Tensor diag(const Tensor& x, int64_t offset = 0, Where where = Where::current());
/// Sum of the diagonal of a matrix [m,n], of an arithmetic type; integers add up in int64.
Tensor trace(const Tensor& x, Where where = Where::current());

}  // namespace ebb
