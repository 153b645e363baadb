// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ebb/ebb.h>
#include <cmath>

// y = x sigmoid(b x), with a trainable b: Ramachandran, Zoph, Le 2017, "Searching for activation
// functions". An op with a fused backward pass, in a file of one's own.
struct Swish {
  static constexpr ebb::OpDoc kDoc{"swish", "y = x * sigmoid(b x), elementwise",
                                   "x:[...] b:[] -> y:[...]"};
  struct Attrs {};

  // Shapes and types of the outputs; what does not fit is refused here, before anything is done.
  static ebb::Metas infer(const Attrs&, ebb::Span<const ebb::Meta> in) {
    ebb::require_inputs(kDoc, in, 2);
    ebb::require_floating(kDoc, in);
    ebb::require_same_dtype(kDoc, in);
    if (in[1].shape.rank() != 0) {
      throw ebb::ShapeError("swish: b is " + in[1].shape.str() + "; it must be a scalar");
    }
    return {in[0]};
  }

  // Values. Inputs may be strided views; the output is contiguous.
  static void forward(const Attrs&, ebb::Span<const ebb::Array> in, ebb::Span<ebb::Array> out) {
    ebb::visit_differentiable(in[0].dtype(), [&](auto type) {
      using T = decltype(type);
      const ebb::Array x = ebb::contiguous(in[0]);
      const T b = *in[1].data<T>();
      const T* from = x.data<T>();
      T* to = out[0].mutable_data<T>();
      for (int64_t i = 0; i < x.numel(); ++i) to[i] = from[i] / (1 + std::exp(-b * from[i]));
    });
  }

  // The rule, in tensors: it can be differentiated again. With s = sigmoid(b x), y = x s:
  //   dy/dx = s + b y (1 - s),   dy/db = x y (1 - s)
  static ebb::Grads backward(const ebb::Saved& saved, const ebb::OutGrads& g) {
    const ebb::Tensor x = saved.in(0);
    const ebb::Tensor b = saved.in(1);
    const ebb::Tensor s = sigmoid(b * x);
    const ebb::Tensor rest = x * s * (1 - s);
    return {g[0] * (s + b * rest), (g[0] * x * rest).sum()};
  }

  // The same in one pass over memory, for whenever the gradient itself is not differentiated.
  static void backward_values(const ebb::Saved& saved, const ebb::ArrayGrads& g,
                              ebb::GradSink& sink) {
    ebb::visit_differentiable(g[0].dtype(), [&](auto type) {
      using T = decltype(type);
      const ebb::Array gy = ebb::contiguous(g[0]);
      const ebb::Array x = ebb::contiguous(saved.in_array(0));
      const T b = *saved.in_array(1).data<T>();
      const ebb::Array gx = ebb::Array::empty_like(x);
      double gb = 0;
      for (int64_t i = 0; i < x.numel(); ++i) {
        const T xi = x.data<T>()[i];
        const T s = 1 / (1 + std::exp(-b * xi));
        const T rest = xi * s * (1 - s);
        const T gi = gy.data<T>()[i];
        gx.mutable_data<T>()[i] = gi * (s + b * rest);
        gb += static_cast<double>(gi * xi * rest);
      }
      if (saved.needs(0)) sink.add(0, gx);
      if (saved.needs(1)) sink.add(1, ebb::Array::scalar(x.dtype(), gb));
    });
  }
};

inline ebb::Tensor swish(const ebb::Tensor& x, const ebb::Tensor& b) {
  return ebb::apply<Swish>(x, b);
}
