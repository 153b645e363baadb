// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/position.h"

#include <gtest/gtest.h>

#include "ebb/ebb.h"
#include "ebb/tests/nn/attention_reference.h"

namespace ebb {
namespace {

using testing::doubles;
using testing::expect_near;

TEST(PositionalEncodingLayer, AddsSinesAndCosines) {
  const nn::PositionalEncoding encode(6);
  const Tensor x = randn({5, 6});
  const Tensor table = nn::sinusoidal_positional_encoding(9, 6);
  expect_near(encode(x), x + narrow(table, 0, 0, 5), 1e-6);
  expect_near(encode.at(x, 4), x + narrow(table, 0, 4, 5), 1e-6);
  const Tensor two[] = {x, x};
  expect_near(encode(stack(two))[1], encode(x), 1e-6);
  EXPECT_THROW(encode(randn({5, 5})), ShapeError);
  EXPECT_THROW(nn::PositionalEncoding(0), ValueError);
  EXPECT_THROW(nn::PositionalEncoding(4, {.dropout = 2}), ValueError);
}

TEST(LearnedPositionsLayer, AddsItsRows) {
  const nn::LearnedPositions positions(6, 4);
  const Tensor x = randn({3, 4});
  expect_near(positions.at(x, 2), x + narrow(positions.weight, 0, 2, 3), 1e-6);
  positions(x).sum().backward();
  EXPECT_EQ(doubles(sum(positions.weight.grad(), 1)), (std::vector<double>{4, 4, 4, 0, 0, 0}));
  EXPECT_THROW(positions(randn({7, 4})), ShapeError);
  EXPECT_THROW(positions.at(x, 4), ShapeError);
  EXPECT_THROW(nn::LearnedPositions(0, 4), ValueError);
}

TEST(RelativePositionBiasLayer, GivesEachDistanceItsNumber) {
  const nn::RelativePositionBias bias(2, {.num_buckets = 8, .max_distance = 16});
  const Tensor b = bias(4, 5);
  EXPECT_EQ(b.shape(), Shape({2, 4, 5}));
  const auto buckets = relative_position_buckets(4, 5, 8, 16).to_vector<int64_t>();
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t j = 0; j < 5; ++j) {
        const int64_t bucket = buckets[static_cast<size_t>(j - i + 3)];
        EXPECT_EQ(b[h][i][j].item(), bias.weight.tensor()[bucket][h].item());
      }
    }
  }
  // The last two queries of as many as there are keys.
  const Tensor all = bias(5, 5);
  expect_near(bias(2, 5, true), narrow(all, 1, 3, 2));
  scaled_dot_product_attention(randn({2, 4, 3}), randn({2, 5, 3}), randn({2, 5, 3}),
                               {.attn_mask = bias(4, 5)})
      .sum()
      .backward();
  EXPECT_TRUE(bias.weight.grad().defined());
  EXPECT_THROW(nn::RelativePositionBias(0), ValueError);
  EXPECT_THROW(nn::RelativePositionBias(2, {.num_buckets = 2}), ValueError);
}

TEST(KeyValueCache, KeepsWhatCameBefore) {
  nn::KeyValueCache cache;
  const Tensor x = randn({2, 200, 3});
  Tensor all;
  for (int64_t at = 0; at < 200; at += 40) all = cache.append(narrow(x, 1, at, 40));
  EXPECT_EQ(cache.length(), 200);
  expect_near(all, x);
  EXPECT_THROW(cache.append(randn({3, 1, 3})), ShapeError);
  EXPECT_THROW(cache.append(randn({3})), ShapeError);
  cache.clear();
  EXPECT_EQ(cache.length(), 0);
  expect_near(cache.append(randn({4, 3}) * 0.0), zeros({4, 3}));
}

TEST(MultiheadAttention, ACacheServesSelfAttentionOnly) {
  const nn::MultiheadAttention attend(4, 2);
  nn::KeyValueCache cache;
  const Tensor x = randn({3, 4});
  EXPECT_THROW(attend(x, randn({3, 4}), x, {.cache = &cache}), ValueError);
  EXPECT_EQ(cache.length(), 0);
  EXPECT_THROW(nn::MultiheadAttention(6, 2, {.rotary = true}), ValueError);
}

// Rotary attention sees the same wherever the sequence begins; other queries and keys turn alike.
TEST(MultiheadAttention, RotaryTurnsQueriesAndKeysAlike) {
  nn::MultiheadAttention attend(8, 2, {.rotary = true});
  attend.to(kFloat64);
  const Tensor x = testing::normal({4, 8});
  const Tensor one = attend(x, x, x).output;
  const Tensor y = x * 1.0;
  const Tensor z = x * 1.0;
  expect_near(attend(x, y, y).output, one);
  expect_near(attend(x, y, z).output, one);
}

}  // namespace
}  // namespace ebb
