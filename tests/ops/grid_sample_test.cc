// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/grid_sample.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/creation.h"
#include "moving.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::Position;
using testing::RefArray;
using testing::RegisterSamples;

using Mode = GridSampleMode;
using Border = GridPadding;

// ---- by the definition
// ---------------------------------------------------------------------------

// A place brought into the image, by mirroring it as often as it takes.
double padded(const GridSampleOptions& o, int64_t n, double u) {
  const auto last = static_cast<double>(n - 1);
  if (o.padding_mode == Border::kReflection) {
    const double low = o.align_corners ? 0 : -0.5;
    const double high = o.align_corners ? last : last + 0.5;
    if (high <= low) return 0;
    while (u < low || u > high) u = u < low ? 2 * low - u : 2 * high - u;
  }
  return o.padding_mode == Border::kZeros ? u : std::min(std::max(u, 0.0), last);
}

double cubic(double x) {
  const double a = -0.75;
  const double d = std::abs(x);
  if (d <= 1) return (a + 2) * d * d * d - (a + 3) * d * d + 1;
  if (d < 2) return a * d * d * d - 5 * a * d * d + 8 * a * d - 4 * a;
  return 0;
}

// The part of element i of n in what is read at coordinate c.
double part(const GridSampleOptions& o, int64_t n, double c, int64_t i) {
  const auto size = static_cast<double>(n);
  const double u = o.align_corners ? (c + 1) / 2 * (size - 1) : ((c + 1) * size - 1) / 2;
  const auto element = static_cast<double>(i);
  if (o.mode == Mode::kNearest) return std::rint(padded(o, n, u)) == element ? 1 : 0;
  if (o.mode == Mode::kBilinear) {
    return std::max(0.0, 1 - std::abs(padded(o, n, u) - element));
  }
  double sum = 0;
  for (double tap = std::floor(u) - 1; tap <= std::floor(u) + 2; ++tap) {
    if (std::floor(padded(o, n, tap)) == element) sum += cubic(u - tap);
  }
  return sum;
}

RefArray sampled(const GridSampleOptions& o, const RefArray& x, const RefArray& grid) {
  const int dims = static_cast<int>(grid.shape[grid.shape.rank() - 1]);
  const int first = x.shape.rank() - dims;
  Shape y = x.shape;
  Shape image;
  for (int d = 0; d < dims; ++d) {
    y[first + d] = grid.shape[grid.shape.rank() - 1 - dims + d];
    image.push_back(x.shape[first + d]);
  }
  return testing::ref_of(y, [&](const Position& at) {
    Position place;  // of the grid's numbers
    if (first == 2) place.push_back(at[0]);
    for (int d = 0; d < dims; ++d) place.push_back(at[static_cast<size_t>(first + d)]);
    place.push_back(0);
    double sum = 0;
    testing::for_each_position(image, [&](const Position& element) {
      Position from = at;
      double w = 1;
      for (int d = 0; d < dims; ++d) {
        const auto i = static_cast<size_t>(d);
        from[static_cast<size_t>(first + d)] = element[i];
        place.back() = dims - 1 - d;
        w *= part(o, image[d], testing::element(grid, place), element[i]);
      }
      sum += w * testing::element(x, from);
    });
    return sum;
  });
}

// Coordinates away from where an interpolation over n elements has a kink.
Tensor coordinates(const GridSampleOptions& o, const Shape& shape, int64_t n) {
  std::vector<double> kinks;
  const auto size = static_cast<double>(n);
  for (int64_t half = -4 * n; half <= 6 * n; ++half) {
    const double u = static_cast<double>(half) / 2;
    if (o.align_corners && n > 1) {
      kinks.push_back(2 * u / (size - 1) - 1);
    } else {
      kinks.push_back((2 * u + 1) / size - 1);
    }
  }
  return testing::uniform_away_from(shape, -1.8, 1.8, kinks, 0.03);
}

struct Case {
  Shape x;
  Shape grid;
  GridSampleOptions options;
};

const RegisterSamples kGridSample{
    "grid_sample", [] {
      OpSamples s{.op = "grid_sample"};
      std::vector<Case> cases;
      for (const Mode mode : {Mode::kBilinear, Mode::kNearest, Mode::kBicubic}) {
        for (const Border border : {Border::kZeros, Border::kBorder, Border::kReflection}) {
          for (const bool align : {false, true}) {
            const GridSampleOptions o{mode, border, align};
            cases.push_back({{2, 3, 3}, {2, 3, 2}, o});
            if (mode == Mode::kBicubic) continue;
            cases.push_back({{1, 2, 2, 2}, {1, 2, 2, 3}, o});
          }
        }
        cases.push_back({{2, 2, 3, 3}, {2, 1, 2, 2}, {.mode = mode}});
      }
      cases.push_back({{2, 1, 2, 2, 2}, {2, 1, 2, 1, 3}, {}});
      cases.push_back({{1, 1, 1}, {2, 2, 2}, {.padding_mode = Border::kReflection}});
      cases.push_back({{0, 2, 3, 3}, {0, 2, 2, 2}, {}});
      cases.push_back({{1, 3, 3}, {0, 2, 2}, {}});
      for (const Case& c : cases) {
        s.samples.push_back(
            {.name = absl::StrCat(c.x.str(), " at ", c.grid.str(), " mode ",
                                  static_cast<int>(c.options.mode), " border ",
                                  static_cast<int>(c.options.padding_mode),
                                  c.options.align_corners ? " aligned" : ""),
             .inputs = {normal(c.x), coordinates(c.options, c.grid, c.x[c.x.rank() - 1])},
             .call = [o = c.options](const Tensor& x,
                                     const Tensor& grid) { return grid_sample(x, grid, o); },
             .reference = [o = c.options](const RefArray& x,
                                          const RefArray& grid) { return sampled(o, x, grid); }});
      }
      const auto call = [](const Tensor& x, const Tensor& grid) { return grid_sample(x, grid); };
      s.errors = {
          error_sample<ShapeError>("grid", {normal({1, 3, 3}), normal({2, 2, 4})}, call,
                                   "grid_sample: x is [1,3,3], grid is [2,2,4]; grid.size(-1) "
                                   "must be 2 or 3"),
          error_sample<ShapeError>("rank", {normal({1, 3, 3}), normal({2, 2, 2, 3})}, call,
                                   "x must have rank 4, or 5 with a batch"),
          error_sample<ShapeError>("batch", {normal({2, 1, 3, 3}), normal({3, 2, 2, 2})}, call,
                                   "grid must have the same rank and the same batch"),
          error_sample<ShapeError>("no batch", {normal({1, 3, 3}), normal({1, 2, 2, 2})}, call,
                                   "grid must have that rank"),
          error_sample<ShapeError>("no elements", {normal({1, 0, 3}), normal({2, 2, 2})}, call,
                                   "size(-2)=0 must be in [1, "),
          error_sample<ShapeError>(
              "cubic volumes", {normal({1, 3, 3, 3}), normal({2, 2, 2, 3})},
              [](const Tensor& x, const Tensor& grid) {
                return grid_sample(x, grid, {.mode = Mode::kBicubic});
              },
              "kBicubic is for images, not for volumes"),
          error_sample<DTypeError>(
              "integers", {testing::integers({1, 3, 3}, 0, 1), testing::integers({2, 2, 2}, 0, 1)},
              call, "grid_sample: input 0 is int64[1,3,3]"),
      };
      s.no_scalar = "there is a channel axis";
      return s;
    }};

TEST(GridSample, PlacesThatAreNoNumbersAreOutside) {
  const double bad[] = {std::nan(""), std::numeric_limits<double>::infinity(), -1e300};
  for (const double c : bad) {
    for (const Border border : {Border::kZeros, Border::kBorder, Border::kReflection}) {
      const Tensor x = variable(ones({1, 3, 3}, {.dtype = kFloat64}));
      const Tensor grid = variable(testing::tensor({1, 1, 2}, {c, 0.1}));
      for (const Mode mode : {Mode::kBilinear, Mode::kNearest, Mode::kBicubic}) {
        const GridSampleOptions o{mode, border, false};
        const Tensor y = grid_sample(x, grid, o);
        EXPECT_NEAR(y.item(), border == Border::kZeros ? 0 : 1, 1e-12) << c;
        const auto graph = grad({y.sum()}, {x, grid}, {.create_graph = true});
        const auto plain = grad({y.sum()}, {x, grid});
        for (size_t i = 0; i < 2; ++i) {
          const auto a = plain[i].to_vector<double>();
          const auto b = graph[i].to_vector<double>();
          for (size_t k = 0; k < a.size(); ++k) EXPECT_NEAR(a[k], b[k], 1e-12) << i;
        }
      }
    }
  }
}

TEST(GridSample, TheIdentityGivesTheImageBack) {
  const Tensor x = normal({2, 3, 5, 4});
  const Tensor theta = testing::tensor({2, 2, 3}, {1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0});
  for (const bool align : {false, true}) {
    const Tensor grid = affine_grid(theta, {2, 3, 5, 4}, align);
    for (const Mode mode : {Mode::kBilinear, Mode::kNearest, Mode::kBicubic}) {
      const auto y = grid_sample(x, grid, {.mode = mode, .align_corners = align});
      const auto a = x.to_vector<double>();
      const auto b = y.to_vector<double>();
      for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-12);
    }
  }
}

// ---- affine_grid
// ---------------------------------------------------------------------------------

RefArray grid_of(const RefArray& theta, const Shape& size, bool align) {
  const int dims = static_cast<int>(theta.shape[theta.shape.rank() - 2]);
  const bool batched = theta.shape.rank() == 3;
  Shape shape;
  if (batched) shape.push_back(size[0]);
  for (int d = 0; d < dims; ++d) shape.push_back(size[size.rank() - dims + d]);
  shape.push_back(dims);
  return testing::ref_of(shape, [&](const Position& o) {
    const size_t first = batched ? 1 : 0;
    Position at;
    if (batched) at.push_back(o[0]);
    at.push_back(o.back());
    at.push_back(dims);
    double sum = testing::element(theta, at);
    for (int k = 0; k < dims; ++k) {  // x along the last axis, y along the one before
      const auto i = static_cast<double>(o[first + static_cast<size_t>(dims - 1 - k)]);
      const auto n = static_cast<double>(shape[static_cast<int>(first) + dims - 1 - k]);
      const double aligned = n == 1 ? 0 : -1 + 2 * i / (n - 1);
      at.back() = k;
      sum += testing::element(theta, at) * (align ? aligned : -1 + (2 * i + 1) / n);
    }
    return sum;
  });
}

const RegisterSamples kAffineGrid{
    "affine_grid", [] {
      OpSamples s{.op = "affine_grid"};
      const std::vector<std::pair<Shape, Shape>> all = {{{2, 3}, {3, 4, 5}},
                                                        {{2, 2, 3}, {2, 1, 3, 2}},
                                                        {{3, 4}, {1, 2, 3, 4}},
                                                        {{2, 3, 4}, {2, 1, 2, 1, 3}},
                                                        {{0, 2, 3}, {0, 1, 2, 2}}};
      for (const auto& [theta, size] : all) {
        for (const bool align : {false, true}) {
          s.samples.push_back(
              {.name = absl::StrCat(theta.str(), " for ", size.str(), align ? " aligned" : ""),
               .inputs = {normal(theta)},
               .call = [size = size,
                        align](const Tensor& t) { return affine_grid(t, size, align); },
               .reference = [size = size,
                             align](const RefArray& t) { return grid_of(t, size, align); }});
        }
      }
      const auto call = [](const Shape& size) {
        return [size](const Tensor& t) { return affine_grid(t, size); };
      };
      s.errors = {
          error_sample<ShapeError>("theta", {normal({2, 4})}, call({1, 3, 3}),
                                   "affine_grid: theta is [2,4], the size is [3,3]"),
          error_sample<ShapeError>("rank", {normal({2, 3})}, call({2, 1, 3, 3}),
                                   "affine_grid: theta is [2,3], the size is [2,1,3,3]"),
          error_sample<ShapeError>("batch", {normal({3, 2, 3})}, call({2, 1, 3, 3}),
                                   "theta must be [2,2,3]"),
          error_sample<ShapeError>("size", {normal({2, 3})}, call({1, 0, 3}),
                                   "the size is [0,3] without batch and channels; it must be "
                                   "positive"),
          error_sample<ShapeError>("absurd size", {normal({2, 3})}, call({1, 1 << 30, 1 << 30}),
                                   "more than can be addressed"),
          error_sample<DTypeError>("integers", {testing::integers({2, 3}, 0, 1)}, call({1, 2, 2}),
                                   "affine_grid: input 0 is int64[2,3]"),
      };
      s.no_scalar = "theta is a matrix";
      return s;
    }};

}  // namespace
}  // namespace ebb
