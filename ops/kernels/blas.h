// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "ebb/ops/kernels/dispatch.h"

// Dense linear algebra on row-major float and double, one thread, any alignment. A leading
// dimension counts elements from one row to the next and is at least the row's length; dims may be
// 0. Everything is our own, large products too: called from several threads at once, Debian's
// serial OpenBLAS hands two of them the same work space and returns wrong numbers (docs/design.md).
namespace ebb::kernels {

namespace detail {

// What the innermost kernels read of a product, or of a part of it.
template <class T>
struct GemmBlock {
  size_t k;
  ptrdiff_t a_row, a_col;  // strides of op(A)
  ptrdiff_t b_row;         // stride of op(B) between its rows; of B's rows in GemmArgs
  T alpha, beta;
  ptrdiff_t ldc;
  size_t last;  // lanes of the last vector that exist, where that is partial
};

template <class T>
struct GemmArgs {
  GemmBlock<T> block;  // `last` is for the kernels to set
  bool ta, tb;
  size_t m, n;
  const T* a;
  const T* b;
  T* c;
  ptrdiff_t lda() const { return ta ? block.a_col : block.a_row; }
  ptrdiff_t ldb() const { return block.b_row; }
};

template <class T>
using GemmFn = void (*)(GemmArgs<T>& g);  // g is left in any state
// C = A B of 8 or 16 rows and columns, for which the general way in is as long as the product; null
// where there is none.
using SquareFn = void (*)(const float* a, ptrdiff_t lda, const float* b, ptrdiff_t ldb, float* c,
                          ptrdiff_t ldc);
struct GemmTables {
  GemmFn<float> f32;
  GemmFn<double> f64;
  SquareFn square8, square16;
};

// Products of few rows or few columns and a long k, as dot products; and A B and A B' of few rows
// with a B outside the L2 cache. False: not one of these, and nothing was done.
template <class T>
using SkinnyFn = bool (*)(const GemmArgs<T>& g);
struct SkinnyTables {
  SkinnyFn<float> f32;
  SkinnyFn<double> f64;
};

template <class T>
struct VectorTable {
  T (*dot)(const T* a, const T* b, size_t n);
  // y = alpha * A x + beta * y with A [m,n]
  void (*gemv_n)(size_t m, size_t n, T alpha, const T* a, ptrdiff_t lda, const T* x, T beta, T* y);
  // y = alpha * A' x + beta * y with A [m,n]
  void (*gemv_t)(size_t m, size_t n, T alpha, const T* a, ptrdiff_t lda, const T* x, T beta, T* y);
  void (*ger)(size_t m, size_t n, T alpha, const T* u, const T* v, T* a, ptrdiff_t lda);
  void (*ger_gemv)(size_t m, size_t n, T alpha, const T* u, const T* v, T* a, ptrdiff_t lda,
                   const T* x, T beta, T* y);
  void (*outer)(size_t m, size_t n, const T* u, ptrdiff_t u_row, const T* v, T* y);
};
struct VectorTables {
  VectorTable<float> f32;
  VectorTable<double> f64;
};

// Memory of this thread for packed operands, kept; null if there is none to be had.
inline constexpr size_t kGemmScratchBytes = size_t{1} << 20;
void* gemm_scratch();

// From this size of B on, products of few rows have to see to it that B comes in in time.
inline constexpr size_t kGemmFarBytes = size_t{3} << 19;

// From this size of A on, A' x is summed row by row: gemv_t below it is a product of one row.
inline constexpr size_t kGemvByRowsBytes = size_t{256} << 10;

extern constinit const Dispatch<GemmTables> blas_gemm;
extern constinit const Dispatch<SkinnyTables> blas_skinny;
extern constinit const Dispatch<SkinnyTables> blas_far_turned;
extern constinit const Dispatch<SkinnyTables> blas_far;
extern constinit const Dispatch<VectorTables> blas_vector;

template <class T, class Tables>
const auto& of_type(const Tables& t) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return t.f32;
  } else {
    return t.f64;
  }
}

}  // namespace detail

/// C = alpha * op(A) op(B) + beta * C with op(A) [m,k], op(B) [k,n], C [m,n]; op transposes where
/// `ta` or `tb` says so, so A is stored as [m,k] or [k,m] with rows `lda` apart. With beta = 0, C
/// is written and not read; with alpha = 0 or k = 0, A and B are not read. C overlaps neither. How
/// an element is rounded depends on the shape of the whole product: who splits one among threads
/// does so in the same way for any number of them.
template <class T>
void gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda,
          const T* b, int64_t ldb, T beta, T* c, int64_t ldc) {
  if (m <= 0 || n <= 0) return;
  if constexpr (sizeof(T) == sizeof(float)) {
    if (n == m && k == m && (m == 8 || m == 16) && !ta && !tb && alpha == 1 && beta == 0) {
      const detail::GemmTables& tables = *detail::blas_gemm;
      const detail::SquareFn fn = m == 8 ? tables.square8 : tables.square16;
      if (fn != nullptr) return fn(a, lda, b, ldb, c, ldc);
    }
  }
  detail::GemmArgs<T> args{
      {static_cast<size_t>(k), ta ? 1 : lda, ta ? lda : 1, ldb, alpha, beta, ldc, 0},
      ta,
      tb,
      static_cast<size_t>(m),
      static_cast<size_t>(n),
      a,
      b,
      c};
  detail::of_type<T> (*detail::blas_gemm)(args);
}

/// y = alpha * op(A) x + beta * y with A stored as [m,n]: x is [n] and y [m], or the other way
/// round with `ta`. With beta = 0, y is written and not read. y overlaps neither.
template <class T>
void gemv(bool ta, int64_t m, int64_t n, T alpha, const T* a, int64_t lda, const T* x, T beta,
          T* y) {
  const auto rows = static_cast<size_t>(m);
  const auto cols = static_cast<size_t>(n);
  const auto& table = detail::of_type<T>(*detail::blas_vector);
  (ta ? table.gemv_t : table.gemv_n)(rows, cols, alpha, a, lda, x, beta, y);
}

/// A += alpha * u v' with u [m], v [n], A [m,n].
template <class T>
void ger(int64_t m, int64_t n, T alpha, const T* u, const T* v, T* a, int64_t lda) {
  detail::of_type<T>(*detail::blas_vector)
      .ger(static_cast<size_t>(m), static_cast<size_t>(n), alpha, u, v, a, lda);
}

/// Y = u v' with v [n], Y [m,n], and u of m elements that lie `u_row` apart.
template <class T>
void outer(int64_t m, int64_t n, const T* u, ptrdiff_t u_row, const T* v, T* y) {
  detail::of_type<T>(*detail::blas_vector)
      .outer(static_cast<size_t>(m), static_cast<size_t>(n), u, u_row, v, y);
}

/// A += alpha * u v', then y = A x + beta * y, in one pass over A [m,n]: the results are those of
/// ger and gemv to the last bit. y and A overlap nothing else.
template <class T>
void ger_gemv(int64_t m, int64_t n, T alpha, const T* u, const T* v, T* a, int64_t lda, const T* x,
              T beta, T* y) {
  detail::of_type<T>(*detail::blas_vector)
      .ger_gemv(static_cast<size_t>(m), static_cast<size_t>(n), alpha, u, v, a, lda, x, beta, y);
}

/// Sum of a[i] * b[i], i < n; pairwise over blocks, as the sums of reduce.h.
template <class T>
T dot(const T* a, const T* b, size_t n) {
  return detail::of_type<T>(*detail::blas_vector).dot(a, b, n);
}

}  // namespace ebb::kernels
