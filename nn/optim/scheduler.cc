// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/scheduler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "ebb/nn/optim/rule.h"

namespace ebb::optim {
namespace {

using detail::require_option;

Tensor number(double x) { return Tensor(Array::scalar(kFloat64, x)); }

// The numbers of that name, all of which must be there and nothing else.
std::vector<double> read(const nn::StateDict& state, const char* who,
                         const std::vector<std::string>& keys) {
  std::vector<double> out;
  for (const std::string& key : keys) {
    const auto it = state.find(key);
    if (it == state.end()) {
      throw ValueError(absl::StrCat(who, ": state ", key, " is missing"));
    }
    if (it->second.numel() != 1) {
      throw ValueError(absl::StrCat(who, ": state ", key, " is ", it->second.shape().str(),
                                    "; it must be one number"));
    }
    out.push_back(it->second.item());
  }
  if (state.size() != keys.size()) {
    throw ValueError(absl::StrCat(who, ": the state has ", state.size(), " entries; it must have ",
                                  keys.size()));
  }
  return out;
}

std::vector<std::string> keys_of_bases(size_t n) {
  std::vector<std::string> keys{"steps"};
  for (size_t i = 0; i < n; ++i) keys.push_back(absl::StrCat("base.", i));
  return keys;
}

}  // namespace

Scheduler::Scheduler(Optimizer& optimizer) : optimizer_(optimizer) {
  for (size_t g = 0; g < optimizer.group_count(); ++g) bases_.push_back(optimizer.lr(g));
}

void Scheduler::go_to(int64_t t) {
  for (size_t g = 0; g < bases_.size(); ++g) optimizer_.set_lr(g, rate(bases_[g], t));
  also(t);
  steps_ = t;
}

void Scheduler::step() { go_to(steps_ + 1); }

nn::StateDict Scheduler::state_dict() const {
  nn::StateDict out;
  out["steps"] = number(static_cast<double>(steps_));
  for (size_t g = 0; g < bases_.size(); ++g) out[absl::StrCat("base.", g)] = number(bases_[g]);
  return out;
}

void Scheduler::load_state_dict(const nn::StateDict& state) {
  const auto values = read(state, "Scheduler", keys_of_bases(bases_.size()));
  bases_.assign(values.begin() + 1, values.end());
  go_to(static_cast<int64_t>(values[0]));
}

LambdaLR::LambdaLR(Optimizer& optimizer, std::function<double(int64_t)> factor)
    : Scheduler(optimizer), factor_(std::move(factor)) {
  go_to(0);
}
double LambdaLR::rate(double base, int64_t t) const { return base * factor_(t); }

StepLR::StepLR(Optimizer& optimizer, int64_t step_size, double gamma)
    : Scheduler(optimizer), step_size_(step_size), gamma_(gamma) {
  require_option(step_size >= 1, "StepLR", "step_size", static_cast<double>(step_size), ">= 1");
  go_to(0);
}
double StepLR::rate(double base, int64_t t) const {
  return base * std::pow(gamma_, static_cast<double>(t / step_size_));
}

MultiStepLR::MultiStepLR(Optimizer& optimizer, std::vector<int64_t> milestones, double gamma)
    : Scheduler(optimizer), milestones_(std::move(milestones)), gamma_(gamma) {
  std::sort(milestones_.begin(), milestones_.end());
  go_to(0);
}
double MultiStepLR::rate(double base, int64_t t) const {
  const auto passed = std::upper_bound(milestones_.begin(), milestones_.end(), t);
  return base * std::pow(gamma_, static_cast<double>(passed - milestones_.begin()));
}

ExponentialLR::ExponentialLR(Optimizer& optimizer, double gamma)
    : Scheduler(optimizer), gamma_(gamma) {
  go_to(0);
}
double ExponentialLR::rate(double base, int64_t t) const {
  return base * std::pow(gamma_, static_cast<double>(t));
}

LinearLR::LinearLR(Optimizer& optimizer, const LinearLROptions& options)
    : Scheduler(optimizer), options_(options) {
  const LinearLROptions& o = options;
  require_option(o.start_factor > 0, "LinearLR", "start_factor", o.start_factor, "> 0");
  require_option(o.end_factor >= 0, "LinearLR", "end_factor", o.end_factor, ">= 0");
  require_option(o.total_iters >= 1, "LinearLR", "total_iters", static_cast<double>(o.total_iters),
                 ">= 1");
  go_to(0);
}
double LinearLR::rate(double base, int64_t t) const {
  const double done =
      std::min(1.0, static_cast<double>(t) / static_cast<double>(options_.total_iters));
  return base * (options_.start_factor + (options_.end_factor - options_.start_factor) * done);
}

CosineAnnealingLR::CosineAnnealingLR(Optimizer& optimizer, const CosineLROptions& options)
    : Scheduler(optimizer), options_(options) {
  const CosineLROptions& o = options;
  require_option(o.t_max >= 1, "CosineAnnealingLR", "t_max", static_cast<double>(o.t_max), ">= 1");
  require_option(o.warmup >= 0, "CosineAnnealingLR", "warmup", static_cast<double>(o.warmup),
                 ">= 0");
  go_to(0);
}
double CosineAnnealingLR::rate(double base, int64_t t) const {
  const int64_t warmup = options_.warmup;
  if (t < warmup) return base * static_cast<double>(t + 1) / static_cast<double>(warmup);
  const double phase = static_cast<double>(t - warmup) / static_cast<double>(options_.t_max);
  const double low = options_.eta_min;
  return low + (base - low) * (1 + std::cos(std::numbers::pi * phase)) / 2;
}

OneCycleLR::OneCycleLR(Optimizer& optimizer, const OneCycleLROptions& options)
    : Scheduler(optimizer), options_(options) {
  const OneCycleLROptions& o = options;
  constexpr const char* kName = "OneCycleLR";
  require_option(o.max_lr > 0, kName, "max_lr", o.max_lr, "> 0");
  require_option(o.total_steps >= 2, kName, "total_steps", static_cast<double>(o.total_steps),
                 ">= 2");
  require_option(o.pct_start > 0 && o.pct_start < 1, kName, "pct_start", o.pct_start, "in (0, 1)");
  require_option(o.div_factor > 0, kName, "div_factor", o.div_factor, "> 0");
  require_option(o.final_div_factor > 0, kName, "final_div_factor", o.final_div_factor, "> 0");
  go_to(0);
}
double OneCycleLR::between(int64_t t, double first, double middle, double last) const {
  const auto total = static_cast<double>(options_.total_steps);
  const double top = options_.pct_start * total - 1;
  const auto now = static_cast<double>(std::min(t, options_.total_steps - 1));
  const bool up = now <= top;
  const double from = up ? first : middle;
  const double to = up ? middle : last;
  const double part = !up ? (now - top) / (total - 1 - top) : top > 0 ? now / top : 1;
  if (!options_.cosine) return from + (to - from) * part;
  return to + (from - to) * (1 + std::cos(std::numbers::pi * part)) / 2;
}
double OneCycleLR::rate(double, int64_t t) const {
  const OneCycleLROptions& o = options_;
  // A loop that steps after each of its total_steps updates ends here, with no update to follow.
  require_option(t <= o.total_steps, "OneCycleLR", "the number of steps", static_cast<double>(t),
                 absl::StrCat("<= total_steps = ", o.total_steps).c_str());
  const double first = o.max_lr / o.div_factor;
  return between(t, first, o.max_lr, first / o.final_div_factor);
}
void OneCycleLR::also(int64_t t) {
  if (!options_.cycle_momentum) return;
  const double high = options_.max_momentum;
  for (size_t g = 0; g < bases_.size(); ++g) {
    double* momentum = optimizer_.momentum(g);
    if (momentum != nullptr) *momentum = between(t, high, options_.base_momentum, high);
  }
}

// ---- plateau
// -------------------------------------------------------------------------------------

namespace {

const std::vector<std::string>& plateau_keys() {
  static const std::vector<std::string> keys{"best", "bad", "cooldown"};
  return keys;
}

}  // namespace

ReduceLROnPlateau::ReduceLROnPlateau(Optimizer& optimizer, const PlateauOptions& options)
    : optimizer_(optimizer),
      options_(options),
      best_(options.mode == PlateauOptions::Mode::kMin ? std::numeric_limits<double>::infinity()
                                                       : -std::numeric_limits<double>::infinity()) {
  constexpr const char* kName = "ReduceLROnPlateau";
  const auto count = [](const char* what, int64_t n) {
    require_option(n >= 0, kName, what, static_cast<double>(n), ">= 0");
  };
  require_option(options.factor > 0 && options.factor < 1, kName, "factor", options.factor,
                 "in (0, 1)");
  count("patience", options.patience);
  count("cooldown", options.cooldown);
}

bool ReduceLROnPlateau::better(double metric) const {
  const bool relative = options_.threshold_mode == PlateauOptions::Threshold::kRelative;
  if (options_.mode == PlateauOptions::Mode::kMin) {
    return metric < (relative ? best_ * (1 - options_.threshold) : best_ - options_.threshold);
  }
  return metric > (relative ? best_ * (1 + options_.threshold) : best_ + options_.threshold);
}

void ReduceLROnPlateau::step(double metric) {
  if (better(metric)) {
    best_ = metric;
    bad_ = 0;
  } else {
    ++bad_;
  }
  if (cooldown_ > 0) {
    --cooldown_;
    bad_ = 0;
  }
  if (bad_ <= options_.patience) return;
  for (size_t g = 0; g < optimizer_.group_count(); ++g) {
    const double before = optimizer_.lr(g);
    const double after = std::max(before * options_.factor, options_.min_lr);
    if (before - after > options_.eps) optimizer_.set_lr(g, after);
  }
  cooldown_ = options_.cooldown;
  bad_ = 0;
}

nn::StateDict ReduceLROnPlateau::state_dict() const {
  return {{"best", number(best_)},
          {"bad", number(static_cast<double>(bad_))},
          {"cooldown", number(static_cast<double>(cooldown_))}};
}

void ReduceLROnPlateau::load_state_dict(const nn::StateDict& state) {
  const auto values = read(state, "ReduceLROnPlateau", plateau_keys());
  best_ = values[0];
  bad_ = static_cast<int64_t>(values[1]);
  cooldown_ = static_cast<int64_t>(values[2]);
}

}  // namespace ebb::optim
