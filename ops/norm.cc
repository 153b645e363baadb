// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/norm.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/norm.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/unary.h"

namespace ebb {
namespace ops {

struct LayerNorm {
  static constexpr OpDoc kDoc{"layer_norm", "y = (x - mean) / sqrt(var + eps) * weight + bias",
                              "x:[...,n] weight:[n] bias:[n] -> y:[...,n]"};
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
    require_inputs(kDoc, in, std::clamp<size_t>(in.size(), 1, 3));
    require_floating(kDoc, in);
    require_same_dtype(kDoc, in);
    const Shape shape = normalized(in[0].shape, a.axes);
    for (size_t i = 1; i < in.size(); ++i) {
      if (in[i].shape == shape) continue;
      throw ShapeError(absl::StrCat("layer_norm: ", i == 1 ? "weight" : "bias", " is ",
                                    in[i].shape.str(), "; it must be ", shape.str()));
    }
    return {in[0]};
  }
  static size_t length(const Array& x, int axes) {
    return static_cast<size_t>(normalized(x.shape(), axes).numel());
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    const Array w = in.size() > 1 ? contiguous(in[1]) : Array();
    const Array b = in.size() > 2 ? contiguous(in[2]) : Array();
    const size_t n = length(x, a.axes);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* weight = w.defined() ? w.data<T>() : nullptr;
      const T* bias = b.defined() ? b.data<T>() : nullptr;
      const T* from = x.data<T>();
      T* to = out[0].mutable_data<T>();
      for (const T* end = from + x.numel(); from != end; from += n, to += n) {
        kernels::layer_norm_row(from, weight, bias, to, n, a.eps);
      }
    });
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds *= 4;  // the mean, the variance, the scaling, the weight
    return c;
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
    const Tensor x = s.in(0);
    const Tensor centred = x - mean(x, over, true);
    const Tensor scale = rsqrt(affine(mean(square(centred), over, true), 1, a.eps));
    const Tensor z = centred * scale;
    if (weight && s.needs(1)) result[1] = sum_to(g[0] * z, shape);
    if (s.needs(0)) {
      const Tensor h = weight ? g[0] * s.in(1) : g[0];
      result[0] = scale * (h - mean(h, over, true) - z * mean(h * z, over, true));
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
      const auto start = [](const Array& array) {
        return array.defined() ? array.mutable_data<T>() : nullptr;
      };
      const T* from = gy.data<T>();
      for (int64_t at = 0; at < gy.numel(); at += static_cast<int64_t>(n)) {
        if (needs_bias) kernels::add_into(from + at, start(gb), n);
        if (!x.defined()) continue;
        kernels::layer_norm_backward_row(start(x) + at, static_cast<const T*>(start(w)), from + at,
                                         gx.defined() ? start(gx) + at : nullptr, start(gw), n,
                                         a.eps);
      }
    });
    if (needs_bias) sink.add(2, gb);
    if (needs_weight) sink.add(1, gw);
    if (s.needs(0)) sink.add(0, gx);
  }
};
EBB_OP(LayerNorm)

}  // namespace ops

Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight,
                  const Tensor& bias, double eps, Where where) {
  const Shape shape = x.shape();
  const int axes = normalized_shape.rank();
  const bool fits = axes > 0 && axes <= shape.rank() && normalized_shape.numel() > 0 &&
                    ops::LayerNorm::normalized(shape, axes) == normalized_shape;
  if (!fits) {
    throw ShapeError(absl::StrCat("layer_norm: x is ", shape.str(), ", normalized_shape is ",
                                  normalized_shape.str(),
                                  "; x must end in it, and it must not be empty"));
  }
  const ops::LayerNorm::Attrs attrs{axes, eps};
  if (bias.defined()) {
    if (!weight.defined()) throw ValueError("layer_norm: there is a bias but no weight");
    return apply_with<ops::LayerNorm>(attrs, At(x, where), weight, bias);
  }
  if (weight.defined()) return apply_with<ops::LayerNorm>(attrs, At(x, where), weight);
  return apply_with<ops::LayerNorm>(attrs, At(x, where));
}

}  // namespace ebb
