// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/norm.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/norm.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
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

constexpr size_t kBlock = 1024;  // elements that lanes add up before the sum goes on in double

// Sums over the vectors of a row of what f(i, left, v) puts into v[0] to v[kSums - 1]; `left` lanes
// of vector i exist, and f makes the others 0. All in one pass.
template <size_t kSums, class T, class F>
HWY_INLINE void sums(size_t n, double* total, const F& f) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr size_t kN = kLanes<decltype(d)>;
  for (size_t q = 0; q < kSums; ++q) total[q] = 0;
  for (size_t first = 0; first < n; first += kBlock) {
    const size_t end = n - first < kBlock ? n : first + kBlock;
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

template <class T>
struct Moments {
  T mean;
  T scale;  // 1 / sqrt(variance + eps)
};

template <class T>
HWY_INLINE Moments<T> moments(const T* x, size_t n, double eps) {
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  const auto count = static_cast<double>(n);
  double sum;
  sums<1, T>(n, &sum,
             [=](size_t i, size_t left, auto& v) HWY_ATTR { v[0] = load(d, x + i, left); });
  const T near = static_cast<T>(sum / count);
  // That mean is rounded, and of large numbers off by more than they differ. Distances from it are
  // small, so that their mean and mean square tell the rest.
  const auto vnear = hn::Set(d, near);
  double distances[2];  // the sum of them, and of their squares
  sums<2, T>(n, distances, [=](size_t i, size_t left, auto& v) HWY_ATTR {
    const auto c = hn::Sub(load(d, x + i, left), vnear);
    v[0] = left == kN ? c : hn::IfThenElseZero(hn::FirstN(d, left), c);
    v[1] = hn::Mul(v[0], v[0]);
  });
  const double off = distances[0] / count;
  const double squares = distances[1];
  const double mean = static_cast<double>(near) + off;
  const double variance = squares / count - off * off;
  return {static_cast<T>(mean), static_cast<T>(1 / std::sqrt(variance + eps))};
}

template <class T>
void forward(const T* x, const T* w, const T* b, T* y, size_t n, double eps) {
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  const Moments<T> m = moments(x, n, eps);
  const auto mean = hn::Set(d, m.mean);
  const auto scale = hn::Set(d, m.scale);
  for (size_t i = 0; i < n; i += kN) {
    const size_t left = n - i < kN ? n - i : kN;
    auto v = hn::Mul(hn::Sub(load(d, x + i, left), mean), scale);
    if (w != nullptr) v = hn::Mul(v, load(d, w + i, left));
    if (b != nullptr) v = hn::Add(v, load(d, b + i, left));
    store(v, d, y + i, left);
  }
}

// With z the normalised row and h = g w:  gx = scale * (h - mean(h) - z * mean(h z)).
template <class T>
void backward(const T* x, const T* w, const T* g, T* gx, T* gw, size_t n, double eps) {
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  const Moments<T> m = moments(x, n, eps);
  const auto mean = hn::Set(d, m.mean);
  const auto scale = hn::Set(d, m.scale);
  const auto h_at = [=](size_t i, size_t left) HWY_ATTR {
    const auto gi = load(d, g + i, left);
    return w != nullptr ? hn::Mul(gi, load(d, w + i, left)) : gi;
  };
  const auto z_at = [=](size_t i, size_t left)
                        HWY_ATTR { return hn::Mul(hn::Sub(load(d, x + i, left), mean), scale); };
  const auto count = static_cast<double>(n);
  auto h_mean = hn::Zero(d);
  auto hz_mean = hn::Zero(d);
  if (gx != nullptr) {
    double total[2];
    sums<2, T>(n, total, [=](size_t i, size_t left, auto& v) HWY_ATTR {
      v[0] = h_at(i, left);
      v[1] = hn::Mul(v[0], z_at(i, left));
    });
    h_mean = hn::Set(d, static_cast<T>(total[0] / count));
    hz_mean = hn::Set(d, static_cast<T>(total[1] / count));
  }
  for (size_t i = 0; i < n; i += kN) {
    const size_t left = n - i < kN ? n - i : kN;
    const auto z = z_at(i, left);
    const auto h = h_at(i, left);
    if (gw != nullptr) {
      store(hn::MulAdd(load(d, g + i, left), z, load(d, gw + i, left)), d, gw + i, left);
    }
    if (gx != nullptr) {
      store(hn::Mul(scale, hn::Sub(hn::Sub(h, h_mean), hn::Mul(z, hz_mean))), d, gx + i, left);
    }
  }
}

constexpr detail::NormTables kTables{{forward<float>, backward<float>},
                                     {forward<double>, backward<double>}};

}  // namespace

const detail::NormTables* norm_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(norm_tables);

constinit const Dispatch<detail::NormTables> detail::norm{
    [] { return HWY_DYNAMIC_DISPATCH(norm_tables)(); }};

}  // namespace ebb::kernels
#endif
