// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/nn/module.h"
#include "ebb/ops/recurrent.h"

// Long short-term memory along a tree: Tai, Socher, Manning 2015. The recursion is the program's:
//
//   nn::LSTMState encode(const Tree& t) {
//     return t.is_leaf() ? cell.leaf(words(t.word)) : cell(encode(*t.left), encode(*t.right));
//   }
//
// States are [hidden], or [batch,hidden] where several trees of one form go together. All
// parameters are drawn from U(-1/sqrt(hidden), 1/sqrt(hidden)); sizes below 1 are a ValueError.
namespace ebb::nn {

using LSTMState = ebb::LSTMState;

struct TreeLSTMOptions {
  bool bias = true;
};

/// A node with two children in order, each with a forget gate of its own; N-ary with N = 2.
/// Parameters `weight_ih` [4*hidden,in] and `bias_ih` [4*hidden], blocks i, f, g, o, for what is
/// read at a node, and `weight_hh` [5*hidden,2*hidden] and `bias_hh` [5*hidden], blocks i, f of the
/// left, f of the right, g, o, for its children.
class BinaryTreeLSTMCell : public Module {
 public:
  BinaryTreeLSTMCell(int64_t in, int64_t hidden, TreeLSTMOptions options = {});
  BinaryTreeLSTMCell(Module& parent, std::string name, int64_t in, int64_t hidden,
                     TreeLSTMOptions options = {});

  /// The state of a leaf that reads x [in]: c = i g, h = o tanh(c).
  LSTMState leaf(const Tensor& x) const;
  /// The state of an inner node.
  LSTMState operator()(const LSTMState& left, const LSTMState& right) const;
  /// The state of an inner node that reads x too.
  LSTMState operator()(const Tensor& x, const LSTMState& left, const LSTMState& right) const;
  std::unique_ptr<Module> clone() const override;

  Parameter weight_ih;
  Parameter weight_hh;
  Parameter bias_ih;  ///< undefined without
  Parameter bias_hh;

 private:
  void start(int64_t in, int64_t hidden, TreeLSTMOptions options);
};

/// A node with any number of children in no order. Parameters `weight_ih` [4*hidden,in],
/// `weight_hh` [4*hidden,hidden] and `bias` [4*hidden], blocks i, f, g, o.
class ChildSumTreeLSTMCell : public Module {
 public:
  ChildSumTreeLSTMCell(int64_t in, int64_t hidden, TreeLSTMOptions options = {});
  ChildSumTreeLSTMCell(Module& parent, std::string name, int64_t in, int64_t hidden,
                       TreeLSTMOptions options = {});

  LSTMState leaf(const Tensor& x) const { return (*this)(x, {}); }
  /// The state of a node that reads x [in], which may be undefined where there are children.
  LSTMState operator()(const Tensor& x, Span<const LSTMState> children) const;
  std::unique_ptr<Module> clone() const override;

  Parameter weight_ih;
  Parameter weight_hh;
  Parameter bias;  ///< undefined without

 private:
  void start(int64_t in, int64_t hidden, TreeLSTMOptions options);
};

}  // namespace ebb::nn
