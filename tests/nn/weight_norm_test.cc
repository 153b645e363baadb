// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/weight_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ebb/autograd/testing.h"
#include "ebb/ebb.h"
#include "ebb/tests/nn/attention_reference.h"

namespace ebb {
namespace {

using testing::doubles;
using testing::expect_near;

std::vector<std::string> names(const nn::Module& m) {
  std::vector<std::string> all;
  for (const auto& [name, t] : m.state_dict()) all.push_back(name);
  return all;
}

struct Net : nn::Module {
  nn::WeightNorm<nn::Linear> fc{*this, "fc", std::make_unique<nn::Linear>(5, 3)};
  nn::Linear out{*this, "out", 3, 2};
};

TEST(Substitution, LastsAsLongAsItLives) {
  nn::Linear fc(2, 2, {.bias = false});
  const Tensor x = tensor({1.0, 2.0});
  const Tensor before = fc(x);
  const Tensor w = variable(tensor({{1.0, 0.0}, {0.0, 1.0}}));
  {
    const nn::Substitution guard(fc.weight, w * 3.0);
    EXPECT_EQ(doubles(fc(x)), (std::vector<double>{3, 6}));
    fc(x).sum().backward();
  }
  EXPECT_EQ(doubles(fc(x)), doubles(before));
  EXPECT_EQ(doubles(w.grad()), (std::vector<double>{3, 6, 3, 6}));
  EXPECT_FALSE(fc.weight.grad().defined());
  EXPECT_THROW(nn::Substitution(fc.weight, zeros({2, 3})), ShapeError);
  EXPECT_EQ(doubles(fc(x)), doubles(before));
}

TEST(WeightNorm, IsAtFirstWhatItWas) {
  manual_seed(3);
  auto plain = std::make_unique<nn::Linear>(5, 3);
  const Tensor x = randn({5});
  const Tensor want = (*plain)(x);
  const nn::WeightNorm<nn::Linear> fc(std::move(plain));
  expect_near(fc(x), want, 1e-6);
  EXPECT_EQ(names(fc), (std::vector<std::string>{"bias", "weight_g", "weight_v"}));
  EXPECT_EQ(fc.weight_g.shape(), Shape({3, 1}));
  EXPECT_EQ(fc.parameters().size(), 3u);
}

TEST(WeightNorm, LengthAndDirectionLearnApart) {
  nn::WeightNorm<nn::Linear> fc(std::make_unique<nn::Linear>(4, 2));
  fc.to(kFloat64);
  const Tensor x = testing::normal({4});
  const auto loss = [&] { return square(fc(x)).sum(); };
  loss().backward();
  // The direction's gradient is across it.
  const Tensor& v = fc.target();
  for (const double d : doubles(sum(v.detach() * v.grad(), 1))) EXPECT_NEAR(d, 0, 1e-12);
  // Of all parameters by differences, twice.
  for (const Parameter& p : fc.parameters()) {
    const Tensor g = grad(loss(), p, {.create_graph = true});
    const Tensor direction = testing::normal(g.shape());
    const Tensor again = grad(sum(g * direction), p);
    const Tensor start = p.tensor().detach() * 1.0;
    const auto at = [&](double step) {
      p.copy_from(start + step * direction);
      const Tensor moved = grad(loss(), p);
      p.copy_from(start);
      return moved;
    };
    expect_near(again, (at(1e-5) - at(-1e-5)) / 2e-5, 1e-6);
  }
}

TEST(WeightNorm, IsStoredLoadedAndCloned) {
  Net a;
  Net b;
  const Tensor x = randn({5});
  b.load_state_dict(a.state_dict());
  EXPECT_EQ(doubles(b.fc(x)), doubles(a.fc(x)));
  EXPECT_EQ(names(a), (std::vector<std::string>{"fc.bias", "fc.weight_g", "fc.weight_v", "out.bias",
                                                "out.weight"}));
  const auto copy = a.fc.clone();
  EXPECT_EQ(doubles(static_cast<nn::WeightNorm<nn::Linear>&>(*copy)(x)), doubles(a.fc(x)));
  optim::SGD sgd(a.parameters(), {.lr = 0.1});
  const double before = square(a.out(a.fc(x)) - 1).sum().item();
  for (int i = 0; i < 20; ++i) {
    sgd.zero_grad();
    square(a.out(a.fc(x)) - 1).sum().backward();
    sgd.step();
  }
  EXPECT_LT(square(a.out(a.fc(x)) - 1).sum().item(), before / 10);
  EXPECT_EQ(doubles(static_cast<nn::WeightNorm<nn::Linear>&>(*copy)(x)).size(), 3u);
}

TEST(WeightNorm, ServesAnyModuleAndAxis) {
  // Something that is no layer, and a weight of another name.
  nn::WeightNorm<nn::MultiheadAttention> attend(std::make_unique<nn::MultiheadAttention>(8, 2),
                                                {.name = "in_proj_weight"});
  const Tensor x = randn({3, 8});
  EXPECT_EQ(attend(x, x, x).output.shape(), Shape({3, 8}));
  EXPECT_EQ(attend.state_dict().count("in_proj_weight_g"), 1u);
  EXPECT_EQ(attend.state_dict().count("module.out_proj.weight"), 1u);
  nn::WeightNorm<nn::Linear> columns(std::make_unique<nn::Linear>(4, 2), {.dim = 1});
  EXPECT_EQ(columns.weight_g.shape(), Shape({1, 4}));
  nn::WeightNorm<nn::Linear> whole(std::make_unique<nn::Linear>(4, 2), {.dim = std::nullopt});
  EXPECT_EQ(whole.weight_g.shape(), Shape({}));
  nn::Sequential net;
  net.append(std::make_unique<nn::WeightNorm<nn::Linear>>(std::make_unique<nn::Linear>(4, 2)));
  EXPECT_EQ(net(randn({4})).shape(), Shape({2}));
  EXPECT_THROW(nn::WeightNorm<nn::Linear>(std::make_unique<nn::Linear>(4, 2), {.name = "w"}),
               ValueError);
  EXPECT_THROW(nn::WeightNorm<nn::Linear>(std::make_unique<nn::Linear>(4, 2), {.dim = 2}),
               IndexError);
}

double largest_singular_value(const Tensor& w) { return svd(w.detach().to(kFloat64)).s[0].item(); }

TEST(SpectralNorm, DividesByTheLargestSingularValue) {
  manual_seed(5);
  nn::SpectralNorm<nn::Linear> fc(std::make_unique<nn::Linear>(6, 4));
  for (int i = 0; i < 100; ++i) fc(randn({6}));
  EXPECT_NEAR(largest_singular_value(fc.effective()), 1, 1e-3);
  EXPECT_EQ(names(fc), (std::vector<std::string>{"bias", "weight_orig", "weight_u", "weight_v"}));
  EXPECT_NEAR(norm(fc.weight_u).item(), 1, 1e-5);
  EXPECT_EQ(fc.weight_u.shape(), Shape({4}));
  EXPECT_EQ(fc.weight_v.shape(), Shape({6}));
}

TEST(SpectralNorm, MovesItsVectorsInTrainingOnly) {
  manual_seed(5);
  nn::SpectralNorm<nn::Linear> fc(std::make_unique<nn::Linear>(6, 4));
  fc.target().copy_from(randn({4, 6}));  // far from where the vectors are
  const auto u = doubles(fc.weight_u);
  fc.eval();
  const Tensor x = randn({6});
  const auto y = doubles(fc(x));
  EXPECT_EQ(doubles(fc.weight_u), u);
  EXPECT_EQ(doubles(fc(x)), y);
  fc.train();
  fc(x);
  EXPECT_NE(doubles(fc.weight_u), u);
}

TEST(SpectralNorm, WaitsForItsWeights) {
  std::unique_ptr<nn::SpectralNorm<nn::Linear>> layer;
  {
    const nn::init::SkipGuard skip;
    layer = std::make_unique<nn::SpectralNorm<nn::Linear>>(std::make_unique<nn::Linear>(3, 4));
  }
  for (const auto& [name, p] : layer->named_parameters()) nn::init::normal_(p);
  for (int i = 0; i < 30; ++i) {
    for (const double y : doubles((*layer)(randn({2, 3})))) ASSERT_TRUE(std::isfinite(y));
  }
}

TEST(SpectralNorm, TheGradientGoesThroughTheSingularValue) {
  manual_seed(5);
  nn::SpectralNorm<nn::Linear> fc(std::make_unique<nn::Linear>(5, 3));
  fc.to(kFloat64);
  for (int i = 0; i < 300; ++i) fc.effective();
  fc.eval();
  const Tensor x = testing::normal({5});
  square(fc(x)).sum().backward();
  // A longer weight is the same one: its gradient is across it.
  const Tensor& w = fc.target();
  EXPECT_NEAR(sum(w.detach() * w.grad()).item(), 0, 1e-9);
  EXPECT_GT(sum(abs(w.grad())).item(), 1e-3);
}

TEST(SpectralNorm, IsStoredAndCloned) {
  nn::SpectralNorm<nn::Linear> fc(std::make_unique<nn::Linear>(5, 3));
  fc.eval();
  const Tensor x = randn({5});
  const auto copy = fc.clone();
  EXPECT_EQ(doubles(static_cast<nn::SpectralNorm<nn::Linear>&>(*copy)(x)), doubles(fc(x)));
  EXPECT_THROW(
      nn::SpectralNorm<nn::Linear>(std::make_unique<nn::Linear>(4, 2), {.n_power_iterations = 0}),
      ValueError);
  nn::SpectralNorm<nn::Linear> other(std::make_unique<nn::Linear>(5, 3), {.dim = 1});
  EXPECT_EQ(other.weight_u.shape(), Shape({5}));
}

}  // namespace
}  // namespace ebb
