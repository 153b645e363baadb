// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/reduce.h"
#include "ebb/ops/loss_util.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/reduce_util.h"
#include "ebb/ops/unary.h"

// Losses of distances and angles between vectors, which lie along the last axis.
namespace ebb {
namespace ops {

namespace {

uint32_t last_axis(int rank) { return 1u << (rank - 1); }

void require_vectors(const OpDoc& doc, const Meta& x) {
  if (x.shape.rank() > 0) return;
  throw ShapeError(absl::StrCat(doc.name, ": input 0 is ", x.shape.str(), ", not vectors [...,D]"));
}

Shape without_last(const Shape& s) { return Shape(s.data(), static_cast<size_t>(s.rank() - 1)); }

// A constant of the shape of the samples, with an axis of size 1 for that of the vectors.
Tensor sample_constant(const Array& each) {
  Shape shape = each.shape();
  shape.push_back(1);
  return Tensor(each.view_as(shape));
}

Tensor sample_gradient(Reduction r, const Tensor& g, double count, const Shape& x) {
  const Tensor each = loss_gradient(r, g, count);
  if (r != Reduction::kNone) return each;
  return keep_axes(each, x, {last_axis(x.rank()), false});
}

Tensor sum_last(const Tensor& x) { return sum(x, -1, true); }

}  // namespace

struct TripletMarginLoss {
  static constexpr OpDoc kDoc{"triplet_margin_loss",
                              "y = max(0, margin + |a - p|_p - |a - n|_p), reduced",
                              "anchor:[...,D] positive:[...,D] negative:[...,D] -> y:[] or [...]"};
  struct Attrs {
    double margin = 1;
    double p = 2;
    double eps = 1e-6;
    bool swap = false;
    Reduction reduction = Reduction::kMean;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat(name_of(a.reduction), " margin=", a.margin, " p=", a.p,
                        a.swap ? " swap" : "");
  }
  static constexpr GradUses uses(int) { return {.in = kAll}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 3);
    require_floating(kDoc, in);
    require_same_dtype(kDoc, in);
    require_vectors(kDoc, in[0]);
    require_same_shape(kDoc, in, 1);
    require_same_shape(kDoc, in, 2);
    return {{in[0].dtype, loss_shape(a.reduction, without_last(in[0].shape))}};
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds = (a.swap ? 3 : 2) * static_cast<double>(in[0].shape.numel());
    return c;
  }

  // What a sample's loss is made of.
  template <class T>
  struct Parts {
    T to_positive;          // |a - p|
    T to_negative;          // |a - n|
    T between;              // |p - n|, with swap
    double negative_share;  // of the gradient that goes by |a - n|; the rest goes by |p - n|
    double loss;
  };
  template <class T>
  static T distance(const Attrs& attrs, const T* a, const T* b, int64_t n, T* difference) {
    const T eps = static_cast<T>(attrs.eps);
    for (int64_t k = 0; k < n; ++k) difference[k] = a[k] - b[k] + eps;
    return norm_of_row(difference, n, attrs.p);
  }
  template <class T>
  static Parts<T> parts(const Attrs& attrs, const T* a, const T* p, const T* n, int64_t size,
                        T* scratch) {
    Parts<T> r{};
    r.to_positive = distance(attrs, a, p, size, scratch);
    r.to_negative = distance(attrs, a, n, size, scratch);
    r.negative_share = 1;
    T away = r.to_negative;
    if (attrs.swap) {
      r.between = distance(attrs, p, n, size, scratch);
      r.negative_share = away < r.between ? 1 : away == r.between ? 0.5 : 0;
      away = std::min(away, r.between);
    }
    r.loss = attrs.margin + (static_cast<double>(r.to_positive) - away);
    return r;
  }

  static void forward(const Attrs& attrs, Span<const Array> in, Span<Array> out) {
    const int rank = in[0].rank();
    const int64_t n = in[0].size(rank - 1);
    const Array scratch = Array::empty(in[0].dtype(), {n});
    visit_differentiable(in[0].dtype(), [&](auto type) {
      using T = decltype(type);
      LossSum<T> sum(attrs.reduction, out[0]);
      for_each_slice_of<T>(
          last_axis(rank),
          [&](const T* a, const T* positive, const T* negative, int64_t i) {
            const double loss =
                parts(attrs, a, positive, negative, n, scratch.mutable_data<T>()).loss;
            sum.add(i, loss < 0 ? 0 : loss);
          },
          reads(in[0]), reads(in[1]), reads(in[2]));
      sum.finish(static_cast<double>(samples(in[0].shape())));
    });
  }
  static int64_t samples(const Shape& x) { return without_last(x).numel(); }

  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& attrs = s.attrs<Attrs>();
    const Tensor a = s.in(0);
    const Tensor positive = s.in(1);
    const Tensor negative = s.in(2);
    const Shape shape = a.shape();
    const Tensor gy =
        sample_gradient(attrs.reduction, g[0], static_cast<double>(samples(shape)), shape);
    // The gradients of the three distances; which of them count is a constant.
    const auto difference = [&](const Tensor& x, const Tensor& y) { return x - y + attrs.eps; };
    const auto length = [&](const Tensor& x) { return norm(x, attrs.p, -1, true); };
    const Tensor v_positive = difference(a, positive);
    const Tensor v_negative = difference(a, negative);
    const Tensor v_between = difference(positive, negative);
    const Tensor d_positive = length(v_positive);
    const Tensor d_negative = length(v_negative);
    Tensor share(Array::full(a.dtype(), d_negative.shape(), 1));
    Tensor d_between;
    Tensor away = d_negative;
    if (attrs.swap) {
      d_between = length(v_between);
      share = 0.5 * (cast(le(d_negative, d_between), a.dtype()) +
                     cast(lt(d_negative, d_between), a.dtype()));
      away = minimum(d_negative, d_between);
    }
    const Tensor active =
        1 - cast(attrs.margin + (d_positive.detach() - away.detach()) < 0.0, a.dtype());
    const Tensor by_positive = norm_gradient(gy * active, v_positive, d_positive, attrs.p);
    const Tensor by_negative = norm_gradient(gy * active * share, v_negative, d_negative, attrs.p);
    if (!attrs.swap) return {by_positive - by_negative, -by_positive, by_negative};
    const Tensor by_between =
        norm_gradient(gy * active * (1 - share), v_between, d_between, attrs.p);
    return {by_positive - by_negative, -by_positive - by_between, by_negative + by_between};
  }

  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& attrs = s.attrs<Attrs>();
    const Array& a = s.in_array(0);
    const Array x[] = {contiguous(a), contiguous(s.in_array(1)), contiguous(s.in_array(2))};
    const int64_t n = a.size(a.rank() - 1);
    const int64_t count = samples(a.shape());
    const Array gy = contiguous(g[0]);
    const Array scratch = Array::empty(a.dtype(), {2 * n});
    const Array dx[] = {Array::zeros(a.dtype(), a.shape()), Array::zeros(a.dtype(), a.shape()),
                        Array::zeros(a.dtype(), a.shape())};
    visit_differentiable(a.dtype(), [&](auto type) {
      using T = decltype(type);
      const LossGradient<T> gradient(attrs.reduction, gy, static_cast<double>(count));
      T* difference = scratch.mutable_data<T>();
      T* slope = difference + n;
      for (int64_t i = 0; i < count; ++i) {
        const auto row = [&](int k) { return x[k].data<T>() + i * n; };
        const Parts<T> r = parts(attrs, row(0), row(1), row(2), n, difference);
        if (r.loss < 0) continue;
        // factor * d|x - y| to the gradient of x, its opposite to that of y.
        const auto flow = [&](int from, int to, T d, double factor) {
          if (factor == 0) return;
          distance(attrs, row(from), row(to), n, difference);
          norm_row_gradient(difference, n, attrs.p, d, static_cast<T>(factor), slope);
          T* up = dx[from].mutable_data<T>() + i * n;
          T* down = dx[to].mutable_data<T>() + i * n;
          for (int64_t k = 0; k < n; ++k) {
            up[k] += slope[k];
            down[k] -= slope[k];
          }
        };
        const double gi = gradient(i);
        flow(0, 1, r.to_positive, gi);
        flow(0, 2, r.to_negative, -gi * r.negative_share);
        if (attrs.swap) flow(1, 2, r.between, -gi * (1 - r.negative_share));
      }
    });
    for (int k = 0; k < 3; ++k) {
      if (s.needs(k)) sink.add(k, dx[k]);
    }
  }
};
EBB_OP(TripletMarginLoss)

struct CosineEmbeddingLoss {
  static constexpr OpDoc kDoc{"cosine_embedding_loss",
                              "y = target = 1 ? 1 - cos : max(0, cos - margin), reduced",
                              "input1:[...,D] input2:[...,D] target:[...] -> y:[] or [...]"};
  struct Attrs {
    double margin = 0;
    Reduction reduction = Reduction::kMean;
  };
  static constexpr double kEps = 1e-12;  // added to squared lengths, as PyTorch does
  static std::string describe(const Attrs& a) {
    return absl::StrCat(name_of(a.reduction), " margin=", a.margin);
  }
  static constexpr GradUses uses(int) { return {.in = kAll}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 3);
    require_floating(kDoc, in);
    require_same_dtype(kDoc, in);
    require_vectors(kDoc, in[0]);
    require_same_shape(kDoc, in, 1);
    const Shape samples = without_last(in[0].shape);
    if (in[2].shape != samples) {
      throw ShapeError(absl::StrCat(kDoc.name, ": input 0 is ", in[0].shape.str(), ", target is ",
                                    in[2].shape.str(), "; it must be ", samples.str()));
    }
    return {{in[0].dtype, loss_shape(a.reduction, samples)}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds = 3 * static_cast<double>(in[0].shape.numel());
    return c;
  }

  struct Angle {
    double cosine;
    double scale;      // 1 / (|x1| |x2|)
    double square[2];  // |x1|^2, |x2|^2
  };
  template <class T>
  static Angle angle(const T* x1, const T* x2, int64_t n) {
    const auto size = static_cast<size_t>(n);
    Angle r{};
    r.square[0] = kernels::dot(x1, x1, size) + kEps;
    r.square[1] = kernels::dot(x2, x2, size) + kEps;
    r.scale = 1 / (std::sqrt(r.square[0]) * std::sqrt(r.square[1]));
    r.cosine = r.scale * kernels::dot(x1, x2, size);
    return r;
  }
  static double loss(const Attrs& a, double cosine, double target) {
    if (target == 1) return 1 - cosine;
    if (target != -1) return 0;
    return cosine < a.margin ? 0 : cosine - a.margin;
  }
  // Of the loss by the cosine.
  static double slope(const Attrs& a, double cosine, double target) {
    if (target == 1) return -1;
    return target != -1 || cosine < a.margin ? 0 : 1;
  }

  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const int rank = in[0].rank();
    const int64_t n = in[0].size(rank - 1);
    const Array targets = contiguous(in[2]);
    visit_differentiable(in[0].dtype(), [&](auto type) {
      using T = decltype(type);
      LossSum<T> sum(a.reduction, out[0]);
      for_each_slice_of<T>(
          last_axis(rank),
          [&](const T* x1, const T* x2, int64_t i) {
            sum.add(i, loss(a, angle(x1, x2, n).cosine, targets.data<T>()[i]));
          },
          reads(in[0]), reads(in[1]));
      sum.finish(static_cast<double>(targets.numel()));
    });
  }

  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor x1 = s.in(0);
    const Tensor x2 = s.in(1);
    const Array targets = contiguous(s.in_array(2));
    const Tensor square1 = sum_last(square(x1)) + kEps;
    const Tensor square2 = sum_last(square(x2)) + kEps;
    const Tensor scale = rsqrt(square1) * rsqrt(square2);
    const Tensor cosine = scale * sum_last(x1 * x2);
    const Array slopes = Array::empty_like(targets);
    visit_differentiable(targets.dtype(), [&](auto type) {
      using T = decltype(type);
      for (int64_t i = 0; i < targets.numel(); ++i) {
        slopes.mutable_data<T>()[i] =
            static_cast<T>(slope(a, cosine.data<T>()[i], targets.data<T>()[i]));
      }
    });
    const Tensor gy =
        sample_gradient(a.reduction, g[0], static_cast<double>(targets.numel()), x1.shape()) *
        sample_constant(slopes);
    return {s.needs(0) ? gy * (scale * x2 - cosine / square1 * x1) : Tensor(),
            s.needs(1) ? gy * (scale * x1 - cosine / square2 * x2) : Tensor()};
  }

  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Array targets = contiguous(s.in_array(2));
    const int rank = s.in_array(0).rank();
    const int64_t n = s.in_array(0).size(rank - 1);
    const Array gy = contiguous(g[0]);
    visit_differentiable(gy.dtype(), [&](auto type) {
      using T = decltype(type);
      const LossGradient<T> gradient(a.reduction, gy, static_cast<double>(targets.numel()));
      for (int k = 0; k < 2; ++k) {
        if (!s.needs(k)) continue;
        const Array dx = Array::empty_like(s.in_array(k));
        for_each_slice_of<T>(
            last_axis(rank),
            [&](const T* x, const T* other, T* to, int64_t i) {
              const Angle r = angle(x, other, n);
              const double factor = gradient(i) * slope(a, r.cosine, targets.data<T>()[i]);
              const T along = static_cast<T>(factor * r.scale);
              const T back = static_cast<T>(factor * r.cosine / r.square[0]);
              for (int64_t j = 0; j < n; ++j) to[j] = along * other[j] - back * x[j];
            },
            reads(s.in_array(k)), reads(s.in_array(1 - k)), writes(dx));
        sink.add(k, dx);
      }
    });
  }
};
EBB_OP(CosineEmbeddingLoss)

}  // namespace ops

Tensor triplet_margin_loss(const Tensor& anchor, const Tensor& positive, const Tensor& negative,
                           const TripletOptions& options, Where where) {
  if (!(options.p > 0)) {
    throw ValueError(absl::StrCat("triplet_margin_loss: p is ", options.p, "; it must be above 0"));
  }
  return apply_with<ops::TripletMarginLoss>(
      {options.margin, options.p, options.eps, options.swap, options.reduction}, At(anchor, where),
      positive, negative);
}

Tensor cosine_embedding_loss(const Tensor& input1, const Tensor& input2, const Tensor& target,
                             const MarginOptions& options, Where where) {
  ops::require_constant("cosine_embedding_loss", "target", target);
  const Tensor t = is_integral(target.dtype()) ? cast(target, input1.dtype(), where) : target;
  return apply_with<ops::CosineEmbeddingLoss>({options.margin, options.reduction},
                                              At(input1, where), input2, t);
}

}  // namespace ebb
