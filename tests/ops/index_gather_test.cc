// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "ebb/ops/index.h"
#include "ebb/ops/shape.h"
#include "moving.h"

// Single elements along an axis.
namespace ebb {
namespace {

using testing::counting;
using testing::element;
using testing::error_sample;
using testing::indices;
using testing::integers;
using testing::normal;
using testing::OpSamples;
using testing::Position;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;
using testing::sample;

// The place in x that an index element at `at` names; where x has size 1 it is broadcast.
Position place(const RefArray& x, const RefArray& ids, const Position& at, int axis) {
  Position id_at = at;
  Position to = at;
  for (size_t i = 0; i < at.size(); ++i) {
    if (ids.shape[static_cast<int>(i)] == 1) id_at[i] = 0;
    if (x.shape[static_cast<int>(i)] == 1) to[i] = 0;
  }
  if (at.empty()) return to;
  to[static_cast<size_t>(axis)] =
      testing::wrapped(testing::to_int(element(ids, id_at)), x.shape[axis]);
  return to;
}

struct Case {
  Shape x;
  Shape ids;
  int64_t axis;
  int at() const { return static_cast<int>(testing::wrapped(axis, std::max(x.rank(), 1))); }
  int64_t size() const { return x.rank() == 0 ? 1 : x[at()]; }
  std::string name() const { return absl::StrCat(x.str(), " ", ids.str(), " ", axis); }
  Tensor make_ids() const { return integers(ids, -size(), size() - 1); }
};

const Case kCases[] = {
    {{3, 4}, {3, 2}, 1},        {{3, 4}, {5, 4}, 0}, {{3, 4}, {2, 3}, 0}, {{2, 3, 4}, {2, 5, 3}, 1},
    {{2, 3, 4}, {1, 3, 6}, -1}, {{5}, {7}, 0},       {{}, {}, 0},         {{4, 2}, {0, 2}, 0},
    {{3, 1}, {2, 1}, 0}};

const RegisterSamples kGather{
    "gather", [] {
      OpSamples s{.op = "gather"};
      for (const Case& c : kCases) {
        s.samples.push_back(sample(
            c.name(), {normal(c.x), c.make_ids()},
            [c](const Tensor& x, const Tensor& i) { return x.gather(c.axis, i); },
            [c](const RefArray& x, const RefArray& i) {
              return testing::ref_of(
                  i.shape, [&](const Position& at) { return element(x, place(x, i, at, c.at())); });
            }));
      }
      const auto call = [](const Tensor& x, const Tensor& i) { return gather(x, 1, i); };
      const Tensor x = normal({3, 4});
      s.errors = {
          error_sample<IndexError>("index", {x, testing::tensor({1, 2}, {0, 4}).to(kInt64)}, call,
                                   "gather: index 4 is outside [-4, 4) of axis 1 of x [3,4]"),
          error_sample<DTypeError>("type", {x, normal({3, 2})}, call,
                                   "gather: indices are float64[3,2]; they must be int64 or int32"),
          error_sample<ShapeError>(
              "rank", {x, indices({1})}, call,
              "gather: x is [3,4], indices are [1]; indices must have the rank"),
          error_sample<ShapeError>("larger", {x, integers({4, 1}, 0, 1)}, call,
                                   "gather: x is [3,4], indices are [4,1]"),
          error_sample<IndexError>(
              "axis", {x, integers({3, 1}, 0, 1)},
              [](const Tensor& t, const Tensor& i) { return gather(t, 2, i); },
              "gather: axis 2 is outside [-2, 2)"),
      };
      s.sizes = {1, 2, 7, 33, 1025};
      s.sized = [](int64_t n) {
        const Case c{{3, n}, {2, 2 * n}, 1};
        return std::vector<Sample>{sample(
            c.name(), {normal(c.x), c.make_ids()},
            [](const Tensor& t, const Tensor& i) { return gather(t, 1, i); },
            [](const RefArray& t, const RefArray& i) {
              return testing::ref_of(
                  i.shape, [&](const Position& at) { return element(t, place(t, i, at, 1)); });
            })};
      };
      return s;
    }};

const RegisterSamples kTakeAlong{
    "take_along", [] {
      OpSamples s{.op = "take_along"};
      const std::pair<Case, Shape> cases[] = {{{{3, 4}, {3, 2}, 1}, {3, 2}},
                                              {{{3, 4}, {1, 2}, 1}, {3, 2}},
                                              {{{1, 4}, {3, 2}, 1}, {3, 2}},
                                              {{{2, 3, 1}, {1, 5, 4}, 1}, {2, 5, 4}},
                                              {{{2, 1, 3}, {2, 4, 1}, 0}, {2, 4, 3}},
                                              {{{5}, {7}, -1}, {7}},
                                              {{{}, {}, 0}, {}},
                                              {{{0, 3}, {1, 2}, 1}, {0, 2}},
                                              {{{3, 2}, {1, 0}, 1}, {3, 0}}};
      for (const auto& [c, out] : cases) {
        s.samples.push_back(sample(
            c.name(), {normal(c.x), c.make_ids()},
            [axis = c.axis](const Tensor& x, const Tensor& i) { return take_along(x, i, axis); },
            [at = c.at(), shape = out](const RefArray& x, const RefArray& i) {
              return testing::ref_of(
                  shape, [&](const Position& p) { return element(x, place(x, i, p, at)); });
            }));
      }
      const auto call = [](const Tensor& x, const Tensor& i) { return take_along(x, i, 1); };
      const Tensor x = normal({3, 4});
      s.errors = {
          error_sample<IndexError>("index", {x, testing::tensor({1, 1}, {-5}).to(kInt64)}, call,
                                   "take_along: index -5 is outside [-4, 4) of axis 1 of x [3,4]"),
          error_sample<ShapeError>(
              "sizes", {x, integers({2, 1}, 0, 1)}, call,
              "take_along: x is [3,4], indices are [2,1]; they must have the same "
              "rank and broadcast in all other axes"),
          error_sample<ShapeError>("rank", {x, indices({1})}, call,
                                   "take_along: x is [3,4], indices are [1]"),
          error_sample<DTypeError>("type", {x, testing::booleans({3, 4})}, call,
                                   "take_along: indices are bool[3,4]"),
          error_sample<IndexError>(
              "axis", {x, integers({3, 1}, 0, 1)},
              [](const Tensor& t, const Tensor& i) { return take_along(t, i, -3); },
              "take_along: axis -3 is outside [-2, 2)"),
      };
      return s;
    }};

// src is larger than the indices by this much.
Shape src_shape(const Case& c, bool larger) {
  Shape shape = c.ids;
  for (int i = 0; i < shape.rank() && larger; ++i) shape[i] += i + 1;
  return shape;
}

template <class Op>
testing::Reference scattered(const Case& c, Op op) {
  return [c, op](const RefArray& x, const RefArray& i, const RefArray& src) {
    RefArray y = x;
    testing::for_each_position(i.shape, [&](const Position& at) {
      op(element(y, place(x, i, at, c.at())), element(src, at));
    });
    return y;
  };
}

// What scatter and scatter_add refuse.
template <class Call>
std::vector<testing::ErrorSample> scatter_errors(const std::string& op, Call call) {
  const Tensor x = normal({3, 4});
  return {
      error_sample<IndexError>("index",
                               {x, testing::tensor({1, 1}, {3}).to(kInt64), normal({1, 1})}, call,
                               op + ": index 3 is outside [-3, 3) of axis 0 of x [3,4]"),
      error_sample<ShapeError>("small src", {x, integers({2, 2}, 0, 1), normal({2, 1})}, call,
                               op + ": x is [3,4], indices are [2,2], src is [2,1]"),
      error_sample<ShapeError>("wide indices", {x, integers({2, 5}, 0, 1), normal({2, 5})}, call,
                               op + ": x is [3,4], indices are [2,5]"),
      error_sample<ShapeError>("rank", {x, indices({1}), normal({1})}, call,
                               op + ": x is [3,4], indices are [1], src is [1]"),
      error_sample<DTypeError>("type", {x, integers({1, 1}, 0, 1), integers({1, 1}, 0, 1)}, call,
                               op + ": x is float64[3,4], src is int64[1,1]"),
      error_sample<DTypeError>("index type", {x, normal({1, 1}), normal({1, 1})}, call,
                               op + ": indices are float64[1,1]"),
  };
}

const RegisterSamples kScatter{
    "scatter", [] {
      OpSamples s{.op = "scatter"};
      for (const Case& c : kCases) {
        for (const bool larger : {false, true}) {
          // Random indices name places twice: the last one counts.
          s.samples.push_back(sample(
              absl::StrCat(c.name(), larger ? " larger src" : ""),
              {normal(c.x), c.make_ids(), normal(src_shape(c, larger))},
              [c](const Tensor& x, const Tensor& i, const Tensor& src) {
                return scatter(x, c.axis, i, src);
              },
              scattered(c, [](double& y, double v) { y = v; })));
        }
      }
      s.samples.push_back(sample(
          "one value", {normal({3, 4}), integers({2, 3}, 0, 2)},
          [](const Tensor& x, const Tensor& i) { return scatter(x, 0, i, 2.5); },
          [](const RefArray& x, const RefArray& i) {
            return scattered({{3, 4}, {2, 3}, 0},
                             [](double& y, double) { y = 2.5; })(std::vector<RefArray>{x, i, i})[0];
          }));
      s.errors = scatter_errors("scatter", [](const Tensor& x, const Tensor& i, const Tensor& src) {
        return scatter(x, 0, i, src);
      });
      return s;
    }};

const RegisterSamples kScatterAdd{
    "scatter_add", [] {
      OpSamples s{.op = "scatter_add"};
      for (const Case& c : kCases) {
        for (const bool larger : {false, true}) {
          s.samples.push_back(sample(
              absl::StrCat(c.name(), larger ? " larger src" : ""),
              {normal(c.x), c.make_ids(), normal(src_shape(c, larger))},
              [c](const Tensor& x, const Tensor& i, const Tensor& src) {
                return scatter_add(x, c.axis, i, src);
              },
              scattered(c, [](double& y, double v) { y += v; })));
        }
      }
      const auto call = [](const Tensor& x, const Tensor& i, const Tensor& src) {
        return scatter_add(x, 0, i, src);
      };
      s.errors = scatter_errors("scatter_add", call);
      s.errors.push_back(error_sample<DTypeError>(
          "bfloat16", {normal({3}), indices({1}), normal({1})},
          [call](const Tensor& x, const Tensor& i, const Tensor& src) {
            return call(x.detach().to(kBFloat16), i, src.detach().to(kBFloat16));
          },
          "scatter_add: x is bfloat16[3]; the type must have arithmetic"));
      return s;
    }};

TEST(IndexGather, AllTypes) {
  const Tensor x = counting({3, 4});
  const Tensor ids = integers({3, 4}, 0, 2);
  testing::expect_same_in_all_types(x, [&](const Tensor& t) { return gather(t, 0, ids); });
  testing::expect_same_in_all_types(x, [&](const Tensor& t) { return take_along(t, ids, 1); });
  testing::expect_same_in_all_types(x,
                                    [&](const Tensor& t) { return scatter(t, 0, ids, flip(t)); });
  testing::expect_same_in_all_types(x, [&](const Tensor& t) { return scatter(t, 1, ids, 1); });
  for (const DType type : {kInt64, kInt32, kUInt8, kFloat32}) {
    const Tensor sum = scatter_add(cast(counting({3}), type), 0, cast(indices({2, 0, 2}), kInt32),
                                   cast(counting({4}), type));
    EXPECT_EQ(cast(sum, kFloat64).to_vector<double>(), (std::vector<double>{1, 1, 4}));
  }
  const Tensor or_of =
      scatter_add(cast(testing::tensor({3}, {0, 1, 0}), kBool), 0, indices({0, 1, 0}),
                  cast(testing::tensor({3}, {1, 1, 1}), kBool));
  EXPECT_EQ(cast(or_of, kFloat64).to_vector<double>(), (std::vector<double>{1, 1, 0}));
}

// Which of several writes to a place is the last does not depend on how indices and values lie.
TEST(IndexGather, LastWriteInRowMajorOrderStays) {
  const Tensor ids = testing::tensor({2, 3}, {0, 1, 0, 1, 0, 2}).to(kInt64);
  const Tensor src = counting({2, 3});
  const Tensor x = testing::tensor({3}, {-1, -1, -1}).unsqueeze(0).expand({1, 3});
  const Tensor want = testing::tensor({1, 3}, {4, 3, 5});
  const Tensor flat = scatter(x, 1, ids.reshape({1, 6}), src.reshape({1, 6}));
  EXPECT_EQ(flat.to_vector<double>(), want.to_vector<double>());
  const Tensor columns = t(contiguous(t(src)));
  const Tensor id_columns = t(contiguous(t(ids)));
  const Tensor y = scatter(counting({3, 3}), 0, id_columns, columns);
  EXPECT_EQ(y.to_vector<double>(), scatter(counting({3, 3}), 0, ids, src).to_vector<double>());
}

}  // namespace
}  // namespace ebb
