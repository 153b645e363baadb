// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

constexpr double kEps = 1e-3;

// Row by row, by the definition.
RefArray reference(Span<const RefArray> in) {
  const RefArray& x = in[0];
  RefArray y = x;
  const size_t n =
      in.size() > 1 ? in[1].v.size() : static_cast<size_t>(x.shape[x.shape.rank() - 1]);
  for (size_t first = 0; first < x.v.size(); first += n) {
    double mean = 0;
    for (size_t i = 0; i < n; ++i) mean += x.v[first + i] / static_cast<double>(n);
    double var = 0;
    for (size_t i = 0; i < n; ++i) {
      var += (x.v[first + i] - mean) * (x.v[first + i] - mean) / static_cast<double>(n);
    }
    for (size_t i = 0; i < n; ++i) {
      double& v = y.v[first + i];
      v = (v - mean) / std::sqrt(var + kEps);
      if (in.size() > 1) v *= in[1].v[i];
      if (in.size() > 2) v += in[2].v[i];
    }
  }
  return y;
}

Sample sample(const Shape& x, const Shape& last, int parameters) {
  Sample s{.name = absl::StrCat(x.str(), " over ", last.str(), " with ", parameters)};
  s.inputs.push_back(normal(x));
  for (int i = 0; i < parameters; ++i) s.inputs.push_back(normal(last));
  s.call = [last](Span<const Tensor> in) {
    return layer_norm(in[0], last, in.size() > 1 ? in[1] : Tensor(),
                      in.size() > 2 ? in[2] : Tensor(), kEps);
  };
  if (parameters > 0 || last.rank() == 1) s.reference = reference;
  if (!s.reference) s.no_reference = "the reference takes the width from the weight";
  // Of two or three numbers the distances from the mean may nearly cancel.
  s.tolerance64 = 1e-10;
  s.tolerance32 = 1e-4;
  return s;
}

const RegisterSamples kLayerNorm{
    "layer_norm", [] {
      OpSamples s{.op = "layer_norm"};
      s.samples = {sample({5}, {5}, 0),          sample({5}, {5}, 1),
                   sample({5}, {5}, 2),          sample({3, 4}, {4}, 2),
                   sample({3, 4}, {3, 4}, 2),    sample({2, 3, 4}, {4}, 0),
                   sample({2, 3, 4}, {3, 4}, 2), sample({0, 4}, {4}, 2),
                   sample({2, 3, 4}, {3, 4}, 0), sample({3, 1}, {1}, 2)};
      s.sized = [](int64_t n) {
        std::vector<Sample> all;
        if (n > 1) all = {sample({n}, {n}, 2), sample({2, n}, {n}, 0)};
        return all;
      };
      const auto call = [](const Shape& last) {
        return [last](Span<const Tensor> in) {
          return layer_norm(in[0], last, in.size() > 1 ? in[1] : Tensor(),
                            in.size() > 2 ? in[2] : Tensor());
        };
      };
      s.errors = {
          error_sample<ShapeError>(
              "end", {normal({3, 4})}, call({3}),
              "layer_norm: x is [3,4], normalized_shape is [3]; x must end in it"),
          error_sample<ShapeError>("rank", {normal({4})}, call({3, 4}),
                                   "x is [4], normalized_shape is [3,4]"),
          error_sample<ShapeError>("none", {normal({4})}, call({}), "normalized_shape is []"),
          error_sample<ShapeError>("empty", {normal({3, 0})}, call({0}), "it must not be empty"),
          error_sample<ShapeError>("weight", {normal({3, 4}), normal({3})}, call({4}),
                                   "layer_norm: weight is [3]; it must be [4]"),
          error_sample<ShapeError>("bias", {normal({3, 4}), normal({4}), normal({1})}, call({4}),
                                   "layer_norm: bias is [1]; it must be [4]"),
          error_sample<DTypeError>("integers", {testing::integers({4}, 0, 3)}, call({4}),
                                   "layer_norm: input 0 is int64[4]"),
          error_sample<DTypeError>(
              "types", {normal({4}), normal({4})},
              [](const Tensor& x, const Tensor& w) {
                return layer_norm(x, {4}, w.detach().to(kFloat32));
              },
              "layer_norm: input 0 is float64[4], input 1 is float32[4]"),
          error_sample<ValueError>(
              "bias alone", {normal({4}), normal({4})},
              [](const Tensor& x, const Tensor& b) { return layer_norm(x, {4}, Tensor(), b); },
              "layer_norm: there is a bias but no weight"),
      };
      s.no_scalar = "there is no axis to normalise";
      return s;
    }};

RefArray rms_reference(Span<const RefArray> in) {
  const RefArray& x = in[0];
  RefArray y = x;
  const size_t n =
      in.size() > 1 ? in[1].v.size() : static_cast<size_t>(x.shape[x.shape.rank() - 1]);
  for (size_t first = 0; first < x.v.size(); first += n) {
    double squares = 0;
    for (size_t i = 0; i < n; ++i) squares += x.v[first + i] * x.v[first + i];
    for (size_t i = 0; i < n; ++i) {
      y.v[first + i] /= std::sqrt(squares / static_cast<double>(n) + kEps);
      if (in.size() > 1) y.v[first + i] *= in[1].v[i];
    }
  }
  return y;
}

Sample rms_sample(const Shape& x, const Shape& last, bool weight) {
  Sample s{.name = absl::StrCat(x.str(), " over ", last.str(), weight ? " with weight" : "")};
  s.inputs.push_back(normal(x));
  if (weight) s.inputs.push_back(normal(last));
  s.call = [last](Span<const Tensor> in) {
    return rms_norm(in[0], last, in.size() > 1 ? in[1] : Tensor(), kEps);
  };
  s.reference = rms_reference;
  s.tolerance32 = 1e-4;
  return s;
}

const RegisterSamples kRmsNorm{
    "rms_norm", [] {
      OpSamples s{.op = "rms_norm"};
      s.samples = {rms_sample({5}, {5}, false),       rms_sample({5}, {5}, true),
                   rms_sample({3, 4}, {4}, true),     rms_sample({3, 4}, {3, 4}, true),
                   rms_sample({2, 3, 4}, {4}, false), rms_sample({2, 3, 4}, {3, 4}, true),
                   rms_sample({0, 4}, {4}, true),     rms_sample({3, 1}, {1}, true)};
      s.sized = [](int64_t n) {
        std::vector<Sample> all;
        if (n > 0) all = {rms_sample({n}, {n}, true), rms_sample({2, n}, {n}, false)};
        return all;
      };
      s.errors = {
          error_sample<ShapeError>(
              "end", {normal({3, 4})}, [](const Tensor& x) { return rms_norm(x, {3}); },
              "rms_norm: x is [3,4], normalized_shape is [3]; x must end in it"),
          error_sample<ShapeError>(
              "weight", {normal({3, 4}), normal({3})},
              [](const Tensor& x, const Tensor& w) { return rms_norm(x, {4}, w); },
              "rms_norm: weight is [3]; it must be [4]"),
          error_sample<DTypeError>(
              "integers", {testing::integers({4}, 0, 3)},
              [](const Tensor& x) { return rms_norm(x, {4}); }, "rms_norm: input 0 is int64[4]")};
      s.no_scalar = "there is no axis to normalise";
      return s;
    }};

TEST(RmsNormOp, EpsilonIsThatOfTheType) {
  // All of it is epsilon for numbers this small.
  const Tensor x = testing::tensor({2}, {0x1p-100, -0x1p-100});
  const double root = std::sqrt(std::numeric_limits<double>::epsilon());
  EXPECT_NEAR(rms_norm(x, {2}).to_vector<double>()[0] * root / 0x1p-100, 1, 1e-12);
  const float froot = std::sqrt(std::numeric_limits<float>::epsilon());
  EXPECT_NEAR(rms_norm(x.to(kFloat32), {2}).to_vector<double>()[1] * froot / 0x1p-100, -1, 1e-6);
}

// 10000 +- 0.01 in float32: what a mean that was rounded would be off by is a tenth of that.
TEST(LayerNormOp, SubtractsTheMeanAndNotWhatItRoundsTo) {
  std::vector<float> v(512);
  for (size_t i = 0; i < v.size(); ++i) {
    v[i] = 1e4f + 0.01f * static_cast<float>(std::sin(static_cast<double>(i * i)));
  }
  const Tensor x(Array::of<float>({512}, v));
  const Tensor g = normal({512});
  const auto run = [&](DType type) {
    const Tensor at = variable(x.to(type));
    const Tensor y = layer_norm(at, {512}, Tensor(), Tensor(), 1e-9);
    (y * g.to(type)).sum().backward();
    return std::pair{y.to_vector<double>(), (at.grad() * 0.01).to_vector<double>()};
  };
  const auto [y, gx] = run(kFloat32);
  const auto [want_y, want_gx] = run(kFloat64);
  for (size_t i = 0; i < y.size(); ++i) {
    EXPECT_NEAR(y[i], want_y[i], 2e-6);
    EXPECT_NEAR(gx[i], want_gx[i], 2e-5);
  }
}

TEST(LayerNormOp, KeepsItsPrecisionFarFromZero) {
  // In float32 the mean of such a row is off by more than its deviation.
  std::vector<float> v(1000);
  for (size_t i = 0; i < v.size(); ++i) v[i] = 1e6f + static_cast<float>(i % 2);
  const auto y = layer_norm(Tensor(Array::of<float>({1000}, v)), {1000}).to_vector<double>();
  for (size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], i % 2 == 0 ? -1 : 1, 1e-4);
}

TEST(LayerNormOp, GivesEachInputItsGradientAlone) {
  const Tensor x = normal({3, 4});
  const Tensor w = normal({4});
  const Tensor b = normal({4});
  const Tensor v = normal({3, 4});
  const Tensor inputs[] = {variable(x), variable(w), variable(b)};
  const auto loss = [&](const Tensor& p, const Tensor& q, const Tensor& r) {
    return (layer_norm(p, {4}, q, r) * v).sum();
  };
  loss(inputs[0], inputs[1], inputs[2]).backward();
  for (int i = 0; i < 3; ++i) {
    const Tensor one = variable(i == 0 ? x : i == 1 ? w : b);
    loss(i == 0 ? one : x, i == 1 ? one : w, i == 2 ? one : b).backward();
    EXPECT_EQ(one.grad().to_vector<double>(), inputs[i].grad().to_vector<double>()) << i;
  }
}

}  // namespace
}  // namespace ebb
