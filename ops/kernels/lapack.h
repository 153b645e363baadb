// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// Factorisations of dense row-major matrices without gaps, float and double, by OpenBLAS's LAPACK.
// Calls take turns: from several threads at once, Debian's serial OpenBLAS hands two of them the
// same work space. Signs that LAPACK leaves open are fixed here, so that a result does not depend
// on the path it was computed on. Sizes may be 0; work space is drawn from the pool (MemoryError).
namespace ebb::kernels {

/// The largest size of a matrix that the functions below take: LAPACK counts its work space, a few
/// times the square of this, in 32 bits.
inline constexpr int64_t kMaxLapackSize = 16384;

/// a = L L' with L lower triangular in place of a [n,n], or U' U where `upper`; the other triangle
/// of `a` is not read and set to 0. Returns 0, or the order of the first leading minor that is not
/// positive definite.
template <class T>
int64_t cholesky(bool upper, int64_t n, T* a);

/// b [m,n] becomes op(a)^-1 b with a [m,m], or b op(a)^-1 with a [n,n] where not `left`. Only the
/// upper or lower triangle of a is read, and not its diagonal where `unit`.
template <class T>
void triangular_solve(bool left, bool upper, bool transpose, bool unit, int64_t m, int64_t n,
                      const T* a, T* b);

/// a [n,n] becomes its factors: a = L U with its columns swapped, L lower, U upper with a unit
/// diagonal; step i swapped columns i and pivots[i]. Returns 0, or the number, from 1, of the first
/// pivot that is 0.
template <class T>
int64_t lu(int64_t n, T* a, int32_t* pivots);
/// b [n,k] becomes a^-1 b, or a'^-1 b, from the factors that lu() made; no pivot may be 0.
template <class T>
void lu_solve(bool transpose, int64_t n, int64_t k, const T* factors, const int32_t* pivots, T* b);
/// The factors become the inverse.
template <class T>
void lu_inverse(int64_t n, T* factors, const int32_t* pivots);

/// a [m,n] = q r with q [m,k], its columns orthonormal, and r [k,n] upper triangular with a
/// diagonal that is not negative, k = min(m,n). Overwrites a.
template <class T>
void qr(int64_t m, int64_t n, T* a, T* q, T* r);

/// a [m,n] = u diag(s) vh with u [m,k], s [k] descending, vh [k,n], k = min(m,n). In each column of
/// u the element of largest magnitude is positive, the first of equals. Overwrites a, which must be
/// finite. False where the iteration does not converge.
template <class T>
bool svd(int64_t m, int64_t n, T* a, T* u, T* s, T* vh);

/// a [n,n] = v diag(w) v' for symmetric a, of which one triangle is read: w [n] ascending, v [n,n]
/// with the eigenvectors as columns; in each the element of largest magnitude is positive, the
/// first of equals. Overwrites a, which must be finite. False where the iteration does not
/// converge.
template <class T>
bool eigh(bool upper, int64_t n, T* a, T* w, T* v);

}  // namespace ebb::kernels
