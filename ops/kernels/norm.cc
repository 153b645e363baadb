// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/norm.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/norm.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/norm-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

template <class T>
void layer_forward(const T* x, const T* w, const T* b, T* y, size_t n, double eps) {
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  const Moments<T> m = moments(x, n, eps);
  const auto near = hn::Set(d, m.near);
  const auto off = hn::Set(d, m.off);
  const auto scale = hn::Set(d, m.scale);
  for (size_t i = 0; i < n; i += kN) {
    const size_t left = n - i < kN ? n - i : kN;
    auto v = hn::Mul(hn::Sub(hn::Sub(load(d, x + i, left), near), off), scale);
    if (w != nullptr) v = hn::Mul(v, load(d, w + i, left));
    if (b != nullptr) v = hn::Add(v, load(d, b + i, left));
    store(v, d, y + i, left);
  }
}

// With z the normalised row and h = g w:  gx = scale * (h - mean(h) - z * mean(h z)).
template <class T>
void layer_backward(const T* x, const T* w, const T* g, T* gx, T* gw, size_t n, double eps) {
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  const auto h_at = [=](size_t i, size_t left) HWY_ATTR {
    const auto gi = load(d, g + i, left);
    return w != nullptr ? hn::Mul(gi, load(d, w + i, left)) : gi;
  };
  const auto count = static_cast<double>(n);
  double total[4];  // of distances, their squares, h, and h times the distances
  const Moments<T> m =
      moments_by<4>(count, guess_mean(x, n), eps, total, [=](T near, double* to) HWY_ATTR {
        const auto from = hn::Set(d, near);
        add_sums<4, T>(n, to, [=](size_t i, size_t left, auto& v) HWY_ATTR {
          v[0] = distance(d, x + i, from, left);
          v[1] = hn::Mul(v[0], v[0]);
          v[2] = h_at(i, left);
          v[3] = hn::Mul(v[2], v[0]);
        });
      });
  const double h_off = total[2] * static_cast<double>(m.off);
  const auto h_mean = hn::Set(d, static_cast<T>(total[2] / count));
  const auto hz_mean =
      hn::Set(d, static_cast<T>((total[3] - h_off) * static_cast<double>(m.scale) / count));
  const auto near = hn::Set(d, m.near);
  const auto off = hn::Set(d, m.off);
  const auto scale = hn::Set(d, m.scale);
  for (size_t i = 0; i < n; i += kN) {
    const size_t left = n - i < kN ? n - i : kN;
    const auto z = hn::Mul(hn::Sub(hn::Sub(load(d, x + i, left), near), off), scale);
    const auto h = h_at(i, left);
    if (gw != nullptr) {
      store(hn::MulAdd(load(d, g + i, left), z, load(d, gw + i, left)), d, gw + i, left);
    }
    if (gx != nullptr) {
      store(hn::Mul(scale, hn::Sub(hn::Sub(h, h_mean), hn::Mul(z, hz_mean))), d, gx + i, left);
    }
  }
}

template <class T>
HWY_INLINE double inverse_rms(double squares, size_t n, double eps) {
  return 1 / std::sqrt(squares / static_cast<double>(n) + eps);
}

template <class T>
void rms_forward(const T* x, const T* w, T* y, size_t n, double eps) {
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  double squares = 0;
  add_sums<1, T>(n, &squares, [=](size_t i, size_t left, auto& v) HWY_ATTR {
    const auto xi = load(d, x + i, left);
    v[0] = hn::Mul(xi, xi);
  });
  const auto scale = hn::Set(d, static_cast<T>(inverse_rms<T>(squares, n, eps)));
  for (size_t i = 0; i < n; i += kN) {
    const size_t left = n - i < kN ? n - i : kN;
    auto v = hn::Mul(load(d, x + i, left), scale);
    if (w != nullptr) v = hn::Mul(v, load(d, w + i, left));
    store(v, d, y + i, left);
  }
}

// With z the normalised row and h = g w:  gx = scale * (h - z * mean(h z)).
template <class T>
void rms_backward(const T* x, const T* w, const T* g, T* gx, T* gw, size_t n, double eps) {
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  const auto h_at = [=](size_t i, size_t left) HWY_ATTR {
    const auto gi = load(d, g + i, left);
    return w != nullptr ? hn::Mul(gi, load(d, w + i, left)) : gi;
  };
  double total[2] = {0, 0};  // of the squares, and of h x
  add_sums<2, T>(n, total, [=](size_t i, size_t left, auto& v) HWY_ATTR {
    const auto xi = load(d, x + i, left);
    v[0] = hn::Mul(xi, xi);
    v[1] = hn::Mul(xi, h_at(i, left));
  });
  const double s = inverse_rms<T>(total[0], n, eps);
  const auto scale = hn::Set(d, static_cast<T>(s));
  const auto hz_mean = hn::Set(d, static_cast<T>(total[1] * s / static_cast<double>(n)));
  for (size_t i = 0; i < n; i += kN) {
    const size_t left = n - i < kN ? n - i : kN;
    const auto z = hn::Mul(load(d, x + i, left), scale);
    const auto h = h_at(i, left);
    if (gw != nullptr) {
      store(hn::MulAdd(load(d, g + i, left), z, load(d, gw + i, left)), d, gw + i, left);
    }
    if (gx != nullptr) {
      store(hn::Mul(scale, hn::Sub(h, hn::Mul(z, hz_mean))), d, gx + i, left);
    }
  }
}

template <class T>
constexpr detail::NormTable<T> kTable{layer_forward<T>, layer_backward<T>, rms_forward<T>,
                                      rms_backward<T>};
constexpr detail::NormTables kTables{kTable<float>, kTable<double>};

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
