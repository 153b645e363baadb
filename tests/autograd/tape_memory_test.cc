// SPDX-License-Identifier: Apache-2.0
// Tapes of any length, and what they cost in memory.
#include <gtest/gtest.h>

#include <cmath>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "count_new.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/core/memory.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/unary.h"
#include "test_ops.h"

namespace ebb {
namespace {

using test::of;

#ifdef EBB_NO_POOL
constexpr bool kPool = false;
#else
constexpr bool kPool = true;
#endif

TEST(LongTape, AMillionOps) {
  constexpr int kLong = 1'000'000;
  const int64_t before = memory_stats().live_bytes;
  {
    const Tensor x = variable(of({1}));
    Tensor y = x;
    for (int i = 0; i < kLong; ++i) y = y + 0.5;
    EXPECT_DOUBLE_EQ(y.item(), 1 + 0.5 * kLong);
    EXPECT_DOUBLE_EQ(grad(y, x, {.retain_graph = true}).item(), 1);

    // From a cotangent with a history, so that the playback is itself a tape of a million nodes.
    const Tensor v = variable(of({3}));
    const Tensor g = grad({{y}}, {{x}}, {.create_graph = true}, {{v}})[0];
    EXPECT_DOUBLE_EQ(g.item(), 3);
    EXPECT_GT(memory_stats().live_bytes, before + 2 * kLong * 64);
    EXPECT_DOUBLE_EQ(grad(g, v).item(), 1);

    y.backward();  // frees as it goes
    EXPECT_DOUBLE_EQ(x.grad().item(), 1);
  }
  EXPECT_EQ(memory_stats().live_bytes, before);
}

TEST(LongTape, FreedWithoutPlayback) {
  const int64_t before = memory_stats().live_bytes;
  {
    Tensor y = variable(of({1}));
    for (int i = 0; i < 1'000'000; ++i) y = y * 1.0;
    y = Tensor();
  }
  EXPECT_EQ(memory_stats().live_bytes, before);
}

// As many nodes wait for their turn in the playback as there are leaves of the tree of sums.
TEST(LongTape, AsWideAsLong) {
  constexpr size_t kWide = 1 << 16;
  const int64_t before = memory_stats().live_bytes;
  {
    const Tensor x = variable(of({3}));
    const Tensor w = variable(of({2}));
    std::vector<Tensor> level;
    for (size_t i = 0; i < kWide; ++i) level.push_back(x * w);
    while (level.size() > 1) {
      for (size_t i = 0; i < level.size() / 2; ++i) level[i] = level[2 * i] + level[2 * i + 1];
      level.resize(level.size() / 2);
    }
    EXPECT_DOUBLE_EQ(level[0].item(), 6.0 * kWide);
    level[0].backward();
    EXPECT_DOUBLE_EQ(x.grad().item(), 2.0 * kWide);
    EXPECT_DOUBLE_EQ(w.grad().item(), 3.0 * kWide);
  }
  EXPECT_EQ(memory_stats().live_bytes, before);
}

TEST(LongTape, SecondOrderOfALongChain) {
  constexpr int kLong = 100'000;
  const Tensor x = variable(of({1.000001}));
  Tensor y = x;
  for (int i = 1; i < kLong; ++i) y = y * x;  // x^kLong
  const double power = std::pow(1.000001, kLong);
  EXPECT_NEAR(y.item(), power, 1e-9);
  const Tensor g = grad(y, x, {.create_graph = true});
  EXPECT_NEAR(g.item(), kLong * power / 1.000001, 1e-4);
  const double second = static_cast<double>(kLong) * (kLong - 1) * power / 1.000001 / 1.000001;
  EXPECT_NEAR(grad(g, x).item() / second, 1, 1e-9);
}

TEST(LongTape, PlaybackFreesAsItGoes) {
  constexpr int64_t kSize = 4096;
  constexpr int kOps = 64;
  const Tensor x = variable(Tensor(Array::full(kFloat64, {kSize}, 0.5)));
  Tensor y = x;
  for (int i = 0; i < kOps; ++i) y = exp(y * -1);
  const Tensor loss = y.sum();
  y = Tensor();
  const int64_t recorded = memory_stats().live_bytes;
  reset_peak_memory();
  grad(loss, x);
  EXPECT_LT(memory_stats().peak_bytes, recorded + 6 * kSize * int64_t{sizeof(double)});
  EXPECT_LT(memory_stats().live_bytes, recorded - (kOps - 2) * kSize * int64_t{sizeof(double)});
}

// A training step as a program would write it.
struct Mlp {
  Parameter w1{Tensor(Array::full(kFloat32, {32, 16}, 0.01))};
  Parameter b1{Tensor(Array::zeros(kFloat32, {32}))};
  Parameter w2{Tensor(Array::full(kFloat32, {4, 32}, 0.02))};
  Parameter b2{Tensor(Array::zeros(kFloat32, {4}))};

  void step(const Tensor& x, const Tensor& target) {
    const Tensor h = relu(mv(w1, x) + b1);
    const Tensor y = mv(w2, h) + b2;
    const Tensor loss = square(y - target).sum();
    loss.backward();
    for (const Parameter* p : {&w1, &b1, &w2, &b2}) {
      axpy_into(p->leaf().value(), -0.01, p->grad().array());
      p->leaf().value().bump_version();
      p->zero_grad();
    }
  }
};

TEST(TapeMemory, AWarmTrainingLoopAllocatesNothing) {
  if (!kPool) GTEST_SKIP() << "without a pool every tensor is an allocation";
  Mlp net;
  const Tensor x(Array::full(kFloat32, {16}, 0.5));
  const Tensor target(Array::full(kFloat32, {4}, 1));
  for (int i = 0; i < 10; ++i) net.step(x, target);
  const int64_t live = memory_stats().live_bytes;
  const int64_t from_system = memory_stats().heap_allocations;
  const int64_t from_heap = test::news();
  for (int i = 0; i < 1000; ++i) net.step(x, target);
  EXPECT_EQ(memory_stats().heap_allocations, from_system);
  EXPECT_EQ(test::news(), from_heap);
  EXPECT_EQ(memory_stats().live_bytes, live);
}

TEST(TapeMemory, NewIsCounted) {
  const int64_t before = test::news();
  std::deque<int> d(10000);
  EXPECT_GT(test::news(), before);
  EXPECT_GT(test::resident_bytes(), 1 << 20);
}

TEST(TapeMemoryThread, FreedByAnotherThreadAtConstantMemory) {
  constexpr int kTensors = 1'000'000;
  constexpr size_t kQueue = 512;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Tensor> queue;
  bool done = false;
  std::thread consumer([&] {
    for (;;) {
      std::deque<Tensor> batch;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return !queue.empty() || done; });
        if (queue.empty()) return;
        batch.swap(queue);
      }
      changed.notify_all();
    }  // the batch is freed here
  });
  const int64_t live = memory_stats().live_bytes;
  const Tensor x = variable(of({1, 2, 3}));
  int64_t resident = 0;
  int64_t reserved = 0;
  for (int i = 0; i < kTensors; ++i) {
    Tensor y = x * 2.0;  // an array and a node
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return queue.size() < kQueue; });
    queue.push_back(std::move(y));
    lock.unlock();
    changed.notify_all();
    if (i == kTensors / 10) {
      resident = test::resident_bytes();
      reserved = memory_stats().reserved_bytes;
    }
  }
  {
    const std::lock_guard lock(mutex);
    done = true;
  }
  changed.notify_all();
  consumer.join();
  if (kPool) {  // a sanitizer keeps freed memory for a while
    EXPECT_LT(test::resident_bytes() - resident, 8 << 20);
    EXPECT_LT(memory_stats().reserved_bytes - reserved, 8 << 20);
  }
  // What the consumer has freed is counted as free when this thread's pool takes it back.
  release_cached_memory();
  EXPECT_LT(memory_stats().live_bytes, live + 4096);
}

TEST(TapeMemoryThread, TensorOutlivesItsThread) {
  Tensor y;
  Tensor x;
  std::thread([&] {
    x = variable(of({3}));
    y = x * x;
  }).join();
  // Its heap has no thread, or is adopted by the next one.
  EXPECT_DOUBLE_EQ(grad(y, x, {.retain_graph = true}).item(), 6);
  std::thread([&] {
    const Tensor z = y * x;
    EXPECT_DOUBLE_EQ(grad(z, x).item(), 27);
  }).join();
  y = Tensor();
  x = Tensor();
  const int64_t before = memory_stats().live_bytes;
  const Tensor again = of({1});
  EXPECT_GT(memory_stats().live_bytes, before);
}

TEST(TapeMemoryThread, ManyShortThreads) {
  std::vector<Tensor> kept;
  for (int i = 0; i < 200; ++i) {
    std::thread([&] {
      const Tensor x = variable(of({1.0 * i}));
      kept.push_back(x * x);
    }).join();
  }
  for (int i = 0; i < 200; ++i) {
    EXPECT_DOUBLE_EQ(kept[static_cast<size_t>(i)].item(), 1.0 * i * i);
    kept[static_cast<size_t>(i)].backward();
  }
}

TEST(TapeMemoryDeathTest, StaticTensorsOutliveEverything) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        static Tensor x = variable(of({2}));
        static Tensor y = x * x * x;
        thread_local Tensor z = y * 2.0;
        (void)z;
        std::thread([] {
          thread_local Tensor there = y * 3.0;
          (void)there;
        }).join();
        std::exit(static_cast<int>(grad(y, x, {.retain_graph = true}).item()));
      },
      ::testing::ExitedWithCode(12), "");
}

}  // namespace
}  // namespace ebb
