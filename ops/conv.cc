// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/conv.h"

#include "absl/strings/str_cat.h"
#include "ebb/ops/conv_util.h"
#include "ebb/ops/op_util.h"

namespace ebb {
namespace ops {

namespace {

constexpr const char* kNames[] = {"x", "weight", "bias"};
constexpr const char* kGradNames[] = {"x", "dy"};

// Channels of x, and of the weight for them.
void check_channels(const OpDoc& doc, const ConvAttrs& a, Span<const Meta> in,
                    Span<const char* const> names) {
  const Shape& x = in[0].shape;
  const Shape& w = in[1].shape;
  const int64_t channels = x[x.rank() - a.dims - 1];
  if (w[0] % a.groups != 0) {
    conv_misfit(doc, a, in, names,
                absl::StrCat("weight.size(0)=", w[0], " must be a multiple of groups=", a.groups));
  }
  if (channels % a.groups == 0 && channels / a.groups == w[1]) return;
  conv_misfit(doc, a, in, names,
              absl::StrCat("x has ", channels, " channels, which must be weight.size(1)=", w[1],
                           " times groups=", a.groups));
}

// The result's shape for x, `channels` and a kernel; ShapeError where the kernel does not fit in.
Shape result_shape(const OpDoc& doc, const ConvAttrs& a, Span<const Meta> in,
                   Span<const char* const> names, int64_t channels, const int64_t* kernel) {
  Shape out = in[0].shape;
  const int first = out.rank() - a.dims;
  out[first - 1] = channels;
  for (int d = 0; d < a.dims; ++d) {
    const int64_t n = out[first + d];
    out[first + d] = conv_size(a, d, n, kernel[d]);
    if (out[first + d] > 0) continue;
    conv_misfit(doc, a, in, names,
                absl::StrCat("along axis ", d - a.dims, " the kernel spans ",
                             a.dilation[d] * (kernel[d] - 1) + 1, " of ", n, " + ",
                             a.pad[d] + a.pad_after[d], " elements"));
  }
  return out;
}

}  // namespace

template <int D>
struct Conv {
  using Attrs = OfDims<ConvAttrs, D>;
  static constexpr OpDoc kDocs[3] = {
      {"conv1d", "y[o] = bias[o] + sum over c of weight[o,c] * x[c]",
       "x:[n,c,l] weight:[o,c,k] bias:[o] -> y:[n,o,l']"},
      {"conv2d", "y[o] = bias[o] + sum over c of weight[o,c] * x[c]",
       "x:[n,c,h,w] weight:[o,c,kh,kw] bias:[o] -> y:[n,o,h',w']"},
      {"conv3d", "y[o] = bias[o] + sum over c of weight[o,c] * x[c]",
       "x:[n,c,t,h,w] weight:[o,c,kt,kh,kw] bias:[o] -> y:[n,o,t',h',w']"}};
  static constexpr OpDoc kDoc = kDocs[D - 1];

  static std::string describe(const Attrs& a) { return ops::describe(a); }
  static constexpr GradUses uses(int input) {
    return input < 2 ? GradUses{.in = detail::bit(1 - input), .shapes = detail::bit(input)}
                     : GradUses{};
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, in.size() == 3 ? 3 : 2);
    const auto names = Span<const char* const>(kNames).first(in.size());
    check_conv(kDoc, a, in, names, D + 2);
    check_axes(kDoc, a, in, names, 0);
    check_axes(kDoc, a, in, names, 1);
    check_channels(kDoc, a, in, names);
    const Shape& w = in[1].shape;
    check_bias(kDoc, a, in, names, w[0]);
    const Shape out = result_shape(kDoc, a, in, names, w[0], w.data() + 2);
    return checked_result(kDoc, a, in, names, out);
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const auto shape = kernel_shape(a, in[0].shape(), in[1].shape(), out[0].shape());
    run_conv(shape, in[0], in[1], in.size() == 3 ? in[2] : Array(), out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    const Shape& w = in[1].shape;
    const auto outputs = static_cast<double>(out[0].shape.numel());
    return conv_cost(in, out, outputs * static_cast<double>(w.numel() / w[0]));
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    Grads result(static_cast<size_t>(s.n_inputs()));
    if (s.needs(0)) result[0] = call_conv_transpose(a, g[0], s.in(1), s.in_shape(0));
    if (s.needs(1)) result[1] = call_conv_grad_weight(a, s.in(0), g[0], s.in_shape(1));
    if (s.n_inputs() == 3 && s.needs(2)) result[2] = channel_sums(a, g[0]);
    return result;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    add_conv_gradients(s.attrs<Attrs>(), s, false, g[0], sink);
  }
};
using Conv1d = Conv<1>;
using Conv2d = Conv<2>;
using Conv3d = Conv<3>;
EBB_OP(Conv1d)
EBB_OP(Conv2d)
EBB_OP(Conv3d)

template <int D>
struct ConvGradWeight {
  using Attrs = OfDims<ConvGradWeightAttrs, D>;
  static constexpr OpDoc kDocs[3] = {
      {"conv1d_grad_weight", "dw[o,c,k] = sum over n, i of dy[n,o,i] x[n,c,i+k]",
       "x:[n,c,l] dy:[n,o,l] -> dw:[o,c,k]"},
      {"conv2d_grad_weight", "dw[o,c,k] = sum over n, i of dy[n,o,i] x[n,c,i+k]",
       "x:[n,c,h,w] dy:[n,o,h,w] -> dw:[o,c,kh,kw]"},
      {"conv3d_grad_weight", "dw[o,c,k] = sum over n, i of dy[n,o,i] x[n,c,i+k]",
       "x:[n,c,t,h,w] dy:[n,o,t,h,w] -> dw:[o,c,kt,kh,kw]"}};
  static constexpr OpDoc kDoc = kDocs[D - 1];

  static std::string describe(const Attrs& a) {
    return absl::StrCat("kernel ", Shape(a.kernel, size_t{D}).str(), ", ", ops::describe(a));
  }
  static constexpr GradUses uses(int input) {
    return {.in = detail::bit(1 - input), .shapes = detail::bit(input)};
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    check_conv(kDoc, a, in, kGradNames, 0);
    check_axes(kDoc, a, in, kGradNames, 0);
    check_axes(kDoc, a, in, kGradNames, 1);
    const Shape& x = in[0].shape;
    const Shape& dy = in[1].shape;
    const int64_t c = x[x.rank() - D - 1];
    const int64_t o = dy[dy.rank() - D - 1];
    if (c % a.groups != 0 || o % a.groups != 0) {
      conv_misfit(
          kDoc, a, in, kGradNames,
          absl::StrCat("the channels ", c, " and ", o, " must be multiples of groups=", a.groups));
    }
    Shape out{o, c / a.groups};
    for (int d = 0; d < D; ++d) {
      if (a.kernel[d] < 1 || a.kernel[d] > x[x.rank() - D + d] + a.pad[d] + a.pad_after[d]) {
        conv_misfit(kDoc, a, in, kGradNames,
                    absl::StrCat("the kernel is ", Shape(a.kernel, size_t{D}).str()));
      }
      out.push_back(a.kernel[d]);
    }
    const Shape want = result_shape(kDoc, a, in, kGradNames, o, a.kernel);
    if (dy != want) {
      conv_misfit(kDoc, a, in, kGradNames,
                  absl::StrCat("of a kernel ", Shape(a.kernel, size_t{D}).str(), " dy must be ",
                               want.str()));
    }
    return checked_result(kDoc, a, in, kGradNames, out);
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const auto shape = kernel_shape(a, in[0].shape(), out[0].shape(), in[1].shape());
    run_conv_grad_weight(shape, in[0], in[1], out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    const Shape& w = out[0].shape;
    const auto dy = static_cast<double>(in[1].shape.numel());
    return conv_cost(in, out, dy * static_cast<double>(w.numel() / w[0]));
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    return {s.needs(0) ? call_conv_transpose(a, s.in(1), g[0], s.in_shape(0)) : Tensor(),
            s.needs(1) ? call_conv(a, s.in(0), g[0]) : Tensor()};
  }
};
using Conv1dGradWeight = ConvGradWeight<1>;
using Conv2dGradWeight = ConvGradWeight<2>;
using Conv3dGradWeight = ConvGradWeight<3>;
EBB_OP(Conv1dGradWeight)
EBB_OP(Conv2dGradWeight)
EBB_OP(Conv3dGradWeight)

namespace {

template <int D>
Tensor conv(const Tensor& x, const Tensor& weight, const Tensor& bias,
            const ConvOptions<D>& options, Where where) {
  typename Conv<D>::Attrs attrs(attrs_of(options));
  if (attrs.same && weight.defined() && weight.dim() == D + 2) {
    resolve_same(attrs, weight.value().dims() + 2);
  }
  if (bias.defined()) return apply_with<Conv<D>>(attrs, At(x, where), weight, bias);
  return apply_with<Conv<D>>(attrs, At(x, where), weight);
}

template <int D>
Tensor grad_weight(const Tensor& x, const Tensor& dy, const PerAxis<D>& kernel,
                   const ConvOptions<D>& options, Where where) {
  typename ConvGradWeight<D>::Attrs attrs;
  static_cast<ConvAttrs&>(attrs) = attrs_of(options);
  for (int d = 0; d < D; ++d) attrs.kernel[d] = kernel[d];
  if (attrs.same) resolve_same(attrs, attrs.kernel);
  return apply_with<ConvGradWeight<D>>(attrs, At(x, where), dy);
}

// Calls f<D>(...) for the number of axes.
template <class F>
Tensor with_dims(int dims, F&& f) {
  if (dims == 1) return f.template operator()<1>();
  return dims == 2 ? f.template operator()<2>() : f.template operator()<3>();
}

}  // namespace

Tensor call_conv(const ConvAttrs& a, const Tensor& x, const Tensor& w) {
  return with_dims(
      a.dims, [&]<int D>() { return apply_with<Conv<D>>(typename Conv<D>::Attrs(a), At(x), w); });
}

Tensor call_conv_grad_weight(const ConvAttrs& a, const Tensor& x, const Tensor& dy,
                             const Shape& weight) {
  return with_dims(a.dims, [&]<int D>() {
    typename ConvGradWeight<D>::Attrs attrs;
    static_cast<ConvAttrs&>(attrs) = a;
    for (int d = 0; d < D; ++d) attrs.kernel[d] = weight[2 + d];
    return apply_with<ConvGradWeight<D>>(attrs, At(x), dy);
  });
}

}  // namespace ops

Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias,
              const ConvOptions<1>& options, Where where) {
  return ops::conv(x, weight, bias, options, where);
}
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias,
              const ConvOptions<2>& options, Where where) {
  return ops::conv(x, weight, bias, options, where);
}
Tensor conv3d(const Tensor& x, const Tensor& weight, const Tensor& bias,
              const ConvOptions<3>& options, Where where) {
  return ops::conv(x, weight, bias, options, where);
}

Tensor conv1d_grad_weight(const Tensor& x, const Tensor& dy, PerAxis<1> kernel,
                          const ConvOptions<1>& options, Where where) {
  return ops::grad_weight(x, dy, kernel, options, where);
}
Tensor conv2d_grad_weight(const Tensor& x, const Tensor& dy, PerAxis<2> kernel,
                          const ConvOptions<2>& options, Where where) {
  return ops::grad_weight(x, dy, kernel, options, where);
}
Tensor conv3d_grad_weight(const Tensor& x, const Tensor& dy, PerAxis<3> kernel,
                          const ConvOptions<3>& options, Where where) {
  return ops::grad_weight(x, dy, kernel, options, where);
}

}  // namespace ebb
