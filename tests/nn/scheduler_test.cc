// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ebb/tests/nn/optim_reference.h"

namespace ebb {
namespace {

using optim_testing::message_of;
using optim_testing::parameter;
using ::testing::HasSubstr;

std::vector<double> rates(optim::Optimizer& o, optim::Scheduler& s, int n) {
  std::vector<double> out{o.lr()};
  for (int i = 1; i < n; ++i) {
    s.step();
    out.push_back(o.lr());
  }
  return out;
}

void expect_rates(const std::vector<double>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-12) << "step " << i;
}

TEST(Scheduler, FollowsItsPlan) {
  const Parameter p = parameter({1});
  {
    optim::SGD o({p}, {.lr = 1});
    optim::StepLR s(o, 2, 0.5);
    expect_rates(rates(o, s, 6), {1, 1, 0.5, 0.5, 0.25, 0.25});
  }
  {
    optim::SGD o({p}, {.lr = 1});
    optim::MultiStepLR s(o, {4, 1}, 0.1);
    expect_rates(rates(o, s, 6), {1, 0.1, 0.1, 0.1, 0.01, 0.01});
  }
  {
    optim::SGD o({p}, {.lr = 2});
    optim::ExponentialLR s(o, 0.5);
    expect_rates(rates(o, s, 4), {2, 1, 0.5, 0.25});
  }
  {
    optim::SGD o({p}, {.lr = 1});
    optim::LinearLR s(o, {.start_factor = 0.25, .total_iters = 3});
    expect_rates(rates(o, s, 5), {0.25, 0.5, 0.75, 1, 1});
  }
  {
    optim::SGD o({p}, {.lr = 1});
    optim::CosineAnnealingLR s(o, {.t_max = 4, .eta_min = 0.2});
    const double r = std::sqrt(0.5);
    expect_rates(rates(o, s, 5), {1, 0.2 + 0.4 * (1 + r), 0.6, 0.2 + 0.4 * (1 - r), 0.2});
  }
  {
    optim::SGD o({p}, {.lr = 1});
    optim::CosineAnnealingLR s(o, {.t_max = 2, .warmup = 2});
    expect_rates(rates(o, s, 5), {0.5, 1, 1, 0.5, 0});
  }
  {
    optim::SGD o({p}, {.lr = 3});
    optim::LambdaLR s(o, [](int64_t t) { return 1.0 / static_cast<double>(t + 1); });
    expect_rates(rates(o, s, 3), {3, 1.5, 1});
  }
}

TEST(Scheduler, OneCycleGoesUpAndDown) {
  const Parameter p = parameter({1});
  optim::SGD o({p}, {.lr = 5, .momentum = 0.9});
  optim::OneCycleLR s(o, {.max_lr = 1,
                          .total_steps = 11,
                          .pct_start = 5.0 / 11,
                          .cosine = false,
                          .div_factor = 10,
                          .final_div_factor = 10});
  std::vector<double> lr{o.lr()};
  std::vector<double> momentum{o.options().momentum};
  for (int i = 1; i < 11; ++i) {
    s.step();
    lr.push_back(o.lr());
    momentum.push_back(o.options().momentum);
  }
  expect_rates(lr, {0.1, 0.325, 0.55, 0.775, 1, 0.835, 0.67, 0.505, 0.34, 0.175, 0.01});
  EXPECT_NEAR(momentum[0], 0.95, 1e-12);
  EXPECT_NEAR(momentum[4], 0.85, 1e-12);
  EXPECT_NEAR(momentum[10], 0.95, 1e-12);
  s.step();  // a loop of 11 updates steps 11 times
  EXPECT_NEAR(o.lr(), 0.01, 1e-12);
  EXPECT_THAT(message_of([&] { s.step(); }), HasSubstr("must be <= total_steps = 11"));
  EXPECT_EQ(s.steps(), 11);

  optim::Adam adam({p});
  optim::OneCycleLR cosine(adam, {.max_lr = 1, .total_steps = 10});
  // Up over 2 steps and down over 7, each half a cosine.
  const double low = 0.04;
  const double last = low / 1e4;
  EXPECT_NEAR(adam.options().betas[0], 0.95, 1e-12);
  for (int t = 0; t < 10; ++t) {
    const double want = t <= 2 ? 1 + (low - 1) * (1 + std::cos(M_PI * t / 2)) / 2
                               : last + (1 - last) * (1 + std::cos(M_PI * (t - 2) / 7)) / 2;
    EXPECT_NEAR(adam.lr(), want, 1e-12) << t;
    cosine.step();
  }
}

TEST(Scheduler, GoesOnFromSavedState) {
  const Parameter p = parameter({1});
  optim::SGD a({p}, {.lr = 1});
  optim::StepLR first(a, 2, 0.5);
  for (int i = 0; i < 5; ++i) first.step();
  optim::SGD b({parameter({1})}, {.lr = 9});
  optim::StepLR second(b, 2, 0.5);
  b.load_state_dict(a.state_dict());
  second.load_state_dict(first.state_dict());
  first.step();
  second.step();
  EXPECT_EQ(b.lr(), a.lr());
  EXPECT_EQ(second.steps(), 6);
  EXPECT_THROW(second.load_state_dict({}), ValueError);

  // Made after the optimiser's state was loaded, which sets the rate of its own step 0.
  const optim::LinearLROptions warm_up{.start_factor = 0.5, .total_iters = 4};
  optim::SGD c({parameter({1})}, {.lr = 1});
  optim::LinearLR third(c, warm_up);
  third.step();
  optim::SGD d({parameter({1})}, {.lr = 9});
  d.load_state_dict(c.state_dict());
  optim::LinearLR fourth(d, warm_up);
  fourth.load_state_dict(third.state_dict());
  EXPECT_EQ(d.lr(), c.lr());
}

TEST(Scheduler, PlateauReducesWhenNothingImproves) {
  const Parameter p = parameter({1});
  optim::SGD o({p}, {.lr = 1});
  optim::ReduceLROnPlateau s(o, {.factor = 0.5, .patience = 1, .cooldown = 1, .min_lr = 0.2});
  std::vector<double> seen;
  for (const double loss : {3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 2.0, 2.0, 2.0}) {
    s.step(loss);
    seen.push_back(o.lr());
  }
  expect_rates(seen, {1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2});
  EXPECT_EQ(s.best(), 1);

  optim::ReduceLROnPlateau other(o);
  other.load_state_dict(s.state_dict());
  EXPECT_EQ(other.best(), 1);
  EXPECT_THROW(other.load_state_dict({}), ValueError);

  optim::SGD up({p}, {.lr = 1});
  optim::ReduceLROnPlateau max(up, {.mode = optim::PlateauOptions::Mode::kMax, .patience = 0});
  max.step(0.5);
  max.step(0.6);
  EXPECT_EQ(up.lr(), 1);
  max.step(0.6);
  EXPECT_NEAR(up.lr(), 0.1, 1e-12);
}

TEST(Scheduler, RefusesBadArguments) {
  optim::SGD o({parameter({1})});
  EXPECT_THROW(optim::StepLR(o, 0), ValueError);
  EXPECT_THROW(optim::LinearLR(o, {.start_factor = 0}), ValueError);
  EXPECT_THROW(optim::LinearLR(o, {.total_iters = 0}), ValueError);
  EXPECT_THROW(optim::CosineAnnealingLR(o, {.t_max = 0}), ValueError);
  EXPECT_THROW(optim::OneCycleLR(o, {.max_lr = 0, .total_steps = 5}), ValueError);
  EXPECT_THROW(optim::OneCycleLR(o, {.max_lr = 1, .total_steps = 1}), ValueError);
  EXPECT_THROW(optim::OneCycleLR(o, {.max_lr = 1, .total_steps = 9, .pct_start = 1}), ValueError);
  EXPECT_THROW(optim::ReduceLROnPlateau(o, {.factor = 1}), ValueError);
  EXPECT_THROW(optim::ReduceLROnPlateau(o, {.patience = -1}), ValueError);
}

}  // namespace
}  // namespace ebb
