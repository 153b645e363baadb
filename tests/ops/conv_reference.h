// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/conv.h"

// Convolution by its definition, one product at a time in double, and what its tests share.
namespace ebb::testing {

/// Of up to three axes; those that are not there have size 1.
struct RefConv {
  int dims = 2;
  int64_t groups = 1;
  int64_t stride[3] = {1, 1, 1};
  int64_t dilation[3] = {1, 1, 1};
  int64_t pad[3] = {};
  int64_t pad_after[3] = {};
  int64_t output_padding[3] = {};

  std::string str() const {
    const auto list = [&](const int64_t* v) { return Shape(v, static_cast<size_t>(dims)).str(); };
    return absl::StrCat("s", list(stride), " p", list(pad), " d", list(dilation), " g", groups);
  }
};

template <int D>
RefConv ref_conv(const ConvOptions<D>& o) {
  RefConv r{.dims = D, .groups = o.groups};
  for (int d = 0; d < D; ++d) {
    r.stride[d] = o.stride[d];
    r.dilation[d] = o.dilation[d];
    r.pad[d] = r.pad_after[d] = o.padding[d];
  }
  return r;
}
template <int D>
RefConv ref_conv(const ConvTransposeOptions<D>& o) {
  RefConv r{.dims = D, .groups = o.groups};
  for (int d = 0; d < D; ++d) {
    r.stride[d] = o.stride[d];
    r.dilation[d] = o.dilation[d];
    r.pad[d] = r.pad_after[d] = o.padding[d];
    r.output_padding[d] = o.output_padding[d];
  }
  return r;
}

/// Calls f(x, w, y) with the places of every product x w that is a part of y.
template <class F>
void for_each_term(const RefConv& r, const Shape& x, const Shape& w, const Shape& y, F&& f) {
  const int first = x.rank() - r.dims;
  const int64_t batch = first == 2 ? x[0] : 1;
  int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1}, kernel[3] = {1, 1, 1};
  for (int d = 0; d < r.dims; ++d) {
    in[d] = x[first + d];
    out[d] = y[first + d];
    kernel[d] = w[2 + d];
  }
  const int64_t channels = x[first - 1];
  const int64_t outs = y[first - 1];
  const int64_t per_group = outs / r.groups;
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t o = 0; o < outs; ++o) {
      for (int64_t c = 0; c < w[1]; ++c) {
        const int64_t channel = o / per_group * w[1] + c;
        for (int64_t a = 0; a < out[0] * out[1] * out[2]; ++a) {
          const int64_t at[3] = {a / (out[1] * out[2]), a / out[2] % out[1], a % out[2]};
          for (int64_t k = 0; k < kernel[0] * kernel[1] * kernel[2]; ++k) {
            const int64_t tap[3] = {k / (kernel[1] * kernel[2]), k / kernel[2] % kernel[1],
                                    k % kernel[2]};
            int64_t from = n * channels + channel;
            bool inside = true;
            for (int d = 0; d < 3; ++d) {
              const int64_t i = at[d] * r.stride[d] + tap[d] * r.dilation[d] - r.pad[d];
              inside = inside && i >= 0 && i < in[d];
              from = from * in[d] + i;
            }
            if (!inside) continue;
            f(static_cast<size_t>(from),
              static_cast<size_t>((o * w[1] + c) * kernel[0] * kernel[1] * kernel[2] + k),
              static_cast<size_t>((n * outs + o) * out[0] * out[1] * out[2] + a));
          }
        }
      }
    }
  }
}

/// y += b, channel by channel.
inline void add_ref_bias(int dims, const RefArray& b, RefArray& y) {
  const int at = y.shape.rank() - dims - 1;
  int64_t inner = 1;
  for (int i = at + 1; i < y.shape.rank(); ++i) inner *= y.shape[i];
  for (size_t i = 0; i < y.v.size(); ++i) {
    y.v[i] += b.v[i / static_cast<size_t>(inner) % static_cast<size_t>(y.shape[at])];
  }
}

inline Shape conv_result(const RefConv& r, const Shape& x, const Shape& w) {
  Shape y = x;
  const int first = x.rank() - r.dims;
  y[first - 1] = w[0];
  for (int d = 0; d < r.dims; ++d) {
    const int64_t span = r.dilation[d] * (w[2 + d] - 1) + 1;
    y[first + d] = (x[first + d] + r.pad[d] + r.pad_after[d] - span) / r.stride[d] + 1;
  }
  return y;
}

/// The convolution of x, weight and maybe a bias.
inline RefArray conv_by_definition(const RefConv& r, Span<const RefArray> in) {
  RefArray y(conv_result(r, in[0].shape, in[1].shape));
  for_each_term(r, in[0].shape, in[1].shape, y.shape,
                [&](size_t x, size_t w, size_t to) { y.v[to] += in[0].v[x] * in[1].v[w]; });
  if (in.size() > 2) add_ref_bias(r.dims, in[2], y);
  return y;
}
/// dx of the given shape from dy and w.
inline RefArray conv_grad_input_by_definition(const RefConv& r, const Shape& x, const RefArray& dy,
                                              const RefArray& w) {
  RefArray dx(x);
  for_each_term(r, x, w.shape, dy.shape, [&](size_t to, size_t weight, size_t from) {
    dx.v[to] += dy.v[from] * w.v[weight];
  });
  return dx;
}
/// dw of the given shape from x and dy.
inline RefArray conv_grad_weight_by_definition(const RefConv& r, const Shape& w, const RefArray& x,
                                               const RefArray& dy) {
  RefArray dw(w);
  for_each_term(r, x.shape, w, dy.shape, [&](size_t from, size_t to, size_t gradient) {
    dw.v[to] += x.v[from] * dy.v[gradient];
  });
  return dw;
}
/// The transposed convolution of x, weight and maybe a bias.
inline RefArray conv_transpose_by_definition(const RefConv& r, Span<const RefArray> in) {
  Shape y = in[0].shape;
  const int first = y.rank() - r.dims;
  y[first - 1] = in[1].shape[1] * r.groups;
  for (int d = 0; d < r.dims; ++d) {
    y[first + d] = (y[first + d] - 1) * r.stride[d] - r.pad[d] - r.pad_after[d] +
                   r.dilation[d] * (in[1].shape[2 + d] - 1) + r.output_padding[d] + 1;
  }
  RefArray result = conv_grad_input_by_definition(r, y, in[0], in[1]);
  if (in.size() > 2) add_ref_bias(r.dims, in[2], result);
  return result;
}

inline Tensor bias_of(Span<const Tensor> in) { return in.size() > 2 ? in[2] : Tensor(); }

inline Tensor call_conv(Span<const Tensor> in, const ConvOptions<1>& o) {
  return conv1d(in[0], in[1], bias_of(in), o);
}
inline Tensor call_conv(Span<const Tensor> in, const ConvOptions<2>& o) {
  return conv2d(in[0], in[1], bias_of(in), o);
}
inline Tensor call_conv(Span<const Tensor> in, const ConvOptions<3>& o) {
  return conv3d(in[0], in[1], bias_of(in), o);
}
inline Tensor call_conv(Span<const Tensor> in, const ConvTransposeOptions<1>& o) {
  return conv_transpose1d(in[0], in[1], bias_of(in), o);
}
inline Tensor call_conv(Span<const Tensor> in, const ConvTransposeOptions<2>& o) {
  return conv_transpose2d(in[0], in[1], bias_of(in), o);
}
inline Tensor call_conv(Span<const Tensor> in, const ConvTransposeOptions<3>& o) {
  return conv_transpose3d(in[0], in[1], bias_of(in), o);
}

/// What a sample is made of; Options are those of a convolution or of a transposed one.
template <class Options>
struct ConvCase {
  Shape x;
  Shape weight;
  Options options = {};
  bool bias = false;
};

/// A sample with `channels` of the result, against by_definition(the numbers, inputs).
template <class Options, class F>
Sample conv_sample(const ConvCase<Options>& c, const std::string& more, int64_t channels,
                   const F& by_definition) {
  const RefConv r = ref_conv(c.options);
  Sample s{.name = absl::StrCat(c.x.str(), " ", c.weight.str(), " ", r.str(), more,
                                c.bias ? " with bias" : ""),
           .inputs = {normal(c.x), normal(c.weight)},
           .call = [o = c.options](Span<const Tensor> in) { return call_conv(in, o); },
           .reference = [=](Span<const RefArray> in) { return by_definition(r, in); }};
  if (c.bias) s.inputs.push_back(normal({channels}));
  return s;
}

}  // namespace ebb::testing
