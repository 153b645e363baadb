// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ebb/autograd/leaf.h"
#include "ebb/nn/optim/missed.h"
#include "ebb/nn/optim/rule.h"

namespace ebb::optim::detail {

using ebb::detail::Leaf;

/// One parameter of an optimiser: its state, and the steps that some of its lines have missed.
/// Lines are rows, or the columns of a matrix: whichever the gradients of late were sparse in.
class Slot final : public ebb::detail::LazyUpdates {
 public:
  Slot(Parameter parameter, Rule& rule) : parameter_(std::move(parameter)), rule_(rule) {}
  ~Slot() override;
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;

  void step();
  /// The step w += factor g of a parameter that has no state and no steps put off; false, and
  /// nothing done, for any other.
  bool step_plainly(double factor);
  /// Does all that was put off.
  void catch_up();
  void catch_up(Leaf& leaf, const Array* ids) override;
  bool is_product() const override { return product_.factor != 0; }
  void catch_up_and_multiply(Leaf& leaf, const Array& x, const Array& y, double beta) override;

  const Parameter& parameter() const { return parameter_; }
  int64_t steps() const { return steps_; }
  /// Undefined before the first step.
  const Array& state(int i) const { return states_[i]; }
  /// Takes over a state, `states` being one for each of the rule's, undefined or of the parameter's
  /// shape. Call catch_up() before.
  void load(int64_t steps, Span<const Array> states);

 private:
  bool make_states(const Array& value);
  Chunk chunk(const Array& value) const;
  Chunk chunk_at(const Array& value, int64_t element) const;
  void update_all(Gradient& g, const Array& value);
  void update_blocks(Gradient& g, const Array& value);
  void update_strided(Gradient& g, const Array& value);
  void update_lines(Leaf& leaf, int axis, const Array& ids, const Array& gradient);
  void update_rows(const Array& value, const Array& ids, const Array& gradient);
  void update_columns(const Array& value, const Array& ids, const Array& gradient);

  bool put_off(Leaf& leaf, double factor, const Gradient& g);
  void add_product(const Array& value);
  void nothing_is_put_off(Leaf& leaf);

  void track(Leaf& leaf, int axis);
  void replay_line(const Array& value, int64_t line);
  void replay_all(Leaf& leaf);
  void replay_all_rows(const Array& value);
  void replay_columns(const Array& value, int64_t first, int64_t count, int64_t from);
  void replay_all_columns(const Array& value);

  Parameter parameter_;
  Rule& rule_;
  int64_t steps_ = 0;
  Array states_[kMaxStates];  // contiguous, of the parameter's type

  // NOTE [A product put off]
  // The plain step of a matrix that was used on one vector is w += factor u v'. It takes a pass
  // over the matrix, and the next use takes another; so the step waits for that use, and both take
  // one. Whatever else reads the matrix first does the step by itself.
  struct {
    double factor = 0;  // 0: none
    Array u;            // [m]
    Array v;            // [n]
  } product_;

  std::unique_ptr<Missed> missed_;
  int axis_ = 0;
  // How many of the steps in missed_ each line has done.
  PoolVector<uint32_t> done_;
};

}  // namespace ebb::optim::detail
