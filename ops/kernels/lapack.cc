// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/lapack.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "ebb/core/memory.h"

// LAPACK's Fortran interface, for which Debian's package has no header. The lengths of character
// arguments come last.
extern "C" {
#define EBB_DECLARE_LAPACK(p, T)                                                                 \
  void p##potrf_(const char* uplo, const blasint* n, T* a, const blasint* lda, blasint* info,    \
                 size_t);                                                                        \
  void p##getrf_(const blasint* m, const blasint* n, T* a, const blasint* lda, blasint* pivots,  \
                 blasint* info);                                                                 \
  void p##getri_(const blasint* n, T* a, const blasint* lda, const blasint* pivots, T* work,     \
                 const blasint* lwork, blasint* info);                                           \
  void p##gelqf_(const blasint* m, const blasint* n, T* a, const blasint* lda, T* tau, T* work,  \
                 const blasint* lwork, blasint* info);                                           \
  void p##orglq_(const blasint* m, const blasint* n, const blasint* k, T* a, const blasint* lda, \
                 const T* tau, T* work, const blasint* lwork, blasint* info);                    \
  void p##gesdd_(const char* job, const blasint* m, const blasint* n, T* a, const blasint* lda,  \
                 T* s, T* u, const blasint* ldu, T* vt, const blasint* ldvt, T* work,            \
                 const blasint* lwork, blasint* iwork, blasint* info, size_t);                   \
  void p##syevd_(const char* job, const char* uplo, const blasint* n, T* a, const blasint* lda,  \
                 T* w, T* work, const blasint* lwork, blasint* iwork, const blasint* liwork,     \
                 blasint* info, size_t, size_t);
EBB_DECLARE_LAPACK(s, float)
EBB_DECLARE_LAPACK(d, double)
#undef EBB_DECLARE_LAPACK
}

namespace ebb::kernels {
namespace {

static_assert(sizeof(blasint) == sizeof(int32_t));

template <class T>
struct Lapack;
#define EBB_LAPACK_OF(p, T)                       \
  template <>                                     \
  struct Lapack<T> {                              \
    static constexpr auto potrf = p##potrf_;      \
    static constexpr auto getrf = p##getrf_;      \
    static constexpr auto getri = p##getri_;      \
    static constexpr auto gelqf = p##gelqf_;      \
    static constexpr auto orglq = p##orglq_;      \
    static constexpr auto gesdd = p##gesdd_;      \
    static constexpr auto syevd = p##syevd_;      \
    static constexpr auto trsm = cblas_##p##trsm; \
  };
EBB_LAPACK_OF(s, float)
EBB_LAPACK_OF(d, double)
#undef EBB_LAPACK_OF

std::mutex& blas_mutex() {
  static std::mutex m;
  return m;
}

template <class T>
using Work = std::vector<T, detail::PoolAllocator<T>>;

// The length that LAPACK asks for comes as a floating number, which may have been rounded down.
template <class T>
blasint work_size(T asked) {
  return static_cast<blasint>(std::nextafter(asked, asked * 2) + 1);
}

// Calls f(work, length) twice: to ask how much work space it wants, then with that much.
template <class T, class F>
void with_work(F&& f) {
  T asked = 0;
  f(&asked, blasint{-1});
  Work<T> work(static_cast<size_t>(work_size(asked)));
  f(work.data(), static_cast<blasint>(work.size()));
}

template <class T>
void trsm(bool left, bool upper, bool transpose, bool unit, int64_t m, int64_t n, const T* a,
          T* b) {
  if (m == 0 || n == 0) return;
  Lapack<T>::trsm(CblasRowMajor, left ? CblasLeft : CblasRight, upper ? CblasUpper : CblasLower,
                  transpose ? CblasTrans : CblasNoTrans, unit ? CblasUnit : CblasNonUnit,
                  static_cast<blasint>(m), static_cast<blasint>(n), T{1}, a,
                  static_cast<blasint>(left ? m : n), b, static_cast<blasint>(n));
}

// Whether the largest of n elements by magnitude is negative; `stride` apart.
template <class T>
bool points_down(const T* x, int64_t n, int64_t stride) {
  T largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const T v = x[i * stride];
    if (std::abs(v) > std::abs(largest)) largest = v;
  }
  return largest < 0;
}

template <class T>
void negate(T* x, int64_t n, int64_t stride) {
  for (int64_t i = 0; i < n; ++i) x[i * stride] = -x[i * stride];
}

}  // namespace

// Row-major a is LAPACK's a', so that `upper` and `lower` change places, and a product its factors.

template <class T>
int64_t cholesky(bool upper, int64_t n, T* a) {
  for (int64_t i = 0; i < n; ++i) {
    if (upper) {
      std::fill_n(a + i * n, i, T{0});
    } else {
      std::fill_n(a + i * n + i + 1, n - i - 1, T{0});
    }
  }
  if (n == 0) return 0;
  const auto order = static_cast<blasint>(n);
  blasint info = 0;
  const std::lock_guard lock(blas_mutex());
  Lapack<T>::potrf(upper ? "L" : "U", &order, a, &order, &info, 1);
  return info;
}

template <class T>
void triangular_solve(bool left, bool upper, bool transpose, bool unit, int64_t m, int64_t n,
                      const T* a, T* b) {
  const std::lock_guard lock(blas_mutex());
  trsm(left, upper, transpose, unit, m, n, a, b);
}

template <class T>
int64_t lu(int64_t n, T* a, int32_t* pivots) {
  if (n == 0) return 0;
  const auto order = static_cast<blasint>(n);
  blasint info = 0;
  {
    const std::lock_guard lock(blas_mutex());
    Lapack<T>::getrf(&order, &order, a, &order, pivots, &info);
  }
  for (int64_t i = 0; i < n; ++i) --pivots[i];
  return info;
}

template <class T>
void lu_solve(bool transpose, int64_t n, int64_t k, const T* factors, const int32_t* pivots, T* b) {
  const auto swap = [&](int64_t i) {
    if (pivots[i] != i) std::swap_ranges(b + i * k, b + (i + 1) * k, b + pivots[i] * k);
  };
  const std::lock_guard lock(blas_mutex());
  if (transpose) {
    for (int64_t i = 0; i < n; ++i) swap(i);
    trsm(true, true, true, true, n, k, factors, b);
    trsm(true, false, true, false, n, k, factors, b);
  } else {
    trsm(true, false, false, false, n, k, factors, b);
    trsm(true, true, false, true, n, k, factors, b);
    for (int64_t i = n; i-- > 0;) swap(i);
  }
}

template <class T>
void lu_inverse(int64_t n, T* factors, const int32_t* pivots) {
  if (n == 0) return;
  const auto order = static_cast<blasint>(n);
  Work<blasint> from_one(pivots, pivots + n);
  for (blasint& p : from_one) ++p;
  blasint info = 0;
  const std::lock_guard lock(blas_mutex());
  with_work<T>([&](T* work, blasint size) {
    Lapack<T>::getri(&order, factors, &order, from_one.data(), work, &size, &info);
  });
}

template <class T>
void qr(int64_t m, int64_t n, T* a, T* q, T* r) {
  const int64_t k = std::min(m, n);
  if (k == 0) {
    std::fill_n(r, k * n, T{0});
    return;
  }
  // LAPACK sees a' = L Q with L [n,k], Q [k,m].
  const auto rows = static_cast<blasint>(n);
  const auto cols = static_cast<blasint>(m);
  const auto rank = static_cast<blasint>(k);
  Work<T> tau(static_cast<size_t>(k));
  blasint info = 0;
  const std::lock_guard lock(blas_mutex());
  with_work<T>([&](T* work, blasint size) {
    Lapack<T>::gelqf(&rows, &cols, a, &rows, tau.data(), work, &size, &info);
  });
  for (int64_t i = 0; i < k; ++i) {
    std::fill_n(r + i * n, i, T{0});
    std::copy_n(a + i * n + i, n - i, r + i * n + i);
  }
  for (int64_t i = 0; i < m; ++i) std::copy_n(a + i * n, k, q + i * k);
  with_work<T>([&](T* work, blasint size) {
    Lapack<T>::orglq(&rank, &cols, &rank, q, &rank, tau.data(), work, &size, &info);
  });
  for (int64_t i = 0; i < k; ++i) {
    if (!std::signbit(r[i * n + i])) continue;
    negate(r + i * n + i, n - i, 1);
    negate(q + i, m, k);
  }
}

template <class T>
bool svd(int64_t m, int64_t n, T* a, T* u, T* s, T* vh) {
  const int64_t k = std::min(m, n);
  if (k == 0) return true;
  // LAPACK sees a' = v diag(s) u'.
  const auto rows = static_cast<blasint>(n);
  const auto cols = static_cast<blasint>(m);
  const auto rank = static_cast<blasint>(k);
  Work<blasint> integers(static_cast<size_t>(8 * k));
  blasint info = 0;
  {
    const std::lock_guard lock(blas_mutex());
    with_work<T>([&](T* work, blasint size) {
      Lapack<T>::gesdd("S", &rows, &cols, a, &rows, s, vh, &rows, u, &rank, work, &size,
                       integers.data(), &info, 1);
    });
  }
  for (int64_t i = 0; i < k; ++i) {
    if (!points_down(u + i, m, k)) continue;
    negate(u + i, m, k);
    negate(vh + i * n, n, 1);
  }
  return info == 0;
}

template <class T>
bool eigh(bool upper, int64_t n, T* a, T* w, T* v) {
  if (n == 0) return true;
  const auto order = static_cast<blasint>(n);
  blasint info = 0;
  {
    blasint integers_asked = 0;
    blasint query = -1;
    T asked = 0;
    const char* uplo = upper ? "L" : "U";
    const std::lock_guard lock(blas_mutex());
    Lapack<T>::syevd("V", uplo, &order, a, &order, w, &asked, &query, &integers_asked, &query,
                     &info, 1, 1);
    Work<T> work(static_cast<size_t>(work_size(asked)));
    Work<blasint> integers(static_cast<size_t>(integers_asked));
    const auto size = static_cast<blasint>(work.size());
    Lapack<T>::syevd("V", uplo, &order, a, &order, w, work.data(), &size, integers.data(),
                     &integers_asked, &info, 1, 1);
  }
  for (int64_t j = 0; j < n; ++j) {  // eigenvector j is row j of a
    const T sign = points_down(a + j * n, n, 1) ? T{-1} : T{1};
    for (int64_t i = 0; i < n; ++i) v[i * n + j] = sign * a[j * n + i];
  }
  return info == 0;
}

#define EBB_INSTANTIATE(T)                                                                \
  template int64_t cholesky(bool, int64_t, T*);                                           \
  template void triangular_solve(bool, bool, bool, bool, int64_t, int64_t, const T*, T*); \
  template int64_t lu(int64_t, T*, int32_t*);                                             \
  template void lu_solve(bool, int64_t, int64_t, const T*, const int32_t*, T*);           \
  template void lu_inverse(int64_t, T*, const int32_t*);                                  \
  template void qr(int64_t, int64_t, T*, T*, T*);                                         \
  template bool svd(int64_t, int64_t, T*, T*, T*, T*);                                    \
  template bool eigh(bool, int64_t, T*, T*, T*);
EBB_INSTANTIATE(float)
EBB_INSTANTIATE(double)
#undef EBB_INSTANTIATE

}  // namespace ebb::kernels
