// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/loss_pointwise_util.h"
#include "ebb/ops/unary.h"

// Losses that go element by element.
namespace ebb {
namespace ops {

const char* name_of(Reduction r) {
  return r == Reduction::kNone ? "none" : r == Reduction::kMean ? "mean" : "sum";
}

void require_same_shape(const OpDoc& doc, Span<const Meta> in, size_t i) {
  if (in[i].shape == in[0].shape) return;
  throw ShapeError(absl::StrCat(doc.name, ": input 0 is ", in[0].shape.str(), ", input ", i, " is ",
                                in[i].shape.str(), "; the shapes must be equal"));
}

void require_constant(const char* op, const char* name, const Tensor& t) {
  if (!t.defined() || !t.requires_grad() || !is_grad_enabled()) return;
  throw GradError(absl::StrCat(op, ": ", name,
                               " requires a gradient, but it is a constant of the loss; pass ",
                               name, ".detach()"));
}

namespace {

// 1 where z >= 0 or NaN, as a constant: the slope of max(0, z).
Tensor active(const Tensor& z) { return 1 - cast(z.detach() < 0.0, z.dtype()); }

// Losses of the difference d = input - target, even functions of it: their slopes by the two differ
// only in sign. An op turns a row of d into values or slopes where it lies:
//   template <class T> static void value(const Attrs&, T* d, int64_t n);
//   template <class T> static void slope_row(const Attrs&, T* d, int64_t n);
//   static Tensor slope_of(const Attrs&, const Tensor& d);
template <class Op>
struct DifferenceLoss : PointwiseLoss<Op, 2> {
  template <class T>
  static void subtract(const T* x, const T* t, T* d, int64_t n) {
    kernels::binary_fn(dtype_of<T>, kernels::Binary::kSub)(x, 1, t, 1, d, static_cast<size_t>(n));
  }
  template <class T>
  static void values(const PointAttrs& a, const Rows<T>& r, T* y, int64_t n) {
    subtract(r.in[0], r.in[1], y, n);
    Op::value(a, y, n);
  }
  template <class T>
  static void slopes(const PointAttrs& a, int i, const Rows<T>& r, T* d, int64_t n) {
    subtract(r.in[i], r.in[1 - i], d, n);
    Op::slope_row(a, d, n);
  }
  static Tensor slope(const Saved& s, int i) {
    return Op::slope_of(s.attrs<PointAttrs>(), s.in(i)-s.in(1 - i));
  }
};

}  // namespace

struct MseLoss : DifferenceLoss<MseLoss> {
  static constexpr OpDoc kDoc{"mse_loss", "y = (input - target)^2, reduced",
                              "input:[...] target:[...] -> y:[] or [...]"};
  static constexpr int kFactor = 2;
  template <class T>
  static void value(const Attrs&, T* d, int64_t n) {
    run_row(kernels::Unary::kSquare, d, d, n);
  }
  template <class T>
  static void slope_row(const Attrs&, T*, int64_t) {}
  static Tensor slope_of(const Attrs&, const Tensor& d) { return 2 * d; }
};
EBB_OP(MseLoss)

struct L1Loss : DifferenceLoss<L1Loss> {
  static constexpr OpDoc kDoc{"l1_loss", "y = |input - target|, reduced",
                              "input:[...] target:[...] -> y:[] or [...]"};
  template <class T>
  static void value(const Attrs&, T* d, int64_t n) {
    run_row(kernels::Unary::kAbs, d, d, n);
  }
  template <class T>
  static void slope_row(const Attrs&, T* d, int64_t n) {
    run_row(kernels::Unary::kSign, d, d, n);
  }
  static Tensor slope_of(const Attrs&, const Tensor& d) { return sign(d); }
};
EBB_OP(L1Loss)

struct HuberLoss : DifferenceLoss<HuberLoss> {
  static constexpr OpDoc kDoc{"huber_loss",
                              "y = |d| <= delta ? d^2/2 : delta(|d| - delta/2), reduced",
                              "input:[...] target:[...] -> y:[] or [...]"};
  static std::string describe(const Attrs& a) {
    return absl::StrCat(name_of(a.reduction), " delta=", a.parameter);
  }
  template <class T>
  static void value(const Attrs& a, T* d, int64_t n) {
    const T delta = static_cast<T>(a.parameter);
    for (int64_t k = 0; k < n; ++k) {
      const T c = d[k] > delta ? delta : d[k] < -delta ? -delta : d[k];
      d[k] = c * (d[k] - T{0.5} * c);
    }
  }
  template <class T>
  static void slope_row(const Attrs& a, T* d, int64_t n) {
    run_row(kernels::Unary::kClamp, d, d, n, {.a = -a.parameter, .b = a.parameter});
  }
  static Tensor slope_of(const Attrs& a, const Tensor& d) {
    return clamp(d, -a.parameter, a.parameter);
  }
};
EBB_OP(HuberLoss)

struct BceWithLogits : PointwiseLoss<BceWithLogits, 2> {
  static constexpr OpDoc kDoc{"bce_with_logits",
                              "y = -w (p t ln s + (1-t) ln(1-s)), s = sigmoid(input), reduced",
                              "input:[...] target:[...] -> y:[] or [...]"};
  // By l = ln(1 + e^-|x|), -ln s(x) is l or l - x and -ln(1 - s(x)) is l + x or l: nothing cancels.
  template <class T>
  static void values(const Attrs&, const Rows<T>& r, T* y, int64_t n) {
    const T* x = r.in[0];
    const T* t = r.in[1];
    for (int64_t k = 0; k < n; ++k) y[k] = std::abs(x[k]);
    run_row(kernels::Unary::kLogSigmoid, y, y, n);
    for (int64_t k = 0; k < n; ++k) {
      const T p = r.pos_weight != nullptr ? r.pos_weight[k] : T{1};
      y[k] = p * t[k] * (std::max(-x[k], T{0}) - y[k]) + (1 - t[k]) * (std::max(x[k], T{0}) - y[k]);
      if (r.weight != nullptr) y[k] *= r.weight[k];
    }
  }
  template <class T>
  static void slopes(const Attrs&, int i, const Rows<T>& r, T* d, int64_t n) {
    const T* x = r.in[0];
    const T* t = r.in[1];
    run_row(i == 0 ? kernels::Unary::kSigmoid : kernels::Unary::kLogSigmoid, x, d, n);
    for (int64_t k = 0; k < n; ++k) {
      const T p = r.pos_weight != nullptr ? r.pos_weight[k] : T{1};
      // By t: -p ln s(x) + ln(1 - s(x)), and ln(1 - s) = ln s - x.
      d[k] = i == 0 ? (1 - t[k]) * d[k] - p * t[k] * (1 - d[k]) : (1 - p) * d[k] - x[k];
      if (r.weight != nullptr) d[k] *= r.weight[k];
    }
  }
  static Tensor slope(const Saved& s, int i) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor x = s.in(0);
    const Tensor one(Array::scalar(x.dtype(), 1));
    const Tensor p = a.pos_weighted ? s.in(a.weighted ? 3 : 2).detach() : one;
    Tensor d;
    if (i == 0) {
      const Tensor t = s.in(1);
      const Tensor y = sigmoid(x);
      d = (1 - t) * y - p * t * (1 - y);
    } else {
      d = (1 - p) * logsigmoid(x) - x;
    }
    return a.weighted ? d * s.in(2).detach() : d;
  }
};
EBB_OP(BceWithLogits)

struct KlDiv : PointwiseLoss<KlDiv, 2> {
  static constexpr OpDoc kDoc{"kl_div", "y = t (ln t - input), or e^t (t - input), reduced",
                              "input:[...] target:[...] -> y:[] or [...]"};
  static std::string describe(const Attrs& a) {
    return absl::StrCat(name_of(a.reduction), a.log_target ? " log_target" : "");
  }
  template <class T>
  static void values(const Attrs& a, const Rows<T>& r, T* y, int64_t n) {
    const T* x = r.in[0];
    const T* t = r.in[1];
    run_row(a.log_target ? kernels::Unary::kExp : kernels::Unary::kLog, t, y, n);
    for (int64_t k = 0; k < n; ++k) {
      if (a.log_target) {
        y[k] *= t[k] - x[k];
      } else {
        y[k] = t[k] == 0 ? T{0} : t[k] * (y[k] - x[k]);
      }
    }
  }
  template <class T>
  static void slopes(const Attrs& a, int i, const Rows<T>& r, T* d, int64_t n) {
    const T* x = r.in[0];
    const T* t = r.in[1];
    if (i == 0 && !a.log_target) {
      for (int64_t k = 0; k < n; ++k) d[k] = -t[k];
      return;
    }
    run_row(a.log_target ? kernels::Unary::kExp : kernels::Unary::kLog, t, d, n);
    for (int64_t k = 0; k < n; ++k) {
      if (i == 0) {
        d[k] = -d[k];
      } else if (a.log_target) {
        d[k] *= t[k] - x[k] + 1;
      } else {
        d[k] = t[k] == 0 ? T{0} : d[k] - x[k] + 1;
      }
    }
  }
  static Tensor slope(const Saved& s, int i) {
    const Tensor t = s.in(1);
    if (s.attrs<Attrs>().log_target) {
      return i == 0 ? -exp(t) : exp(t) * (t - s.in(0) + 1);
    }
    if (i == 0) return -t;
    // Where t is 0 the input may be -infinity: it is left out, not multiplied by 0.
    const Tensor zero = eq(t.detach(), Tensor(Array::scalar(t.dtype(), 0)));
    return masked_fill(log(masked_fill(t, zero, 1)) - masked_fill(s.in(0), zero, 0) + 1, zero, 0);
  }
};
EBB_OP(KlDiv)

struct HingeLoss : PointwiseLoss<HingeLoss, 2> {
  static constexpr OpDoc kDoc{"hinge_loss", "y = max(0, margin - target input), reduced",
                              "input:[...] target:[...] -> y:[] or [...]"};
  static std::string describe(const Attrs& a) {
    return absl::StrCat(name_of(a.reduction), " margin=", a.parameter);
  }
  template <class T>
  static void values(const Attrs& a, const Rows<T>& r, T* y, int64_t n) {
    const T margin = static_cast<T>(a.parameter);
    for (int64_t k = 0; k < n; ++k) {
      const T z = margin - r.in[1][k] * r.in[0][k];
      y[k] = z < 0 ? T{0} : z;
    }
  }
  template <class T>
  static void slopes(const Attrs& a, int i, const Rows<T>& r, T* d, int64_t n) {
    const T margin = static_cast<T>(a.parameter);
    for (int64_t k = 0; k < n; ++k) {
      const T z = margin - r.in[1][k] * r.in[0][k];
      d[k] = z < 0 ? T{0} : -r.in[1 - i][k];
    }
  }
  static Tensor slope(const Saved& s, int i) {
    return -s.in(1 - i) * active(s.attrs<Attrs>().parameter - s.in(1) * s.in(0));
  }
};
EBB_OP(HingeLoss)

struct MarginRankingLoss : PointwiseLoss<MarginRankingLoss, 3> {
  static constexpr OpDoc kDoc{"margin_ranking_loss",
                              "y = max(0, margin - target (input1 - input2)), reduced",
                              "input1:[...] input2:[...] target:[...] -> y:[] or [...]"};
  static std::string describe(const Attrs& a) { return HingeLoss::describe(a); }
  template <class T>
  static void values(const Attrs& a, const Rows<T>& r, T* y, int64_t n) {
    const T margin = static_cast<T>(a.parameter);
    for (int64_t k = 0; k < n; ++k) {
      const T z = margin - r.in[2][k] * (r.in[0][k] - r.in[1][k]);
      y[k] = z < 0 ? T{0} : z;
    }
  }
  template <class T>
  static void slopes(const Attrs& a, int i, const Rows<T>& r, T* d, int64_t n) {
    const T margin = static_cast<T>(a.parameter);
    for (int64_t k = 0; k < n; ++k) {
      const T difference = r.in[0][k] - r.in[1][k];
      const T t = r.in[2][k];
      const T slope = i == 0 ? -t : i == 1 ? t : -difference;
      d[k] = margin - t * difference < 0 ? T{0} : slope;
    }
  }
  static Tensor slope(const Saved& s, int i) {
    const Tensor difference = s.in(0) - s.in(1);
    const Tensor t = s.in(2);
    const Tensor on = active(s.attrs<Attrs>().parameter - t * difference);
    return i == 0 ? -t * on : i == 1 ? t * on : -difference * on;
  }
};
EBB_OP(MarginRankingLoss)

}  // namespace ops

Tensor mse_loss(const Tensor& input, const Tensor& target, const LossOptions& options,
                Where where) {
  return apply_with<ops::MseLoss>({.reduction = options.reduction}, At(input, where), target);
}

Tensor l1_loss(const Tensor& input, const Tensor& target, const LossOptions& options, Where where) {
  return apply_with<ops::L1Loss>({.reduction = options.reduction}, At(input, where), target);
}

Tensor huber_loss(const Tensor& input, const Tensor& target, const HuberOptions& options,
                  Where where) {
  if (!(options.delta > 0)) {
    throw ValueError(absl::StrCat("huber_loss: delta is ", options.delta, "; it must be above 0"));
  }
  return apply_with<ops::HuberLoss>({.reduction = options.reduction, .parameter = options.delta},
                                    At(input, where), target);
}

Tensor smooth_l1_loss(const Tensor& input, const Tensor& target, const SmoothL1Options& options,
                      Where where) {
  if (!(options.beta >= 0)) {
    throw ValueError(
        absl::StrCat("smooth_l1_loss: beta is ", options.beta, "; it must not be negative"));
  }
  if (options.beta == 0) return l1_loss(input, target, {options.reduction}, where);
  const Tensor loss = huber_loss(input, target, {options.reduction, options.beta}, where);
  return affine(loss, 1 / options.beta, 0, where);
}

Tensor bce_with_logits(const Tensor& input, const Tensor& target, const BceOptions& options,
                       Where where) {
  const Tensor& weight = options.weight;
  const Tensor& pos_weight = options.pos_weight;
  ops::require_constant("bce_with_logits", "weight", weight);
  ops::require_constant("bce_with_logits", "pos_weight", pos_weight);
  const ops::PointAttrs attrs{.reduction = options.reduction,
                              .weighted = weight.defined(),
                              .pos_weighted = pos_weight.defined()};
  using Op = ops::BceWithLogits;
  const At at(input, where);
  if (attrs.weighted && attrs.pos_weighted) {
    return apply_with<Op>(attrs, at, target, weight, pos_weight);
  }
  if (attrs.weighted) return apply_with<Op>(attrs, at, target, weight);
  if (attrs.pos_weighted) return apply_with<Op>(attrs, at, target, pos_weight);
  return apply_with<Op>(attrs, at, target);
}

Tensor kl_div(const Tensor& input, const Tensor& target, const KlDivOptions& options, Where where) {
  return apply_with<ops::KlDiv>({.reduction = options.reduction, .log_target = options.log_target},
                                At(input, where), target);
}

Tensor hinge_loss(const Tensor& input, const Tensor& target, const MarginOptions& options,
                  Where where) {
  return apply_with<ops::HingeLoss>({.reduction = options.reduction, .parameter = options.margin},
                                    At(input, where), target);
}

Tensor margin_ranking_loss(const Tensor& input1, const Tensor& input2, const Tensor& target,
                           const MarginOptions& options, Where where) {
  return apply_with<ops::MarginRankingLoss>(
      {.reduction = options.reduction, .parameter = options.margin}, At(input1, where), input2,
      target);
}

}  // namespace ebb
