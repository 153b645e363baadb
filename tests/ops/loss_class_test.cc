// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/loss.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/softmax.h"

// Losses of the choice of a class.
namespace ebb {
namespace {

using testing::error_sample;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;
using testing::tensor;

constexpr Reduction kReductions[] = {Reduction::kMean, Reduction::kSum, Reduction::kNone};
const char* name_of(Reduction r) {
  return r == Reduction::kMean ? "mean" : r == Reduction::kSum ? "sum" : "none";
}

// Where sample i has its class c, in scores [C], [N,C] or [N,C,...].
struct Layout {
  explicit Layout(const Shape& x) : classes(x[x.rank() > 1 ? 1 : 0]) {
    for (int i = 2; i < x.rank(); ++i) inner *= x[i];
    samples = x.numel() / classes;
    for (int i = 0; i < x.rank(); ++i) {
      if (i != (x.rank() > 1 ? 1 : 0)) shape.push_back(x[i]);
    }
  }
  size_t at(int64_t i, int64_t c) const {
    return static_cast<size_t>((i / inner * classes + c) * inner + i % inner);
  }
  int64_t classes;
  int64_t inner = 1;
  int64_t samples;
  Shape shape;
};

// The loss of each sample and its part in the divisor of the mean, reduced.
RefArray reduced(const Layout& l, Reduction r, const std::vector<double>& losses, double count) {
  if (r == Reduction::kNone) return RefArray(l.shape, losses);
  double sum = 0;
  for (double v : losses) sum += v;
  return RefArray({}, r == Reduction::kMean ? sum / count : sum);
}

// Inputs are the scores, the target, and the weight if there is one; `log`: the
// scores are log-probabilities already.
RefArray class_loss(Span<const RefArray> in, bool log, const CrossEntropyOptions& o) {
  const RefArray& x = in[0];
  const RefArray& t = in[1];
  const Layout l(x.shape);
  const bool probabilities =
      t.shape == x.shape && !log && x.shape.rank() > 0 && t.v.size() == x.v.size() && l.classes > 1;
  std::vector<double> losses;
  double count = 0;
  for (int64_t i = 0; i < l.samples; ++i) {
    double sum = 0;
    for (int64_t c = 0; c < l.classes; ++c) sum += std::exp(x.v[l.at(i, c)]);
    const double shift = log ? 0 : std::log(sum);
    double loss = 0;
    const auto index = probabilities ? -1 : static_cast<int64_t>(t.v[static_cast<size_t>(i)]);
    const auto weight = [&](int64_t c) {
      return in.size() > 2 ? in[2].v[static_cast<size_t>(c)] : 1;
    };
    if (probabilities || index != o.ignore_index) {
      for (int64_t c = 0; c < l.classes; ++c) {
        const double target = probabilities ? t.v[l.at(i, c)] : index == c ? 1 : 0;
        const double q =
            (1 - o.label_smoothing) * target + o.label_smoothing / static_cast<double>(l.classes);
        loss -= weight(c) * q * (x.v[l.at(i, c)] - shift);
      }
      count += probabilities ? 1 : weight(index);
    }
    losses.push_back(loss);
  }
  return reduced(l, o.reduction, losses, count);
}

struct Case {
  Shape shape;
  bool weighted = false;
  bool probabilities = false;
  double smoothing = 0;
  int64_t ignore_index = -100;
};

std::vector<Tensor> inputs_of(const Case& c) {
  const Layout l(c.shape);
  std::vector<Tensor> in{testing::uniform(c.shape, -2, 2)};
  in.push_back(c.probabilities ? testing::uniform(c.shape, 0, 1)
                               : testing::integers(l.shape, 0, l.classes - 1));
  if (c.weighted) in.push_back(testing::positive({l.classes}));
  return in;
}

Sample cross_entropy_sample(const Case& c, Reduction r) {
  const auto options = [=](Span<const Tensor> x) {
    CrossEntropyOptions o{
        .ignore_index = c.ignore_index, .reduction = r, .label_smoothing = c.smoothing};
    if (c.weighted) o.weight = x[2].detach();
    return o;
  };
  return {
      .name = absl::StrCat(c.shape.str(), " ", name_of(r), c.weighted ? " weight" : "",
                           c.probabilities ? " probabilities" : "", " smoothing ", c.smoothing,
                           " ignore ", c.ignore_index),
      .inputs = inputs_of(c),
      .call = [=](Span<const Tensor> x) { return cross_entropy(x[0], x[1], options(x)); },
      .reference =
          [=](Span<const RefArray> x) {
            return class_loss(
                x, false,
                {.ignore_index = c.ignore_index, .reduction = r, .label_smoothing = c.smoothing});
          },
      .constants = c.weighted ? std::vector<int>{2} : std::vector<int>{}};
}

// The errors that both losses share.
template <class Options, class F>
std::vector<testing::ErrorSample> class_errors(const std::string& op, const F& loss) {
  const auto call = [=](const Tensor& x, const Tensor& t) { return loss(x, t, Options{}); };
  const auto weighted = [=](const Tensor& x, const Tensor& t, const Tensor& w) {
    return loss(x, t, Options{.weight = w.detach()});
  };
  const Tensor x = testing::normal({2, 3});
  const Tensor t = testing::indices({0, 2});
  return {
      error_sample<IndexError>("class", {x, testing::indices({0, 3})}, call,
                               op + ": target is 3 at element 1; a class must be in [0, 3)"),
      error_sample<IndexError>("negative class", {x, testing::indices({-1, 0})}, call,
                               op + ": target is -1 at element 0; a class must be in [0, 3)"),
      error_sample<ShapeError>("target", {x, testing::indices({0, 1, 2})}, call,
                               op + ": input is [2,3], target is int64[3]; it must be [2]"),
      error_sample<ShapeError>("scalar", {testing::scalar(1), testing::integers({}, 0, 0)}, call,
                               op + ": input is []; it must be [C], [N,C] or [N,C,...]"),
      error_sample<ShapeError>("no classes", {tensor({2, 0}, {}), t}, call,
                               op + ": input is [2,0]; it must be [C], [N,C] or [N,C,...]"),
      error_sample<DTypeError>("bool", {x, testing::booleans({2})}, call,
                               op + ": target is bool[2]; classes must be int64, int32 or uint8"),
      error_sample<DTypeError>("input", {testing::integers({2, 3}, 0, 1), t}, call,
                               op + ": input 0 is int64[2,3]"),
      error_sample<ShapeError>("weight", {x, t, testing::normal({2})}, weighted,
                               op + ": input is [2,3], weight is [2]; it must be [3]"),
      error_sample<DTypeError>("weight type", {x, t, cast(testing::normal({3}), kFloat32)},
                               weighted, op + ": input is float64[2,3], weight is float32[3]"),
      error_sample<GradError>(
          "constant", {x, t, testing::normal({3})},
          [=](const Tensor& a, const Tensor& b, const Tensor& w) {
            return loss(a, b, Options{.weight = w});
          },
          op + ": weight requires a gradient, but it is a constant of the loss"),
      error_sample<IndexError>(
          "label", {testing::normal({3})},
          [=](const Tensor& a) { return loss(a, int64_t{5}, Options{}); },
          op + ": target is 5; a class must be in [0, 3) or the ignore_index "
               "-100"),
      error_sample<ShapeError>(
          "label of many", {x}, [=](const Tensor& a) { return loss(a, int64_t{0}, Options{}); },
          op + ": input is [2,3], target one number; input must be [C]"),
  };
}

const RegisterSamples kCrossEntropy{
    "cross_entropy", [] {
      OpSamples s{.op = "cross_entropy"};
      const std::vector<Case> cases = {
          {.shape = {5, 4}},
          {.shape = {5, 4}, .weighted = true},
          {.shape = {5, 4}, .smoothing = 0.3},
          {.shape = {6, 4}, .weighted = true, .smoothing = 0.3, .ignore_index = 2},
          {.shape = {6, 3}, .ignore_index = 0},
          {.shape = {3, 4}, .probabilities = true},
          {.shape = {3, 4}, .weighted = true, .probabilities = true, .smoothing = 0.2},
          {.shape = {2, 3, 4}, .weighted = true},
          {.shape = {2, 3, 2, 2}, .smoothing = 0.1},
          {.shape = {2, 3, 4}, .weighted = true, .probabilities = true},
          {.shape = {4}},
          {.shape = {4}, .weighted = true, .smoothing = 1},
          {.shape = {4}, .probabilities = true},
      };
      for (const Case& c : cases) {
        for (const Reduction r : kReductions) s.samples.push_back(cross_entropy_sample(c, r));
      }
      s.samples.push_back(cross_entropy_sample({.shape = {0, 4}}, Reduction::kSum));
      for (const double smoothing : {0.0, 0.25}) {
        s.samples.push_back(
            {.name = absl::StrCat("label, smoothing ", smoothing),
             .inputs = {testing::normal({6})},
             .call =
                 [=](const Tensor& x) {
                   return cross_entropy(x, 4, {.label_smoothing = smoothing});
                 },
             .reference =
                 [=](const RefArray& x) {
                   return class_loss({x, RefArray({}, 4)}, false, {.label_smoothing = smoothing});
                 }});
      }
      s.samples.push_back(
          {.name = "label, weight",
           .inputs = {testing::normal({3}), testing::positive({3})},
           .call = [](const Tensor& x,
                      const Tensor& w) { return cross_entropy(x, 1, {.weight = w.detach()}); },
           .reference =
               [](const RefArray& x, const RefArray& w) {
                 return class_loss({x, RefArray({}, 1), w}, false, {});
               },
           .constants = {1}});
      s.sized = [](int64_t n) {
        if (n == 0) return std::vector<Sample>{};
        return std::vector<Sample>{
            cross_entropy_sample({.shape = {2, n}}, Reduction::kSum),
            cross_entropy_sample({.shape = {n, 3}}, Reduction::kNone),
            cross_entropy_sample({.shape = {2, 3, n}, .smoothing = 0.1}, Reduction::kNone)};
      };
      s.errors = class_errors<CrossEntropyOptions>(
          "cross_entropy", [](const Tensor& x, const auto& t, const CrossEntropyOptions& o) {
            return cross_entropy(x, t, o);
          });
      const Tensor x = testing::normal({2, 3});
      s.errors.push_back(error_sample<ShapeError>(
          "probabilities", {x, testing::normal({2, 4})},
          [](const Tensor& a, const Tensor& b) { return cross_entropy(a, b); },
          "cross_entropy: input is [2,3], target is float64[2,4]; it must be "
          "[2,3]"));
      s.errors.push_back(error_sample<DTypeError>(
          "probabilities of another type", {x, cast(testing::normal({2, 3}), kFloat32)},
          [](const Tensor& a, const Tensor& b) { return cross_entropy(a, b); },
          "cross_entropy: input is float64[2,3], target is float32[2,3]"));
      s.errors.push_back(error_sample<ValueError>(
          "ignore_index", {x, testing::normal({2, 3})},
          [](const Tensor& a, const Tensor& b) { return cross_entropy(a, b, {.ignore_index = 1}); },
          "cross_entropy: ignore_index is 1, but target holds probabilities"));
      s.errors.push_back(error_sample<ValueError>(
          "smoothing", {x, testing::indices({0, 1})},
          [](const Tensor& a, const Tensor& b) {
            return cross_entropy(a, b, {.label_smoothing = 1.5});
          },
          "cross_entropy: label_smoothing is 1.5; it must be in [0, 1]"));
      return s;
    }};

Sample nll_sample(const Case& c, Reduction r) {
  const auto options = [=](Span<const Tensor> x) {
    NllOptions o{.ignore_index = c.ignore_index, .reduction = r};
    if (c.weighted) o.weight = x[2].detach();
    return o;
  };
  return {.name = absl::StrCat(c.shape.str(), " ", name_of(r), c.weighted ? " weight" : "",
                               " ignore ", c.ignore_index),
          .inputs = inputs_of(c),
          .call = [=](Span<const Tensor> x) { return nll_loss(x[0], x[1], options(x)); },
          .reference =
              [=](Span<const RefArray> x) {
                return class_loss(x, true, {.ignore_index = c.ignore_index, .reduction = r});
              },
          .constants = c.weighted ? std::vector<int>{2} : std::vector<int>{}};
}

const RegisterSamples kNll{
    "nll_loss", [] {
      OpSamples s{.op = "nll_loss"};
      const std::vector<Case> cases = {
          {.shape = {5, 4}},
          {.shape = {6, 4}, .weighted = true, .ignore_index = 1},
          {.shape = {2, 3, 4}, .weighted = true},
          {.shape = {2, 3, 2, 2}},
          {.shape = {4}},
      };
      for (const Case& c : cases) {
        for (const Reduction r : kReductions) s.samples.push_back(nll_sample(c, r));
      }
      s.samples.push_back(nll_sample({.shape = {0, 4}}, Reduction::kSum));
      s.samples.push_back({.name = "label",
                           .inputs = {testing::normal({6})},
                           .call = [](const Tensor& x) { return nll_loss(x, 4); },
                           .reference = [](const RefArray& x) { return RefArray({}, -x(4)); }});
      s.sized = [](int64_t n) {
        if (n == 0) return std::vector<Sample>{};
        return std::vector<Sample>{nll_sample({.shape = {2, n}}, Reduction::kSum),
                                   nll_sample({.shape = {n, 3}}, Reduction::kNone)};
      };
      s.errors = class_errors<NllOptions>(
          "nll_loss",
          [](const Tensor& x, const auto& t, const NllOptions& o) { return nll_loss(x, t, o); });
      s.errors.push_back(error_sample<DTypeError>(
          "probabilities", {testing::normal({2, 3}), testing::normal({2, 3})},
          [](const Tensor& a, const Tensor& b) { return nll_loss(a, b); },
          "nll_loss: target is float64[2,3]; classes must be int64, int32 or "
          "uint8"));
      return s;
    }};

// --- what samples cannot say
// ----------------------------------------------------------------

TEST(CrossEntropy, OfALabelIsThatOfATensor) {
  const Tensor x = variable(testing::normal({5}));
  const Tensor target(Array::scalar(kInt64, 3));
  EXPECT_EQ(cross_entropy(x, 3).item(), cross_entropy(x, target).item());
  EXPECT_EQ(grad(cross_entropy(x, 3), x).to_vector<double>(),
            grad(cross_entropy(x, target), x).to_vector<double>());
  for (const DType t : {kInt32, kUInt8}) {
    EXPECT_EQ(cross_entropy(x, cast(target, t)).item(), cross_entropy(x, 3).item());
  }
}

TEST(CrossEntropy, GradientIsProbabilityMinusTarget) {
  const Tensor x = variable(testing::normal({4}));
  std::vector<double> want = softmax(x, 0).to_vector<double>();
  want[2] -= 1;
  const std::vector<double> g = grad(cross_entropy(x, 2), x).to_vector<double>();
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(g[i], want[i], 1e-15);
}

TEST(CrossEntropy, IsOneNodeOnTheTape) {
  const Tensor x = variable(testing::normal({4}));
  const Tensor loss = cross_entropy(x, 2);
  ASSERT_TRUE(loss.requires_grad());
  EXPECT_EQ(loss.edge().node()->n_inputs, 1);
  EXPECT_TRUE(loss.edge().node()->edges()[0].node()->is_leaf());
}

TEST(CrossEntropy, IgnoredSamplesCountForNothing) {
  const Tensor x = tensor({3, 2}, {1, 2, 5, -5, 0, 3});
  const Tensor t = testing::indices({1, -100, 0});
  const std::vector<double> each =
      cross_entropy(x, t, {.reduction = Reduction::kNone}).to_vector<double>();
  EXPECT_EQ(each[1], 0);
  EXPECT_DOUBLE_EQ(cross_entropy(x, t).item(), (each[0] + each[2]) / 2);
  const Tensor v = variable(x);
  const std::vector<double> g = grad(cross_entropy(v, t), v).to_vector<double>();
  EXPECT_EQ(g[2], 0);
  EXPECT_EQ(g[3], 0);
  // All of them: nothing over nothing.
  EXPECT_TRUE(std::isnan(cross_entropy(x, testing::indices({-100, -100, -100})).item()));
  EXPECT_EQ(
      cross_entropy(x, testing::indices({-100, -100, -100}), {.reduction = Reduction::kSum}).item(),
      0);
  // A class outside the range may be the one that is ignored.
  EXPECT_NO_THROW(cross_entropy(x, testing::indices({1, 255, 0}), {.ignore_index = 255}));
}

TEST(CrossEntropy, HugeScoresKeepTheirDigits) {
  const std::vector<float> v{10000, 10001, 9999};
  const Tensor x(Array::of<float>({3}, v));
  EXPECT_FLOAT_EQ(cross_entropy(x, 1).item<float>(),
                  static_cast<float>(std::log(1 + std::exp(-1) + std::exp(-2))));
  const Tensor far = tensor({2}, {1e4, -1e4});
  EXPECT_DOUBLE_EQ(cross_entropy(far, 1).item(), 2e4);
  EXPECT_EQ(cross_entropy(far, 0).item(), 0);
  // A class of score -infinity cannot be chosen, and does not harm the others.
  const Tensor x2 = variable(tensor({3}, {0, -std::numeric_limits<double>::infinity(), 0}));
  EXPECT_DOUBLE_EQ(cross_entropy(x2, 0).item(), std::log(2));
  EXPECT_EQ(grad(cross_entropy(x2, 0), x2).to_vector<double>(),
            (std::vector<double>{-0.5, 0, 0.5}));
}

TEST(CrossEntropy, OfOneHotProbabilitiesIsThatOfTheClass) {
  const Tensor x = testing::normal({2, 3});
  const Tensor hot = tensor({2, 3}, {0, 0, 1, 1, 0, 0});
  for (const double smoothing : {0.0, 0.3}) {
    const CrossEntropyOptions o{.label_smoothing = smoothing};
    EXPECT_NEAR(cross_entropy(x, hot, o).item(),
                cross_entropy(x, testing::indices({2, 0}), o).item(), 1e-14);
  }
}

TEST(CrossEntropy, IsNllOfLogSoftmax) {
  const Tensor x = testing::normal({4, 3, 5});
  const Tensor t = testing::integers({4, 5}, 0, 2);
  const Tensor w = testing::positive({3});
  for (const Reduction r : kReductions) {
    const Tensor a = cross_entropy(x, t, {.weight = w, .ignore_index = 1, .reduction = r});
    const Tensor b =
        nll_loss(log_softmax(x, 1), t, {.weight = w, .ignore_index = 1, .reduction = r});
    const std::vector<double> va = a.to_vector<double>();
    const std::vector<double> vb = b.to_vector<double>();
    for (size_t i = 0; i < va.size(); ++i) EXPECT_NEAR(va[i], vb[i], 1e-13);
  }
}

}  // namespace
}  // namespace ebb
