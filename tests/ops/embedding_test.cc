// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/embedding.h"

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/shape.h"
#include "moving.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::indices;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;
using testing::sample;

const RegisterSamples kTakeRow{
    "take_row", [] {
      OpSamples s{.op = "take_row", .no_scalar = "a scalar has no rows"};
      const auto row = [](const std::string& name, const Shape& shape, int64_t index) {
        return sample(
            name, {normal(shape), indices({index})},
            [](const Tensor& x, const Tensor& i) { return take_row(x, i); },
            [](const RefArray& x, const RefArray& i) {
              const int64_t n = x.shape[0];
              const int64_t at = testing::wrapped(testing::to_int(i.v[0]), n);
              const Shape rest(x.shape.data() + 1, static_cast<size_t>(x.shape.rank() - 1));
              const auto begin = x.v.begin() + at * rest.numel();
              return RefArray{rest, {begin, begin + rest.numel()}};
            });
      };
      for (const Shape& shape : {Shape{5}, Shape{5, 3}, Shape{3, 2, 4}, Shape{4, 0}}) {
        s.samples.push_back(row(shape.str(), shape, 2));
        s.samples.push_back(row(shape.str() + " from the end", shape, -2));
      }
      const Tensor x = normal({3, 4});
      s.errors = {
          error_sample<IndexError>(
              "index", {x}, [](const Tensor& t) { return take_row(t, 3); },
              "take_row: index 3 is outside [-3, 3) of axis 0 of x [3,4]"),
          error_sample<IndexError>(
              "negative", {x}, [](const Tensor& t) { return take_row(t, -4); },
              "take_row: index -4 is outside [-3, 3)"),
          error_sample<ShapeError>(
              "shape", {x, indices({1, 2})},
              [](const Tensor& t, const Tensor& i) { return take_row(t, i); },
              "take_row: x is [3,4], index is [2]; it must be [1]"),
          error_sample<DTypeError>(
              "type", {x, normal({1})},
              [](const Tensor& t, const Tensor& i) { return take_row(t, i); },
              "take_row: indices are float64[1]; they must be int64 or int32"),
          error_sample<IndexError>(
              "scalar", {testing::scalar(1)}, [](const Tensor& t) { return take_row(t, 0); },
              "take_row: x is a scalar"),
      };
      s.sizes = {1, 2, 3, 8, 65, 1025};
      s.sized = [row](int64_t n) {
        return std::vector<Sample>{row(absl::StrCat(n, " columns"), {7, n}, 4)};
      };
      return s;
    }};

TEST(Embedding, ATakenRowIsACopyWithASparseGradient) {
  const Tensor x = variable(normal({300, 200}));
  const Tensor row = take_row(x, 7);
  EXPECT_FALSE(row.value().shares_storage(x.value()));
  EXPECT_EQ(row.to_vector<double>(), x[7].to_vector<double>());
  EXPECT_EQ(take_row(x, -293).to_vector<double>(), row.to_vector<double>());
  EXPECT_EQ(take_row(t(x), 7).to_vector<double>(), x.select(1, 7).to_vector<double>());
  (row.sum() + take_row(x, 9).sum()).backward();
  const Gradient& g = testing::gradient_at(x);
  EXPECT_FALSE(g.dense_part().defined());
  EXPECT_EQ(g.row_parts().size(), 2u);
}

TEST(Embedding, AGradientKeepsItsRowWhenTheIndexIsReused) {
  const Tensor x = variable(normal({5, 3}));
  const Array index = Array::full(kInt64, {1}, 0);
  for (int64_t i = 0; i < 3; ++i) {
    *index.mutable_data<int64_t>() = i;
    take_row(x, Tensor(index)).sum().backward();
  }
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(x.grad().array().at({i, 0}), i < 3 ? 1 : 0);
}

}  // namespace
}  // namespace ebb
