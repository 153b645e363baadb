// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/loss.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/reduce.h"
#include "ebb/tests/ops/loss_samples.h"

// Losses of elements and of vectors.
namespace ebb {
namespace {

using testing::between;
using testing::error_sample;
using testing::Inputs;
using testing::kReductions;
using testing::name_of;
using testing::Numbers;
using testing::OpSamples;
using testing::pointwise;
using testing::reduced;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;
using testing::tensor;

// An input and a target whose difference is at least 0.05 away from each of
// `kinks`.
Inputs apart_from(std::vector<double> kinks) {
  return [kinks](const Shape& shape) {
    const Tensor x = testing::uniform(shape, -2, 2);
    std::vector<double> t = testing::uniform_away_from(shape, -1.5, 1.5, kinks).to_vector<double>();
    for (size_t k = 0; k < t.size(); ++k) t[k] = x.data<double>()[k] - t[k];
    return std::vector<Tensor>{x, tensor(shape, t)};
  };
}

const RegisterSamples kMse{
    "mse_loss", [] {
      return pointwise(
          "mse_loss", between(-2, 2, -2, 2),
          [](Span<const Tensor> x, Reduction r) { return mse_loss(x[0], x[1], {r}); },
          [](Numbers v) { return (v[0] - v[1]) * (v[0] - v[1]); });
    }};

const RegisterSamples kL1{
    "l1_loss", [] {
      return pointwise(
          "l1_loss", apart_from({0}),
          [](Span<const Tensor> x, Reduction r) { return l1_loss(x[0], x[1], {r}); },
          [](Numbers v) { return std::abs(v[0] - v[1]); });
    }};

double huber(double d, double delta) {
  return std::abs(d) <= delta ? d * d / 2 : delta * (std::abs(d) - delta / 2);
}

const RegisterSamples kHuber{
    "huber_loss", [] {
      OpSamples s = pointwise(
          "huber_loss", apart_from({-0.75, 0.75}),
          [](Span<const Tensor> x, Reduction r) {
            return huber_loss(x[0], x[1], {.reduction = r, .delta = 0.75});
          },
          [](Numbers v) { return huber(v[0] - v[1], 0.75); });
      s.errors.push_back(error_sample<ValueError>(
          "delta", {testing::normal({2}), testing::normal({2})},
          [](const Tensor& x, const Tensor& t) { return huber_loss(x, t, {.delta = 0}); },
          "huber_loss: delta is 0; it must be above 0"));
      return s;
    }};

double bce(double x, double t, double p) {
  return p * t * std::log1p(std::exp(-x)) + (1 - t) * std::log1p(std::exp(x));
}

const RegisterSamples kBce{
    "bce_with_logits", [] {
      OpSamples s = pointwise(
          "bce_with_logits", between(-3, 3, 0, 1),
          [](Span<const Tensor> x, Reduction r) {
            return bce_with_logits(x[0], x[1], {.reduction = r});
          },
          [](Numbers v) { return bce(v[0], v[1], 1); });
      const Tensor x = testing::uniform({3, 4}, -3, 3);
      const Tensor t = testing::uniform({3, 4}, 0, 1);
      const Tensor weight = testing::positive({3, 1});
      const Tensor pos_weight = testing::positive({4});
      for (const Reduction r : kReductions) {
        const auto each = [=](auto&& weight_at, auto&& pos_at) {
          return [=](Span<const RefArray> in) {
            RefArray y(in[0].shape);
            for (int64_t i = 0; i < 3; ++i) {
              for (int64_t j = 0; j < 4; ++j) {
                y(i, j) = weight_at(in, i) * bce(in[0](i, j), in[1](i, j), pos_at(in, j));
              }
            }
            return reduced(y, r);
          };
        };
        const auto one = [](Span<const RefArray>, int64_t) { return 1.0; };
        s.samples.push_back(
            {.name = absl::StrCat("weight ", name_of(r)),
             .inputs = {x, t, weight},
             .call =
                 [r](const Tensor& a, const Tensor& b, const Tensor& w) {
                   return bce_with_logits(a, b, {.weight = w.detach(), .reduction = r});
                 },
             .reference =
                 each([](Span<const RefArray> in, int64_t i) { return in[2](i, int64_t{0}); }, one),
             .constants = {2}});
        s.samples.push_back(
            {.name = absl::StrCat("pos_weight ", name_of(r)),
             .inputs = {x, t, pos_weight},
             .call =
                 [r](const Tensor& a, const Tensor& b, const Tensor& p) {
                   return bce_with_logits(a, b, {.reduction = r, .pos_weight = p.detach()});
                 },
             .reference = each(one, [](Span<const RefArray> in, int64_t j) { return in[2](j); }),
             .constants = {2}});
        s.samples.push_back(
            {.name = absl::StrCat("both weights ", name_of(r)),
             .inputs = {x, t, weight, pos_weight},
             .call =
                 [r](const Tensor& a, const Tensor& b, const Tensor& w, const Tensor& p) {
                   return bce_with_logits(
                       a, b, {.weight = w.detach(), .reduction = r, .pos_weight = p.detach()});
                 },
             .reference =
                 each([](Span<const RefArray> in, int64_t i) { return in[2](i, int64_t{0}); },
                      [](Span<const RefArray> in, int64_t j) { return in[3](j); }),
             .constants = {2, 3}});
      }
      s.errors.push_back(error_sample<ShapeError>(
          "weight", {x, t, testing::normal({5})},
          [](const Tensor& a, const Tensor& b, const Tensor& w) {
            return bce_with_logits(a, b, {.weight = w.detach()});
          },
          "bce_with_logits: weight is [5], which does not repeat to input, "
          "[3,4]"));
      s.errors.push_back(error_sample<ShapeError>(
          "pos_weight", {x, t, testing::normal({2, 3, 4})},
          [](const Tensor& a, const Tensor& b, const Tensor& p) {
            return bce_with_logits(a, b, {.pos_weight = p.detach()});
          },
          "bce_with_logits: pos_weight is [2,3,4], which does not repeat to "
          "input, [3,4]"));
      s.errors.push_back(error_sample<GradError>(
          "constant", {x, t, testing::normal({4})},
          [](const Tensor& a, const Tensor& b, const Tensor& p) {
            return bce_with_logits(a, b, {.pos_weight = p});
          },
          "bce_with_logits: pos_weight requires a gradient, but it is a "
          "constant"));
      return s;
    }};

const RegisterSamples kKlDiv{
    "kl_div", [] {
      OpSamples s = pointwise(
          "kl_div", between(-3, -0.1, 0.2, 0.9),
          [](Span<const Tensor> x, Reduction r) { return kl_div(x[0], x[1], {.reduction = r}); },
          [](Numbers v) { return v[1] * (std::log(v[1]) - v[0]); });
      for (Sample& sample : pointwise(
                                "kl_div", between(-3, -0.1, -3, -0.1),
                                [](Span<const Tensor> x, Reduction r) {
                                  return kl_div(x[0], x[1], {.reduction = r, .log_target = true});
                                },
                                [](Numbers v) { return std::exp(v[1]) * (v[1] - v[0]); })
                                .samples) {
        sample.name += " log_target";
        s.samples.push_back(std::move(sample));
      }
      return s;
    }};

// Targets of 1 and -1, scores whose loss is at least 0.05 away from the kink.
Tensor signs(const Shape& shape) {
  std::vector<double> t;
  for (double v : testing::uniform(shape, -1, 1).to_vector<double>()) t.push_back(v < 0 ? -1 : 1);
  return tensor(shape, t);
}

const RegisterSamples kHinge{"hinge_loss", [] {
                               return pointwise(
                                   "hinge_loss",
                                   [](const Shape& shape) {
                                     return std::vector<Tensor>{
                                         testing::uniform_away_from(shape, -2, 2, {-0.5, 0.5}),
                                         signs(shape)};
                                   },
                                   [](Span<const Tensor> x, Reduction r) {
                                     return hinge_loss(x[0], x[1], {.margin = 0.5, .reduction = r});
                                   },
                                   [](Numbers v) { return std::max(0.0, 0.5 - v[1] * v[0]); });
                             }};

const RegisterSamples kMarginRanking{
    "margin_ranking_loss", [] {
      return pointwise(
          "margin_ranking_loss",
          [](const Shape& shape) {
            std::vector<Tensor> x = apart_from({-0.25, 0.25})(shape);
            x.push_back(signs(shape));
            return x;
          },
          [](Span<const Tensor> x, Reduction r) {
            return margin_ranking_loss(x[0], x[1], x[2], {.margin = 0.25, .reduction = r});
          },
          [](Numbers v) { return std::max(0.0, 0.25 - v[2] * (v[0] - v[1])); });
    }};

// --- of vectors
// -----------------------------------------------------------------------------

double distance(const double* a, const double* b, int64_t n, double p, double eps) {
  double s = 0;
  for (int64_t k = 0; k < n; ++k) {
    const double d = std::abs(a[k] - b[k] + eps);
    s = std::isinf(p) ? std::max(s, d) : s + std::pow(d, p);
  }
  return std::isinf(p) ? s : std::pow(s, 1 / p);
}

Sample triplet(const Shape& shape, const TripletOptions& o) {
  return {
      .name = absl::StrCat(shape.str(), " p=", o.p, o.swap ? " swap " : " ", name_of(o.reduction)),
      .inputs = {testing::uniform(shape, -2, 2), testing::uniform(shape, -2, 2),
                 testing::uniform(shape, -2, 2)},
      .call = [o](const Tensor& a, const Tensor& p,
                  const Tensor& n) { return triplet_margin_loss(a, p, n, o); },
      .reference =
          [o](const RefArray& a, const RefArray& p, const RefArray& n) {
            const int64_t d = a.shape[a.shape.rank() - 1];
            RefArray y(Shape(a.shape.data(), static_cast<size_t>(a.shape.rank() - 1)));
            for (int64_t i = 0; i < y.numel(); ++i) {
              const auto at = static_cast<size_t>(i * d);
              const double* row[] = {a.v.data() + at, p.v.data() + at, n.v.data() + at};
              double away = distance(row[0], row[2], d, o.p, o.eps);
              if (o.swap) away = std::min(away, distance(row[1], row[2], d, o.p, o.eps));
              y.v[static_cast<size_t>(i)] =
                  std::max(0.0, o.margin + distance(row[0], row[1], d, o.p, o.eps) - away);
            }
            return reduced(y, o.reduction);
          },
      .tolerance64 = 1e-11,
      .tolerance32 = 3e-5};
}

const RegisterSamples kTriplet{
    "triplet_margin_loss", [] {
      OpSamples s{.op = "triplet_margin_loss"};
      for (const Reduction r : kReductions) {
        for (const bool swap : {false, true}) {
          s.samples.push_back(triplet({6, 3}, {.swap = swap, .reduction = r}));
        }
      }
      for (const double p : {1.0, 1.5, 3.0, std::numeric_limits<double>::infinity()}) {
        s.samples.push_back(triplet({5, 4}, {.margin = 0.5, .p = p}));
      }
      s.samples.push_back(triplet({4}, {.margin = 5}));
      s.samples.push_back(triplet({2, 2, 3}, {.eps = 0.25, .reduction = Reduction::kNone}));
      s.samples.push_back(triplet({0, 3}, {.reduction = Reduction::kSum}));
      s.no_scalar = "a scalar is no vector: an error";
      s.sized = [](int64_t n) {
        if (n == 0) return std::vector<Sample>{};
        return std::vector<Sample>{triplet({2, n}, {.margin = 5}),
                                   triplet({n, 3}, {.reduction = Reduction::kNone})};
      };
      const auto call = [](const Tensor& a, const Tensor& p, const Tensor& n) {
        return triplet_margin_loss(a, p, n);
      };
      const Tensor x = testing::normal({2, 3});
      const Tensor point = testing::scalar(1);
      s.errors = {
          error_sample<ShapeError>("shapes", {x, x, testing::normal({2, 4})}, call,
                                   "triplet_margin_loss: input 0 is [2,3], input 2 is [2,4]"),
          error_sample<ShapeError>("scalar", {point, point, point}, call,
                                   "triplet_margin_loss: input 0 is [], not vectors"),
          error_sample<ValueError>(
              "p", {x, x, x},
              [](const Tensor& a, const Tensor& p, const Tensor& n) {
                return triplet_margin_loss(a, p, n, {.p = 0});
              },
              "triplet_margin_loss: p is 0; it must be above 0")};
      return s;
    }};

Sample cosine(const Shape& shape, const MarginOptions& o) {
  const Shape samples(shape.data(), static_cast<size_t>(shape.rank() - 1));
  return {
      .name = absl::StrCat(shape.str(), " ", name_of(o.reduction)),
      .inputs = {testing::uniform(shape, -2, 2), testing::uniform(shape, -2, 2), signs(samples)},
      .call = [o](const Tensor& a, const Tensor& b,
                  const Tensor& t) { return cosine_embedding_loss(a, b, t.detach(), o); },
      .reference =
          [o](const RefArray& a, const RefArray& b, const RefArray& t) {
            const int64_t d = a.shape[a.shape.rank() - 1];
            RefArray y(t.shape);
            for (int64_t i = 0; i < y.numel(); ++i) {
              double ab = 0;
              double aa = 1e-12;
              double bb = 1e-12;
              for (int64_t k = 0; k < d; ++k) {
                const double u = a.v[static_cast<size_t>(i * d + k)];
                const double w = b.v[static_cast<size_t>(i * d + k)];
                ab += u * w;
                aa += u * u;
                bb += w * w;
              }
              const double c = ab / std::sqrt(aa * bb);
              const auto at = static_cast<size_t>(i);
              y.v[at] = t.v[at] == 1 ? 1 - c : std::max(0.0, c - o.margin);
            }
            return reduced(y, o.reduction);
          },
      .constants = {2}};
}

const RegisterSamples kCosine{
    "cosine_embedding_loss", [] {
      OpSamples s{.op = "cosine_embedding_loss"};
      for (const Reduction r : kReductions) {
        s.samples.push_back(cosine({6, 3}, {.margin = -0.2, .reduction = r}));
      }
      s.samples.push_back(cosine({4}, {}));
      s.samples.push_back(cosine({2, 3, 5}, {.reduction = Reduction::kNone}));
      s.samples.push_back(cosine({0, 3}, {.reduction = Reduction::kSum}));
      s.sized = [](int64_t n) {
        if (n < 2) return std::vector<Sample>{};  // the angle of numbers has no slope
        return std::vector<Sample>{cosine({2, n}, {.margin = -2}),
                                   cosine({n, 3}, {.margin = -2, .reduction = Reduction::kNone})};
      };
      const auto call = [](const Tensor& a, const Tensor& b, const Tensor& t) {
        return cosine_embedding_loss(a, b, t.detach());
      };
      const Tensor x = testing::normal({2, 3});
      s.errors = {
          error_sample<ShapeError>("shapes", {x, testing::normal({2, 4}), signs({2})}, call,
                                   "cosine_embedding_loss: input 0 is [2,3], input 1 is [2,4]"),
          error_sample<ShapeError>("target", {x, x, signs({3})}, call,
                                   "cosine_embedding_loss: input 0 is [2,3], "
                                   "target is [3]; it must be [2]"),
          error_sample<ShapeError>("scalar",
                                   {testing::scalar(1), testing::scalar(1), testing::scalar(1)},
                                   call, "cosine_embedding_loss: input 0 is [], not vectors"),
          error_sample<GradError>(
              "constant", {x, x, signs({2})},
              [](const Tensor& a, const Tensor& b, const Tensor& t) {
                return cosine_embedding_loss(a, b, t);
              },
              "cosine_embedding_loss: target requires a gradient")};
      return s;
    }};

// --- what samples cannot say
// ----------------------------------------------------------------

std::vector<double> gradient(const Tensor& x, const std::function<Tensor(const Tensor&)>& f) {
  const Tensor v = variable(x);
  return grad(f(v), v).to_vector<double>();
}

TEST(Loss, TheMeanOfNoElementsIsNan) {
  const Tensor none = tensor({0}, {});
  EXPECT_TRUE(std::isnan(mse_loss(none, none).item()));
  EXPECT_TRUE(std::isnan(bce_with_logits(none, none).item()));
  EXPECT_TRUE(std::isnan(
      triplet_margin_loss(tensor({0, 2}, {}), tensor({0, 2}, {}), tensor({0, 2}, {})).item()));
}

TEST(Loss, L1HasNoGradientWhereItIsZero) {
  const Tensor target = tensor({3}, {1, 1, 1});
  EXPECT_EQ(gradient(tensor({3}, {1, 2, 0}),
                     [&](const Tensor& x) { return l1_loss(x, target, {Reduction::kSum}); }),
            (std::vector<double>{0, 1, -1}));
}

TEST(Loss, HuberIsContinuousWhereItTurns) {
  const Tensor zero = tensor({3}, {0, 0, 0});
  const Tensor x = tensor({3}, {2, std::nextafter(2, 3), -2});
  const HuberOptions o{.reduction = Reduction::kNone, .delta = 2};
  for (double v : huber_loss(x, zero, o).to_vector<double>()) EXPECT_DOUBLE_EQ(v, 2);
  EXPECT_EQ(gradient(x, [&](const Tensor& t) { return huber_loss(t, zero, o).sum(); }),
            (std::vector<double>{2, 2, -2}));
}

TEST(Loss, SmoothL1IsHuberOverBeta) {
  const Tensor x = tensor({3}, {0.125, 2, -3});
  const Tensor zero = tensor({3}, {0, 0, 0});
  EXPECT_DOUBLE_EQ(smooth_l1_loss(x, zero, {.beta = 0.5}).item(),
                   (huber(0.125, 0.5) + huber(2, 0.5) + huber(3, 0.5)) / 3 / 0.5);
  EXPECT_DOUBLE_EQ(smooth_l1_loss(x, zero, {.beta = 0}).item(), 5.125 / 3);
  EXPECT_THROW(smooth_l1_loss(x, zero, {.beta = -1}), ValueError);
}

TEST(Loss, BceIsFiniteAndExactForHugeLogits) {
  const Tensor x = tensor({4}, {1e4, -1e4, 40, -40});
  const Tensor t = tensor({4}, {1, 0, 1, 0});
  const std::vector<double> y =
      bce_with_logits(x, t, {.reduction = Reduction::kNone}).to_vector<double>();
  EXPECT_EQ(y[0], 0);
  EXPECT_EQ(y[1], 0);
  EXPECT_DOUBLE_EQ(y[2], std::exp(-40));  // where a difference of large numbers would give 0
  EXPECT_DOUBLE_EQ(y[3], std::exp(-40));
  EXPECT_DOUBLE_EQ(bce_with_logits(x, 1 - t, {.reduction = Reduction::kSum}).item(), 20080);
}

TEST(Loss, KlDivOfATargetOfZeroIsZero) {
  const Tensor t = tensor({3}, {0, 0.5, 0.5});
  const std::vector<double> log_p{-50, std::log(0.5), std::log(0.25)};
  const Tensor x(Array::of<double>({3}, log_p));
  EXPECT_DOUBLE_EQ(kl_div(x, t, {.reduction = Reduction::kSum}).item(), 0.5 * std::log(2));
  const auto f = [&](const Tensor& v) { return kl_div(x, v, {.reduction = Reduction::kSum}); };
  EXPECT_EQ(gradient(t, f)[0], 0);
  const Tensor v = variable(t);
  EXPECT_EQ(grad(f(v), v, {.create_graph = true}).to_vector<double>(), gradient(t, f));
}

TEST(Loss, MarginsPassTheGradientAtTheKinkAsTorchDoes) {
  const Tensor t = tensor({2}, {1, -1});
  EXPECT_EQ(gradient(tensor({2}, {1, -1}),
                     [&](const Tensor& x) {
                       return hinge_loss(x, t, {.margin = 1, .reduction = Reduction::kSum});
                     }),
            (std::vector<double>{-1, 1}));
  EXPECT_EQ(hinge_loss(tensor({2}, {0.25, 3}), t).item(),
            (0.75 + 4) / 2);  // margin 1
  EXPECT_EQ(gradient(testing::scalar(2),
                     [&](const Tensor& x) {
                       return margin_ranking_loss(x, testing::scalar(2), testing::scalar(1));
                     }),
            std::vector<double>{-1});
}

TEST(Loss, TripletOfEqualVectorsHasAFiniteGradient) {
  const Tensor x = tensor({2}, {1, 2});
  const Tensor v = variable(x);
  const Tensor loss = triplet_margin_loss(v, x, x, {.eps = 0});
  EXPECT_EQ(loss.item(), 1);
  EXPECT_EQ(grad(loss, v).to_vector<double>(), (std::vector<double>{0, 0}));
}

TEST(Loss, TripletShareOfEqualDistances) {
  // |a - n| = |p - n|: each passes half, as minimum does.
  const Tensor a = tensor({1}, {1});
  const Tensor p = tensor({1}, {-1});
  const Tensor n = variable(tensor({1}, {0}));
  const TripletOptions o{.margin = 5, .eps = 0, .swap = true};
  const Tensor loss = triplet_margin_loss(a, p, n, o);
  EXPECT_EQ(loss.item(), 6);
  EXPECT_EQ(grad(loss, n, {.retain_graph = true}).to_vector<double>(),
            grad(loss, n, {.create_graph = true}).to_vector<double>());
}

TEST(Loss, CosineTakesIntegerTargets) {
  const Tensor a = tensor({3, 2}, {1, 0, 1, 0, 1, 0});
  const Tensor b = tensor({3, 2}, {0, 1, 2, 0, 3, 0});
  const std::vector<double> y =
      cosine_embedding_loss(a, b, testing::indices({1, -1, 0}),
                            {.margin = 0.25, .reduction = Reduction::kNone})
          .to_vector<double>();
  EXPECT_NEAR(y[0], 1, 1e-9);
  EXPECT_NEAR(y[1], 0.75, 1e-9);
  EXPECT_EQ(y[2], 0);
}

}  // namespace
}  // namespace ebb
