// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/layers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "ebb/autograd/testing.h"
#include "ebb/ebb.h"

namespace ebb {
namespace {

std::vector<double> doubles(const Tensor& t) { return t.to(kFloat64).to_vector<double>(); }

// Every parameter and input of a module, differentiated twice.
template <class M, class... X>
void check_gradients(M& module, const X&... inputs) {
  module.to(kFloat64);
  const auto f = [&](Span<const Tensor>) { return square(module(inputs...)).sum(); };
  for (const Parameter& p : module.parameters()) {
    const Tensor g = grad(f({}), p, {.create_graph = true});
    const Tensor v = Tensor(testing::normal(g.shape()));
    const Tensor gv = (g * v).sum();
    const double analytic = gv.item();
    const Tensor start = p.tensor().detach() * 1.0;
    constexpr double kStep = 1e-6;
    p.copy_from(start + kStep * v);
    const double above = f({}).item();
    p.copy_from(start - kStep * v);
    const double below = f({}).item();
    p.copy_from(start);
    EXPECT_NEAR(analytic, (above - below) / (2 * kStep), 1e-5 * std::max(1.0, std::abs(analytic)));
  }
}

TEST(Linear, ComputesItsFormula) {
  nn::Linear fc(2, 3);
  fc.weight.copy_from(tensor({{1, 2}, {3, 4}, {5, 6}}));
  fc.bias.copy_from(tensor({10, 20, 30}));
  EXPECT_EQ(doubles(fc(tensor({1.0, -1.0}))), (std::vector<double>{9, 19, 29}));
  EXPECT_EQ(fc(randn({4, 5, 2})).shape(), Shape({4, 5, 3}));
  EXPECT_THROW(fc(randn({3})), ShapeError);
  EXPECT_THROW(nn::Linear(0, 3), ValueError);
  check_gradients(fc, testing::normal({2}));
}

TEST(Linear, StartsWithinItsBound) {
  manual_seed(3);
  const nn::Linear fc(100, 50);
  for (double w : doubles(fc.weight)) EXPECT_LE(std::abs(w), 0.1);
}

TEST(Bilinear, ComputesItsFormula) {
  nn::Bilinear layer(2, 3, 2);
  const auto w = doubles(layer.weight);
  const auto b = doubles(layer.bias);
  const Tensor x1 = testing::normal({2});
  const Tensor x2 = testing::normal({3});
  layer.to(kFloat64);
  const auto y = doubles(layer(x1, x2));
  const auto a = doubles(x1);
  const auto c = doubles(x2);
  for (size_t k = 0; k < 2; ++k) {
    double want = b[k];
    for (size_t i = 0; i < 2; ++i) {
      for (size_t j = 0; j < 3; ++j) want += a[i] * w[(k * 2 + i) * 3 + j] * c[j];
    }
    EXPECT_NEAR(y[k], want, 1e-12);
  }
  EXPECT_THROW(layer(x2, x1), ShapeError);
  check_gradients(layer, x1, x2);
}

TEST(Embedding, ReadsRowsAndPassesRowGradients) {
  const nn::Embedding table(5, 3);
  EXPECT_EQ(doubles(table(2)), doubles(table.weight->slice(0, 2, 3)));
  EXPECT_EQ(table(testing::indices({1, 4, 1})).shape(), Shape({3, 3}));
  EXPECT_EQ(table(reshape(testing::indices({1, 4}), {1, 2})).shape(), Shape({1, 2, 3}));
  EXPECT_THROW(table(5), IndexError);
  table(testing::indices({1, 4, 1})).sum().backward();
  EXPECT_EQ(table.weight.leaf().grad.row_parts().size(), 1u);
  EXPECT_EQ(doubles(table.weight.grad()),
            (std::vector<double>{0, 0, 0, 2, 2, 2, 0, 0, 0, 0, 0, 0, 1, 1, 1}));
}

TEST(Embedding, ThePaddingRowIsZeroAndLearnsNothing) {
  const nn::Embedding table(4, 2, {.padding_idx = 1});
  EXPECT_EQ(doubles(table(1)), (std::vector<double>{0, 0}));
  table(testing::indices({1, 2})).sum().backward();
  EXPECT_EQ(doubles(table.weight.grad()), (std::vector<double>{0, 0, 0, 0, 1, 1, 0, 0}));
  table.zero_grad();
  table(testing::indices({-3, -2})).sum().backward();  // the same rows, from the end
  EXPECT_EQ(doubles(table.weight.grad()), (std::vector<double>{0, 0, 0, 0, 1, 1, 0, 0}));
  EXPECT_THROW(nn::Embedding(4, 2, {.padding_idx = 4}), IndexError);
}

TEST(LayerNorm, NormalisesTheLastAxes) {
  nn::LayerNorm norm({4});
  const Tensor y = norm(testing::normal({3, 4}).to(kFloat32));
  for (const double m : doubles(mean(y, 1))) EXPECT_NEAR(m, 0, 1e-6);
  for (const double v : doubles(mean(square(y), 1))) EXPECT_NEAR(v, 1, 1e-3);
  EXPECT_THROW(norm(randn({3})), ShapeError);
  check_gradients(norm, testing::normal({3, 4}));
}

TEST(Dropout, DropsInTrainingOnly) {
  manual_seed(1);
  nn::Dropout drop(0.25);
  const auto y = doubles(drop(ones({10000})));
  double kept = 0;
  for (double v : y) {
    EXPECT_TRUE(v == 0 || std::abs(v - 1 / 0.75) < 1e-6);
    kept += v != 0;
  }
  EXPECT_NEAR(kept / 10000, 0.75, 0.02);
  drop.eval();
  EXPECT_EQ(doubles(drop(ones({3}))), (std::vector<double>{1, 1, 1}));
  EXPECT_THROW(nn::Dropout(1.5), ValueError);
}

TEST(Activations, AreTheirFunctions) {
  const Tensor x = testing::normal({7});
  EXPECT_EQ(doubles(nn::ReLU()(x)), doubles(relu(x)));
  EXPECT_EQ(doubles(nn::LeakyReLU(0.2)(x)), doubles(leaky_relu(x, 0.2)));
  EXPECT_EQ(doubles(nn::Hardtanh(-0.5, 0.5)(x)), doubles(clamp(x, -0.5, 0.5)));
  const nn::ELU elu_layer(0.7);
  EXPECT_EQ(doubles((*static_cast<nn::ELU*>(elu_layer.clone().get()))(x)), doubles(elu(x, 0.7)));
}

// Anomaly mode and the printed tape name the user's line, not the layer's.
TEST(Layer, OpsArePlacedWhereTheLayerIsCalled) {
  const nn::Linear fc(2, 3);
  const nn::Embedding table(4, 2);
  const Tensor x = ones({2});
  const int line = __LINE__ + 1;
  const std::string tape = tape_to_string(relu(fc(x)) + table(1).sum());
  const std::string here = "layers_test.cc:" + std::to_string(line);
  size_t placed = 0;
  for (size_t at = tape.find(here); at != std::string::npos; at = tape.find(here, at + 1)) ++placed;
  EXPECT_GE(placed, 5u) << tape;
  EXPECT_EQ(tape.find("linear.cc"), std::string::npos) << tape;
  EXPECT_EQ(tape.find("embedding.cc"), std::string::npos) << tape;
}

TEST(Init, HasTheStatedMoments) {
  Generator g(5);
  const Parameter p(zeros({200, 300}));
  const auto std_of = [&] { return std::sqrt(mean(square(p.tensor())).item()); };
  nn::init::xavier_normal_(p, 2, g);
  EXPECT_NEAR(std_of(), 2 * std::sqrt(2.0 / 500), 0.002);
  nn::init::xavier_uniform_(p, 1, g);
  EXPECT_NEAR(std_of(), std::sqrt(2.0 / 500), 0.001);
  nn::init::kaiming_normal_(p, 0, nn::init::Fan::kIn, g);
  EXPECT_NEAR(std_of(), std::sqrt(2.0 / 300), 0.002);
  nn::init::kaiming_uniform_(p, 0, nn::init::Fan::kOut, g);
  EXPECT_NEAR(std_of(), std::sqrt(2.0 / 200), 0.002);
  EXPECT_THROW(nn::init::kaiming_normal_(Parameter(zeros({3}))), ShapeError);
  EXPECT_THROW(nn::init::calculate_gain("gelu"), ValueError);
}

// The values are untouched, and all numbers drawn later are those of a run that drew them.
TEST(Init, SkippingLeavesValuesAndMovesTheGeneratorOn) {
  const auto make = [](bool skip) {
    manual_seed(6);
    std::vector<double> all;
    const auto keep = [&](const nn::Module& m) {
      for (const auto& [name, p] : m.named_parameters()) {
        for (const double v : doubles(p)) all.push_back(v);
      }
    };
    {
      std::optional<nn::init::SkipGuard> guard;
      if (skip) guard.emplace();
      keep(nn::Linear(5, 7));
      keep(nn::Conv2d(3, 4, 3));
      keep(nn::LSTMCell(3, 4));
      keep(nn::models::MobileNetV2({.width_multiplier = 0.1, .num_classes = 3}));
      const Parameter p(full({3, 4}, skip ? 0.0 : 1.0));
      nn::init::orthogonal_(p);
      for (const double v : doubles(p)) all.push_back(v);
    }
    all.push_back(default_generator().normal());
    keep(nn::Linear(2, 3));
    return all;
  };
  const std::vector<double> drawn = make(false);
  const std::vector<double> skipped = make(true);
  ASSERT_EQ(drawn.size(), skipped.size());
  const size_t after = drawn.size() - 1 - 9;
  for (size_t i = 0; i < after; ++i) ASSERT_TRUE(skipped[i] == 0 || skipped[i] == 1) << i;
  EXPECT_TRUE(std::equal(drawn.begin() + static_cast<ptrdiff_t>(after), drawn.end(),
                         skipped.begin() + static_cast<ptrdiff_t>(after)));
  EXPECT_NE(drawn[0], 0);
}

TEST(Init, DrawsInPlaceWhateverTheLayout) {
  Generator a(9);
  Generator b(9);
  const Parameter plain(zeros({3, 4}));
  const Tensor view = zeros({4, 3}).t();
  const Parameter turned(view);
  nn::init::normal_(plain, 0, 1, a);
  nn::init::normal_(turned, 0, 1, b);
  EXPECT_EQ(doubles(plain), doubles(turned));
  EXPECT_EQ(doubles(view), doubles(turned));
  // Who saved the old values finds out.
  const Tensor y = square(plain.tensor()).sum();
  nn::init::uniform_(plain, 0, 1, a);
  EXPECT_THROW(y.backward(), GradError);
  EXPECT_THROW(nn::init::uniform_(plain, 1, 0, a), ValueError);
}

TEST(Init, OrthogonalAndSparse) {
  Generator g(5);
  const Parameter p(zeros({6, 4}));
  nn::init::orthogonal_(p, 2, g);
  const auto gram = doubles(mm(p.tensor().t(), p));
  for (size_t i = 0; i < 4; ++i) {
    for (size_t j = 0; j < 4; ++j) EXPECT_NEAR(gram[i * 4 + j], i == j ? 4 : 0, 1e-5);
  }
  nn::init::sparse_(p, 0.5, 1, g);
  const auto w = doubles(p);
  for (size_t j = 0; j < 4; ++j) {
    int zero = 0;
    for (size_t i = 0; i < 6; ++i) zero += w[i * 4 + j] == 0;
    EXPECT_EQ(zero, 3);
  }
}

}  // namespace
}  // namespace ebb
