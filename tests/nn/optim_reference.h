// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ebb/autograd/array_ops.h"
#include "ebb/core/error.h"
#include "ebb/nn/optim/optim.h"

// The published update rules, one element at a time in float64, and the optimisers under test with
// the same options.
namespace ebb::optim_testing {

/// What a rule remembers of one element. `t` counts its steps from 1.
struct Memory {
  double a = 0;
  double b = 0;
  double c = 0;
  bool first = true;
};
/// One step of one element: returns the new weight. `lr` is that of the step.
using Rule = std::function<double(double w, double g, double lr, int t, Memory& m)>;

struct Case {
  std::string name;
  double lr;
  Rule rule;
  std::function<std::unique_ptr<optim::Optimizer>(std::vector<Parameter>)> make;
};

inline Case sgd_case(const std::string& name, const optim::SGDOptions& o) {
  const Rule rule = [o](double w, double g, double lr, int, Memory& m) {
    if (o.maximize) g = -g;
    g += o.weight_decay * w;
    if (o.momentum != 0) {
      m.a = m.first ? g : o.momentum * m.a + (1 - o.dampening) * g;
      m.first = false;
      g = o.nesterov ? g + o.momentum * m.a : m.a;
    }
    return w - lr * g;
  };
  return {name, o.lr, rule, [o](auto p) { return std::make_unique<optim::SGD>(p, o); }};
}

template <class O>
double adam_rule(const O& o, bool decoupled, double w, double g, double lr, int t, Memory& m) {
  if (o.maximize) g = -g;
  if (decoupled) {
    w -= lr * o.weight_decay * w;
  } else {
    g += o.weight_decay * w;
  }
  m.a = o.betas[0] * m.a + (1 - o.betas[0]) * g;
  m.b = o.betas[1] * m.b + (1 - o.betas[1]) * g * g;
  m.c = std::fmax(m.c, m.b);
  const double m_hat = m.a / (1 - std::pow(o.betas[0], t));
  const double v_hat = (o.amsgrad ? m.c : m.b) / (1 - std::pow(o.betas[1], t));
  return w - lr * m_hat / (std::sqrt(v_hat) + o.eps);
}

inline Case adam_case(const std::string& name, const optim::AdamOptions& o) {
  return {name, o.lr,
          [o](double w, double g, double lr, int t, Memory& m) {
            return adam_rule(o, false, w, g, lr, t, m);
          },
          [o](auto p) { return std::make_unique<optim::Adam>(p, o); }};
}

inline Case adamw_case(const std::string& name, const optim::AdamWOptions& o) {
  return {name, o.lr,
          [o](double w, double g, double lr, int t, Memory& m) {
            return adam_rule(o, true, w, g, lr, t, m);
          },
          [o](auto p) { return std::make_unique<optim::AdamW>(p, o); }};
}

inline Case adagrad_case(const std::string& name, const optim::AdagradOptions& o) {
  const Rule rule = [o](double w, double g, double lr, int t, Memory& m) {
    if (m.first) m.a = o.initial_accumulator_value;
    m.first = false;
    if (o.maximize) g = -g;
    g += o.weight_decay * w;
    m.a += g * g;
    return w - lr / (1 + (t - 1) * o.lr_decay) * g / (std::sqrt(m.a) + o.eps);
  };
  return {name, o.lr, rule, [o](auto p) { return std::make_unique<optim::Adagrad>(p, o); }};
}

inline Case adadelta_case(const std::string& name, const optim::AdadeltaOptions& o) {
  const Rule rule = [o](double w, double g, double lr, int, Memory& m) {
    if (o.maximize) g = -g;
    g += o.weight_decay * w;
    m.a = o.rho * m.a + (1 - o.rho) * g * g;
    const double step = std::sqrt(m.b + o.eps) / std::sqrt(m.a + o.eps) * g;
    m.b = o.rho * m.b + (1 - o.rho) * step * step;
    return w - lr * step;
  };
  return {name, o.lr, rule, [o](auto p) { return std::make_unique<optim::Adadelta>(p, o); }};
}

inline Case rmsprop_case(const std::string& name, const optim::RMSpropOptions& o) {
  const Rule rule = [o](double w, double g, double lr, int, Memory& m) {
    if (o.maximize) g = -g;
    g += o.weight_decay * w;
    m.a = o.alpha * m.a + (1 - o.alpha) * g * g;
    double square = m.a;
    if (o.centered) {
      m.b = o.alpha * m.b + (1 - o.alpha) * g;
      square -= m.b * m.b;
    }
    double step = g / (std::sqrt(square) + o.eps);
    if (o.momentum > 0) step = m.c = o.momentum * m.c + step;
    return w - lr * step;
  };
  return {name, o.lr, rule, [o](auto p) { return std::make_unique<optim::RMSprop>(p, o); }};
}

/// Every rule with every option.
inline std::vector<Case> all_cases() {
  return {
      sgd_case("Sgd", {.lr = 1e-4}),
      sgd_case("SgdMaximize", {.lr = 1e-5, .maximize = true}),
      sgd_case("SgdDecay", {.lr = 1e-4, .weight_decay = 0.1}),
      sgd_case("SgdMomentum", {.lr = 1e-4, .momentum = 0.9}),
      sgd_case("SgdMomentumMaximize", {.lr = 1e-6, .momentum = 0.5, .maximize = true}),
      sgd_case("SgdDampened", {.lr = 1e-4, .momentum = 0.9, .dampening = 0.3}),
      sgd_case("SgdNesterov", {.lr = 1e-4, .momentum = 0.9, .nesterov = true}),
      sgd_case("SgdMomentumDecay", {.lr = 1e-4, .momentum = 0.8, .weight_decay = 0.1}),
      sgd_case("SgdDampenedDecay",
               {.lr = 1e-4, .momentum = 0.8, .dampening = 0.5, .weight_decay = 0.1}),
      sgd_case("SgdNesterovDecay",
               {.lr = 1e-4, .momentum = 0.8, .weight_decay = 0.1, .nesterov = true}),
      adam_case("Adam", {.lr = 0.02}),
      adam_case("AdamBetas", {.lr = 0.02, .betas = {0.7, 0.9}, .eps = 1e-3}),
      adam_case("AdamSteep", {.lr = 0.02, .betas = {0.95, 0.9}}),
      adam_case("AdamNoMomentum", {.lr = 0.002, .betas = {0, 0.99}}),
      adam_case("AdamDecay", {.lr = 0.02, .weight_decay = 0.1}),
      adam_case("AdamMaximize", {.lr = 0.001, .maximize = true}),
      adam_case("AmsGrad", {.lr = 0.02, .betas = {0.8, 0.9}, .amsgrad = true}),
      adamw_case("AdamW", {.lr = 0.02}),
      adamw_case("AdamWStrong", {.lr = 0.02, .weight_decay = 0.5}),
      adamw_case("AdamWNoDecay", {.lr = 0.02, .weight_decay = 0}),
      adamw_case("AmsGradW",
                 {.lr = 0.02, .betas = {0.8, 0.9}, .weight_decay = 0.3, .amsgrad = true}),
      adagrad_case("Adagrad", {.lr = 0.1}),
      adagrad_case("AdagradLrDecay", {.lr = 0.1, .lr_decay = 0.01}),
      adagrad_case("AdagradStart", {.lr = 0.1, .initial_accumulator_value = 0.5, .eps = 1e-3}),
      adagrad_case("AdagradDecay", {.lr = 0.1, .weight_decay = 0.1}),
      adagrad_case("AdagradMaximize", {.lr = 0.001, .maximize = true}),
      adadelta_case("Adadelta", {.lr = 0.5}),
      adadelta_case("AdadeltaRho", {.lr = 1, .rho = 0.5, .eps = 1e-4}),
      adadelta_case("AdadeltaDecay", {.lr = 0.5, .weight_decay = 0.1}),
      adadelta_case("AdadeltaMaximize", {.lr = 0.01, .maximize = true}),
      rmsprop_case("RmsProp", {.lr = 0.01}),
      rmsprop_case("RmsPropMomentum", {.lr = 0.002, .alpha = 0.9, .momentum = 0.8}),
      rmsprop_case("RmsPropCentered", {.lr = 0.002, .alpha = 0.9, .centered = true}),
      rmsprop_case("RmsPropCenteredMomentum",
                   {.lr = 0.002, .alpha = 0.95, .eps = 1e-4, .momentum = 0.5, .centered = true}),
      rmsprop_case("RmsPropDecay", {.lr = 0.01, .weight_decay = 0.1}),
      rmsprop_case("RmsPropMaximize", {.lr = 0.001, .maximize = true}),
  };
}

/// A gradient put where backward() would put it.
inline void set_gradient(const Parameter& p, Gradient g) {
  const std::lock_guard lock(p.leaf().mutex);
  p.leaf().grad = std::move(g);
}

/// What f's exception says.
template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

/// A vector as a parameter.
inline Parameter parameter(const std::vector<double>& values, DType dtype = kFloat64) {
  return Parameter(
      Tensor(cast(Array::of<double>({static_cast<int64_t>(values.size())}, values), dtype)));
}

inline Gradient gradient(const std::vector<double>& values, DType dtype = kFloat64) {
  return Gradient(parameter(values, dtype)->value());
}

/// Rosenbrock's function in n dimensions, sum_i 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2, and its
/// gradient.
inline double rosenbrock(const std::vector<double>& x) {
  double sum = 0;
  for (size_t i = 0; i + 1 < x.size(); ++i) {
    sum += 100 * std::pow(x[i + 1] - x[i] * x[i], 2) + std::pow(1 - x[i], 2);
  }
  return sum;
}

inline std::vector<double> rosenbrock_gradient(const std::vector<double>& x) {
  std::vector<double> g(x.size());
  for (size_t i = 0; i + 1 < x.size(); ++i) {
    const double d = x[i + 1] - x[i] * x[i];
    g[i] += -400 * x[i] * d - 2 * (1 - x[i]);
    g[i + 1] += 200 * d;
  }
  return g;
}

}  // namespace ebb::optim_testing
