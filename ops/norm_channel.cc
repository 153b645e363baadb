// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/norm.h"
#include "ebb/ops/kernels/norm_channel.h"
#include "ebb/ops/norm.h"
#include "ebb/ops/norm_util.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"

namespace ebb {
namespace ops {

namespace {

// The sets of numbers that are normalised together. Set s starts at s * start, and its weights at
// (s % period) * channels.
struct NormSets {
  int64_t count;
  kernels::NormSet set;
  int64_t start;
  int64_t period;
  int64_t channels;

  int64_t weight(int64_t s) const { return s % period * channels; }
};

template <class T>
T* start_of(const Array& a) {
  return a.defined() ? a.mutable_data<T>() : nullptr;
}
template <class T>
T* at(T* p, int64_t offset) {
  return p == nullptr ? nullptr : p + offset;
}

// x [N,C,L] with channels first, [C,N,L]; only for L = 1.
Array channels_first(const Array& x, const Channels& e) {
  return contiguous(transposed(contiguous(x).view_as({e.samples, e.channels})));
}
void samples_first(const Array& turned, const Channels& e, const Array& to) {
  copy_into(to.view_as({e.samples, e.channels}),
            transposed(turned.view_as({e.channels, e.samples})));
}

// Ops that normalise by the statistics of x itself. The derived op says which numbers belong
// together: by sets() for the kernels, and for the rule by a view of x in four axes.
template <class Op>
struct ChannelNorm {
  struct Attrs {
    int behind = 2;  // axes behind that of the channels
    double eps = 1e-5;
    int64_t groups = 1;
  };
  static constexpr const char* kParameters[] = {"weight", "bias"};

  static std::string describe(const Attrs& a) {
    return absl::StrCat("channel_axis=", -1 - a.behind, " eps=", a.eps);
  }
  static constexpr GradUses uses(int input) {
    return input == 0 ? GradUses{.in = 0b11} : input == 1 ? GradUses{.in = 0b01} : GradUses{};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds *= 4;  // the mean, the variance, the scaling, the weight
    return c;
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, std::clamp<size_t>(in.size(), 1, 3));
    require_channels(Op::kDoc, in, a.behind, kParameters);
    require_eps(Op::kDoc.name, a.eps);
    Op::check(a, in[0].shape);
    return {in[0]};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    Channels e(in[0].shape(), a.behind);
    const Array w = in.size() > 1 ? contiguous(in[1]) : Array();
    const Array b = in.size() > 2 ? contiguous(in[2]) : Array();
    const bool turn = Op::kTurnsVectors && e.len == 1;
    const Array x = turn ? channels_first(in[0], e) : contiguous(in[0]);
    const Array y = turn ? Array::empty_like(x) : out[0];
    if (turn) e = {1, e.channels, e.samples};
    const NormSets sets = Op::sets(a, e);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* weight = start_of<T>(w);
      const T* bias = start_of<T>(b);
      for (int64_t s = 0; s < sets.count; ++s) {
        const T* from = x.data<T>() + s * sets.start;
        T* to = y.mutable_data<T>() + s * sets.start;
        const int64_t c = sets.weight(s);
        if (e.len == 1) {  // a number a channel: a row with weights
          kernels::layer_norm_row(from, at(weight, c), at(bias, c), to, sets.set.runs, a.eps);
          continue;
        }
        const kernels::NormStatistics found =
            kernels::norm_set(sets.set, from, at(weight, c), at(bias, c), to, a.eps);
        if constexpr (Op::kGivesStatistics) {
          out[1].template mutable_data<T>()[s] = static_cast<T>(found.mean);
          out[2].template mutable_data<T>()[s] = static_cast<T>(found.variance);
        }
      }
    });
    if (turn) samples_first(y, {in[0].shape(), a.behind}, out[0]);
  }

  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    Grads result(static_cast<size_t>(s.n_inputs()));
    const bool has_weight = s.n_inputs() > 1;
    const bool needs_weight = has_weight && s.needs(1);
    const bool needs_bias = s.n_inputs() > 2 && s.needs(2);
    if (!s.needs(0) && !needs_weight) {  // then x was not saved
      if (!needs_bias || !g.has(0)) return result;
      const Shape shape = g[0].shape();
      const Channels e(shape, a.behind);
      result[2] = sum(reshape(g[0], {e.samples, e.channels, e.len}), {0, 2});
      return result;
    }
    const Shape shape = s.in(0).shape();
    const Channels e(shape, a.behind);
    const Shape view = Op::view(a, e);
    const Axes over = Op::over();
    const Shape per_channel{1, view[1], view[2], 1};
    const auto of_channel = [&](const Tensor& x) { return reshape(x, per_channel); };
    const Tensor c = centred(reshape(s.in(0), view), over);
    Tensor gx;
    if (g.has(0)) {
      const Tensor gy = reshape(g[0], view);
      const Tensor scale = rsqrt(affine(mean(square(c), over, true), 1, a.eps));
      const Tensor z = c * scale;
      const auto channel_sum = [&](const Tensor& x) {
        return reshape(sum_to(x, per_channel), {e.channels});
      };
      if (needs_bias) result[2] = channel_sum(gy);
      if (needs_weight) result[1] = channel_sum(gy * z);
      if (s.needs(0)) {
        const Tensor h = has_weight ? gy * of_channel(s.in(1)) : gy;
        gx = scale * (h - mean(h, over, true) - z * mean(h * z, over, true));
      }
    }
    if constexpr (Op::kGivesStatistics) {
      const double n = static_cast<double>(e.samples * e.len);
      const auto add = [&](const Tensor& more) { gx = gx.defined() ? gx + more : more; };
      if (g.has(1)) add(expand(of_channel(g[1]) / n, view));
      if (g.has(2)) add(of_channel(g[2]) * c * (2 / n));
    }
    if (s.needs(0) && gx.defined()) result[0] = reshape(gx, shape);
    return result;
  }

  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    if constexpr (Op::kGivesStatistics) {
      if (!g.has(0) || g.has(1) || g.has(2)) return run_rule(&Op::backward, s, g, sink);
    }
    Array gy = contiguous(g.take(0));
    const Shape shape = gy.shape();
    const Channels whole(shape, a.behind);
    Channels e = whole;
    const bool has_weight = s.n_inputs() > 1;
    const bool needs_weight = has_weight && s.needs(1);
    const bool needs_bias = s.n_inputs() > 2 && s.needs(2);
    const auto of_channel = [&](bool wanted) {
      return wanted ? Array::zeros(gy.dtype(), {e.channels}) : Array();
    };
    const Array gw = of_channel(needs_weight);
    const Array gb = of_channel(needs_bias);
    if (!s.needs(0) && !needs_weight) {  // then x was not saved
      if (needs_bias)
        sink.add(2, sum(Tensor(gy).reshape({e.samples, e.channels, e.len}), {0, 2}).value());
      return;
    }
    Array x = contiguous(s.in_array(0));
    const Array w = s.needs(0) && has_weight ? contiguous(s.in_array(1)) : Array();
    const bool turn = Op::kTurnsVectors && e.len == 1;
    if (turn) {
      x = channels_first(x, e);
      gy = channels_first(gy, e);
      e = {1, e.channels, e.samples};
    }
    const Array gx = s.needs(0) ? reuse_or_new(gy) : Array();
    const NormSets sets = Op::sets(a, e);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      absl::InlinedVector<double, 128> sums(2 * sets.set.runs);
      for (int64_t i = 0; i < sets.count; ++i) {
        const int64_t first = i * sets.start;
        const int64_t c = sets.weight(i);
        const T* from = gy.data<T>() + first;
        T* to = at(start_of<T>(gx), first);
        T* const to_w = at(start_of<T>(gw), c);
        T* const to_b = at(start_of<T>(gb), c);
        const T* weight = at<const T>(start_of<T>(w), c);
        if (e.len == 1) {
          if (to_b != nullptr) kernels::add_into(from, to_b, sets.set.runs);
          kernels::layer_norm_backward_row(x.data<T>() + first, weight, from, to, to_w,
                                           sets.set.runs, a.eps);
        } else {
          kernels::norm_set_backward(sets.set, x.data<T>() + first, weight, from, to, to_w, to_b,
                                     sums.data(), a.eps);
        }
      }
    });
    if (needs_bias) sink.add(2, gb);
    if (needs_weight) sink.add(1, gw);
    if (!s.needs(0)) return;
    if (!turn) return sink.add(0, gx);
    const Array there = Array::empty(gx.dtype(), shape);
    samples_first(gx, whole, there);
    sink.add(0, there);
  }
};

}  // namespace

struct GroupNorm : ChannelNorm<GroupNorm> {
  static constexpr OpDoc kDoc{"group_norm",
                              "y = (x - mean) / sqrt(var + eps) * weight + bias, by groups",
                              "x:[..,c,...] weight:[c] bias:[c] -> y:[..,c,...]"};
  static constexpr bool kTurnsVectors = false;
  static constexpr bool kGivesStatistics = false;

  static std::string describe(const Attrs& a) {
    return absl::StrCat("num_groups=", a.groups, " ", ChannelNorm::describe(a));
  }
  static void check(const Attrs& a, const Shape& x) {
    const int64_t channels = Channels(x, a.behind).channels;
    if (a.groups > 0 && channels % a.groups == 0) return;
    throw ShapeError(absl::StrCat("group_norm: x is ", x.str(), " with ", channels,
                                  " channels at axis ", -1 - a.behind,
                                  "; that must be a multiple of num_groups=", a.groups));
  }
  static NormSets sets(const Attrs& a, const Channels& e) {
    const int64_t channels = e.channels / a.groups;
    const int64_t n = channels * e.len;
    return {n == 0 ? 0 : e.samples * a.groups,
            {static_cast<size_t>(channels), static_cast<size_t>(e.len), e.len, 1},
            n,
            a.groups,
            channels};
  }
  static Shape view(const Attrs& a, const Channels& e) {
    return {e.samples, a.groups, e.channels / a.groups, e.len};
  }
  static Axes over() { return {2, 3}; }
};
EBB_OP(GroupNorm)

namespace {

void require_several(const OpDoc& doc, const Shape& x, int64_t n, const char* of) {
  if (n > 1) return;
  throw ShapeError(absl::StrCat(doc.name, ": x is ", x.str(), ", that is ", n, " number",
                                n == 1 ? "" : "s", " a channel", of,
                                "; a variance needs at least 2"));
}

}  // namespace

struct InstanceNorm : ChannelNorm<InstanceNorm> {
  static constexpr OpDoc kDoc{
      "instance_norm", "y = (x - mean) / sqrt(var + eps) * weight + bias, by sample and channel",
      "x:[..,c,...] weight:[c] bias:[c] -> y:[..,c,...]"};
  static constexpr bool kTurnsVectors = false;
  static constexpr bool kGivesStatistics = false;

  static void check(const Attrs& a, const Shape& x) {
    require_several(kDoc, x, Channels(x, a.behind).len, " and sample");
  }
  static NormSets sets(const Attrs&, const Channels& e) {
    return {
        e.samples * e.channels, {1, static_cast<size_t>(e.len), e.len, 1}, e.len, e.channels, 1};
  }
  static Shape view(const Attrs&, const Channels& e) { return {e.samples, e.channels, 1, e.len}; }
  static Axes over() { return {2, 3}; }
};
EBB_OP(InstanceNorm)

// Gives the mean and the variance, of the population, too.
struct BatchNorm : ChannelNorm<BatchNorm> {
  static constexpr OpDoc kDoc{"batch_norm",
                              "y = (x - mean) / sqrt(var + eps) * weight + bias, by channels",
                              "x:[..,c,...] weight:[c] bias:[c] -> y:[..,c,...] mean:[c] var:[c]"};
  static constexpr bool kTurnsVectors = true;
  static constexpr bool kGivesStatistics = true;

  static void check(const Attrs& a, const Shape& x) {
    const Channels e(x, a.behind);
    require_several(kDoc, x, e.samples * e.len, "");
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    Metas out = ChannelNorm::infer(a, in);
    const Meta statistic{in[0].dtype, {Channels(in[0].shape, a.behind).channels}};
    out.push_back(statistic);
    out.push_back(statistic);
    return out;
  }
  static NormSets sets(const Attrs&, const Channels& e) {
    return {e.channels,
            {static_cast<size_t>(e.samples), static_cast<size_t>(e.len), e.channels * e.len, 0},
            e.len,
            std::max<int64_t>(e.channels, 1),
            1};
  }
  static Shape view(const Attrs&, const Channels& e) { return {e.samples, 1, e.channels, e.len}; }
  static Axes over() { return {0, 3}; }
};
EBB_OP(BatchNorm)

// By statistics that are given.
struct BatchNormEval {
  static constexpr OpDoc kDoc{"batch_norm_eval",
                              "y = (x - mean) / sqrt(var + eps) * weight + bias, by channels",
                              "x:[..,c,...] mean:[c] var:[c] weight:[c] bias:[c] -> y:[..,c,...]"};
  struct Attrs {
    int behind = 2;
    double eps = 1e-5;
  };
  static constexpr const char* kParameters[] = {"running_mean", "running_var", "weight", "bias"};
  enum Input { kX, kMean, kVar, kWeight, kBias };

  static std::string describe(const Attrs& a) {
    return absl::StrCat("channel_axis=", -1 - a.behind, " eps=", a.eps);
  }
  static constexpr GradUses uses(int input) {
    constexpr uint64_t kX1 = 1, kMean1 = 2, kVar1 = 4, kWeight1 = 8;
    switch (input) {
      case kX:
      case kMean:
        return {.in = kVar1 | kWeight1};
      case kVar:
        return {.in = kX1 | kMean1 | kVar1 | kWeight1};
      case kWeight:
        return {.in = kX1 | kMean1 | kVar1};
      default:
        return {};
    }
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, std::clamp<size_t>(in.size(), 3, 5));
    require_channels(kDoc, in, a.behind, kParameters);
    require_eps(kDoc.name, a.eps);
    return {in[0]};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds *= 2;  // the shift, and the scaling with the bias
    return c;
  }
  // 1 / sqrt(var + eps).
  static absl::InlinedVector<double, 64> scales(const Array& var, double eps) {
    absl::InlinedVector<double, 64> scale(static_cast<size_t>(var.numel()));
    visit_differentiable(var.dtype(), [&](auto t) {
      const auto* v = var.data<decltype(t)>();
      for (size_t c = 0; c < scale.size(); ++c) {
        scale[c] = 1 / std::sqrt(static_cast<double>(v[c]) + eps);
      }
    });
    return scale;
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[kX]);
    const Array shift = contiguous(in[kMean]);
    const Array w = in.size() > kWeight ? contiguous(in[kWeight]) : Array();
    const Array b = in.size() > kBias ? contiguous(in[kBias]) : Array();
    const auto scale = scales(contiguous(in[kVar]), a.eps);
    const Channels e(x.shape(), a.behind);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* weight = start_of<T>(w);
      const T* bias = start_of<T>(b);
      const T* from = x.data<T>();
      T* to = out[0].mutable_data<T>();
      for (int64_t n = 0; n < e.samples; ++n) {
        for (int64_t c = 0; c < e.channels; ++c, from += e.len, to += e.len) {
          const auto by = static_cast<T>(scale[static_cast<size_t>(c)]);
          kernels::shift_scale_row(from, shift.data<T>()[c], weight ? by * weight[c] : by,
                                   bias ? bias[c] : T{0}, to, static_cast<size_t>(e.len));
        }
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Channels e(g[0].shape(), a.behind);
    const int inputs = s.n_inputs();
    const auto needs = [&](Input i) { return i < inputs && s.needs(i); };
    const Tensor gy = reshape(g[0], {e.samples, e.channels, e.len});
    Grads result(static_cast<size_t>(inputs));
    if (needs(kBias)) result[kBias] = sum(gy, {0, 2});
    if (!needs(kX) && !needs(kMean) && !needs(kVar) && !needs(kWeight)) return result;
    const Tensor scale = rsqrt(affine(s.in(kVar), 1, a.eps));
    if (needs(kX) || needs(kMean)) {
      const Tensor by = inputs > kWeight ? scale * s.in(kWeight) : scale;
      const Tensor gx = gy * unsqueeze(by, -1);
      if (needs(kX)) result[kX] = reshape(gx, g[0].shape());
      if (needs(kMean)) result[kMean] = -sum(gx, {0, 2});
    }
    if (needs(kVar) || needs(kWeight)) {
      const Tensor x = reshape(s.in(kX), {e.samples, e.channels, e.len});
      const Tensor gz = sum(gy * (x - unsqueeze(s.in(kMean), -1)), {0, 2}) * scale;
      if (needs(kWeight)) result[kWeight] = gz;
      if (needs(kVar)) {
        const Tensor gv = gz * square(scale) * -0.5;
        result[kVar] = inputs > kWeight ? gv * s.in(kWeight) : gv;
      }
    }
    return result;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const int inputs = s.n_inputs();
    const auto needs = [&](Input i) { return i < inputs && s.needs(i); };
    const bool needs_x = needs(kVar) || needs(kWeight);
    const bool needs_scale = needs_x || needs(kX) || needs(kMean);
    const Array gy = contiguous(g.take(0));
    const Channels e(gy.shape(), a.behind);
    const auto channels = static_cast<size_t>(e.channels);
    const Array x = needs_x ? contiguous(s.in_array(kX)) : Array();
    const Array shift = needs_x ? contiguous(s.in_array(kMean)) : Array();
    const Array w = (needs(kX) || needs(kMean) || needs(kVar)) && inputs > kWeight
                        ? contiguous(s.in_array(kWeight))
                        : Array();
    absl::InlinedVector<double, 64> scale(channels, 1.0);
    if (needs_scale) scale = scales(contiguous(s.in_array(kVar)), a.eps);
    const Array gx = needs(kX) ? reuse_or_new(gy) : Array();
    absl::InlinedVector<double, 128> sums(2 * channels);
    const bool needs_sums = needs_x || needs(kMean) || needs(kBias);
    visit_differentiable(gy.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* from = gy.data<T>();
      const auto len = static_cast<size_t>(e.len);
      for (int64_t row = 0; row < e.samples * e.channels; ++row) {
        const auto c = static_cast<size_t>(row % e.channels);
        const T* gi = from + row * e.len;
        // Without x the second sum, which nobody then reads, is taken of g itself.
        if (needs_sums) {
          kernels::gradient_sums_row(needs_x ? x.data<T>() + row * e.len : gi,
                                     needs_x ? shift.data<T>()[c] : T{0}, gi, len, &sums[2 * c]);
        }
        if (!needs(kX)) continue;
        const auto by = static_cast<T>(scale[c]);
        kernels::shift_scale_row(gi, T{0}, w.defined() ? by * w.data<T>()[c] : by, T{0},
                                 gx.mutable_data<T>() + row * e.len, len);
      }
      const auto give = [&](Input i, auto&& value) {
        if (!needs(i)) return;
        const Array grad = Array::empty(gy.dtype(), {e.channels});
        for (size_t c = 0; c < channels; ++c) {
          const double weight = w.defined() ? static_cast<double>(w.data<T>()[c]) : 1.0;
          grad.mutable_data<T>()[c] = static_cast<T>(value(c, weight));
        }
        sink.add(i, grad);
      };
      give(kBias, [&](size_t c, double) { return sums[2 * c]; });
      give(kWeight, [&](size_t c, double) { return sums[2 * c + 1] * scale[c]; });
      give(kMean, [&](size_t c, double weight) { return -sums[2 * c] * scale[c] * weight; });
      give(kVar, [&](size_t c, double weight) {
        return -0.5 * sums[2 * c + 1] * scale[c] * scale[c] * scale[c] * weight;
      });
    });
    if (needs(kX)) sink.add(kX, gx);
  }
};
EBB_OP(BatchNormEval)

namespace {

// running = (1 - momentum) running + momentum factor found, in elements of its own.
void move_statistic(Tensor* running, const Tensor& found, double momentum, double factor) {
  *running =
      affine(running->detach(), 1 - momentum, 0) + affine(found.detach(), momentum * factor, 0);
}

Tensor normalise_by(At x, const Tensor* running_mean, const Tensor* running_var,
                    const Tensor& weight, const Tensor& bias, const BatchNormEval::Attrs& a,
                    const char* op) {
  if (running_mean == nullptr || running_var == nullptr) {
    throw ValueError(absl::StrCat(op,
                                  ": running_mean and running_var must be given where the "
                                  "statistics of x are not used"));
  }
  require_weight(op, weight, bias);
  if (bias.defined()) {
    return apply_with<BatchNormEval>(a, x, *running_mean, *running_var, weight, bias);
  }
  if (weight.defined()) {
    return apply_with<BatchNormEval>(a, x, *running_mean, *running_var, weight);
  }
  return apply_with<BatchNormEval>(a, x, *running_mean, *running_var);
}

void require_running(const char* op, const Tensor& x, int behind, const Tensor* mean,
                     const Tensor* var) {
  if (mean == nullptr && var == nullptr) return;
  if (mean == nullptr || var == nullptr) {
    throw ValueError(absl::StrCat(op, ": running_mean and running_var come together"));
  }
  const Shape shape = x.shape();
  if (shape.rank() <= behind) return;  // the op itself says what is wrong
  const Meta want{x.dtype(), {Channels(shape, behind).channels}};
  for (const Tensor* t : {mean, var}) {
    if (t->array().meta() == want) continue;
    throw ShapeError(absl::StrCat(op, ": x is ", x.array().meta().str(), ", ",
                                  t == mean ? "running_mean" : "running_var", " is ",
                                  t->array().meta().str(), "; it must be ", want.str()));
  }
}

void require_momentum(const char* op, double momentum) {
  if (momentum >= 0 && momentum <= 1) return;
  throw ValueError(absl::StrCat(op, ": momentum is ", momentum, "; it must be in [0, 1]"));
}

BatchNormOutput normalise_by_own(At x, const Tensor& weight, const Tensor& bias, double eps,
                                 int64_t channel_axis) {
  const BatchNorm::Attrs a{axes_behind("batch_norm", channel_axis), eps};
  require_weight("batch_norm", weight, bias);
  Outputs out = bias.defined()     ? apply_multi<BatchNorm>(a, x, weight, bias)
                : weight.defined() ? apply_multi<BatchNorm>(a, x, weight)
                                   : apply_multi<BatchNorm>(a, x);
  return {std::move(out[0]), std::move(out[1]), std::move(out[2])};
}

}  // namespace

}  // namespace ops

Tensor group_norm(const Tensor& x, int64_t num_groups, const Tensor& weight, const Tensor& bias,
                  double eps, int64_t channel_axis, Where where) {
  const int behind = ops::axes_behind("group_norm", channel_axis);
  return ops::apply_affine<ops::GroupNorm>({behind, eps, num_groups}, At(x, where), weight, bias);
}

Tensor batch_norm(const Tensor& x, Tensor* running_mean, Tensor* running_var, const Tensor& weight,
                  const Tensor& bias, bool training, double momentum, double eps,
                  int64_t channel_axis, Where where) try {
  const int behind = ops::axes_behind("batch_norm", channel_axis);
  if (!training) {
    return ops::normalise_by(At(x, where), running_mean, running_var, weight, bias, {behind, eps},
                             "batch_norm");
  }
  ops::require_running("batch_norm", x, behind, running_mean, running_var);
  ops::require_momentum("batch_norm", momentum);
  BatchNormOutput out = ops::normalise_by_own(At(x, where), weight, bias, eps, channel_axis);
  if (running_mean != nullptr) {
    const double n = static_cast<double>(x.numel() / std::max<int64_t>(out.mean.numel(), 1));
    ops::move_statistic(running_mean, out.mean, momentum, 1);
    ops::move_statistic(running_var, out.var, momentum, n / (n - 1));
  }
  return std::move(out.output);
} catch (const Error&) {
  detail::rethrow_as("batch_norm");
}

BatchNormOutput batch_norm_train(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                 double eps, int64_t channel_axis, Where where) try {
  return ops::normalise_by_own(At(x, where), weight, bias, eps, channel_axis);
} catch (const Error&) {
  detail::rethrow_as("batch_norm_train");
}

Tensor instance_norm(const Tensor& x, Tensor* running_mean, Tensor* running_var,
                     const Tensor& weight, const Tensor& bias, bool use_input_stats,
                     double momentum, double eps, int64_t channel_axis, Where where) try {
  const int behind = ops::axes_behind("instance_norm", channel_axis);
  if (!use_input_stats) {
    return ops::normalise_by(At(x, where), running_mean, running_var, weight, bias, {behind, eps},
                             "instance_norm");
  }
  ops::require_running("instance_norm", x, behind, running_mean, running_var);
  ops::require_momentum("instance_norm", momentum);
  Tensor y = ops::apply_affine<ops::InstanceNorm>({behind, eps}, At(x, where), weight, bias);
  if (running_mean != nullptr) {
    const ops::Channels e(x.shape(), behind);
    const Tensor flat = x.detach().reshape({e.samples, e.channels, e.len});
    ops::move_statistic(running_mean, mean(flat, {0, 2}), momentum, 1);
    ops::move_statistic(running_var, mean(var(flat, {2}), {0}), momentum, 1);
  }
  return y;
} catch (const Error&) {
  detail::rethrow_as("instance_norm");
}

}  // namespace ebb
