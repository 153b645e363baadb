// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/segment.h"
#include "ebb/core/random.h"

namespace ebb::detail {
namespace {

Tensor random_like(const Array& a, Generator& random) {
  Array v = Array::empty(kFloat64, a.shape());
  random.fill_normal(v.mutable_data<double>(), static_cast<size_t>(v.numel()));
  return Tensor(std::move(v));
}

std::string element_name(const Shape& shape, int64_t k) {
  Shape index = shape;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    index[i] = k % shape[i];
    k /= shape[i];
  }
  return index.str();
}

// A derivative and how far it may be off.
struct Estimate {
  double value = 0;
  double error = std::numeric_limits<double>::infinity();
};

// Neville's extrapolation of central differences with steps h, h/2, h/4, ... The difference of
// neighbours in the tableau tells where rounding takes over from truncation.
template <class F>
Estimate derivative(F&& at, double h) {
  constexpr int kLevels = 4;
  double table[kLevels][kLevels];
  Estimate best;
  for (int i = 0; i < kLevels; ++i, h /= 2) {
    table[i][0] = (at(h) - at(-h)) / (2 * h);
    double factor = 1;
    for (int j = 1; j <= i; ++j) {
      factor *= 4;
      table[i][j] = table[i][j - 1] + (table[i][j - 1] - table[i - 1][j - 1]) / (factor - 1);
      const double error = std::max(std::abs(table[i][j] - table[i][j - 1]),
                                    std::abs(table[i][j] - table[i - 1][j - 1]));
      if (error <= best.error) best = {table[i][j], error};
    }
  }
  if (!std::isfinite(best.error)) best.value = table[kLevels - 1][0];
  return best;
}

class Checker {
 public:
  Checker(const char* name, Function f, Span<const Tensor> inputs, Span<const std::string> labels,
          const GradCheckOptions& options, double rtol)
      : name_(name), f_(f), inputs_(inputs), labels_(labels), options_(options), rtol_(rtol) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      const DType t = inputs[i].dtype();
      if (is_floating(t) && t != kFloat64) {
        throw DTypeError(absl::StrCat(name, ": ", labels[i], " is ", inputs[i].value().meta().str(),
                                      "; differences need float64"));
      }
      values_.push_back(copy(inputs[i].array()));
    }
  }

  double run() {
    analytic();
    double worst = 0;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (inputs_[i].dtype() == kFloat64) worst = std::max(worst, check(i));
    }
    return worst;
  }

 private:
  void analytic() {
    const EnableGradGuard on;
    std::vector<Tensor> args;
    std::vector<Tensor> leaves;
    for (const Tensor& x : inputs_) {
      args.push_back(x.dtype() == kFloat64 ? variable(x) : x.detach());
      if (x.dtype() == kFloat64) leaves.push_back(args.back());
    }
    Generator random(options_.seed, "gradcheck");
    std::vector<Tensor> from;
    std::vector<Tensor> start;
    for (const Tensor& y : f_(args)) {
      weights_.push_back(y.dtype() == kFloat64 ? random_like(y.value(), random) : Tensor());
      if (!y.requires_grad()) continue;
      from.push_back(y);
      start.push_back(weights_.back());
    }
    std::vector<Tensor> found(leaves.size());
    if (!from.empty()) found = grad(from, leaves, {.allow_unused = true}, start);
    size_t next = 0;
    for (const Tensor& x : inputs_) {
      Tensor g;
      if (x.dtype() == kFloat64) g = found[next++];
      gradients_.push_back(!g.defined() ? Array::zeros(kFloat64, x.shape())
                                        : contiguous(g.array()));
    }
  }

  // The weighted sum of the function's results, with one element moved.
  double moved(size_t input, int64_t element, double by) {
    const NoGradGuard off;
    std::vector<Tensor> args;
    for (const Array& v : values_) args.push_back(Tensor(v));
    Array to = copy(values_[input]);
    to.mutable_data<double>()[element] += by;
    args[input] = Tensor(std::move(to));
    double sum = 0;
    const std::vector<Tensor> results = f_(args);
    for (size_t j = 0; j < results.size(); ++j) {
      if (results[j].dtype() != kFloat64) continue;
      const Array y = contiguous(results[j].array());
      const double* w = weights_[j].data<double>();
      const double* v = y.data<double>();
      for (int64_t k = 0; k < y.numel(); ++k) sum += w[k] * v[k];
    }
    return sum;
  }

  double check(size_t i) {
    const Array& x = values_[i];
    const double* got = gradients_[i].data<double>();
    std::vector<Estimate> numeric(static_cast<size_t>(x.numel()));
    double largest = 0;
    for (int64_t k = 0; k < x.numel(); ++k) {
      const double h = options_.eps * std::max(1.0, std::abs(x.data<double>()[k]));
      Estimate& e = numeric[static_cast<size_t>(k)];
      e = derivative([&](double by) { return moved(i, k, by); }, h);
      // What is not finite on either side fails below, and allows nothing to others.
      for (const double v : {e.value, got[k]}) {
        if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
      }
    }
    const double allowed = rtol_ * largest + options_.atol;
    double worst = 0;
    int64_t worst_at = -1;
    int64_t failed = 0;
    for (int64_t k = 0; k < x.numel(); ++k) {
      const double d = std::abs(numeric[static_cast<size_t>(k)].value - got[k]);
      if (!(d <= allowed)) ++failed;
      if (worst_at < 0 || !(d <= worst)) {
        worst = d;
        worst_at = k;
      }
    }
    if (failed > 0) {
      const Estimate& e = numeric[static_cast<size_t>(worst_at)];
      throw GradError(absl::StrFormat(
          "%s: %s %s, element %s at %.9g: numeric %.12g (known to %.1g), analytic %.12g; they "
          "differ "
          "by %.3g, allowed is %.3g (%.1g of the largest gradient, %.6g); %d of %d elements fail",
          name_, labels_[i], x.meta().str(), element_name(x.shape(), worst_at),
          x.data<double>()[worst_at], e.value, e.error, got[worst_at], worst, allowed, rtol_,
          largest, failed, x.numel()));
    }
    return largest > 0 ? worst / largest : worst;
  }

  const char* name_;
  Function f_;
  Span<const Tensor> inputs_;
  Span<const std::string> labels_;
  const GradCheckOptions& options_;
  double rtol_;
  std::vector<Array> values_;     // contiguous copies
  std::vector<Tensor> weights_;   // of the results, undefined for integers
  std::vector<Array> gradients_;  // analytic, by input
};

std::vector<std::string> input_labels(size_t n) {
  std::vector<std::string> labels;
  for (size_t i = 0; i < n; ++i) labels.push_back(absl::StrCat("input ", i));
  return labels;
}

}  // namespace

double gradcheck(Function f, Span<const Tensor> inputs, const GradCheckOptions& options) {
  const auto labels = input_labels(inputs.size());
  return Checker("gradcheck", f, inputs, labels, options, options.rtol.value_or(1e-6)).run();
}

double gradgradcheck(Function f, Span<const Tensor> inputs, const GradCheckOptions& options) {
  // The inputs of the gradient function: those of f, then a cotangent for each result.
  std::vector<Tensor> all(inputs.begin(), inputs.end());
  auto labels = input_labels(inputs.size());
  {
    const EnableGradGuard on;
    std::vector<Tensor> args;
    for (const Tensor& x : inputs) {
      args.push_back(x.dtype() == kFloat64 ? variable(x) : x.detach());
    }
    Generator random(options.seed, "gradgradcheck");
    const std::vector<Tensor> results = f(args);
    for (size_t j = 0; j < results.size(); ++j) {
      if (!results[j].requires_grad()) continue;
      all.push_back(random_like(results[j].value(), random));
      labels.push_back(absl::StrCat("cotangent of result ", j));
    }
  }
  const size_t n = inputs.size();
  if (all.size() == n) return 0;  // no result depends on an input: neither does the gradient

  const auto gradient = [&](Span<const Tensor> x) {
    const bool graph =
        std::any_of(x.begin(), x.end(), [](const Tensor& t) { return t.requires_grad(); });
    const EnableGradGuard on;
    std::vector<Tensor> args(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(n));
    std::vector<Tensor> by;
    for (Tensor& a : args) {
      if (a.dtype() != kFloat64) continue;
      a = as_argument(a, graph);
      by.push_back(a);
    }
    std::vector<Tensor> from;
    for (Tensor& y : f(args)) {
      if (y.requires_grad()) from.push_back(std::move(y));
    }
    auto g = grad(from, by, {.create_graph = graph, .allow_unused = true}, x.subspan(n));
    for (size_t i = 0; i < g.size(); ++i) {
      if (!g[i].defined()) g[i] = Tensor(Array::zeros(kFloat64, by[i].shape()));
    }
    return g;
  };
  return Checker("gradgradcheck", gradient, all, labels, options, options.rtol.value_or(1e-5))
      .run();
}

}  // namespace ebb::detail
