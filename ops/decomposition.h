// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// Factorisations, and what is solved by them. All take a matrix, or a stack of them: an array whose
// last two axes are those of a matrix; they are computed one after the other by LAPACK. float32 or
// float64 (DTypeError), at most 16384 in size; a shape that does not fit is a ShapeError. A matrix
// that a factorisation cannot be had of is a NumericError that names the pivot, counted from 0.
// Rules are differentiable again. A gradient of a symmetric argument is symmetric.
//
// Cost: of the order of n^3 for a matrix [n,n], once more for the gradient.
namespace ebb {

/// The lower triangular l with a = l l', or where `upper` the upper triangular u with a = u' u, for
/// symmetric positive definite a [...,n,n], of which only that triangle is read. NumericError where
/// a is not positive definite. Gradient: Murray, "Differentiation of the Cholesky decomposition",
/// 2016.
Tensor cholesky(const Tensor& a, bool upper = false, Where where = Where::current());

struct TriangularSolveOptions {
  bool upper = true;           ///< a is upper triangular, else lower; the rest of it is not read
  bool left = true;            ///< solve op(a) x = b, else x op(a) = b
  bool transpose = false;      ///< op(a) is the transpose of a
  bool unitriangular = false;  ///< the diagonal of a is 1 and not read
};
/// x of op(a) x = b for triangular a [...,n,n] and b [...,n,k] or a vector [n]; stacks broadcast.
/// From the right, x op(a) = b for b [...,k,n] or [n]. NumericError where the diagonal has a 0.
Tensor triangular_solve(const Tensor& a, const Tensor& b,
                        const TriangularSolveOptions& options = {}, Where where = Where::current());

/// x of a x = b for a [...,n,n] and b [...,n,k] or a vector [n], by LU with partial pivoting;
/// stacks broadcast. The factors serve the gradient too. NumericError where a is singular.
Tensor solve(const Tensor& a, const Tensor& b, Where where = Where::current());

/// The inverse of a [...,n,n]. NumericError where a is singular. To multiply by it, solve() is
/// cheaper and more accurate.
Tensor inverse(const Tensor& a, Where where = Where::current());

/// Logarithm of the determinant of a [...,n,n]: [...]. NaN where that is negative, -infinity where
/// it is 0; then the gradient is a NumericError.
Tensor logdet(const Tensor& a, Where where = Where::current());

struct SlogdetResult {
  Tensor sign;       ///< -1, 0 or 1; no gradient flows through it
  Tensor logabsdet;  ///< -infinity where the determinant is 0
};
/// Sign, and logarithm of the absolute value, of the determinant of a [...,n,n]: [...] both.
SlogdetResult slogdet(const Tensor& a, Where where = Where::current());

struct QrResult {
  Tensor q;  ///< [...,m,k], columns orthonormal
  Tensor r;  ///< [...,k,n], upper triangular, its diagonal not negative
};
/// a = q r for a [...,m,n], k = min(m,n): the reduced form. Its gradient needs the first k columns
/// of a to be independent. Gradient: Walter and Lehmann, "On the higher-order derivatives of matrix
/// functions with QR decomposition", 2010; for m < n: Roberts and Roberts, "QR and LQ decomposition
/// matrix backpropagation algorithms for square, wide and deep matrices", 2020.
QrResult qr(const Tensor& a, Where where = Where::current());

struct SvdResult {
  Tensor u;   ///< [...,m,k], columns orthonormal
  Tensor s;   ///< [...,k], descending, not negative
  Tensor vh;  ///< [...,k,n], rows orthonormal
};
/// a = u diag(s) vh for a [...,m,n], k = min(m,n): the reduced form. Of each column of u the
/// element of largest magnitude is positive. The gradient through s is always defined; that through
/// u and vh needs singular values that differ, and are not 0 unless a is square. NumericError where
/// a has NaN or infinity. Gradient: Townsend, "Differentiating the singular value decomposition",
/// 2016.
SvdResult svd(const Tensor& a, Where where = Where::current());

struct EighResult {
  Tensor eigenvalues;   ///< [...,n], ascending
  Tensor eigenvectors;  ///< [...,n,n], one a column, orthonormal
};
/// a = v diag(w) v' for symmetric a [...,n,n], of which the lower, or where `upper` the upper,
/// triangle is read. Of each eigenvector the element of largest magnitude is positive. The gradient
/// through the eigenvectors needs eigenvalues that differ. NumericError where a has NaN or
/// infinity. Gradient: Giles, "Collected matrix derivative results for forward and reverse mode
/// algorithmic differentiation", 2008.
EighResult eigh(const Tensor& a, bool upper = false, Where where = Where::current());

}  // namespace ebb
