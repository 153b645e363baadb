// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/shape.h"

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/reduce.h"
#include "moving.h"

namespace ebb {
namespace {

using testing::counting;
using testing::element;
using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::Position;
using testing::ref_of;
using testing::RefArray;
using testing::RegisterSamples;
using testing::sample;

testing::Reference reshaped_to(const Shape& shape) {
  return [shape](const RefArray& x) { return RefArray(shape, x.v); };
}

const RegisterSamples kReshape{
    "reshape", [] {
      OpSamples s{.op = "reshape"};
      const struct {
        Shape from, to, result;
      } cases[] = {{{3, 4}, {12}, {12}},
                   {{3, 4}, {2, -1}, {2, 6}},
                   {{}, {1, 1}, {1, 1}},
                   {{1}, {}, {}},
                   {{0, 3}, {3, 0, 2}, {3, 0, 2}},
                   {{2, 3, 4}, {4, 3, 2}, {4, 3, 2}},
                   {{2, 1, 6}, {-1, 3, 1, 2}, {2, 3, 1, 2}},
                   {{5}, {5}, {5}}};
      for (const auto& c : cases) {
        s.samples.push_back(sample(
            absl::StrCat(c.from.str(), " ", c.to.str()), {normal(c.from)},
            [to = c.to](const Tensor& x) { return x.reshape(to); }, reshaped_to(c.result)));
      }
      const auto call = [](const Shape& to) {
        return [to](const Tensor& x) { return reshape(x, to); };
      };
      const Tensor x = normal({3, 4});
      s.errors = {
          error_sample<ShapeError>("count", {x}, call({5, 2}),
                                   "reshape: x is [3,4] with 12 elements, which do not fill [5,2]"),
          error_sample<ShapeError>("remainder", {x}, call({5, -1}), "do not fill [5,-1]"),
          error_sample<ShapeError>("two free", {x}, call({-1, -1}),
                                   "[-1,-1] has more than one size to work out"),
          error_sample<ShapeError>("negative", {x}, call({-2, 6}), "or a negative one"),
          error_sample<ShapeError>("free of nothing", {normal({0, 3})}, call({0, -1}),
                                   "do not fill [0,-1]"),
          error_sample<ShapeError>("overflow", {x}, call({int64_t{1} << 40, int64_t{1} << 40}),
                                   "do not fill"),
      };
      return s;
    }};

const RegisterSamples kFlatten{
    "flatten", [] {
      OpSamples s{.op = "flatten"};
      const struct {
        Shape from;
        int64_t first, last;
        Shape result;
      } cases[] = {
          {{3, 4}, 0, -1, {12}},        {{}, 0, -1, {1}},       {{2, 3, 4, 2}, 1, 2, {2, 12, 2}},
          {{2, 3, 4}, -2, -1, {2, 12}}, {{2, 3}, 1, 1, {2, 3}}, {{2, 0, 3}, 0, 1, {0, 3}}};
      for (const auto& c : cases) {
        s.samples.push_back(sample(
            absl::StrCat(c.from.str(), " ", c.first, " ", c.last), {normal(c.from)},
            [c](const Tensor& x) { return x.flatten(c.first, c.last); }, reshaped_to(c.result)));
      }
      s.errors = {
          error_sample<IndexError>(
              "order", {normal({2, 3, 4})}, [](const Tensor& x) { return flatten(x, 2, 1); },
              "flatten: start axis 2 comes after end axis 1 of x [2,3,4]"),
          error_sample<IndexError>(
              "axis", {normal({2, 3})}, [](const Tensor& x) { return flatten(x, 0, 2); },
              "flatten: axis 2 is outside [-2, 2)")};
      return s;
    }};

// y[at] = x[at with the axes put back where they came from]
testing::Reference permuted(const std::vector<int64_t>& order) {
  return [order](const RefArray& x) {
    Shape shape = x.shape;
    for (size_t i = 0; i < order.size(); ++i) {
      shape[static_cast<int>(i)] = x.shape[static_cast<int>(order[i])];
    }
    return ref_of(shape, [&](const Position& at) {
      Position from(at.size());
      for (size_t i = 0; i < order.size(); ++i) from[static_cast<size_t>(order[i])] = at[i];
      return element(x, from);
    });
  };
}

const RegisterSamples kPermute{
    "permute", [] {
      OpSamples s{.op = "permute"};
      const auto add = [&](const Shape& shape, Axes axes, const std::vector<int64_t>& order) {
        s.samples.push_back(sample(
            shape.str(), {normal(shape)}, [axes](const Tensor& x) { return x.permute(axes); },
            permuted(order)));
      };
      add({3, 4}, {1, 0}, {1, 0});
      add({2, 3, 4}, {2, 0, 1}, {2, 0, 1});
      add({2, 3, 4}, {-1, 0, -2}, {2, 0, 1});
      add({}, {}, {});
      add({5}, {0}, {0});
      add({2, 0, 3}, {1, 2, 0}, {1, 2, 0});
      s.errors = {error_sample<ShapeError>(
                      "too few", {normal({2, 3, 4})},
                      [](const Tensor& x) {
                        return permute(x, {0, 1});
                      },
                      "permute: x is [2,3,4], 2 axes are named"),
                  error_sample<ValueError>(
                      "twice", {normal({2, 3})},
                      [](const Tensor& x) {
                        return permute(x, {0, -2});
                      },
                      "permute: axis -2 is named twice"),
                  error_sample<IndexError>(
                      "range", {normal({2, 3})},
                      [](const Tensor& x) {
                        return permute(x, {0, 2});
                      },
                      "permute: axis 2 is outside [-2, 2)")};
      return s;
    }};

const RegisterSamples kTranspose{
    "transpose", [] {
      OpSamples s{.op = "transpose"};
      const auto add = [&](const Shape& shape, int64_t a, int64_t b,
                           const std::vector<int64_t>& order) {
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", a, " ", b), {normal(shape)},
            [a, b](const Tensor& x) { return x.transpose(a, b); }, permuted(order)));
      };
      add({3, 4}, 0, 1, {1, 0});
      add({3, 4}, 1, 1, {0, 1});
      add({2, 3, 4}, -1, 0, {2, 1, 0});
      add({2, 3, 1, 2}, 1, 3, {0, 3, 2, 1});
      add({}, 0, -1, {});
      add({4, 0}, 0, 1, {1, 0});
      s.samples.push_back(sample(
          "t", {normal({2, 5})}, [](const Tensor& x) { return x.t(); }, permuted({1, 0})));
      s.errors = {error_sample<IndexError>(
                      "axis", {normal({2, 3})}, [](const Tensor& x) { return transpose(x, 0, -3); },
                      "transpose: axis -3 is outside [-2, 2)"),
                  error_sample<ShapeError>(
                      "t of a cube", {normal({2, 3, 4})}, [](const Tensor& x) { return t(x); },
                      "t: x is [2,3,4], not a matrix")};
      return s;
    }};

const RegisterSamples kExpand{
    "expand", [] {
      OpSamples s{.op = "expand"};
      const struct {
        Shape from, to, result;
      } cases[] = {{{3, 1}, {3, 4}, {3, 4}},
                   {{4}, {2, 3, -1}, {2, 3, 4}},
                   {{}, {2, 3}, {2, 3}},
                   {{1, 3}, {-1, 3}, {1, 3}},
                   {{1}, {0}, {0}},
                   {{0, 1}, {0, 4}, {0, 4}},
                   {{2, 1, 3, 1}, {2, 2, 3, 2}, {2, 2, 3, 2}}};
      for (const auto& c : cases) {
        s.samples.push_back(sample(
            absl::StrCat(c.from.str(), " ", c.to.str()), {normal(c.from)},
            [to = c.to](const Tensor& x) { return x.expand(to); },
            [to = c.result](const RefArray& x) {
              const auto lead = static_cast<size_t>(to.rank() - x.shape.rank());
              return ref_of(to, [&](const Position& at) {
                Position from(at.begin() + static_cast<ptrdiff_t>(lead), at.end());
                for (size_t i = 0; i < from.size(); ++i) {
                  if (x.shape[static_cast<int>(i)] == 1) from[i] = 0;
                }
                return element(x, from);
              });
            }));
      }
      const auto call = [](const Shape& to) {
        return [to](const Tensor& x) { return expand(x, to); };
      };
      s.errors = {
          error_sample<ShapeError>("size", {normal({3, 2})}, call({3, 4}),
                                   "expand: x is [3,2], which does not repeat to [3,4]"),
          error_sample<ShapeError>("rank", {normal({3, 1})}, call({4}), "does not repeat to [4]"),
          error_sample<ShapeError>("unknown", {normal({3})}, call({-1, 3}), "to [-1,3]"),
          error_sample<ShapeError>("negative", {normal({1})}, call({-2}), "to [-2]"),
      };
      return s;
    }};

const RegisterSamples kSqueeze{
    "squeeze", [] {
      OpSamples s{.op = "squeeze"};
      const auto add = [&](const Shape& from, Axes axes, const Shape& result) {
        s.samples.push_back(sample(
            absl::StrCat(from.str(), " ", axes.size()), {normal(from)},
            [axes](const Tensor& x) { return x.squeeze(axes); }, reshaped_to(result)));
      };
      add({1, 3, 1, 4}, {}, {3, 4});
      add({1, 3, 1, 4}, 2, {1, 3, 4});
      add({1, 3, 1, 4}, {0, -2}, {3, 4});
      add({1, 3, 1, 4}, 1, {1, 3, 1, 4});
      add({1}, 0, {});
      add({}, {}, {});
      add({}, -1, {});
      add({1, 0}, 0, {0});
      s.errors = {error_sample<IndexError>(
          "axis", {normal({1, 3})}, [](const Tensor& x) { return squeeze(x, 2); },
          "squeeze: axis 2 is outside [-2, 2)")};
      return s;
    }};

const RegisterSamples kUnsqueeze{
    "unsqueeze", [] {
      OpSamples s{.op = "unsqueeze"};
      const auto add = [&](const Shape& from, int64_t axis, const Shape& result) {
        s.samples.push_back(sample(
            absl::StrCat(from.str(), " ", axis), {normal(from)},
            [axis](const Tensor& x) { return x.unsqueeze(axis); }, reshaped_to(result)));
      };
      add({3, 4}, 0, {1, 3, 4});
      add({3, 4}, 1, {3, 1, 4});
      add({3, 4}, 2, {3, 4, 1});
      add({3, 4}, -1, {3, 4, 1});
      add({3, 4}, -3, {1, 3, 4});
      add({}, 0, {1});
      add({0}, -1, {0, 1});
      s.errors = {error_sample<IndexError>(
                      "axis", {normal({3, 4})}, [](const Tensor& x) { return unsqueeze(x, 3); },
                      "unsqueeze: axis 3 is outside [-3, 3)"),
                  error_sample<ShapeError>(
                      "rank", {normal({1, 1, 1, 1, 1, 1, 1, 1})},
                      [](const Tensor& x) { return unsqueeze(x, 0); },
                      "unsqueeze: x is [1,1,1,1,1,1,1,1], of the largest rank")};
      return s;
    }};

const RegisterSamples kFlip{
    "flip", [] {
      OpSamples s{.op = "flip"};
      const auto add = [&](const Shape& shape, Axes axes) {
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", axes.size()), {normal(shape)},
            [axes](const Tensor& x) { return flip(x, axes); },
            [axes](const RefArray& x) {
              const uint32_t mask = axes.mask(x.shape.rank(), "test");
              return ref_of(x.shape, [&](Position at) {
                for (size_t i = 0; i < at.size(); ++i) {
                  if ((mask >> i & 1) != 0) at[i] = x.shape[static_cast<int>(i)] - 1 - at[i];
                }
                return element(x, at);
              });
            }));
      };
      add({3, 4}, 0);
      add({3, 4}, {});
      add({2, 3, 4}, {0, -1});
      add({5}, -1);
      add({1, 2}, 0);
      add({}, {});
      add({0, 2}, 0);
      s.errors = {error_sample<IndexError>(
                      "axis", {normal({3})}, [](const Tensor& x) { return flip(x, 1); },
                      "flip: axis 1 is outside [-1, 1)"),
                  error_sample<ValueError>(
                      "twice", {normal({3, 2})},
                      [](const Tensor& x) {
                        return flip(x, {1, 1});
                      },
                      "flip: axis 1 is named twice")};
      return s;
    }};

TEST(Shape, ViewsShareElements) {
  const Tensor x = counting({2, 1, 3});
  for (const Tensor& y :
       {x.reshape({3, 2}), x.flatten(), x.permute({2, 0, 1}), x.transpose(0, 2),
        x.expand({2, 4, 3}), x.squeeze(), x.unsqueeze(1), flip(x), x.flatten().expand({5, 6})}) {
    EXPECT_TRUE(testing::is_view_of(y, x)) << to_string(y);
  }
}

// reshape() is a view wherever strides can be found, and right where they cannot.
TEST(Shape, ReshapeOfViews) {
  const Tensor x = counting({4, 6, 5});
  const struct {
    Tensor from;
    Shape to;
    bool view;
  } cases[] = {
      {slice(x, 1, 0, 3), {4, 15}, true},
      {slice(x, 1, 0, 3), {2, 2, 3, 5, 1}, true},
      {slice(x, 1, 0, 3), {12, 5}, false},
      {slice(x, 2, 1, 4), {24, 3}, true},
      {slice(x, 2, 1, 4), {2, 12, 1, 3}, true},
      {slice(x, 2, 1, 4), {72}, false},
      {slice(x, 2, 0, 5, 2), {2, 2, 2, 3, 3}, true},
      {transpose(x, 0, 2), {5, 6, 4, 1}, true},
      {transpose(x, 0, 2), {1, 5, 2, 3, 2, 2}, true},
      {transpose(x, 0, 2), {30, 4}, false},
      {flip(x, {0, 1, 2}), {120}, true},
      {flip(x, 2), {24, 5}, true},
      {flip(x, 2), {120}, false},
      {expand(slice(x, 0, 0, 1), {3, 6, 5}), {3, 30}, true},
      {expand(slice(x, 2, 0, 1), {4, 6, 7}), {24, 7}, true},
      {expand(slice(x, 2, 0, 1), {4, 6, 7}), {168}, false},
      {slice(transpose(x, 0, 2), 1, 2, 3), {5, 4}, true},
  };
  for (const auto& c : cases) {
    const Tensor y = reshape(c.from, c.to);
    EXPECT_EQ(y.shape(), c.to);
    EXPECT_EQ(y.to_vector<double>(), c.from.to_vector<double>())
        << c.from.shape().str() << " to " << c.to.str();
    EXPECT_EQ(testing::is_view_of(y, x), c.view) << c.from.shape().str() << " to " << c.to.str();
  }
}

TEST(Shape, AllTypes) {
  const Tensor x = counting({2, 1, 3});
  using Call = Tensor (*)(const Tensor&);
  constexpr Call kCalls[] = {
      [](const Tensor& v) {
        return reshape(v, {3, 2});
      },
      [](const Tensor& v) { return flatten(transpose(v, 0, 2)); },
      [](const Tensor& v) {
        return permute(v, {2, 0, 1});
      },
      [](const Tensor& v) {
        return expand(v, {2, 2, 3});
      },
      [](const Tensor& v) { return squeeze(v); },
      [](const Tensor& v) { return unsqueeze(v, 0); },
      [](const Tensor& v) { return flip(v); },
  };
  for (const Call call : kCalls) testing::expect_same_in_all_types(x, call);
}

TEST(Shape, VectorsAndScalarsAreTheirOwnTranspose) {
  const Tensor v = counting({3});
  EXPECT_EQ(t(v).value().rep(), v.value().rep());
  EXPECT_EQ(t(testing::scalar(2)).item(), 2);
}

// A weight used transposed on a vector gets a rank-one gradient all the same.
TEST(Shape, TransposesKeepTheStructureOfGradients) {
  const Tensor w = variable(normal({5, 3}));
  const Tensor x = normal({5});
  const auto outer_gradient = [&](const Tensor& transposed) {
    w.zero_grad();
    mv(transposed, x).sum().backward();
    Gradient& g = testing::gradient_at(w);
    EXPECT_EQ(g.outer_parts().size(), 1u);
    EXPECT_FALSE(g.dense_part().defined());
    return w.grad().to_vector<double>();
  };
  std::vector<double> want;
  for (int i = 0; i < 15; ++i) want.push_back(x.to_vector<double>()[static_cast<size_t>(i / 3)]);
  EXPECT_EQ(outer_gradient(t(w)), want);
  EXPECT_EQ(outer_gradient(transpose(w, -1, 0)), want);
  EXPECT_EQ(outer_gradient(permute(w, {1, 0})), want);
  EXPECT_EQ(outer_gradient(transpose(transpose(t(w), 0, 0), 1, 1)), want);
}

TEST(Shape, HugeExpansionsTakeNoRoom) {
  const Tensor x = expand(testing::scalar(3), {int64_t{1} << 20, int64_t{1} << 20});
  EXPECT_EQ(x.numel(), int64_t{1} << 40);
  EXPECT_EQ(x[5][7].item(), 3);
  EXPECT_THROW(expand(testing::scalar(3), {int64_t{1} << 40, int64_t{1} << 40}), MemoryError);
}

}  // namespace
}  // namespace ebb
