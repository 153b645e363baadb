// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "compare.h"

// Losses beside LibTorch, with every reduction: 660 configurations.
namespace ebb::beside_torch {
namespace {

constexpr Reduction kReductions[] = {Reduction::kNone, Reduction::kMean, Reduction::kSum};

double number(Reduction r) { return static_cast<double>(r); }

Shape any_shape(Draw& draw) {
  Shape s;
  const int64_t rank = draw(0, 4);
  for (int64_t i = 0; i < rank; ++i) s.push_back(draw(1, 6));
  return s;
}

Tensor signs(const Shape& shape) { return testing::integers(shape, 0, 1).to(kFloat64) * 2 - 1; }

// Where a difference of the two decides, it keeps away from 0, 1 and -1 times `kink`.
std::vector<Tensor> apart(const Shape& shape, double kink) {
  const Tensor target = testing::normal(shape);
  const Tensor d = testing::uniform_away_from(shape, -3, 3, {-kink, 0, kink});
  return {(target + d).to(kFloat32).to(kFloat64), target};
}

TEST(BesideTorch, PointwiseLosses) {
  Draw draw("pointwise");
  repeat(10, [&] {
    for (const Reduction r : kReductions) {
      const Shape shape = any_shape(draw);
      const double kink = static_cast<double>(draw(2, 6)) / 4;
      const auto two = samples(apart(shape, kink), true);
      compare({.op = "mse_loss", .numbers = {{"reduction", number(r)}}}, two,
              [&](const Tensor& x, const Tensor& t) { return mse_loss(x, t, {r}); });
      compare({.op = "l1_loss", .numbers = {{"reduction", number(r)}}}, two,
              [&](const Tensor& x, const Tensor& t) { return l1_loss(x, t, {r}); });
      compare({.op = "huber_loss", .numbers = {{"reduction", number(r)}, {"delta", kink}}}, two,
              [&](const Tensor& x, const Tensor& t) {
                return huber_loss(x, t, {r, kink});
              });
      compare({.op = "smooth_l1_loss", .numbers = {{"reduction", number(r)}, {"beta", kink}}}, two,
              [&](const Tensor& x, const Tensor& t) {
                return smooth_l1_loss(x, t, {r, kink});
              });

      // Equal numbers, where the gradient of the distance jumps.
      const Tensor same = testing::normal(shape);
      compare({.op = "l1_loss", .numbers = {{"reduction", number(r)}}}, samples({same, same}, true),
              [&](const Tensor& x, const Tensor& t) { return l1_loss(x, t, {r}); });

      const bool logs = draw.coin();
      const Tensor target =
          logs ? testing::uniform(shape, -3, 0) : testing::uniform(shape, 0.05, 1);
      compare({.op = "kl_div", .numbers = {{"reduction", number(r)}, {"log_target", logs}}},
              samples({testing::normal(shape), target}, true),
              [&](const Tensor& x, const Tensor& t) {
                return kl_div(x, t, {r, logs});
              });
    }
  });
}

TEST(BesideTorch, BinaryLosses) {
  Draw draw("binary");
  repeat(10, [&] {
    for (const Reduction r : kReductions) {
      const Shape shape = any_shape(draw);
      Shape last;
      if (shape.rank() > 0) last.push_back(shape[shape.rank() - 1]);
      const Tensor x = testing::normal(shape) * (draw.coin() ? 1 : 20);
      const Tensor t =
          draw.coin() ? testing::integers(shape, 0, 1).to(kFloat64) : testing::uniform(shape, 0, 1);
      const Tensor weight = draw.coin() ? testing::positive(draw.coin() ? shape : last) : Tensor();
      const Tensor positive = draw.coin() ? testing::positive(last) : Tensor();
      compare({.op = "bce_with_logits", .numbers = {{"reduction", number(r)}}},
              {x, fixed(t), fixed(weight), fixed(positive)}, [&](Span<const Tensor> in) {
                return bce_with_logits(in[0], in[1], {in[2], r, in[3]});
              });
      const double alpha = draw.coin() ? draw.between(0.1, 0.9) : -1;
      const double gamma = draw.coin() ? 2 : draw.between(1, 3);
      compare({.op = "sigmoid_focal_loss",
               .numbers = {{"reduction", number(r)}, {"alpha", alpha}, {"gamma", gamma}}},
              {testing::normal(shape), fixed(t)}, [&](const Tensor& a, const Tensor& b) {
                return sigmoid_focal_loss(a, b, alpha, gamma, r);
              });
    }
  });
}

TEST(BesideTorch, MarginLosses) {
  Draw draw("margin");
  repeat(10, [&] {
    for (const Reduction r : kReductions) {
      const Shape shape = any_shape(draw);
      const double margin = draw.between(-0.5, 1.5);
      const Tensor sign = signs(shape);
      // What margin minus it leaves is not near 0.
      const Tensor distance =
          testing::uniform_away_from(shape, -3, 3, {margin}).to(kFloat32).to(kFloat64);
      compare({.op = "hinge_loss", .numbers = {{"reduction", number(r)}, {"margin", margin}}},
              {distance * sign, fixed(sign)}, [&](const Tensor& x, const Tensor& t) {
                return hinge_loss(x, t, {margin, r});
              });
      const Tensor second = testing::normal(shape);
      compare(
          {.op = "margin_ranking_loss", .numbers = {{"reduction", number(r)}, {"margin", margin}}},
          {(second + distance * sign).to(kFloat32).to(kFloat64), second, fixed(sign)},
          [&](const Tensor& a, const Tensor& b, const Tensor& t) {
            return margin_ranking_loss(a, b, t, {margin, r});
          });
    }
  });
}

TEST(BesideTorch, LossesOfVectors) {
  Draw draw("vectors");
  repeat(10, [&] {
    for (const Reduction r : kReductions) {
      const bool batched = draw.coin();
      Shape shape;
      if (batched) shape.push_back(draw(1, 4));
      Shape samples_shape = shape;
      shape.push_back(draw(2, 7));  // the cosine of numbers is 1 or -1, its gradient 0
      const double margin = draw.between(0.2, 3);
      const double p = static_cast<double>(draw(1, 3));
      const bool swap = draw.coin();
      const std::vector<Tensor> three = {testing::normal(shape), testing::normal(shape),
                                         testing::normal(shape)};
      compare({.op = "triplet_margin_loss",
               .numbers = {{"reduction", number(r)}, {"margin", margin}, {"p", p}, {"swap", swap}}},
              samples(three, true), [&](const Tensor& a, const Tensor& b, const Tensor& c) {
                return triplet_margin_loss(
                    a, b, c, {.margin = margin, .p = p, .swap = swap, .reduction = r});
              });
      const double cosine = draw.between(-0.5, 0.5);
      compare({.op = "cosine_embedding_loss",
               .numbers = {{"reduction", number(r)}, {"margin", cosine}}},
              {three[0], three[1], fixed(signs(samples_shape))},
              [&](const Tensor& a, const Tensor& b, const Tensor& t) {
                return cosine_embedding_loss(a, b, t, {cosine, r});
              });
    }
  });
}

// input [C], [N,C] or [N,C,...]; target of classes, some ignored, or of probabilities.
TEST(BesideTorch, ClassLosses) {
  Draw draw("classes");
  repeat(20, [&] {
    for (const Reduction r : kReductions) {
      const int64_t classes = draw(2, 6);
      const int dims = static_cast<int>(draw(-1, 2));
      Shape shape;
      Shape of_target;
      if (dims >= 0) shape.push_back(draw(1, 5));
      of_target = shape;
      shape.push_back(classes);
      for (int d = 0; d < dims; ++d) {
        shape.push_back(draw(1, 4));
        of_target.push_back(shape[2 + d]);
      }
      // Of a single ignored sample LibTorch's mean is NaN, and so is ours.
      const int64_t ignored = draw.coin() ? -100 : draw(0, classes - 1);
      Tensor target = testing::integers(of_target, 0, classes - 1);
      if (ignored < 0 && draw.coin()) {
        target = where(testing::booleans(of_target), target, full_like(target, ignored));
      }
      const In weight = fixed(draw.coin() ? testing::positive({classes}) : Tensor());
      const double smoothing = draw.coin() ? draw.between(0, 1) : 0;
      compare({.op = "cross_entropy",
               .numbers = {{"reduction", number(r)},
                           {"ignore_index", ignored},
                           {"smoothing", smoothing}}},
              {testing::normal(shape), target, weight},
              [&](const Tensor& x, const Tensor& t, const Tensor& w) {
                return cross_entropy(x, t, {w, ignored, r, smoothing});
              });
      compare({.op = "nll_loss", .numbers = {{"reduction", number(r)}, {"ignore_index", ignored}}},
              {testing::normal(shape), target, weight},
              [&](const Tensor& x, const Tensor& t, const Tensor& w) {
                return nll_loss(x, t, {w, ignored, r});
              });
      const Tensor p = softmax(testing::normal(shape), dims < 0 ? 0 : 1).to(kFloat32).to(kFloat64);
      compare(
          {.op = "cross_entropy",
           .numbers = {{"reduction", number(r)}, {"ignore_index", -100}, {"smoothing", smoothing}}},
          {testing::normal(shape), In(p), weight},
          [&](const Tensor& x, const Tensor& t, const Tensor& w) {
            return cross_entropy(x, t, {w, -100, r, smoothing});
          });
    }
  });
}

// Several sequences of different lengths, or one; targets padded or all in a row, some too long for
// their input.
TEST(BesideTorch, CtcLoss) {
  Draw draw("ctc");
  repeat(40, [&] {
    for (const Reduction r : kReductions) {
      const int64_t classes = draw(2, 6);
      const int64_t blank = draw(0, classes - 1);
      const int64_t steps = draw(1, 14);
      const bool batched = draw.coin();
      const int64_t n = batched ? draw(1, 4) : 1;
      const int64_t longest = draw(1, 5);
      const bool in_a_row = batched && draw.coin();
      std::vector<int64_t> steps_of;
      std::vector<int64_t> labels_of;
      std::vector<int64_t> labels;
      for (int64_t i = 0; i < n; ++i) {
        steps_of.push_back(batched ? draw(1, steps) : steps);
        labels_of.push_back(draw(0, longest));
        for (int64_t j = 0; j < (in_a_row ? labels_of.back() : longest); ++j) {
          const int64_t label = draw(0, classes - 2);
          labels.push_back(label < blank ? label : label + 1);
        }
      }
      const bool zero = draw.coin();
      const Tensor targets =
          reshape(testing::indices(labels), in_a_row || !batched ? Shape{-1} : Shape{n, longest});
      const Call c{
          .op = "ctc_loss",
          .numbers = {{"reduction", number(r)}, {"blank", blank}, {"zero_infinity", zero}}};
      Shape shape{steps};
      if (batched) shape.push_back(n);
      shape.push_back(classes);
      // LibTorch cannot differentiate it twice, and knows padded targets or a batch only.
      compare(c,
              {In(testing::normal(shape), true, batched ? std::optional<int64_t>() : 1),
               In(targets, false, batched ? std::optional<int64_t>() : 0),
               testing::indices(steps_of), testing::indices(labels_of)},
              [&](Span<const Tensor> t) {
                return ctc_loss(log_softmax(t[0], -1), t[1], t[2], t[3],
                                {.blank = blank, .reduction = r, .zero_infinity = zero});
              },
              {.second_order = false});
    }
  });
}

}  // namespace
}  // namespace ebb::beside_torch
