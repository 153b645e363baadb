// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/pool.h"

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
#include "ebb/autograd/testing.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/pool_util.h"
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

// ---- windows of a fixed size, by the definition
// --------------------------------------------------

struct RefPool {
  int dims = 2;
  std::vector<int64_t> kernel = {}, stride = {}, pad = {}, dilation = {};
  bool ceil_mode = false;
  bool count_pad = true;
  int64_t divisor = 0;
};

template <int D, class Options>
RefPool ref_pool(const PerAxis<D>& kernel, const Options& o) {
  RefPool r{.dims = D, .ceil_mode = o.ceil_mode};
  for (int d = 0; d < D; ++d) {
    r.kernel.push_back(kernel[d]);
    r.stride.push_back(o.stride[d] == 0 ? kernel[d] : o.stride[d]);
    r.pad.push_back(0);
    r.dilation.push_back(1);
    if constexpr (requires { o.padding; }) r.pad.back() = o.padding[d];
    if constexpr (requires { o.dilation; }) r.dilation.back() = o.dilation[d];
  }
  if constexpr (requires { o.count_include_pad; }) {
    r.count_pad = o.count_include_pad;
    r.divisor = o.divisor_override.value_or(0);
  }
  return r;
}

Shape pooled(const RefPool& r, const Shape& x) {
  Shape y = x;
  for (int d = 0; d < r.dims; ++d) {
    const size_t i = static_cast<size_t>(d);
    const int axis = x.rank() - r.dims + d;
    const auto room =
        static_cast<double>(x[axis] + 2 * r.pad[i] - r.dilation[i] * (r.kernel[i] - 1) - 1);
    const double steps = room / static_cast<double>(r.stride[i]);
    y[axis] = static_cast<int64_t>(r.ceil_mode ? std::ceil(steps) : std::floor(steps)) + 1;
    if (r.ceil_mode && (y[axis] - 1) * r.stride[i] >= x[axis] + r.pad[i]) --y[axis];
  }
  return y;
}

struct Seen {
  double value;
  int64_t index;  // in the plane
};

// What window `at` sees; `span` is its number of elements, with padding but not beyond it.
std::vector<Seen> seen(const RefPool& r, const RefArray& x, const Position& at, int64_t* span) {
  std::vector<Seen> all;
  const int first = x.shape.rank() - r.dims;
  *span = 1;
  Shape kernel;
  for (int d = 0; d < r.dims; ++d) {
    const size_t i = static_cast<size_t>(d);
    kernel.push_back(r.kernel[i]);
    const int64_t start = at[static_cast<size_t>(first + d)] * r.stride[i] - r.pad[i];
    *span *= std::min(start + r.kernel[i], x.shape[first + d] + r.pad[i]) - start;
  }
  testing::for_each_position(kernel, [&](const Position& tap) {
    Position from = at;
    int64_t index = 0;
    for (int d = 0; d < r.dims; ++d) {
      const size_t i = static_cast<size_t>(d);
      int64_t& f = from[static_cast<size_t>(first + d)];
      f = f * r.stride[i] - r.pad[i] + tap[i] * r.dilation[i];
      if (f < 0 || f >= x.shape[first + d]) return;
      index = index * x.shape[first + d] + f;
    }
    all.push_back({testing::element(x, from), index});
  });
  return all;
}

std::vector<RefArray> ref_max(const RefPool& r, const RefArray& x) {
  RefArray y(pooled(r, x.shape));
  RefArray index = y;
  testing::for_each_position(y.shape, [&](const Position& at) {
    int64_t span;
    const auto all = seen(r, x, at, &span);
    const auto best = std::max_element(
        all.begin(), all.end(), [](const Seen& a, const Seen& b) { return a.value < b.value; });
    testing::element(y, at) = best->value;
    testing::element(index, at) = static_cast<double>(best->index);
  });
  return {y, index};
}

RefArray ref_avg(const RefPool& r, const RefArray& x) {
  return testing::ref_of(pooled(r, x.shape), [&](const Position& at) {
    int64_t span;
    const auto all = seen(r, x, at, &span);
    double sum = 0;
    for (const Seen& s : all) sum += s.value;
    if (r.divisor != 0) return sum / static_cast<double>(r.divisor);
    return sum / static_cast<double>(r.count_pad ? span : static_cast<int64_t>(all.size()));
  });
}

// ---- samples
// -------------------------------------------------------------------------------------

// f(x, kernel, options) of the op for D axes.
#define EBB_TEST_BY_DIMS(name, Options)                                  \
  auto name(const Tensor& x, const PerAxis<1>& k, const Options<1>& o) { \
    return name##1d(x, k, o);                                            \
  }                                                                      \
  auto name(const Tensor& x, const PerAxis<2>& k, const Options<2>& o) { \
    return name##2d(x, k, o);                                            \
  }                                                                      \
  auto name(const Tensor& x, const PerAxis<3>& k, const Options<3>& o) { return name##3d(x, k, o); }
EBB_TEST_BY_DIMS(max_pool, MaxPoolOptions)
EBB_TEST_BY_DIMS(avg_pool, AvgPoolOptions)
#undef EBB_TEST_BY_DIMS
ValuesIndices with_indices(const Tensor& x, const PerAxis<1>& k, const MaxPoolOptions<1>& o) {
  return max_pool1d_with_indices(x, k, o);
}
ValuesIndices with_indices(const Tensor& x, const PerAxis<2>& k, const MaxPoolOptions<2>& o) {
  return max_pool2d_with_indices(x, k, o);
}
ValuesIndices with_indices(const Tensor& x, const PerAxis<3>& k, const MaxPoolOptions<3>& o) {
  return max_pool3d_with_indices(x, k, o);
}

template <int D, template <int> class Options>
struct Case {
  Shape x;
  PerAxis<D> kernel;
  Options<D> options = {};
};
template <int D>
using MaxCase = Case<D, MaxPoolOptions>;
template <int D>
using AvgCase = Case<D, AvgPoolOptions>;

template <int D, template <int> class Options>
std::string name_of(const Case<D, Options>& c) {
  const RefPool r = ref_pool(c.kernel, c.options);
  const auto list = [](const std::vector<int64_t>& v) { return Shape(v.data(), v.size()).str(); };
  return absl::StrCat(c.x.str(), " k", list(r.kernel), " s", list(r.stride), " p", list(r.pad),
                      " d", list(r.dilation), r.ceil_mode ? " ceil" : "",
                      r.count_pad ? "" : " pad not counted", " /", r.divisor);
}

const std::vector<MaxCase<1>> kMax1 = {{{2, 6}, 2},
                                       {{2, 2, 5}, 3, {.stride = 1, .padding = 1}},
                                       {{1, 7}, 2, {.stride = 3, .ceil_mode = true}},
                                       {{2, 7}, 3, {.stride = 2, .padding = 1, .dilation = 2}},
                                       {{1, 1}, 1},
                                       {{0, 2, 4}, 2}};
const std::vector<MaxCase<2>> kMax2 = {
    {{2, 4, 6}, 2},
    {{2, 2, 5, 5}, 2},
    {{1, 5, 6}, 3, {.stride = 2, .padding = 1}},
    {{2, 4, 5}, {2, 3}, {.stride = {1, 2}, .padding = {0, 1}, .ceil_mode = true}},
    {{1, 6, 5}, 2, {.stride = 1, .dilation = {3, 2}}},
    {{1, 3, 7}, {1, 2}, {.stride = {1, 3}, .ceil_mode = true}},
    {{0, 2, 4, 4}, 2}};
const std::vector<MaxCase<3>> kMax3 = {{{2, 2, 4, 4}, 2},
                                       {{2, 1, 3, 3, 4}, 2, {.stride = 1, .padding = 1}},
                                       {{1, 3, 4, 4}, {1, 2, 2}},
                                       {{1, 3, 3, 5}, {2, 1, 3}, {.stride = 2, .ceil_mode = true}},
                                       {{0, 1, 2, 2, 2}, 2}};
std::vector<MaxCase<1>> sized_max1(int64_t n) {
  return {{{2, n + 2}, 2}, {{1, n + 3}, 3, {.stride = 1, .padding = 1}}};
}
std::vector<MaxCase<2>> sized_max2(int64_t n) {
  return {{{2, 5, 2 * n + 2}, 2},
          {{1, 4, 2 * n + 3}, 2},
          {{2, 7, n + 3}, 3, {.stride = 2, .padding = 1}}};
}
std::vector<MaxCase<3>> sized_max3(int64_t n) { return {{{1, 2, 2, n + 2}, 2}}; }

// What max and average have in common.
template <int D, class Call>
std::vector<testing::ErrorSample> pool_errors(const std::string& op, Call call) {
  Shape x{2};
  for (int d = 0; d < D; ++d) x.push_back(5);
  const auto of = [&](int axis, int64_t n) {
    Shape s = x;
    s[axis] = n;
    return s;
  };
  Shape deep = x;
  deep.push_back(5);
  deep.push_back(5);
  return {
      error_sample<ShapeError>("rank", {normal(deep)}, call(2, 0, 0),
                               absl::StrCat(op, ": x is ", deep.str(), "; it must have rank ",
                                            D + 1, ", or ", D + 2, " with a batch")),
      error_sample<ShapeError>("no elements", {normal(of(D, 0))}, call(1, 0, 0),
                               "size(-1)=0 must be in [1, "),
      error_sample<ShapeError>("no channels", {normal(of(0, 0))}, call(1, 0, 0),
                               absl::StrCat("size(", -D - 1, ")=0 must be in [1, ")),
      error_sample<ShapeError>("window too large", {normal(x)}, call(8, 0, 1),
                               "a window spans 8 of 5 + 2 elements"),
      error_sample<ValueError>("window", {normal(x)}, call(0, 1, 0),
                               "the kernel is 0; it must be in [1, "),
      error_sample<ValueError>("stride", {normal(x)}, call(2, -1, 0),
                               "the stride is -1; it must be in [1, "),
      error_sample<ValueError>("padding", {normal(x)}, call(3, 1, 2),
                               "the padding is 2; it must be in [0, 1], at most half of a window"),
      error_sample<ValueError>("absurd window", {normal(x)}, call(INT64_MAX, 1, INT64_MAX / 2),
                               absl::StrCat("the kernel is ", INT64_MAX)),
      error_sample<DTypeError>("integers", {testing::integers(x, 0, 3)}, call(2, 0, 0),
                               op + ": input 0 is int64" + x.str()),
  };
}

// The pooled numbers differ, so that differences tell the gradient.
template <int D>
OpSamples max_samples(const std::vector<MaxCase<D>>& cases,
                      std::vector<MaxCase<D>> (*sized)(int64_t)) {
  OpSamples s{.op = absl::StrCat("max_pool", D, "d")};
  const auto make = [](const MaxCase<D>& c) {
    const RefPool r = ref_pool(c.kernel, c.options);
    return Sample{.name = name_of(c),
                  .inputs = {testing::distinct(c.x)},
                  .call = [c](const Tensor& x) { return max_pool(x, c.kernel, c.options); },
                  .reference = [r](const RefArray& x) { return ref_max(r, x)[0]; }};
  };
  for (const auto& c : cases) s.samples.push_back(make(c));
  s.sized = [=](int64_t n) {
    std::vector<Sample> all;
    for (const auto& c : sized(n)) all.push_back(make(c));
    return all;
  };
  s.errors = pool_errors<D>(s.op, [](int64_t k, int64_t stride, int64_t padding) {
    return [=](const Tensor& x) {
      return max_pool(x, PerAxis<D>(k), {.stride = stride, .padding = padding});
    };
  });
  Shape one{2};
  for (int d = 0; d < D; ++d) one.push_back(1);
  s.errors.push_back(error_sample<ValueError>(
      "nothing but padding", {normal(one)},
      [](const Tensor& x) {
        return max_pool(x, PerAxis<D>(2), {.stride = 1, .padding = 1, .dilation = 2});
      },
      "there is a window that sees nothing but padding"));
  s.no_scalar = "there is a channel axis";
  return s;
}

template <int D>
OpSamples max_with_indices_samples(const std::vector<MaxCase<D>>& cases,
                                   std::vector<MaxCase<D>> (*sized)(int64_t)) {
  OpSamples s{.op = absl::StrCat("max_pool", D, "d_with_indices")};
  const auto make = [](const MaxCase<D>& c) {
    const RefPool r = ref_pool(c.kernel, c.options);
    return Sample{.name = name_of(c),
                  .inputs = {testing::distinct(c.x)},
                  .call =
                      [c](const Tensor& x) {
                        const ValuesIndices v = with_indices(x, c.kernel, c.options);
                        return std::vector<Tensor>{v.values, v.indices};
                      },
                  .reference = [r](const RefArray& x) { return ref_max(r, x); }};
  };
  for (const auto& c : cases) s.samples.push_back(make(c));
  s.sized = [=](int64_t n) {
    std::vector<Sample> all;
    for (const auto& c : sized(n)) all.push_back(make(c));
    return all;
  };
  s.sizes = {0, 1, 2, 5, 17, 65};
  s.errors = pool_errors<D>(s.op, [](int64_t k, int64_t stride, int64_t padding) {
    return [=](const Tensor& x) {
      return with_indices(x, PerAxis<D>(k), {.stride = stride, .padding = padding}).values;
    };
  });
  s.no_scalar = "there is a channel axis";
  return s;
}

const RegisterSamples kMaxPool1d{"max_pool1d", [] { return max_samples(kMax1, &sized_max1); }};
const RegisterSamples kMaxPool2d{"max_pool2d", [] { return max_samples(kMax2, &sized_max2); }};
const RegisterSamples kMaxPool3d{"max_pool3d", [] { return max_samples(kMax3, &sized_max3); }};
const RegisterSamples kMaxPool1dWithIndices{
    "max_pool1d_with_indices", [] { return max_with_indices_samples(kMax1, &sized_max1); }};
const RegisterSamples kMaxPool2dWithIndices{
    "max_pool2d_with_indices", [] { return max_with_indices_samples(kMax2, &sized_max2); }};
const RegisterSamples kMaxPool3dWithIndices{
    "max_pool3d_with_indices", [] { return max_with_indices_samples(kMax3, &sized_max3); }};

template <int D>
OpSamples avg_samples(const std::vector<AvgCase<D>>& cases,
                      std::function<std::vector<AvgCase<D>>(int64_t)> sized) {
  OpSamples s{.op = absl::StrCat("avg_pool", D, "d")};
  const auto make = [](const AvgCase<D>& c) {
    const RefPool r = ref_pool(c.kernel, c.options);
    return Sample{.name = name_of(c),
                  .inputs = {normal(c.x)},
                  .call = [c](const Tensor& x) { return avg_pool(x, c.kernel, c.options); },
                  .reference = [r](const RefArray& x) { return ref_avg(r, x); }};
  };
  for (const auto& c : cases) s.samples.push_back(make(c));
  s.sized = [=](int64_t n) {
    std::vector<Sample> all;
    for (const auto& c : sized(n)) all.push_back(make(c));
    return all;
  };
  s.errors = pool_errors<D>(s.op, [](int64_t k, int64_t stride, int64_t padding) {
    return [=](const Tensor& x) {
      return avg_pool(x, PerAxis<D>(k), {.stride = stride, .padding = padding});
    };
  });
  Shape x{2};
  for (int d = 0; d < D; ++d) x.push_back(4);
  s.errors.push_back(error_sample<ValueError>(
      "divisor", {normal(x)},
      [](const Tensor& t) { return avg_pool(t, PerAxis<D>(2), {.divisor_override = 0}); },
      "divisor_override is 0"));
  s.no_scalar = "there is a channel axis";
  return s;
}

const std::vector<AvgCase<1>> kAvg1 = {
    {{2, 6}, 2},
    {{2, 2, 5}, 3, {.stride = 1, .padding = 1}},
    {{1, 7}, 3, {.stride = 2, .padding = 1, .ceil_mode = true, .count_include_pad = false}},
    {{1, 6}, 3, {.stride = 2, .padding = 1, .ceil_mode = true}},
    {{0, 2, 4}, 2}};
const std::vector<AvgCase<2>> kAvg2 = {
    {{2, 4, 6}, 2},
    {{2, 2, 5, 5}, 2},
    {{1, 5, 6}, 3, {.stride = 2, .padding = 1}},
    {{2, 4, 5}, {2, 3}, {.stride = {1, 2}, .padding = {1, 1}, .count_include_pad = false}},
    {{1, 5, 6}, 3, {.stride = 2, .padding = 1, .ceil_mode = true}},
    {{1, 4, 4}, 2, {.divisor_override = 3}},
    {{1, 5, 4}, {3, 4}, {.divisor_override = -2}},
    {{0, 2, 4, 4}, 2}};
const std::vector<AvgCase<3>> kAvg3 = {
    {{2, 2, 4, 4}, 2},
    {{2, 1, 3, 3, 4}, 2, {.stride = 1, .padding = 1, .count_include_pad = false}},
    {{1, 3, 4, 4}, {1, 2, 2}},
    {{1, 3, 3, 5}, {2, 1, 3}, {.stride = 2, .ceil_mode = true}},
    {{0, 1, 2, 2, 2}, 2}};

const RegisterSamples kAvgPool1d{
    "avg_pool1d", [] {
      return avg_samples<1>(kAvg1, [](int64_t n) {
        return std::vector<AvgCase<1>>{{{2, n + 2}, 2}, {{2, n + 1}, n + 1}};
      });
    }};
const RegisterSamples kAvgPool2d{"avg_pool2d", [] {
                                   return avg_samples<2>(kAvg2, [](int64_t n) {
                                     return std::vector<AvgCase<2>>{
                                         {{2, 5, 2 * n + 2}, 2},
                                         {{1, 4, 2 * n + 3}, 2},
                                         {{2, 7, n + 3}, 3, {.stride = 2, .padding = 1}},
                                         {{2, 3, n + 1}, {2, n + 1}}};
                                   });
                                 }};
const RegisterSamples kAvgPool3d{"avg_pool3d", [] {
                                   return avg_samples<3>(kAvg3, [](int64_t n) {
                                     return std::vector<AvgCase<3>>{{{1, 2, 2, n + 2}, 2}};
                                   });
                                 }};

template <int D>
ops::AvgPoolAttrs attrs_of(const AvgCase<D>& c) {
  ops::AvgPoolAttrs a;
  a.dims = D;
  a.ceil_mode = c.options.ceil_mode;
  a.count_include_pad = c.options.count_include_pad;
  a.divisor = c.options.divisor_override.value_or(0);
  ops::set_windows<D>(a, c.kernel, c.options.stride);
  ops::set_axes<D>(a.pad, c.options.padding);
  return a;
}

// The transpose: each g spread over its window.
template <int D>
Sample avg_backward_sample(const AvgCase<D>& c) {
  const RefPool r = ref_pool(c.kernel, c.options);
  return {.name = name_of(c),
          .inputs = {normal(pooled(r, c.x))},
          .call = [c](const Tensor& g) { return avg_pool_backward(attrs_of(c), g, c.x); },
          .reference =
              [r, shape = c.x](const RefArray& g) {
                RefArray dx(shape);
                int64_t plane = 1;
                for (int i = shape.rank() - r.dims; i < shape.rank(); ++i) plane *= shape[i];
                testing::for_each_position(g.shape, [&](const Position& at) {
                  int64_t span;
                  const auto all = seen(r, dx, at, &span);
                  const auto count = static_cast<double>(
                      r.divisor != 0 ? r.divisor
                                     : (r.count_pad ? span : static_cast<int64_t>(all.size())));
                  int64_t p = 0;
                  for (int i = 0; i < shape.rank() - r.dims; ++i) {
                    p = p * shape[i] + at[static_cast<size_t>(i)];
                  }
                  for (const Seen& s : all) {
                    dx.v[static_cast<size_t>(p * plane + s.index)] +=
                        testing::element(g, at) / count;
                  }
                });
                return dx;
              }};
}

const RegisterSamples kAvgPoolBackward{
    "avg_pool_backward", [] {
      OpSamples s{.op = "avg_pool_backward"};
      for (const auto& c : kAvg1) s.samples.push_back(avg_backward_sample(c));
      for (const auto& c : kAvg2) s.samples.push_back(avg_backward_sample(c));
      for (const auto& c : kAvg3) s.samples.push_back(avg_backward_sample(c));
      s.errors = {error_sample<ShapeError>(
          "size", {normal({1, 3, 3})},
          [](const Tensor& g) {
            return avg_pool_backward(attrs_of<2>({{1, 4, 4}, 2}), g, {1, 4, 4});
          },
          "avg_pool_backward: g is [1,3,3], x is [1,4,4], kernel [2,2]")};
      s.no_scalar = "there is a channel axis";
      return s;
    }};

// ---- what the samples do not say
// -----------------------------------------------------------------

TEST(MaxPool, TheFirstOfEqualElementsTakesTheGradient) {
  for (const Shape& shape : {Shape{1, 4, 4}, Shape{1, 4, 36}}) {
    const Tensor x = variable(full(shape, 2.0));
    const auto g = grad(max_pool2d(x, 2).sum(), x).to_vector<double>();
    for (int64_t i = 0; i < shape[1]; ++i) {
      for (int64_t j = 0; j < shape[2]; ++j) {
        EXPECT_EQ(g[static_cast<size_t>(i * shape[2] + j)], i % 2 == 0 && j % 2 == 0 ? 1 : 0);
      }
    }
  }
}

TEST(MaxPool, NanIsTheLargestAndTakesTheGradient) {
  const double nan = std::nan("");
  for (const int64_t width : {4, 40}) {
    for (const MaxPoolOptions<2>& o :
         {MaxPoolOptions<2>{}, MaxPoolOptions<2>{.stride = {2, 2}, .padding = 1}}) {
      std::vector<double> v(static_cast<size_t>(4 * width), 1.0);
      v[static_cast<size_t>(width + 2)] = nan;
      const Tensor x = variable(testing::tensor({1, 4, width}, v));
      const auto [y, index] = max_pool2d_with_indices(x, 2, o);
      const auto values = max_pool2d(x, 2, o).to_vector<double>();
      const auto indices = index.to_vector<int64_t>();
      int found = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        EXPECT_EQ(std::isnan(values[i]), indices[i] == width + 2) << i;
        found += std::isnan(values[i]) ? 1 : 0;
      }
      EXPECT_EQ(found, 1);
      const auto g = grad(max_pool2d(x, 2, o).sum(), x).to_vector<double>();
      EXPECT_EQ(g[static_cast<size_t>(width + 2)], 1);
    }
  }
}

TEST(MaxPool, OfNothingButMinusInfinityIsThat) {
  const double inf = std::numeric_limits<double>::infinity();
  const Tensor x = variable(full({1, 3, 3}, -inf));
  const Tensor y = max_pool2d(x, 2, {.stride = 1, .padding = 1});
  for (const double v : y.to_vector<double>()) EXPECT_EQ(v, -inf);
  const auto indices = max_pool2d_with_indices(x, 3).indices.to_vector<int64_t>();
  EXPECT_EQ(indices, (std::vector<int64_t>{0}));
}

}  // namespace
}  // namespace ebb
