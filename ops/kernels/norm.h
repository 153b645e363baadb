// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "ebb/ops/kernels/dispatch.h"

// Normalisation of rows of n contiguous elements, n >= 1. T = float or double.
namespace ebb::kernels {

namespace detail {

template <class T>
struct NormTable {
  void (*layer)(const T* x, const T* w, const T* b, T* y, size_t n, double eps);
  void (*layer_backward)(const T* x, const T* w, const T* g, T* gx, T* gw, size_t n, double eps);
  void (*rms)(const T* x, const T* w, T* y, size_t n, double eps);
  void (*rms_backward)(const T* x, const T* w, const T* g, T* gx, T* gw, size_t n, double eps);
};
struct NormTables {
  NormTable<float> f32;
  NormTable<double> f64;
};
extern constinit const Dispatch<NormTables> norm;

template <class T>
const NormTable<T>& norm_table() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return norm->f32;
  } else {
    return norm->f64;
  }
}

}  // namespace detail

/// y = (x - mean(x)) / sqrt(var(x) + eps) * w + b, the variance that of the row as a population;
/// `w` and `b` may be null. y may be x.
template <class T>
void layer_norm_row(const T* x, const T* w, const T* b, T* y, size_t n, double eps) {
  detail::norm_table<T>().layer(x, w, b, y, n, eps);
}

/// From the gradient g of y: that of x in gx, which may be g; that of w is added to gw. Either may
/// be null, and `w` where there was none.
template <class T>
void layer_norm_backward_row(const T* x, const T* w, const T* g, T* gx, T* gw, size_t n,
                             double eps) {
  detail::norm_table<T>().layer_backward(x, w, g, gx, gw, n, eps);
}

/// y = x / sqrt(mean(x^2) + eps) * w; `w` may be null. y may be x.
template <class T>
void rms_norm_row(const T* x, const T* w, T* y, size_t n, double eps) {
  detail::norm_table<T>().rms(x, w, y, n, eps);
}

/// Its gradients, as those of layer_norm_row.
template <class T>
void rms_norm_backward_row(const T* x, const T* w, const T* g, T* gx, T* gw, size_t n, double eps) {
  detail::norm_table<T>().rms_backward(x, w, g, gx, gw, n, eps);
}

}  // namespace ebb::kernels
