// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/pool.h"
#include "moving.h"

// Max-unpooling and Lp pooling.
namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::Position;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

// ---- max-unpooling
// -------------------------------------------------------------------------------

template <int D>
struct UnpoolCase {
  Shape x;
  PerAxis<D> kernel;
  MaxUnpoolOptions<D> options;
  Shape y;
  bool twice = false;  // one place is named twice
};

template <int D>
OpSamples unpool_samples(const std::vector<UnpoolCase<D>>& cases,
                         Tensor (*f)(const Tensor&, const Tensor&, PerAxis<D>,
                                     const MaxUnpoolOptions<D>&)) {
  OpSamples s{.op = absl::StrCat("max_unpool", D, "d")};
  for (const auto& c : cases) {
    int64_t n_in = 1;
    int64_t n_out = 1;
    for (int i = c.x.rank() - D; i < c.x.rank(); ++i) {
      n_in *= c.x[i];
      n_out *= c.y[i];
    }
    std::vector<int64_t> indices(static_cast<size_t>(c.x.numel()));
    for (size_t i = 0; i < indices.size(); ++i) {
      indices[i] = static_cast<int64_t>(i) % n_in * 7 % n_out;  // 7 divides no n_out
    }
    if (c.twice) indices[1] = indices[0];
    s.samples.push_back(
        {.name = absl::StrCat(c.x.str(), " to ", c.y.str()),
         .inputs = {normal(c.x), Tensor(Array::of<int64_t>(c.x, indices))},
         .call = [=](const Tensor& x, const Tensor& i) { return f(x, i, c.kernel, c.options); },
         .reference =
             [=](const RefArray& x, const RefArray& at) {
               RefArray y(c.y);
               for (size_t i = 0; i < x.v.size(); ++i) {
                 const auto plane = static_cast<int64_t>(i) / n_in;
                 y.v[static_cast<size_t>(plane * n_out + testing::to_int(at.v[i]))] = x.v[i];
               }
               return y;
             }});
  }
  const Shape x = cases[0].x;
  const auto call = [f](const MaxUnpoolOptions<D>& o) {
    return [=](const Tensor& a, const Tensor& i) { return f(a, i, PerAxis<D>(2), o); };
  };
  s.errors = {
      error_sample<ShapeError>("shapes", {normal(x), testing::indices({1, 2})}, call({}),
                               "indices is [2]; the shapes must be the same"),
      error_sample<DTypeError>("type of the indices", {normal(x), normal(x)}, call({}),
                               "indices is float64" + x.str() + "; it must be int64"),
      error_sample<DTypeError>("type of x",
                               {testing::integers(x, 0, 1), testing::integers(x, 0, 1)}, call({}),
                               s.op + ": input 0 is int64"),
      error_sample<ShapeError>("size", {normal(x), testing::integers(x, 0, 1)},
                               call({.output_size = 100}), "the output size is [100"),
      error_sample<ValueError>("stride", {normal(x), testing::integers(x, 0, 1)},
                               call({.stride = -1}), "the stride is -1"),
      error_sample<IndexError>("index", {normal(x), testing::integers(x, 1000, 1000)}, call({}),
                               s.op + ": element 0 of indices is 1000, outside [0, "),
      error_sample<IndexError>("negative index", {normal(x), testing::integers(x, -1, -1)},
                               call({}), "element 0 of indices is -1"),
  };
  s.no_scalar = "there is a channel axis";
  return s;
}

const RegisterSamples kMaxUnpool1d{
    "max_unpool1d", [] {
      return unpool_samples<1>(
          {{{2, 3}, 2, {}, {2, 6}},
           {{2, 2, 3}, 3, {.stride = 2, .padding = 1}, {2, 2, 5}},
           {{1, 3}, 2, {.output_size = 5}, {1, 5}, true},
           {{0, 2, 3}, 2, {}, {0, 2, 6}}},
          [](const Tensor& x, const Tensor& i, PerAxis<1> k, const MaxUnpoolOptions<1>& o) {
            return max_unpool1d(x, i, k, o);
          });
    }};
const RegisterSamples kMaxUnpool2d{
    "max_unpool2d", [] {
      return unpool_samples<2>(
          {{{2, 2, 3}, 2, {}, {2, 4, 6}},
           {{2, 1, 2, 2}, {3, 2}, {.stride = {2, 2}, .padding = {1, 0}}, {2, 1, 3, 4}},
           {{1, 2, 2}, 2, {.output_size = {5, 4}}, {1, 5, 4}, true},
           {{0, 2, 2, 2}, 2, {}, {0, 2, 4, 4}}},
          [](const Tensor& x, const Tensor& i, PerAxis<2> k, const MaxUnpoolOptions<2>& o) {
            return max_unpool2d(x, i, k, o);
          });
    }};
const RegisterSamples kMaxUnpool3d{
    "max_unpool3d", [] {
      return unpool_samples<3>(
          {{{2, 1, 2, 2}, 2, {}, {2, 2, 4, 4}},
           {{2, 1, 2, 1, 2}, {1, 2, 3}, {}, {2, 1, 2, 2, 6}},
           {{0, 1, 2, 2, 2}, 2, {}, {0, 1, 4, 4, 4}}},
          [](const Tensor& x, const Tensor& i, PerAxis<3> k, const MaxUnpoolOptions<3>& o) {
            return max_unpool3d(x, i, k, o);
          });
    }};

TEST(MaxUnpool, PutsTheLargestBack) {
  const Tensor x = testing::distinct({2, 3, 7, 6});
  const auto [y, indices] = max_pool2d_with_indices(x, 3, {.stride = 2});
  const Tensor back = max_unpool2d(y, indices, 3, {.stride = 2, .output_size = {7, 6}});
  ASSERT_EQ(back.shape(), x.shape());
  const auto a = x.to_vector<double>();
  const auto b = back.to_vector<double>();
  int kept = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(b[i] == 0 || b[i] == a[i]);
    kept += b[i] != 0 ? 1 : 0;
  }
  EXPECT_GT(kept, 12);
}

// ---- Lp
// ------------------------------------------------------------------------------------------

template <int D>
struct LPCase {
  Shape x;
  double p;
  PerAxis<D> kernel;
  LPPoolOptions<D> options = {};
};

template <int D>
OpSamples lp_samples(const std::vector<LPCase<D>>& cases,
                     Tensor (*f)(const Tensor&, double, PerAxis<D>, const LPPoolOptions<D>&)) {
  OpSamples s{.op = absl::StrCat("lp_pool", D, "d")};
  for (const auto& c : cases) {
    const bool even = std::fmod(c.p, 2) == 0;
    s.samples.push_back({.name = absl::StrCat(c.x.str(), " p ", c.p),
                         // Where all are small roots are steep.
                         .inputs = {even ? testing::uniform_away_from(c.x, -2, 2, {0}, 0.3)
                                         : testing::positive(c.x)},
                         .call = [=](const Tensor& x) { return f(x, c.p, c.kernel, c.options); },
                         .reference =
                             [=](const RefArray& x) {
                               Shape y = x.shape;
                               Shape kernel;
                               double full = 1;
                               for (int d = 0; d < D; ++d) {
                                 const int axis = y.rank() - D + d;
                                 const int64_t stride =
                                     c.options.stride[d] == 0 ? c.kernel[d] : c.options.stride[d];
                                 const int64_t room = x.shape[axis] - c.kernel[d];
                                 const bool more = c.options.ceil_mode && room % stride != 0 &&
                                                   (room / stride + 1) * stride < x.shape[axis];
                                 y[axis] = room / stride + 1 + (more ? 1 : 0);
                                 kernel.push_back(c.kernel[d]);
                                 full *= static_cast<double>(c.kernel[d]);
                               }
                               return testing::ref_of(y, [&](const Position& o) {
                                 double sum = 0;
                                 double n = 0;
                                 testing::for_each_position(kernel, [&](const Position& tap) {
                                   Position from = o;
                                   for (int d = 0; d < D; ++d) {
                                     const auto axis = static_cast<size_t>(y.rank() - D + d);
                                     const int64_t stride = c.options.stride[d] == 0
                                                                ? c.kernel[d]
                                                                : c.options.stride[d];
                                     from[axis] = o[axis] * stride + tap[static_cast<size_t>(d)];
                                     if (from[axis] >= x.shape[static_cast<int>(axis)]) return;
                                   }
                                   sum += std::pow(testing::element(x, from), c.p);
                                   ++n;
                                 });
                                 return std::pow(sum * full / n, 1 / c.p);
                               });
                             }});
  }
  Shape x = cases[0].x;
  s.errors = {
      error_sample<ValueError>(
          "p", {normal(x)}, [f](const Tensor& a) { return f(a, 0, PerAxis<D>(2), {}); },
          s.op + ": norm_type is 0; it must be positive and finite"),
      error_sample<ShapeError>(
          "window", {normal(x)}, [f](const Tensor& a) { return f(a, 2, PerAxis<D>(20), {}); },
          "a window spans 20 of "),
      error_sample<DTypeError>(
          "integers", {testing::integers(x, 1, 2)},
          [f](const Tensor& a) { return f(a, 2, PerAxis<D>(2), {}); }, s.op + ": input 0 is int64"),
  };
  s.no_scalar = "there is a channel axis";
  return s;
}

const RegisterSamples kLPPool1d{
    "lp_pool1d", [] {
      return lp_samples<1>({{{2, 6}, 2, 2},
                            {{2, 2, 5}, 3, 3, {.stride = 1}},
                            {{1, 7}, 1.5, 2, {.stride = 3}},
                            {{1, 6}, 2, 3, {.stride = 2, .ceil_mode = true}},
                            {{2, 4}, 1, 2},
                            {{0, 2, 4}, 2, 2}},
                           [](const Tensor& x, double p, PerAxis<1> k, const LPPoolOptions<1>& o) {
                             return lp_pool1d(x, p, k, o);
                           });
    }};
const RegisterSamples kLPPool2d{
    "lp_pool2d", [] {
      return lp_samples<2>({{{2, 4, 4}, 2, 2},
                            {{2, 1, 3, 5}, 4, {2, 3}, {.stride = {1, 2}}},
                            {{1, 5, 5}, 3, 2, {.ceil_mode = true}},
                            {{0, 2, 4, 4}, 2, 2}},
                           [](const Tensor& x, double p, PerAxis<2> k, const LPPoolOptions<2>& o) {
                             return lp_pool2d(x, p, k, o);
                           });
    }};
const RegisterSamples kLPPool3d{
    "lp_pool3d", [] {
      return lp_samples<3>({{{1, 2, 2, 4}, 2, 2},
                            {{2, 1, 2, 3, 2}, 3, {1, 2, 2}, {.stride = 1}},
                            {{0, 1, 2, 2, 2}, 2, 2}},
                           [](const Tensor& x, double p, PerAxis<3> k, const LPPoolOptions<3>& o) {
                             return lp_pool3d(x, p, k, o);
                           });
    }};

TEST(LPPool, HasNoGradientWhereTheSumIsZero) {
  const Tensor x = variable(testing::tensor({1, 4}, {0, 0, 3, 4}));
  const Tensor y = lp_pool1d(x, 2, 2);
  EXPECT_EQ(y.to_vector<double>(), (std::vector<double>{0, 5}));
  const auto g = grad(y.sum(), x).to_vector<double>();
  EXPECT_EQ(g[0], 0);
  EXPECT_EQ(g[1], 0);
  EXPECT_NEAR(g[2], 0.6, 1e-15);
  EXPECT_NEAR(g[3], 0.8, 1e-15);
}

TEST(Pool, OnlyWindowsThatExistMustSeeElements) {
  const Tensor x = testing::tensor({1, 1}, {3});
  EXPECT_EQ(max_pool1d(x, 3, {.stride = 1, .padding = 2, .dilation = 2}).item(), 3);
}

}  // namespace
}  // namespace ebb
