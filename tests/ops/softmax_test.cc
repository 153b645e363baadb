// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/softmax.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

// Along `axis`, by the definition.
RefArray reference(const RefArray& x, int axis, bool log) {
  RefArray y = x;
  int64_t inner = 1;
  for (int i = axis + 1; i < x.shape.rank(); ++i) inner *= x.shape[i];
  const int64_t n = x.shape.empty() ? 1 : x.shape[axis];
  for (int64_t k = 0; k < x.numel(); ++k) {
    const int64_t first = k / (n * inner) * n * inner + k % inner;
    double& v = y.v[static_cast<size_t>(k)];
    double sum = 0;  // relative to this one
    for (int64_t i = 0; i < n; ++i) {
      sum += std::exp(x.v[static_cast<size_t>(first + i * inner)] - x.v[static_cast<size_t>(k)]);
    }
    v = log ? -std::log(sum) : 1 / sum;
  }
  return y;
}

OpSamples softmax_samples(const std::string& op, Tensor (*f)(const Tensor&, int64_t, Where),
                          bool log) {
  OpSamples s{.op = op};
  const auto make = [=](const Shape& shape, int axis) {
    const int at = axis < 0 ? axis + std::max(shape.rank(), 1) : axis;
    return Sample{.name = absl::StrCat(shape.str(), " axis ", axis),
                  .inputs = {testing::uniform(shape, -3, 3)},
                  .call = [=](const Tensor& x) { return f(x, axis, Where::current()); },
                  .reference = [=](const RefArray& x) { return reference(x, at, log); }};
  };
  s.samples = {make({5}, 0),         make({3, 4}, 1), make({3, 4}, 0), make({2, 3, 4}, -2),
               make({2, 3, 4}, -1),  make({}, 0),     make({}, -1),    make({0}, 0),
               make({3, 0}, 0),      make({3, 0}, 1), make({1}, 0),    make({2, 1, 3}, 1),
               make({2, 3, 2, 2}, 1)};
  s.sized = [=](int64_t n) {
    return std::vector<Sample>{make({n}, 0), make({2, n}, 1), make({n, 2}, 0)};
  };
  s.errors = {error_sample<IndexError>(
                  "axis", {testing::normal({3})},
                  [f](const Tensor& x) { return f(x, 1, Where::current()); },
                  op + ": axis 1 is outside [-1, 1)"),
              error_sample<DTypeError>(
                  "int64", {testing::integers({3}, 0, 2)},
                  [f](const Tensor& x) { return f(x, 0, Where::current()); },
                  op + ": input 0 is int64[3]")};
  return s;
}

const RegisterSamples kSoftmax{"softmax",
                               [] { return softmax_samples("softmax", &softmax, false); }};
const RegisterSamples kLogSoftmax{
    "log_softmax", [] { return softmax_samples("log_softmax", &log_softmax, true); }};

constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(Softmax, HugeScoresDoNotOverflow) {
  const std::vector<double> v{1e30, 1e30, -1e30};
  const Tensor x(Array::of<double>({3}, v));
  EXPECT_EQ(softmax(x, 0).to_vector<double>(), (std::vector<double>{0.5, 0.5, 0}));
  const std::vector<double> y = log_softmax(x, 0).to_vector<double>();
  EXPECT_DOUBLE_EQ(y[0], -std::log(2));
  EXPECT_EQ(y[2], -2e30);
}

TEST(Softmax, ImpossibleScoresHaveProbabilityZeroAndNoGradient) {
  const Tensor x = variable(testing::tensor({3}, {-kInf, 1, 1}));
  EXPECT_EQ(softmax(x, 0).to_vector<double>(), (std::vector<double>{0, 0.5, 0.5}));
  EXPECT_EQ(grad(softmax(x, 0)[1], x).to_vector<double>(), (std::vector<double>{0, 0.25, -0.25}));
}

TEST(Softmax, RowsWithoutAFiniteLargestAreNan) {
  for (const double bad : {kInf, -kInf, std::nan("")}) {
    for (double v : softmax(testing::tensor({2}, {bad, bad}), 0).to_vector<double>()) {
      EXPECT_TRUE(std::isnan(v)) << bad;
    }
  }
}

TEST(Softmax, AnyAxisIsTheLastOneOfATransposedInput) {
  const Tensor x = testing::normal({7, 5, 300});
  for (const int axis : {0, 1}) {
    const Tensor direct = softmax(x, axis);
    const Tensor moved = transpose(softmax(transpose(x, axis, 2), 2), axis, 2);
    EXPECT_EQ(direct.to_vector<double>(), moved.to_vector<double>());
  }
}

}  // namespace
}  // namespace ebb
