// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/reduce.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

using GateOp = Tensor (*)(const Tensor&, int64_t, Where);

RegisterSamples gated(const std::string& op, GateOp f, std::function<double(double)> gate) {
  return RegisterSamples(op, [=] {
    OpSamples s{.op = op};
    const auto make = [=](const Shape& shape, int axis) {
      const int at = axis < 0 ? axis + shape.rank() : axis;
      return Sample{.name = absl::StrCat(shape.str(), " axis ", axis),
                    .inputs = {testing::uniform_away_from(shape, -3, 3, {0})},
                    .call = [=](const Tensor& x) { return f(x, axis, Where::current()); },
                    .reference =
                        [=](const RefArray& x) {
                          Shape half = shape;
                          half[at] /= 2;
                          int64_t inner = 1;
                          for (int i = at; i < half.rank(); ++i) inner *= half[i];
                          RefArray y(half);
                          for (int64_t i = 0; i < y.numel(); ++i) {
                            const int64_t first = i / inner * 2 * inner + i % inner;
                            y.v[static_cast<size_t>(i)] =
                                x.v[static_cast<size_t>(first)] *
                                gate(x.v[static_cast<size_t>(first + inner)]);
                          }
                          return y;
                        },
                    .gradient_tolerance32 = 1e-4};
    };
    s.samples = {make({6}, 0),    make({6}, -1),       make({4, 6}, 0),
                 make({4, 6}, 1), make({2, 4, 3}, -2), make({2, 4, 2}, -1),
                 make({0}, 0),    make({3, 0}, 1),     make({0, 4}, 1)};
    s.sized = [=](int64_t n) { return std::vector<Sample>{make({2 * n}, 0), make({2, n}, 0)}; };
    s.errors = {error_sample<ShapeError>(
                    "odd", {testing::normal({2, 5})},
                    [f](const Tensor& x) { return f(x, -1, Where::current()); },
                    op + ": x is [2,5]; its size along axis 1 must be even"),
                error_sample<ShapeError>(
                    "scalar", {testing::scalar(1)},
                    [f](const Tensor& x) { return f(x, -1, Where::current()); }, op + ": x is []"),
                error_sample<IndexError>(
                    "axis", {testing::normal({4})},
                    [f](const Tensor& x) { return f(x, 1, Where::current()); },
                    op + ": axis 1 is outside [-1, 1)"),
                error_sample<DTypeError>(
                    "integers", {testing::integers({4}, 0, 3)},
                    [f](const Tensor& x) { return f(x, 0, Where::current()); },
                    op + ": input 0 is int64[4]")};
    s.no_scalar = "there are no halves";
    return s;
  });
}

const RegisterSamples kGlu = gated("glu", &glu, [](double b) { return 1 / (1 + std::exp(-b)); });
const RegisterSamples kReglu = gated("reglu", &reglu, [](double b) { return std::max(b, 0.0); });
const RegisterSamples kGeglu =
    gated("geglu", &geglu, [](double b) { return b * 0.5 * std::erfc(-b / std::numbers::sqrt2); });
const RegisterSamples kSwiglu =
    gated("swiglu", &swiglu, [](double b) { return b / (1 + std::exp(-b)); });

const RegisterSamples kPrelu{
    "prelu", [] {
      OpSamples s{.op = "prelu"};
      const auto make = [](const Shape& x, const Shape& w, int64_t axis) {
        return Sample{.name = absl::StrCat(x.str(), " ", w.str(), " axis ", axis),
                      .inputs = {testing::uniform_away_from(x, -3, 3, {0}), testing::normal(w)},
                      .call = [=](const Tensor& a, const Tensor& b) { return prelu(a, b, axis); },
                      .reference =
                          [=](const RefArray& a, const RefArray& b) {
                            RefArray y = a;
                            int64_t len = 1;
                            const int behind = x.rank() + static_cast<int>(axis) + 1;
                            for (int i = std::max(behind, 0); i < x.rank(); ++i) len *= x[i];
                            for (int64_t i = 0; i < a.numel(); ++i) {
                              double& v = y.v[static_cast<size_t>(i)];
                              const auto c = static_cast<size_t>(w[0] == 1 ? 0 : i / len % w[0]);
                              if (v < 0) v *= b.v[c];
                            }
                            return y;
                          }};
      };
      s.samples = {make({4, 3, 2}, {4}, -3),    make({4, 3, 2}, {1}, -3),
                   make({2, 4, 3, 3}, {4}, -3), make({5}, {1}, -3),
                   make({}, {1}, -3),           make({3, 5}, {5}, -1),
                   make({0, 4, 2, 2}, {4}, -3), make({0}, {1}, -3)};
      s.sized = [=](int64_t n) {
        return std::vector<Sample>{make({2, n}, {2}, -2), make({n}, {1}, -1)};
      };
      s.errors = {error_sample<ShapeError>(
                      "weight", {testing::normal({4, 3, 2}), testing::normal({3})},
                      [](const Tensor& x, const Tensor& w) { return prelu(x, w); },
                      "prelu: x is [4,3,2] with its channels at axis -3, weight is [3]; it must "
                      "be [4]"),
                  error_sample<ValueError>(
                      "axis", {testing::normal({4}), testing::normal({4})},
                      [](const Tensor& x, const Tensor& w) { return prelu(x, w, 0); },
                      "prelu: channel_axis is 0"),
                  error_sample<DTypeError>(
                      "integers", {testing::integers({4}, 0, 3), testing::normal({1})},
                      [](const Tensor& x, const Tensor& w) { return prelu(x, w); },
                      "prelu: input 0 is int64[4]")};
      return s;
    }};

TEST(Maxout, TakesTheLargestOfNeighbours) {
  const Tensor x = variable(testing::tensor({2, 4}, {1, 5, 3, 2, -1, -2, 0, 7}));
  const Tensor y = maxout(x, 2);
  EXPECT_EQ(y.to_vector<double>(), (std::vector<double>{5, 3, -1, 7}));
  EXPECT_EQ(grad(y.sum(), x).to_vector<double>(), (std::vector<double>{0, 1, 1, 0, 1, 0, 0, 1}));
  EXPECT_EQ(maxout(x.detach(), 2, 0).to_vector<double>(), (std::vector<double>{1, 5, 3, 7}));
  EXPECT_THROW(maxout(x, 3), ShapeError);
  EXPECT_THROW(maxout(x, 0), ShapeError);
  EXPECT_THROW(maxout(x, 2, 2), IndexError);
}

TEST(Rrelu, DrawsSlopesInTraining) {
  Generator g(3);
  const Tensor x = variable(testing::tensor({4000}, std::vector<double>(4000, -2)));
  const Tensor y = rrelu(x, 0.25, 0.75, true, g);
  const auto v = y.to_vector<double>();
  const auto slope = grad(y.sum(), x).to_vector<double>();
  double mean = 0;
  for (size_t i = 0; i < v.size(); ++i) {
    EXPECT_GE(v[i], -1.5);
    EXPECT_LE(v[i], -0.5);
    EXPECT_DOUBLE_EQ(slope[i], v[i] / -2);
    mean += v[i] / 4000;
  }
  EXPECT_NEAR(mean, -1, 0.02);
  EXPECT_EQ(rrelu(testing::tensor({2}, {-2, 3}), 0.25, 0.75).to_vector<double>(),
            (std::vector<double>{-1, 3}));
  EXPECT_EQ(rrelu(testing::tensor({1}, {3}), 0.25, 0.75, true, g).item(), 3);
  EXPECT_THROW(rrelu(x, 1, 0.5), ValueError);
}

}  // namespace
}  // namespace ebb
