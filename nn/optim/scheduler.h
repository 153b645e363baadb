// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "ebb/nn/optim/optimizer.h"

// Learning rates that follow a plan. A scheduler remembers the learning rate of each group when it
// is made, sets the one of its step 0 at once, and that of the next step at every call of step().
// The optimiser must outlive it.
namespace ebb::optim {

/// A plan in which every group's rate is its first one times a factor of the step's number.
class Scheduler {
 public:
  virtual ~Scheduler() = default;
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// To the next step of the plan.
  void step();
  int64_t steps() const { return steps_; }
  double lr(size_t group = 0) const { return optimizer_.lr(group); }

  virtual nn::StateDict state_dict() const;
  /// Throws ValueError where `state` does not fit; nothing is changed then. Sets the rates of that
  /// step, so that it does not matter whether the optimiser's state was loaded before or after the
  /// scheduler was made.
  virtual void load_state_dict(const nn::StateDict& state);

 protected:
  explicit Scheduler(Optimizer& optimizer);
  /// The rate of a group at step t >= 0, from its first one.
  virtual double rate(double base, int64_t t) const = 0;
  /// Whatever moves with the rate.
  virtual void also(int64_t) {}
  /// Sets the rates of step t; with 0, at the end of a constructor.
  void go_to(int64_t t);

  Optimizer& optimizer_;
  std::vector<double> bases_;

 private:
  int64_t steps_ = 0;
};

/// base * factor(t).
class LambdaLR final : public Scheduler {
 public:
  LambdaLR(Optimizer& optimizer, std::function<double(int64_t)> factor);

 private:
  double rate(double base, int64_t t) const override;
  std::function<double(int64_t)> factor_;
};

/// base * gamma^floor(t / step_size). Throws ValueError unless step_size >= 1.
class StepLR final : public Scheduler {
 public:
  StepLR(Optimizer& optimizer, int64_t step_size, double gamma = 0.1);

 private:
  double rate(double base, int64_t t) const override;
  int64_t step_size_;
  double gamma_;
};

/// base * gamma^(number of milestones <= t).
class MultiStepLR final : public Scheduler {
 public:
  MultiStepLR(Optimizer& optimizer, std::vector<int64_t> milestones, double gamma = 0.1);

 private:
  double rate(double base, int64_t t) const override;
  std::vector<int64_t> milestones_;  // ascending
  double gamma_;
};

/// base * gamma^t.
class ExponentialLR final : public Scheduler {
 public:
  ExponentialLR(Optimizer& optimizer, double gamma);

 private:
  double rate(double base, int64_t t) const override;
  double gamma_;
};

struct LinearLROptions {
  double start_factor = 1.0 / 3;  ///< > 0
  double end_factor = 1;          ///< >= 0
  int64_t total_iters = 5;        ///< >= 1
};

/// The factor goes in a straight line from start_factor to end_factor in total_iters steps, and
/// stays there: a warm-up. Throws ValueError on options outside their range.
class LinearLR final : public Scheduler {
 public:
  explicit LinearLR(Optimizer& optimizer, const LinearLROptions& options = {});

 private:
  double rate(double base, int64_t t) const override;
  LinearLROptions options_;
};

struct CosineLROptions {
  int64_t t_max;       ///< >= 1; steps from base to eta_min
  double eta_min = 0;  ///< the lowest rate
  int64_t warmup = 0;  ///< >= 0; steps of linear warm-up from base / warmup before the cosine
};

/// eta_min + (base - eta_min) * (1 + cos(pi t / t_max)) / 2: Loshchilov and Hutter 2017, "SGDR:
/// stochastic gradient descent with warm restarts", without the restarts. Beyond t_max it goes up
/// again. Throws ValueError on options outside their range.
class CosineAnnealingLR final : public Scheduler {
 public:
  CosineAnnealingLR(Optimizer& optimizer, const CosineLROptions& options);

 private:
  double rate(double base, int64_t t) const override;
  CosineLROptions options_;
};

struct OneCycleLROptions {
  double max_lr;                  ///< > 0
  int64_t total_steps;            ///< >= 2
  double pct_start = 0.3;         ///< in (0, 1); the part of the cycle spent going up
  bool cosine = true;             ///< else straight lines
  bool cycle_momentum = true;     ///< momentum, or the first beta, goes the other way
  double base_momentum = 0.85;    ///< at max_lr
  double max_momentum = 0.95;     ///< at both ends
  double div_factor = 25;         ///< the first rate is max_lr / div_factor
  double final_div_factor = 1e4;  ///< the last one is the first one / final_div_factor
};

/// Up to max_lr and down to nearly nothing: Smith and Topin 2018, "Super-convergence: very fast
/// training of neural networks using large learning rates", with PyTorch's two phases. Throws
/// ValueError on options outside their range, and when stepped beyond total_steps.
class OneCycleLR final : public Scheduler {
 public:
  OneCycleLR(Optimizer& optimizer, const OneCycleLROptions& options);

 private:
  double rate(double base, int64_t t) const override;
  void also(int64_t t) override;
  double between(int64_t t, double first, double middle, double last) const;
  OneCycleLROptions options_;
};

struct PlateauOptions {
  enum class Mode { kMin, kMax };
  enum class Threshold { kRelative, kAbsolute };
  Mode mode = Mode::kMin;   ///< whether the metric should fall or rise
  double factor = 0.1;      ///< in (0, 1)
  int64_t patience = 10;    ///< steps without improvement that are tolerated
  double threshold = 1e-4;  ///< what counts as an improvement
  Threshold threshold_mode = Threshold::kRelative;
  int64_t cooldown = 0;  ///< steps after a reduction during which nothing counts
  double min_lr = 0;
  double eps = 1e-8;  ///< smaller changes of the rate are not made
};

/// Multiplies the rate of every group by `factor` when a metric stops improving.
class ReduceLROnPlateau {
 public:
  /// Throws ValueError on options outside their range.
  explicit ReduceLROnPlateau(Optimizer& optimizer, const PlateauOptions& options = {});

  /// Call after each validation with its metric.
  void step(double metric);
  double best() const { return best_; }

  nn::StateDict state_dict() const;
  /// Throws ValueError where `state` does not fit; nothing is changed then.
  void load_state_dict(const nn::StateDict& state);

 private:
  bool better(double metric) const;

  Optimizer& optimizer_;
  PlateauOptions options_;
  double best_;
  int64_t bad_ = 0;
  int64_t cooldown_ = 0;
};

}  // namespace ebb::optim
