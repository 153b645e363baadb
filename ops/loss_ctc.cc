// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/loss_util.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

// A sequence is said by a walk through the states blank, label, blank, label, ..., blank: at each
// step it stays, goes on by one, or by two over a blank between labels that differ. With a(t,s) the
// log-probability of all walks up to state s at step t, and b(t,s) that of all ways to go on from
// there, the share of walks that are in s at t is e^(a + b - ln p).
namespace ebb {
namespace ops {

namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

double log_add(double a, double b) {
  const double large = std::max(a, b);
  if (large == kNever) return kNever;
  return large + std::log1p(std::exp(std::min(a, b) - large));
}

// The states of one target.
class States {
 public:
  States(const int64_t* labels, int64_t n, int64_t blank) : blank_(blank) {
    for (int64_t i = 0; i < n; ++i) {
      classes_.push_back(blank);
      classes_.push_back(labels[i]);
    }
    classes_.push_back(blank);
  }
  size_t size() const { return classes_.size(); }
  int64_t operator[](size_t s) const { return classes_[s]; }
  const std::vector<int64_t>& classes() const { return classes_; }
  /// Whether a step leads from s - 2 to s.
  bool skips_to(size_t s) const {
    return s >= 2 && s < size() && classes_[s] != blank_ && classes_[s] != classes_[s - 2];
  }

 private:
  int64_t blank_;
  std::vector<int64_t> classes_;
};

// The log-probabilities of one sequence: step t, class k at p[t * step + k].
template <class T>
struct Steps {
  const T* p;
  int64_t step;
  int64_t count;

  double operator()(int64_t t, int64_t k) const { return static_cast<double>(p[t * step + k]); }
};

// All a(t,s), row by row, and ln p.
template <class T>
double forward_walks(const Steps<T>& steps, const States& states, std::vector<double>* a) {
  const size_t n = states.size();
  if (steps.count == 0) return n == 1 ? 0 : kNever;
  a->assign(static_cast<size_t>(steps.count) * n, kNever);
  for (size_t s = 0; s < std::min<size_t>(n, 2); ++s) (*a)[s] = steps(0, states[s]);
  for (int64_t t = 1; t < steps.count; ++t) {
    const double* before = a->data() + static_cast<size_t>(t - 1) * n;
    double* now = a->data() + static_cast<size_t>(t) * n;
    for (size_t s = 0; s < n; ++s) {
      double sum = before[s];
      if (s >= 1) sum = log_add(sum, before[s - 1]);
      if (states.skips_to(s)) sum = log_add(sum, before[s - 2]);
      now[s] = sum + steps(t, states[s]);
    }
  }
  const double* last = a->data() + static_cast<size_t>(steps.count - 1) * n;
  return n == 1 ? last[0] : log_add(last[n - 1], last[n - 2]);
}

// Adds -factor times the shares of walks that say class k at step t to g[t * step + k].
template <class T>
void subtract_shares(const Steps<T>& steps, const States& states, const std::vector<double>& a,
                     double log_p, double factor, T* g) {
  const size_t n = states.size();
  std::vector<double> after(n, kNever);
  std::vector<double> next(n);
  after[n - 1] = 0;
  if (n > 1) after[n - 2] = 0;
  for (int64_t t = steps.count - 1; t >= 0; --t) {
    const double* now = a.data() + static_cast<size_t>(t) * n;
    for (size_t s = 0; s < n; ++s) {
      const double share = std::exp(now[s] + after[s] - log_p);
      if (share != 0) g[t * steps.step + states[s]] -= static_cast<T>(factor * share);
    }
    if (t == 0) break;
    // b(t-1,s) from b(t,.) and what step t says.
    for (size_t s = 0; s < n; ++s) next[s] = after[s] + steps(t, states[s]);
    for (size_t s = 0; s < n; ++s) {
      double sum = next[s];
      if (s + 1 < n) sum = log_add(sum, next[s + 1]);
      if (states.skips_to(s + 2)) sum = log_add(sum, next[s + 2]);
      after[s] = sum;
    }
  }
}

}  // namespace

struct CtcLoss {
  static constexpr OpDoc kDoc{
      "ctc_loss", "y = -ln of the probability of all walks that say the target",
      "log_probs:[t,n,c] targets:[n,s] input_lengths:[n] target_lengths:[n] -> y:[]"};
  struct Attrs {
    int64_t blank = 0;
    Reduction reduction = Reduction::kMean;
    bool zero_infinity = false;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat(name_of(a.reduction), " blank=", a.blank,
                        a.zero_infinity ? " zero_infinity" : "");
  }
  static constexpr GradUses uses(int input) {
    return input == 0 ? GradUses{.in = 0b1111} : GradUses{};
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 4);
    require_floating(kDoc, in.first(1));
    for (size_t i = 1; i < 4; ++i) {
      if (in[i].dtype == kInt64) continue;
      throw DTypeError(absl::StrCat("ctc_loss: ", kNames[i], " is ", in[i].str(),
                                    "; it must hold int64 or int32"));
    }
    const Shape& x = in[0].shape;
    if ((x.rank() != 2 && x.rank() != 3) || x[x.rank() - 1] < 1) {
      throw ShapeError(absl::StrCat("ctc_loss: log_probs is ", x.str(),
                                    "; it must be [T,C] or [T,N,C] with a class"));
    }
    const bool batched = x.rank() == 3;
    const int64_t n = batched ? x[1] : 1;
    const Shape& t = in[1].shape;
    const bool fits = t.rank() == 1 || (batched && t.rank() == 2 && t[0] == n);
    if (!fits) {
      throw ShapeError(absl::StrCat("ctc_loss: log_probs is ", x.str(), ", targets is ", t.str(),
                                    "; it must be ",
                                    batched ? absl::StrCat("[", n, ",S] or [sum]") : "[S]"));
    }
    for (size_t i = 2; i < 4; ++i) {
      if (in[i].shape == Shape{n} || (!batched && in[i].shape.empty())) continue;
      throw ShapeError(absl::StrCat("ctc_loss: log_probs is ", x.str(), ", ", kNames[i], " is ",
                                    in[i].shape.str(), "; it must be ", Shape{n}.str()));
    }
    if (a.blank < 0 || a.blank >= x[x.rank() - 1]) {
      throw ValueError(absl::StrCat("ctc_loss: log_probs is ", x.str(), ", blank is ", a.blank,
                                    "; it must be in [0, ", x[x.rank() - 1], ")"));
    }
    return {{in[0].dtype, loss_shape(a.reduction, batched ? Shape{n} : Shape())}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    const Shape& x = in[0].shape;
    // Three sums for each step and state.
    c.multiply_adds = 6.0 * static_cast<double>(x[0]) *
                      static_cast<double>(std::max<int64_t>(in[1].shape.numel(), 1));
    return c;
  }

  // The sequences of a call.
  struct Batch {
    template <class Get>
    Batch(const Attrs& a, const Get& get)
        : attrs(a),
          x(contiguous(get(0))),
          targets(contiguous(get(1))),
          inputs(contiguous(get(2))),
          lengths(contiguous(get(3))),
          count(x.rank() == 3 ? x.size(1) : 1),
          classes(x.size(x.rank() - 1)) {
      int64_t at = 0;
      for (int64_t n = 0; n < count; ++n) {
        first.push_back(targets.rank() == 2 ? n * targets.size(1) : at);
        at += std::max<int64_t>(target_length(n), 0);
      }
      if (targets.rank() == 1 && count == 1) first[0] = 0;
      total = at;
    }
    int64_t input_length(int64_t n) const { return inputs.data<int64_t>()[n]; }
    int64_t target_length(int64_t n) const { return lengths.data<int64_t>()[n]; }
    States states(int64_t n) const {
      return {targets.data<int64_t>() + first[static_cast<size_t>(n)], target_length(n),
              attrs.blank};
    }
    template <class T>
    Steps<T> steps(int64_t n) const {
      return {x.data<T>() + n * classes, count * classes, input_length(n)};
    }
    // What the loss of sequence n counts.
    double factor(int64_t n) const {
      if (attrs.reduction != Reduction::kMean) return 1;
      return 1 / static_cast<double>(std::max<int64_t>(target_length(n), 1) * count);
    }
    // Throws where the numbers are not what they may be.
    void check() const {
      const int64_t most = targets.rank() == 2 ? targets.size(1) : targets.numel();
      for (int64_t n = 0; n < count; ++n) {
        if (input_length(n) < 0 || input_length(n) > x.size(0)) {
          throw ValueError(absl::StrCat("ctc_loss: input_lengths is ", input_length(n),
                                        " at sequence ", n, "; it must be in [0, ", x.size(0),
                                        "]"));
        }
        if (target_length(n) < 0 || target_length(n) > most) {
          throw ValueError(absl::StrCat("ctc_loss: target_lengths is ", target_length(n),
                                        " at sequence ", n, "; it must be in [0, ", most, "]"));
        }
      }
      if (targets.rank() == 1 && x.rank() == 3 && total != targets.numel()) {
        throw ValueError(absl::StrCat("ctc_loss: targets is ", targets.shape().str(),
                                      ", target_lengths add up to ", total));
      }
      for (int64_t n = 0; n < count; ++n) {
        const int64_t* labels = targets.data<int64_t>() + first[static_cast<size_t>(n)];
        for (int64_t i = 0; i < target_length(n); ++i) {
          if (labels[i] < 0 || labels[i] >= classes) {
            throw IndexError(absl::StrCat("ctc_loss: target is ", labels[i], " at element ", i,
                                          " of sequence ", n, "; a class must be in [0, ", classes,
                                          ")"));
          }
          if (labels[i] == attrs.blank) {
            throw ValueError(absl::StrCat("ctc_loss: target is the blank ", labels[i],
                                          " at element ", i, " of sequence ", n));
          }
        }
      }
    }

    const Attrs& attrs;
    Array x, targets, inputs, lengths;
    int64_t count;
    int64_t classes;
    int64_t total;
    std::vector<int64_t> first;  // where the labels of each sequence begin
  };

  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Batch batch(a, [&](size_t i) -> const Array& { return in[i]; });
    batch.check();
    visit_differentiable(batch.x.dtype(), [&](auto t) {
      using T = decltype(t);
      LossSum<T> sum(a.reduction, out[0]);
      std::vector<double> walks;
      for (int64_t n = 0; n < batch.count; ++n) {
        double loss = -forward_walks(batch.steps<T>(n), batch.states(n), &walks);
        if (a.zero_infinity && std::isinf(loss)) loss = 0;
        sum.add(n, a.reduction == Reduction::kMean ? loss * batch.factor(n) : loss);
      }
      sum.finish(1);
    });
  }

  // The gradient with 1 for that of each loss.
  template <class T>
  static void shares(const Batch& batch, T* g) {
    std::vector<double> walks;
    for (int64_t n = 0; n < batch.count; ++n) {
      const Steps<T> steps = batch.steps<T>(n);
      const States states = batch.states(n);
      const double log_p = forward_walks(steps, states, &walks);
      T* const to = g + n * batch.classes;
      if (std::isfinite(log_p)) {
        subtract_shares(steps, states, walks, log_p, 1.0, to);
      } else if (!(batch.attrs.zero_infinity && log_p == kNever)) {
        for (int64_t t = 0; t < steps.count; ++t) {
          std::fill_n(to + t * steps.step, batch.classes, std::numeric_limits<T>::quiet_NaN());
        }
      }
    }
  }
  // What the loss of each sequence counts, [N].
  static Tensor factors(const Batch& batch, const Tensor& g) {
    std::vector<double> all;
    for (int64_t n = 0; n < batch.count; ++n) all.push_back(batch.factor(n));
    return g * Tensor(cast(Array::of<double>({batch.count}, all), batch.x.dtype()));
  }

  // The probability as ops of ever higher order can differentiate it: the same walk through the
  // states, in tensors. What cannot be is very improbable rather than impossible, since the
  // derivative of infinity is none.
  static Tensor log_probability(const Tensor& log_probs, const States& states) {
    const DType dtype = log_probs.dtype();
    const auto n = static_cast<int64_t>(states.size());
    const auto row = [&](const auto& possible) {
      std::vector<double> v;
      for (size_t s = 0; s < states.size(); ++s) v.push_back(possible(s) ? 0 : -1e30);
      return Tensor(cast(Array::of<double>({n}, v), dtype));
    };
    const Tensor said =
        index_select(log_probs, 1, Tensor(Array::of<int64_t>({n}, states.classes())));
    const Tensor skips = row([&](size_t s) { return states.skips_to(s); });
    const Tensor none = full({2}, -1e30, {.dtype = dtype});
    Tensor a = select(said, 0, 0) + row([](size_t s) { return s < 2; });
    for (int64_t t = 1; t < log_probs.size(0); ++t) {
      if (n > 1) {
        const Tensor from_two[] = {none, narrow(a, 0, 0, n - 2)};
        const Tensor from_one[] = {narrow(none, 0, 0, 1), narrow(a, 0, 0, n - 1)};
        const Tensor ways[] = {a, cat(from_one), cat(from_two) + skips};
        a = logsumexp(stack(ways), 0);
      }
      a = a + select(said, 0, t);
    }
    return logsumexp(narrow(a, 0, std::max<int64_t>(n - 2, 0), std::min<int64_t>(n, 2)), 0);
  }

  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Batch batch(a, [&](size_t i) -> const Array& { return s.in_array(static_cast<int>(i)); });
    const Tensor x = s.in(0);
    const Shape shape = x.shape();
    const Tensor by = factors(batch, g[0]);
    if (!x.requires_grad()) {
      const Array all = Array::zeros(x.dtype(), {shape[0], batch.count, batch.classes});
      visit_differentiable(x.dtype(),
                           [&](auto t) { shares(batch, all.mutable_data<decltype(t)>()); });
      return {reshape(Tensor(all) * unsqueeze(by, -1), shape)};
    }
    const Tensor of_all = reshape(x, {shape[0], batch.count, batch.classes});
    Tensor loss = sum(x) * 0.0;
    std::vector<double> walks;
    for (int64_t n = 0; n < batch.count; ++n) {
      const States states = batch.states(n);
      double log_p = 0;
      visit_differentiable(x.dtype(), [&](auto t) {
        log_p = forward_walks(batch.steps<decltype(t)>(n), states, &walks);
      });
      const Tensor own = narrow(select(of_all, 1, n), 0, 0, batch.input_length(n));
      if (batch.input_length(n) == 0 || (a.zero_infinity && log_p == kNever)) continue;
      const Tensor value = std::isfinite(log_p)
                               ? log_probability(own, states)
                               : sum(own) * std::numeric_limits<double>::quiet_NaN();
      loss = loss - value;
    }
    // What they count comes after: it may depend on x as well.
    const Tensor each = reshape(grad(loss, x, {.create_graph = true}), of_all.shape());
    return {reshape(each * unsqueeze(by, -1), shape)};
  }

  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Batch batch(a, [&](size_t i) -> const Array& { return s.in_array(static_cast<int>(i)); });
    const Array gy = contiguous(g[0]);
    const Array gx = Array::zeros(batch.x.dtype(), batch.x.shape());
    visit_differentiable(gx.dtype(), [&](auto t) {
      using T = decltype(t);
      T* to = gx.mutable_data<T>();
      shares(batch, to);
      for (int64_t i = 0; i < gx.numel(); ++i) {
        const int64_t n = i / batch.classes % batch.count;
        const double by =
            batch.factor(n) *
            static_cast<double>(gy.data<T>()[a.reduction == Reduction::kNone ? n : 0]);
        to[i] = static_cast<T>(by * static_cast<double>(to[i]));
      }
    });
    sink.add(0, gx);
  }

  static constexpr const char* kNames[] = {"log_probs", "targets", "input_lengths",
                                           "target_lengths"};
};
EBB_OP(CtcLoss)

}  // namespace ops

Tensor ctc_loss(const Tensor& log_probs, const Tensor& targets, const Tensor& input_lengths,
                const Tensor& target_lengths, const CtcOptions& options, Where where) try {
  const int rank = log_probs.dim();
  const int64_t n = rank == 3 ? log_probs.size(1) : 1;
  const auto wide = [](const Tensor& t) { return t.dtype() == kInt32 ? t.to(kInt64) : t; };
  const auto lengths = [&](const Tensor& given, int64_t otherwise) {
    return given.defined() ? wide(given) : full({n}, otherwise);
  };
  if (rank == 3 && targets.dim() == 1 && !target_lengths.defined()) {
    throw ValueError(absl::StrCat("ctc_loss: log_probs is ", log_probs.shape().str(),
                                  ", targets is ", targets.shape().str(),
                                  "; targets in a row need target_lengths"));
  }
  return apply_with<ops::CtcLoss>(
      {options.blank, options.reduction, options.zero_infinity}, At(log_probs, where),
      wide(targets), lengths(input_lengths, rank > 0 ? log_probs.size(0) : 0),
      lengths(target_lengths, targets.dim() > 0 ? targets.size(-1) : 0));
} catch (const Error&) {
  detail::rethrow_as("ctc_loss");
}

}  // namespace ebb
