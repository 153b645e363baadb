// SPDX-License-Identifier: Apache-2.0
// Where dot products end: sums of lanes. Compiled once for each instruction set, so the include
// guard toggles instead of staying set.
#if defined(EBB_OPS_KERNELS_BLAS_SUMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_BLAS_SUMS_INL_H_
#undef EBB_OPS_KERNELS_BLAS_SUMS_INL_H_
#else
#define EBB_OPS_KERNELS_BLAS_SUMS_INL_H_
#endif

#include <cstddef>

#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

struct AddLanes {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Add(a, b);
  }
};

// The sums of the lanes of four vectors, stored at `to` as alpha * sum + beta * to.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void store_four_sums(D d, hn::Vec<D> s0, hn::Vec<D> s1, hn::Vec<D> s2, hn::Vec<D> s3,
                                T alpha, T beta, T* to) {
#if HWY_TARGET == HWY_SCALAR
  (void)d;
  const T sums[4] = {hn::GetLane(s0), hn::GetLane(s1), hn::GetLane(s2), hn::GetLane(s3)};
  for (size_t i = 0; i < 4; ++i) to[i] = alpha * sums[i] + (beta == 0 ? T{0} : beta * to[i]);
#else
  if constexpr (kLanes<D> * sizeof(T) > 16) {
    const hn::Half<D> half;
    const auto fold = [&](hn::Vec<D> s) HWY_ATTR {
      return hn::Add(hn::LowerHalf(half, s), hn::UpperHalf(half, s));
    };
    store_four_sums(half, fold(s0), fold(s1), fold(s2), fold(s3), alpha, beta, to);
  } else {
    const auto store = [&](hn::Vec<D> sums, T* at) HWY_ATTR {
      sums = hn::Mul(sums, hn::Set(d, alpha));
      if (beta != 0) sums = hn::MulAdd(hn::Set(d, beta), hn::LoadU(d, at), sums);
      hn::StoreU(sums, d, at);
    };
    const auto s01 = hn::Add(hn::InterleaveLower(d, s0, s1), hn::InterleaveUpper(d, s0, s1));
    const auto s23 = hn::Add(hn::InterleaveLower(d, s2, s3), hn::InterleaveUpper(d, s2, s3));
    if constexpr (sizeof(T) == 8) {
      store(s01, to);
      store(s23, to + 2);
    } else {  // each has two parts of two sums
      const hn::Repartition<double, D> pairs;
      const auto p01 = hn::BitCast(pairs, s01);
      const auto p23 = hn::BitCast(pairs, s23);
      store(hn::Add(hn::BitCast(d, hn::InterleaveLower(pairs, p01, p23)),
                    hn::BitCast(d, hn::InterleaveUpper(pairs, p01, p23))),
            to);
    }
  }
#endif
}

}  // namespace
}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_BLAS_SUMS_INL_H_
