// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/join.h"

#include <numeric>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "moving.h"

// Joining tensors and taking them apart.
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
using testing::Sample;
using testing::sample;

RefArray ref_cat(Span<const RefArray> x, int axis) {
  Shape shape = x[0].shape;
  shape[axis] = 0;
  for (const RefArray& a : x) shape[axis] += a.shape[axis];
  return ref_of(shape, [&](Position at) {
    auto& i = at[static_cast<size_t>(axis)];
    size_t k = 0;
    while (i >= x[k].shape[axis]) i -= x[k++].shape[axis];
    return element(x[k], at);
  });
}

// `count` elements of an axis from `start` on.
RefArray ref_run(const RefArray& x, int axis, int64_t start, int64_t count) {
  Shape shape = x.shape;
  shape[axis] = count;
  return ref_of(shape, [&](Position at) {
    at[static_cast<size_t>(axis)] += start;
    return element(x, at);
  });
}

std::vector<RefArray> ref_split(const RefArray& x, int axis, const std::vector<int64_t>& sizes) {
  std::vector<RefArray> out;
  int64_t at = 0;
  for (const int64_t n : sizes) {
    out.push_back(ref_run(x, axis, at, n));
    at += n;
  }
  return out;
}

RefArray without_axis(const RefArray& x, int axis) {
  Shape shape;
  for (int i = 0; i < x.shape.rank(); ++i) {
    if (i != axis) shape.push_back(x.shape[i]);
  }
  return RefArray(shape, x.v);
}

RefArray with_axis(const RefArray& x, int axis) {
  Shape shape;
  for (int i = 0; i <= x.shape.rank(); ++i) {
    if (i == axis) shape.push_back(1);
    if (i < x.shape.rank()) shape.push_back(x.shape[i]);
  }
  return RefArray(shape, x.v);
}

const RegisterSamples kCat{
    "cat", [] {
      OpSamples s{.op = "cat", .no_scalar = "a scalar has no axis to join along"};
      const auto add = [&](const std::vector<Shape>& shapes, int64_t axis) {
        std::vector<Tensor> in;
        for (const Shape& shape : shapes) in.push_back(normal(shape));
        s.samples.push_back(sample(
            absl::StrCat(shapes[0].str(), " ", shapes.size(), " ", axis), in,
            [axis](Span<const Tensor> x) { return cat(x, axis); },
            [axis](Span<const RefArray> x) {
              return ref_cat(x, static_cast<int>(testing::wrapped(axis, x[0].shape.rank())));
            }));
      };
      add({{3}, {2}, {4}}, 0);
      add({{2, 3}, {1, 3}}, 0);
      add({{2, 3}, {2, 1}, {2, 0}, {2, 2}}, 1);
      add({{2, 1, 3}, {2, 2, 3}}, -2);
      add({{2, 3, 1}, {2, 3, 4}}, -1);
      add({{2, 2}}, 0);
      add({{0, 2}, {0, 3}}, 1);
      const auto call = [](int64_t axis) {
        return [axis](Span<const Tensor> x) { return cat(x, axis); };
      };
      s.errors = {
          error_sample<ShapeError>(
              "sizes", {normal({2, 3}), normal({2, 3}), normal({3, 3})}, call(1),
              "cat: tensor 0 is [2,3], tensor 2 is [3,3]; all sizes but that of "
              "the axis must be equal"),
          error_sample<ShapeError>("rank", {normal({2, 3}), normal({3})}, call(0),
                                   "cat: tensor 0 is [2,3], tensor 1 is [3]"),
          error_sample<ShapeError>("scalars", {testing::scalar(1), testing::scalar(2)}, call(0),
                                   "scalars have no axis to join along: stack them"),
          error_sample<ValueError>("none", {}, call(0), "cat: there is no tensor to join"),
          error_sample<ValueError>("undefined", {normal({2}), Tensor()}, call(0),
                                   "cat: tensor 1 is undefined"),
          error_sample<IndexError>("axis", {normal({2})}, call(1),
                                   "cat: axis 1 is outside [-1, 1)"),
      };
      s.sizes = {1, 2, 9, 64, 1025};
      s.sized = [](int64_t n) {
        std::vector<Sample> out;
        for (const int axis : {0, 1}) {
          out.push_back(sample(
              absl::StrCat(n, " axis ", axis), {normal({3, n}), normal({3, n})},
              [axis](Span<const Tensor> x) { return cat(x, axis); },
              [axis](Span<const RefArray> x) { return ref_cat(x, axis); }));
        }
        return out;
      };
      return s;
    }};

const RegisterSamples kStack{
    "stack", [] {
      OpSamples s{.op = "stack"};
      const auto add = [&](const Shape& shape, size_t n, int64_t axis) {
        std::vector<Tensor> in;
        for (size_t i = 0; i < n; ++i) in.push_back(normal(shape));
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", n, " ", axis), in,
            [axis](Span<const Tensor> x) { return stack(x, axis); },
            [axis](Span<const RefArray> x) {
              const auto at = static_cast<int>(testing::wrapped(axis, x[0].shape.rank() + 1));
              std::vector<RefArray> with;
              for (const RefArray& a : x) with.push_back(with_axis(a, at));
              return ref_cat(with, at);
            }));
      };
      add({3}, 2, 0);
      add({3}, 4, 1);
      add({2, 3}, 3, 1);
      add({2, 3}, 2, -1);
      add({2, 3}, 2, -3);
      add({}, 3, 0);
      add({}, 1, -1);
      add({0, 2}, 2, 1);
      const auto call = [](Span<const Tensor> x) { return stack(x, 0); };
      s.errors = {
          error_sample<ShapeError>(
              "shapes", {normal({2, 3}), normal({3, 2})}, call,
              "stack: tensor 0 is [2,3], tensor 1 is [3,2]; the shapes must be "
              "equal"),
          error_sample<ValueError>("none", {}, call, "stack: there is no tensor to join"),
          error_sample<ShapeError>("rank", {normal({1, 1, 1, 1, 1, 1, 1, 1})}, call,
                                   "that is the largest rank"),
          error_sample<IndexError>(
              "axis", {normal({2})},
              [](const Tensor& x) {
                return stack({x, x}, 2);
              },
              "stack: axis 2 is outside [-2, 2)"),
      };
      return s;
    }};

std::vector<Tensor> list_of(const TensorList& t) { return {t.begin(), t.end()}; }

const RegisterSamples kSplit{
    "split", [] {
      OpSamples s{.op = "split", .no_scalar = "a scalar has no axis"};
      const auto by_size = [&](const Shape& shape, int64_t size, int axis,
                               const std::vector<int64_t>& sizes) {
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", size, " ", axis), {normal(shape)},
            [=](const Tensor& x) { return list_of(split(x, size, axis)); },
            [=](const RefArray& x) { return ref_split(x, axis, sizes); }));
      };
      by_size({7, 2}, 3, 0, {3, 3, 1});
      by_size({2, 6}, 2, 1, {2, 2, 2});
      by_size({5}, 9, 0, {5});
      by_size({0, 2}, 3, 0, {0});
      by_size({2, 0}, 1, 0, {1, 1});
      const auto by_sizes = [&](const Shape& shape, const std::vector<int64_t>& sizes, int axis) {
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", sizes.size(), " sizes ", axis), {normal(shape)},
            [=](const Tensor& x) { return list_of(split(x, sizes, axis)); },
            [=](const RefArray& x) { return ref_split(x, axis, sizes); }));
      };
      by_sizes({6, 2}, {1, 3, 2}, 0);
      by_sizes({2, 6, 2}, {0, 5, 1, 0}, 1);
      by_sizes({3}, {3}, 0);
      const auto call = [](const std::vector<int64_t>& sizes) {
        return [sizes](const Tensor& x) { return split(x, sizes, 1)[0]; };
      };
      const Tensor x = normal({2, 6});
      s.errors = {
          error_sample<ShapeError>(
              "sum", {x}, call({2, 3}),
              "split: x is [2,6]; the sizes {2,3} must add up to that of axis 1"),
          error_sample<ShapeError>("negative", {x}, call({7, -1}), "the sizes {7,-1} must add up"),
          error_sample<ShapeError>("no sizes", {x}, call({}), "the sizes {} must add up"),
          error_sample<ValueError>(
              "size", {x}, [](const Tensor& t) { return split(t, 0)[0]; },
              "split: the size is 0; it must be positive"),
          error_sample<IndexError>(
              "scalar", {testing::scalar(1)}, [](const Tensor& t) { return split(t, 1)[0]; },
              "split: x is a scalar"),
          error_sample<ValueError>(
              "too many", {normal({65536})}, [](const Tensor& t) { return split(t, 1)[0]; },
              "split: x is [65536]; 65536 pieces are more than 65535"),
      };
      return s;
    }};

const RegisterSamples kChunk{
    "chunk", [] {
      OpSamples s{.op = "chunk", .no_scalar = "a scalar has no axis"};
      const auto add = [&](const Shape& shape, int64_t chunks, int axis,
                           const std::vector<int64_t>& sizes) {
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", chunks, " ", axis), {normal(shape)},
            [=](const Tensor& x) { return list_of(chunk(x, chunks, axis)); },
            [=](const RefArray& x) { return ref_split(x, axis, sizes); }));
      };
      add({6, 2}, 3, 0, {2, 2, 2});
      add({2, 7}, 3, 1, {3, 3, 1});
      add({5}, 4, 0, {2, 2, 1});
      add({2}, 5, 0, {1, 1});
      add({0}, 2, 0, {0, 0});
      s.samples.push_back(sample(
          "by name", {normal({8})},
          [](const Tensor& x) {
            auto [a, b, c, d] = chunk<4>(x);
            return std::vector<Tensor>{a, b, c, d};
          },
          [](const RefArray& x) {
            return ref_split(x, 0, {2, 2, 2, 2});
          }));
      s.errors = {
          error_sample<ValueError>(
              "chunks", {normal({4})}, [](const Tensor& x) { return chunk(x, 0)[0]; },
              "chunk: 0 chunks; there must be one at least"),
          error_sample<ShapeError>(
              "by name", {normal({2, 6})}, [](const Tensor& x) { return chunk<4>(x, -1)[0]; },
              "chunk: x is [2,6], which has no 4 equal parts along axis 1"),
          error_sample<IndexError>(
              "scalar", {testing::scalar(1)}, [](const Tensor& x) { return chunk(x, 1)[0]; },
              "chunk: x is a scalar"),
          error_sample<IndexError>(
              "axis", {normal({2})}, [](const Tensor& x) { return chunk(x, 1, 1)[0]; },
              "chunk: axis 1 is outside [-1, 1)"),
      };
      return s;
    }};

const RegisterSamples kUnbind{
    "unbind", [] {
      OpSamples s{.op = "unbind", .no_scalar = "a scalar has no axis"};
      const auto add = [&](const Shape& shape, int64_t axis) {
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", axis), {normal(shape)},
            [=](const Tensor& x) { return list_of(unbind(x, axis)); },
            [=](const RefArray& x) {
              const auto at = static_cast<int>(testing::wrapped(axis, shape.rank()));
              std::vector<RefArray> out;
              for (int64_t i = 0; i < shape[at]; ++i) {
                out.push_back(without_axis(ref_run(x, at, i, 1), at));
              }
              return out;
            }));
      };
      add({3, 2}, 0);
      add({3, 2}, -1);
      add({2, 4, 3}, 1);
      add({4}, 0);
      add({2, 0}, 0);
      s.errors = {
          error_sample<IndexError>(
              "scalar", {testing::scalar(1)}, [](const Tensor& x) { return unbind(x)[0]; },
              "unbind: x is a scalar"),
          error_sample<ValueError>(
              "too many", {normal({65536})}, [](const Tensor& x) { return unbind(x)[0]; },
              "unbind: x is [65536]; 65536 pieces are more than 65535"),
      };
      return s;
    }};

// 64 inputs and more share a bit of what their node saves.
TEST(Join, ThousandInputs) {
  constexpr int64_t kCount = 1000;
  std::vector<Tensor> in;
  for (int64_t i = 0; i < kCount; ++i) {
    const Tensor x = counting({i % 3 + 1, 2});
    in.push_back(i % 7 == 3 ? x : variable(x));
  }
  const Tensor y = cat(in);
  EXPECT_EQ(y.size(0), 1999);
  const Tensor weight = counting(y.shape());
  for (const bool graph : {false, true}) {
    std::vector<Tensor> wanted;
    for (const Tensor& x : in) {
      if (x.requires_grad()) wanted.push_back(x);
    }
    const std::vector<Tensor> outputs{(y * weight).sum()};
    const auto grads = grad(outputs, wanted, {.create_graph = graph, .retain_graph = true});
    int64_t row = 0;
    size_t k = 0;
    for (const Tensor& x : in) {
      if (x.requires_grad()) {
        ASSERT_EQ(grads[k].shape(), x.shape());
        EXPECT_EQ(grads[k].to_vector<double>(),
                  weight.slice(0, row, row + x.size(0)).to_vector<double>());
        ++k;
      }
      row += x.size(0);
    }
  }
  const Tensor z = stack(std::vector<Tensor>(kCount, in[0]), 1);
  EXPECT_EQ(z.shape(), (Shape{1, kCount, 2}));
  in[0].zero_grad();
  z.sum().backward();
  EXPECT_EQ(in[0].grad().to_vector<double>(), (std::vector<double>{kCount, kCount}));
}

TEST(Join, PiecesAreViews) {
  const Tensor x = counting({4, 6});
  for (const Tensor& y : split(x, 4, 1)) EXPECT_TRUE(testing::is_view_of(y, x));
  for (const Tensor& y : chunk(x, 2)) EXPECT_TRUE(testing::is_view_of(y, x));
  for (const Tensor& y : unbind(x)) EXPECT_TRUE(testing::is_view_of(y, x));
  EXPECT_EQ(split(x, {1, 3}, 0)[1].to_vector<double>(), x.slice(0, 1).to_vector<double>());
}

TEST(Join, AllTypes) {
  const Tensor x = counting({2, 6});
  testing::expect_same_in_all_types(x, [](const Tensor& t) {
    return cat({t, flip(t), t.slice(1, 0, 2)}, 1);
  });
  testing::expect_same_in_all_types(x, [](const Tensor& t) { return stack({t, flip(t)}, 1); });
  testing::expect_same_in_all_types(x, [](const Tensor& t) { return split(t, {2, 4}, 1)[1]; });
  testing::expect_same_in_all_types(x, [](const Tensor& t) { return chunk(t, 2)[1]; });
  testing::expect_same_in_all_types(x, [](const Tensor& t) { return unbind(t, 1)[4]; });
}

TEST(Join, TypesAreConvertedToTheWidest) {
  const Tensor i = testing::indices({1, 2});
  const Tensor f = cast(testing::tensor({1}, {0.5}), kFloat32);
  const Tensor y = cat({i, f});
  EXPECT_EQ(y.dtype(), kFloat32);
  EXPECT_EQ(y.to_vector<double>(), (std::vector<double>{1, 2, 0.5}));
  EXPECT_EQ(stack({f, testing::tensor({1}, {2})}).dtype(), kFloat64);
  const Tensor v = variable(f);
  cat({i, v, testing::tensor({1}, {2})}).sum().backward();
  EXPECT_EQ(v.grad().dtype(), kFloat32);
  EXPECT_EQ(v.grad().item(), 1);
}

// A loop over a sequence is one node, whose gradient is put together once.
TEST(Join, UnbindIsOneNode) {
  const Tensor x = variable(counting({50, 3}));
  Tensor sum = testing::tensor({3}, {0, 0, 0});
  const TensorList rows = unbind(x);
  for (const Tensor& row : rows) {
    EXPECT_EQ(row.edge().node(), rows[0].edge().node());
    sum = sum + row * row;
  }
  sum.sum().backward();
  EXPECT_EQ(x.grad().to_vector<double>(), (x * 2).to_vector<double>());
}

}  // namespace
}  // namespace ebb
