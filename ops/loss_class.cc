// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/reduce.h"
#include "ebb/ops/kernels/softmax.h"
#include "ebb/ops/loss_util.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/reduce_util.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/softmax.h"

// Losses of the choice of a class. With q_c the weight that the target gives to class c (one class,
// a few of them smoothed, or probabilities), the loss of a sample is -sum_c q_c ln p_c, and its
// gradient by the scores is p sum_c q_c - q.
namespace ebb {
namespace ops {

namespace {

enum class TargetKind : uint8_t {
  kLabel,          // one sample, its class among the attributes
  kIndices,        // input 1 holds classes
  kProbabilities,  // input 1 holds a distribution for each sample
};

struct ClassAttrs {
  double smoothing = 0;
  int64_t ignore_index = -100;
  int64_t label = 0;
  TargetKind target = TargetKind::kIndices;
  Reduction reduction = Reduction::kMean;
  bool weighted = false;  // the last input is the weight of each class
};

size_t weight_input(const ClassAttrs& a) { return a.target == TargetKind::kLabel ? 1 : 2; }
int class_axis(int rank) { return rank > 1 ? 1 : 0; }

std::string describe_class_loss(const ClassAttrs& a) {
  std::string s = name_of(a.reduction);
  if (a.target == TargetKind::kLabel) absl::StrAppend(&s, " target=", a.label);
  if (a.smoothing != 0) absl::StrAppend(&s, " label_smoothing=", a.smoothing);
  return s;
}

// Classes have to be in [0, n), or the one that is ignored.
void check_class(const OpDoc& doc, const ClassAttrs& a, int64_t c, int64_t n, int64_t at) {
  if (c == a.ignore_index || (c >= 0 && c < n)) return;
  std::string where = at < 0 ? "" : absl::StrCat(" at element ", at);
  throw IndexError(absl::StrCat(doc.name, ": target is ", c, where, "; a class must be in [0, ", n,
                                ") or the ignore_index ", a.ignore_index));
}

Metas infer_class_loss(const OpDoc& doc, const ClassAttrs& a, Span<const Meta> in) {
  require_inputs(doc, in, weight_input(a) + (a.weighted ? 1 : 0));
  require_floating(doc, in.first(1));
  const Shape& x = in[0].shape;
  const int axis = class_axis(x.rank());
  if (x.rank() == 0 || x[axis] == 0) {
    throw ShapeError(
        absl::StrCat(doc.name, ": input is ", x.str(), "; it must be [C], [N,C] or [N,C,...]"));
  }
  Shape samples;
  for (int i = 0; i < x.rank(); ++i) {
    if (i != axis) samples.push_back(x[i]);
  }
  if (a.target == TargetKind::kLabel) {
    if (x.rank() != 1) {
      throw ShapeError(
          absl::StrCat(doc.name, ": input is ", x.str(), ", target one number; input must be [C]"));
    }
    check_class(doc, a, a.label, x[0], -1);
  } else {
    const bool indices = a.target == TargetKind::kIndices;
    const Meta& t = in[1];
    if (indices ? t.dtype != kInt64 : t.dtype != in[0].dtype) {
      throw DTypeError(
          absl::StrCat(doc.name, ": input is ", in[0].str(), ", target is ", t.str(),
                       "; it must hold int64 classes or probabilities of input's type"));
    }
    if (t.shape != (indices ? samples : x)) {
      throw ShapeError(absl::StrCat(doc.name, ": input is ", x.str(), ", target is ", t.str(),
                                    "; it must be ", (indices ? samples : x).str()));
    }
  }
  if (a.weighted) {
    const Meta& w = in[weight_input(a)];
    if (w.dtype != in[0].dtype) {
      throw DTypeError(absl::StrCat(doc.name, ": input is ", in[0].str(), ", weight is ", w.str(),
                                    "; the types must be the same"));
    }
    if (w.shape != Shape{x[axis]}) {
      throw ShapeError(absl::StrCat(doc.name, ": input is ", x.str(), ", weight is ", w.shape.str(),
                                    "; it must be [", x[axis], "]"));
    }
  }
  return {{in[0].dtype, loss_shape(a.reduction, samples)}};
}

// What the samples are to be.
template <class T>
class Targets {
 public:
  // `get(i)` gives input i.
  template <class Get>
  Targets(const ClassAttrs& a, const Shape& x, const Get& get)
      : attrs_(a), classes_(x[class_axis(x.rank())]), samples_(x.numel() / classes_) {
    if (a.target == TargetKind::kIndices) {
      indices_ = contiguous(get(1));
      index_ = indices_.template data<int64_t>();
    } else {
      index_ = &attrs_.label;
    }
    if (a.weighted) {
      weights_ = contiguous(get(weight_input(a)));
      weight_ = weights_.template data<T>();
    }
    spread_ = a.smoothing / static_cast<double>(classes_);
    all_weights_ = weight_ == nullptr
                       ? static_cast<double>(classes_)
                       : static_cast<double>(kernels::sum(weight_, static_cast<size_t>(classes_)));
  }

  int64_t classes() const { return classes_; }
  int64_t samples() const { return samples_; }
  double weight(int64_t c) const {
    return weight_ == nullptr ? 1.0 : static_cast<double>(weight_[c]);
  }

  // --- of classes ---
  int64_t index(int64_t i) const { return index_[i]; }
  bool ignored(int64_t i) const { return index_[i] == attrs_.ignore_index; }
  void check(const OpDoc& doc) const {
    for (int64_t i = 0; i < samples_; ++i) check_class(doc, attrs_, index_[i], classes_, i);
  }
  /// q of the class itself, beside what is spread.
  double on_class(int64_t i) const { return (1 - attrs_.smoothing) * weight(index_[i]); }
  /// What each class gets of each sample, before its weight.
  double spread() const { return spread_; }
  /// The sum of q.
  double total(int64_t i) const { return on_class(i) + spread_ * all_weights_; }
  /// What the mean divides by.
  double count() const {
    if (attrs_.target == TargetKind::kProbabilities) return static_cast<double>(samples_);
    double n = 0;
    for (int64_t i = 0; i < samples_; ++i) n += ignored(i) ? 0.0 : weight(index_[i]);
    return n;
  }

  // --- of probabilities ---
  double smoothed(int64_t c, T probability) const {
    return weight(c) * ((1 - attrs_.smoothing) * probability + spread_);
  }

 private:
  const ClassAttrs attrs_;
  int64_t classes_;
  int64_t samples_;
  Array indices_;
  Array weights_;
  const int64_t* index_ = nullptr;
  const T* weight_ = nullptr;
  double spread_;
  double all_weights_;
};

// What the target weighs in total: the divisor of the mean.
double target_count(const Saved& s, const ClassAttrs& a, const Array& like, const Shape& x) {
  double n = 0;
  visit_differentiable(like.dtype(), [&](auto t) {
    using T = decltype(t);
    n = Targets<T>(a, x, [&](size_t i) { return s.in_array(static_cast<int>(i)); }).count();
  });
  return n;
}

// q of class targets as an array of the shape of the scores: a constant of every gradient.
Array target_array(const Saved& s, const ClassAttrs& a, DType dtype, const Shape& x) {
  const Array q = Array::zeros(dtype, x);
  visit_differentiable(dtype, [&](auto type) {
    using T = decltype(type);
    const Targets<T> t(a, x, [&](size_t i) { return s.in_array(static_cast<int>(i)); });
    for_each_slice_of<T>(
        1u << class_axis(x.rank()),
        [&](T* row, int64_t i) {
          for (int64_t c = 0; c < t.classes(); ++c) {
            row[c] = t.ignored(i) ? T{0} : static_cast<T>(t.spread() * t.weight(c));
          }
          if (!t.ignored(i)) row[t.index(i)] += static_cast<T>(t.on_class(i));
        },
        writes(q));
  });
  return q;
}

// Where samples are ignored, with the class axis there to broadcast along; undefined where none is.
// What such a sample holds may be anything, and so may not enter a product, not even with 0.
Tensor ignored_samples(const Saved& s, const ClassAttrs& a, const Shape& x) {
  const int axis = class_axis(x.rank());
  Shape shape = x;
  shape[axis] = 1;
  const Array mask = Array::empty(kBool, shape);
  bool* to = mask.mutable_data<bool>();
  bool any = false;
  const Targets<float> t({.ignore_index = a.ignore_index, .label = a.label, .target = a.target}, x,
                         [&](size_t i) { return s.in_array(static_cast<int>(i)); });
  for (int64_t i = 0; i < t.samples(); ++i) any |= to[i] = t.ignored(i);
  return any ? Tensor(mask) : Tensor();
}
Tensor without(const Tensor& x, const Tensor& ignored) {
  return ignored.defined() ? masked_fill(x, ignored, 0) : x;
}

// The gradient of the samples' losses, with the class axis there to broadcast along.
Tensor sample_gradient(const ClassAttrs& a, const Tensor& g, double count, const Shape& x) {
  const Tensor each = loss_gradient(a.reduction, g, count);
  return a.reduction == Reduction::kNone ? unsqueeze(each, class_axis(x.rank())) : each;
}

}  // namespace

struct CrossEntropy {
  static constexpr OpDoc kDoc{"cross_entropy",
                              "y = -sum_c q_c ln softmax(input)_c, q the target, reduced",
                              "input:[N,C] target:[N] -> y:[] or [N]"};
  using Attrs = ClassAttrs;
  static std::string describe(const Attrs& a) { return describe_class_loss(a); }
  static constexpr GradUses uses(int) { return {.in = kAll}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) { return infer_class_loss(kDoc, a, in); }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds = 4 * static_cast<double>(in[0].shape.numel());
    return c;
  }

  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array& x = in[0];
    visit_differentiable(x.dtype(), [&](auto type) {
      using T = decltype(type);
      const Targets<T> t(a, x.shape(), [&](size_t i) { return in[i]; });
      const int64_t n = t.classes();
      const Array scratch = Array::empty(x.dtype(), {n});
      T* log_p = scratch.mutable_data<T>();
      const uint32_t mask = 1u << class_axis(x.rank());
      LossSum<T> sum(a.reduction, out[0]);
      if (a.target == TargetKind::kProbabilities) {
        for_each_slice_of<T>(
            mask,
            [&](const T* row, const T* target, int64_t i) {
              kernels::log_softmax_row(row, log_p, static_cast<size_t>(n));
              double loss = 0;
              for (int64_t c = 0; c < n; ++c) loss -= t.smoothed(c, target[c]) * log_p[c];
              sum.add(i, loss);
            },
            reads(x), reads(in[1]));
      } else {
        t.check(kDoc);
        for_each_slice_of<T>(
            mask,
            [&](const T* row, int64_t i) {
              if (t.ignored(i)) return sum.add(i, 0);
              kernels::log_softmax_row(row, log_p, static_cast<size_t>(n));
              double loss = -t.on_class(i) * log_p[t.index(i)];
              if (t.spread() != 0) {
                for (int64_t c = 0; c < n; ++c) loss -= t.spread() * t.weight(c) * log_p[c];
              }
              sum.add(i, loss);
            },
            reads(x));
      }
      sum.finish(t.count());
    });
  }

  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor x = s.in(0);
    const Shape shape = x.shape();
    const int axis = class_axis(shape.rank());
    const Tensor gy = sample_gradient(a, g[0], target_count(s, a, x.value(), shape), shape);
    Shape kept = shape;
    kept[axis] = 1;
    if (a.target != TargetKind::kProbabilities) {
      const Tensor q(target_array(s, a, x.dtype(), shape));
      const Tensor ignored = ignored_samples(s, a, shape);
      const Tensor p = softmax(without(x, ignored), axis);
      return {without(gy * (p * sum_to(q, kept) - q), ignored)};
    }
    Tensor weight(Array::scalar(x.dtype(), 1));
    if (a.weighted) {
      Shape along;  // [C,1,...]: broadcasts along the class axis
      along.push_back(shape[axis]);
      for (int i = axis + 1; i < shape.rank(); ++i) along.push_back(1);
      weight = reshape(s.in(2).detach(), along);
    }
    Grads grads(2);
    if (s.needs(0)) {
      const Tensor q =
          weight * affine(s.in(1), 1 - a.smoothing, a.smoothing / static_cast<double>(shape[axis]));
      grads[0] = gy * (softmax(x, axis) * sum_to(q, kept) - q);
    }
    if (s.needs(1)) grads[1] = gy * (a.smoothing - 1) * weight * log_softmax(x, axis);
    return grads;
  }

  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Array& x = s.in_array(0);
    const uint32_t mask = 1u << class_axis(x.rank());
    const Array gy = contiguous(g[0]);
    visit_differentiable(x.dtype(), [&](auto type) {
      using T = decltype(type);
      const Targets<T> t(a, x.shape(), [&](size_t i) { return s.in_array(static_cast<int>(i)); });
      const int64_t n = t.classes();
      const auto size = static_cast<size_t>(n);
      const LossGradient<T> gradient(a.reduction, gy, t.count());
      const auto scale = [&](double factor, T* row) {
        if (factor != 1) kernels::scale(static_cast<T>(factor), row, row, size);
      };
      if (s.needs(0)) {
        const Array dx = Array::empty_like(x);
        if (a.target == TargetKind::kProbabilities) {
          for_each_slice_of<T>(
              mask,
              [&](const T* row, const T* target, T* to, int64_t i) {
                kernels::softmax_row(row, to, size);
                double total = 0;
                for (int64_t c = 0; c < n; ++c) total += t.smoothed(c, target[c]);
                const double gi = gradient(i);
                for (int64_t c = 0; c < n; ++c) {
                  to[c] = static_cast<T>(gi * (total * to[c] - t.smoothed(c, target[c])));
                }
              },
              reads(x), reads(s.in_array(1)), writes(dx));
        } else {
          for_each_slice_of<T>(
              mask,
              [&](const T* row, T* to, int64_t i) {
                if (t.ignored(i)) return kernels::fill(T{0}, to, size);
                const double gi = gradient(i);
                kernels::softmax_row(row, to, size);
                scale(gi * t.total(i), to);
                to[t.index(i)] -= static_cast<T>(gi * t.on_class(i));
                if (t.spread() == 0) return;
                for (int64_t c = 0; c < n; ++c) {
                  to[c] -= static_cast<T>(gi * t.spread() * t.weight(c));
                }
              },
              reads(x), writes(dx));
        }
        sink.add(0, dx);
      }
      if (a.target == TargetKind::kProbabilities && s.needs(1)) {
        const Array dt = Array::empty_like(x);
        for_each_slice_of<T>(
            mask,
            [&](const T* row, T* to, int64_t i) {
              kernels::log_softmax_row(row, to, size);
              const double factor = gradient(i) * (a.smoothing - 1);
              for (int64_t c = 0; c < n; ++c) {
                to[c] = static_cast<T>(factor * t.weight(c) * to[c]);
              }
            },
            reads(x), writes(dt));
        sink.add(1, dt);
      }
    });
  }
};
EBB_OP(CrossEntropy)

struct NllLoss {
  static constexpr OpDoc kDoc{"nll_loss", "y = -weight[target] input[target], reduced",
                              "input:[N,C] target:[N] -> y:[] or [N]"};
  using Attrs = ClassAttrs;
  static std::string describe(const Attrs& a) { return describe_class_loss(a); }
  static constexpr GradUses uses(int) { return {.in = ~uint64_t{1}, .shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) { return infer_class_loss(kDoc, a, in); }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds = static_cast<double>(in[0].shape.numel()) /
                      static_cast<double>(in[0].shape[class_axis(in[0].shape.rank())]);
    return c;
  }
  // Calls f(i, offset of input[target] of sample i) for those that are not ignored.
  template <class T, class F>
  static void for_picked(const Array& x, const Targets<T>& t, const F& f) {
    const int axis = class_axis(x.rank());
    const int64_t step = x.stride(axis);
    Shape dims;
    int64_t strides[kMaxRank];
    for (int i = 0; i < x.rank(); ++i) {
      if (i == axis) continue;
      strides[dims.rank()] = x.stride(i);
      dims.push_back(x.size(i));
    }
    int64_t at[kMaxRank] = {0};
    int64_t base = 0;
    for (int64_t i = 0; i < t.samples(); ++i) {
      if (!t.ignored(i)) f(i, base + t.index(i) * step);
      for (int d = dims.rank(); --d >= 0;) {
        base += strides[d];
        if (++at[d] < dims[d]) break;
        base -= strides[d] * dims[d];
        at[d] = 0;
      }
    }
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array& x = in[0];
    visit_differentiable(x.dtype(), [&](auto type) {
      using T = decltype(type);
      const Targets<T> t(a, x.shape(), [&](size_t i) { return in[i]; });
      t.check(kDoc);
      LossSum<T> sum(a.reduction, out[0]);
      for (int64_t i = 0; i < t.samples(); ++i) sum.add(i, 0);
      for_picked(x, t, [&](int64_t i, int64_t offset) {
        sum.add(i, -t.on_class(i) * x.data<T>()[offset]);
      });
      sum.finish(t.count());
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Shape shape = s.in_shape(0);
    const Tensor q(target_array(s, a, g[0].dtype(), shape));
    const Tensor gy = sample_gradient(a, g[0], target_count(s, a, g[0].value(), shape), shape);
    return {without(-gy * q, ignored_samples(s, a, shape))};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Array gy = contiguous(g[0]);
    const Array dx = Array::zeros(gy.dtype(), s.in_shape(0));
    visit_differentiable(gy.dtype(), [&](auto type) {
      using T = decltype(type);
      const Targets<T> t(a, dx.shape(), [&](size_t i) { return s.in_array(static_cast<int>(i)); });
      const LossGradient<T> gradient(a.reduction, gy, t.count());
      for_picked(dx, t, [&](int64_t i, int64_t offset) {
        dx.mutable_data<T>()[offset] = static_cast<T>(-t.on_class(i) * gradient(i));
      });
    });
    sink.add(0, dx);
  }
};
EBB_OP(NllLoss)

namespace {

template <class Op>
Tensor apply_class_loss(const ClassAttrs& a, const Tensor& input, const Tensor& target,
                        const Tensor& weight, Where where) {
  require_constant(Op::kDoc.name, "weight", weight);
  const At at(input, where);
  if (a.target == TargetKind::kLabel) {
    return a.weighted ? apply_with<Op>(a, at, weight) : apply_with<Op>(a, at);
  }
  return a.weighted ? apply_with<Op>(a, at, target, weight) : apply_with<Op>(a, at, target);
}

// Classes as int64.
Tensor class_indices(const char* op, const Tensor& target, Where where) {
  if (target.dtype() == kBool || !is_integral(target.dtype())) {
    throw DTypeError(absl::StrCat(op, ": target is ", target.value().meta().str(),
                                  "; classes must be int64, int32 or uint8"));
  }
  return cast(target, kInt64, where);
}

void require_smoothing(const CrossEntropyOptions& o) {
  if (o.label_smoothing >= 0 && o.label_smoothing <= 1) return;
  throw ValueError(absl::StrCat("cross_entropy: label_smoothing is ", o.label_smoothing,
                                "; it must be in [0, 1]"));
}

ClassAttrs attrs_of(const CrossEntropyOptions& o, TargetKind kind, int64_t label) {
  return {o.label_smoothing, o.ignore_index, label, kind, o.reduction, o.weight.defined()};
}
ClassAttrs attrs_of(const NllOptions& o, TargetKind kind, int64_t label) {
  return {0, o.ignore_index, label, kind, o.reduction, o.weight.defined()};
}

}  // namespace
}  // namespace ops

Tensor cross_entropy(const Tensor& input, int64_t target, const CrossEntropyOptions& options,
                     Where where) try {
  ops::require_smoothing(options);
  return ops::apply_class_loss<ops::CrossEntropy>(
      ops::attrs_of(options, ops::TargetKind::kLabel, target), input, {}, options.weight, where);
} catch (const Error&) {
  detail::rethrow_as("cross_entropy");
}

Tensor cross_entropy(const Tensor& input, const Tensor& target, const CrossEntropyOptions& options,
                     Where where) try {
  ops::require_smoothing(options);
  using ops::TargetKind;
  if (is_differentiable(target.dtype())) {
    if (options.ignore_index >= 0) {
      throw ValueError(absl::StrCat("cross_entropy: ignore_index is ", options.ignore_index,
                                    ", but target holds probabilities"));
    }
    return ops::apply_class_loss<ops::CrossEntropy>(
        ops::attrs_of(options, TargetKind::kProbabilities, 0), input, target, options.weight,
        where);
  }
  return ops::apply_class_loss<ops::CrossEntropy>(
      ops::attrs_of(options, TargetKind::kIndices, 0), input,
      ops::class_indices("cross_entropy", target, where), options.weight, where);
} catch (const Error&) {
  detail::rethrow_as("cross_entropy");
}

Tensor nll_loss(const Tensor& input, int64_t target, const NllOptions& options, Where where) {
  return ops::apply_class_loss<ops::NllLoss>(
      ops::attrs_of(options, ops::TargetKind::kLabel, target), input, {}, options.weight, where);
}

Tensor nll_loss(const Tensor& input, const Tensor& target, const NllOptions& options, Where where) {
  return ops::apply_class_loss<ops::NllLoss>(ops::attrs_of(options, ops::TargetKind::kIndices, 0),
                                             input, ops::class_indices("nll_loss", target, where),
                                             options.weight, where);
}

}  // namespace ebb
