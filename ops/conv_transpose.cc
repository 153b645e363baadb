// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/ops/conv_util.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace ops {

namespace {

constexpr const char* kNames[] = {"x", "weight", "bias"};

// y[..,o,...] += bias[o].
void add_bias(const ConvAttrs& a, const Array& bias, const Array& y) {
  const Array b = contiguous(bias);
  const int64_t channels = b.numel();
  if (y.numel() == 0) return;
  const int64_t batch = is_batched(a, y.rank()) ? y.size(0) : 1;
  const int64_t inner = y.numel() / (batch * channels);
  visit_differentiable(y.dtype(), [&](auto t) {
    using T = decltype(t);
    T* p = y.mutable_data<T>();
    for (int64_t n = 0; n < batch; ++n) {
      for (int64_t c = 0; c < channels; ++c, p += inner) {
        const T v = b.data<T>()[c];
        for (int64_t i = 0; i < inner; ++i) p[i] += v;
      }
    }
  });
}

}  // namespace

template <int D>
struct ConvTranspose {
  using Attrs = OfDims<ConvTransposeAttrs, D>;
  static constexpr OpDoc kDocs[3] = {
      {"conv_transpose1d", "y[o,i+k] = bias[o] + sum over c, k of weight[c,o,k] x[c,i]",
       "x:[n,c,l] weight:[c,o,k] bias:[o] -> y:[n,o,l']"},
      {"conv_transpose2d", "y[o,i+k] = bias[o] + sum over c, k of weight[c,o,k] x[c,i]",
       "x:[n,c,h,w] weight:[c,o,kh,kw] bias:[o] -> y:[n,o,h',w']"},
      {"conv_transpose3d", "y[o,i+k] = bias[o] + sum over c, k of weight[c,o,k] x[c,i]",
       "x:[n,c,t,h,w] weight:[c,o,kt,kh,kw] bias:[o] -> y:[n,o,t',h',w']"}};
  static constexpr OpDoc kDoc = kDocs[D - 1];

  static std::string describe(const Attrs& a) {
    return absl::StrCat(ops::describe(a), ", output padding ",
                        Shape(a.output_padding, size_t{D}).str());
  }
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
    const Shape& x = in[0].shape;
    const Shape& w = in[1].shape;
    const int first = x.rank() - D;
    if (x[first - 1] != w[0] || w[0] % a.groups != 0) {
      conv_misfit(kDoc, a, in, names,
                  absl::StrCat("x has ", x[first - 1], " channels, which must be weight.size(0)=",
                               w[0], " and a multiple of groups=", a.groups));
    }
    int64_t channels;
    if (__builtin_mul_overflow(w[1], a.groups, &channels)) channels = -1;
    check_bias(kDoc, a, in, names, channels);
    Shape out = x;
    out[first - 1] = channels;
    for (int d = 0; d < D; ++d) {
      const int64_t extra = a.output_padding[d];
      if (extra < 0 || extra >= std::max(a.stride[d], a.dilation[d])) {
        throw ValueError(absl::StrCat(kDoc.name, ": the output padding is ", extra, " along axis ",
                                      d - D, "; it must be in [0, ",
                                      std::max(a.stride[d], a.dilation[d]), "), below the stride, ",
                                      a.stride[d], ", or the dilation, ", a.dilation[d]));
      }
      out[first + d] = conv_transpose_size(a, d, x[first + d], w[2 + d]) + extra;
    }
    return checked_result(kDoc, a, in, names, out);
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const auto shape = kernel_shape(a, out[0].shape(), in[1].shape(), in[0].shape());
    run_conv_grad_input(shape, in[0], in[1], out[0]);
    if (in.size() == 3) add_bias(a, in[2], out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    const Shape& w = in[1].shape;
    const auto inputs = static_cast<double>(in[0].shape.numel());
    return conv_cost(in, out, inputs * static_cast<double>(w.numel() / w[0]));
  }
  // The convolution from y to x: its result ends where x does, whatever output_padding added.
  static ConvAttrs reverse(const Attrs& a) {
    ConvAttrs conv = a;
    for (int d = 0; d < D; ++d) conv.pad_after[d] -= a.output_padding[d];
    return conv;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const ConvAttrs conv = reverse(a);
    Grads result(static_cast<size_t>(s.n_inputs()));
    if (s.needs(0)) result[0] = call_conv(conv, g[0], s.in(1));
    if (s.needs(1)) result[1] = call_conv_grad_weight(conv, g[0], s.in(0), s.in_shape(1));
    if (s.n_inputs() == 3 && s.needs(2)) result[2] = channel_sums(a, g[0]);
    return result;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    add_conv_gradients(s.attrs<Attrs>(), s, true, g[0], sink);
  }
};
using ConvTranspose1d = ConvTranspose<1>;
using ConvTranspose2d = ConvTranspose<2>;
using ConvTranspose3d = ConvTranspose<3>;
EBB_OP(ConvTranspose1d)
EBB_OP(ConvTranspose2d)
EBB_OP(ConvTranspose3d)

namespace {

template <int D>
Tensor conv_transpose(const Tensor& x, const Tensor& weight, const Tensor& bias,
                      const ConvTransposeOptions<D>& o, Where where) {
  typename ConvTranspose<D>::Attrs attrs;
  static_cast<ConvAttrs&>(attrs) = attrs_of<D>(
      {.stride = o.stride, .padding = o.padding, .dilation = o.dilation, .groups = o.groups});
  for (int d = 0; d < D; ++d) attrs.output_padding[d] = o.output_padding[d];
  if (bias.defined()) return apply_with<ConvTranspose<D>>(attrs, At(x, where), weight, bias);
  return apply_with<ConvTranspose<D>>(attrs, At(x, where), weight);
}

template <int D>
Tensor call_transpose(const ConvAttrs& a, const Tensor& dy, const Tensor& w, const Shape& in) {
  typename ConvTranspose<D>::Attrs attrs;
  static_cast<ConvAttrs&>(attrs) = a;
  for (int d = 0; d < D; ++d) {
    const int64_t reached =
        conv_transpose_size(a, d, dy.value().size(dy.dim() - D + d), w.size(2 + d));
    attrs.output_padding[d] = in[in.rank() - D + d] - reached;
  }
  return apply_with<ConvTranspose<D>>(attrs, At(dy), w);
}

}  // namespace

Tensor call_conv_transpose(const ConvAttrs& a, const Tensor& dy, const Tensor& w, const Shape& in) {
  if (a.dims == 1) return call_transpose<1>(a, dy, w, in);
  return a.dims == 2 ? call_transpose<2>(a, dy, w, in) : call_transpose<3>(a, dy, w, in);
}

}  // namespace ops

Tensor conv_transpose1d(const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const ConvTransposeOptions<1>& options, Where where) {
  return ops::conv_transpose(x, weight, bias, options, where);
}
Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const ConvTransposeOptions<2>& options, Where where) {
  return ops::conv_transpose(x, weight, bias, options, where);
}
Tensor conv_transpose3d(const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const ConvTransposeOptions<3>& options, Where where) {
  return ops::conv_transpose(x, weight, bias, options, where);
}

}  // namespace ebb
