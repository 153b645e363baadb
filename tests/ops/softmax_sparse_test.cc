// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/softmax.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

// By the definition: tau such that the sum is 1, found by halving to the last bit.
RefArray reference(const RefArray& x, double alpha, int axis) {
  RefArray y = x;
  int64_t inner = 1;
  for (int i = axis + 1; i < x.shape.rank(); ++i) inner *= x.shape[i];
  const int64_t n = x.shape.empty() ? 1 : x.shape[axis];
  for (int64_t row = 0; n > 0 && row < x.numel() / n; ++row) {
    const int64_t first = row / inner * n * inner + row % inner;
    const auto at = [&](int64_t i) { return static_cast<size_t>(first + i * inner); };
    const auto p = [&](int64_t i, double tau) {
      return std::pow(std::max((alpha - 1) * x.v[at(i)] - tau, 0.0), 1 / (alpha - 1));
    };
    double low = -1e3;
    double high = 1e3;
    for (int i = 0; i < 200; ++i) {
      double sum = 0;
      for (int64_t k = 0; k < n; ++k) sum += p(k, (low + high) / 2);
      (sum >= 1 ? low : high) = (low + high) / 2;
    }
    for (int64_t k = 0; k < n; ++k) y.v[at(k)] = p(k, low);
  }
  return y;
}

using Softmax = std::function<Tensor(const Tensor&, int64_t)>;

RegisterSamples entmax_samples(const std::string& op, double alpha, Softmax f, bool whole = true) {
  return RegisterSamples(op, [=] {
    OpSamples s{.op = op};
    const auto make = [=](const Shape& shape, int axis) {
      const int at = axis < 0 ? axis + std::max(shape.rank(), 1) : axis;
      return Sample{.name = absl::StrCat(shape.str(), " axis ", axis, " alpha ", alpha),
                    .inputs = {testing::uniform(shape, -1.5, 1.5)},
                    .call = [=](const Tensor& x) { return f(x, axis); },
                    .reference = [=](const RefArray& x) { return reference(x, alpha, at); },
                    .tolerance64 = 1e-10,
                    .tolerance32 = 1e-4};
    };
    s.samples = {make({5}, 0), make({3, 4}, 1), make({3, 4}, 0), make({2, 3, 4}, -2),
                 make({}, 0),  make({0}, 0),    make({3, 0}, 0), make({3, 0}, 1),
                 make({1}, 0), make({2, 1}, 1)};
    if (!whole) return s;
    s.sized = [=](int64_t n) { return std::vector<Sample>{make({n}, 0), make({2, n}, 1)}; };
    s.errors = {error_sample<IndexError>(
                    "axis", {testing::normal({3})}, [f](const Tensor& x) { return f(x, 1); },
                    op + ": axis 1 is outside [-1, 1)"),
                error_sample<DTypeError>(
                    "int64", {testing::integers({3}, 0, 2)},
                    [f](const Tensor& x) { return f(x, 0); }, op + ": input 0 is int64[3]")};
    if (op == "entmax") {
      s.errors.push_back(error_sample<ValueError>(
          "alpha", {testing::normal({3})}, [](const Tensor& x) { return entmax(x, 1, 0); },
          "entmax: alpha is 1; it must be above 1 and finite"));
    }
    return s;
  });
}

const RegisterSamples kSparsemax = entmax_samples(
    "sparsemax", 2, [](const Tensor& x, int64_t axis) { return sparsemax(x, axis); });
const RegisterSamples kEntmax15 = entmax_samples(
    "entmax15", 1.5, [](const Tensor& x, int64_t axis) { return entmax15(x, axis); });
const RegisterSamples kEntmax = entmax_samples(
    "entmax", 1.25, [](const Tensor& x, int64_t axis) { return entmax(x, 1.25, axis); });
const RegisterSamples kEntmaxFlat = entmax_samples(
    "entmax", 2.5, [](const Tensor& x, int64_t axis) { return entmax(x, 2.5, axis); }, false);

TEST(Sparsemax, ClosedForms) {
  const auto of = [](double a, double b) {
    return sparsemax(testing::tensor({2}, {a, b}), 0).to_vector<double>();
  };
  EXPECT_EQ(of(0.5, 0), (std::vector<double>{0.75, 0.25}));
  EXPECT_EQ(of(1, 0), (std::vector<double>{1, 0}));
  EXPECT_EQ(of(1e30, -1e30), (std::vector<double>{1, 0}));
  // What is 0 gets no gradient, and the rest shares it.
  const Tensor x = variable(testing::tensor({3}, {1, 0.5, -3}));
  EXPECT_EQ(grad(sparsemax(x, 0)[0], x).to_vector<double>(), (std::vector<double>{0.5, -0.5, 0}));
}

TEST(Entmax, AlphaLeadsFromSoftmaxToSparsemax) {
  const Tensor x = testing::tensor({4}, {1, 0.25, -0.5, 0.75});
  const auto near = [](const Tensor& a, const Tensor& b, double tolerance) {
    for (int64_t i = 0; i < 4; ++i) EXPECT_NEAR(a[i].item(), b[i].item(), tolerance);
  };
  near(entmax(x, 2, 0), sparsemax(x, 0), 1e-14);
  near(entmax(x, 1.5, 0), entmax15(x, 0), 1e-14);
  near(entmax(x, 1.0001, 0), softmax(x, 0), 1e-3);
}

TEST(Entmax, ImpossibleScoresAndRowsThatAreNone) {
  const double inf = std::numeric_limits<double>::infinity();
  const Softmax all[] = {[](const Tensor& x, int64_t a) { return sparsemax(x, a); },
                         [](const Tensor& x, int64_t a) { return entmax15(x, a); },
                         [](const Tensor& x, int64_t a) { return entmax(x, 1.3, a); }};
  for (const Softmax& f : all) {
    EXPECT_EQ(f(testing::tensor({3}, {-inf, 1, 1}), 0).to_vector<double>(),
              (std::vector<double>{0, 0.5, 0.5}));
    for (const double bad : {inf, -inf, std::nan("")}) {
      for (double v : f(testing::tensor({2}, {bad, bad}), 0).to_vector<double>()) {
        EXPECT_TRUE(std::isnan(v));
      }
    }
  }
}

TEST(Softmin, IsSoftmaxOfTheNegative) {
  const Tensor x = testing::normal({3, 4});
  EXPECT_EQ(softmin(x, 1).to_vector<double>(), softmax(-x, 1).to_vector<double>());
}

TEST(GumbelSoftmax, DrawsAsOftenAsSoftmaxSays) {
  Generator g(11);
  const Tensor logits = testing::tensor({3}, {0, 1, -1});
  const Tensor p = softmax(logits, 0);
  Tensor counts = logits * 0.0;
  for (int i = 0; i < 3000; ++i) counts = counts + gumbel_softmax(logits, 0.5, true, -1, g);
  for (int64_t i = 0; i < 3; ++i) EXPECT_NEAR(counts[i].item() / 3000, p[i].item(), 0.03);
}

TEST(GumbelSoftmax, HardHasTheGradientOfSoft) {
  const Tensor x = variable(testing::normal({2, 5}));
  const Tensor v = testing::normal({2, 5});
  const auto run = [&](bool hard) {
    Generator g(4);
    const Tensor y = gumbel_softmax(x, 0.7, hard, 1, g);
    return std::pair{y.to_vector<double>(), grad((y * v).sum(), x).to_vector<double>()};
  };
  const auto [soft, soft_gradient] = run(false);
  const auto [hard, hard_gradient] = run(true);
  EXPECT_EQ(soft_gradient, hard_gradient);
  for (size_t row = 0; row < 2; ++row) {
    const auto first = soft.begin() + static_cast<std::ptrdiff_t>(5 * row);
    const auto best = static_cast<size_t>(std::max_element(first, first + 5) - first);
    for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(hard[5 * row + i], i == best ? 1 : 0, 1e-15);
  }
  EXPECT_THROW(gumbel_softmax(x, 0), ValueError);
}

}  // namespace
}  // namespace ebb
