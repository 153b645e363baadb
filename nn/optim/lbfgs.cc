// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/lbfgs.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/nn/optim/rule.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/blas.h"

namespace ebb::optim {
namespace {

constexpr double kDecrease = 1e-4;  // c1 and c2 of the Wolfe conditions
constexpr double kCurvature = 0.9;
constexpr int kMaxTrials = 25;             // of one line search
constexpr double kLeastCurvature = 1e-10;  // of a pair worth remembering

template <class V>
double dot(const V& a, const V& b) {
  return kernels::dot(a.data(), b.data(), a.size());
}
template <class V>
void axpy(double alpha, const V& x, V* y) {
  kernels::axpy(alpha, x.data(), y->data(), y->size());
}
template <class V>
double largest(const V& x) {
  double m = 0;
  for (const double v : x) {
    // NaN counts as the largest: nothing that holds it has converged.
    if (!(std::abs(v) <= m)) m = std::abs(v);
  }
  return m;
}

// The minimum of the cubic through two points with their slopes, kept within [lo, hi].
template <class P>
double cubic_minimum(const P& a, const P& b, double lo, double hi) {
  const double d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t);
  const double square = d1 * d1 - a.slope * b.slope;
  if (!(square >= 0)) return (lo + hi) / 2;
  const double d2 = std::copysign(std::sqrt(square), b.t - a.t);
  const double t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2));
  return std::isfinite(t) ? std::clamp(t, lo, hi) : (lo + hi) / 2;
}

}  // namespace

LBFGS::LBFGS(std::vector<Parameter> parameters, const LBFGSOptions& options)
    : parameters_(std::move(parameters)), options_(options) {
  const auto count = [](const char* what, int64_t n, int64_t least) {
    detail::require_option(n >= least, "LBFGS", what, static_cast<double>(n),
                           least == 0 ? ">= 0" : ">= 1");
  };
  detail::require_option(options.lr > 0, "LBFGS", "lr", options.lr, "> 0");
  count("max_iter", options.max_iter, 1);
  count("max_eval", options.max_eval, 0);
  count("history_size", options.history_size, 1);
  if (parameters_.empty()) throw ValueError("LBFGS: there are no parameters");
  std::set<const ebb::detail::Leaf*> known;
  for (const Parameter& p : parameters_) {
    if (!p.defined()) throw ValueError("LBFGS: a parameter is undefined");
    if (!known.insert(&p.leaf()).second) {
      throw ValueError(absl::StrCat("LBFGS: parameter ", p.leaf().name, " ", p.shape().str(),
                                    " is given twice"));
    }
    size_ += static_cast<size_t>(p.numel());
  }
  for (Vector* v : {&x_, &direction_, &before_, &here_.gradient, &low_.gradient, &high_.gradient,
                    &trial_.gradient}) {
    v->assign(size_, 0);
  }
}

void LBFGS::zero_grad() {
  for (const Parameter& p : parameters_) p.zero_grad();
}

void LBFGS::gather_values() {
  double* to = x_.data();
  for (const Parameter& p : parameters_) {
    const Array a = contiguous(cast(p.tensor().array(), kFloat64));
    to = std::copy_n(a.data<double>(), a.numel(), to);
  }
}

void LBFGS::gather_gradient(Vector* gradient) const {
  double* to = gradient->data();
  for (const Parameter& p : parameters_) {
    const Tensor g = p.grad();
    if (!g.defined()) {
      to = std::fill_n(to, p.numel(), 0.0);
    } else {
      const Array a = contiguous(cast(g.value(), kFloat64));
      to = std::copy_n(a.data<double>(), a.numel(), to);
    }
  }
}

// Sets the parameters to x + t * direction.
void LBFGS::move_to(double t) {
  size_t at = 0;
  for (const Parameter& p : parameters_) {
    const Array values = Array::empty(kFloat64, p.shape());
    double* to = values.mutable_data<double>();
    for (int64_t i = 0; i < values.numel(); ++i, ++at) to[i] = x_[at] + t * direction_[at];
    p.copy_from(Tensor(values));
  }
}

void LBFGS::evaluate(Closure closure, double t, Point* p) {
  try {
    move_to(t);
    p->t = t;
    p->loss = closure();
    ++evaluations_;
    ++evaluations_here_;
    gather_gradient(&p->gradient);
    p->slope = dot(p->gradient, direction_);
  } catch (...) {
    move_to(0);
    throw;
  }
}

// Adds the last step to the history.
void LBFGS::remember() {
  Pair pair;
  if (!spare_.empty()) {
    pair = std::move(spare_.back());
    spare_.pop_back();
  }
  pair.s.assign(direction_.begin(), direction_.end());
  kernels::scale(here_.t, pair.s.data(), pair.s.data(), size_);
  pair.y.assign(here_.gradient.begin(), here_.gradient.end());
  axpy(-1, before_, &pair.y);
  const double curvature = dot(pair.y, pair.s);
  if (!(curvature > kLeastCurvature)) {
    spare_.push_back(std::move(pair));
    return;
  }
  if (static_cast<int64_t>(pairs_.size()) >= options_.history_size) {
    spare_.push_back(std::move(pairs_.front()));
    pairs_.erase(pairs_.begin());
  }
  pair.inverse = 1 / curvature;
  scale_ = curvature / dot(pair.y, pair.y);
  pairs_.push_back(std::move(pair));
}

// direction = -H gradient by the two-loop recursion.
void LBFGS::choose_direction() {
  std::transform(here_.gradient.begin(), here_.gradient.end(), direction_.begin(),
                 [](double g) { return -g; });
  weights_.resize(pairs_.size());
  for (size_t i = pairs_.size(); i-- > 0;) {
    weights_[i] = dot(pairs_[i].s, direction_) * pairs_[i].inverse;
    axpy(-weights_[i], pairs_[i].y, &direction_);
  }
  kernels::scale(scale_, direction_.data(), direction_.data(), size_);
  for (size_t i = 0; i < pairs_.size(); ++i) {
    const double beta = dot(pairs_[i].y, direction_) * pairs_[i].inverse;
    axpy(weights_[i] - beta, pairs_[i].s, &direction_);
  }
}

// From `best`, which holds t = 0 with its loss, slope and gradient and is overwritten by the point
// found: one that meets the strong Wolfe conditions, else the lowest seen.
void LBFGS::search(Closure closure, Point* best) {
  const double loss0 = best->loss;
  const double slope0 = best->slope;
  const auto too_high = [&](const Point& p) {
    return !(p.loss <= loss0 + kDecrease * p.t * slope0);
  };
  const auto flat = [&](const Point& p) { return std::abs(p.slope) <= -kCurvature * slope0; };
  int trials = 0;
  double t = trial_.t;  // set by the caller: the first step to try
  low_ = *best;

  // Longer and longer steps, until there is a minimum between low_ and high_.
  bool bracketed = false;
  while (!bracketed && trials < kMaxTrials) {
    ++trials;
    evaluate(closure, t, &trial_);
    if (too_high(trial_) || (trials > 1 && trial_.loss >= low_.loss)) {
      std::swap(high_, trial_);
      bracketed = true;
    } else if (flat(trial_)) {
      std::swap(*best, trial_);
      return;
    } else if (trial_.slope >= 0) {
      std::swap(high_, low_);
      std::swap(low_, trial_);
      bracketed = true;
    } else {
      // The cubic may look beyond t: by 1% to tenfold.
      const double least = t + 0.01 * (t - low_.t);
      t = cubic_minimum(low_, trial_, least, 10 * t);
      std::swap(low_, trial_);
    }
  }

  // Zoom: low_ always is the lowest so far, and the slope there points to high_.
  bool stalled = false;
  while (bracketed && trials < kMaxTrials) {
    ++trials;
    const double lo = std::min(low_.t, high_.t);
    const double hi = std::max(low_.t, high_.t);
    if ((hi - lo) * largest(direction_) < options_.tolerance_change) break;
    double at = cubic_minimum(low_, high_, lo, hi);
    // Twice in a row by the edge of the interval: step inside, so that it shrinks.
    const double margin = 0.1 * (hi - lo);
    if (std::min(at - lo, hi - at) < margin) {
      if (stalled || at <= lo || at >= hi) {
        at = at - lo < hi - at ? lo + margin : hi - margin;
        stalled = false;
      } else {
        stalled = true;
      }
    } else {
      stalled = false;
    }
    evaluate(closure, at, &trial_);
    if (too_high(trial_) || trial_.loss >= low_.loss) {
      std::swap(high_, trial_);
      continue;
    }
    const bool done = flat(trial_);
    if (!done && trial_.slope * (high_.t - low_.t) >= 0) std::swap(high_, low_);
    std::swap(low_, trial_);
    if (done) break;
  }
  std::swap(*best, low_);
}

double LBFGS::run(Closure closure) {
  const LBFGSOptions& o = options_;
  const int64_t max_eval = o.max_eval > 0 ? o.max_eval : o.max_iter * 5 / 4;
  evaluations_here_ = 0;
  gather_values();
  const double first_loss = closure();
  ++evaluations_;
  ++evaluations_here_;
  const double t_before = here_.t;
  here_.loss = first_loss;
  gather_gradient(&here_.gradient);
  if (largest(here_.gradient) <= o.tolerance_grad) return first_loss;

  here_.t = t_before;
  for (int64_t n = 1; n <= o.max_iter; ++n) {
    if (iterations_++ > 0) remember();
    choose_direction();
    before_ = here_.gradient;
    const double loss_before = here_.loss;
    here_.slope = dot(here_.gradient, direction_);
    if (!(here_.slope <= -o.tolerance_change)) {
      here_.t = 0;
      break;
    }
    double t = o.lr;
    if (iterations_ == 1) {
      double total = 0;
      for (const double g : here_.gradient) total += std::abs(g);
      t *= std::min(1.0, 1 / total);
    }

    if (o.line_search == LineSearch::kStrongWolfe) {
      here_.t = 0;
      trial_.t = t;
      search(closure, &here_);
      move_to(here_.t);
    } else if (n < o.max_iter) {
      evaluate(closure, t, &here_);
    } else {
      here_.t = t;
      move_to(t);
    }
    double moved = largest(direction_) * here_.t;
    axpy(here_.t, direction_, &x_);
    if (evaluations_here_ >= max_eval || largest(here_.gradient) <= o.tolerance_grad ||
        moved <= o.tolerance_change || std::abs(here_.loss - loss_before) < o.tolerance_change) {
      break;
    }
  }
  return first_loss;
}

// ---- state
// ---------------------------------------------------------------------------------------

namespace {

template <class V>
Tensor as_tensor(const V& v) {
  return Tensor(Array::of<double>({static_cast<int64_t>(v.size())}, v));
}

const Array& entry(const nn::StateDict& state, const std::string& key, const Shape& shape) {
  const auto it = state.find(key);
  if (it == state.end()) throw ValueError(absl::StrCat("LBFGS: state ", key, " is missing"));
  if (it->second.shape() != shape || it->second.dtype() != kFloat64) {
    throw ShapeError(absl::StrCat("LBFGS: state ", key, " is ", it->second.value().meta().str(),
                                  "; it must be ", Meta{kFloat64, shape}.str()));
  }
  return it->second.array();
}

}  // namespace

nn::StateDict LBFGS::state_dict() const {
  nn::StateDict out;
  const auto number = [&](const char* key, double value) {
    out[key] = Tensor(Array::scalar(kFloat64, value));
  };
  number("iterations", static_cast<double>(iterations_));
  number("evaluations", static_cast<double>(evaluations_));
  number("pairs", static_cast<double>(pairs_.size()));
  number("scale", scale_);
  number("t", here_.t);
  out["direction"] = as_tensor(direction_);
  out["gradient"] = as_tensor(before_);
  for (size_t i = 0; i < pairs_.size(); ++i) {
    out[absl::StrCat("s.", i)] = as_tensor(pairs_[i].s);
    out[absl::StrCat("y.", i)] = as_tensor(pairs_[i].y);
  }
  return out;
}

void LBFGS::load_state_dict(const nn::StateDict& state) {
  const auto number = [&](const char* key) { return entry(state, key, {}).item(); };
  const auto vector = [&](const std::string& key) {
    const Array a = contiguous(entry(state, key, {static_cast<int64_t>(size_)}));
    return Vector(a.data<double>(), a.data<double>() + a.numel());
  };
  const double count = number("pairs");
  std::vector<Pair> pairs;
  for (size_t i = 0; static_cast<double>(i) < count; ++i) {
    Pair p{vector(absl::StrCat("s.", i)), vector(absl::StrCat("y.", i)), 0};
    p.inverse = 1 / dot(p.y, p.s);
    pairs.push_back(std::move(p));
  }
  Vector direction = vector("direction");
  Vector before = vector("gradient");
  const double iterations = number("iterations");
  const double evaluations = number("evaluations");
  const double scale = number("scale");
  const double t = number("t");
  if (state.size() != 7 + 2 * pairs.size()) {
    throw ValueError(absl::StrCat("LBFGS: the state has ", state.size(), " entries; with ",
                                  pairs.size(), " pairs it must have ", 7 + 2 * pairs.size()));
  }
  pairs_ = std::move(pairs);
  direction_ = std::move(direction);
  before_ = std::move(before);
  iterations_ = static_cast<int64_t>(iterations);
  evaluations_ = static_cast<int64_t>(evaluations);
  scale_ = scale;
  here_.t = t;
}

}  // namespace ebb::optim
