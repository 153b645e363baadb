// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/optim.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ebb/core/memory.h"
#include "ebb/core/random.h"
#include "ebb/tests/nn/optim_reference.h"

namespace ebb {
namespace {

using optim_testing::Case;
using optim_testing::gradient;
using optim_testing::Memory;
using optim_testing::message_of;
using optim_testing::parameter;
using optim_testing::rosenbrock_gradient;
using optim_testing::set_gradient;
using ::testing::HasSubstr;

const std::vector<double> kStart = {-0.6, 0.4, 0.3, -0.2, 0.5, 0.1, -0.4, 0.25, 0.7, -0.1, 0.2};

// ---- trajectories
// --------------------------------------------------------------------------------

class Trajectory : public ::testing::TestWithParam<Case> {};

TEST_P(Trajectory, IsThatOfThePublishedRule) {
  const Case& c = GetParam();
  const Parameter p = parameter(kStart);
  const auto optimizer = c.make({p});
  std::vector<double> want = kStart;
  std::vector<Memory> memory(want.size());
  for (int t = 1; t <= 120; ++t) {
    const double lr = c.lr * (1 + 0.5 * std::sin(t));
    optimizer->set_lr(lr);
    const std::vector<double> g = rosenbrock_gradient(want);
    set_gradient(p, gradient(rosenbrock_gradient(p->to_vector<double>())));
    optimizer->step();
    for (size_t i = 0; i < want.size(); ++i) want[i] = c.rule(want[i], g[i], lr, t, memory[i]);
    const auto got = p->to_vector<double>();
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(got[i], want[i], 1e-10 * std::max(1.0, std::abs(want[i])))
          << "step " << t << ", element " << i;
    }
  }
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NE(want[i], kStart[i]);
}

TEST_P(Trajectory, OfFloat32FollowsThatOfFloat64) {
  const Case& c = GetParam();
  const Parameter p = parameter(kStart, kFloat32);
  const auto optimizer = c.make({p});
  std::vector<double> want = kStart;
  std::vector<Memory> memory(want.size());
  for (int t = 1; t <= 50; ++t) {
    const std::vector<double> g = rosenbrock_gradient(want);
    set_gradient(p, gradient(g, kFloat32));
    optimizer->step();
    for (size_t i = 0; i < want.size(); ++i) want[i] = c.rule(want[i], g[i], c.lr, t, memory[i]);
  }
  const auto got = p->to_vector<double>();
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 2e-5);
}

TEST_P(Trajectory, GoesOnFromSavedState) {
  const Case& c = GetParam();
  const Parameter p = parameter(kStart);
  const auto first = c.make({p});
  const auto run = [](const Parameter& q, optim::Optimizer& o, int steps) {
    for (int t = 0; t < steps; ++t) {
      set_gradient(q, gradient(rosenbrock_gradient(q->to_vector<double>())));
      o.step();
    }
  };
  run(p, *first, 20);
  const Parameter q = parameter(p->to_vector<double>());
  const auto second = c.make({q});
  second->set_lr(123);
  second->load_state_dict(first->state_dict());
  EXPECT_EQ(second->lr(), first->lr());
  run(p, *first, 20);
  run(q, *second, 20);
  EXPECT_EQ(q->to_vector<double>(), p->to_vector<double>());
}

TEST_P(Trajectory, TakesNoMemoryOfTheSystem) {
#ifdef EBB_NO_POOL
  GTEST_SKIP() << "without a pool every array is an allocation";
#endif
  const Case& c = GetParam();
  Generator random(1);
  std::vector<Parameter> all;
  for (int i = 0; i < 4; ++i) {
    Array a = Array::empty(kFloat32, {7, 30});
    random.fill_normal(a.mutable_data<float>(), 210);
    all.emplace_back(Tensor(a));
  }
  const auto optimizer = c.make(all);
  const auto run = [&](int steps) {
    for (int t = 0; t < steps; ++t) {
      for (const Parameter& p : all) {
        Array g = Array::empty(kFloat32, {7, 30});
        random.fill_normal(g.mutable_data<float>(), 210);
        set_gradient(p, Gradient(g));
      }
      optim::clip_grad_norm(all, 1.0);
      optimizer->step();
      optimizer->zero_grad();
    }
  };
  run(5);
  const int64_t before = memory_stats().heap_allocations;
  run(20);
  EXPECT_EQ(memory_stats().heap_allocations, before);
}

INSTANTIATE_TEST_SUITE_P(Optim, Trajectory, ::testing::ValuesIn(optim_testing::all_cases()),
                         [](const auto& of) { return of.param.name; });

// ---- what they share
// -----------------------------------------------------------------------------

TEST(Optimizer, LeavesParametersWithoutGradientAlone) {
  const Parameter a = parameter({1, 2});
  const Parameter b = parameter({3, 4});
  optim::Adam adam({a, b}, {.lr = 0.1});
  set_gradient(a, gradient({1, 1}));
  adam.step();
  EXPECT_NEAR(a->to_vector<double>()[0], 0.9, 1e-6);
  EXPECT_EQ(b->to_vector<double>(), (std::vector<double>{3, 4}));
  // b's first step is its own first, whatever a has done.
  adam.zero_grad();
  EXPECT_FALSE(a.grad().defined());
  set_gradient(b, gradient({1, 1}));
  adam.step();
  EXPECT_NEAR(b->to_vector<double>()[0], 2.9, 1e-6);
}

TEST(Optimizer, HasGroupsWithOptionsOfTheirOwn) {
  const Parameter a = parameter({1});
  const Parameter b = parameter({1});
  optim::SGD sgd({a}, {.lr = 0.1});
  sgd.add_group({b}, {.lr = 0.2});
  EXPECT_EQ(sgd.group_count(), 2u);
  EXPECT_EQ(sgd.lr(1), 0.2);
  sgd.options(1).weight_decay = 0.5;
  set_gradient(a, gradient({1}));
  set_gradient(b, gradient({1}));
  sgd.step();
  EXPECT_DOUBLE_EQ(a->item(), 0.9);
  EXPECT_DOUBLE_EQ(b->item(), 1 - 0.2 * 1.5);
  sgd.set_lr(0.3);
  EXPECT_EQ(sgd.lr(0), 0.3);
  EXPECT_EQ(sgd.lr(1), 0.3);
  sgd.set_lr(1, 0.4);
  EXPECT_EQ(sgd.options(1).lr, 0.4);
  EXPECT_EQ(sgd.parameters(1).size(), 1u);
  EXPECT_THAT(message_of([&] { sgd.lr(2); }), HasSubstr("SGD: group 2 is outside [0, 2)"));
}

TEST(Optimizer, BumpsTheVersionOnceAStep) {
  const Parameter p = parameter({1, 2, 3});
  optim::AdamW adam({p});
  const uint32_t before = p->value().version();
  set_gradient(p, gradient({1, 2, 3}));
  adam.step();
  EXPECT_EQ(p->value().version(), before + 1);
}

TEST(Optimizer, UpdatesStridedParameters) {
  Array whole = Array::of<double>({2, 3}, std::vector<double>{1, 2, 3, 4, 5, 6});
  const int64_t strides[] = {1, 3};
  const Parameter p{Tensor(whole.view({3, 2}, strides, 0))};
  optim::SGD sgd({p}, {.lr = 1, .weight_decay = 0.5});
  set_gradient(p, Gradient(Array::of<double>({3, 2}, std::vector<double>{1, 2, 3, 4, 5, 6})));
  sgd.step();
  // w = [[1,4],[2,5],[3,6]] becomes w / 2 - g.
  EXPECT_EQ(p->to_vector<double>(), (std::vector<double>{-0.5, 0, -2, -1.5, -3.5, -3}));
  EXPECT_EQ(whole.at({0, 1}), -2);
}

TEST(Optimizer, FollowsAChangeOfType) {
  const Parameter p = parameter({1, 2, 3});
  optim::SGD sgd({p}, {.lr = 0.1, .momentum = 0.5});
  set_gradient(p, gradient({1, 1, 1}));
  sgd.step();
  p.leaf().set_value(parameter(p->to_vector<double>(), kFloat32)->value());
  set_gradient(p, gradient({1, 1, 1}, kFloat32));
  sgd.step();
  EXPECT_NEAR(p->to_vector<double>()[0], 1 - 0.1 - 0.15, 1e-6);
}

TEST(Optimizer, RefusesBadArguments) {
  const Parameter p = parameter({1});
  using optim::Adam;
  using optim::SGD;
  const auto says = [](auto make, const char* what) {
    EXPECT_THROW(make(), ValueError);
    EXPECT_THAT(message_of(make), HasSubstr(what));
  };
  says([&] { SGD({p}, {.lr = -1}); }, "SGD: lr is -1; it must be >= 0");
  says([&] { SGD({p}, {.momentum = -0.1}); }, "SGD: momentum is -0.1");
  says([&] { SGD({p}, {.weight_decay = -1}); }, "SGD: weight_decay is -1");
  says([&] { SGD({p}, {.nesterov = true}); }, "SGD: momentum is 0; it must be > 0 with nesterov");
  says([&] { SGD({p}, {.momentum = 0.9, .dampening = 0.1, .nesterov = true}); },
       "SGD: dampening is 0.1; it must be 0 with nesterov");
  says([&] { Adam({p}, {.betas = {1.0, 0.9}}); }, "Adam: beta is 1; it must be in [0, 1)");
  says([&] { Adam({p}, {.eps = -1}); }, "Adam: eps is -1");
  says([&] { Adam({p}, {.lr = std::nan("")}); }, "Adam: lr is nan");
  says([&] { optim::AdamW({p}, {.weight_decay = -1}); }, "AdamW: weight_decay is -1");
  says([&] { optim::Adagrad({p}, {.lr_decay = -1}); }, "Adagrad: lr_decay is -1");
  says([&] { optim::Adadelta({p}, {.rho = 1.5}); }, "Adadelta: rho is 1.5; it must be in [0, 1]");
  says([&] { optim::RMSprop({p}, {.alpha = -1}); }, "RMSprop: alpha is -1");
  says([&] { SGD(std::vector<Parameter>()); }, "SGD: there are no parameters");
  says([&] { SGD({Parameter()}); }, "SGD: a parameter is undefined");
  p.leaf().name = "fc.weight";
  says([&] { SGD({p, p}); }, "SGD: parameter fc.weight [1] is given twice");
  SGD sgd({p});
  says([&] { sgd.add_group({p}, {}); }, "given twice");
  sgd.options().lr = -2;
  says([&] { sgd.step(); }, "SGD: lr is -2");
}

TEST(Optimizer, StateGoesByNameAndIsChecked) {
  const Parameter a = parameter({1, 2});
  const Parameter b = parameter({3});
  a.leaf().name = "fc.weight";
  optim::Adam adam({a, b}, {.lr = 0.5});
  set_gradient(a, gradient({1, 1}));
  set_gradient(b, gradient({1}));
  adam.step();
  nn::StateDict state = adam.state_dict();
  EXPECT_EQ(state.at("groups.0.lr").item(), 0.5);
  EXPECT_EQ(state.at("state.fc.weight.step").item(), 1);
  EXPECT_EQ(state.at("state.fc.weight.exp_avg").numel(), 2);
  EXPECT_EQ(state.at("state.0.1.exp_avg_sq").numel(), 1);
  const auto size = state.size();

  const double before = state.at("state.0.1.exp_avg").item();
  set_gradient(b, gradient({7}));
  adam.step();
  EXPECT_EQ(state.at("state.0.1.exp_avg").item(), before) << "the dictionary holds copies";

  nn::StateDict bad = state;
  bad.erase("groups.0.eps");
  bad["state.other.step"] = state.at("groups.0.lr");
  const auto load = [&] { adam.load_state_dict(bad); };
  EXPECT_THROW(load(), ValueError);
  EXPECT_THAT(message_of(load), HasSubstr("missing: groups.0.eps; unexpected: state.other.step"));
  bad = state;
  bad["groups.0.lr"] = Tensor(Array::scalar(kFloat64, 77));
  bad["state.fc.weight.exp_avg"] = Tensor(Array::zeros(kFloat64, {3}));
  EXPECT_THROW(load(), ShapeError);
  EXPECT_THAT(message_of(load),
              HasSubstr("Adam: state state.fc.weight.exp_avg is [3]; it must be [2]"));
  EXPECT_EQ(adam.lr(), 0.5) << "nothing was changed";
  bad = state;
  bad["groups.0.eps"] = Tensor(Array::scalar(kFloat64, 0.25));
  bad["groups.0.lr"] = Tensor(Array::scalar(kFloat64, -1));
  EXPECT_THAT(message_of(load), HasSubstr("lr is -1; it must be >= 0"));
  EXPECT_EQ(adam.lr(), 0.5) << "nothing was changed";
  EXPECT_EQ(adam.options().eps, 1e-8);
  bad = state;
  bad["state.fc.weight.step"] = Tensor(Array::scalar(kInt64, -1));
  EXPECT_THAT(message_of(load), HasSubstr("it must be a count"));
  bad = state;
  bad.erase("state.fc.weight.exp_avg_sq");
  EXPECT_THAT(message_of(load), HasSubstr("missing: state.fc.weight.exp_avg_sq"));
  EXPECT_EQ(adam.state_dict().size(), size);
}

// ---- clipping
// ------------------------------------------------------------------------------------

TEST(Clip, NormIsThatOfAllGradientsTogether) {
  const Parameter a = parameter({0, 0});
  const Parameter b = parameter({0});
  const Parameter without = parameter({0});
  const std::vector<Parameter> all = {a, b, without};
  set_gradient(a, gradient({3, 4}));
  set_gradient(b, gradient({12}));
  EXPECT_DOUBLE_EQ(optim::grad_norm(all), 13);
  EXPECT_DOUBLE_EQ(optim::clip_grad_norm(all, 20), 13);
  EXPECT_EQ(b.grad().item(), 12);
  EXPECT_DOUBLE_EQ(optim::clip_grad_norm(all, 6.5), 13);
  EXPECT_NEAR(b.grad().item(), 6, 1e-6);
  EXPECT_NEAR(optim::grad_norm(all), 6.5, 1e-6);

  set_gradient(b, gradient({-12}));
  set_gradient(a, gradient({3, 4}));
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_DOUBLE_EQ(optim::clip_grad_norm(all, 100, {.norm_type = 1}), 19);
  EXPECT_DOUBLE_EQ(optim::clip_grad_norm(all, 6, {.norm_type = kInfinity}), 12);
  EXPECT_NEAR(b.grad().item(), -6, 1e-6);
}

TEST(Clip, LeavesAloneAGradientThatSomebodyHolds) {
  const Parameter p = parameter({0, 0});
  set_gradient(p, gradient({3, 4}));
  const Tensor held = p.grad();
  optim::clip_grad_norm({{p}}, 1);
  EXPECT_EQ(held.to_vector<double>(), (std::vector<double>{3, 4}));
  EXPECT_NEAR(p.grad().to_vector<double>()[0], 0.6, 1e-6);
}

TEST(Clip, KeepsStructure) {
  const Parameter p{Tensor(Array::zeros(kFloat64, {8, 4}))};
  const Array u = Array::of<double>({8}, std::vector<double>(8, 2));
  const Array v = Array::of<double>({4}, std::vector<double>(4, 3));
  set_gradient(p, Gradient({kFloat64, {8, 4}}, Outer{u, v}));
  const double norm = std::sqrt(32.0) * 6;
  EXPECT_NEAR(optim::clip_grad_norm({{p}}, norm / 2), norm, 1e-12);
  EXPECT_EQ(p.leaf().grad.outer_parts().size(), 1u);
  EXPECT_NEAR(p.grad().to_vector<double>()[5], 3, 1e-6);
}

TEST(Clip, ValueBringsEveryElementWithin) {
  const Parameter p{Tensor(Array::zeros(kFloat64, {8, 2}))};
  const Array ids = Array::of<int64_t>({3}, std::vector<int64_t>{5, 1, 5});
  const Array rows = Array::of<double>({3, 2}, std::vector<double>{1, -4, 0.5, 9, 1, 1});
  set_gradient(p, Gradient({kFloat64, {8, 2}}, RowSparse{ids, rows}));
  optim::clip_grad_value({{p}}, 1.5);
  EXPECT_EQ(p.leaf().grad.row_parts().size(), 1u);
  std::vector<double> want(16);
  want[2] = 0.5;
  want[3] = 1.5;
  want[10] = 1.5;  // 1 + 1
  want[11] = -1.5;
  EXPECT_EQ(p.grad().to_vector<double>(), want);

  set_gradient(p, Gradient({kFloat64, {8, 2}}, ColSparse{Array::full(kInt64, {1}, 1),
                                                         Array::full(kFloat64, {8, 1}, -3)}));
  optim::clip_grad_value({{p}}, 2);
  EXPECT_EQ(p.leaf().grad.col_parts().size(), 1u);
  EXPECT_EQ(p.grad().to_vector<double>()[1], -2);

  const Array u = Array::full(kFloat64, {8}, 2);
  const Array v = Array::full(kFloat64, {2}, 3);
  set_gradient(p, Gradient({kFloat64, {8, 2}}, Outer{u, v}));
  optim::clip_grad_value({{p}}, 5);
  EXPECT_EQ(p.grad().to_vector<double>(), std::vector<double>(16, 5));
}

TEST(Clip, RefusesBadArguments) {
  const Parameter p = parameter({0});
  set_gradient(p, gradient({std::nan("")}));
  EXPECT_THROW(optim::clip_grad_norm({{p}}, -1), ValueError);
  EXPECT_THROW(optim::clip_grad_norm({{p}}, 1, {.norm_type = 0}), ValueError);
  EXPECT_THROW(optim::clip_grad_value({{p}}, -1), ValueError);
  EXPECT_TRUE(std::isnan(optim::clip_grad_norm({{p}}, 1)));
  EXPECT_THROW(optim::clip_grad_norm({{p}}, 1, {.error_if_nonfinite = true}), NumericError);
}

}  // namespace
}  // namespace ebb
