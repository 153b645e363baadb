// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "ebb/ops/kernels/dispatch.h"

// Normalisation of images and the like, channel by channel or in groups of them. T = float or
// double.
namespace ebb::kernels {

/// Numbers that are brought to mean 0 and variance 1 together: `runs` runs, at least one, of `len`
/// neighbours, at least one. Run k starts `stride` elements after the one before it and has the
/// weight and bias at k * step.
struct NormSet {
  size_t runs;
  size_t len;
  ptrdiff_t stride;
  ptrdiff_t step;
};

/// What was found in a set.
struct NormStatistics {
  double mean;
  double variance;  ///< of the set as a population
};

namespace detail {

template <class T>
struct NormChannelTable {
  NormStatistics (*forward)(const NormSet& set, const T* x, const T* w, const T* b, T* y,
                            double eps);
  void (*backward)(const NormSet& set, const T* x, const T* w, const T* g, T* gx, T* gw, T* gb,
                   double* sums, double eps);
  void (*shift_scale)(const T* x, T shift, T scale, T bias, T* y, size_t n);
  void (*gradient_sums)(const T* x, T shift, const T* g, size_t n, double* sums);
};
struct NormChannelTables {
  NormChannelTable<float> f32;
  NormChannelTable<double> f64;
};
extern constinit const Dispatch<NormChannelTables> norm_channel;

template <class T>
const NormChannelTable<T>& norm_channel_table() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return norm_channel->f32;
  } else {
    return norm_channel->f64;
  }
}

}  // namespace detail

/// y = (x - mean) / sqrt(var + eps) * w + b over a set; `w` and `b` may be null. y may be x.
template <class T>
NormStatistics norm_set(const NormSet& set, const T* x, const T* w, const T* b, T* y, double eps) {
  return detail::norm_channel_table<T>().forward(set, x, w, b, y, eps);
}

/// From the gradient g of y: that of x in gx, which may be g; those of w and b are added to gw and
/// gb. Each may be null, and `w` where there was none. `sums` is scratch space for 2 numbers a run.
template <class T>
void norm_set_backward(const NormSet& set, const T* x, const T* w, const T* g, T* gx, T* gw, T* gb,
                       double* sums, double eps) {
  detail::norm_channel_table<T>().backward(set, x, w, g, gx, gw, gb, sums, eps);
}

/// y = (x - shift) * scale + bias over a row; y may be x.
template <class T>
void shift_scale_row(const T* x, T shift, T scale, T bias, T* y, size_t n) {
  detail::norm_channel_table<T>().shift_scale(x, shift, scale, bias, y, n);
}

/// Adds the sum of g to sums[0], and that of g * (x - shift) to sums[1].
template <class T>
void gradient_sums_row(const T* x, T shift, const T* g, size_t n, double* sums) {
  detail::norm_channel_table<T>().gradient_sums(x, shift, g, n, sums);
}

}  // namespace ebb::kernels
