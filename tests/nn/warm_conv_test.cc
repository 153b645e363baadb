// SPDX-License-Identifier: Apache-2.0
// Training steps of convolutional models at batch one: once warm, they ask nobody for memory.
#include <gtest/gtest.h>

#include "ebb/core/memory.h"
#include "ebb/ebb.h"
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

struct LeNet : nn::Module {
  nn::Conv2d c1{*this, "c1", 1, 6, 5, {.padding = 2}};
  nn::MaxPool2d pool{*this, "pool", 2};
  nn::Conv2d c2{*this, "c2", 6, 16, 5};
  nn::Linear f1{*this, "f1", 400, 120};
  nn::Linear f2{*this, "f2", 120, 84};
  nn::Linear f3{*this, "f3", 84, 10};
  Tensor operator()(const Tensor& x) {
    const Tensor maps = pool(tanh(c2(pool(tanh(c1(x))))));
    return f3(tanh(f2(tanh(f1(maps.flatten())))));
  }
};

TEST(WarmConvStep, OfLeNet) {
  LeNet net;
  optim::SGD sgd(net.parameters(), {.lr = 0.01});
  const Tensor image = full({1, 28, 28}, 0.3);
  expect_no_allocation([&] {
    const Tensor loss = cross_entropy(net(image), 3);
    sgd.zero_grad();
    loss.backward();
    sgd.step();
  });
}

struct Blocks : nn::Module {
  nn::Conv2d strided{*this, "strided", 3, 8, 3, {.stride = 2, .padding = 1, .bias = false}};
  nn::Conv2d depthwise{*this, "depthwise", 8, 8, 3, {.padding = kSame, .groups = 8}};
  nn::Conv2d point{*this, "point", 8, 4, 1};
  nn::ConvTranspose2d up{*this, "up", 4, 4, 4, {.stride = 2, .padding = 1}};
  nn::MaxPool2d overlapping{*this, "overlapping", 3, {.stride = 2, .padding = 1}};
  nn::AvgPool2d average{*this, "average", 2};
  nn::AdaptiveAvgPool2d global{*this, "global", 1};
  Tensor operator()(const Tensor& x) {
    return global(average(overlapping(up(point(relu(depthwise(strided(x)))))))).sum();
  }
};

TEST(WarmConvStep, OfTheUsualBlocks) {
  Blocks net;
  optim::SGD sgd(net.parameters(), {.lr = 0.01, .momentum = 0.9});
  const Tensor image = full({3, 24, 24}, 0.3);
  expect_no_allocation([&] {
    const Tensor loss = net(image);
    sgd.zero_grad();
    loss.backward();
    sgd.step();
  });
}

}  // namespace
}  // namespace ebb
