// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "ebb/ops/kernels/dispatch.h"

// Softmax and its relatives on one contiguous row of n float or double, and their backward forms.
// The largest element is subtracted first, so nothing overflows. A row with NaN or +infinity, or of
// -infinity only, has NaN for its softmax and log_softmax. `out` may be an input.
namespace ebb::kernels {

namespace detail {

template <class T>
struct SoftmaxTable {
  void (*softmax)(const T* x, T* out, size_t n);
  void (*log_softmax)(const T* x, T* out, size_t n);
  T (*logsumexp)(const T* x, size_t n);
  void (*softmax_backward)(const T* y, const T* g, T* out, size_t n);
  void (*log_softmax_backward)(const T* y, const T* g, T* out, size_t n);
};
struct SoftmaxTables {
  SoftmaxTable<float> f32;
  SoftmaxTable<double> f64;
};

extern constinit const Dispatch<SoftmaxTables> softmax;

template <class T>
const SoftmaxTable<T>& softmax_table() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return softmax->f32;
  } else {
    return softmax->f64;
  }
}

}  // namespace detail

/// out[i] = exp(x[i]) / sum_j exp(x[j])
template <class T>
void softmax_row(const T* x, T* out, size_t n) {
  detail::softmax_table<T>().softmax(x, out, n);
}
/// out[i] = x[i] - log sum_j exp(x[j])
template <class T>
void log_softmax_row(const T* x, T* out, size_t n) {
  detail::softmax_table<T>().log_softmax(x, out, n);
}
/// log sum_j exp(x[j]); -infinity for n = 0 and for a row of -infinity, +infinity if that occurs.
template <class T>
T logsumexp_row(const T* x, size_t n) {
  return detail::softmax_table<T>().logsumexp(x, n);
}
/// The gradient through y = softmax(x), from that of y: out = y * (g - dot(g, y)).
template <class T>
void softmax_backward_row(const T* y, const T* g, T* out, size_t n) {
  detail::softmax_table<T>().softmax_backward(y, g, out, n);
}
/// The gradient through y = log_softmax(x): out = g - exp(y) * sum(g).
template <class T>
void log_softmax_backward_row(const T* y, const T* g, T* out, size_t n) {
  detail::softmax_table<T>().log_softmax_backward(y, g, out, n);
}

}  // namespace ebb::kernels
