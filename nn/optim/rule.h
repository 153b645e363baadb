// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "ebb/core/array.h"
#include "ebb/nn/optim/missed.h"
#include "ebb/nn/optim/optimizer.h"

// What a first-order optimiser adds to what they all share (slot.h). Not for users.
namespace ebb::optim::detail {

/// What a step does to elements whose gradient is zero.
enum class Idle {
  kNothing,    ///< nothing
  kState,      ///< changes the state, not the value
  kValue,      ///< changes both; a Missed can do many such steps at once
  kNonlinear,  ///< changes both, in a way that has to be done step by step
};

/// Sees the options of a rule by name, to store or to load them.
class OptionVisitor {
 public:
  virtual ~OptionVisitor() = default;
  virtual void number(const char* name, double& value) = 0;
  virtual void flag(const char* name, bool& value) = 0;
};

/// The update rule of one parameter group, with its options.
class Rule {
 public:
  virtual ~Rule() = default;

  /// "SGD"; for messages.
  virtual const char* name() const = 0;
  virtual double& lr() = 0;
  /// The coefficient that one-cycle schedules move against lr: momentum or the first beta. Null
  /// where there is none.
  virtual double* momentum() { return nullptr; }
  virtual void visit_options(OptionVisitor& visitor) = 0;
  /// Throws ValueError where an option is out of its range.
  virtual void validate() const = 0;

  /// Names of the state arrays, at most kMaxStates; which of them the options ask for, and what
  /// they hold before the first step.
  virtual Span<const char* const> states() const = 0;
  virtual bool uses_state(int) const { return true; }
  virtual double initial_state(int) const { return 0; }
  /// The first so many states are there after any step, whatever the options.
  virtual int n_lasting_states() const { return 0; }

  /// Works out the constants of a parameter's step number `step`, from 1. `fresh`: its state was
  /// just made. What follows refers to this step.
  virtual void begin(int64_t step, bool fresh) = 0;
  /// One fused pass over n contiguous elements.
  virtual void update(DType dtype, const Chunk& c, size_t n) const = 0;
  /// The factor f where the options make every step w += f g and nothing else, whatever begin() was
  /// called for last; 0 where it is more.
  virtual double plain_factor() const { return 0; }
  virtual Idle idle() const = 0;

  /// For idle() of kState and kValue: a record of steps, whether a record was made with the
  /// constants of this step, and adding this step to it.
  virtual std::unique_ptr<Missed> new_missed(int64_t) const { return nullptr; }
  virtual bool fits(const Missed&) const { return false; }
  virtual void append_to(Missed&) const {}
};

/// Throws ValueError "SGD: lr is -1; it must be >= 0" unless `ok`.
void require_option(bool ok, const char* rule, const char* option, double value, const char* must);

/// Calls f with the C++ type of float32 or float64.
template <class F>
void visit(DType dtype, F&& f) {
  visit_differentiable(dtype, std::forward<F>(f));
}

/// A rule and the options it has.
template <class Options>
class RuleOf : public Rule {
 public:
  explicit RuleOf(const Options& o) : options(o) {}
  double& lr() final { return options.lr; }

  Options options;
};

template <class Options>
struct MadeRule {
  std::shared_ptr<Rule> rule;
  Options* options;  // in the rule
};

template <class R, class Options>
MadeRule<Options> made(const Options& options) {
  auto rule = std::make_shared<R>(options);
  Options* o = &rule->options;
  return {std::move(rule), o};
}

}  // namespace ebb::optim::detail

namespace ebb::optim {

template <class Options>
OptimizerOf<Options>::OptimizerOf(std::vector<Parameter> parameters, const Options& options) {
  add_group(std::move(parameters), options);
}

// `make_rule` is a function beside each optimiser's options.
template <class Options>
void OptimizerOf<Options>::add_group(std::vector<Parameter> parameters, const Options& options) {
  detail::MadeRule<Options> made = make_rule(options);
  add_rule(std::move(parameters), std::move(made.rule));
  options_.push_back(made.options);
}

template <class Options>
Options& OptimizerOf<Options>::options(size_t group) {
  require_group(group);
  return *options_[group];
}

}  // namespace ebb::optim
