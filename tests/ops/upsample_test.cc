// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/upsample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/pool.h"
#include "ebb/ops/upsample_util.h"
#include "moving.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::Position;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

using Mode = InterpolateMode;

struct Case {
  Shape x;
  int dims;
  InterpolateOptions options;
};

std::vector<Case> cases() {
  return {
      {{2, 4}, 1, {.size = {7}}},
      {{2, 5}, 1, {.scale_factor = {0.7}, .mode = Mode::kNearestExact}},
      {{2, 2, 4}, 1, {.size = {6}, .mode = Mode::kLinear}},
      {{2, 4}, 1, {.scale_factor = {1.7}, .mode = Mode::kLinear, .align_corners = true}},
      {{2, 3, 4}, 2, {.size = {5, 6}}},
      {{2, 3, 4}, 2, {.scale_factor = {2}, .dims = 2}},
      {{2, 3, 4}, 1, {.size = {5}, .dims = 1}},
      {{2, 2, 3, 3}, 2, {.scale_factor = {2, 1.5}}},
      {{1, 3, 4}, 2, {.size = {2, 9}, .mode = Mode::kBilinear}},
      {{2, 1, 4, 3}, 2, {.size = {7}, .mode = Mode::kBilinear, .align_corners = true}},
      {{1, 5, 4}, 2, {.scale_factor = {1.6}, .mode = Mode::kBilinear}},
      {{1, 5, 4},
       2,
       {.scale_factor = {1.3}, .mode = Mode::kBilinear, .recompute_scale_factor = true}},
      {{1, 4, 5}, 2, {.size = {6, 3}, .mode = Mode::kBicubic}},
      {{1, 2, 3}, 2, {.size = {5, 1}, .mode = Mode::kBicubic, .align_corners = true}},
      {{1, 4, 4}, 2, {.scale_factor = {2.5, 0.6}, .mode = Mode::kBicubic}},
      {{1, 1, 1}, 2, {.size = {3, 2}, .mode = Mode::kBicubic}},
      {{2, 2, 3, 2}, 3, {.size = {3, 4, 5}}},
      {{1, 2, 2, 2, 3}, 3, {.scale_factor = {2}, .mode = Mode::kTrilinear}},
      {{1, 2, 3, 2}, 3, {.size = {3, 2, 4}, .mode = Mode::kTrilinear, .align_corners = true}},
      {{0, 2, 3, 3}, 2, {.size = {4, 5}, .mode = Mode::kBilinear}},
  };
}

double cubic(double x) {
  const double a = -0.75;
  const double d = std::abs(x);
  if (d <= 1) return (a + 2) * d * d * d - (a + 3) * d * d + 1;
  if (d < 2) return a * d * d * d - 5 * a * d * d + 8 * a * d - 4 * a;
  return 0;
}

// Which part of each element of an axis of n is in each of those afterwards: [out][n].
std::vector<std::vector<double>> matrix(const Case& c, int d, int64_t n) {
  const InterpolateOptions& o = c.options;
  int64_t out = 0;
  double step = 0;
  if (o.size.empty()) {
    const double factor = o.scale_factor[o.scale_factor.size() == 1 ? 0 : static_cast<size_t>(d)];
    out = static_cast<int64_t>(static_cast<double>(n) * factor);
    step = 1 / factor;
  } else {
    out = o.size[o.size.rank() == 1 ? 0 : d];
  }
  if (step == 0 || o.recompute_scale_factor) {
    step = static_cast<double>(n) / static_cast<double>(out);
  }
  std::vector<std::vector<double>> m(static_cast<size_t>(out),
                                     std::vector<double>(static_cast<size_t>(n)));
  for (int64_t k = 0; k < out; ++k) {
    auto& row = m[static_cast<size_t>(k)];
    const auto place = static_cast<double>(k);
    if (o.mode == Mode::kNearest || o.mode == Mode::kNearestExact) {
      const double from = (o.mode == Mode::kNearest ? place : place + 0.5) * step;
      row[static_cast<size_t>(
          std::min<double>(std::floor(from + 1e-12), static_cast<double>(n - 1)))] = 1;
      continue;
    }
    double from = (place + 0.5) * step - 0.5;
    if (o.align_corners) {
      from = out == 1 ? 0 : place * static_cast<double>(n - 1) / static_cast<double>(out - 1);
    }
    for (int64_t i = -3; i < n + 3; ++i) {
      const auto at = static_cast<size_t>(std::clamp<int64_t>(i, 0, n - 1));
      const auto tap = static_cast<double>(i);
      if (o.mode == Mode::kBicubic) {
        row[at] += cubic(from - tap);
      } else if (i >= 0 && i < n) {
        const double inside = std::clamp(from, 0.0, static_cast<double>(n - 1));
        row[at] += std::max(0.0, 1 - std::abs(inside - tap));
      }
    }
  }
  return m;
}

// One axis after the other; transposed, from the shape afterwards to that before.
RefArray resampled(const Case& c, RefArray x, bool transpose) {
  for (int d = 0; d < c.dims; ++d) {
    const int axis = c.x.rank() - c.dims + d;
    const auto m = matrix(c, d, c.x[axis]);
    Shape shape = x.shape;
    shape[axis] = transpose ? c.x[axis] : static_cast<int64_t>(m.size());
    RefArray y(shape);
    testing::for_each_position(shape, [&](const Position& o) {
      Position from = o;
      auto& i = from[static_cast<size_t>(axis)];
      double sum = 0;
      for (i = 0; i < x.shape[axis]; ++i) {
        const auto k = static_cast<size_t>(o[static_cast<size_t>(axis)]);
        const auto j = static_cast<size_t>(i);
        sum += (transpose ? m[j][k] : m[k][j]) * testing::element(x, from);
      }
      testing::element(y, o) = sum;
    });
    x = y;
  }
  return x;
}

std::string name_of(const Case& c) {
  return absl::StrCat(c.x.str(), " mode ", static_cast<int>(c.options.mode),
                      c.options.align_corners ? " aligned" : "", " size ", c.options.size.str());
}

const RegisterSamples kInterpolate{
    "interpolate", [] {
      OpSamples s{.op = "interpolate"};
      for (const Case& c : cases()) {
        s.samples.push_back(
            {.name = name_of(c),
             .inputs = {normal(c.x)},
             .call = [=](const Tensor& x) { return interpolate(x, c.options); },
             .reference = [=](const RefArray& x) { return resampled(c, x, false); }});
      }
      const auto call = [](const InterpolateOptions& o) {
        return [o](const Tensor& x) { return interpolate(x, o); };
      };
      const Tensor x = normal({2, 4, 4});
      s.errors = {
          error_sample<ValueError>("neither", {x}, call({}),
                                   "exactly one of size and scale_factor is needed"),
          error_sample<ValueError>("both", {x}, call({.size = {2, 2}, .scale_factor = {2, 2}}),
                                   "exactly one of size and scale_factor is needed"),
          error_sample<ValueError>(
              "ambiguous", {x}, call({.scale_factor = {2}}),
              "there must be one number for each axis, or `dims`, to say how many"),
          error_sample<ValueError>("axes", {x},
                                   call({.size = {2}, .mode = Mode::kBilinear, .dims = 1}),
                                   "bilinear; dims is 1"),
          error_sample<ValueError>("too many axes", {x}, call({.size = {2}, .dims = 4}),
                                   "nearest; there must be 1 number or 3"),
          error_sample<ValueError>("aligned", {x}, call({.size = {2, 2}, .align_corners = true}),
                                   "align_corners is not for this mode"),
          error_sample<ValueError>("numbers", {x},
                                   call({.size = {2, 2, 2}, .mode = Mode::kBilinear}),
                                   "interpolate: x is [2,4,4], size [2,2,2], scale_factor {}, "
                                   "bilinear; there must be 1 number or 2"),
          error_sample<ValueError>("factor", {x}, call({.scale_factor = {2, -1}}),
                                   "the factors must be positive and finite"),
          error_sample<ShapeError>("rank", {x}, call({.size = {3}, .mode = Mode::kTrilinear}),
                                   "interpolate: x is [2,4,4]; it must have rank 4, or 5"),
          error_sample<ShapeError>("size", {x}, call({.size = {3, 0}}),
                                   "interpolate: x is [2,4,4], nearest, size [3,-1]; the sizes "
                                   "must be positive"),
          error_sample<ShapeError>("too small", {x},
                                   call({.scale_factor = {0.2}, .mode = Mode::kBilinear}),
                                   "factors {0.2,0.2}; the sizes must be positive"),
          error_sample<ShapeError>("absurd size", {x}, call({.size = {1 << 30, 1 << 30}}),
                                   "[2,1073741824,1073741824], more than can be addressed"),
          error_sample<ShapeError>("absurd factor", {x}, call({.scale_factor = {1e300, 1e300}}),
                                   "more than can be addressed"),
          error_sample<DTypeError>("integers", {testing::integers({2, 4}, 0, 1)},
                                   call({.size = {3}}), "interpolate: input 0 is int64[2,4]"),
      };
      s.no_scalar = "there is a channel axis";
      return s;
    }};

ops::InterpolateAttrs attrs_of(const Case& c) {
  ops::InterpolateAttrs a;
  const InterpolateOptions& o = c.options;
  a.dims = c.dims;
  a.mode = o.mode;
  a.align_corners = o.align_corners;
  for (int d = 0; d < c.dims; ++d) {
    const int i = 3 - c.dims + d;
    a.size[i] = static_cast<int64_t>(matrix(c, d, c.x[c.x.rank() - c.dims + d]).size());
    if (o.size.empty() && !o.recompute_scale_factor) {
      a.factor[i] = o.scale_factor[o.scale_factor.size() == 1 ? 0 : static_cast<size_t>(d)];
    }
  }
  return a;
}

const RegisterSamples kInterpolateBackward{
    "interpolate_backward", [] {
      OpSamples s{.op = "interpolate_backward"};
      for (const Case& c : cases()) {
        const Shape y = resampled(c, RefArray(c.x), false).shape;
        s.samples.push_back(
            {.name = name_of(c),
             .inputs = {normal(y)},
             .call = [=](const Tensor& g) { return interpolate_backward(attrs_of(c), g, c.x); },
             .reference = [=](const RefArray& g) { return resampled(c, g, true); }});
      }
      s.errors = {error_sample<ShapeError>(
          "size", {normal({2, 4, 4})},
          [](const Tensor& g) {
            return interpolate_backward(attrs_of({{2, 3, 3}, 2, {.size = {5, 5}}}), g, {2, 3, 3});
          },
          "interpolate_backward: g is [2,4,4], nearest, size [5,5], input size [3,3]; g must be "
          "[2,5,5]")};
      s.no_scalar = "there is a channel axis";
      return s;
    }};

TEST(Interpolate, ByAreaIsAdaptivePooling) {
  const Tensor x = normal({2, 6, 5});
  EXPECT_EQ(interpolate(x, {.size = {3, 2}, .mode = Mode::kArea}).to_vector<double>(),
            adaptive_avg_pool2d(x, {3, 2}).to_vector<double>());
  EXPECT_EQ(interpolate(x, {.scale_factor = {0.5, 0.5}, .mode = Mode::kArea}).to_vector<double>(),
            adaptive_avg_pool2d(x, {3, 2}).to_vector<double>());
  EXPECT_THROW((void)interpolate(x, {.scale_factor = {0.1, 0.5}, .mode = Mode::kArea}), ShapeError);
}

TEST(Interpolate, KeepsWhatIsLinear) {
  const Tensor x = testing::counting({1, 8});
  const auto y = interpolate(x, {.size = {15}, .mode = Mode::kLinear, .align_corners = true})
                     .to_vector<double>();
  for (size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], static_cast<double>(i) / 2, 1e-12);
}

// ---- pixel shuffle
// -------------------------------------------------------------------------------

RefArray shuffled(const RefArray& x, int64_t r, bool back) {
  Shape y = x.shape;
  const int c = y.rank() - 3;
  if (back) {
    y[c] *= r * r;
    y[c + 1] /= r;
    y[c + 2] /= r;
  } else {
    y[c] /= r * r;
    y[c + 1] *= r;
    y[c + 2] *= r;
  }
  const auto channel = static_cast<size_t>(c);
  return testing::ref_of(y, [&](const Position& o) {
    Position from = o;
    if (back) {
      from[channel] = o[channel] / (r * r);
      from[channel + 1] = o[channel + 1] * r + o[channel] / r % r;
      from[channel + 2] = o[channel + 2] * r + o[channel] % r;
    } else {
      from[channel] = o[channel] * r * r + o[channel + 1] % r * r + o[channel + 2] % r;
      from[channel + 1] = o[channel + 1] / r;
      from[channel + 2] = o[channel + 2] / r;
    }
    return testing::element(x, from);
  });
}

OpSamples shuffle_samples(const std::string& op, bool back,
                          const std::vector<std::pair<Shape, int64_t>>& all, const Shape& wrong,
                          const std::string& why) {
  const auto f = back ? &pixel_unshuffle : &pixel_shuffle;
  OpSamples s{.op = op};
  for (const auto& [shape, r] : all) {
    s.samples.push_back(
        {.name = absl::StrCat(shape.str(), " by ", r),
         .inputs = {normal(shape)},
         .call = [f, r = r](const Tensor& x) { return f(x, r, Where::current()); },
         .reference = [r = r, back](const RefArray& x) { return shuffled(x, r, back); }});
  }
  const auto call = [f](int64_t r) {
    return [f, r](const Tensor& x) { return f(x, r, Where::current()); };
  };
  s.errors = {error_sample<ShapeError>("sizes", {normal(wrong)}, call(2), why),
              error_sample<ShapeError>("rank", {normal({4, 4})}, call(2),
                                       op + ": x is [4,4], the factor is 2; it must be [C,H,W]"),
              error_sample<ValueError>("factor", {normal({4, 4, 4})}, call(0), "the factor is 0"),
              error_sample<ValueError>("absurd factor", {normal({4, 4, 4})}, call(INT64_MAX),
                                       absl::StrCat("the factor is ", INT64_MAX))};
  s.no_scalar = "there is a channel axis";
  return s;
}

const RegisterSamples kPixelShuffle{
    "pixel_shuffle", [] {
      return shuffle_samples(
          "pixel_shuffle", false,
          {{{4, 2, 3}, 2}, {{2, 9, 1, 2}, 3}, {{3, 2, 2}, 1}, {{0, 4, 2, 2}, 2}, {{4, 0, 2}, 2}},
          {6, 2, 2}, "x is [6,2,2], the factor is 2; it must be [C,H,W]");
    }};
const RegisterSamples kPixelUnshuffle{
    "pixel_unshuffle", [] {
      return shuffle_samples("pixel_unshuffle", true,
                             {{{1, 4, 6}, 2}, {{2, 1, 3, 6}, 3}, {{3, 2, 2}, 1}, {{0, 1, 2, 2}, 2}},
                             {1, 4, 5}, "in which H and W are multiples of it");
    }};

TEST(PixelShuffle, MovesElementsOfAnyType) {
  testing::expect_same_in_all_types(testing::counting({8, 2, 3}),
                                    [](const Tensor& x) { return pixel_shuffle(x, 2); });
  testing::expect_same_in_all_types(testing::counting({1, 4, 6}),
                                    [](const Tensor& x) { return pixel_unshuffle(x, 2); });
}

}  // namespace
}  // namespace ebb
