// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/interaction.h"

#include <gtest/gtest.h>

#include "ebb/tests/nn/attention_reference.h"

namespace ebb {
namespace {

using testing::check_clone;
using testing::check_module;
using testing::doubles;
using testing::expect_near;
using testing::Matrix;
using testing::normal;
using testing::scramble;

TEST(LowRankBilinear, IsABilinearFormOfThatRank) {
  nn::LowRankBilinear layer(2, 3, 4, 2);
  scramble(layer);
  const Tensor x1 = normal({2});
  const Tensor x2 = normal({3});
  const Matrix u(layer.factor1.weight);
  const Matrix v(layer.factor2.weight);
  const Matrix p(layer.pool.weight);
  const auto a = doubles(x1);
  const auto c = doubles(x2);
  std::vector<double> want = doubles(layer.pool.bias);
  for (int64_t o = 0; o < 2; ++o) {
    for (int64_t i = 0; i < 2; ++i) {
      for (int64_t j = 0; j < 3; ++j) {
        double weight = 0;
        for (int64_t f = 0; f < 4; ++f) weight += p(o, f) * u(f, i) * v(f, j);
        want[static_cast<size_t>(o)] +=
            weight * a[static_cast<size_t>(i)] * c[static_cast<size_t>(j)];
      }
    }
  }
  expect_near(layer(x1, x2), Tensor(Array::of<double>({2}, want)));
  EXPECT_EQ(layer(normal({5, 1, 2}), normal({4, 3})).shape(), Shape({5, 4, 2}));
  EXPECT_THROW(layer(x2, x1), ShapeError);
  EXPECT_THROW(nn::LowRankBilinear(2, 3, 0, 2), ValueError);
  check_module(layer, [&] { return layer(x1, x2); });
  check_clone(layer, [&](const nn::Module& m) {
    return static_cast<const nn::LowRankBilinear&>(m)(x1, x2);
  });
}

TEST(FactoredGate, AnyTwoGiveTheThird) {
  nn::FactoredGate gate(2, 3, 4, 5);
  scramble(gate);
  const Tensor x = normal({2});
  const Tensor y = variable(normal({3}));
  const Tensor h = variable(normal({4}));
  const auto vx = doubles(x);
  const auto vy = doubles(y);
  const auto vh = doubles(h);
  const Matrix wx(gate.weight_x);
  const Matrix wy(gate.weight_y);
  const Matrix wh(gate.weight_h);
  double energy = 0;
  for (size_t j = 0; j < 3; ++j) energy -= vy[j] * doubles(gate.bias_y)[j];
  for (size_t k = 0; k < 4; ++k) energy -= vh[k] * doubles(gate.bias_h)[k];
  for (int64_t i = 0; i < 2; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      for (int64_t k = 0; k < 4; ++k) {
        double weight = 0;
        for (int64_t f = 0; f < 5; ++f) weight += wx(f, i) * wy(f, j) * wh(f, k);
        energy -= weight * vx[static_cast<size_t>(i)] * vy[static_cast<size_t>(j)] *
                  vh[static_cast<size_t>(k)];
      }
    }
  }
  EXPECT_NEAR(gate.energy(x, y, h).item(), energy, 1e-12);
  // What drives a unit is the slope of the energy, whose sign is turned.
  expect_near(gate(x, y), -grad(gate.energy(x, y, h), h));
  expect_near(gate.output(x, h), -grad(gate.energy(x, y, h), y));
  EXPECT_EQ(gate.energy(normal({6, 2}), normal({6, 3}), normal({6, 4})).shape(), Shape({6}));
  EXPECT_THROW(gate(y, x), ShapeError);
  EXPECT_THROW(nn::FactoredGate(2, 3, 4, 0), ValueError);
  check_module(gate, [&] { return gate.energy(x, y, h) + gate(x, y).sum(); });
  check_clone(gate, [&](const nn::Module& m) {
    return static_cast<const nn::FactoredGate&>(m).energy(x, y, h);
  });
}

TEST(FiLM, ScalesAndShiftsEachFeature) {
  const Tensor x = normal({3, 2, 2});
  const Tensor gamma = normal({3});
  const Tensor beta = normal({3});
  const Tensor y = nn::film(x, gamma, beta, 0);
  for (int64_t c = 0; c < 3; ++c) expect_near(y[c], x[c] * gamma[c] + beta[c]);
  expect_near(nn::film(transpose(x, 0, 2), gamma, beta), transpose(y, 0, 2));
  // A row for each sample.
  const Tensor rows = normal({3, 2});
  const Tensor shifts = normal({3, 2});
  const Tensor z = nn::film(x, rows, shifts, 1);
  for (int64_t n = 0; n < 3; ++n) expect_near(z[n], nn::film(x[n], rows[n], shifts[n], 0));
  EXPECT_THROW(nn::film(x, gamma, beta, 1), ShapeError);
  EXPECT_THROW(nn::film(x, gamma, normal({1}), 0), ShapeError);
  EXPECT_THROW(nn::film(x, normal({2, 2}), normal({2, 2}), 1), ShapeError);
  EXPECT_THROW(nn::film(x, gamma, beta, 3), IndexError);
  const Tensor square_rows = normal({3, 3});
  EXPECT_THROW(nn::film(x, square_rows, square_rows, 0), ValueError);
}

TEST(FiLM, LearnsWhatTheConditionSays) {
  nn::FiLM layer(4, 3, {.axis = 0});
  scramble(layer);
  const Tensor x = normal({3, 2});
  const Tensor condition = normal({4});
  const Tensor both = layer.generator(condition);
  expect_near(layer(x, condition), nn::film(x, both.narrow(0, 0, 3) + 1, both.narrow(0, 3, 3), 0));
  EXPECT_THROW(layer(x, normal({3})), ShapeError);
  EXPECT_THROW(layer(normal({2, 2}), condition), ShapeError);
  EXPECT_THROW(nn::FiLM(4, 0), ValueError);
  check_module(layer, [&] { return layer(x, condition); });
  check_clone(layer,
              [&](const nn::Module& m) { return static_cast<const nn::FiLM&>(m)(x, condition); });
}

}  // namespace
}  // namespace ebb
