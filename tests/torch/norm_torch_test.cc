// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "compare.h"

// Normalisation beside LibTorch: 290 configurations.
namespace ebb::beside_torch {
namespace {

In argument(const Tensor& x, bool batched) {
  return In(x, true, batched ? std::optional<int64_t>() : 0);
}

// Weight and bias [n] or of another shape, or one of them alone or neither.
std::vector<In> affine_parts(Draw& draw, const Shape& shape) {
  const int64_t kind = draw(0, 2);
  return {kind > 0 ? testing::normal(shape) : Tensor(),
          kind > 1 ? testing::normal(shape) : Tensor()};
}

void compare_statistics(Draw& draw, bool instance) {
  const int dims = static_cast<int>(draw(instance ? 1 : 0, 3));
  const bool batched = dims == 0 || draw.coin();
  const int64_t channels = draw(1, 5);
  Shape shape = sample_shape(draw, dims, batched, channels, 1, 6);
  // One number a channel is no batch.
  if (dims == 0) shape[0] = draw(2, 6);
  if (dims > 0) shape[shape.rank() - 1] = draw(2, 7);
  const bool training = draw.coin();
  const bool tracked = !training || draw.coin();
  const double momentum = draw.between(0.05, 0.9);
  const double eps = draw.coin() ? 1e-5 : 1e-2;
  std::vector<In> in = {argument(testing::normal(shape), batched)};
  for (const In& part : affine_parts(draw, {channels})) in.push_back(part);
  in.push_back(fixed(tracked ? testing::normal({channels}) : Tensor()));
  in.push_back(fixed(tracked ? testing::positive({channels}) : Tensor()));
  const Call c{.op = instance ? "instance_norm" : "batch_norm",
               .dims = dims,
               .numbers = {{"training", training ? 1 : 0}, {"momentum", momentum}, {"eps", eps}}};
  const auto f = [&](Span<const Tensor> t) {
    Tensor mean = t[3];
    Tensor var = t[4];
    Tensor* m = tracked ? &mean : nullptr;
    Tensor* v = tracked ? &var : nullptr;
    std::vector<Tensor> y = {
        instance ? instance_norm(t[0], m, v, t[1], t[2], training, momentum, eps, -1 - dims)
                 : batch_norm(t[0], m, v, t[1], t[2], training, momentum, eps, -1 - dims)};
    if (training && tracked) {
      y.push_back(mean);
      y.push_back(var);
    }
    return y;
  };
  // Of two numbers the gradient is almost nothing, and in float32 all of it is rounding.
  const int64_t numbers = shape.numel() / channels / (instance && batched ? shape[0] : 1);
  compare(c, in, f, {.float32 = numbers > 2});
}

void compare_group_norm(Draw& draw) {
  const int dims = static_cast<int>(draw(0, 3));
  const bool batched = draw.coin();
  const int64_t groups = draw(1, 4);
  const int64_t channels = groups * draw(dims == 0 ? 2 : 1, 4);
  Shape shape = sample_shape(draw, dims, batched, channels, 1, 6);
  if (dims > 0) shape[shape.rank() - 1] = draw(2, 7);
  std::vector<In> in = {argument(testing::normal(shape), batched)};
  for (const In& part : affine_parts(draw, {channels})) in.push_back(part);
  const double eps = draw.coin() ? 1e-5 : 1e-2;
  compare(
      {.op = "group_norm", .dims = dims, .groups = groups, .numbers = {{"eps", eps}}}, in,
      [&](Span<const Tensor> t) { return group_norm(t[0], groups, t[1], t[2], eps, -1 - dims); });
}

// Of the last axes: layer norm and root mean square.
void compare_last_axes(Draw& draw) {
  Shape shape;
  Shape last;
  const int64_t rank = draw(1, 4);
  const int64_t normed = draw(1, rank);
  for (int64_t i = 0; i < rank; ++i) {
    shape.push_back(draw(i == rank - 1 ? 2 : 1, i == rank - 1 ? 40 : 4));
    if (i >= rank - normed) last.push_back(shape[static_cast<int>(i)]);
  }
  const double eps = draw.coin() ? 1e-5 : 1e-2;
  std::vector<In> in = {testing::normal(shape)};
  for (const In& part : affine_parts(draw, last)) in.push_back(part);
  Call c{.op = "layer_norm", .size = {last.begin(), last.end()}, .numbers = {{"eps", eps}}};
  compare(c, in, [&](Span<const Tensor> t) { return layer_norm(t[0], last, t[1], t[2], eps); });
  in.pop_back();
  c.op = "rms_norm";
  compare(c, in, [&](Span<const Tensor> t) { return rms_norm(t[0], last, t[1], eps); });
}

void compare_neighbours(Draw& draw) {
  const int dims = static_cast<int>(draw(1, 3));
  const bool batched = draw.coin();
  const int64_t channels = draw(1, 9);
  const Shape shape = sample_shape(draw, dims, batched, channels, 1, 5);
  const int64_t size = draw(1, 7);
  const double alpha = draw.between(1e-4, 1);
  const double beta = draw.between(0.4, 1);
  const double k = draw.between(0.5, 2);
  compare({.op = "local_response_norm",
           .dims = dims,
           .numbers = {{"size", size}, {"alpha", alpha}, {"beta", beta}, {"k", k}}},
          {argument(testing::normal(shape), batched)},
          [&](const Tensor& x) { return local_response_norm(x, size, alpha, beta, k, -1 - dims); });
  const bool inverse = draw.coin();
  compare({.op = "gdn", .dims = dims, .numbers = {{"inverse", inverse ? 1 : 0}}},
          {argument(testing::normal(shape), batched), In(testing::positive({channels})),
           In(testing::positive({channels, channels}))},
          [&](const Tensor& x, const Tensor& b, const Tensor& g) {
            return gdn(x, b, g, inverse, -1 - dims);
          });
}

void compare_weight_norm(Draw& draw) {
  Shape shape;
  const int64_t rank = draw(1, 5);
  for (int64_t i = 0; i < rank; ++i) shape.push_back(draw(1, 6));
  // LibTorch's -1 is no axis at all.
  const int64_t axis = draw(-1, rank - 1);
  Shape g;
  for (int64_t i = 0; axis >= 0 && i < rank; ++i) {
    g.push_back(i == axis ? shape[static_cast<int>(i)] : 1);
  }
  const Tensor v = testing::uniform_away_from(shape, -2, 2, {0}, 0.2);
  const std::vector<In> in = {v, testing::normal(g)};
  const auto f = [&](const Tensor& t, const Tensor& l) {
    return weight_norm(t, l, axis < 0 ? std::optional<int64_t>() : axis);
  };
  // Of single numbers the gradient is 0, and in float32 all of it is rounding.
  const bool several = shape.numel() > (axis < 0 ? 1 : shape[static_cast<int>(axis)]);
  // The gradient of second order of LibTorch 1.13's own op is wrong: it is not 0 for a single v, of
  // which g v / |v| is g or -g. That of the formula is right.
  const Call c{.op = "weight_norm", .numbers = {{"axis", axis}}};
  compare(c, in, f, {.float32 = several, .second_order = false});
  Call formula = c;
  formula.op = "weight_norm_formula";
  compare(formula, in, f, {.float32 = several});
}

TEST(BesideTorch, BatchNorm) {
  Draw draw("batch_norm");
  repeat(50, [&] { compare_statistics(draw, false); });
}
TEST(BesideTorch, InstanceNorm) {
  Draw draw("instance_norm");
  repeat(40, [&] { compare_statistics(draw, true); });
}
TEST(BesideTorch, GroupNorm) {
  Draw draw("group_norm");
  repeat(40, [&] { compare_group_norm(draw); });
}
TEST(BesideTorch, LayerNormAndRMSNorm) {
  Draw draw("layer_norm");
  repeat(30, [&] { compare_last_axes(draw); });
}
TEST(BesideTorch, ResponseAndDivisiveNorm) {
  Draw draw("response");
  repeat(25, [&] { compare_neighbours(draw); });
}
TEST(BesideTorch, WeightNorm) {
  Draw draw("weight_norm");
  repeat(25, [&] { compare_weight_norm(draw); });
}

}  // namespace
}  // namespace ebb::beside_torch
