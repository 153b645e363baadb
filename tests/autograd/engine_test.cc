// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ebb/autograd/leaf.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/unary.h"
#include "test_ops.h"

namespace ebb {
namespace {

using test::of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The message of the E that `f` throws.
template <class E, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TEST(Backward, AddsToLeaves) {
  const Tensor x = variable(of({1, 2, 3}));
  (x * x).sum().backward();
  EXPECT_THAT(x.grad().to_vector<double>(), ElementsAre(2, 4, 6));
  (x * 3).sum().backward();
  EXPECT_THAT(x.grad().to_vector<double>(), ElementsAre(5, 7, 9));
  EXPECT_FALSE(x.grad().requires_grad());
  x.zero_grad();
  EXPECT_FALSE(x.grad().defined());
}

TEST(Backward, StartsFromAGradientOrSeveralOutputs) {
  const Tensor x = variable(of({1, 2}));
  (x * x).backward(of({10, 100}));
  EXPECT_THAT(x.grad().to_vector<double>(), ElementsAre(20, 400));
  x.zero_grad();
  const Tensor outputs[] = {x * 2, x * x};
  const Tensor gradients[] = {of({1, 1}), of({1, 0})};
  backward(outputs, gradients);
  EXPECT_THAT(x.grad().to_vector<double>(), ElementsAre(4, 2));
}

TEST(Backward, SharedSubexpressions) {
  const Tensor x = variable(of({3}));
  const Tensor a = x * x;      // 9
  const Tensor b = a + x;      // 12
  const Tensor c = a * b + b;  // diamond over a and b
  EXPECT_DOUBLE_EQ(grad(c, x).item(), 6 * 12 + 9 * 7 + 7);
}

// The value 2^60 x has 2^60 paths and 60 nodes.
TEST(Backward, PathsAreNotWalkedOneByOne) {
  const Tensor x = variable(of({1}));
  Tensor y = x;
  for (int i = 0; i < 60; ++i) y = y + y;
  EXPECT_EQ(grad(y, x).item(), std::ldexp(1.0, 60));
}

TEST(Grad, OfLeavesAndIntermediates) {
  const Tensor x = variable(of({2}));
  const Tensor h = x * x;
  const Tensor y = h * h * x;
  const Tensor wanted[] = {x, h, y};
  const auto g = grad({{y}}, wanted);
  EXPECT_DOUBLE_EQ(g[0].item(), 5 * 16);
  EXPECT_DOUBLE_EQ(g[1].item(), 2 * 4 * 2);
  EXPECT_DOUBLE_EQ(g[2].item(), 1);
  EXPECT_FALSE(x.grad().defined()) << "grad() must leave .grad alone";
}

TEST(Grad, LeavesAndParametersBesideThePathAreUntouched) {
  const Tensor x = variable(of({2}));
  const Parameter w(of({5}));
  const Tensor y = x * w;
  EXPECT_DOUBLE_EQ(grad(y, x).item(), 5);
  EXPECT_FALSE(w.grad().defined());
}

TEST(Grad, SameInputTwice) {
  const Tensor x = variable(of({2}));
  const Tensor y = x * x;
  const Tensor wanted[] = {x, x};
  const auto g = grad({{y}}, wanted);
  EXPECT_DOUBLE_EQ(g[0].item(), 4);
  EXPECT_DOUBLE_EQ(g[1].item(), 4);
}

TEST(Grad, HigherOrders) {
  const Tensor x = variable(of({3}));
  Tensor y = x * x * x * x;
  const double want[] = {4 * 27.0, 12 * 9.0, 24 * 3.0, 24};
  for (const double w : want) {
    y = grad(y, x, {.create_graph = true});
    EXPECT_DOUBLE_EQ(y.item(), w);
  }
  EXPECT_THROW(grad(y, x), GradError) << "24 is a constant";
}

TEST(Grad, OfAGradientOnlyInTheCotangent) {
  const Tensor x = variable(of({3}));
  const Tensor v = variable(of({2}));
  const Tensor y = x * x;
  const auto g = grad({{y}}, {{x}}, {.create_graph = true}, {{v}});
  EXPECT_DOUBLE_EQ(g[0].item(), 12);
  EXPECT_DOUBLE_EQ(grad(g[0], v).item(), 6);
}

TEST(Grad, UnusedInputs) {
  const Tensor x = variable(of({1}));
  const Tensor z = variable(of({1, 2}));
  const Tensor y = x * 2;
  EXPECT_THAT(message_of<GradError>([&] { grad(y, z); }),
              HasSubstr("do not depend on input 0 (float64[2])"));
  EXPECT_FALSE(grad(x * 2, z, {.allow_unused = true}).defined());
}

TEST(Grad, RejectsWhatHasNoGradient) {
  const Tensor x = variable(of({1, 2}));
  const Tensor constant = of({1});
  EXPECT_THAT(message_of<GradError>([&] { grad(constant * 2, x); }),
              HasSubstr("output float64[] does not require a gradient"));
  EXPECT_THAT(message_of<GradError>([&] { grad(x.sum(), constant); }),
              HasSubstr("input float64[] does not require a gradient"));
  EXPECT_THAT(message_of<GradError>([&] { grad(x * 2, x); }),
              HasSubstr("output is float64[2], not a scalar"));
  EXPECT_THAT(message_of<GradError>([&] { grad(Tensor(), x); }), HasSubstr("undefined"));
  EXPECT_THAT(message_of<ShapeError>([&] {
                (x * 2).backward(of({1, 2, 3}));
              }),
              HasSubstr("output is float64[2], its gradient is float64[3]"));
  EXPECT_THAT(message_of<GradError>([&] { constant.backward(); }),
              HasSubstr("does not require a gradient"));
}

TEST(Grad, SecondPlaybackNamesTheNode) {
  const Tensor x = variable(of({2}));
  const Tensor y = x * x;
  EXPECT_DOUBLE_EQ(grad(y, x).item(), 4);
  const std::string message = message_of<GradError>([&] { grad(y, x); });
  EXPECT_THAT(message, HasSubstr("mul called at "));
  EXPECT_THAT(message, HasSubstr("engine_test.cc:"));
  EXPECT_THAT(message, HasSubstr("retain_graph"));
  EXPECT_THAT(message_of<GradError>([&] { y.backward(); }), HasSubstr("mul called at "));
  EXPECT_THAT(message_of<GradError>([&] { grad(y + x, x); }), HasSubstr("mul called at "))
      << "a new result on a tape that was played";
}

TEST(Grad, RetainGraph) {
  const Tensor x = variable(of({2}));
  const Tensor y = x * x;
  EXPECT_DOUBLE_EQ(grad(y, x, {.retain_graph = true}).item(), 4);
  EXPECT_DOUBLE_EQ(grad(y, x, {.create_graph = true}).item(), 4) << "which retains by default";
  y.backward(true);
  EXPECT_DOUBLE_EQ(grad(y, x, {.create_graph = true, .retain_graph = false}).item(), 4);
  EXPECT_THROW(grad(y, x), GradError);
}

TEST(Grad, OnlyWhatWasPlayedIsFreed) {
  const Tensor x = variable(of({2}));
  const Tensor h = x * x;
  const Tensor a = h * 3;
  const Tensor b = h * h;
  EXPECT_DOUBLE_EQ(grad(a, h).item(), 3);  // does not play h
  EXPECT_DOUBLE_EQ(grad(b, x).item(), 4 * 8);
}

TEST(Grad, OverwrittenSavedValue) {
  const Parameter w(of({2}));
  const Tensor x = variable(of({3}));
  const Tensor y = w * x;
  w.copy_from(of({7}));
  const std::string message = message_of<GradError>([&] { grad(y, x); });
  EXPECT_THAT(message, HasSubstr("a value that mul called at "));
  EXPECT_THAT(message, HasSubstr("engine_test.cc:"));
  EXPECT_THAT(message, HasSubstr("version 0 is now 1"));
  const Tensor sum = w + x;  // which saved nothing
  w.copy_from(of({8}));
  EXPECT_DOUBLE_EQ(grad(sum, x).item(), 1);
}

TEST(Grad, OverwrittenThroughAView) {
  const Array base = Array::of<double>({2, 2}, std::vector<double>{1, 2, 3, 4});
  const int64_t strides[] = {2};
  const Tensor view(base.view({2}, strides, 1));
  const Tensor x = variable(of({1, 1}));
  const Tensor y = (x * view).sum();
  base.bump_version();
  EXPECT_THROW(grad(y, x), GradError);
}

TEST(Recording, NoGradAndEnableGradGuards) {
  const Tensor x = variable(of({2}));
  EXPECT_TRUE(is_grad_enabled());
  {
    const NoGradGuard off;
    EXPECT_FALSE(is_grad_enabled());
    EXPECT_FALSE((x * x).requires_grad());
    {
      const EnableGradGuard on;
      EXPECT_TRUE((x * x).requires_grad());
    }
    EXPECT_FALSE(is_grad_enabled());
  }
  EXPECT_TRUE((x * x).requires_grad());
  try {
    const NoGradGuard off;
    throw ValueError("out of the guard's scope");
  } catch (const ValueError&) {
  }
  EXPECT_TRUE(is_grad_enabled());
}

TEST(Recording, StateSurvivesAThrowingRule) {
  const Tensor x = variable(of({2}));
  const Tensor y = apply<test::ThrowingRule>(x);
  const auto before = detail::tls_tape;
  EXPECT_THROW(grad(y, x), NumericError);
  EXPECT_THROW(grad(apply<test::ThrowingRule>(x), x, {.create_graph = true}), NumericError);
  EXPECT_EQ(detail::tls_tape.depth, before.depth);
  EXPECT_TRUE(is_grad_enabled());
  EXPECT_EQ(detail::tls_tape.placed, before.placed);
  EXPECT_DOUBLE_EQ(grad(x * x, x).item(), 4);
}

TEST(Recording, DetachCutsTheTape) {
  const Tensor x = variable(of({2}));
  const Tensor y = x * x.detach();
  EXPECT_DOUBLE_EQ(grad(y, x).item(), 2);
  EXPECT_FALSE((x.detach() * 2).requires_grad());
}

TEST(Recording, GradientFreesWhatNobodyReaches) {
  const int64_t before = memory_stats().live_bytes;
  {
    const Tensor x = variable(of({2}));
    Tensor y = x;
    for (int i = 0; i < 100; ++i) y = y * x;
    EXPECT_GT(memory_stats().live_bytes, before + 100 * 64);
  }
  EXPECT_EQ(memory_stats().live_bytes, before);
}

TEST(Hooks, SeeTheCompleteGradientAndMayReplaceIt) {
  const Tensor x = variable(of({2}));
  const Tensor h = x * x;
  const Tensor y = h * 3 + h * 4;
  std::vector<double> seen;
  h.register_hook([&](const Tensor& g) {
    seen.push_back(g.item());
    return Tensor();
  });
  const HookHandle doubled = h.register_hook([](const Tensor& g) { return g * 2; });
  EXPECT_DOUBLE_EQ(grad(y, x, {.retain_graph = true}).item(), 2 * 7 * 4);
  EXPECT_THAT(seen, ElementsAre(7)) << "once, with the sum";
  h.remove_hook(doubled);
  EXPECT_DOUBLE_EQ(grad(y, x, {.retain_graph = true}).item(), 7 * 4);
  EXPECT_THAT(seen, ElementsAre(7, 7));
}

TEST(Hooks, OnLeaves) {
  const Tensor x = variable(of({2}));
  const HookHandle handle = x.register_hook([](const Tensor& g) { return g * 10; });
  (x * x).backward();
  EXPECT_DOUBLE_EQ(x.grad().item(), 40);
  x.remove_hook(handle);
  x.zero_grad();
  (x * x).backward();
  EXPECT_DOUBLE_EQ(x.grad().item(), 4);
}

TEST(Hooks, AreDifferentiable) {
  const Tensor x = variable(of({3}));
  const Tensor h = x * 1;
  h.register_hook([](const Tensor& g) { return g * g; });
  const Tensor g = grad(h * h, x, {.create_graph = true});
  EXPECT_DOUBLE_EQ(g.item(), 36);  // (2 h)^2
  // d(4 h^2)/dh = 8 h = 24 reaches h in a playback of its own, and so its hook.
  EXPECT_DOUBLE_EQ(grad(g, x).item(), 24 * 24);
}

TEST(Hooks, MayRemoveThemselves) {
  const Tensor x = variable(of({2}));
  HookHandle handle;
  int calls = 0;
  handle = x.register_hook([&](const Tensor&) {
    ++calls;
    x.remove_hook(handle);
    return Tensor();
  });
  (x * x).backward();
  (x * x).backward();
  EXPECT_EQ(calls, 1);
}

TEST(Hooks, NeedAGradient) { EXPECT_THROW(of({1}).register_hook({}), GradError); }

TEST(Anomaly, NamesOpAndLineOfTheValue) {
  const AnomalyGuard anomaly;
  const Tensor x = variable(of({-1, 4}));
  const auto line = std::source_location::current().line() + 1;
  const std::string message = message_of<NumericError>([&] { log(x); });
  EXPECT_THAT(message, HasSubstr("log"));
  EXPECT_THAT(message, HasSubstr("NaN"));
  EXPECT_THAT(message, HasSubstr("at element 0"));
  EXPECT_THAT(message, HasSubstr("engine_test.cc:" + std::to_string(line)));
}

TEST(Anomaly, NamesOpAndLineOfTheGradient) {
  const Tensor x = variable(of({0, 4}));
  const auto line = std::source_location::current().line() + 1;
  const Tensor root = sqrt(x);
  const Tensor y = root.sum();
  for (const bool create_graph : {false, true}) {
    const AnomalyGuard anomaly;
    const std::string message = message_of<NumericError>(
        [&] { grad(y, x, {.create_graph = create_graph, .retain_graph = true}); });
    EXPECT_THAT(message, HasSubstr("sqrt"));
    EXPECT_THAT(message, HasSubstr("infinity"));
    EXPECT_THAT(message, HasSubstr("engine_test.cc:" + std::to_string(line)));
  }
  EXPECT_TRUE(std::isinf(grad(y, x).to_vector<double>()[0])) << "without the guard it is let pass";
}

TEST(Anomaly, NodesOfASecondPlaybackNameTheFirstLine) {
  const Tensor x = variable(of({0.5}));
  const auto line = std::source_location::current().line() + 1;
  const Tensor y = log(x);
  const Tensor g = grad(y, x, {.create_graph = true});
  EXPECT_EQ(g.edge().node()->where.line(), line);
}

TEST(Ops, SeveralOutputs) {
  const Tensor a = variable(of({5}));
  const Tensor b = variable(of({3}));
  const auto y = apply_multi<test::SumAndDifference>({}, a, b);
  EXPECT_DOUBLE_EQ(y[0].item(), 8);
  EXPECT_DOUBLE_EQ(y[1].item(), 2);
  EXPECT_EQ(y[0].edge().node(), y[1].edge().node());
  const Tensor wanted[] = {a, b};
  const auto both = grad({{y[0] * y[1]}}, wanted, {.retain_graph = true});  // a^2 - b^2
  EXPECT_DOUBLE_EQ(both[0].item(), 10);
  EXPECT_DOUBLE_EQ(both[1].item(), -6);
  const auto second_only = grad({{y[1] * 1}}, wanted, {.retain_graph = true});
  EXPECT_DOUBLE_EQ(second_only[0].item(), 1);
  EXPECT_DOUBLE_EQ(second_only[1].item(), -1);
  // One output of a node by another of its own: by y[1] alone.
  EXPECT_DOUBLE_EQ(grad(y[0] * y[1], y[1], {.retain_graph = true}).item(), 8);
  const Tensor g = grad(y[0] * y[1] * y[1], a, {.create_graph = true});
  EXPECT_DOUBLE_EQ(grad(g, b).item(), -2 * (5 + 3));  // d2/da db of (a + b) (a - b)^2
}

TEST(Ops, OutputNobodyUsed) {
  const Tensor a = variable(of({5}));
  const Tensor b = variable(of({3}));
  const auto y = apply_multi<test::SumAndDifference>({}, a, b);
  EXPECT_DOUBLE_EQ(grad(y[0], a).item(), 1);
}

TEST(Ops, MoreThan64Inputs) {
  for (const int n : {63, 64, 65, 128, 129, 300}) {
    std::vector<Tensor> x;
    std::vector<const Tensor*> in;
    for (int i = 0; i < n; ++i) {
      // Every third is a constant, so that which inputs need a gradient is not all the same.
      x.push_back(i % 3 == 1 ? of({1.0 * i}) : variable(of({1.0 * i})));
    }
    for (const Tensor& t : x) in.push_back(&t);
    const test::WeightedSum::Attrs attrs;
    const Tensor y = detail::apply_one(kOpDef<test::WeightedSum>, &attrs, in, Where::current());
    double want = 0;
    for (int i = 0; i < n; ++i) want += (i + 1.0) * i * i;
    EXPECT_DOUBLE_EQ(y.item(), want);
    y.backward(true);
    for (int i = 0; i < n; ++i) {
      if (i % 3 == 1) continue;
      EXPECT_DOUBLE_EQ(x[static_cast<size_t>(i)].grad().item(), 2 * (i + 1.0) * i) << i;
    }
    const Tensor& last = x[static_cast<size_t>(n - 1 - (n % 3 == 2 ? 1 : 0))];
    const Tensor g = grad(y, last, {.create_graph = true});
    EXPECT_DOUBLE_EQ(grad(g, last).item(), g.item() / last.item());
  }
}

TEST(Ops, AttributesReachTheRule) {
  const Tensor x = variable(of({2}));
  const Tensor y = apply_with<test::Polynomial>({{1, 0, 5, 2}}, x);  // 1 + 5 x^2 + 2 x^3
  EXPECT_DOUBLE_EQ(y.item(), 37);
  const Tensor g = grad(y, x, {.create_graph = true});
  EXPECT_DOUBLE_EQ(g.item(), 10 * 2 + 6 * 4);
  EXPECT_DOUBLE_EQ(grad(g, x).item(), 10 + 12 * 2);
}

TEST(Ops, AttributesAreDestroyedWithTheNode) {
  const auto counted = std::make_shared<int>(1);
  {
    const Tensor x = variable(of({2}));
    const Tensor y = apply_with<test::Counted>({counted}, x);
    EXPECT_EQ(counted.use_count(), 2);
  }
  EXPECT_EQ(counted.use_count(), 1);
}

TEST(Ops, RuleThatReadsWhatItDidNotDeclare) {
  const Tensor x = variable(of({2}));
  EXPECT_THAT(message_of<GradError>([&] { grad(apply<test::UndeclaredUse>(x), x); }),
              HasSubstr("undeclared: its backward rule reads input 0, which uses() does not name"));
}

TEST(Ops, RuleThatGivesTheWrongShapeOrNumber) {
  const Tensor x = variable(of({2, 3}));
  EXPECT_THAT(message_of<GradError>([&] { grad(apply<test::WrongShape>(x).sum(), x); }),
              HasSubstr("float64[2] came out as float64[3]"));
  EXPECT_THAT(message_of<GradError>([&] { grad(apply<test::TooMany>(x).sum(), x); }),
              HasSubstr("gave 2 gradients for 1 inputs"));
}

TEST(Ops, BackwardValuesAreUsedOnlyWithoutAGraph) {
  test::TwoForms::values = test::TwoForms::rules = 0;
  const Tensor x = variable(of({2}));
  const Tensor y = apply<test::TwoForms>(x);
  EXPECT_DOUBLE_EQ(grad(y, x, {.retain_graph = true}).item(), 4);
  EXPECT_EQ(test::TwoForms::values, 1);
  EXPECT_EQ(test::TwoForms::rules, 0);
  EXPECT_DOUBLE_EQ(grad(y, x, {.create_graph = true}).item(), 4);
  EXPECT_EQ(test::TwoForms::values, 1);
  EXPECT_EQ(test::TwoForms::rules, 1);
}

TEST(Reentrant, GradInsideARule) {
  // y = min over z of (z - x)^2 + z^4 by Newton steps inside the op; dy/dx by a grad() in the rule.
  const Tensor x = variable(of({1.5}));
  const Tensor scaled = x * 2;
  const Tensor y = apply<test::InnerGradient>(scaled) * x;
  // InnerGradient is h -> d/dh h^3 = 3 h^2, with a rule that asks grad() for 6 h.
  EXPECT_DOUBLE_EQ(y.item(), 3 * 9 * 1.5);
  EXPECT_DOUBLE_EQ(grad(y, x, {.retain_graph = true}).item(), 3 * 12 * 1.5 * 1.5);
  const Tensor g = grad(y, x, {.create_graph = true});
  EXPECT_DOUBLE_EQ(g.item(), 36 * 1.5 * 1.5);
  EXPECT_DOUBLE_EQ(grad(g, x).item(), 72 * 1.5);
}

TEST(Reentrant, GradInsideAHookOverTheSameNodes) {
  const Tensor x = variable(of({3}));
  const Tensor h = x * x;
  const Tensor y = h * h;
  double inner = 0;
  bool inside = false;  // the inner playback meets the hook too
  h.register_hook([&](const Tensor&) {
    if (std::exchange(inside, true)) return Tensor();
    inner = grad(h, x, {.retain_graph = true}).item();  // plays the very node that is waiting
    return Tensor();
  });
  EXPECT_DOUBLE_EQ(grad(y, x).item(), 4 * 27);
  EXPECT_DOUBLE_EQ(inner, 6);
}

TEST(Leaf, OnlyFloatingTypes) {
  EXPECT_THROW(variable(Tensor(Array::zeros(kInt64, {2}))), DTypeError);
  EXPECT_THROW(Parameter(Tensor(Array::zeros(kFloat16, {2}))), DTypeError);
}

TEST(Leaf, GradNeedsALeaf) {
  const Tensor x = variable(of({1}));
  EXPECT_THAT(message_of<GradError>([&] { (x * 2).grad(); }), HasSubstr("is not a leaf"));
  EXPECT_THROW(of({1}).grad(), GradError);
}

TEST(Leaf, ParameterIsSeenEverywhere) {
  const Parameter w(of({2}));
  const Parameter same = w;
  same.copy_from(of({5}));
  EXPECT_DOUBLE_EQ((w.tensor() * 1).item(), 5);
  (w.tensor() * w.tensor()).backward();
  EXPECT_DOUBLE_EQ(same.grad().item(), 10);
  EXPECT_THROW(w.copy_from(of({1, 2})), ShapeError);
}

}  // namespace
}  // namespace ebb
