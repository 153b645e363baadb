// SPDX-License-Identifier: Apache-2.0
// Sums and moments that the normalisations share; compiled once for each instruction set, so the
// include guard toggles instead of staying set.
#if defined(EBB_OPS_KERNELS_NORM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_NORM_INL_H_
#undef EBB_OPS_KERNELS_NORM_INL_H_
#else
#define EBB_OPS_KERNELS_NORM_INL_H_
#endif

#include <cmath>
#include <cstddef>

#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {

struct AddLanes {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Add(a, b);
  }
};

inline constexpr size_t kSumBlock = 1024;  // elements lanes add up before the sum goes on in double

// Adds to total[q], of a row of n elements, the sums of what f(i, left, v) puts into v[q]; `left`
// lanes of the vector at i exist, and f makes the others 0. All in one pass.
template <size_t kSums, class T, class F>
HWY_INLINE void add_sums(size_t n, double* total, const F& f) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr size_t kN = kLanes<decltype(d)>;
  for (size_t first = 0; first < n; first += kSumBlock) {
    const size_t end = n - first < kSumBlock ? n : first + kSumBlock;
    V s[2][kSums];
    for (size_t q = 0; q < kSums; ++q) s[0][q] = s[1][q] = hn::Zero(d);
    const auto add = [&](V(&to)[kSums], size_t at, size_t left) HWY_ATTR {
      V v[kSums];
      f(at, left, v);
      for (size_t q = 0; q < kSums; ++q) to[q] = hn::Add(to[q], v[q]);
    };
    size_t i = first;
    for (; i + 2 * kN <= end; i += 2 * kN) {
      add(s[0], i, kN);
      add(s[1], i + kN, kN);
    }
    for (; i + kN <= end; i += kN) add(s[0], i, kN);
    if (i < end) add(s[1], i, end - i);
    for (size_t q = 0; q < kSums; ++q) {
      total[q] += static_cast<double>(reduce_lanes(d, hn::Add(s[0][q], s[1][q]), AddLanes()));
    }
  }
}

// `left` lanes of a row from p on, the others 0.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load(D d, const T* p, size_t left) {
  return left == kLanes<D> ? hn::LoadU(d, p) : load_n(d, p, left);
}
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void store(hn::Vec<D> v, D d, T* p, size_t left) {
  if (left == kLanes<D>) {
    hn::StoreU(v, d, p);
  } else {
    store_n(v, d, p, left);
  }
}
// x - near in the lanes that exist, else 0.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> distance(D d, const T* x, hn::Vec<D> near, size_t left) {
  const auto c = hn::Sub(load(d, x, left), near);
  return left == kLanes<D> ? c : hn::IfThenElseZero(hn::FirstN(d, left), c);
}

// Mean and variance of a set of numbers. A mean rounded to T is off by more than large numbers
// differ, so that it is kept in two parts: `near`, which numbers are subtracted from without
// rounding, and what the distances from it have for a mean.
template <class T>
struct Moments {
  T near;
  T off;
  T scale;  // 1 / sqrt(variance + eps)
  double variance;
};

// From sums over a set of `count` numbers, taken by measure(near, total): total[0] of the distances
// from `near`, total[1] of their squares, and whatever else there is. A second measurement is
// needed only where `guess` was far from the mean for numbers that differ so little.
template <size_t kSums, class T, class F>
HWY_INLINE Moments<T> moments_by(double count, T guess, double eps, double* total,
                                 const F& measure) {
  T near = guess;
  double off;
  double variance;
  for (int turn = 0;; ++turn) {
    for (size_t q = 0; q < kSums; ++q) total[q] = 0;
    measure(near, total);
    off = total[0] / count;
    variance = total[1] / count - off * off;
    if (turn == 1 || !(off * off > 4 * variance)) break;
    near = static_cast<T>(static_cast<double>(near) + off);
  }
  if (variance < 0) variance = 0;
  return {near, static_cast<T>(off), static_cast<T>(1 / std::sqrt(variance + eps)), variance};
}

// About the mean of a row: that of some numbers of it.
template <class T>
HWY_INLINE T guess_mean(const T* x, size_t n) {
  constexpr size_t kMost = 16;
  const size_t count = n < kMost ? n : kMost;
  const size_t step = n / count;
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += static_cast<double>(x[i * step]);
  return static_cast<T>(sum / static_cast<double>(count));
}

template <class T>
HWY_INLINE Moments<T> moments(const T* x, size_t n, double eps) {
  const hn::ScalableTag<T> d;
  double total[2];
  return moments_by<2>(static_cast<double>(n), guess_mean(x, n), eps, total,
                       [=](T near, double* to) HWY_ATTR {
                         const auto from = hn::Set(d, near);
                         add_sums<2, T>(n, to, [=](size_t i, size_t left, auto& v) HWY_ATTR {
                           v[0] = distance(d, x + i, from, left);
                           v[1] = hn::Mul(v[0], v[0]);
                         });
                       });
}

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_NORM_INL_H_
