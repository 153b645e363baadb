// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/norm.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;
using testing::uniform;

int64_t behind(const Shape& x, int64_t axis) {
  int64_t len = 1;
  for (int i = x.rank() + static_cast<int>(axis) + 1; i < x.rank(); ++i) len *= x[i];
  return len;
}

Sample lrn_sample(const Shape& x, int64_t size, int64_t axis) {
  return {
      .name = absl::StrCat(x.str(), " size ", size, " axis ", axis),
      .inputs = {normal(x)},
      .call = [=](const Tensor& a) { return local_response_norm(a, size, 0.7, 0.6, 1.5, axis); },
      .reference =
          [=](const RefArray& a) {
            RefArray y = a;
            const int64_t len = behind(x, axis);
            const int64_t channels = x[x.rank() + static_cast<int>(axis)];
            for (int64_t i = 0; i < a.numel(); ++i) {
              const int64_t c = i / len % channels;
              double sum = 0;
              for (int64_t j = c - size / 2; j < c - size / 2 + size; ++j) {
                if (j < 0 || j >= channels) continue;
                const double v = a.v[static_cast<size_t>(i + (j - c) * len)];
                sum += v * v;
              }
              y.v[static_cast<size_t>(i)] /=
                  std::pow(1.5 + 0.7 * sum / static_cast<double>(size), 0.6);
            }
            return y;
          }};
}

const RegisterSamples kLrn{
    "local_response_norm", [] {
      OpSamples s{.op = "local_response_norm"};
      s.samples = {lrn_sample({5, 2, 3}, 3, -3),   lrn_sample({5, 2, 3}, 4, -3),
                   lrn_sample({2, 4, 3}, 2, -2),   lrn_sample({2, 3, 2, 2}, 7, -3),
                   lrn_sample({6}, 3, -1),         lrn_sample({4, 2, 2}, 1, -3),
                   lrn_sample({0, 4, 2, 2}, 3, -3)};
      s.sized = [](int64_t n) { return std::vector<Sample>{lrn_sample({4, n}, 3, -2)}; };
      s.errors = {
          error_sample<ValueError>(
              "size", {normal({4, 2, 2})},
              [](const Tensor& x) { return local_response_norm(x, 0); },
              "local_response_norm: size is 0; it must be at least 1"),
          error_sample<ShapeError>(
              "rank", {normal({4, 2})}, [](const Tensor& x) { return local_response_norm(x, 3); },
              "local_response_norm: x is [4,2]; it has no axis -3 of channels"),
          error_sample<DTypeError>(
              "integers", {testing::integers({4, 2, 2}, 0, 2)},
              [](const Tensor& x) { return local_response_norm(x, 3); },
              "local_response_norm: input 0 is int64[4,2,2]")};
      s.no_scalar = "there are no channels";
      return s;
    }};

Sample gdn_sample(const Shape& x, int64_t axis, bool inverse) {
  const int64_t channels = x[x.rank() + static_cast<int>(axis)];
  return {.name = absl::StrCat(x.str(), " axis ", axis, inverse ? " inverse" : ""),
          .inputs = {normal(x), uniform({channels}, 0.5, 1.5), uniform({channels, channels}, 0, 1)},
          .call = [=](const Tensor& a, const Tensor& b,
                      const Tensor& c) { return gdn(a, b, c, inverse, axis); },
          .reference =
              [=](const RefArray& a, const RefArray& b, const RefArray& g) {
                RefArray y = a;
                const int64_t len = behind(x, axis);
                for (int64_t i = 0; i < a.numel(); ++i) {
                  const int64_t c = i / len % channels;
                  double d = b(c);
                  for (int64_t j = 0; j < channels; ++j) {
                    d += g(c, j) * std::pow(a.v[static_cast<size_t>(i + (j - c) * len)], 2);
                  }
                  y.v[static_cast<size_t>(i)] *= inverse ? std::sqrt(d) : 1 / std::sqrt(d);
                }
                return y;
              },
          .gradient_tolerance32 = 1e-4};
}

const RegisterSamples kGdn{
    "gdn", [] {
      OpSamples s{.op = "gdn"};
      s.samples = {gdn_sample({3, 2, 2}, -3, false),   gdn_sample({3, 2, 2}, -3, true),
                   gdn_sample({2, 3, 4}, -2, false),   gdn_sample({4}, -1, false),
                   gdn_sample({2, 3, 2, 1}, -3, true), gdn_sample({0, 3, 2, 2}, -3, false)};
      s.sized = [](int64_t n) { return std::vector<Sample>{gdn_sample({3, n}, -2, false)}; };
      s.errors = {
          error_sample<ShapeError>(
              "beta", {normal({3, 2, 2}), normal({2}), normal({3, 3})},
              [](const Tensor& x, const Tensor& b, const Tensor& g) { return gdn(x, b, g); },
              "gdn: x is [3,2,2] with its channels at axis -3, beta is [2]; it must be [3]"),
          error_sample<ShapeError>(
              "gamma", {normal({3, 2, 2}), normal({3}), normal({3, 2})},
              [](const Tensor& x, const Tensor& b, const Tensor& g) { return gdn(x, b, g); },
              "gdn: x is [3,2,2] with 3 channels, gamma is [3,2]; it must be [3,3]")};
      s.no_scalar = "there are no channels";
      return s;
    }};

Sample weight_sample(const Shape& v, std::optional<int> axis) {
  Shape g;
  for (int i = 0; axis && i < v.rank(); ++i) g.push_back(i == *axis ? v[i] : 1);
  return {.name = absl::StrCat(v.str(), " axis ", axis.value_or(-1)),
          .inputs = {normal(v), normal(g)},
          .call =
              [=](const Tensor& a, const Tensor& b) {
                return weight_norm(a, b, axis ? std::optional<int64_t>(*axis) : std::nullopt);
              },
          .reference =
              [=](const RefArray& a, const RefArray& b) {
                RefArray y = a;
                const int64_t len = axis ? behind(v, *axis - v.rank()) : 1;
                const auto key = [=](int64_t i) {
                  return static_cast<size_t>(axis ? i / len % v[*axis] : 0);
                };
                std::vector<double> squares(b.v.size());
                for (int64_t i = 0; i < a.numel(); ++i) {
                  squares[key(i)] += std::pow(a.v[static_cast<size_t>(i)], 2);
                }
                for (int64_t i = 0; i < a.numel(); ++i) {
                  y.v[static_cast<size_t>(i)] *= b.v[key(i)] / std::sqrt(squares[key(i)]);
                }
                return y;
              },
          .gradient_tolerance32 = 1e-4};
}

const RegisterSamples kWeightNorm{
    "weight_norm", [] {
      OpSamples s{.op = "weight_norm"};
      s.samples = {weight_sample({3, 4}, 0),        weight_sample({3, 4}, 1),
                   weight_sample({3, 2, 2}, 0),     weight_sample({2, 3, 2}, 1),
                   weight_sample({5}, 0),           weight_sample({3, 4}, std::nullopt),
                   weight_sample({}, std::nullopt), weight_sample({0, 4}, 0)};
      s.sized = [](int64_t n) {
        std::vector<Sample> all;
        if (n > 0) all.push_back(weight_sample({2, n}, 0));
        return all;
      };
      s.errors = {error_sample<ShapeError>(
                      "g", {normal({3, 4}), normal({3})},
                      [](const Tensor& v, const Tensor& g) { return weight_norm(v, g); },
                      "weight_norm: v is [3,4], g is [3]; it must be [3,1]"),
                  error_sample<IndexError>(
                      "axis", {normal({3, 4}), normal({3})},
                      [](const Tensor& v, const Tensor& g) { return weight_norm(v, g, 2); },
                      "weight_norm: axis 2 is outside [-2, 2)"),
                  error_sample<DTypeError>(
                      "integers", {testing::integers({3}, 1, 3), normal({3})},
                      [](const Tensor& v, const Tensor& g) { return weight_norm(v, g); },
                      "weight_norm: input 0 is int64[3]")};
      return s;
    }};

// By the paper's sums over the window of each pixel.
TEST(LocalContrastNorm, IsThePapersFormula) {
  const Tensor x = normal({2, 5, 4});
  constexpr int64_t kRadius = 1;
  constexpr double kSigma = 0.8, kEps = 1e-8;
  const auto in = x.to_vector<double>();
  const auto at = [](int64_t c, int64_t i, int64_t j) {
    return static_cast<size_t>((c * 5 + i) * 4 + j);
  };
  // Of what `f(c, i, j)` is, the mean around a pixel.
  const auto around = [&](const auto& f, int64_t i, int64_t j) {
    double sum = 0;
    double weights = 0;
    for (int64_t c = 0; c < 2; ++c) {
      for (int64_t p = i - kRadius; p <= i + kRadius; ++p) {
        for (int64_t q = j - kRadius; q <= j + kRadius; ++q) {
          if (p < 0 || p >= 5 || q < 0 || q >= 4) continue;
          const auto square = static_cast<double>((p - i) * (p - i) + (q - j) * (q - j));
          const double w = std::exp(-square / (2 * kSigma * kSigma));
          sum += w * f(c, p, q);
          weights += w;
        }
      }
    }
    return sum / weights;
  };
  const auto v = [&](int64_t c, int64_t i, int64_t j) {
    return in[at(c, i, j)] -
           around([&](int64_t d, int64_t p, int64_t q) { return in[at(d, p, q)]; }, i, j);
  };
  std::vector<double> deviation;
  double mean = 0;
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t j = 0; j < 4; ++j) {
      deviation.push_back(std::sqrt(
          kEps +
          around([&](int64_t c, int64_t p, int64_t q) { return v(c, p, q) * v(c, p, q); }, i, j)));
      mean += deviation.back() / 20;
    }
  }
  const auto y = local_contrast_norm(x, kRadius, kSigma, kEps).to_vector<double>();
  for (int64_t c = 0; c < 2; ++c) {
    for (int64_t i = 0; i < 5; ++i) {
      for (int64_t j = 0; j < 4; ++j) {
        const double root = std::max(deviation[static_cast<size_t>(i * 4 + j)], mean);
        EXPECT_NEAR(y[at(c, i, j)], v(c, i, j) / root, 1e-12);
      }
    }
  }
}

TEST(LocalContrastNorm, TakesBatchesAndSaysWhatIsWrong) {
  const Tensor x = normal({2, 3, 6, 5});
  EXPECT_EQ(local_contrast_norm(x).select(0, 1).to_vector<double>(),
            local_contrast_norm(x.select(0, 1)).to_vector<double>());
  // Of an even image nothing is left, and nothing is divided by 0.
  const Tensor even = variable(ones({1, 6, 6}, {.dtype = kFloat64}));
  const Tensor y = local_contrast_norm(even);
  for (const double v : y.to_vector<double>()) EXPECT_NEAR(v, 0, 1e-9);
  for (const double g : grad(sum(y * y), even).to_vector<double>()) EXPECT_TRUE(std::isfinite(g));
  EXPECT_THROW(local_contrast_norm(normal({3, 3})), ShapeError);
  EXPECT_THROW(local_contrast_norm(x, 2, 0), ValueError);
  EXPECT_THROW(local_contrast_norm(x, -1), ValueError);
}

}  // namespace
}  // namespace ebb
