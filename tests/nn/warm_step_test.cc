// SPDX-License-Identifier: Apache-2.0
// Training steps of small models at batch one: once warm, they ask nobody for memory.
#include <gtest/gtest.h>

#include "ebb/autograd/engine.h"
#include "ebb/core/memory.h"
#include "ebb/nn/linear.h"
#include "ebb/nn/optim/optim.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/loss.h"
#include "ebb/ops/random.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"
#include "ebb/tests/autograd/count_new.h"

namespace ebb {
namespace {

template <class Step>
void expect_no_allocation(Step&& step) {
#ifdef EBB_NO_POOL
  GTEST_SKIP() << "without a pool every tensor is an allocation";
#endif
  for (int i = 0; i < 10; ++i) step();
  const int64_t live = memory_stats().live_bytes;
  const int64_t from_system = memory_stats().heap_allocations;
  const int64_t from_heap = test::news();
  for (int i = 0; i < 50; ++i) step();
  EXPECT_EQ(memory_stats().heap_allocations, from_system);
  EXPECT_EQ(test::news(), from_heap);
  EXPECT_EQ(memory_stats().live_bytes, live);
}

void learn(const Tensor& loss, optim::Optimizer& optimizer) {
  optimizer.zero_grad();
  loss.backward();
  optimizer.step();
}

struct Mlp : nn::Module {
  nn::Linear fc1{*this, "fc1", 784, 256};
  nn::Linear fc2{*this, "fc2", 256, 128};
  nn::Linear fc3{*this, "fc3", 128, 10};
  Tensor operator()(const Tensor& x) { return fc3(relu(fc2(relu(fc1(x))))); }
};

TEST(WarmStep, OfAClassifier) {
  Mlp net;
  optim::SGD sgd(net.parameters(), {.lr = 0.01});
  const Tensor image = full({784}, 0.3);
  expect_no_allocation([&] { learn(cross_entropy(net(image), 3), sgd); });
}

TEST(WarmStep, OfUnrolledInference) {
  const Parameter w{randn({24, 40})};
  optim::SGD sgd({w}, {.lr = 1e-4});
  const Tensor y = randn({24});
  expect_no_allocation([&] {
    Tensor z = zeros({40});
    for (int k = 0; k < 20; ++k) {
      z = softshrink(z - 0.01 * mv(w->t(), mv(w, z) - y), 0.001);
    }
    learn(0.5 * square(mv(w, z) - y).sum() + 0.1 * abs(z).sum(), sgd);
  });
}

struct Decoder : nn::Module {
  nn::Linear fc1{*this, "fc1", 8, 64};
  nn::Linear fc2{*this, "fc2", 64, 300};
  Tensor operator()(const Tensor& z) { return fc2(tanh(fc1(z))); }
};

TEST(WarmStep, OfInferenceByGradients) {
  Decoder decoder;
  optim::SGD sgd(decoder.parameters(), {.lr = 1e-3});
  const Tensor y = full({300}, 0.5);
  const auto energy = [&](const Tensor& z) {
    return square(y - decoder(z)).sum() + 0.01 * abs(z).sum();
  };
  expect_no_allocation([&] {
    Tensor z = zeros({8});
    for (int k = 0; k < 20; ++k) {
      const Tensor v = variable(z);
      z = z - 1e-3 * grad(energy(v), v);
    }
    learn(energy(z), sgd);
  });
}

struct Energy : nn::Module {
  nn::Linear fc1{*this, "fc1", 2, 64};
  nn::Linear fc2{*this, "fc2", 64, 64};
  nn::Linear fc3{*this, "fc3", 64, 1};
  Tensor operator()(const Tensor& x) { return fc3(tanh(fc2(tanh(fc1(x))))); }
};

TEST(WarmStep, OfAGradientPenalty) {
  Energy net;
  optim::SGD sgd(net.parameters(), {.lr = 1e-3});
  const Tensor sample = full({2}, 0.7);
  expect_no_allocation([&] {
    const Tensor x = variable(sample);
    const Tensor g = grad(net(x).sum(), x, {.create_graph = true});
    learn(square(g).sum(), sgd);
  });
}

}  // namespace
}  // namespace ebb
