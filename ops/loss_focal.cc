// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/loss_pointwise_util.h"
#include "ebb/ops/unary.h"

// The focal loss of detectors.
namespace ebb {
namespace ops {

// With p = sigmoid(x), n = 1 - p, q = t n + (1 - t) p, how far off the answer is, and
// ce = -t ln p - (1 - t) ln n: y = a q^gamma ce, where a = t alpha + (1 - t) (1 - alpha).
struct SigmoidFocalLoss : PointwiseLoss<SigmoidFocalLoss, 2> {
  static constexpr OpDoc kDoc{"sigmoid_focal_loss",
                              "y = a q^gamma bce_with_logits(input, target), q = |target - s| for "
                              "targets 0 and 1, s = sigmoid(input), reduced",
                              "input:[...] target:[...] -> y:[] or [...]"};
  static std::string describe(const Attrs& a) {
    return absl::StrCat(name_of(a.reduction), " alpha=", a.alpha, " gamma=", a.parameter);
  }

  // A block of the loss's parts, none of them a difference that cancels.
  template <class T>
  struct Parts {
    T small[kLossBlock];  // the smaller of p and n
    T log[kLossBlock];    // -ln of the larger
    T off[kLossBlock];    // q
    T power[kLossBlock];  // q^gamma

    Parts(const Attrs& a, const T* x, const T* t, int64_t n) {
      for (int64_t k = 0; k < n; ++k) small[k] = -std::abs(x[k]);
      for (int64_t k = 0; k < n; ++k) log[k] = -small[k];
      run_row(kernels::Unary::kSigmoid, small, small, n);
      run_row(kernels::Unary::kLogSigmoid, log, log, n);
      for (int64_t k = 0; k < n; ++k) {
        log[k] = -log[k];
        off[k] = t[k] * negative(x, k) + (1 - t[k]) * positive(x, k);
      }
      run_row(kernels::Unary::kPowScalar, off, power, n, {.a = a.parameter});
    }
    T positive(const T* x, int64_t k) const { return x[k] >= 0 ? 1 - small[k] : small[k]; }
    T negative(const T* x, int64_t k) const { return x[k] >= 0 ? small[k] : 1 - small[k]; }
    T cross_entropy(const T* x, const T* t, int64_t k) const {
      return t[k] * (std::max(-x[k], T{0}) + log[k]) + (1 - t[k]) * (std::max(x[k], T{0}) + log[k]);
    }
  };
  // a = share * t + rest.
  template <class T>
  static T share(const Attrs& a) {
    return a.alpha < 0 ? T{0} : static_cast<T>(2 * a.alpha - 1);
  }
  template <class T>
  static T rest(const Attrs& a) {
    return a.alpha < 0 ? T{1} : static_cast<T>(1 - a.alpha);
  }

  template <class T>
  static void values(const Attrs& a, const Rows<T>& r, T* y, int64_t n) {
    const T* x = r.in[0];
    const T* t = r.in[1];
    const Parts<T> parts(a, x, t, n);
    for (int64_t k = 0; k < n; ++k) {
      if (!(t[k] >= 0 && t[k] <= 1)) {
        throw ValueError(
            absl::StrCat("sigmoid_focal_loss: a target is ", t[k], "; it must be in [0, 1]"));
      }
      y[k] = (share<T>(a) * t[k] + rest<T>(a)) * parts.power[k] * parts.cross_entropy(x, t, k);
    }
  }

  template <class T>
  static void slopes(const Attrs& a, int i, const Rows<T>& r, T* d, int64_t n) {
    const T* x = r.in[0];
    const T* t = r.in[1];
    const Parts<T> parts(a, x, t, n);
    const T gamma = static_cast<T>(a.parameter);
    for (int64_t k = 0; k < n; ++k) {
      const T p = parts.positive(x, k);
      const T m = parts.negative(x, k);
      const T ce = parts.cross_entropy(x, t, k);
      const T factor = share<T>(a) * t[k] + rest<T>(a);
      const T q = parts.off[k];
      if (i == 0) {
        // q'/q has a limit where q vanishes, and q^gamma is 0 there but for gamma 0.
        const T relative = q > 0 ? p * m * (1 - 2 * t[k]) / q : T{0};
        d[k] = factor * parts.power[k] * ((1 - t[k]) * p - t[k] * m + gamma * relative * ce);
      } else {
        // The cross entropy vanishes as fast as q does.
        const T relative = q > 0 ? (m - p) * (ce / q) : T{0};
        d[k] = parts.power[k] * (share<T>(a) * ce + factor * (gamma * relative - x[k]));
      }
    }
  }

  static Tensor slope(const Saved& s, int i) {
    const Attrs& a = s.attrs<Attrs>();
    const double gamma = a.parameter;
    const Tensor x = s.in(0);
    const Tensor t = s.in(1);
    const Tensor p = sigmoid(x);
    const Tensor m = sigmoid(-x);
    // Above 0, so that its powers below 0 times what vanishes with it are 0.
    const double tiny = x.dtype() == kFloat64 ? std::numeric_limits<double>::min()
                                              : std::numeric_limits<float>::min();
    const Tensor off = t * m + (1 - t) * p;
    const Tensor q = clamp(off, tiny, std::numeric_limits<double>::infinity());
    const Tensor ce = -(t * logsigmoid(x) + (1 - t) * logsigmoid(-x));
    Tensor power = pow(q, gamma);
    if (gamma != 0) power = where(off > 0, power, zeros_like(power));
    const Tensor factor = share<double>(a) * t + rest<double>(a);
    const Tensor q_slope = i == 0 ? p * m * (1 - 2 * t) : m - p;
    const Tensor ce_slope = i == 0 ? (1 - t) * p - t * m : -x;
    Tensor d = power * ce_slope;
    if (gamma != 0) d = d + gamma * power * (q_slope / q) * ce;
    d = factor * d;
    return i == 0 ? d : d + share<double>(a) * power * ce;
  }
};
EBB_OP(SigmoidFocalLoss)

}  // namespace ops

Tensor sigmoid_focal_loss(const Tensor& input, const Tensor& target, double alpha, double gamma,
                          Reduction reduction, Where where) {
  if (!(alpha == -1 || (alpha >= 0 && alpha <= 1)) || !(gamma >= 0)) {
    throw ValueError(absl::StrCat("sigmoid_focal_loss: alpha is ", alpha, ", gamma ", gamma,
                                  "; alpha must be in [0, 1] or -1, gamma at least 0"));
  }
  return apply_with<ops::SigmoidFocalLoss>(
      {.reduction = reduction, .parameter = gamma, .alpha = alpha}, At(input, where), target);
}

}  // namespace ebb
