// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ebb/autograd/leaf.h"
#include "ebb/nn/state_dict.h"

namespace ebb::optim {

namespace detail {
class OptionVisitor;
class Rule;
class Slot;
}  // namespace detail

/// What all first-order optimisers share: groups of parameters with options of their own, steps,
/// and state by name.
///
/// A step costs what the gradient is: where it is zero but for a few rows or columns (embeddings,
/// gathers, sparse activations), only those are updated. What the rule does to the others without a
/// gradient, such as momentum running out or weights decaying, is put off until somebody reads
/// them, and done then for all missed steps at once. The result is that of the dense step up to
/// rounding. Gradients that are sums of products are multiplied out block by block as the update
/// goes, never as a whole. A plain step by one product, of a large matrix that was used on a
/// vector, waits for the next linear() on the matrix, and both take one pass over it. Weight decay
/// inside the gradient (L2) of an adaptive rule cannot be put off; such steps touch every element.
///
/// An optimiser must be the only one at work on its parameters while it steps; reading a parameter
/// from several threads at once right after a step is safe only after `catch_up`.
class Optimizer {
 public:
  /// Brings all parameters up to date.
  virtual ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// Updates every parameter that has a gradient; one without is left as it is, and its own count
  /// of steps stays. Throws ValueError where an option was set outside its range.
  void step();
  /// Drops the gradients, so that the next backward() starts from nothing.
  void zero_grad();
  /// Does now whatever was put off.
  void catch_up();

  size_t group_count() const { return groups_.size(); }
  /// Learning rate of a group. Throws IndexError where there is no such group.
  double lr(size_t group = 0) const;
  void set_lr(size_t group, double lr);
  /// Of all groups.
  void set_lr(double lr);
  /// The options of a group that schedules move against the learning rate: momentum or the first
  /// beta; null where the rule has none.
  double* momentum(size_t group = 0);
  std::vector<Parameter> parameters(size_t group = 0) const;

  /// Options ("groups.0.lr") and state ("state.hidden.weight.exp_avg", "...step"), all that is
  /// needed to go on. A parameter goes by its name in its module, or by "<group>.<number>" where it
  /// has none or shares it. The arrays are copies.
  nn::StateDict state_dict() const;
  /// Takes over options and state. Parameters without any state there start afresh. Throws
  /// ValueError on names that are missing or do not belong here and on values out of range,
  /// ShapeError where an array does not fit; nothing is changed then.
  void load_state_dict(const nn::StateDict& state);

 protected:
  Optimizer();
  /// Throws ValueError where there are no parameters, one is undefined, or is in a group already.
  void add_rule(std::vector<Parameter> parameters, std::shared_ptr<detail::Rule> rule);
  void require_group(size_t group) const;

 private:
  struct Group {
    std::shared_ptr<detail::Rule> rule;
    std::vector<std::unique_ptr<detail::Slot>> slots;
  };
  void save_options(nn::StateDict* to) const;
  template <class F>
  void for_each_slot(F&& f) const;  // f(group, slot, key)

  std::vector<Group> groups_;
};

/// An optimiser with the options of its rule.
template <class Options>
class OptimizerOf : public Optimizer {
 public:
  /// One group. Throws ValueError on options outside their range, and as add_group.
  explicit OptimizerOf(std::vector<Parameter> parameters, const Options& options = {});

  /// Another group, with its own options. Throws ValueError where `parameters` is empty or has one
  /// that is undefined or in a group already.
  void add_group(std::vector<Parameter> parameters, const Options& options);

  /// The options of a group, to read or to change between steps.
  Options& options(size_t group = 0);

 private:
  std::vector<Options*> options_;
};

}  // namespace ebb::optim
