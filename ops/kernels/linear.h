// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/dispatch.h"

// A linear layer's bias and activation in one pass, forward and backward, on contiguous rows of
// float or double. Pointers need only the alignment of their element; n may be 0.
namespace ebb::kernels {

enum class Activation : uint8_t {
  kNone,
  kRelu,  ///< f'(0) = 0
  kTanh,  ///< as Unary::kTanh, and so on
  kSigmoid,
  kGelu,  ///< x Phi(x)
  kSilu,
  kCount,
};
inline constexpr int kActivationCount = static_cast<int>(Activation::kCount);

/// Whether the derivative is computed from f(z), so that z need not be kept.
constexpr bool activation_reads_output(Activation f) {
  return f != Activation::kGelu && f != Activation::kSilu;
}

namespace detail {

template <class T>
struct LinearTable {
  void (*forward[kActivationCount])(const T* x, const T* b, T* z, T* y, size_t n);
  void (*backward[kActivationCount])(const T* g, const T* saved, T* dz, T* db, size_t n);
};
struct LinearTables {
  LinearTable<float> f32;
  LinearTable<double> f64;
};
extern constinit const Dispatch<LinearTables> linear;

}  // namespace detail

/// z = x + b, y = f(z). `b` may be null for 0, `z` null where it is not wanted; any of the others
/// may be y, and z may be x.
template <class T>
void bias_activation(Activation f, const T* x, const T* b, T* z, T* y, size_t n) {
  detail::of_type<T>(*detail::linear).forward[static_cast<size_t>(f)](x, b, z, y, n);
}

/// dz = g f'(z), db += dz. `saved` is y where activation_reads_output(f), else z (of kNone it is
/// not read); `db` may be null; dz may be g or saved.
template <class T>
void bias_activation_backward(Activation f, const T* g, const T* saved, T* dz, T* db, size_t n) {
  detail::of_type<T>(*detail::linear).backward[static_cast<size_t>(f)](g, saved, dz, db, n);
}

/// z = W x + b, y = f(z) for W [m,n] with rows `ldw` apart, x [n], b, z and y [m]; `b` and `z` as
/// above. y overlaps none of the others but z.
template <class T>
void linear_forward(Activation f, int64_t m, int64_t n, const T* w, int64_t ldw, const T* x,
                    const T* b, T* z, T* y) {
  gemv(false, m, n, T{1}, w, ldw, x, T{0}, y);
  if (f == Activation::kNone && b == nullptr && z == nullptr) return;
  bias_activation(f, static_cast<const T*>(y), b, z, y, static_cast<size_t>(m));
}

/// The gradients of linear_forward with respect to its inputs, from that of y: dz [m] = g f'(z),
/// dx [n] = W' dz, dw [m,n] += dz x' with rows `ldw` apart, db [m] += dz. dx, dw and db may be null
/// where they are not wanted, `w` without dx and `x` without dw.
template <class T>
void linear_backward(Activation f, int64_t m, int64_t n, const T* w, int64_t ldw, const T* x,
                     const T* g, const T* saved, T* dz, T* dx, T* dw, T* db) {
  bias_activation_backward(f, g, saved, dz, db, static_cast<size_t>(m));
  if (dx != nullptr) gemv(true, m, n, T{1}, w, ldw, static_cast<const T*>(dz), T{0}, dx);
  if (dw != nullptr) ger(m, n, T{1}, static_cast<const T*>(dz), x, dw, ldw);
}

}  // namespace ebb::kernels
