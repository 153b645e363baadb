// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/pool.h"
#include "ebb/ops/pool_util.h"
#include "moving.h"

// Pooling over windows that are not all alike.
namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::Position;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

struct Range {
  int64_t begin;
  int64_t end;
};
// The window of output `o`, one number an axis, of a plane.
using Windows = std::function<std::vector<Range>(const RefArray& x, const Position& o)>;

std::vector<Range> adaptive(const Shape& x, const Shape& y, int dims, const Position& o) {
  std::vector<Range> all;
  for (int i = x.rank() - dims; i < x.rank(); ++i) {
    const auto at = static_cast<double>(o[static_cast<size_t>(i)]);
    const double ratio = static_cast<double>(x[i]) / static_cast<double>(y[i]);
    all.push_back({static_cast<int64_t>(std::floor(at * ratio + 1e-9)),
                   static_cast<int64_t>(std::ceil((at + 1) * ratio - 1e-9))});
  }
  return all;
}

// Calls f(position, index in the plane) for the elements of a window.
template <class F>
void for_window(const Shape& x, const std::vector<Range>& w, const Position& o, F&& f) {
  const int dims = static_cast<int>(w.size());
  Shape size;
  for (const Range& r : w) size.push_back(r.end - r.begin);
  testing::for_each_position(size, [&](const Position& tap) {
    Position from = o;
    int64_t index = 0;
    for (int d = 0; d < dims; ++d) {
      const int axis = x.rank() - dims + d;
      const auto i = static_cast<size_t>(d);
      from[static_cast<size_t>(axis)] = w[i].begin + tap[i];
      index = index * x[axis] + w[i].begin + tap[i];
    }
    f(from, index);
  });
}

std::vector<RefArray> max_over(const RefArray& x, const Shape& out, const Windows& windows) {
  RefArray y(out);
  RefArray index(out);
  testing::for_each_position(out, [&](const Position& o) {
    double best = -INFINITY;
    for_window(x.shape, windows(x, o), o, [&](const Position& from, int64_t at) {
      if (testing::element(x, from) <= best) return;
      best = testing::element(x, from);
      testing::element(index, o) = static_cast<double>(at);
    });
    testing::element(y, o) = best;
  });
  return {y, index};
}

template <int D>
struct Case {
  Shape x;
  PerAxis<D> out;
};

template <int D>
Shape result(const Case<D>& c) {
  Shape y = c.x;
  for (int d = 0; d < D; ++d) {
    if (c.out[d] != 0) y[y.rank() - D + d] = c.out[d];
  }
  return y;
}

template <int D>
std::vector<Case<D>> cases() {
  if constexpr (D == 1) {
    return {{{2, 6}, 3}, {{2, 2, 5}, 2}, {{1, 7}, 3}, {{1, 3}, 5}, {{2, 4}, 0}, {{0, 2, 4}, 2}};
  } else if constexpr (D == 2) {
    return {{{2, 4, 6}, 2},      {{2, 2, 5, 7}, {2, 3}}, {{1, 5, 5}, 1},   {{1, 3, 2}, {4, 3}},
            {{1, 5, 4}, {0, 2}}, {{2, 1, 1}, 1},         {{0, 2, 4, 4}, 2}};
  } else {
    return {{{2, 2, 4, 4}, 2},
            {{2, 1, 3, 2, 5}, {2, 1, 3}},
            {{1, 2, 2, 2}, {3, 2, 1}},
            {{1, 2, 3, 3}, 1},
            {{0, 1, 2, 2, 2}, 1}};
  }
}

template <int D>
std::vector<testing::ErrorSample> adaptive_errors(const std::string& op,
                                                  Tensor (*f)(const Tensor&, PerAxis<D>)) {
  Shape x{2};
  for (int d = 0; d < D; ++d) x.push_back(5);
  Shape none = x;
  none[1] = 0;
  const auto call = [f](int64_t n) {
    return [f, n](const Tensor& t) { return f(t, PerAxis<D>(n)); };
  };
  return {
      error_sample<ShapeError>("rank", {normal({3})}, call(2),
                               op + ": x is [3]; it must have rank "),
      error_sample<ShapeError>("size", {normal(x)}, call(-1), "the output size is [-1"),
      error_sample<ShapeError>("absurd size", {normal(x)}, call(INT64_MAX),
                               absl::StrCat("the output size is [", INT64_MAX)),
      error_sample<ShapeError>("no elements", {normal(none)}, call(1),
                               absl::StrCat("size(", -D, ")=0 must be in [1, ")),
      error_sample<DTypeError>("integers", {testing::integers(x, 0, 2)}, call(2),
                               op + ": input 0 is int64"),
  };
}

template <int D>
OpSamples adaptive_avg_samples(Tensor (*f)(const Tensor&, PerAxis<D>)) {
  OpSamples s{.op = absl::StrCat("adaptive_avg_pool", D, "d")};
  for (const Case<D>& c : cases<D>()) {
    s.samples.push_back({.name = c.x.str() + " to " + result(c).str(),
                         .inputs = {normal(c.x)},
                         .call = [=](const Tensor& x) { return f(x, c.out); },
                         .reference =
                             [=](const RefArray& x) {
                               const Shape y = result(c);
                               return testing::ref_of(y, [&](const Position& o) {
                                 double sum = 0;
                                 int64_t n = 0;
                                 const auto w = adaptive(x.shape, y, D, o);
                                 for_window(x.shape, w, o, [&](const Position& from, int64_t) {
                                   sum += testing::element(x, from);
                                   ++n;
                                 });
                                 return sum / static_cast<double>(n);
                               });
                             }});
  }
  s.errors = adaptive_errors<D>(s.op, f);
  s.no_scalar = "there is a channel axis";
  return s;
}

const RegisterSamples kAdaptiveAvgPool1d{
    "adaptive_avg_pool1d", [] {
      return adaptive_avg_samples<1>(
          [](const Tensor& x, PerAxis<1> n) { return adaptive_avg_pool1d(x, n); });
    }};
const RegisterSamples kAdaptiveAvgPool2d{
    "adaptive_avg_pool2d", [] {
      return adaptive_avg_samples<2>(
          [](const Tensor& x, PerAxis<2> n) { return adaptive_avg_pool2d(x, n); });
    }};
const RegisterSamples kAdaptiveAvgPool3d{
    "adaptive_avg_pool3d", [] {
      return adaptive_avg_samples<3>(
          [](const Tensor& x, PerAxis<3> n) { return adaptive_avg_pool3d(x, n); });
    }};

template <int D>
void add_backward_samples(OpSamples& s) {
  for (const Case<D>& c : cases<D>()) {
    s.samples.push_back(
        {.name = result(c).str() + " to " + c.x.str(),
         .inputs = {normal(result(c))},
         .call = [=](const Tensor& g) { return adaptive_avg_pool_backward(D, g, c.x); },
         .reference =
             [=](const RefArray& g) {
               RefArray dx(c.x);
               testing::for_each_position(g.shape, [&](const Position& o) {
                 const auto w = adaptive(c.x, g.shape, D, o);
                 double n = 1;
                 for (const Range& r : w) n *= static_cast<double>(r.end - r.begin);
                 for_window(c.x, w, o, [&](const Position& from, int64_t) {
                   testing::element(dx, from) += testing::element(g, o) / n;
                 });
               });
               return dx;
             }});
  }
}

const RegisterSamples kAdaptiveAvgPoolBackward{
    "adaptive_avg_pool_backward", [] {
      OpSamples s{.op = "adaptive_avg_pool_backward"};
      add_backward_samples<1>(s);
      add_backward_samples<2>(s);
      add_backward_samples<3>(s);
      s.errors = {error_sample<ShapeError>(
          "size", {normal({1, 3, 3})},
          [](const Tensor& g) {
            return adaptive_avg_pool_backward(2, g, {1, 0, 4});
          },
          "adaptive_avg_pool_backward: x is [1,0,4]; size(-2)=0 must be in [1, ")};
      s.no_scalar = "there is a channel axis";
      return s;
    }};

template <int D>
OpSamples adaptive_max_samples(ValuesIndices (*f)(const Tensor&, PerAxis<D>),
                               Tensor (*values)(const Tensor&, PerAxis<D>)) {
  OpSamples s{.op = absl::StrCat("adaptive_max_pool", D, "d")};
  for (const Case<D>& c : cases<D>()) {
    s.samples.push_back({.name = c.x.str() + " to " + result(c).str(),
                         .inputs = {testing::distinct(c.x)},
                         .call =
                             [=](const Tensor& x) {
                               const ValuesIndices v = f(x, c.out);
                               return std::vector<Tensor>{v.values, v.indices};
                             },
                         .reference =
                             [=](const RefArray& x) {
                               const Shape y = result(c);
                               return max_over(x, y, [&](const RefArray& in, const Position& o) {
                                 return adaptive(in.shape, y, D, o);
                               });
                             }});
  }
  s.errors = adaptive_errors<D>(s.op, values);
  s.no_scalar = "there is a channel axis";
  return s;
}

const RegisterSamples kAdaptiveMaxPool1d{
    "adaptive_max_pool1d", [] {
      return adaptive_max_samples<1>(
          [](const Tensor& x, PerAxis<1> n) { return adaptive_max_pool1d(x, n); },
          [](const Tensor& x, PerAxis<1> n) { return adaptive_max_pool1d(x, n).values; });
    }};
const RegisterSamples kAdaptiveMaxPool2d{
    "adaptive_max_pool2d", [] {
      return adaptive_max_samples<2>(
          [](const Tensor& x, PerAxis<2> n) { return adaptive_max_pool2d(x, n); },
          [](const Tensor& x, PerAxis<2> n) { return adaptive_max_pool2d(x, n).values; });
    }};
const RegisterSamples kAdaptiveMaxPool3d{
    "adaptive_max_pool3d", [] {
      return adaptive_max_samples<3>(
          [](const Tensor& x, PerAxis<3> n) { return adaptive_max_pool3d(x, n); },
          [](const Tensor& x, PerAxis<3> n) { return adaptive_max_pool3d(x, n).values; });
    }};

// ---- fractional
// ----------------------------------------------------------------------------------

template <int D>
struct FractionalCase {
  Shape x;
  PerAxis<D> kernel;
  PerAxis<D> out;
};

template <int D>
OpSamples fractional_samples(const std::vector<FractionalCase<D>>& all,
                             ValuesIndices (*f)(const Tensor&, PerAxis<D>, PerAxis<D>,
                                                const Tensor&)) {
  OpSamples s{.op = absl::StrCat("fractional_max_pool", D, "d")};
  for (const auto& c : all) {
    Shape out = c.x;
    Shape samples(c.x.data(), static_cast<size_t>(c.x.rank() - D));
    samples.push_back(D);
    for (int d = 0; d < D; ++d) out[out.rank() - D + d] = c.out[d];
    s.samples.push_back(
        {.name = c.x.str() + " to " + out.str(),
         .inputs = {testing::distinct(c.x), testing::uniform(samples, 0.01, 0.99)},
         .call =
             [=](const Tensor& x, const Tensor& u) {
               const ValuesIndices v = f(x, c.kernel, c.out, u);
               return std::vector<Tensor>{v.values, v.indices};
             },
         .reference =
             [=](const RefArray& x, const RefArray& u) {
               return max_over(x, out, [&](const RefArray& in, const Position& o) {
                 std::vector<Range> w;
                 size_t plane = 0;
                 for (int i = 0; i < in.shape.rank() - D; ++i) {
                   plane = plane * static_cast<size_t>(in.shape[i]) +
                           static_cast<size_t>(o[static_cast<size_t>(i)]);
                 }
                 for (int d = 0; d < D; ++d) {
                   const int axis = in.shape.rank() - D + d;
                   const int64_t n = in.shape[axis];
                   const int64_t at = o[static_cast<size_t>(axis)];
                   int64_t begin = n - c.kernel[d];
                   if (at + 1 < c.out[d]) {
                     const double alpha =
                         static_cast<double>(n - c.kernel[d]) / static_cast<double>(c.out[d] - 1);
                     const double offset = u.v[plane * D + static_cast<size_t>(d)];
                     begin = static_cast<int64_t>((static_cast<double>(at) + offset) * alpha) -
                             static_cast<int64_t>(offset * alpha);
                   }
                   w.push_back({begin, begin + c.kernel[d]});
                 }
                 return w;
               });
             },
         .constants = {1}});
  }
  const Shape x = all[0].x;
  const Tensor u = s.samples[0].inputs[1];
  const auto call = [f](PerAxis<D> k, PerAxis<D> n) {
    return [=](const Tensor& a, const Tensor& b) { return f(a, k, n, b).values; };
  };
  s.errors = {
      error_sample<ShapeError>("too many", {normal(x), u}, call(2, 100),
                               "100 + 2 - 1 must be at most "),
      error_sample<ShapeError>("none", {normal(x), u}, call(2, 0), "0 + 2 - 1 must be at most "),
      error_sample<ShapeError>("no window", {normal(x), u}, call(-1, 2),
                               "2 + -1 - 1 must be at most "),
      error_sample<ShapeError>("samples", {normal(x), normal({7})}, call(2, 2),
                               "samples is [7]; it must be " + u.shape().str()),
      error_sample<DTypeError>("integers", {testing::integers(x, 0, 2), u}, call(2, 2),
                               s.op + ": input 0 is int64"),
  };
  s.no_scalar = "there is a channel axis";
  return s;
}

const RegisterSamples kFractionalMaxPool1d{
    "fractional_max_pool1d", [] {
      return fractional_samples<1>(
          {{{2, 9}, 2, 5}, {{2, 2, 7}, 1, 4}, {{1, 4}, 4, 1}, {{0, 2, 6}, 2, 3}},
          [](const Tensor& x, PerAxis<1> k, PerAxis<1> n, const Tensor& u) {
            return fractional_max_pool1d(x, k, n, u);
          });
    }};
const RegisterSamples kFractionalMaxPool2d{
    "fractional_max_pool2d", [] {
      return fractional_samples<2>(
          {{{2, 6, 7}, 2, 4}, {{2, 2, 5, 6}, {2, 3}, {3, 2}}, {{0, 2, 6, 6}, 2, 3}},
          [](const Tensor& x, PerAxis<2> k, PerAxis<2> n, const Tensor& u) {
            return fractional_max_pool2d(x, k, n, u);
          });
    }};
const RegisterSamples kFractionalMaxPool3d{
    "fractional_max_pool3d", [] {
      return fractional_samples<3>(
          {{{2, 4, 4, 5}, 2, 2}, {{2, 1, 4, 3, 5}, {2, 1, 2}, {2, 2, 3}}, {{0, 1, 4, 4, 4}, 2, 2}},
          [](const Tensor& x, PerAxis<3> k, PerAxis<3> n, const Tensor& u) {
            return fractional_max_pool3d(x, k, n, u);
          });
    }};

TEST(FractionalMaxPool, DrawsItsOffsetsFromTheGenerator) {
  const Tensor x = testing::distinct({3, 20, 20});
  Generator a(1);
  Generator b(1);
  const auto first = fractional_max_pool2d(x, 2, 13, {}, a).indices.to_vector<int64_t>();
  EXPECT_EQ(first, fractional_max_pool2d(x, 2, 13, {}, b).indices.to_vector<int64_t>());
  EXPECT_NE(first, fractional_max_pool2d(x, 2, 13, {}, a).indices.to_vector<int64_t>());
  EXPECT_THROW((void)fractional_max_pool2d(x, 2, 100, {}, b), ShapeError);
  EXPECT_EQ(b.uniform(), [] {
    Generator c(1);
    (void)fractional_max_pool2d(testing::distinct({3, 20, 20}), 2, 13, {}, c);
    return c.uniform();
  }()) << "a call that threw drew numbers";
}

TEST(FractionalMaxPool, SamplesOutsideTheUnitIntervalAreAnError) {
  EXPECT_THROW((void)fractional_max_pool1d(normal({1, 9}), 2, 4, testing::tensor({1, 1}, {1.0})),
               ValueError);
}

}  // namespace
}  // namespace ebb
