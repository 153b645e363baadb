// SPDX-License-Identifier: Apache-2.0
// Training steps of recurrent models on one sample: once warm, they ask nobody for memory.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "ebb/core/memory.h"
#include "ebb/nn/embedding.h"
#include "ebb/nn/linear.h"
#include "ebb/nn/optim/optim.h"
#include "ebb/nn/recurrent.h"
#include "ebb/nn/tree_lstm.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/loss.h"
#include "ebb/tests/autograd/count_new.h"

namespace ebb {
namespace {

constexpr int64_t kSymbols = 40;
constexpr int64_t kWidth = 24;
constexpr int64_t kHidden = 32;
constexpr int64_t kSteps = 12;

// step(i) for rising i; samples are to differ.
template <class Step>
void expect_no_allocation(Step&& step) {
#ifdef EBB_NO_POOL
  GTEST_SKIP() << "without a pool every tensor is an allocation";
#endif
  int64_t i = 0;
  while (i < 12) step(i++);
  const int64_t live = memory_stats().live_bytes;
  const int64_t from_system = memory_stats().heap_allocations;
  const int64_t from_heap = test::news();
  while (i < 60) step(i++);
  EXPECT_EQ(memory_stats().heap_allocations, from_system);
  EXPECT_EQ(test::news(), from_heap);
  EXPECT_EQ(memory_stats().live_bytes, live);
}

void learn(const Tensor& loss, optim::Optimizer& optimizer) {
  optimizer.zero_grad();
  loss.backward();
  optimizer.step();
}

template <class Layer>
struct Model : nn::Module {
  nn::Embedding embedding{*this, "embedding", kSymbols, kWidth};
  Layer recurrent{*this, "recurrent", kWidth, kHidden};
  nn::Linear out{*this, "out", kHidden, kSymbols};
};

int64_t symbol(int64_t sample, int64_t t) { return (sample * 7 + t * t * 3) % kSymbols; }

TEST(WarmRecurrentStep, OfAnLstmCell) {
  Model<nn::LSTMCell> net;
  optim::SGD sgd(net.parameters(), {.lr = 0.05});
  expect_no_allocation([&](int64_t i) {
    Tensor loss = zeros({});
    nn::LSTMState state;
    for (int64_t t = 0; t < kSteps; ++t) {
      state = net.recurrent(net.embedding(symbol(i, t)), state);
      loss = loss + cross_entropy(net.out(state.h), symbol(i, t + 1));
    }
    learn(loss, sgd);
  });
}

TEST(WarmRecurrentStep, OfAGruCellWithAdam) {
  Model<nn::GRUCell> net;
  optim::Adam adam(net.parameters(), {.lr = 1e-3});
  expect_no_allocation([&](int64_t i) {
    Tensor loss = zeros({});
    Tensor h;
    for (int64_t t = 0; t < kSteps; ++t) {
      h = net.recurrent(net.embedding(symbol(0, t)), h);
      loss = loss + cross_entropy(net.out(h), symbol(i, t + 1));
    }
    learn(loss, adam);
  });
}

TEST(WarmRecurrentStep, OfAnLstmLayer) {
  Model<nn::LSTM> net;
  optim::SGD sgd(net.parameters(), {.lr = 0.05});
  std::vector<Tensor> inputs;
  std::vector<Tensor> targets;
  for (int64_t i = 0; i < 4; ++i) {
    std::vector<int64_t> s;
    for (int64_t t = 0; t <= kSteps; ++t) s.push_back(symbol(i, t));
    inputs.push_back(from_vector(std::vector<int64_t>(s.begin(), s.end() - 1)));
    targets.push_back(from_vector(std::vector<int64_t>(s.begin() + 1, s.end())));
  }
  expect_no_allocation([&](int64_t i) {
    const auto at = static_cast<size_t>(i % 4);
    const Tensor scores = net.out(net.recurrent(net.embedding(inputs[at])).output);
    learn(cross_entropy(scores, targets[at], {.reduction = Reduction::kSum}), sgd);
  });
}

TEST(WarmRecurrentStep, OfATreeCell) {
  Model<nn::BinaryTreeLSTMCell> net;
  optim::SGD sgd(net.parameters(), {.lr = 0.05});
  expect_no_allocation([&](int64_t i) {
    Tensor loss = zeros({});
    nn::LSTMState state = net.recurrent.leaf(net.embedding(symbol(i, 0)));
    for (int64_t t = 1; t < kSteps; ++t) {
      state = net.recurrent(state, net.recurrent.leaf(net.embedding(symbol(i, t))));
      loss = loss + cross_entropy(net.out(state.h), symbol(i, t + 1));
    }
    learn(loss, sgd);
  });
}

}  // namespace
}  // namespace ebb
