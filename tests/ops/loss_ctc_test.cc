// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/loss.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/softmax.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::indices;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

// What classes say: repeats merged, then blanks dropped.
std::vector<int64_t> said(const std::vector<int64_t>& path, int64_t blank) {
  std::vector<int64_t> out;
  for (size_t i = 0; i < path.size(); ++i) {
    if (path[i] != blank && (i == 0 || path[i] != path[i - 1])) out.push_back(path[i]);
  }
  return out;
}

// -ln of the sum over all C^T sequences of classes that say the labels.
double enumerated(const RefArray& x, int64_t n, int64_t steps, const std::vector<int64_t>& labels,
                  int64_t blank) {
  const bool batched = x.shape.rank() == 3;
  const int64_t classes = x.shape[x.shape.rank() - 1];
  const int64_t count = batched ? x.shape[1] : 1;
  std::vector<int64_t> path(static_cast<size_t>(steps));
  double total = 0;
  const auto all = static_cast<int64_t>(std::pow(static_cast<double>(classes), steps) + 0.5);
  for (int64_t code = 0; code < all; ++code) {
    int64_t rest = code;
    double log_p = 0;
    for (int64_t t = 0; t < steps; ++t, rest /= classes) {
      path[static_cast<size_t>(t)] = rest % classes;
      log_p += x.v[static_cast<size_t>((t * count + n) * classes + rest % classes)];
    }
    if (said(path, blank) == labels) total += std::exp(log_p);
  }
  return -std::log(total);
}

struct Case {
  std::string name;
  Shape x;
  std::vector<std::vector<int64_t>> labels;  // of each sequence
  std::vector<int64_t> steps = {};           // empty: all of them
  CtcOptions options = {};
  bool in_a_row = false;
};

Sample sample(const Case& c) {
  Sample s{.name = c.name, .inputs = {normal(c.x)}};
  const auto n = static_cast<int64_t>(c.labels.size());
  const bool batched = c.x.rank() == 3;
  size_t width = 0;
  std::vector<int64_t> lengths, flat;
  for (const auto& l : c.labels) {
    width = std::max(width, l.size());
    lengths.push_back(static_cast<int64_t>(l.size()));
  }
  for (const auto& l : c.labels) {
    flat.insert(flat.end(), l.begin(), l.end());
    // Padding is not looked at, not even for being a class.
    if (batched && !c.in_a_row) flat.resize(flat.size() + width - l.size(), -7);
  }
  Tensor targets = indices(flat);
  if (batched && !c.in_a_row) targets = reshape(targets, {n, static_cast<int64_t>(width)});
  s.inputs.push_back(targets);
  s.inputs.push_back(
      indices(c.steps.empty() ? std::vector<int64_t>(c.labels.size(), c.x[0]) : c.steps));
  s.inputs.push_back(indices(lengths));
  s.call = [o = c.options](const Tensor& x, const Tensor& t, const Tensor& in, const Tensor& len) {
    return ctc_loss(x, t, in, len, o);
  };
  s.reference = [c, n, batched](Span<const RefArray> in) {
    RefArray y(batched ? Shape{n} : Shape{});
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<size_t>(i);
      double loss = enumerated(in[0], i, c.steps.empty() ? c.x[0] : c.steps[at], c.labels[at],
                               c.options.blank);
      if (c.options.zero_infinity && std::isinf(loss)) loss = 0;
      if (c.options.reduction == Reduction::kMean) {
        loss /=
            static_cast<double>(std::max<size_t>(c.labels[at].size(), 1)) * static_cast<double>(n);
      }
      y.v[at] = loss;
      sum += loss;
    }
    if (c.options.reduction == Reduction::kNone) return y;
    return RefArray(Shape{}, std::vector<double>{sum});
  };
  s.tolerance32 = 1e-4;
  return s;
}

const RegisterSamples kCtc{
    "ctc_loss", [] {
      OpSamples s{.op = "ctc_loss"};
      const CtcOptions sum{.reduction = Reduction::kSum};
      const CtcOptions none{.reduction = Reduction::kNone};
      const std::vector<Case> cases = {
          {.name = "one sequence", .x = {4, 3}, .labels = {{1, 2}}},
          {.name = "repeats", .x = {5, 3}, .labels = {{1, 1, 2}}},
          {.name = "as short as can be", .x = {3, 3}, .labels = {{1, 2, 1}}},
          {.name = "nothing to say", .x = {4, 3}, .labels = {{}}},
          {.name = "another blank", .x = {4, 3}, .labels = {{0, 1}}, .options = {.blank = 2}},
          {.name = "batch", .x = {5, 2, 3}, .labels = {{1, 2}, {2, 2, 1}}},
          {.name = "sum", .x = {4, 2, 3}, .labels = {{1}, {2, 1}}, .options = sum},
          {.name = "none", .x = {4, 2, 3}, .labels = {{1}, {2, 1}}, .options = none},
          {.name = "lengths",
           .x = {5, 3, 3},
           .labels = {{1, 2}, {2}, {}},
           .steps = {5, 3, 2},
           .options = none},
          {.name = "in a row",
           .x = {5, 3, 3},
           .labels = {{1, 2}, {2}, {1, 1}},
           .steps = {4, 5, 3},
           .in_a_row = true},
          {.name = "impossible ones count for nothing",
           .x = {3, 2, 3},
           .labels = {{1, 1, 2}, {2}},
           .options = {.zero_infinity = true}},
          {.name = "no steps to say nothing", .x = {3, 2, 3}, .labels = {{}, {2}}, .steps = {0, 3}},
          {.name = "no sequence", .x = {3, 0, 3}, .labels = {}, .options = sum},
          {.name = "no step", .x = {0, 3}, .labels = {{}}},
      };
      for (const Case& c : cases) s.samples.push_back(sample(c));
      const Tensor x = normal({4, 2, 3});
      const Tensor two = indices({2, 2});
      const auto call = [](const Tensor& a, const Tensor& t, const Tensor& in, const Tensor& len) {
        return ctc_loss(a, t, in, len);
      };
      const Tensor targets = reshape(indices({1, 2, 2, 1}), {2, 2});
      s.errors = {
          error_sample<ShapeError>("rank", {normal({4}), indices({1}), two, two}, call,
                                   "ctc_loss: log_probs is [4]; it must be [T,C] or [T,N,C]"),
          error_sample<ShapeError>("targets", {x, reshape(indices({1, 2, 1}), {3, 1}), two, two},
                                   call,
                                   "log_probs is [4,2,3], targets is [3,1]; it must be [2,S]"),
          error_sample<ShapeError>("lengths", {x, targets, indices({4, 4, 4}), two}, call,
                                   "input_lengths is [3]; it must be [2]"),
          error_sample<ValueError>("too long", {x, targets, indices({5, 4}), two}, call,
                                   "ctc_loss: input_lengths is 5 at sequence 0; it must be in "
                                   "[0, 4]"),
          error_sample<ValueError>("target too long", {x, targets, two, indices({1, 3})}, call,
                                   "target_lengths is 3 at sequence 1; it must be in [0, 2]"),
          error_sample<ValueError>("sum of lengths", {x, indices({1, 2, 1}), two, two}, call,
                                   "targets is [3], target_lengths add up to 4"),
          error_sample<IndexError>(
              "class", {x, reshape(indices({1, 3, 2, 1}), {2, 2}), two, two}, call,
              "target is 3 at element 1 of sequence 0; a class must be in [0, 3)"),
          error_sample<ValueError>("label is blank",
                                   {x, reshape(indices({1, 2, 0, 1}), {2, 2}), two, two}, call,
                                   "target is the blank 0 at element 0 of sequence 1"),
          error_sample<ValueError>(
              "blank", {x, targets},
              [](const Tensor& a, const Tensor& t) { return ctc_loss(a, t, {}, {}, {.blank = 3}); },
              "blank is 3; it must be in [0, 3)"),
          error_sample<ValueError>(
              "in a row", {x, indices({1, 2, 1})},
              [](const Tensor& a, const Tensor& t) { return ctc_loss(a, t); },
              "targets in a row need target_lengths"),
          error_sample<DTypeError>("type of targets", {x, normal({2, 2}), two, two}, call,
                                   "ctc_loss: targets is float64[2,2]"),
          error_sample<DTypeError>(
              "type", {testing::integers({4, 3}, 0, 1), indices({1}), indices({4}), indices({1})},
              call, "ctc_loss: input 0 is int64[4,3]")};
      s.no_scalar = "there are no steps";
      return s;
    }};

TEST(CtcLoss, LengthsMayBeLeftOutAndBeOfInt32) {
  const Tensor x = log_softmax(normal({5, 2, 4}), -1);
  const Tensor t = reshape(indices({1, 2, 3, 1}), {2, 2});
  const double want = ctc_loss(x, t, indices({5, 5}), indices({2, 2})).item();
  EXPECT_EQ(ctc_loss(x, t).item(), want);
  EXPECT_EQ(ctc_loss(x, t.to(kInt32), indices({5, 5}).to(kInt32)).item(), want);
  const Tensor one = select(x, 1, 0);
  EXPECT_EQ(ctc_loss(one, indices({1, 2}), full({}, 5), full({}, 2)).item(),
            ctc_loss(one, indices({1, 2})).item());
}

// By the scores before log_softmax: probabilities less what is expected, as the paper has it.
TEST(CtcLoss, TheGradientByScoresSumsToZero) {
  const Tensor x = variable(normal({6, 4}));
  const Tensor g = grad(ctc_loss(log_softmax(x, -1), indices({1, 3})), x);
  for (const double sum : sum(g, 1).to_vector<double>()) EXPECT_NEAR(sum, 0, 1e-12);
}

TEST(CtcLoss, ATargetTooLongIsInfinitelyImprobable) {
  const Tensor x = variable(log_softmax(normal({2, 3}), -1));
  const Tensor t = indices({1, 1});  // needs a blank between
  const Tensor loss = ctc_loss(x, t);
  EXPECT_EQ(loss.item(), std::numeric_limits<double>::infinity());
  for (double g : grad(loss, x).to_vector<double>()) EXPECT_TRUE(std::isnan(g));
  const Tensor ignored = ctc_loss(x, t, {}, {}, {.zero_infinity = true});
  EXPECT_EQ(ignored.item(), 0);
  EXPECT_EQ(grad(ignored, x).to_vector<double>(), std::vector<double>(6, 0.0));
}

TEST(CtcLoss, LongSequencesStayFinite) {
  const Tensor x = variable(log_softmax(normal({2000, 30}).to(kFloat32) * 5, -1));
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < 300; ++i) labels.push_back(1 + i % 29);
  const Tensor loss = ctc_loss(x, indices(labels), {}, {}, {.reduction = Reduction::kSum});
  EXPECT_TRUE(std::isfinite(loss.item()));
  // Each step says something: what is expected of it adds up to 1.
  for (const double s : sum(grad(loss, x), 1).to_vector<double>()) EXPECT_NEAR(s, -1, 1e-4);
}

// What a sequence counts may depend on what was said.
TEST(CtcLoss, DifferentiatedTwiceWithAFactorOfTheSameNumbers) {
  const Tensor at = normal({4, 3});
  const auto f = [](const Tensor& x) { return ctc_loss(x, indices({1, 2})) * sum(x * x); };
  const Tensor x = variable(at);
  const Tensor g = grad(f(x), x, {.create_graph = true});
  const Tensor v = normal({4, 3});
  const Tensor hv = grad((g * v).sum(), x);
  const auto gradient_at = [&](double step) {
    const Tensor moved = variable(at + step * v);
    return grad(f(moved), moved);
  };
  const Tensor numeric = (gradient_at(1e-5) - gradient_at(-1e-5)) / 2e-5;
  const auto a = hv.to_vector<double>();
  const auto b = numeric.to_vector<double>();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-6 * (1 + std::abs(b[i])));
}

}  // namespace
}  // namespace ebb
