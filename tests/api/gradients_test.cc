// SPDX-License-Identifier: Apache-2.0
// Gradients of gradients, as a user would write them.
#include <gtest/gtest.h>

#include "ebb/ebb.h"

namespace {

// Score matching (Hyvarinen 2005): E[ 1/2 |s(x)|^2 + tr ds/dx ], s = -dE/dx
ebb::Tensor score_matching(const auto& energy, const ebb::Tensor& data) {
  ebb::Tensor x = ebb::variable(data);
  ebb::Tensor s = -ebb::grad(energy(x), x, {.create_graph = true});
  ebb::Tensor trace = ebb::zeros({}, {.dtype = x.dtype()});
  for (int64_t i = 0; i < x.size(0); ++i) {
    trace = trace + ebb::grad(s[i], x, {.create_graph = true})[i];
  }
  return 0.5 * square(s).sum() + trace;
}

// Of a normal density with inverse variances a, whose score is -a x: 1/2 |a x|^2 - sum a.
TEST(Api, ScoreMatching) {
  const ebb::Tensor a = ebb::variable(ebb::tensor({0.5, 2.0, 3.0}, {.dtype = ebb::kFloat64}));
  const ebb::Tensor x = ebb::tensor({1.0, -2.0, 0.5}, {.dtype = ebb::kFloat64});
  const auto energy = [&](const ebb::Tensor& z) { return 0.5 * (a * square(z)).sum(); };
  const ebb::Tensor loss = score_matching(energy, x);
  EXPECT_NEAR(loss.item(), 0.5 * (0.25 + 16 + 2.25) - 5.5, 1e-12);
  loss.backward();
  const auto g = a.grad().to_vector<double>();  // a x^2 - 1
  EXPECT_NEAR(g[0], 0.5 * 1 - 1, 1e-12);
  EXPECT_NEAR(g[1], 2 * 4 - 1, 1e-12);
  EXPECT_NEAR(g[2], 3 * 0.25 - 1, 1e-12);
}

TEST(Api, ValueGradientAndHessianVectorProduct) {
  const auto f = [](const ebb::Tensor& x) { return (x * x * x).sum(); };
  const ebb::Tensor x = ebb::tensor({1.0, 2.0}, {.dtype = ebb::kFloat64});
  const ebb::Tensor v = ebb::tensor({1.0, -1.0}, {.dtype = ebb::kFloat64});
  auto [value, gradient] = ebb::value_and_grad(f)(x);
  EXPECT_EQ(value.item(), 9);
  EXPECT_EQ(gradient.to_vector<double>(), (std::vector<double>{3, 12}));
  auto hv = ebb::hvp(f, x, v);
  EXPECT_EQ(hv.to_vector<double>(), (std::vector<double>{6, -12}));
}

}  // namespace
