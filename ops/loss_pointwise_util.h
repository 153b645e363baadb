// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/reduce.h"
#include "ebb/ops/kernels/unary.h"
#include "ebb/ops/loss_util.h"

// What the losses share that go element by element. Not for users.
namespace ebb::ops {

/// Elements that are worked on between two visits to the cache.
inline constexpr int64_t kLossBlock = 512;

/// y = op(x) on n elements.
template <class T>
void run_row(kernels::Unary op, const T* x, T* y, int64_t n, const kernels::UnaryParams& p = {}) {
  const kernels::UnaryKernels& k = kernels::unary_kernels(op);
  if constexpr (sizeof(T) == sizeof(float)) {
    k.forward32(x, y, static_cast<size_t>(n), p);
  } else {
    k.forward64(x, y, static_cast<size_t>(n), p);
  }
}

struct PointAttrs {
  Reduction reduction = Reduction::kMean;
  double parameter = 0;       // delta, margin or gamma
  double alpha = -1;          // of sigmoid_focal_loss
  bool log_target = false;    // of kl_div
  bool weighted = false;      // of bce_with_logits: input 2 is the weight
  bool pos_weighted = false;  // ... and the last input the pos_weight
};

// Rows of the inputs that a loss is worked out on: `count` of them, then the constants, or null.
template <class T>
struct Rows {
  const T* in[3] = {nullptr, nullptr, nullptr};
  const T* weight = nullptr;
  const T* pos_weight = nullptr;
};

// What the losses have in common that go element by element over kInputs inputs of one shape.
// An op gives its values on a row, and the slope by each input both on a row and on the tape:
//   template <class T> static void values(const Attrs&, const Rows<T>&, T* y, int64_t n);
//   template <class T> static void slopes(const Attrs&, int i, const Rows<T>&, T* d, int64_t n);
//     (but for a constant factor kFactor)
//   static Tensor slope(const Saved&, int i);
template <class Op, int kInputs>
struct PointwiseLoss {
  using Attrs = PointAttrs;
  static constexpr int kFactor = 1;
  static std::string describe(const Attrs& a) { return name_of(a.reduction); }
  static constexpr GradUses uses(int) { return {.in = kAll}; }

  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in,
                   kInputs + (a.weighted ? size_t{1} : 0) + (a.pos_weighted ? size_t{1} : 0));
    require_floating(Op::kDoc, in);
    require_same_dtype(Op::kDoc, in);
    for (size_t i = 1; i < kInputs; ++i) require_same_shape(Op::kDoc, in, i);
    for (size_t i = kInputs; i < in.size(); ++i) {
      Shape shape;
      if (broadcast_shapes(in[i].shape, in[0].shape, &shape) && shape == in[0].shape) continue;
      throw ShapeError(absl::StrCat(
          Op::kDoc.name, ": ", a.weighted && i == kInputs ? "weight" : "pos_weight", " is ",
          in[i].shape.str(), ", which does not repeat to input, ", in[0].shape.str()));
    }
    return {{in[0].dtype, loss_shape(a.reduction, in[0].shape)}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds = 2 * static_cast<double>(in[0].shape.numel());
    return c;
  }

  // The inputs without gaps, the constants repeated over the elements.
  class Inputs {
   public:
    template <class Get>
    Inputs(const Attrs& a, const Get& get) {
      for (int i = 0; i < kInputs; ++i) arrays_[i] = contiguous(get(i));
      int next = kInputs;
      if (a.weighted) weight_ = repeated(get(next++));
      if (a.pos_weighted) pos_weight_ = repeated(get(next));
    }
    int64_t numel() const { return arrays_[0].numel(); }
    template <class T>
    Rows<T> at(int64_t i) const {
      Rows<T> r;
      for (int k = 0; k < kInputs; ++k) r.in[k] = arrays_[k].template data<T>() + i;
      if (weight_.defined()) r.weight = weight_.data<T>() + i;
      if (pos_weight_.defined()) r.pos_weight = pos_weight_.data<T>() + i;
      return r;
    }

   private:
    Array repeated(const Array& a) const {
      const Shape shape = arrays_[0].shape();
      int64_t strides[kMaxRank];
      broadcast_strides(a, shape, strides);
      return contiguous(a.view(shape, strides, 0));
    }
    Array arrays_[kInputs];
    Array weight_;
    Array pos_weight_;
  };

  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Inputs inputs(a, [&](int i) { return in[static_cast<size_t>(i)]; });
    const int64_t n = inputs.numel();
    visit_differentiable(in[0].dtype(), [&](auto t) {
      using T = decltype(t);
      if (a.reduction == Reduction::kNone) {
        for (int64_t at = 0; at < n; at += kLossBlock) {
          Op::values(a, inputs.template at<T>(at), out[0].mutable_data<T>() + at,
                     std::min(kLossBlock, n - at));
        }
        return;
      }
      LossSum<T> sum(a.reduction, out[0]);
      T buffer[kLossBlock];
      for (int64_t at = 0; at < n; at += kLossBlock) {
        const int64_t size = std::min(kLossBlock, n - at);
        Op::values(a, inputs.template at<T>(at), buffer, size);
        sum.add(0, kernels::sum(buffer, static_cast<size_t>(size)));
      }
      sum.finish(static_cast<double>(n));
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const double n = static_cast<double>(s.in_array(0).numel());
    const Tensor gy = loss_gradient(s.attrs<Attrs>().reduction, g[0], n);
    Grads grads;
    for (int i = 0; i < kInputs; ++i) {
      grads.push_back(s.needs(i) ? gy * Op::slope(s, i) : Tensor());
    }
    return grads;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Inputs inputs(a, [&](int i) { return s.in_array(i); });
    const int64_t n = inputs.numel();
    const Array gy = contiguous(g[0]);
    visit_differentiable(gy.dtype(), [&](auto t) {
      using T = decltype(t);
      const LossGradient<T> gradient(a.reduction, gy, static_cast<double>(n));
      const bool each = a.reduction == Reduction::kNone;
      for (int i = 0; i < kInputs; ++i) {
        if (!s.needs(i)) continue;
        const Array dx = Array::empty_like(s.in_array(i));
        for (int64_t at = 0; at < n; at += kLossBlock) {
          const int64_t size = std::min(kLossBlock, n - at);
          T* d = dx.mutable_data<T>() + at;
          Op::slopes(a, i, inputs.template at<T>(at), d, size);
          if (each) {
            for (int64_t k = 0; k < size; ++k) d[k] *= Op::kFactor * gradient(at + k);
          } else if (const T scale = Op::kFactor * gradient(0); scale != 1) {
            kernels::scale(scale, d, d, static_cast<size_t>(size));
          }
        }
        sink.add(i, dx);
      }
    });
  }
};

}  // namespace ebb::ops
