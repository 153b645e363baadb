// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/reduce.h"
#include "ebb/tests/ops/loss_samples.h"

namespace ebb {
namespace {

using testing::between;
using testing::error_sample;
using testing::Numbers;
using testing::OpSamples;
using testing::pointwise;
using testing::RegisterSamples;
using testing::tensor;

double focal(double x, double t, double alpha, double gamma) {
  const double p = 1 / (1 + std::exp(-x));
  const double off = 1 - (p * t + (1 - p) * (1 - t));
  const double weight = alpha < 0 ? 1 : alpha * t + (1 - alpha) * (1 - t);
  return -weight * std::pow(off, gamma) * (t * std::log(p) + (1 - t) * std::log(1 - p));
}

const RegisterSamples kFocal{
    "sigmoid_focal_loss", [] {
      OpSamples all{.op = "sigmoid_focal_loss"};
      struct Parameters {
        double alpha;
        double gamma;
      };
      for (const auto& [alpha, gamma] :
           {Parameters{0.25, 2}, Parameters{-1, 0}, Parameters{0.75, 1}, Parameters{0.5, 3.5},
            Parameters{0.1, 0.5}}) {
        OpSamples s = pointwise(
            "sigmoid_focal_loss", between(-3, 3, 0.1, 0.9),
            [alpha = alpha, gamma = gamma](Span<const Tensor> x, Reduction r) {
              return sigmoid_focal_loss(x[0], x[1], alpha, gamma, r);
            },
            [alpha = alpha, gamma = gamma](Numbers v) { return focal(v[0], v[1], alpha, gamma); });
        if (alpha == 0.25) {
          all = std::move(s);
        } else {
          for (auto& sample : s.samples) {
            sample.name += " alpha=" + std::to_string(alpha) + " gamma=" + std::to_string(gamma);
            all.samples.push_back(std::move(sample));
          }
        }
      }
      for (const auto& [alpha, gamma] :
           {Parameters{1.5, 2}, Parameters{-0.5, 2}, Parameters{0.25, -1}}) {
        all.errors.push_back(error_sample<ValueError>(
            "alpha " + std::to_string(alpha) + " gamma " + std::to_string(gamma),
            {testing::normal({2}), testing::normal({2})},
            [alpha = alpha, gamma = gamma](const Tensor& x, const Tensor& t) {
              return sigmoid_focal_loss(x, t, alpha, gamma);
            },
            "; alpha must be in [0, 1] or -1, gamma at least 0"));
      }
      return all;
    }};

TEST(FocalLoss, OfHardTargetsAndAnyLogitIsFinite) {
  const Tensor x = tensor({6}, {800, -800, 40, -40, 0, 3});
  for (const double gamma : {0.0, 0.5, 1.0, 2.0}) {
    for (const double target : {0.0, 1.0}) {
      const Tensor t = tensor({6}, std::vector<double>(6, target));
      for (const bool create_graph : {false, true}) {
        const Tensor v = variable(x);
        const Tensor y = sigmoid_focal_loss(v, t, 0.25, gamma);
        const Tensor d = grad(y.sum(), v, {.create_graph = create_graph});
        for (int64_t i = 0; i < 6; ++i) {
          EXPECT_TRUE(std::isfinite(y.data<double>()[i])) << gamma << target << i;
          EXPECT_TRUE(std::isfinite(d.data<double>()[i])) << gamma << target << i;
        }
        // The right answer, surely given, costs and pulls nothing; the wrong one costs its logit.
        const int right = target == 1 ? 0 : 1;
        EXPECT_EQ(y.data<double>()[right], 0);
        EXPECT_EQ(d.data<double>()[right], 0);
        const double weight = target == 1 ? 0.25 : 0.75;
        EXPECT_DOUBLE_EQ(y.data<double>()[1 - right], weight * 800);
        EXPECT_DOUBLE_EQ(d.data<double>()[1 - right], target == 1 ? -weight : weight);
      }
    }
  }
}

TEST(FocalLoss, KeepsItsPrecisionWhereItIsSmall) {
  const Tensor x = tensor({2}, {20, -20});
  const Tensor t = tensor({2}, {1, 0});
  const double p = 1 / (1 + std::exp(20.0));
  const std::vector<double> y = sigmoid_focal_loss(x, t, 0.25, 2).to_vector<double>();
  EXPECT_NEAR(y[0], 0.25 * p * p * -std::log1p(-p), 1e-12 * y[0]);
  EXPECT_NEAR(y[1], 0.75 * p * p * -std::log1p(-p), 1e-12 * y[1]);
}

TEST(FocalLoss, WithoutFocusIsTheCrossEntropy) {
  const Tensor x = testing::normal({20});
  const Tensor t = testing::uniform({20}, 0, 1);
  const std::vector<double> y = sigmoid_focal_loss(x, t, -1, 0).to_vector<double>();
  const std::vector<double> e =
      bce_with_logits(x, t, {.reduction = Reduction::kNone}).to_vector<double>();
  for (size_t i = 0; i < 20; ++i) EXPECT_NEAR(y[i], e[i], 1e-14);
}

// Targets in between, and slopes by them, against differences; the registry's checks are on these
// too, but not at targets of exactly 0 and 1.
TEST(FocalLoss, SlopesByHardTargetsAreRight) {
  const double h = 1e-6;
  for (const double gamma : {1.0, 2.0, 3.0}) {
    for (const double target : {0.0, 1.0}) {
      const Tensor t = variable(tensor({1}, {target}));
      const Tensor x = variable(tensor({1}, {0.75}));
      const Tensor y = sigmoid_focal_loss(x, t, 0.25, gamma).sum();
      const Tensor dx = grad(y, x, {.retain_graph = true});
      const Tensor dt = grad(y, t);
      EXPECT_NEAR(
          dx.item(),
          (focal(0.75 + h, target, 0.25, gamma) - focal(0.75 - h, target, 0.25, gamma)) / (2 * h),
          1e-8);
      EXPECT_NEAR(
          dt.item(),
          (focal(0.75, target + h, 0.25, gamma) - focal(0.75, target - h, 0.25, gamma)) / (2 * h),
          1e-8);
    }
  }
}

// Where the loss vanishes, so do its slopes, whichever way they are computed.
TEST(FocalLoss, SlopesVanishWithTheLoss) {
  for (const DType dtype : {kFloat32, kFloat64}) {
    for (const double gamma : {0.1, 0.5, 1.0, 2.0}) {
      for (const double logit : {200.0, 1e4}) {
        for (const bool graph : {false, true}) {
          const Tensor x = variable(full({1}, logit, {.dtype = dtype}));
          const Tensor t = variable(full({1}, 1, {.dtype = dtype}));
          const Tensor y = sigmoid_focal_loss(x, t, 0.25, gamma).sum();
          const std::vector<Tensor> g = grad({y}, {x, t}, {.create_graph = graph});
          EXPECT_NEAR(g[0].item(), 0, 1e-6) << gamma << " " << logit << " " << graph;
          EXPECT_NEAR(g[1].item(), 0, 1e-4) << gamma << " " << logit << " " << graph;
        }
      }
    }
  }
}

TEST(FocalLoss, RefusesTargetsThatAreNoProbabilities) {
  const Tensor x = zeros({2});
  EXPECT_THROW(sigmoid_focal_loss(x, full({2}, 1.5)), ValueError);
  EXPECT_THROW(sigmoid_focal_loss(x, full({2}, -0.1)), ValueError);
  EXPECT_THROW(sigmoid_focal_loss(x, full({2}, std::nan(""))), ValueError);
}

}  // namespace
}  // namespace ebb
