// SPDX-License-Identifier: Apache-2.0
// Recording and playback on several threads at once. These run under ThreadSanitizer too.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <thread>

#include "ebb/autograd/checkpoint.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/unary.h"
#include "test_ops.h"

namespace ebb {
namespace {

using test::of;

constexpr int kThreads = 4;
constexpr int kRepeats = 200;

void on_threads(const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) threads.emplace_back(body, t);
  for (std::thread& t : threads) t.join();
}

TEST(EngineThread, GradOverSharedNodes) {
  const Tensor x = variable(of({0.5, 1, 2}));
  const Tensor h = exp(x) * x;
  const Tensor y = (h * h).sum();
  const auto want = grad(y, x, {.retain_graph = true}).to_vector<double>();
  std::atomic<int> wrong{0};
  on_threads([&](int) {
    for (int i = 0; i < kRepeats; ++i) {
      if (grad(y, x, {.retain_graph = true}).to_vector<double>() != want) ++wrong;
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST(EngineThread, SecondOrderOverSharedNodes) {
  const Tensor x = variable(of({0.5, 1, 2}));
  const Tensor y = (exp(x) * x * x).sum();
  const auto second = [&] {
    const Tensor g = grad(y, x, {.create_graph = true});
    return grad(g.sum(), x, {.retain_graph = true}).to_vector<double>();
  };
  const auto want = second();
  std::atomic<int> wrong{0};
  on_threads([&](int) {
    for (int i = 0; i < kRepeats; ++i) wrong += second() != want ? 1 : 0;
  });
  EXPECT_EQ(wrong, 0);
}

TEST(EngineThread, ForwardAndGradOnSharedParameters) {
  const Parameter w(Tensor(Array::full(kFloat64, {4, 3}, 0.1)));
  const Parameter b(Tensor(Array::full(kFloat64, {4}, 0.2)));
  std::atomic<int> wrong{0};
  on_threads([&](int t) {
    const Tensor x(Array::full(kFloat64, {3}, t + 1.0));
    for (int i = 0; i < kRepeats; ++i) {
      const Tensor y = square(mv(w, x) + b).sum();
      const Tensor wanted[] = {w, b};
      const auto g = grad({{y}}, wanted);
      const double pre = 0.3 * (t + 1) + 0.2;
      if (std::abs(g[0].to_vector<double>()[0] - 2 * pre * (t + 1)) > 1e-12) ++wrong;
      if (std::abs(g[1].to_vector<double>()[3] - 2 * pre) > 1e-12) ++wrong;
    }
  });
  EXPECT_EQ(wrong, 0);
  EXPECT_FALSE(w.grad().defined());
}

TEST(EngineThread, BackwardAddsUpAtSharedLeaves) {
  const Parameter w(of({2, 3}));
  on_threads([&](int) {
    for (int i = 0; i < kRepeats; ++i) (w * w.tensor()).sum().backward();
  });
  EXPECT_EQ(w.grad().to_vector<double>(),
            (std::vector<double>{4.0 * kThreads * kRepeats, 6.0 * kThreads * kRepeats}));
}

// Each thread builds on what the one before made, so the nodes of one tape belong to many.
TEST(EngineThread, OneTapeOfManyThreads) {
  const Tensor x = variable(of({1.25}));
  Tensor y = x;
  for (int t = 0; t < 8; ++t) {
    std::thread([&] {
      for (int i = 0; i < 5; ++i) y = y * x;
    }).join();
  }
  EXPECT_NEAR(grad(y, x, {.retain_graph = true}).item(), 41 * std::pow(1.25, 40), 1e-8);
  double other = 0;
  std::thread([&] { other = grad(y, x).item(); }).join();
  EXPECT_NEAR(other, 41 * std::pow(1.25, 40), 1e-8);
}

TEST(EngineThread, BranchesRecordedSideBySide) {
  const Tensor x = variable(of({1.5}));
  std::vector<Tensor> parts(kThreads);
  on_threads([&](int t) {
    Tensor y = x;
    for (int i = 0; i < 50; ++i) y = y * 0.5 + x;
    parts[static_cast<size_t>(t)] = y * (t + 1.0);
  });
  Tensor sum = parts[0];
  for (int t = 1; t < kThreads; ++t) sum = sum + parts[static_cast<size_t>(t)];
  EXPECT_NEAR(grad(sum, x).item(), 10 * 2.0, 1e-9);
}

TEST(EngineThread, CheckpointsSideBySide) {
  const Parameter w(of({2}));
  std::atomic<int> wrong{0};
  on_threads([&](int) {
    const Tensor x = variable(of({3}));
    for (int i = 0; i < kRepeats; ++i) {
      const Tensor y = checkpoint([w](const Tensor& z) { return w * z * z; }, x);
      const Tensor g = grad(y, x, {.create_graph = true});
      if (g.item() != 12 || grad(g, w).item() != 6) ++wrong;
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST(EngineThread, GuardsAreOfOneThread) {
  const NoGradGuard off;
  const AnomalyGuard anomaly;
  std::thread([] {
    EXPECT_TRUE(is_grad_enabled());
    EXPECT_FALSE(detail::tls_tape.anomaly);
  }).join();
}

// Arrays handed round between threads, each of which copies and drops references at random.
TEST(EngineThread, ReferencesAreCountedRight) {
  const int64_t before = memory_stats().live_bytes;
  {
    std::vector<Tensor> shared;
    const Tensor x = variable(of({1, 2}));
    for (int i = 0; i < 64; ++i) shared.push_back(x * (1.0 + i));
    on_threads([&](int t) {
      std::vector<Tensor> mine = shared;
      uint32_t random = 12345u + static_cast<uint32_t>(t);
      for (int i = 0; i < 20000; ++i) {
        random = random * 1664525u + 1013904223u;
        const size_t a = (random >> 8) % mine.size();
        const size_t b = (random >> 16) % mine.size();
        if ((random & 0x80) != 0) {
          mine[a] = mine[b];
        } else {
          mine[a] = shared[b];
        }
        if ((random & 0x7f) == 0) mine[a] = shared[a] * 2.0;
      }
    });
    for (int i = 0; i < 64; ++i) {
      EXPECT_DOUBLE_EQ(shared[static_cast<size_t>(i)].to_vector<double>()[1], 2.0 * (1 + i));
    }
  }
  release_cached_memory();
  EXPECT_LE(memory_stats().live_bytes, before) << "fewer, where threads before left something";
}

}  // namespace
}  // namespace ebb
