// SPDX-License-Identifier: Apache-2.0
// Playbacks that compute the products with a large weight together, against those that do not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <random>
#include <thread>

#include "count_new.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/checkpoint.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/core/memory.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/join.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"
#include "test_ops.h"

namespace ebb {
namespace {

constexpr int64_t kSize = 144;  // kSize^2 doubles are beyond kGatherBytes

// Elements that spread, of the scale that keeps products of matrices with vectors near 1.
Tensor spread(const Shape& shape, uint64_t seed) {
  std::mt19937_64 bits(seed);
  std::vector<double> v(static_cast<size_t>(shape.numel()));
  const double scale = shape.rank() == 2 ? 1.7 / std::sqrt(static_cast<double>(shape[1])) : 1;
  for (double& x : v) x = scale * (static_cast<double>(bits() >> 11) * 0x1p-52 - 1);
  return Tensor(Array::of<double>(shape, v));
}

/// y = W x, counting the products that a playback has taken from the rule.
struct CountedMv {
  static constexpr OpDoc kDoc{"counted_mv", "y = w x", "w:[m,n] x:[n] -> y:[m]"};
  struct Attrs {};
  static constexpr GradUses uses(int i) { return {.in = detail::bit(1 - i)}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    return {{in[0].dtype, {in[0].shape[0]}}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    copy_into(out[0], mv(Tensor(in[0]), Tensor(in[1])).value());
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? outer(g[0], s.in(1)) : Tensor(),
            s.needs(1) ? mv(t(s.in(0)), g[0]) : Tensor()};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    if (s.needs(0)) sink.add(0, outer(Tensor(g[0]), Tensor(s.in_array(1))).value());
    if (!s.needs(1)) return;
    if (sink.defer({0, s.in_array(0), g[0], 1})) {
      ++taken;
    } else {
      sink.add(1, mv(t(Tensor(s.in_array(0))), Tensor(g[0])).value());
    }
  }
  static uint64_t product_weights(const Saved& s) { return s.needs(1) ? 1 : 0; }
  static inline thread_local int taken = 0;
};

Tensor counted_mv(const Tensor& w, const Tensor& x) { return apply<CountedMv>(w, x); }

// How many products the playbacks in `f` take.
template <class F>
int taken_in(F&& f) {
  CountedMv::taken = 0;
  f();
  return CountedMv::taken;
}

void expect_near(const std::vector<Tensor>& got, const std::vector<Tensor>& want,
                 double tolerance = 1e-12) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t k = 0; k < got.size(); ++k) {
    ASSERT_EQ(got[k].defined(), want[k].defined()) << k;
    if (!got[k].defined()) continue;
    const auto a = got[k].to_vector<double>();
    const auto b = want[k].to_vector<double>();
    ASSERT_EQ(a.size(), b.size());
    double scale = 1;
    for (const double x : b) scale = std::max(scale, std::abs(x));
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_NEAR(a[i], b[i], tolerance * scale) << "tensor " << k << ", element " << i;
    }
  }
}

struct Weights {
  std::vector<Tensor> w;  // large matrices
  std::vector<Tensor> b;
  Weights() {
    for (uint64_t k = 0; k < 3; ++k) {
      w.push_back(variable(spread({kSize, kSize}, 10 + k)));
      b.push_back(variable(spread({kSize}, 20 + k)));
    }
  }
  std::vector<Tensor> all() const {
    std::vector<Tensor> leaves = w;
    leaves.insert(leaves.end(), b.begin(), b.end());
    return leaves;
  }
};

// A program that uses the weights in every way on what it computed before; its results.
std::vector<Tensor> random_program(const Weights& p, uint64_t seed) {
  std::mt19937_64 bits(seed);
  const auto pick = [&](const std::vector<Tensor>& from) { return from[bits() % from.size()]; };
  std::vector<Tensor> x{spread({kSize}, seed), p.b[0], p.b[1] * 0.5};
  for (int i = 0; i < 60; ++i) {
    const Tensor& w = pick(p.w);
    const Tensor a = pick(x);
    switch (bits() % 11) {
      case 0:
      case 1:
        x.push_back(mv(w, a));
        break;
      case 2:
        x.push_back(linear(a, w, pick(p.b)));
        break;
      case 3:
        x.push_back(linear(a, w));
        break;
      case 4:
        x.push_back(matmul(a, w));
        break;
      case 5:
        x.push_back(matmul(w, a));
        break;
      case 6:
        x.push_back(mv(t(w), a));
        break;
      case 7:
        x.push_back(tanh(a + pick(x)));
        break;
      case 8:
        x.push_back(counted_mv(w, a));
        break;
      case 9:
        x.push_back(w[static_cast<int64_t>(bits() % kSize)] * a);
        break;
      default:
        x.push_back(matmul(stack({a, pick(x)}), w).sum(0));
        break;
    }
    // Lengths grow with each product otherwise.
    if (i % 4 == 3) x.back() = x.back() / (1 + square(x.back()).mean().item());
  }
  return x;
}

Tensor loss_of(const std::vector<Tensor>& x) {
  Tensor loss;
  for (size_t i = x.size() / 2; i < x.size(); ++i) {
    const Tensor term = square(x[i]).mean();
    loss = loss.defined() ? loss + term : term;
  }
  return loss;
}

TEST(Gather, RandomProgramsAsWithoutIt) {
  const Weights p;
  int taken = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Tensor loss = loss_of(random_program(p, seed));
    const auto gradients = [&] {
      return grad({{loss}}, p.all(), {.retain_graph = true, .allow_unused = true});
    };
    std::vector<Tensor> got;
    taken += taken_in([&] { got = gradients(); });
    const GatherGuard off(false);
    expect_near(got, gradients());
  }
  EXPECT_GT(taken, 0);
}

TEST(Gather, BackwardOfRandomProgramsAsWithoutIt) {
  const Weights p;
  const auto run = [&](uint64_t seed) {
    loss_of(random_program(p, seed)).backward();
    std::vector<Tensor> g;
    for (const Tensor& leaf : p.all()) {
      g.push_back(leaf.grad());
      leaf.zero_grad();
    }
    return g;
  };
  for (uint64_t seed = 100; seed < 110; ++seed) {
    const auto got = run(seed);
    const GatherGuard off(false);
    expect_near(got, run(seed));
  }
}

TEST(Gather, GradientsOfIntermediateResults) {
  const Weights p;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const std::vector<Tensor> x = random_program(p, seed);
    const Tensor loss = loss_of(x);
    std::vector<Tensor> inputs{p.w[1]};
    for (size_t i = 3; i < x.size(); i += 7) {
      if (x[i].requires_grad()) inputs.push_back(x[i]);
    }
    const auto gradients = [&] {
      return grad({{loss}}, inputs, {.retain_graph = true, .allow_unused = true});
    };
    const auto got = gradients();
    const GatherGuard off(false);
    expect_near(got, gradients());
  }
}

TEST(Gather, SecondOrder) {
  const Weights p;
  const Tensor loss = loss_of(random_program(p, 3));
  const auto second = [&] {
    const Tensor g = grad(loss, p.w[0], {.create_graph = true});
    return grad({{square(g).sum()}}, p.all(), {.retain_graph = true, .allow_unused = true});
  };
  const auto got = second();
  const GatherGuard off(false);
  expect_near(got, second(), 1e-11);
}

TEST(Gather, TheSameBitForBitEachTime) {
  const Weights p;
  const auto run = [&] {
    const Tensor loss = loss_of(random_program(p, 7));
    return grad({{loss}}, p.all(), {.retain_graph = true, .allow_unused = true});
  };
  const auto first = run();
  const std::vector<Tensor> elsewhere(100, spread({kSize}, 1) * 2.0);  // other addresses
  const auto again = run();
  for (size_t k = 0; k < first.size(); ++k) {
    ASSERT_EQ(first[k].defined(), again[k].defined());
    if (first[k].defined()) {
      EXPECT_EQ(first[k].to_vector<double>(), again[k].to_vector<double>());
    }
  }
}

TEST(Gather, RetainedTapesPlayAgain) {
  const Weights p;
  const Tensor loss = loss_of(random_program(p, 5));
  loss.backward(true);
  const auto once = p.w[0].grad().to_vector<double>();
  loss.backward(true);
  const auto twice = p.w[0].grad().to_vector<double>();
  for (size_t i = 0; i < once.size(); ++i) ASSERT_NEAR(twice[i], 2 * once[i], 1e-12);
  loss.backward();
  EXPECT_THROW(loss.backward(), GradError);
}

// A loss for each of n independent uses of w.
Tensor outputs(const Tensor& w, const Tensor& b, int n) {
  Tensor loss;
  for (int i = 0; i < n; ++i) {
    const Tensor term = square(counted_mv(w, tanh(b * (0.1 * (i + 1))))).mean();
    loss = loss.defined() ? loss + term : term;
  }
  return loss;
}

TEST(Gather, TakesWhatIsIndependentHoweverMuch) {
  const Weights p;
  for (const int n : {2, 63, 64, 65, 150}) {
    const Tensor loss = outputs(p.w[0], p.b[0], n);
    std::vector<Tensor> got;
    const auto gradients = [&] {
      got = grad({{loss}}, p.all(), {.retain_graph = true, .allow_unused = true});
    };
    EXPECT_EQ(taken_in(gradients), n);
    const std::vector<Tensor> gathered = got;
    const GatherGuard off(false);
    EXPECT_EQ(taken_in(gradients), 0);
    expect_near(gathered, got);
  }
}

TEST(Gather, LeavesAloneWhatItCannotJoin) {
  const Weights p;
  const auto play = [&](const Tensor& loss) { return taken_in([&] { loss.backward(); }); };
  EXPECT_EQ(play(outputs(p.w[0], p.b[0], 1)), 0);
  const Tensor small = variable(spread({8, 8}, 1));
  EXPECT_EQ(play(outputs(small, variable(spread({8}, 1)), 5)), 0);

  Tensor h = p.b[0];  // each use depends on the last
  for (int i = 0; i < 5; ++i) h = tanh(counted_mv(p.w[0], h));
  EXPECT_EQ(play(h.sum()), 0);

  const AnomalyGuard watched;
  EXPECT_EQ(play(outputs(p.w[0], p.b[0], 5)), 0);
}

TEST(Gather, AWeightWithoutGradient) {
  const Tensor w = spread({kSize, kSize}, 1);
  const Tensor b = variable(spread({kSize}, 2));
  const Tensor loss = outputs(w, b, 5);
  Tensor got;
  EXPECT_EQ(taken_in([&] { got = grad(loss, b, {.retain_graph = true}); }), 5);
  const GatherGuard off(false);
  expect_near({got}, {grad(loss, b)});
}

TEST(Gather, UsesInSeveralLevelsOfATree) {
  const Weights p;
  const auto node = [&](const Tensor& a, const Tensor& b) {
    return tanh(counted_mv(p.w[0], a) + counted_mv(p.w[1], b));
  };
  std::vector<Tensor> level;
  for (int i = 0; i < 8; ++i) level.push_back(tanh(p.b[0] * (0.1 * (i + 1))));
  while (level.size() > 1) {
    std::vector<Tensor> next;
    for (size_t i = 0; i < level.size(); i += 2) next.push_back(node(level[i], level[i + 1]));
    level = next;
  }
  const Tensor loss = level[0].sum();
  std::vector<Tensor> got;
  EXPECT_EQ(taken_in([&] {
              got = grad({{loss}}, p.all(), {.retain_graph = true, .allow_unused = true});
            }),
            14);
  const GatherGuard off(false);
  expect_near(got, grad({{loss}}, p.all(), {.allow_unused = true}));
}

TEST(Gather, HooksSeeThePlainOrder) {
  const Weights p;
  const auto gradients = [&](bool hooked) {
    const Tensor x = tanh(p.b[0]);
    int calls = 0;
    if (hooked) {
      x.register_hook([&](const Tensor& g) {
        ++calls;
        return g * 2.0;
      });
    }
    const Tensor loss = outputs(p.w[0], p.b[1], 4) + square(counted_mv(p.w[0], x)).sum();
    std::vector<Tensor> g;
    const int taken = taken_in([&] { g = grad({{loss}}, std::vector<Tensor>{p.b[0], p.b[1]}); });
    EXPECT_EQ(taken, hooked ? 0 : 5);
    EXPECT_EQ(calls, hooked ? 1 : 0);
    return g;
  };
  const auto hooked = gradients(true);
  auto plain = gradients(false);
  plain[0] = plain[0] * 2.0;
  expect_near(hooked, plain);
}

TEST(Gather, CheckpointsAndRulesThatPlayBack) {
  const Weights p;
  const auto run = [&] {
    const Tensor scale = apply<test::InnerGradient>(p.b[0][3] * 0.5);
    Tensor loss = outputs(p.w[0], p.b[0], 4) * scale;
    const Tensor middle =
        checkpoint([&](const Tensor& x) { return outputs(p.w[0], x, 3) * x; }, p.b[1] * 0.3);
    loss = loss + square(counted_mv(p.w[0], middle)).sum();
    loss.backward();
    std::vector<Tensor> g;
    for (const Tensor& leaf : {p.w[0], p.b[0], p.b[1]}) {
      g.push_back(leaf.grad());
      leaf.zero_grad();
    }
    return g;
  };
  std::vector<Tensor> got;
  EXPECT_GE(taken_in([&] { got = run(); }), 5);
  const GatherGuard off(false);
  expect_near(got, run());
}

/// y = x, whose rule does something more.
struct Does : test::OneInput {
  static constexpr OpDoc kDoc{"does", "y = x", "x:[...] part:[] -> y:[...]"};
  static constexpr GradUses uses(int) { return {}; }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    test::copy_to(in[0], out[0]);
  }
  static Grads backward(const Saved&, const OutGrads& g) {
    std::exchange(what, {})();
    return {g[0]};
  }
  static inline std::function<void()> what;
};

TEST(Gather, WhatARulePlayedBackIsNotWaitedFor) {
  const Weights p;
  const auto run = [&] {
    const Tensor shared = tanh(p.b[0]);
    Tensor part = (square(shared) * 3.0).sum();
    const Tensor y = apply<Does>(shared * 2.0, part);
    Tensor found;
    // The nodes between `part` and `shared` forget what they led to, which the playback has seen.
    Does::what = [&] { found = grad(part, shared); };
    (outputs(p.w[0], p.b[0], 4) + square(counted_mv(p.w[0], shared + y)).sum()).backward();
    const std::vector<Tensor> g{found, p.b[0].grad(), p.w[0].grad()};
    p.b[0].zero_grad();
    p.w[0].zero_grad();
    return g;
  };
  std::vector<Tensor> got;
  EXPECT_EQ(taken_in([&] { got = run(); }), 5);
  const GatherGuard off(false);
  expect_near(got, run());
}

TEST(Gather, AWeightThatIsOverwrittenMeanwhile) {
  const Weights p;
  Does::what = [&] { p.w[0].array().bump_version(); };
  const Tensor early = apply<Does>(p.b[1] * 1.0);  // played last but for the products
  const Tensor loss = outputs(p.w[0], p.b[0], 3) + early.sum();
  EXPECT_THROW(loss.backward(), GradError);
}

TEST(Gather, ALongTapeIsPlayedAsItIs) {
  const Weights p;
  Tensor x = p.b[0].sum();
  for (int i = 0; i < 70'000; ++i) x = x * 1.0;
  EXPECT_EQ(taken_in([&] { (outputs(p.w[0], p.b[0], 3) + x).backward(); }), 0);
}

#ifndef EBB_NO_POOL
TEST(Gather, AWarmLoopAllocatesNothing) {
  const Tensor w = variable(spread({kSize, kSize}, 1));
  const Tensor b = variable(spread({kSize}, 2));
  const auto step = [&] {
    Tensor loss;
    for (int i = 0; i < 9; ++i) {
      const Tensor term = square(linear(tanh(b * (0.1 * (i + 1))), w)).mean();
      loss = loss.defined() ? loss + term : term;
    }
    loss.backward();
    w.zero_grad();
    b.zero_grad();
  };
  for (int i = 0; i < 5; ++i) step();
  const int64_t live = memory_stats().live_bytes;
  const int64_t from_system = memory_stats().heap_allocations;
  const int64_t from_heap = test::news();
  for (int i = 0; i < 20; ++i) step();
  EXPECT_EQ(memory_stats().heap_allocations, from_system);
  EXPECT_EQ(test::news(), from_heap);
  EXPECT_EQ(memory_stats().live_bytes, live);
}
#endif

TEST(Gather, EndsAtATargetThatWasPlayed) {
  const Tensor w = variable(spread({kSize, kSize}, 1));
  const Tensor v = variable(spread({kSize, kSize}, 2));
  const Tensor h = matmul(spread({kSize}, 3), v);
  h.sum().backward();
  const auto gradient = [&] {
    return grad(matmul(h, w).sum() + matmul(h * 2, w).sum(), h).to_vector<double>();
  };
  const auto gathered = gradient();
  const GatherGuard off(false);
  const auto plain = gradient();
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(gathered[i], plain[i], 1e-12);
}

TEST(GatherThread, SharedWeightsAndSharedNodes) {
  const Weights p;
  const Tensor shared = loss_of(random_program(p, 1));
  const auto gradients = [&](const Tensor& loss) {
    std::vector<double> all;
    for (const Tensor& g : grad({{loss}}, p.all(), {.retain_graph = true, .allow_unused = true})) {
      if (!g.defined()) continue;
      const auto v = g.to_vector<double>();
      all.insert(all.end(), v.begin(), v.end());
    }
    return all;
  };
  const auto want_shared = gradients(shared);
  const auto want_own = gradients(loss_of(random_program(p, 2)));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int k = 0; k < 2; ++k) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) {
        wrong += gradients(shared) != want_shared ? 1 : 0;
        wrong += gradients(loss_of(random_program(p, 2))) != want_own ? 1 : 0;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace ebb
