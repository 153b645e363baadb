// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/position.h"

#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

Sample rotary_sample(const Shape& shape, int64_t head_dim, const RotaryOptions& o = {}) {
  return {
      .name = absl::StrCat(shape.str(), " heads of ", head_dim, " from ", o.offset,
                           o.interleaved ? " interleaved" : "", " columns ", o.columns),
      .inputs = {normal(shape)},
      .call = [=](const Tensor& x) { return rotary_embedding(x, head_dim, o); },
      .reference =
          [=](const RefArray& x) {
            RefArray y = x;
            const int r = shape.rank();
            const int64_t width = shape[r - 1];
            const int64_t columns = o.columns < 0 ? width : o.columns;
            for (int64_t at = 0; at < x.numel(); ++at) {
              const int64_t column = at % width;
              if (column >= columns) continue;
              const int64_t position = o.offset + at / width % shape[r - 2];
              const int64_t j = column % head_dim;
              const int64_t half = head_dim / 2;
              const int64_t pair = o.interleaved ? j / 2 : j % half;
              const bool second = o.interleaved ? j % 2 == 1 : j >= half;
              const int64_t other = at + (second ? -1 : 1) * (o.interleaved ? 1 : half);
              const double angle = static_cast<double>(position) *
                                   std::pow(o.base, -2.0 * static_cast<double>(pair) /
                                                        static_cast<double>(head_dim));
              y.v[static_cast<size_t>(at)] =
                  x.v[static_cast<size_t>(at)] * std::cos(angle) +
                  (second ? 1 : -1) * x.v[static_cast<size_t>(other)] * std::sin(angle);
            }
            return y;
          },
  };
}

const RegisterSamples kRotary{
    "rotary_embedding", [] {
      OpSamples s{.op = "rotary_embedding"};
      s.samples = {rotary_sample({3, 4}, 4),
                   rotary_sample({3, 4}, 2),
                   rotary_sample({2, 3, 8}, 4, {.offset = 5}),
                   rotary_sample({3, 8}, 4, {.interleaved = true}),
                   rotary_sample({3, 12}, 4, {.columns = 8}),
                   rotary_sample({3, 12}, 4, {.columns = 0}),
                   rotary_sample({3, 6}, 6, {.offset = -2, .base = 10}),
                   rotary_sample({0, 4}, 4),
                   rotary_sample({2, 0, 4}, 2),
                   rotary_sample({3, 0}, 2)};
      s.sized = [](int64_t n) {
        return std::vector<Sample>{rotary_sample({n, 4}, 4), rotary_sample({2, 2 * n + 2}, 2)};
      };
      s.errors = {
          error_sample<ShapeError>(
              "rank", {normal({4})}, [](const Tensor& x) { return rotary_embedding(x, 4); },
              "rotary_embedding: x is [4]; it must be [...,T,n * 4]"),
          error_sample<ShapeError>(
              "width", {normal({3, 6})}, [](const Tensor& x) { return rotary_embedding(x, 4); },
              "x is [3,6]; it must be [...,T,n * 4]"),
          error_sample<ValueError>(
              "odd", {normal({3, 6})}, [](const Tensor& x) { return rotary_embedding(x, 3); },
              "rotary_embedding: head_dim is 3, base 10000"),
          error_sample<ValueError>(
              "columns", {normal({3, 8})},
              [](const Tensor& x) { return rotary_embedding(x, 4, {.columns = 6}); },
              "rotary_embedding: x is [3,8], columns 6; they must be a multiple of head_dim=4"),
          error_sample<DTypeError>(
              "integers", {testing::integers({3, 4}, 0, 3)},
              [](const Tensor& x) { return rotary_embedding(x, 4); },
              "rotary_embedding: input 0 is int64[3,4]")};
      s.no_scalar = "there are no positions";
      return s;
    }};

// Products depend on distances only.
TEST(Rotary, ProductsDependOnTheDistance) {
  const Tensor q = normal({1, 8});
  const Tensor k = normal({1, 8});
  for (const bool interleaved : {false, true}) {
    const auto product = [&](int64_t i, int64_t j) {
      return sum(rotary_embedding(q, 8, {.offset = i, .interleaved = interleaved}) *
                 rotary_embedding(k, 8, {.offset = j, .interleaved = interleaved}))
          .item();
    };
    EXPECT_NEAR(product(3, 1), product(1002, 1000), 1e-10);
    EXPECT_GT(std::abs(product(3, 1) - product(4, 1)), 1e-3);
  }
}

TEST(Rotary, StaysExactInLongSequences) {
  const Tensor x = normal({100000, 2});
  const Tensor y = rotary_embedding(x, 2);
  const Tensor last = rotary_embedding(narrow(x, 0, 99999, 1), 2, {.offset = 99999});
  EXPECT_NEAR(y.select(0, 99999)[0].item(), last.select(0, 0)[0].item(), 1e-9);
}

Sample shift_sample(const Shape& shape, int64_t keys) {
  return {.name = absl::StrCat(shape.str(), " for ", keys),
          .inputs = {normal(shape)},
          .call = [=](const Tensor& x) { return relative_shift(x, keys); },
          .reference =
              [=](const RefArray& x) {
                Shape to = shape;
                to[to.rank() - 1] = keys;
                RefArray y(to);
                const int64_t rows = shape[shape.rank() - 2];
                const int64_t width = shape[shape.rank() - 1];
                for (int64_t i = 0; i < y.numel(); ++i) {
                  const int64_t row = i / keys;
                  const int64_t at = row * width + i % keys - row % rows + rows - 1;
                  y.v[static_cast<size_t>(i)] = x.v[static_cast<size_t>(at)];
                }
                return y;
              }};
}

const RegisterSamples kShift{
    "relative_shift", [] {
      OpSamples s{.op = "relative_shift"};
      s.samples = {shift_sample({3, 5}, 3),    shift_sample({2, 5}, 4), shift_sample({4, 5}, 2),
                   shift_sample({2, 3, 5}, 3), shift_sample({1, 4}, 4), shift_sample({4, 4}, 1),
                   shift_sample({4, 3}, 0),    shift_sample({0, 3}, 4), shift_sample({0, 2, 4}, 3)};
      s.errors = {
          error_sample<ShapeError>(
              "width", {normal({3, 6})}, [](const Tensor& x) { return relative_shift(x, 3); },
              "relative_shift: x is [3,6], keys is 3; x must be [...,T,T+keys-1]"),
          error_sample<ShapeError>(
              "rank", {normal({6})}, [](const Tensor& x) { return relative_shift(x, 3); },
              "x is [6], keys is 3"),
          error_sample<ShapeError>(
              "keys", {normal({3, 1})}, [](const Tensor& x) { return relative_shift(x, -1); },
              "keys is -1")};
      s.no_scalar = "there are no pairs";
      return s;
    }};

Sample unshift_sample(const Shape& shape) {
  return {.name = shape.str(),
          .inputs = {normal(shape)},
          .call = [](const Tensor& x) { return relative_unshift(x); },
          .reference =
              [=](const RefArray& x) {
                const int64_t rows = shape[shape.rank() - 2];
                const int64_t keys = shape[shape.rank() - 1];
                Shape to = shape;
                to[to.rank() - 1] = rows + keys - 1;
                RefArray y(to);
                for (int64_t i = 0; i < x.numel(); ++i) {
                  const int64_t row = i / keys;
                  const int64_t d = i % keys - row % rows + rows - 1;
                  y.v[static_cast<size_t>(row * (rows + keys - 1) + d)] =
                      x.v[static_cast<size_t>(i)];
                }
                return y;
              }};
}

const RegisterSamples kUnshift{
    "relative_unshift", [] {
      OpSamples s{.op = "relative_unshift"};
      s.samples = {unshift_sample({3, 3}), unshift_sample({2, 4}), unshift_sample({4, 2}),
                   unshift_sample({1, 4}), unshift_sample({4, 1}), unshift_sample({2, 3, 3}),
                   unshift_sample({0, 3}), unshift_sample({3, 0}), unshift_sample({0, 2, 3})};
      s.errors = {error_sample<ShapeError>(
                      "none", {normal({0, 0})}, [](const Tensor& x) { return relative_unshift(x); },
                      "relative_unshift: x is [0,0]; it must be [...,T,S] with a query or a key"),
                  error_sample<ShapeError>(
                      "rank", {normal({3})}, [](const Tensor& x) { return relative_unshift(x); },
                      "x is [3]")};
      s.no_scalar = "there are no pairs";
      return s;
    }};

TEST(RelativePositions, ClippedDistances) {
  EXPECT_EQ(clipped_distances(3, 4, 2).to_vector<int64_t>(),
            (std::vector<int64_t>{0, 1, 2, 3, 4, 4}));  // -2 to 3
  EXPECT_EQ(clipped_distances(0, 0, 2).numel(), 0);
  EXPECT_THROW(clipped_distances(-1, 2, 2), ValueError);
  EXPECT_THROW(clipped_distances(1, 2, -2), ValueError);
}

// The scores of Shaw et al. by their formula: q_i . (k_j + a_ij).
TEST(RelativePositions, ShiftedProductsAreThoseOfPairs) {
  const Tensor q = normal({3, 4});
  const Tensor table = normal({5, 4});  // distances -2 to 2
  const Tensor rows = index_select(table, 0, clipped_distances(3, 5, 2));
  const Tensor scores = relative_shift(mm(q, t(rows)), 5);
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 5; ++j) {
      const int64_t row = std::clamp<int64_t>(j - i, -2, 2) + 2;
      EXPECT_NEAR(scores.select(0, i)[j].item(), dot(q[i], table[row]).item(), 1e-12);
    }
  }
}

// Values worked out by hand from the paper's rule.
TEST(RelativePositions, Buckets) {
  const auto of = [](int64_t distance, bool both) {  // of the last key to the first query and back
    const Tensor b = relative_position_buckets(1000, 1000, 32, 128, both);
    return b[999 + distance].item<int64_t>();
  };
  EXPECT_EQ(of(0, true), 0);
  EXPECT_EQ(of(-1, true), 1);
  EXPECT_EQ(of(1, true), 17);
  EXPECT_EQ(of(-7, true), 7);
  EXPECT_EQ(of(-8, true), 8);
  EXPECT_EQ(of(-12, true), 9);  // 8 + 8 ln(12/8) / ln(128/8) = 9.17
  EXPECT_EQ(of(-128, true), 15);
  EXPECT_EQ(of(-999, true), 15);
  EXPECT_EQ(of(999, true), 31);
  EXPECT_EQ(of(5, false), 0);
  EXPECT_EQ(of(-15, false), 15);
  EXPECT_EQ(of(-20, false), 17);  // 16 + 16 ln(20/16) / ln(128/16) = 17.7
  EXPECT_EQ(of(-500, false), 31);
  EXPECT_THROW(relative_position_buckets(2, 2, 2), ValueError);
  EXPECT_THROW(relative_position_buckets(2, 2, 32, 8), ValueError);
}

}  // namespace
}  // namespace ebb
