// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

// Resampling of contiguous planes of up to three axes, one axis at a time known by its taps.
namespace ebb::kernels {

/// Element o of the result is the sum over t < taps of weight[o * taps + t] times element
/// index[o * taps + t]. An axis that is not resampled has size 1, and one tap of weight 1.
template <class T>
struct ResampleAxis {
  int64_t in;
  int64_t out;
  int64_t taps;
  const int64_t* index;
  const T* weight;
};

namespace detail {

// Calls f(offset in x, offset in y, weight) for rows of the last axis that have a part in each
// other, with `fresh` for the first of a row of y.
template <class T, class F>
void for_rows(int64_t planes, const ResampleAxis<T> (&a)[3], F&& f) {
  const int64_t size = a[0].in * a[1].in * a[2].in;
  int64_t y = 0;
  for (int64_t p = 0; p < planes; ++p) {
    for (int64_t i = 0; i < a[0].out; ++i) {
      for (int64_t j = 0; j < a[1].out; ++j, y += a[2].out) {
        for (int64_t s = i * a[0].taps; s < (i + 1) * a[0].taps; ++s) {
          for (int64_t t = j * a[1].taps; t < (j + 1) * a[1].taps; ++t) {
            const int64_t row = (a[0].index[s] * a[1].in + a[1].index[t]) * a[2].in;
            f(p * size + row, y, a[0].weight[s] * a[1].weight[t],
              s == i * a[0].taps && t == j * a[1].taps);
          }
        }
      }
    }
  }
}

}  // namespace detail

/// y [planes, out...] from x [planes, in...].
template <class T>
void resample(int64_t planes, const ResampleAxis<T> (&a)[3], const T* x, T* y) {
  const ResampleAxis<T>& last = a[2];
  detail::for_rows(planes, a, [&](int64_t from, int64_t to, T weight, bool fresh) {
    const T* row = x + from;
    T* out = y + to;
    for (int64_t o = 0; o < last.out; ++o) {
      T sum = 0;
      for (int64_t t = o * last.taps; t < (o + 1) * last.taps; ++t) {
        sum += last.weight[t] * row[last.index[t]];
      }
      out[o] = (fresh ? T{0} : out[o]) + weight * sum;
    }
  });
}

/// The transpose of that map: dx [planes, in...] from g [planes, out...]. Overwrites dx.
template <class T>
void resample_backward(int64_t planes, const ResampleAxis<T> (&a)[3], const T* g, T* dx) {
  const ResampleAxis<T>& last = a[2];
  std::fill_n(dx, planes * a[0].in * a[1].in * a[2].in, T{0});
  detail::for_rows(planes, a, [&](int64_t to, int64_t from, T weight, bool) {
    T* row = dx + to;
    for (int64_t o = 0; o < last.out; ++o) {
      const T v = weight * g[from + o];
      for (int64_t t = o * last.taps; t < (o + 1) * last.taps; ++t) {
        row[last.index[t]] += last.weight[t] * v;
      }
    }
  });
}

}  // namespace ebb::kernels
