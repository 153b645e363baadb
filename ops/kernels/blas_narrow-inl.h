// SPDX-License-Identifier: Apache-2.0
// Matrices of 1 to 4 columns, whose rows are too short to be vectors: the vectors are columns.
// Compiled once for each instruction set, so the include guard toggles instead of staying set.
#if defined(EBB_OPS_KERNELS_BLAS_NARROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_BLAS_NARROW_INL_H_
#undef EBB_OPS_KERNELS_BLAS_NARROW_INL_H_
#else
#define EBB_OPS_KERNELS_BLAS_NARROW_INL_H_
#endif

#include <cstddef>
#include <type_traits>

#include "ebb/ops/kernels/blas_sums-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

HWY_INLINE bool narrow(size_t n, ptrdiff_t lda) {
  return n >= 1 && n <= 4 && lda == static_cast<ptrdiff_t>(n);
}

// f(columns, i) for the rows i to i + kLanes<D>, and for those that are left with shorter vectors.
template <size_t kColumns, class D, class F, typename T = hn::TFromD<D>>
HWY_INLINE void narrow_rows(D d, size_t i, size_t m, const T* a, const F& f) {
  constexpr size_t kN = kLanes<D>;
  using V = hn::Vec<D>;
  for (; i + kN <= m; i += kN) {
    V columns[4];
    const T* const rows = a + i * kColumns;
    if constexpr (kN == 1 || kColumns == 1) {
      for (size_t c = 0; c < kColumns; ++c) columns[c] = hn::LoadU(d, rows + c);
    } else if constexpr (kColumns == 2) {
      hn::LoadInterleaved2(d, rows, columns[0], columns[1]);
    } else if constexpr (kColumns == 3) {
      hn::LoadInterleaved3(d, rows, columns[0], columns[1], columns[2]);
    } else {
      hn::LoadInterleaved4(d, rows, columns[0], columns[1], columns[2], columns[3]);
    }
    f(d, columns, i);
  }
  if constexpr (kN > 1) {
    if (i < m) narrow_rows<kColumns>(Shorter<D>(), i, m, a, f);
  }
}

// y = alpha * A x + beta * y
template <size_t kColumns, class T>
void narrow_n(size_t m, T alpha, const T* a, const T* x, T beta, T* y) {
  narrow_rows<kColumns>(hn::ScalableTag<T>(), 0, m, a,
                        [=](auto d, const auto* columns, size_t i) HWY_ATTR {
                          auto s = hn::Mul(columns[0], hn::Set(d, x[0]));
                          HWY_UNROLL(4)
                          for (size_t c = 1; c < kColumns; ++c) {
                            s = hn::MulAdd(columns[c], hn::Set(d, x[c]), s);
                          }
                          s = hn::Mul(s, hn::Set(d, alpha));
                          if (beta != 0) {
                            s = hn::MulAdd(hn::Set(d, beta), hn::LoadU(d, y + i), s);
                          }
                          hn::StoreU(s, d, y + i);
                        });
}

// y = alpha * A' x + beta * y
template <size_t kColumns, class T>
void narrow_t(size_t m, T alpha, const T* a, const T* x, T beta, T* y) {
  using D = hn::ScalableTag<T>;
  hn::Vec<D> sums[kColumns];  // of whole vectors
  T rest[kColumns] = {};      // of the rows that are left
  for (size_t c = 0; c < kColumns; ++c) sums[c] = hn::Zero(D());
  narrow_rows<kColumns>(D(), 0, m, a, [&](auto d, const auto* columns, size_t i) HWY_ATTR {
    const auto weights = hn::LoadU(d, x + i);
    HWY_UNROLL(4)
    for (size_t c = 0; c < kColumns; ++c) {
      if constexpr (std::is_same_v<decltype(d), D>) {
        sums[c] = hn::MulAdd(columns[c], weights, sums[c]);
      } else {
        rest[c] += reduce_lanes(d, hn::Mul(columns[c], weights), AddLanes());
      }
    }
  });
  for (size_t c = 0; c < kColumns; ++c) {
    const T sum = alpha * (reduce_lanes(D(), sums[c], AddLanes()) + rest[c]);
    y[c] = beta == 0 ? sum : sum + beta * y[c];
  }
}

template <size_t kColumns, class D, class V = hn::Vec<D>, typename T = hn::TFromD<D>>
HWY_INLINE void store_columns(D d, const V* columns, T* to) {
  if constexpr (kLanes<D> == 1 || kColumns == 1) {
    for (size_t c = 0; c < kColumns; ++c) hn::StoreU(columns[c], d, to + c);
  } else if constexpr (kColumns == 2) {
    hn::StoreInterleaved2(columns[0], columns[1], d, to);
  } else if constexpr (kColumns == 3) {
    hn::StoreInterleaved3(columns[0], columns[1], columns[2], d, to);
  } else {
    hn::StoreInterleaved4(columns[0], columns[1], columns[2], columns[3], d, to);
  }
}

// y = u v', from row i on.
template <size_t kColumns, class D, typename T = hn::TFromD<D>>
HWY_INLINE void narrow_outer(D d, size_t i, size_t m, const T* u, const T* v, T* y) {
  constexpr size_t kN = kLanes<D>;
  for (; i + kN <= m; i += kN) {
    const auto x = hn::LoadU(d, u + i);
    hn::Vec<D> columns[kColumns];
    for (size_t c = 0; c < kColumns; ++c) columns[c] = hn::Mul(x, hn::Set(d, v[c]));
    store_columns<kColumns>(d, columns, y + i * kColumns);
  }
  if constexpr (kN > 1) {
    if (i < m) narrow_outer<kColumns>(Shorter<D>(), i, m, u, v, y);
  }
}

// A += alpha * u v'
template <size_t kColumns, class T>
void narrow_ger(size_t m, T alpha, const T* u, const T* v, T* a) {
  narrow_rows<kColumns>(hn::ScalableTag<T>(), 0, m, a,
                        [=](auto d, auto* columns, size_t i) HWY_ATTR {
                          const auto x = hn::Mul(hn::Set(d, alpha), hn::LoadU(d, u + i));
                          for (size_t c = 0; c < kColumns; ++c) {
                            columns[c] = hn::MulAdd(x, hn::Set(d, v[c]), columns[c]);
                          }
                          store_columns<kColumns>(d, columns, a + i * kColumns);
                        });
}

// f(n) with a narrow matrix's number of columns as a constant.
template <class F>
HWY_INLINE void with_columns(size_t n, const F& f) {
  if (n == 1) return f(std::integral_constant<size_t, 1>());
  if (n == 2) return f(std::integral_constant<size_t, 2>());
  if (n == 3) return f(std::integral_constant<size_t, 3>());
  f(std::integral_constant<size_t, 4>());
}

}  // namespace
}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_BLAS_NARROW_INL_H_
