// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/shape.h"
#include "moving.h"

// Elements in order.
namespace ebb {
namespace {

using testing::distinct;
using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::Position;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;
using testing::sample;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

// The order of a list: indices, of equal elements in their order, NaN the largest.
std::vector<int64_t> order_of(const std::vector<double>& v, bool descending) {
  std::vector<int64_t> ids(v.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto less = [](double a, double b) { return !std::isnan(a) && (std::isnan(b) || a < b); };
  std::sort(ids.begin(), ids.end(), [&](int64_t i, int64_t j) {
    const double a = v[static_cast<size_t>(descending ? j : i)];
    const double b = v[static_cast<size_t>(descending ? i : j)];
    return less(a, b) || (!less(b, a) && i < j);
  });
  return ids;
}

// The first k of x in order along an axis: values and indices.
std::vector<RefArray> in_order(const RefArray& x, int64_t axis, bool descending, int64_t k,
                               bool by_index) {
  if (x.shape.rank() == 0) return {x, RefArray(Shape{})};
  const auto at = static_cast<int>(testing::wrapped(axis, x.shape.rank()));
  Shape shape = x.shape;
  shape[at] = k;
  RefArray values(shape);
  RefArray indices(shape);
  Shape lines = x.shape;
  lines[at] = 1;
  testing::for_each_position(lines, [&](Position p) {
    auto& i = p[static_cast<size_t>(at)];
    std::vector<double> line;
    for (i = 0; i < x.shape[at]; ++i) line.push_back(testing::element(x, p));
    auto order = order_of(line, descending);
    order.resize(static_cast<size_t>(k));
    if (by_index) std::sort(order.begin(), order.end());
    for (i = 0; i < k; ++i) {
      const int64_t from = order[static_cast<size_t>(i)];
      testing::element(values, p) = line[static_cast<size_t>(from)];
      testing::element(indices, p) = static_cast<double>(from);
    }
  });
  return {values, indices};
}

Sample sort_sample(const Shape& shape, int64_t axis, bool descending) {
  return sample(
      absl::StrCat(shape.str(), " ", axis, descending ? " descending" : ""), {distinct(shape)},
      [=](const Tensor& x) {
        auto [values, indices] = sort(x, axis, descending);
        return std::vector<Tensor>{values, indices};
      },
      [=](const RefArray& x) {
        const int64_t n =
            shape.rank() == 0 ? 1 : shape[static_cast<int>(testing::wrapped(axis, shape.rank()))];
        return in_order(x, axis, descending, n, false);
      });
}

const RegisterSamples kSort{
    "sort", [] {
      OpSamples s{.op = "sort"};
      for (const bool descending : {false, true}) {
        s.samples.push_back(sort_sample({7}, -1, descending));
        s.samples.push_back(sort_sample({3, 5}, 0, descending));
        s.samples.push_back(sort_sample({2, 4, 3}, 1, descending));
        s.samples.push_back(sort_sample({}, -1, descending));
        s.samples.push_back(sort_sample({3, 0}, 1, descending));
        s.samples.push_back(sort_sample({0, 3}, 1, descending));
      }
      s.errors = {error_sample<IndexError>(
          "axis", {normal({3, 4})}, [](const Tensor& x) { return sort(x, 2).values; },
          "sort: axis 2 is outside [-2, 2)")};
      s.sizes = {1, 2, 3, 31, 511, 512, 513, 3000};
      s.sized = [](int64_t n) {
        return std::vector<Sample>{sort_sample({n}, 0, false), sort_sample({n}, 0, true)};
      };
      return s;
    }};

Sample topk_sample(const Shape& shape, int64_t k, int64_t axis, bool largest, bool sorted) {
  return sample(
      absl::StrCat(shape.str(), " ", k, " ", axis, largest ? "" : " smallest",
                   sorted ? "" : " unsorted"),
      {distinct(shape)},
      [=](const Tensor& x) {
        auto [values, indices] = topk(x, k, axis, largest, sorted);
        return std::vector<Tensor>{values, indices};
      },
      [=](const RefArray& x) { return in_order(x, axis, largest, k, !sorted); });
}

const RegisterSamples kTopk{
    "topk", [] {
      OpSamples s{.op = "topk"};
      for (const bool largest : {true, false}) {
        for (const bool sorted : {true, false}) {
          s.samples.push_back(topk_sample({7}, 3, -1, largest, sorted));
          s.samples.push_back(topk_sample({4, 5}, 2, 0, largest, sorted));
          s.samples.push_back(topk_sample({2, 4, 3}, 4, 1, largest, sorted));
          s.samples.push_back(topk_sample({}, 1, -1, largest, sorted));
          s.samples.push_back(topk_sample({3, 4}, 0, 1, largest, sorted));
          s.samples.push_back(topk_sample({0, 4}, 2, 1, largest, sorted));
        }
      }
      const auto call = [](int64_t k) {
        return [k](const Tensor& x) { return topk(x, k, 1).values; };
      };
      s.errors = {
          error_sample<IndexError>("too many", {normal({3, 4})}, call(5),
                                   "topk: k is 5, axis 1 of x [3,4] has 4 elements"),
          error_sample<IndexError>("negative", {normal({3, 4})}, call(-1), "topk: k is -1"),
          error_sample<IndexError>("axis", {normal({3})}, call(1),
                                   "topk: axis 1 is outside [-1, 1)"),
          error_sample<IndexError>(
              "none of a scalar", {testing::scalar(1)},
              [](const Tensor& x) { return topk(x, 0).values; }, "topk: k is 0"),
      };
      s.sizes = {1, 2, 17, 65, 66, 1000};
      s.sized = [](int64_t n) {
        std::vector<Sample> out;
        for (const int64_t k : {int64_t{1}, n / 10, n / 2, n}) {
          out.push_back(topk_sample({n}, k, 0, true, true));
          out.push_back(topk_sample({n}, k, 0, false, false));
        }
        return out;
      };
      return s;
    }};

// Every type, with many equal elements and what is special about each.
TEST(IndexSort, AllTypesWithTies) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto type = static_cast<DType>(i);
    for (const int64_t n : {5, 40, 700}) {
      std::vector<double> v;
      const Tensor noise = testing::integers({n}, 0, 9);
      for (int64_t k = 0; k < n; ++k) {
        const auto d = static_cast<double>(noise.data<int64_t>()[k]);
        v.push_back(type == kBool    ? static_cast<double>(testing::to_int(d) % 2)
                    : type == kUInt8 ? d * 28
                                     : d - 5);
      }
      if (is_floating(type)) {
        v[0] = kNan;
        v[1] = -0.0;
        v[2] = kInf;
        v[3] = -kInf;
        v[4] = 0;
      }
      const Tensor x = cast(testing::tensor({n}, v), type);
      for (const bool descending : {false, true}) {
        const auto want = order_of(v, descending);
        const auto [values, indices] = sort(x, 0, descending);
        EXPECT_EQ(indices.to_vector<int64_t>(), want) << name_of(type) << " " << n;
        EXPECT_EQ(values.dtype(), type);
        EXPECT_EQ(argsort(x, 0, descending).to_vector<int64_t>(), want);
        for (int64_t k = 0; k < 5; ++k) {
          const double got = cast(values[k], kFloat64).item();
          const double expected = v[static_cast<size_t>(want[static_cast<size_t>(k)])];
          EXPECT_TRUE(got == expected || (std::isnan(got) && std::isnan(expected)));
        }
        for (const int64_t k : {int64_t{1}, n / 3, n}) {
          const auto top = topk(x, k, 0, descending).indices.to_vector<int64_t>();
          EXPECT_EQ(top, std::vector<int64_t>(want.begin(), want.begin() + k))
              << name_of(type) << " " << n << " " << k;
        }
      }
    }
  }
}

TEST(IndexSort, ExtremesOfIntegers) {
  const std::vector<int64_t> v{0, INT64_MAX, -1, INT64_MIN, 1};
  const Tensor x(Array::of<int64_t>({5}, v));
  EXPECT_EQ(sort(x).indices.to_vector<int64_t>(), (std::vector<int64_t>{3, 2, 0, 4, 1}));
  const std::vector<int32_t> w{0, INT32_MAX, -1, INT32_MIN, 1};
  EXPECT_EQ(argsort(Tensor(Array::of<int32_t>({5}, w)), 0, true).to_vector<int64_t>(),
            (std::vector<int64_t>{1, 4, 0, 2, 3}));
}

// Descending input: every element is better than all before it.
TEST(IndexSort, TopkOfAscendingRow) {
  std::vector<double> v(5000);
  std::iota(v.begin(), v.end(), 0);
  const auto top = topk(testing::tensor({5000}, v), 40);
  for (int64_t k = 0; k < 40; ++k) EXPECT_EQ(top.indices[k].item(), 4999 - static_cast<double>(k));
}

TEST(IndexSort, IndicesCarryNoGradient) {
  const Tensor x = variable(distinct({4, 5}));
  const auto [values, indices] = sort(x, 0);
  EXPECT_TRUE(values.requires_grad());
  EXPECT_FALSE(indices.requires_grad());
  EXPECT_FALSE(argsort(x).requires_grad());
  values[3].sum().backward();
  double total = 0;
  for (const double g : x.grad().to_vector<double>()) total += g;
  EXPECT_EQ(total, 5);
}

}  // namespace
}  // namespace ebb
