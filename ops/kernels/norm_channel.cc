// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/norm_channel.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/norm_channel.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/norm-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// About the mean of a set: that of some numbers of it, from all its runs.
template <class T>
HWY_INLINE T guess_mean_of(const NormSet& set, const T* x) {
  constexpr size_t kMost = 16;
  const size_t n = set.runs * set.len;
  if (set.runs == 1 || set.stride == static_cast<ptrdiff_t>(set.len)) return guess_mean(x, n);
  const size_t count = n < kMost ? n : kMost;
  const size_t step = n / count;
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = i * step;
    sum += static_cast<double>(x[static_cast<ptrdiff_t>(at / set.len) * set.stride +
                                 static_cast<ptrdiff_t>(at % set.len)]);
  }
  return static_cast<T>(sum / static_cast<double>(count));
}

template <class T>
HWY_INLINE void shift_scale(const T* x, T shift, T scale, T bias, T* y, size_t n) {
  map<4>(hn::ScalableTag<T>(), n, y, [=](auto d, size_t i) HWY_ATTR {
    return hn::MulAdd(hn::Sub(hn::LoadU(d, x + i), hn::Set(d, shift)), hn::Set(d, scale),
                      hn::Set(d, bias));
  });
}

template <class T>
void shift_scale_row(const T* x, T shift, T scale, T bias, T* y, size_t n) {
  shift_scale(x, shift, scale, bias, y, n);
}

template <class T>
void gradient_sums_row(const T* x, T shift, const T* g, size_t n, double* sums) {
  const hn::ScalableTag<T> d;
  const auto from = hn::Set(d, shift);
  add_sums<2, T>(n, sums, [=](size_t i, size_t left, auto& v) HWY_ATTR {
    v[0] = load(d, g + i, left);
    v[1] = hn::Mul(v[0], distance(d, x + i, from, left));
  });
}

template <class T>
NormStatistics forward(const NormSet& set, const T* x, const T* w, const T* b, T* y, double eps) {
  const hn::ScalableTag<T> d;
  const double count = static_cast<double>(set.runs) * static_cast<double>(set.len);
  // Runs that follow each other without gaps are one to whoever only adds them up.
  const bool whole = set.stride == static_cast<ptrdiff_t>(set.len);
  const size_t runs = whole ? 1 : set.runs;
  const size_t len = whole ? set.runs * set.len : set.len;
  double total[2];
  const Moments<T> m =
      moments_by<2>(count, guess_mean_of(set, x), eps, total, [=](T near, double* to) HWY_ATTR {
        const auto from = hn::Set(d, near);
        for (size_t k = 0; k < runs; ++k) {
          const T* run = x + static_cast<ptrdiff_t>(k) * set.stride;
          add_sums<2, T>(len, to, [=](size_t i, size_t left, auto& v) HWY_ATTR {
            v[0] = distance(d, run + i, from, left);
            v[1] = hn::Mul(v[0], v[0]);
          });
        }
      });
  for (size_t k = 0; k < set.runs; ++k) {
    const auto at = static_cast<ptrdiff_t>(k);
    const T scale = w != nullptr ? m.scale * w[at * set.step] : m.scale;
    const T bias = b != nullptr ? b[at * set.step] : T{0};
    shift_scale(x + at * set.stride, m.near, scale, bias - m.off * scale, y + at * set.stride,
                set.len);
  }
  return {static_cast<double>(m.near) + static_cast<double>(m.off), m.variance};
}

// With z the normalised set and h = g w:  gx = scale * (h - mean(h) - z * mean(h z)), where all
// sums come from one pass that also finds mean and scale.
template <class T>
void backward(const NormSet& set, const T* x, const T* w, const T* g, T* gx, T* gw, T* gb,
              double* sums, double eps) {
  const hn::ScalableTag<T> d;
  const double count = static_cast<double>(set.runs) * static_cast<double>(set.len);
  double total[2];
  const Moments<T> m =
      moments_by<2>(count, guess_mean_of(set, x), eps, total, [=](T near, double* to) HWY_ATTR {
        const auto from = hn::Set(d, near);
        for (size_t k = 0; k < set.runs; ++k) {
          const ptrdiff_t at = static_cast<ptrdiff_t>(k) * set.stride;
          double all[4] = {0, 0, 0, 0};
          add_sums<4, T>(set.len, all, [=](size_t i, size_t left, auto& v) HWY_ATTR {
            v[0] = distance(d, x + at + i, from, left);
            v[1] = hn::Mul(v[0], v[0]);
            v[2] = load(d, g + at + i, left);
            v[3] = hn::Mul(v[2], v[0]);
          });
          to[0] += all[0];
          to[1] += all[1];
          sums[2 * k] = all[2];
          sums[2 * k + 1] = all[3];
        }
      });
  const auto off = static_cast<double>(m.off);
  const auto scale = static_cast<double>(m.scale);
  double h_sum = 0;
  double hz_sum = 0;
  for (size_t k = 0; k < set.runs; ++k) {
    const ptrdiff_t at = static_cast<ptrdiff_t>(k) * set.step;
    const double g_sum = sums[2 * k];
    const double gz_sum = (sums[2 * k + 1] - off * g_sum) * scale;
    if (gw != nullptr) gw[at] += static_cast<T>(gz_sum);
    if (gb != nullptr) gb[at] += static_cast<T>(g_sum);
    const double weight = w != nullptr ? static_cast<double>(w[at]) : 1.0;
    h_sum += weight * g_sum;
    hz_sum += weight * gz_sum;
  }
  if (gx == nullptr) return;
  // gx = a g + b (x - near) + c, where z = (x - near - off) * scale.
  const double h_mean = h_sum / count;
  const double hz_mean = hz_sum / count;
  const auto by_x = static_cast<T>(-scale * scale * hz_mean);
  const auto constant = static_cast<T>(scale * (scale * off * hz_mean - h_mean));
  const T near = m.near;
  for (size_t k = 0; k < set.runs; ++k) {
    const ptrdiff_t at = static_cast<ptrdiff_t>(k) * set.stride;
    const T by_g = w != nullptr ? m.scale * w[static_cast<ptrdiff_t>(k) * set.step] : m.scale;
    map<4>(d, set.len, gx + at, [=](auto t, size_t i) HWY_ATTR {
      const auto c = hn::Sub(hn::LoadU(t, x + at + i), hn::Set(t, near));
      return hn::MulAdd(hn::LoadU(t, g + at + i), hn::Set(t, by_g),
                        hn::MulAdd(c, hn::Set(t, by_x), hn::Set(t, constant)));
    });
  }
}

template <class T>
constexpr detail::NormChannelTable<T> kTable{forward<T>, backward<T>, shift_scale_row<T>,
                                             gradient_sums_row<T>};
constexpr detail::NormChannelTables kTables{kTable<float>, kTable<double>};

}  // namespace

const detail::NormChannelTables* norm_channel_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(norm_channel_tables);

constinit const Dispatch<detail::NormChannelTables> detail::norm_channel{
    [] { return HWY_DYNAMIC_DISPATCH(norm_channel_tables)(); }};

}  // namespace ebb::kernels
#endif
