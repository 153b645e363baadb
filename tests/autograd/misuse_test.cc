// SPDX-License-Identifier: Apache-2.0
// Wrong rules, wrong hooks, buffers that are written behind the tape's back, memory that runs out:
// an error that says so, or the right gradient.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <thread>

#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/checkpoint.h"
#include "ebb/autograd/functional.h"
#include "ebb/autograd/gradcheck.h"
#include "ebb/autograd/op.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"
#include "test_ops.h"

namespace ebb {
namespace {

using test::of;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class E, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing was thrown";
}

// y = x, with whatever the derived op does wrong on the way back.
template <class Op>
struct Identity {
  struct Attrs {};
  static Metas infer(const Attrs&, Span<const Meta> in) { return {in[0]}; }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    copy_into(out[0], in[0]);
  }
};

struct InfiniteRule : Identity<InfiniteRule> {
  static constexpr OpDoc kDoc{"infinite_rule", "y = x", "x:[...] -> y:[...]"};
  static Grads backward(const Saved&, const OutGrads& g) {
    return {g[0] * std::numeric_limits<double>::infinity()};
  }
};

struct ShortRule : Identity<ShortRule> {
  static constexpr OpDoc kDoc{"short_rule", "y = x", "x:[...] -> y:[...]"};
  static constexpr GradUses uses(int) { return {}; }
  static Grads backward(const Saved&, const OutGrads& g) { return {g[0].narrow(0, 0, 1)}; }
};

struct SinkRule : Identity<SinkRule> {
  static constexpr OpDoc kDoc{"sink_rule", "y = x", "x:[...] -> y:[...]"};
  static Grads backward(const Saved&, const OutGrads& g) { return {g[0]}; }
  static void backward_values(const Saved&, const ArrayGrads& g, GradSink& sink) {
    sink.add(1, g[0]);
  }
};

struct TwoResults {
  static constexpr OpDoc kDoc{"two_results", "a = x, b = x", "x:[...] -> a:[...] b:[...]"};
  struct Attrs {};
  static Metas infer(const Attrs&, Span<const Meta> in) { return {in[0], in[0]}; }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    for (Array& a : out) copy_into(a, in[0]);
  }
  static Grads backward(const Saved&, const OutGrads& g) { return {g[0]}; }
};

// Saves its input only where the attribute says that the gradient reads it.
struct MaybeSquare {
  static constexpr OpDoc kDoc{"maybe_square", "y = x or x^2", "x:[...] -> y:[...]"};
  struct Attrs {
    bool square;
  };
  static constexpr GradUses uses(const Attrs& a, int) { return {.in = a.square ? kAll : 0}; }
  static Metas infer(const Attrs&, Span<const Meta> in) { return {in[0]}; }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Tensor x(in[0]);
    copy_into(out[0], a.square ? (x * x).value() : in[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.attrs<Attrs>().square ? 2 * g[0] * s.in(0) : g[0]};
  }
};

TEST(WrongRule, OfAnotherShapeIsNamed) {
  const Tensor x = variable(of({1, 2, 3}));
  const Tensor h = x * 2;
  EXPECT_THAT(
      message_of<GradError>([&] { ((h * 1).sum() + apply<ShortRule>(h).sum()).backward(); }),
      HasSubstr("a backward rule gave one the wrong shape or type"));
  EXPECT_THAT(message_of<GradError>([&] { apply<ShortRule>(x).sum().backward(); }),
              HasSubstr("wrong shape or type"));
}

TEST(WrongRule, GradientForAnInputThereIsNot) {
  const Tensor x = variable(of({1, 2}));
  EXPECT_THAT(message_of<GradError>([&] { apply<SinkRule>(x).sum().backward(); }),
              HasSubstr("sink_rule: its backward rule gave a gradient for input 1 of 1"));
}

TEST(WrongRule, InfinityDoesNotPassGradcheck) {
  const auto f = [](const Tensor& x) { return apply<InfiniteRule>(x); };
  EXPECT_THROW(gradcheck(f, of({1, 2, 3})), GradError);
  const auto overflows = [](const Tensor& x) { return exp(x * x).detach() + 0 * x; };
  EXPECT_THROW(gradcheck(overflows, of({26.641})), GradError);
}

TEST(WrongCall, OfAnOpWithTwoResults) {
  EXPECT_THAT(message_of<Error>([] { apply<TwoResults>(of({1})); }),
              HasSubstr("two_results: has 2 outputs; call it by apply_multi"));
}

TEST(WrongCall, WithUndefinedTensors) {
  const Tensor none;
  const Tensor x = variable(of({1}));
  EXPECT_THAT(message_of<ValueError>([&] { exp(none); }), HasSubstr("exp: input 0 is undefined"));
  EXPECT_THAT(message_of<ValueError>([&] { x + none; }), HasSubstr("add: input 1 is undefined"));
  EXPECT_THROW(none + 1.0, ValueError);
  EXPECT_THROW(none.sum(), ValueError);
  EXPECT_THROW(none.shape(), ValueError);
  EXPECT_THROW(none.item(), ValueError);
  EXPECT_THROW(none.to_vector<double>(), ValueError);
  EXPECT_THROW(variable(none), ValueError);
  EXPECT_THAT(message_of<ValueError>([&] { x.grad().item(); }), HasSubstr("is undefined"));
  EXPECT_THROW(Parameter().shape(), ValueError);
  EXPECT_THROW(x.register_hook({}), ValueError);
}

TEST(Uses, MayDependOnAttributes) {
  for (const bool square : {false, true}) {
    const Tensor x = variable(of({3}));
    const int64_t before = memory_stats().live_bytes;
    const Tensor in = x * 1;
    const Tensor y = apply_with<MaybeSquare>({square}, in);
    EXPECT_GT(memory_stats().live_bytes, before);
    EXPECT_EQ(grad(y, x).item(), square ? 6 : 1);
  }
}

TEST(Hook, MustKeepTheShape) {
  const Tensor x = variable(of({1, 2}));
  int calls = 0;
  x.register_hook([&](const Tensor&) { return ++calls == 2 ? of({7}) : Tensor(); });
  x.sum().backward();
  EXPECT_THAT(message_of<GradError>([&] { x.sum().backward(); }), HasSubstr("a hook on a result"));
  EXPECT_EQ(x.grad().shape(), (Shape{2}));
}

TEST(Hook, ThatPlaysItsOwnNodeIsAnError) {
  const Tensor x = variable(of({1, 2}));
  const Tensor y = x + x;
  bool once = false;
  y.register_hook([&](const Tensor&) {
    if (!std::exchange(once, true)) y.backward(of({1, 1}));
    return Tensor();
  });
  EXPECT_THAT(message_of<GradError>([&] { (y * 10).sum().backward(); }),
              HasSubstr("already played back"));
}

// What is older than all that was asked for is not looked at, played back or not.
TEST(Played, DoesNotMatterBeyondTheInputs) {
  const Tensor x = variable(of({3}));
  const Tensor y = x * x;
  y.sum().backward();
  EXPECT_EQ(grad((y * y).sum(), y).item(), 18);
  const Tensor z = variable(of({2}));
  EXPECT_EQ(grad((z * y).sum(), z).item(), 9);
  const auto f = [&](const Tensor& v) { return (v * v * y).sum(); };
  EXPECT_EQ(hvp(f, of({2}), of({1})).item(), 18);
  EXPECT_THROW(grad((y * y).sum(), x), GradError);
}

TEST(Aliasing, ConstantsMayBeOverwrittenAfterPlayback) {
  const Parameter w(Tensor(Array::zeros(kFloat32, {64, 32})));
  const Array buffer = Array::full(kFloat32, {32}, 1);
  mv(w, Tensor(buffer)).sum().backward();
  std::fill_n(buffer.mutable_data<float>(), 32, 100.0f);
  EXPECT_THAT(w.grad().to_vector<double>(), Each(1));

  const Parameter table(Tensor(Array::zeros(kFloat32, {5000, 4})));
  const Array ids = Array::full(kInt64, {1}, 1);
  index_select(table, 0, Tensor(ids)).sum().backward();
  ids.mutable_data<int64_t>()[0] = 2;
  EXPECT_EQ(table.grad().array().at({1, 0}), 1);
  EXPECT_EQ(table.grad().array().at({2, 0}), 0);

  const Tensor x = variable(of({1, 2}));
  const Array g = Array::full(kFloat64, {2}, 1);
  x.backward(Tensor(g));
  g.mutable_data<double>()[0] = 100;
  EXPECT_THAT(x.grad().to_vector<double>(), ElementsAre(1, 1));
}

// The parameter's step changes the array that the other gradient was computed from.
TEST(Aliasing, DetachedParametersMayStepFirst) {
  const Parameter p(Tensor(Array::full(kFloat32, {32}, 1)));
  const Parameter w(Tensor(Array::zeros(kFloat32, {64, 32})));
  mv(w, p->detach()).sum().backward();
  p.copy_from(Tensor(Array::full(kFloat32, {32}, -5)));
  EXPECT_THAT(w.grad().to_vector<double>(), Each(1));
}

TEST(Grad, IsContiguousWhateverTheRule) {
  const Tensor a = variable(Tensor(Array::zeros(kFloat32, {2, 3})));
  a.t().sum().backward();
  EXPECT_NO_THROW(a.grad().data<float>());
}

TEST(Item, IsExactForIntegers) {
  constexpr int64_t kBig = (int64_t{1} << 53) + 1;
  const Tensor t(Array::of<int64_t>({}, {&kBig, 1}));
  EXPECT_EQ(t.item<int64_t>(), kBig);
  EXPECT_THAT(to_string(t), HasSubstr("9007199254740993"));
}

// Elementwise ops that share inputs, so that gradients are summed, shared and reused.
Tensor tangle(const Tensor& x, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Tensor> made = {x, tanh(x)};
  for (int i = 0; i < 12; ++i) {
    const Tensor a = random() % 2 != 0 ? made.back() : made[random() % made.size()];
    const Tensor b = made[random() % made.size()];
    const unsigned op = random() % 5;
    made.push_back(op == 0 ? a + b : op == 1 ? a * b : op == 2 ? a - b : op == 3 ? tanh(a) : a * a);
  }
  return made.back() + made[made.size() / 2] + made[2];
}

TEST(MemoryRunsOut, AnywhereInAPlaybackOfElementwiseOps) {
  const Tensor x = variable(Tensor(Array::full(kFloat32, {40}, 0.3)));
  const Tensor ones(Array::full(kFloat32, {40}, 1));
  int breaches = 0;
  for (unsigned seed = 0; seed < 60; ++seed) {
    for (int64_t extra = 0;; extra += 128) {
      const int64_t before = memory_stats().live_bytes;
      bool done = true;
      {
        const Tensor y = tangle(x, seed);
        set_memory_limit(memory_stats().live_bytes + extra);
        try {
          y.backward(ones);
        } catch (const MemoryError&) {
          done = false;
          ++breaches;
        }
        set_memory_limit(0);
        x.zero_grad();
      }
      ASSERT_EQ(memory_stats().live_bytes, before) << "seed " << seed << ", " << extra << " bytes";
      if (done) break;
    }
  }
  EXPECT_GT(breaches, 100);
}

TEST(MemoryRunsOut, WhileAGradientIsFormedAndNothingCountsTwice) {
  const Meta meta{kFloat32, {64, 64}};
  Gradient g;
  g.add(Gradient(meta, RowSparse{Array::full(kInt64, {1}, 3), Array::full(kFloat32, {1, 64}, 1)}));
  for (int i = 0; i < 3; ++i) {
    g.add(Gradient(meta, Outer{Array::zeros(kFloat32, {64}), Array::zeros(kFloat32, {64})}));
  }
  const int64_t live = memory_stats().live_bytes;
  int breaches = 0;
  for (int64_t extra = 64; extra < 1 << 20; extra += 64) {
    set_memory_limit(live + extra);
    try {
      g.dense();
    } catch (const MemoryError&) {
      ++breaches;
      continue;
    }
    break;
  }
  set_memory_limit(0);
  EXPECT_GT(breaches, 2);
  EXPECT_EQ(g.dense().at({3, 0}), 1);
}

TEST(CheckpointThread, OnTheHeapOfAThreadThatEnded) {
  const Tensor w = variable(of({2}));
  Tensor y;
  std::thread([&] {
    y = w;
    for (int i = 0; i < 100; ++i) y = y * 1.0 + 0.0;
  }).join();
  const Tensor x = variable(of({3}));
  std::thread([&] {
    const Tensor z = checkpoint([y](const Tensor& v) { return v * y; }, x);
    z.sum().backward();
  }).join();
  EXPECT_EQ(x.grad().item(), 2);
  EXPECT_EQ(w.grad().item(), 3);
}

#ifndef EBB_NO_POOL
TEST(MemoryLimitThread, CountsNothingThatAnotherThreadHasFreed) {
  Array big = Array::empty(kFloat32, {1 << 20});
  std::thread([b = std::move(big)]() mutable { b = Array(); }).join();
  set_memory_limit(1 << 20);
  EXPECT_NO_THROW(Array::empty(kFloat32, {4}));
  set_memory_limit(0);
}
#endif

TEST(Anomaly, NamesTheOpInsideACheckpoint) {
  const AnomalyGuard on(true);
  const Tensor x = variable(of({0}));
  const Tensor y = checkpoint([](const Tensor& v) { return sqrt(v); }, x);
  EXPECT_THAT(message_of<NumericError>([&] { y.backward(); }), HasSubstr("sqrt"));
}

}  // namespace
}  // namespace ebb
