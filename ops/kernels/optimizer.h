// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "ebb/ops/kernels/dispatch.h"

// The updates of first-order optimisers: one pass over contiguous rows of a parameter w, its
// gradient g and the optimiser's state, all of n elements, T = float or double. The rules are those
// that PyTorch 2 documents. Constants are computed in double and rounded to T once.
namespace ebb::kernels {

/// g = sign * g + weight_decay * w
/// velocity = momentum * velocity + keep * g   where there is a velocity, and g = velocity, or with
/// nesterov g = g + momentum * velocity
/// w = w - lr * g
struct SgdStep {
  double lr;
  double momentum;
  double keep;  // 1 - dampening
  double weight_decay;
  double sign;  // -1 to maximise
  bool nesterov;
};

/// w = decay * w;  g = sign * g + l2 * w
/// m = b1 * m + (1 - b1) * g;  v = b2 * v + (1 - b2) * g^2;  v_max = max(v_max, v) where there is
/// one w = w - rate * m / (sqrt(v_max or v) * scale + eps)
struct AdamStep {
  double decay;
  double l2;
  double sign;
  double b1;
  double b2;
  double rate;   // lr / (1 - b1^t)
  double scale;  // 1 / sqrt(1 - b2^t)
  double eps;
};

/// g = sign * g + weight_decay * w;  sum = sum + g^2;  w = w - rate * g / (sqrt(sum) + eps)
struct AdagradStep {
  double rate;
  double weight_decay;
  double sign;
  double eps;
};

/// g = sign * g + weight_decay * w;  square = rho * square + (1 - rho) * g^2
/// d = sqrt(delta + eps) / sqrt(square + eps) * g;  delta = rho * delta + (1 - rho) * d^2
/// w = w - lr * d
struct AdadeltaStep {
  double lr;
  double rho;
  double weight_decay;
  double sign;
  double eps;
};

/// g = sign * g + weight_decay * w;  square = alpha * square + (1 - alpha) * g^2
/// mean = alpha * mean + (1 - alpha) * g   where there is a mean
/// d = g / (sqrt(square - mean^2 or square) + eps)
/// velocity = momentum * velocity + d      where there is a velocity, and d = velocity
/// w = w - lr * d
struct RmspropStep {
  double lr;
  double alpha;
  double weight_decay;
  double sign;
  double eps;
  double momentum;
};

/// Many steps of Adam with gradient 0 in one:
///   w = decay * w - m * sum_j a[j] / (b[j] * s + eps),  s = sqrt(v_max or v)
///   m = m_factor * m;  v = v_factor * v
/// Where s >= series_from the sum is taken as 1/s * sum_k series[k] * (-largest/s)^k instead.
struct AdamReplay {
  static constexpr int kTerms = 8;
  double decay;
  double m_factor;
  double v_factor;
  double eps;
  const double* a;
  const double* b;
  size_t count;
  double series[kTerms];
  double largest;
  double series_from;  // infinity: never
};

namespace detail {

template <class T>
struct OptimizerTable {
  void (*sgd)(const SgdStep&, T* w, const T* g, T* velocity, size_t n);
  void (*adam)(const AdamStep&, T* w, const T* g, T* m, T* v, T* v_max, size_t n);
  void (*adagrad)(const AdagradStep&, T* w, const T* g, T* sum, size_t n);
  void (*adadelta)(const AdadeltaStep&, T* w, const T* g, T* square, T* delta, size_t n);
  void (*rmsprop)(const RmspropStep&, T* w, const T* g, T* square, T* mean, T* velocity, size_t n);
  void (*adam_replay)(const AdamReplay&, T* w, T* m, T* v, const T* v_max, size_t n);
  void (*mix)(const double* map, T* a, T* b, size_t n);
};
struct OptimizerTables {
  OptimizerTable<float> f32;
  OptimizerTable<double> f64;
};
extern constinit const Dispatch<OptimizerTables> optimizer;

template <class T>
const OptimizerTable<T>& optimizer_table() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return optimizer->f32;
  } else {
    return optimizer->f64;
  }
}

}  // namespace detail

/// `velocity` is null where there is no momentum.
template <class T>
void sgd_update(const SgdStep& s, T* w, const T* g, T* velocity, size_t n) {
  detail::optimizer_table<T>().sgd(s, w, g, velocity, n);
}
/// `v_max` is null but for AMSGrad.
template <class T>
void adam_update(const AdamStep& s, T* w, const T* g, T* m, T* v, T* v_max, size_t n) {
  detail::optimizer_table<T>().adam(s, w, g, m, v, v_max, n);
}
template <class T>
void adagrad_update(const AdagradStep& s, T* w, const T* g, T* sum, size_t n) {
  detail::optimizer_table<T>().adagrad(s, w, g, sum, n);
}
template <class T>
void adadelta_update(const AdadeltaStep& s, T* w, const T* g, T* square, T* delta, size_t n) {
  detail::optimizer_table<T>().adadelta(s, w, g, square, delta, n);
}
/// `mean` is null but for the centred form, `velocity` where there is no momentum.
template <class T>
void rmsprop_update(const RmspropStep& s, T* w, const T* g, T* square, T* mean, T* velocity,
                    size_t n) {
  detail::optimizer_table<T>().rmsprop(s, w, g, square, mean, velocity, n);
}
/// `v_max` is null but for AMSGrad.
template <class T>
void adam_replay(const AdamReplay& r, T* w, T* m, T* v, const T* v_max, size_t n) {
  detail::optimizer_table<T>().adam_replay(r, w, m, v, v_max, n);
}
/// (a, b) = (map[0] a + map[1] b, map[2] a + map[3] b)
template <class T>
void mix(const double* map, T* a, T* b, size_t n) {
  detail::optimizer_table<T>().mix(map, a, b, n);
}

}  // namespace ebb::kernels
