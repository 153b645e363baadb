// SPDX-License-Identifier: Apache-2.0
// Sums of a few outer products. Compiled once for each instruction set, so the include guard
// toggles instead of staying set.
#if defined(EBB_OPS_KERNELS_BLAS_TERMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_BLAS_TERMS_INL_H_
#undef EBB_OPS_KERNELS_BLAS_TERMS_INL_H_
#else
#define EBB_OPS_KERNELS_BLAS_TERMS_INL_H_
#endif

#include <cstddef>

#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// What each term adds to: element i of its u is at u[i * u_row + term * u_term], its v starts at
// v + term * v_term.
template <class T>
struct FewTerms {
  size_t m;
  T alpha;
  const T* u;
  ptrdiff_t u_row, u_term;
  const T* v;
  ptrdiff_t v_term;
  T* c;
  ptrdiff_t ldc;
};

// The columns j to j + kV vectors of all rows, with those of the v in registers. start(d, p) is
// what the sum of the elements at p starts from.
template <size_t kTerms, size_t kV, class D, class Start, typename T = hn::TFromD<D>>
HWY_INLINE void terms_strip(D d, const FewTerms<T>& g, size_t j, const Start& start) {
  constexpr size_t kN = kLanes<D>;
  hn::Vec<D> v[kTerms][kV];
  HWY_UNROLL(4)
  for (size_t p = 0; p < kTerms; ++p) {
    HWY_UNROLL(4)
    for (size_t q = 0; q < kV; ++q) {
      v[p][q] = hn::LoadU(d, g.v + static_cast<ptrdiff_t>(p) * g.v_term + j + q * kN);
    }
  }
  const T* u = g.u;
  T* c = g.c + j;
  for (size_t i = 0; i < g.m; ++i, u += g.u_row, c += g.ldc) {
    hn::Vec<D> x[kTerms];
    HWY_UNROLL(4)
    for (size_t p = 0; p < kTerms; ++p) {
      x[p] = hn::Set(d, g.alpha * u[static_cast<ptrdiff_t>(p) * g.u_term]);
    }
    HWY_UNROLL(4)
    for (size_t q = 0; q < kV; ++q) {
      T* const at = c + q * kN;
      auto s = start(d, at);
      HWY_UNROLL(4)
      for (size_t p = 0; p < kTerms; ++p) s = hn::MulAdd(x[p], v[p][q], s);
      hn::StoreU(s, d, at);
    }
  }
}

// The columns from j on, n of them: strips as wide as the registers allow, then single vectors,
// then ever shorter ones.
template <size_t kTerms, class D, class Start, typename T = hn::TFromD<D>>
HWY_INLINE void terms_in_strips(D d, const FewTerms<T>& g, size_t j, size_t n, const Start& start) {
  constexpr size_t kN = kLanes<D>;
  constexpr size_t kWide = kTerms <= 2 || HWY_TARGET == HWY_AVX3 ? 4 : 2;
  for (; n >= kWide * kN; n -= kWide * kN, j += kWide * kN) {
    terms_strip<kTerms, kWide>(d, g, j, start);
  }
  for (; n >= kN; n -= kN, j += kN) terms_strip<kTerms, 1>(d, g, j, start);
  if constexpr (kN > 1) {
    if (n != 0) terms_in_strips<kTerms>(Shorter<D>(), g, j, n, start);
  }
}

// Longer rows than these are better written to their ends, one by one.
template <class T>
inline constexpr size_t kStripsUpTo = 16 * kLanes<hn::ScalableTag<T>>;

// All n columns.
template <size_t kTerms, class T, class Start>
HWY_INLINE void add_terms(FewTerms<T> g, size_t n, const Start& start) {
  const hn::ScalableTag<T> d;
  // Row by row too where a single term goes outside the L1 cache; of several terms, v would be
  // loaded again for each row.
  constexpr size_t kNear = size_t{32} << 10;
  const bool near = kTerms > 1 || g.m * n * sizeof(T) <= kNear;
  if (near && n <= kStripsUpTo<T>) return terms_in_strips<kTerms>(d, g, 0, n, start);
  const size_t rows = g.m;
  g.m = 1;
  for (size_t i = 0; i < rows; ++i, g.u += g.u_row, g.c += g.ldc) {
    terms_in_strips<kTerms>(d, g, 0, n, start);
  }
}

}  // namespace
}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_BLAS_TERMS_INL_H_
