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

// Sum of f(i) over the vectors of a row; f is given how to load from a row, with 0 past its end.
template <class T, class F>
HWY_INLINE double sum(size_t n, const F& f) {
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  double total = 0;
  for (size_t first = 0; first < n; first += kBlock) {
    const size_t end = n - first < kBlock ? n : first + kBlock;
    auto s0 = hn::Zero(d);
    auto s1 = hn::Zero(d);
    size_t i = first;
    for (; i + 2 * kN <= end; i += 2 * kN) {
      s0 = hn::Add(s0, f(i, kN));
      s1 = hn::Add(s1, f(i + kN, kN));
    }
    for (; i + kN <= end; i += kN) s0 = hn::Add(s0, f(i, kN));
    if (i < end) s1 = hn::Add(s1, f(i, end - i));
    total += static_cast<double>(reduce_lanes(d, hn::Add(s0, s1), AddLanes()));
  }
  return total;
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
  const T near = static_cast<T>(
      sum<T>(n, [=](size_t i, size_t left) HWY_ATTR { return load(d, x + i, left); }) / count);
  // That mean is rounded, and of large numbers off by more than they differ. Distances from it are
  // small, so that their mean and mean square tell the rest.
  const auto vnear = hn::Set(d, near);
  const auto distance = [=](size_t i, size_t left) HWY_ATTR {
    const auto c = hn::Sub(load(d, x + i, left), vnear);
    return left == kN ? c : hn::IfThenElseZero(hn::FirstN(d, left), c);
  };
  const double off = sum<T>(n, distance) / count;
  const double squares = sum<T>(n, [=](size_t i, size_t left) HWY_ATTR {
    const auto c = distance(i, left);
    return hn::Mul(c, c);
  });
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
    h_mean = hn::Set(d, static_cast<T>(sum<T>(n, h_at) / count));
    hz_mean = hn::Set(
        d,
        static_cast<T>(sum<T>(n, [=](size_t i, size_t left)
                                     HWY_ATTR { return hn::Mul(h_at(i, left), z_at(i, left)); }) /
                       count));
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
