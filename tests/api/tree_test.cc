// SPDX-License-Identifier: Apache-2.0
// The program is the network: recursion over a tree, as a user would write it.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "ebb/ebb.h"

namespace {

struct Tree {
  bool is_leaf() const { return left == nullptr; }
  int64_t word = 0;
  std::unique_ptr<Tree> left;
  std::unique_ptr<Tree> right;
  std::optional<int64_t> label;
};

struct Encoder : ebb::nn::Module {
  ebb::nn::Embedding words{*this, "words", 4, 8};
  ebb::nn::BinaryTreeLSTMCell cell{*this, "cell", 8, 16};
  ebb::nn::Linear classify{*this, "classify", 16, 2};
  ebb::nn::LSTMState operator()(const Tree& t, ebb::Tensor& loss);
};

ebb::nn::LSTMState Encoder::operator()(const Tree& t, ebb::Tensor& loss) {
  auto state = t.is_leaf() ? cell.leaf(words(t.word))
                           : cell((*this)(*t.left, loss), (*this)(*t.right, loss));
  if (t.label) loss = loss + cross_entropy(classify(state.h), *t.label);
  return state;
}

// Words 0 and 1 stand for themselves; an inner node is their exclusive or. Every other node has a
// label.
std::unique_ptr<Tree> random_tree(int leaves, ebb::Generator& g) {
  auto t = std::make_unique<Tree>();
  const auto below = [&](int n) {
    return static_cast<int>(g.uniform_int(static_cast<uint64_t>(n)));
  };
  if (leaves == 1) {
    t->word = below(2);
    t->label = t->word;
  } else {
    const int left = 1 + below(leaves - 1);
    t->left = random_tree(left, g);
    t->right = random_tree(leaves - left, g);
    t->label = *t->left->label ^ *t->right->label;
  }
  return t;
}

int64_t answer(Encoder& net, const Tree& t) {
  ebb::Tensor unused = ebb::zeros({});
  return argmax(net.classify(net(t, unused).h)).item<int64_t>();
}

TEST(Api, TheProgramIsTheNetwork) {
  ebb::manual_seed(1);
  ebb::Generator random(2);
  Encoder net;
  ebb::optim::Adam adam(net.parameters(), {.lr = 0.005});
  for (int i = 0; i < 1000; ++i) {
    const auto tree = random_tree(2 + i % 5, random);
    ebb::Tensor loss = ebb::zeros({});
    net(*tree, loss);
    adam.zero_grad();
    loss.backward();
    adam.step();
  }
  int right = 0;
  for (int i = 0; i < 200; ++i) {
    const auto tree = random_tree(8, random);  // larger than any it has seen
    right += answer(net, *tree) == *tree->label;
  }
  EXPECT_GE(right, 190) << "of 200; chance is 100";
}

}  // namespace
