// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/tree_lstm.h"

#include "ebb/nn/recurrent_util.h"
#include "ebb/ops/creation.h"

namespace ebb::nn {

using detail::drawn;
using detail::or_absent;
using detail::require_sizes;

BinaryTreeLSTMCell::BinaryTreeLSTMCell(int64_t in, int64_t hidden, TreeLSTMOptions options) {
  start(in, hidden, options);
}

BinaryTreeLSTMCell::BinaryTreeLSTMCell(Module& parent, std::string name, int64_t in, int64_t hidden,
                                       TreeLSTMOptions options)
    : Module(parent, std::move(name)) {
  start(in, hidden, options);
}

void BinaryTreeLSTMCell::start(int64_t in, int64_t hidden, TreeLSTMOptions options) {
  require_sizes("BinaryTreeLSTMCell", in, hidden);
  weight_ih = drawn(register_parameter("weight_ih", zeros({4 * hidden, in})), hidden);
  weight_hh = drawn(register_parameter("weight_hh", zeros({5 * hidden, 2 * hidden})), hidden);
  if (!options.bias) return;
  bias_ih = drawn(register_parameter("bias_ih", zeros({4 * hidden})), hidden);
  bias_hh = drawn(register_parameter("bias_hh", zeros({5 * hidden})), hidden);
}

LSTMState BinaryTreeLSTMCell::leaf(const Tensor& x, Where where) const {
  const Tensor absent;
  return nary_tree_lstm_cell(x, {}, weight_ih, weight_hh, or_absent(bias_ih, absent),
                             or_absent(bias_hh, absent), where);
}

LSTMState BinaryTreeLSTMCell::operator()(const LSTMState& left, const LSTMState& right,
                                         Where where) const {
  return (*this)(Tensor(), left, right, where);
}

LSTMState BinaryTreeLSTMCell::operator()(const Tensor& x, const LSTMState& left,
                                         const LSTMState& right, Where where) const {
  const Tensor absent;
  const LSTMState children[] = {left, right};
  return nary_tree_lstm_cell(x, children, weight_ih, weight_hh, or_absent(bias_ih, absent),
                             or_absent(bias_hh, absent), where);
}

std::unique_ptr<Module> BinaryTreeLSTMCell::clone() const {
  return clone_as(*this, weight_ih.size(1), weight_hh.size(1) / 2,
                  TreeLSTMOptions{.bias = bias_ih.defined()});
}

ChildSumTreeLSTMCell::ChildSumTreeLSTMCell(int64_t in, int64_t hidden, TreeLSTMOptions options) {
  start(in, hidden, options);
}

ChildSumTreeLSTMCell::ChildSumTreeLSTMCell(Module& parent, std::string name, int64_t in,
                                           int64_t hidden, TreeLSTMOptions options)
    : Module(parent, std::move(name)) {
  start(in, hidden, options);
}

void ChildSumTreeLSTMCell::start(int64_t in, int64_t hidden, TreeLSTMOptions options) {
  require_sizes("ChildSumTreeLSTMCell", in, hidden);
  weight_ih = drawn(register_parameter("weight_ih", zeros({4 * hidden, in})), hidden);
  weight_hh = drawn(register_parameter("weight_hh", zeros({4 * hidden, hidden})), hidden);
  if (options.bias) bias = drawn(register_parameter("bias", zeros({4 * hidden})), hidden);
}

LSTMState ChildSumTreeLSTMCell::operator()(const Tensor& x, Span<const LSTMState> children,
                                           Where where) const {
  const Tensor absent;
  return child_sum_tree_lstm_cell(x, children, weight_ih, weight_hh, or_absent(bias, absent),
                                  where);
}

std::unique_ptr<Module> ChildSumTreeLSTMCell::clone() const {
  return clone_as(*this, weight_ih.size(1), weight_hh.size(1),
                  TreeLSTMOptions{.bias = bias.defined()});
}

}  // namespace ebb::nn
