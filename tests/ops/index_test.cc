// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/index.h"

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/shape.h"
#include "moving.h"

// Runs of an axis, and whole slices by index.
namespace ebb {
namespace {

using testing::counting;
using testing::element;
using testing::error_sample;
using testing::indices;
using testing::normal;
using testing::OpSamples;
using testing::Position;
using testing::ref_of;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;
using testing::sample;

constexpr int64_t kEnd = INT64_MAX;

// The indices of Python's range(n)[start:stop:step], where kEnd stands for nothing.
std::vector<int64_t> python_slice(int64_t n, int64_t start, int64_t stop, int64_t step) {
  std::vector<int64_t> out;
  const auto from_end = [n](int64_t i) { return i < 0 ? i + n : i; };
  if (step > 0) {
    const int64_t last = stop == kEnd ? n : from_end(stop);
    for (int64_t i = std::max<int64_t>(from_end(start), 0); i < std::min(last, n); i += step) {
      out.push_back(i);
    }
  } else {
    const int64_t last = stop == kEnd ? -1 : std::max<int64_t>(from_end(stop), -1);
    for (int64_t i = std::min(from_end(start), n - 1); i > last; i += step) out.push_back(i);
  }
  return out;
}

RefArray ref_pick(const RefArray& x, int axis, const std::vector<int64_t>& ids) {
  Shape shape = x.shape;
  shape[axis] = static_cast<int64_t>(ids.size());
  return ref_of(shape, [&](Position at) {
    auto& i = at[static_cast<size_t>(axis)];
    i = ids[static_cast<size_t>(i)];
    return element(x, at);
  });
}

struct Run {
  Shape shape;
  int axis;
  int64_t start, stop, step;
  std::string name() const {
    return absl::StrCat(shape.str(), " ", axis, " ", start, ":", stop, ":", step);
  }
};
const Run kRuns[] = {
    {{3, 6}, 1, 1, 4, 1},     {{5, 2}, 0, 0, kEnd, 2},    {{3, 6}, 1, -2, kEnd, 1},
    {{3, 6}, 1, 1, -1, 2},    {{6}, 0, 4, 1, -1},         {{6}, 0, -1, kEnd, -2},
    {{2, 7, 2}, 1, 6, 0, -3}, {{4, 2}, 0, 3, 2, 1},       {{4, 2}, 0, 100, kEnd, 1},
    {{4, 2}, 0, -100, 2, 1},  {{4, 2}, 0, 100, -100, -1}, {{0, 2}, 0, 0, kEnd, 1},
    {{0, 2}, 0, 3, kEnd, -1}, {{3, 0}, 0, 1, 2, 1}};

const RegisterSamples kSlice{
    "slice", [] {
      OpSamples s{.op = "slice", .no_scalar = "a scalar has no axis"};
      for (const Run& r : kRuns) {
        s.samples.push_back(sample(
            r.name(), {normal(r.shape)},
            [r](const Tensor& x) { return x.slice(r.axis, r.start, r.stop, r.step); },
            [r](const RefArray& x) {
              return ref_pick(x, r.axis, python_slice(r.shape[r.axis], r.start, r.stop, r.step));
            }));
      }
      const auto narrowed = [&](const Shape& shape, int64_t axis, int64_t start, int64_t length,
                                const std::vector<int64_t>& ids) {
        s.samples.push_back(sample(
            "narrow", {normal(shape)},
            [=](const Tensor& x) { return x.narrow(axis, start, length); },
            [axis, ids](const RefArray& x) { return ref_pick(x, static_cast<int>(axis), ids); }));
      };
      narrowed({5, 3}, 0, 1, 3, {1, 2, 3});
      narrowed({5, 3}, 1, -2, 2, {1, 2});
      narrowed({5, 3}, 0, 5, 0, {});
      // Long enough for gradients that stay sparse.
      s.samples.push_back(sample(
          "row of many", {normal({256, 5})}, [](const Tensor& x) { return x.slice(0, 7, 3, -2); },
          [](const RefArray& x) {
            return ref_pick(x, 0, {7, 5});
          }));
      s.samples.push_back(sample(
          "columns of many", {normal({5, 256})},
          [](const Tensor& x) { return x.slice(1, 9, 99, 9); },
          [](const RefArray& x) { return ref_pick(x, 1, python_slice(256, 9, 99, 9)); }));
      const Tensor x = normal({3, 4});
      s.errors = {
          error_sample<IndexError>(
              "axis", {x}, [](const Tensor& t) { return slice(t, 2, 0); },
              "slice: axis 2 is outside [-2, 2)"),
          error_sample<ValueError>(
              "step", {x}, [](const Tensor& t) { return slice(t, 0, 0, 1, 0); },
              "slice: the step is 0"),
          error_sample<IndexError>(
              "scalar", {testing::scalar(1)}, [](const Tensor& t) { return slice(t, 0, 0); },
              "slice: x is a scalar"),
          error_sample<IndexError>(
              "narrow", {x}, [](const Tensor& t) { return narrow(t, 1, 2, 3); },
              "narrow: 3 elements from 2 on are not within axis 1 of x [3,4]"),
          error_sample<IndexError>(
              "negative length", {x}, [](const Tensor& t) { return narrow(t, 1, 2, -1); },
              "narrow: -1 elements from 2 on"),
          error_sample<IndexError>(
              "narrow before the start", {x}, [](const Tensor& t) { return narrow(t, 1, -5, 1); },
              "narrow: 1 elements from -5 on"),
          error_sample<IndexError>(
              "narrow a scalar", {testing::scalar(1)},
              [](const Tensor& t) { return narrow(t, 0, 0, 1); }, "narrow: x is a scalar"),
      };
      return s;
    }};

const RegisterSamples kSliceScatter{
    "slice_scatter", [] {
      OpSamples s{.op = "slice_scatter", .no_scalar = "a scalar has no axis"};
      for (const Run& r : kRuns) {
        const auto ids = python_slice(r.shape[r.axis], r.start, r.stop, r.step);
        Shape part = r.shape;
        part[r.axis] = static_cast<int64_t>(ids.size());
        s.samples.push_back(sample(
            r.name(), {normal(r.shape), normal(part)},
            [r](const Tensor& x, const Tensor& src) {
              return slice_scatter(x, src, r.axis, r.start, r.stop, r.step);
            },
            [r, ids](const RefArray& x, const RefArray& src) {
              RefArray y = x;
              testing::for_each_position(src.shape, [&](const Position& at) {
                Position to = at;
                to[static_cast<size_t>(r.axis)] =
                    ids[static_cast<size_t>(at[static_cast<size_t>(r.axis)])];
                element(y, to) = element(src, at);
              });
              return y;
            }));
      }
      s.errors = {
          error_sample<ShapeError>(
              "shape", {normal({3, 4}), normal({2, 4})},
              [](const Tensor& x, const Tensor& src) { return slice_scatter(x, src, 0, 0, 1); },
              "slice_scatter: x is [3,4], src is [2,4]; the slice is [1,4]"),
          error_sample<DTypeError>(
              "type", {normal({3, 4}), testing::integers({1, 4}, 0, 3)},
              [](const Tensor& x, const Tensor& src) { return slice_scatter(x, src, 0, 0, 1); },
              "slice_scatter: input 0 is float64[3,4], input 1 is int64[1,4]"),
      };
      return s;
    }};

const RegisterSamples kSelect{
    "select", [] {
      OpSamples s{.op = "select", .no_scalar = "a scalar has no axis"};
      const auto add = [&](const Shape& shape, int64_t axis, int64_t index) {
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", axis, " ", index), {normal(shape)},
            [=](const Tensor& x) { return x.select(axis, index); },
            [=](const RefArray& x) {
              const auto at = static_cast<int>(testing::wrapped(axis, shape.rank()));
              const RefArray y = ref_pick(x, at, {testing::wrapped(index, shape[at])});
              Shape dropped;
              for (int i = 0; i < shape.rank(); ++i) {
                if (i != at) dropped.push_back(shape[i]);
              }
              return RefArray(dropped, y.v);
            }));
      };
      add({3, 4}, 0, 2);
      add({3, 4}, 1, 0);
      add({3, 4}, -1, -1);
      add({2, 3, 4}, 1, -3);
      add({5}, 0, 3);
      add({3, 0}, 0, 1);
      add({200, 3, 2}, 0, 77);
      add({4, 300}, 1, 299);
      const Tensor x = normal({3, 4});
      s.errors = {
          error_sample<IndexError>(
              "index", {x}, [](const Tensor& t) { return t[3]; },
              "select: index 3 is outside [-3, 3) of axis 0 of x [3,4]"),
          error_sample<IndexError>(
              "negative", {x}, [](const Tensor& t) { return select(t, 1, -5); },
              "select: index -5 is outside [-4, 4) of axis 1"),
          error_sample<IndexError>(
              "axis", {x}, [](const Tensor& t) { return select(t, 2, 0); },
              "select: axis 2 is outside [-2, 2)"),
          error_sample<IndexError>(
              "scalar", {testing::scalar(1)}, [](const Tensor& t) { return t[0]; },
              "select: x is a scalar"),
          error_sample<IndexError>(
              "empty", {normal({0})}, [](const Tensor& t) { return t[0]; },
              "select: index 0 is outside [0, 0)"),
      };
      return s;
    }};

// Indices as a reference sees them, negative ones wrapped.
std::vector<int64_t> list_of(const RefArray& ids, int64_t n) {
  std::vector<int64_t> out;
  for (const double v : ids.v) out.push_back(testing::wrapped(testing::to_int(v), n));
  return out;
}

const RegisterSamples kIndexSelect{
    "index_select", [] {
      OpSamples s{.op = "index_select", .no_scalar = "a scalar has no axis"};
      const auto add = [&](const Shape& shape, int64_t axis, const std::vector<int64_t>& ids) {
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", axis, " ", ids.size()), {normal(shape), indices(ids)},
            [axis](const Tensor& x, const Tensor& i) { return index_select(x, axis, i); },
            [axis](const RefArray& x, const RefArray& i) {
              const auto at = static_cast<int>(testing::wrapped(axis, x.shape.rank()));
              return ref_pick(x, at, list_of(i, x.shape[at]));
            }));
      };
      add({5, 3}, 0, {4, 0, 0, -2, 1});
      add({3, 5}, 1, {4, 0, 0, -2});
      add({2, 3, 4}, 1, {2, 2, 0});
      add({2, 3, 4}, -1, {3, 1, -4});
      add({2, 3, 2, 2}, 2, {1, 0, 1});
      add({6}, 0, {5, 5, 2});
      add({4, 2}, 0, {});
      add({4, 0}, 0, {1, 2});
      const Tensor x = normal({3, 4});
      const auto call = [](const Tensor& t, const Tensor& i) { return index_select(t, 0, i); };
      s.errors = {
          error_sample<IndexError>("index", {x, indices({0, 3})}, call,
                                   "index_select: index 3 is outside [-3, 3) of axis 0 of x [3,4]"),
          error_sample<IndexError>("negative", {x, indices({-4})}, call,
                                   "index -4 is outside [-3, 3)"),
          error_sample<DTypeError>(
              "type", {x, normal({2})}, call,
              "index_select: indices are float64[2]; they must be int64 or int32"),
          error_sample<ShapeError>("rank", {x, testing::integers({1, 2}, 0, 2)}, call,
                                   "index_select: x is [3,4], indices are [1,2]; they must be [k]"),
          error_sample<IndexError>("scalar", {testing::scalar(1), indices({0})}, call,
                                   "index_select: x is a scalar"),
          error_sample<IndexError>(
              "axis", {x, indices({0})},
              [](const Tensor& t, const Tensor& i) { return index_select(t, -3, i); },
              "index_select: axis -3 is outside [-2, 2)"),
      };
      s.sizes = {1, 2, 3, 8, 65, 1025};
      s.sized = [](int64_t n) {
        std::vector<Sample> out;
        for (const int axis : {0, 1}) {
          const Shape shape = axis == 0 ? Shape{7, n} : Shape{n, 7};
          out.push_back(sample(
              absl::StrCat(shape.str(), " axis ", axis), {normal(shape), indices({6, 1, 1, 0, 3})},
              [axis](const Tensor& t, const Tensor& i) { return index_select(t, axis, i); },
              [axis](const RefArray& t, const RefArray& i) {
                return ref_pick(t, axis, list_of(i, 7));
              }));
        }
        return out;
      };
      return s;
    }};

const RegisterSamples kIndexAdd{
    "index_add", [] {
      OpSamples s{.op = "index_add", .no_scalar = "a scalar has no axis"};
      const auto add = [&](const Shape& shape, int64_t axis, const std::vector<int64_t>& ids,
                           double alpha) {
        const auto at = static_cast<int>(testing::wrapped(axis, shape.rank()));
        Shape part = shape;
        part[at] = static_cast<int64_t>(ids.size());
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", axis, " ", ids.size()),
            {normal(shape), indices(ids), normal(part)},
            [=](const Tensor& x, const Tensor& i, const Tensor& src) {
              return index_add(x, axis, i, src, alpha);
            },
            [=](const RefArray& x, const RefArray& i, const RefArray& src) {
              RefArray y = x;
              const auto list = list_of(i, x.shape[at]);
              testing::for_each_position(src.shape, [&](const Position& from) {
                Position to = from;
                to[static_cast<size_t>(at)] =
                    list[static_cast<size_t>(from[static_cast<size_t>(at)])];
                element(y, to) += alpha * element(src, from);
              });
              return y;
            }));
      };
      add({5, 3}, 0, {4, 0, 0, -2, 1}, 1);
      add({3, 5}, 1, {4, 0, 0, -2}, -0.5);
      add({2, 3, 4}, 1, {2, 2, 0}, 2);
      add({6}, 0, {5, 5, 2}, 1);
      add({4, 2}, -2, {}, 1);
      add({2, 40}, 0, {1, 1, 1}, 0.25);
      const Tensor x = normal({3, 4});
      const auto call = [](const Tensor& t, const Tensor& i, const Tensor& src) {
        return index_add(t, 0, i, src);
      };
      s.errors = {
          error_sample<IndexError>("index", {x, indices({3}), normal({1, 4})}, call,
                                   "index_add: index 3 is outside [-3, 3) of axis 0 of x [3,4]"),
          error_sample<ShapeError>("src", {x, indices({1, 2}), normal({1, 4})}, call,
                                   "index_add: x is [3,4], indices are [2], src is [1,4]"),
          error_sample<ShapeError>("rank", {x, testing::integers({1, 1}, 0, 1), normal({1, 4})},
                                   call, "indices are [1,1]"),
          error_sample<DTypeError>("type", {x, indices({1}), testing::integers({1, 4}, 0, 1)}, call,
                                   "index_add: x is float64[3,4], src is int64[1,4]"),
          error_sample<DTypeError>("index type", {x, normal({1}), normal({1, 4})}, call,
                                   "index_add: indices are float64[1]"),
          error_sample<DTypeError>(
              "half", {x, indices({1}), normal({1, 4})},
              [](const Tensor& t, const Tensor& i, const Tensor& src) {
                return index_add(t.detach().to(kFloat16), 0, i, src.detach().to(kFloat16));
              },
              "index_add: x is float16[3,4]"),
          error_sample<IndexError>("scalar", {testing::scalar(1), indices({0}), normal({1})}, call,
                                   "index_add: x is a scalar"),
      };
      return s;
    }};

TEST(Index, ViewsShareElements) {
  const Tensor x = counting({3, 4});
  for (const Tensor& y : {x[1], x[-1][2], x.slice(1, 0, kEnd, 2), x.narrow(0, 1, 1)}) {
    EXPECT_TRUE(testing::is_view_of(y, x)) << to_string(y);
  }
  EXPECT_EQ(x[-1][2].item(), 10);
}

TEST(Index, AllTypes) {
  const Tensor x = counting({3, 4});
  const Tensor ids = indices({2, 0});
  testing::expect_same_in_all_types(x, [](const Tensor& t) { return t.slice(1, 3, kEnd, -2); });
  testing::expect_same_in_all_types(x, [](const Tensor& t) { return t[1]; });
  testing::expect_same_in_all_types(x, [&](const Tensor& t) { return index_select(t, 1, ids); });
  testing::expect_same_in_all_types(x, [&](const Tensor& t) { return index_select(t, 0, ids); });
  testing::expect_same_in_all_types(
      x, [&](const Tensor& t) { return slice_scatter(t, t[0].unsqueeze(0), 0, 2); });
  for (const DType type : {kInt64, kInt32, kUInt8, kFloat32}) {
    const Tensor sum = index_add(cast(x, type), 0, ids, cast(x, type).slice(0, 1), 2);
    EXPECT_EQ(sum.dtype(), type);
    EXPECT_EQ(cast(sum, kFloat64).to_vector<double>(),
              (std::vector<double>{16, 19, 22, 25, 4, 5, 6, 7, 16, 19, 22, 25}));
  }
}

TEST(Index, Int32Indices) {
  const Tensor x = counting({4, 2});
  const Tensor y = index_select(x, 0, cast(indices({3, -4}), kInt32));
  EXPECT_EQ(y.to_vector<double>(), (std::vector<double>{6, 7, 0, 1}));
}

// Rows and columns that were read keep gradients of their size.
TEST(Index, GradientsOfSelectionsAreSparse) {
  const Tensor x = variable(normal({300, 200}));
  const auto gradient_of = [&](const Tensor& y) -> Gradient& {
    x.zero_grad();
    y.sum().backward();
    return testing::gradient_at(x);
  };
  EXPECT_EQ(gradient_of(index_select(x, 0, indices({3, 3, 5}))).row_parts().size(), 1u);
  EXPECT_EQ(gradient_of(index_select(x, 1, indices({3, 3, 5}))).col_parts().size(), 1u);
  EXPECT_EQ(gradient_of(x[7]).row_parts().size(), 1u);
  EXPECT_EQ(gradient_of(x.select(1, 7)).col_parts().size(), 1u);
  EXPECT_EQ(gradient_of(x.slice(0, 3, 20)).row_parts().size(), 1u);
  EXPECT_EQ(gradient_of(x.slice(1, 3, 20)).col_parts().size(), 1u);
  EXPECT_EQ(gradient_of(x[7] + x[9]).row_parts().size(), 2u);
  EXPECT_TRUE(gradient_of(x.slice(0, 0, 200)).is_dense());
  Gradient& g = gradient_of(x.slice(0, 3, 20));
  EXPECT_EQ(g.row_parts()[0].ids.numel(), 17);
  EXPECT_EQ(g.squared_norm(), 17 * 200);
  EXPECT_EQ(x.grad()[19][0].item(), 1);
  EXPECT_EQ(x.grad()[20][0].item(), 0);
}

// The gradient of part of a weight has the structure that the whole's would have.
TEST(Index, SlicesKeepTheStructureOfGradients) {
  const Tensor w = normal({6, 4});
  const auto part = [](const Tensor& t, int axis) {
    return t.slice(axis, axis == 0 ? 5 : 3, axis == 0 ? 1 : 0, -2);
  };
  const Tensor v2 = normal({2});
  const Tensor v4 = normal({4});
  const struct {
    std::string name;
    std::function<Tensor(const Tensor&)> f;
  } cases[] = {
      {"outer rows", [&](const Tensor& t) { return mv(part(t, 0), v4); }},
      {"outer columns", [&](const Tensor& t) { return mv(part(t, 1), v2); }},
      {"rows of rows",
       [&](const Tensor& t) {
         return index_select(part(t, 0), 0, indices({1, 0, 1}));
       }},
      {"columns of rows",
       [&](const Tensor& t) {
         return index_select(part(t, 0), 1, indices({3, 3}));
       }},
      {"rows of columns",
       [&](const Tensor& t) {
         return index_select(part(t, 1), 0, indices({4, 4}));
       }},
      {"columns of columns",
       [&](const Tensor& t) {
         return index_select(part(t, 1), 1, indices({0, 0}));
       }},
      {"a sum of all",
       [&](const Tensor& t) {
         const Tensor p = part(t, 0);
         return mv(p, v4).sum() + index_select(p, 0, indices({1})).sum() * 2 + (p * p).sum();
       }},
  };
  for (const auto& c : cases) {
    const Tensor leaf = variable(w);
    c.f(leaf).sum().backward();
    EXPECT_FALSE(testing::gradient_at(leaf).is_dense()) << c.name;
    const Tensor again = variable(w);
    const Tensor want = grad(c.f(again).sum(), again, {.create_graph = true});
    EXPECT_EQ(leaf.grad().to_vector<double>(), want.to_vector<double>()) << c.name;
  }
}

}  // namespace
}  // namespace ebb
