// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/ops/loss.h"
#include "ebb/ops/op_util.h"

// What the families of losses share. Not for users.
namespace ebb::ops {

/// "mean", "sum", "none".
const char* name_of(Reduction r);

/// The shape of a loss whose elements or samples have shape `each`.
inline Shape loss_shape(Reduction r, const Shape& each) {
  return r == Reduction::kNone ? each : Shape();
}

/// Throws ShapeError where input i has another shape than input 0.
void require_same_shape(const OpDoc& doc, Span<const Meta> in, size_t i);
/// Throws GradError where a constant of a loss is to be differentiated.
void require_constant(const char* op, const char* name, const Tensor& t);

/// Collects the losses of the samples.
template <class T>
class LossSum {
 public:
  LossSum(Reduction r, const Array& out) : reduction_(r), out_(out.mutable_data<T>()) {}

  void add(int64_t i, double loss) {
    if (reduction_ == Reduction::kNone) {
      out_[i] = static_cast<T>(loss);
    } else {
      total_ += loss;
    }
  }
  /// `count`: what the mean divides by.
  void finish(double count) {
    if (reduction_ == Reduction::kSum) *out_ = static_cast<T>(total_);
    if (reduction_ == Reduction::kMean) *out_ = static_cast<T>(total_ / count);
  }

 private:
  Reduction reduction_;
  T* out_;
  double total_ = 0;
};

/// The gradient of the loss of each sample, from that of the whole.
template <class T>
class LossGradient {
 public:
  /// `g` contiguous; it must outlive this.
  LossGradient(Reduction r, const Array& g, double count)
      : g_(g.data<T>()),
        step_(r == Reduction::kNone ? 1 : 0),
        scale_(r == Reduction::kMean ? 1 / count : 1) {}
  T operator()(int64_t i) const { return static_cast<T>(scale_ * g_[i * step_]); }

 private:
  const T* g_;
  int64_t step_;
  double scale_;
};
/// The same on the tape; broadcasts against the losses of the samples.
inline Tensor loss_gradient(Reduction r, const Tensor& g, double count) {
  return r == Reduction::kMean ? g / count : g;
}

}  // namespace ebb::ops
