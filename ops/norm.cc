// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/norm.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/norm.h"
#include "ebb/ops/norm_util.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/unary.h"

namespace ebb {
namespace ops {

int axes_behind(const char* op, int64_t channel_axis) {
  if (channel_axis < 0 && channel_axis >= -kMaxRank) return static_cast<int>(-1 - channel_axis);
  throw ValueError(absl::StrCat(op, ": channel_axis is ", channel_axis,
                                "; it is counted from the end, in [-", kMaxRank, ", -1]"));
}

void require_channels(const OpDoc& doc, Span<const Meta> in, int behind,
                      Span<const char* const> names) {
  require_floating(doc, in);
  require_same_dtype(doc, in);
  const Shape& x = in[0].shape;
  if (x.rank() <= behind) {
    throw ShapeError(absl::StrCat(doc.name, ": x is ", x.str(), "; it has no axis ", -1 - behind,
                                  " of channels"));
  }
  const Shape want{x[x.rank() - 1 - behind]};
  for (size_t i = 1; i < in.size(); ++i) {
    if (in[i].shape == want) continue;
    throw ShapeError(absl::StrCat(doc.name, ": x is ", x.str(), " with its channels at axis ",
                                  -1 - behind, ", ", names[i - 1], " is ", in[i].shape.str(),
                                  "; it must be ", want.str()));
  }
}

void require_eps(const char* op, double eps) {
  if (eps >= 0 && std::isfinite(eps)) return;
  throw ValueError(absl::StrCat(op, ": eps is ", eps, "; it must be finite and not negative"));
}

void require_weight(const char* op, const Tensor& weight, const Tensor& bias) {
  if (!bias.defined() || weight.defined()) return;
  throw ValueError(absl::StrCat(op, ": there is a bias but no weight"));
}

Tensor centred(const Tensor& x, const Axes& axes) {
  const Tensor c = x - mean(x, axes, true).detach();
  return c - mean(c, axes, true);
}

namespace {

// Ops that bring the last axes to a common scale; the derived op names the kernels of a row and
// gives the rule of the normalised row.
template <class Op>
struct RowNorm {
  struct Attrs {
    int axes = 1;  // how many of the last ones
    double eps = 1e-5;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axes=", a.axes, " eps=", a.eps);
  }
  static constexpr GradUses uses(int input) {
    return input == 0 ? GradUses{.in = 0b11} : input == 1 ? GradUses{.in = 0b01} : GradUses{};
  }
  static Shape normalized(const Shape& x, int axes) {
    return Shape(x.data() + x.rank() - axes, static_cast<size_t>(axes));
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, std::clamp<size_t>(in.size(), 1, Op::kMostInputs));
    require_floating(Op::kDoc, in);
    require_same_dtype(Op::kDoc, in);
    require_eps(Op::kDoc.name, a.eps);
    const Shape shape = normalized(in[0].shape, a.axes);
    for (size_t i = 1; i < in.size(); ++i) {
      if (in[i].shape == shape) continue;
      throw ShapeError(absl::StrCat(Op::kDoc.name, ": ", i == 1 ? "weight" : "bias", " is ",
                                    in[i].shape.str(), "; it must be ", shape.str()));
    }
    return {in[0]};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds *= 4;  // the mean, the variance, the scaling, the weight
    return c;
  }
  static size_t length(const Array& x, int axes) {
    return static_cast<size_t>(normalized(x.shape(), axes).numel());
  }
  template <class T>
  static T* start(const Array& array) {
    return array.defined() ? array.mutable_data<T>() : nullptr;
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    const Array w = in.size() > 1 ? contiguous(in[1]) : Array();
    const Array b = in.size() > 2 ? contiguous(in[2]) : Array();
    const size_t n = length(x, a.axes);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* from = x.data<T>();
      T* to = out[0].mutable_data<T>();
      for (const T* end = from + x.numel(); from != end; from += n, to += n) {
        Op::template row<T>(from, start<T>(w), start<T>(b), to, n, a.eps);
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Shape shape = normalized(g[0].shape(), a.axes);
    Grads result(static_cast<size_t>(s.n_inputs()));
    if (s.n_inputs() > 2 && s.needs(2)) result[2] = sum_to(g[0], shape);
    const bool weight = s.n_inputs() > 1;
    if (!s.needs(0) && !(weight && s.needs(1))) return result;

    Shape last;
    for (int i = 1; i <= a.axes; ++i) last.push_back(-i);
    const Axes over{Span<const int64_t>(last.data(), static_cast<size_t>(a.axes))};
    const Tensor c = Op::centre(s.in(0), over);
    const Tensor scale = rsqrt(affine(mean(square(c), over, true), 1, a.eps));
    const Tensor z = c * scale;
    if (weight && s.needs(1)) result[1] = sum_to(g[0] * z, shape);
    if (s.needs(0)) {
      const Tensor h = weight ? g[0] * s.in(1) : g[0];
      result[0] = scale * (Op::centre(h, over) - z * mean(h * z, over, true));
    }
    return result;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Array gy = contiguous(g.take(0));
    const size_t n = length(gy, a.axes);
    const Shape shape = normalized(gy.shape(), a.axes);
    const bool has_weight = s.n_inputs() > 1;
    const bool needs_weight = has_weight && s.needs(1);
    const bool needs_bias = s.n_inputs() > 2 && s.needs(2);
    const Array gw = needs_weight ? Array::zeros(gy.dtype(), shape) : Array();
    const Array gb = needs_bias ? Array::zeros(gy.dtype(), shape) : Array();
    const Array x = s.needs(0) || needs_weight ? contiguous(s.in_array(0)) : Array();
    const Array w = s.needs(0) && has_weight ? contiguous(s.in_array(1)) : Array();
    const Array gx = s.needs(0) ? reuse_or_new(gy) : Array();
    visit_differentiable(gy.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* from = gy.data<T>();
      for (int64_t at = 0; at < gy.numel(); at += static_cast<int64_t>(n)) {
        if (needs_bias) kernels::add_into(from + at, start<T>(gb), n);
        if (!x.defined()) continue;
        Op::template backward_row<T>(start<T>(x) + at, start<T>(w), from + at,
                                     gx.defined() ? start<T>(gx) + at : nullptr, start<T>(gw), n,
                                     a.eps);
      }
    });
    if (needs_bias) sink.add(2, gb);
    if (needs_weight) sink.add(1, gw);
    if (s.needs(0)) sink.add(0, gx);
  }
  // How many of the last axes of x have the shape `normalized_shape`.
  static int axes_of(const Tensor& x, const Shape& normalized_shape) {
    const Shape shape = x.shape();
    const int axes = normalized_shape.rank();
    const bool fits = axes > 0 && axes <= shape.rank() && normalized_shape.numel() > 0 &&
                      normalized(shape, axes) == normalized_shape;
    if (fits) return axes;
    throw ShapeError(absl::StrCat(Op::kDoc.name, ": x is ", shape.str(), ", normalized_shape is ",
                                  normalized_shape.str(),
                                  "; x must end in it, and it must not be empty"));
  }
};

}  // namespace

struct LayerNorm : RowNorm<LayerNorm> {
  static constexpr OpDoc kDoc{"layer_norm", "y = (x - mean) / sqrt(var + eps) * weight + bias",
                              "x:[...,n] weight:[n] bias:[n] -> y:[...,n]"};
  static constexpr size_t kMostInputs = 3;
  template <class T>
  static void row(const T* x, const T* w, const T* b, T* y, size_t n, double eps) {
    kernels::layer_norm_row(x, w, b, y, n, eps);
  }
  template <class T>
  static void backward_row(const T* x, const T* w, const T* g, T* gx, T* gw, size_t n, double eps) {
    kernels::layer_norm_backward_row(x, w, g, gx, gw, n, eps);
  }
  static Tensor centre(const Tensor& x, const Axes& over) { return centred(x, over); }
};
EBB_OP(LayerNorm)

struct RmsNorm : RowNorm<RmsNorm> {
  static constexpr OpDoc kDoc{"rms_norm", "y = x / sqrt(mean(x^2) + eps) * weight",
                              "x:[...,n] weight:[n] -> y:[...,n]"};
  static constexpr size_t kMostInputs = 2;
  template <class T>
  static void row(const T* x, const T* w, const T*, T* y, size_t n, double eps) {
    kernels::rms_norm_row(x, w, y, n, eps);
  }
  template <class T>
  static void backward_row(const T* x, const T* w, const T* g, T* gx, T* gw, size_t n, double eps) {
    kernels::rms_norm_backward_row(x, w, g, gx, gw, n, eps);
  }
  static Tensor centre(const Tensor& x, const Axes&) { return x; }
};
EBB_OP(RmsNorm)

}  // namespace ops

Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight,
                  const Tensor& bias, double eps, Where where) try {
  const int axes = ops::LayerNorm::axes_of(x, normalized_shape);
  return ops::apply_affine<ops::LayerNorm>({axes, eps}, At(x, where), weight, bias);
} catch (const Error&) {
  detail::rethrow_as("layer_norm");
}

Tensor rms_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight,
                std::optional<double> eps, Where where) try {
  const int axes = ops::RmsNorm::axes_of(x, normalized_shape);
  const double epsilon = x.dtype() == kFloat64 ? std::numeric_limits<double>::epsilon()
                                               : double{std::numeric_limits<float>::epsilon()};
  const ops::RmsNorm::Attrs attrs{axes, eps.value_or(epsilon)};
  if (weight.defined()) return apply_with<ops::RmsNorm>(attrs, At(x, where), weight);
  return apply_with<ops::RmsNorm>(attrs, At(x, where));
} catch (const Error&) {
  detail::rethrow_as("rms_norm");
}

}  // namespace ebb
