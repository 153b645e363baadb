// SPDX-License-Identifier: Apache-2.0
// Helpers shared by the kernels; compiled once for each instruction set, so the include guard
// toggles instead of staying set.
#if defined(EBB_OPS_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_SIMD_INL_H_
#undef EBB_OPS_KERNELS_SIMD_INL_H_
#else
#define EBB_OPS_KERNELS_SIMD_INL_H_
#endif

#include <cstddef>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Lanes of a vector, known at compile time: only targets with fixed sizes are compiled.
template <class D>
inline constexpr size_t kLanes = hn::MaxLanes(D());

// A vector of at most `kMax` lanes of T.
template <class T, size_t kMax>
using Capped = hn::CappedTag<T, kMax>;

// The next shorter vector for rows too short for D: half, and after four lanes one.
template <class D>
using Shorter = Capped<hn::TFromD<D>, (kLanes<D> > 4 ? kLanes<D> / 2 : 1)>;

// Whether a masked load or store leaves alone the memory behind lanes whose mask is false.
template <class T>
inline constexpr bool kMaskedMemory = HWY_MEM_OPS_MIGHT_FAULT == 0 ||
                                      (HWY_TARGET == HWY_AVX2 && sizeof(T) >= 4);

// The first n lanes of p, the others 0; n < Lanes(d). Touches nothing past p[n - 1].
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_n(D d, const T* p, size_t n) {
  if constexpr (kMaskedMemory<T>) {
    return hn::MaskedLoad(hn::FirstN(d, n), d, p);
  } else {
    HWY_ALIGN T lanes[kLanes<D>] = {};
    for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
    return hn::Load(d, lanes);
  }
}

// Stores the first n lanes of v; n < Lanes(d). AVX2 has a masked store too, but AMD's take a dozen
// cycles over it, so that halves, quarters and so on are quicker.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void store_n(hn::Vec<D> v, D d, T* p, size_t n) {
  if constexpr (kMaskedMemory<T> && HWY_TARGET != HWY_AVX2) {
    hn::BlendedStore(v, hn::FirstN(d, n), d, p);
  } else if constexpr (kLanes<D> > 1) {
#if HWY_TARGET != HWY_SCALAR
    constexpr size_t kHalf = kLanes<D> / 2;
    const hn::Half<D> half;
    if (n >= kHalf) {
      hn::StoreU(hn::LowerHalf(half, v), half, p);
      store_n(hn::UpperHalf(half, v), half, p + kHalf, n - kHalf);
    } else {
      store_n(hn::LowerHalf(half, v), half, p, n);
    }
#endif
  }
}

// out[i] = f(d, i) for i < n, where f(d, i) computes the Lanes(d) elements from i on, of T or of
// another type as many lanes wide. No scalar tail: the last vector overlaps the one before it, and
// is computed before anything is stored so that `out` may be one of f's inputs (the same start, not
// a shifted one). Rows shorter than a vector go to vectors half as long.
template <size_t kUnroll = 2, class D, class F, typename T>
HWY_INLINE void map(D d, size_t n, T* out, const F& f) {
  const hn::Rebind<T, D> to;
  constexpr size_t kN = kLanes<D>;
  if constexpr (kN == 1) {
    for (size_t i = 0; i < n; ++i) hn::StoreU(f(d, i), to, out + i);
  } else if (n >= kN) {
    const auto tail = f(d, n - kN);
    size_t i = 0;
    if constexpr (kUnroll == 2) {
      for (; i + 2 * kN < n; i += 2 * kN) {
        const auto v0 = f(d, i);
        const auto v1 = f(d, i + kN);
        hn::StoreU(v0, to, out + i);
        hn::StoreU(v1, to, out + i + kN);
      }
    }
    for (; i + kN < n; i += kN) hn::StoreU(f(d, i), to, out + i);
    hn::StoreU(tail, to, out + n - kN);
  } else {
    map<1>(Shorter<D>(), n, out, f);
  }
}

#if HWY_TARGET != HWY_SCALAR
// Transposes a block of kBlockSide<T> squared elements: 4 x 4 float or 2 x 2 double. Moves bits
// only, so that any element of that size can be passed for one.
HWY_INLINE void transpose_block(const float* from, ptrdiff_t ld, float* to, ptrdiff_t to_ld) {
  const Capped<float, 4> d;
  const Capped<double, 2> pairs;
  const auto r0 = hn::LoadU(d, from);
  const auto r1 = hn::LoadU(d, from + ld);
  const auto r2 = hn::LoadU(d, from + 2 * ld);
  const auto r3 = hn::LoadU(d, from + 3 * ld);
  const auto lo01 = hn::BitCast(pairs, hn::InterleaveLower(d, r0, r1));
  const auto lo23 = hn::BitCast(pairs, hn::InterleaveLower(d, r2, r3));
  const auto hi01 = hn::BitCast(pairs, hn::InterleaveUpper(d, r0, r1));
  const auto hi23 = hn::BitCast(pairs, hn::InterleaveUpper(d, r2, r3));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, lo01, lo23)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, lo01, lo23)), d, to + to_ld);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, hi01, hi23)), d, to + 2 * to_ld);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, hi01, hi23)), d, to + 3 * to_ld);
}
HWY_INLINE void transpose_block(const double* from, ptrdiff_t ld, double* to, ptrdiff_t to_ld) {
  const Capped<double, 2> d;
  const auto r0 = hn::LoadU(d, from);
  const auto r1 = hn::LoadU(d, from + ld);
  hn::StoreU(hn::InterleaveLower(d, r0, r1), d, to);
  hn::StoreU(hn::InterleaveUpper(d, r0, r1), d, to + to_ld);
}
template <class T>
inline constexpr size_t kBlockSide = 16 / sizeof(T);
#else
template <class T>
HWY_INLINE void transpose_block(const T* from, ptrdiff_t, T* to, ptrdiff_t) {
  std::memcpy(to, from, sizeof(T));
}
template <class T>
inline constexpr size_t kBlockSide = 1;
#endif

// Combines all lanes by `op`, halving the vector: the same order on every run.
template <class D, class Op>
HWY_INLINE hn::TFromD<D> reduce_lanes(D d, hn::Vec<D> v, const Op& op) {
#if HWY_TARGET != HWY_SCALAR  // which has no UpperHalf, nor a need for it
  constexpr size_t kN = kLanes<D>;
  if constexpr (kN > 1) {
    const hn::Half<D> half;
    return reduce_lanes(half, op(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), op);
  }
#endif
  (void)d;
  (void)op;
  return hn::GetLane(v);
}

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_SIMD_INL_H_
