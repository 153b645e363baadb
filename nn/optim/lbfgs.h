// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "ebb/autograd/leaf.h"
#include "ebb/nn/state_dict.h"

namespace ebb::optim {

enum class LineSearch {
  kNone,         ///< the step is lr
  kStrongWolfe,  ///< sufficient decrease and curvature, from lr on
};

struct LBFGSOptions {
  double lr = 1;                   ///< > 0; the first step tried along each direction
  int64_t max_iter = 20;           ///< directions per call of step
  int64_t max_eval = 0;            ///< closure calls per call of step; 0: max_iter * 5 / 4
  double tolerance_grad = 1e-7;    ///< stop where no gradient is larger
  double tolerance_change = 1e-9;  ///< stop where neither loss nor any weight changes by more
  int64_t history_size = 100;      ///< pairs kept
  LineSearch line_search = LineSearch::kNone;
};

/// Limited-memory BFGS (Liu and Nocedal 1989, "On the limited memory BFGS method for large scale
/// optimization"), for losses that are deterministic. The line search is that of Nocedal and
/// Wright 2006, "Numerical optimization", algorithms 3.5 and 3.6, with cubic interpolation. All
/// vectors of the method are float64, whatever the parameters are.
class LBFGS {
 public:
  /// Throws ValueError on options outside their range, and where there are no parameters, one is
  /// undefined or given twice.
  explicit LBFGS(std::vector<Parameter> parameters, const LBFGSOptions& options = {});
  LBFGS(const LBFGS&) = delete;
  LBFGS& operator=(const LBFGS&) = delete;

  /// Up to max_iter directions. `closure` clears the gradients, computes the loss, calls backward()
  /// on it and returns it, as a number or a scalar tensor; it is called several times. Gives the
  /// loss before the first step. Where closure throws, the parameters are back at the last point
  /// that was accepted.
  template <class F>
  double step(F&& closure) {
    return run([&closure]() -> double {
      if constexpr (std::is_arithmetic_v<std::invoke_result_t<F&>>) {
        return static_cast<double>(closure());
      } else {
        const Tensor loss = closure();
        return loss.item();
      }
    });
  }

  void zero_grad();
  double lr() const { return options_.lr; }
  void set_lr(double lr) { options_.lr = lr; }
  LBFGSOptions& options() { return options_; }
  /// Calls of closure so far.
  int64_t evaluations() const { return evaluations_; }

  /// All that is needed to go on; see Optimizer::state_dict. The options are not in it.
  nn::StateDict state_dict() const;
  /// Throws ValueError or ShapeError where `state` does not fit; nothing is changed then.
  void load_state_dict(const nn::StateDict& state);

 private:
  using Vector = std::vector<double, ebb::detail::PoolAllocator<double>>;
  using Closure = absl::FunctionRef<double()>;
  // What changed in a step: s = x - x before, y = gradient - gradient before.
  struct Pair {
    Vector s;
    Vector y;
    double inverse;  // 1 / <y, s>
  };
  struct Point {
    double t = 0;  // step along the direction
    double loss = 0;
    double slope = 0;
    Vector gradient;
  };

  double run(Closure closure);
  void choose_direction();
  void remember();
  void gather_values();
  void gather_gradient(Vector* to) const;
  void move_to(double t);
  void evaluate(Closure closure, double t, Point* p);
  void search(Closure closure, Point* best);

  std::vector<Parameter> parameters_;
  LBFGSOptions options_;
  size_t size_ = 0;  // elements of all parameters

  int64_t iterations_ = 0;
  int64_t evaluations_ = 0;
  int64_t evaluations_here_ = 0;  // in this call of step
  double scale_ = 1;              // of the first guess at the inverse Hessian
  std::vector<Pair> pairs_;       // the oldest first
  std::vector<Pair> spare_;       // buffers for the next pair
  Vector x_;                      // the point accepted last
  Vector direction_;
  Vector before_;  // the gradient one step ago
  Vector weights_;
  Point here_;
  Point low_;
  Point high_;
  Point trial_;
};

}  // namespace ebb::optim
