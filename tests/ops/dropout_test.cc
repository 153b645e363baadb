// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/dropout.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/index.h"
#include "ebb/ops/random.h"
#include "ebb/ops/reduce.h"

namespace ebb {
namespace {

TEST(FeatureDropout, DropsWholeChannels) {
  Generator g(2);
  const Tensor x = variable(ones({50, 20, 3, 2}));
  const Tensor y = feature_dropout(x, 0.25, true, -3, g);
  const auto v = y.to_vector<double>();
  double kept = 0;
  for (size_t i = 0; i < v.size(); i += 6) {
    for (size_t k = 0; k < 6; ++k) EXPECT_EQ(v[i + k], v[i]);
    EXPECT_TRUE(v[i] == 0 || std::abs(v[i] - 4.0 / 3) < 1e-6);
    kept += v[i] != 0;
  }
  EXPECT_NEAR(kept / 1000, 0.75, 0.05);
  EXPECT_EQ(grad(y.sum(), x).to_vector<double>(), v);
  EXPECT_EQ(feature_dropout(x, 0.5, false).value().rep(), x.value().rep());
  EXPECT_EQ(sum(feature_dropout(x, 1.0)).item(), 0);
  EXPECT_THROW(feature_dropout(x, 1.5), ValueError);
  EXPECT_THROW(feature_dropout(ones({3, 2}), 0.5), ShapeError);
  EXPECT_THROW(feature_dropout(x, 0.5, true, 1), ValueError);
}

TEST(AlphaDropout, KeepsMeanAndVariance) {
  Generator g(6);
  const Tensor x = randn({200000}, {}, g);
  const Tensor y = alpha_dropout(x, 0.3, true, g);
  EXPECT_NEAR(mean(y).item(), 0, 0.01);
  EXPECT_NEAR(var(y).item(), 1, 0.02);
  const auto v = y.to_vector<double>();
  double lowest = 0;
  for (double e : v) lowest = std::min(lowest, e);
  // Three in ten are what selu gives far below 0, scaled and shifted.
  const double a = 1 / std::sqrt(0.7 * (1 + 0.3 * 1.7580993408473766 * 1.7580993408473766));
  const double dropped = a * -1.7580993408473766 * 0.7;
  double count = 0;
  for (double e : v) count += std::abs(e - dropped) < 1e-6;
  EXPECT_NEAR(count / 200000, 0.3, 0.01);
  EXPECT_THROW(alpha_dropout(x, -0.1), ValueError);
  EXPECT_EQ(sum(alpha_dropout(ones({4}), 1.0)).item(), 0);
  EXPECT_EQ(alpha_dropout(x, 0.3, false).value().rep(), x.value().rep());
}

TEST(FeatureAlphaDropout, DropsWholeChannels) {
  Generator g(6);
  const Tensor y = feature_alpha_dropout(ones({40, 2, 2}), 0.5, true, -3, g);
  double first = 0;
  for (int64_t c = 0; c < 40; ++c) {
    const auto v = y.select(0, c).to_vector<double>();
    for (double e : v) EXPECT_EQ(e, v[0]);
    first += v[0] < 0;
  }
  EXPECT_GT(first, 5);
  EXPECT_LT(first, 35);
  EXPECT_THROW(feature_alpha_dropout(ones({3}), 0.5), ShapeError);
}

}  // namespace
}  // namespace ebb
