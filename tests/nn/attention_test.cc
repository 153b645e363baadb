// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ebb/tests/nn/attention_reference.h"

namespace ebb {
namespace {

using testing::check_clone;
using testing::check_module;
using testing::doubles;
using testing::expect_near;
using testing::Matrix;
using testing::normal;
using testing::plain_attention;
using testing::scramble;
using ::testing::UnorderedElementsAre;

TEST(MultiheadAttention, AttendsToItself) {
  nn::MultiheadAttention attend(6, 2);
  scramble(attend);
  const Tensor x = normal({5, 6});
  const auto [y, weights] = attend(x, x, x);
  std::vector<Matrix> want;
  const Matrix m(x);
  expect_near(y, plain_attention(attend, 2, m, m, m, testing::see_all, &want).tensor());
  expect_near(weights, 0.5 * (want[0].tensor() + want[1].tensor()));
  const auto heads = attend(x, x, x, {.average_attn_weights = false}).weights;
  expect_near(heads, stack({{want[0].tensor(), want[1].tensor()}}));
  EXPECT_FALSE(attend(x, x, x, {.need_weights = false}).weights.defined());
}

TEST(MultiheadAttention, AttendsToOthers) {
  nn::MultiheadAttention attend(6, 3);
  scramble(attend);
  const Tensor x = normal({2, 6});
  const Tensor k = normal({5, 6});
  const Tensor v = normal({5, 6});
  expect_near(attend(x, k, v).output,
              plain_attention(attend, 3, Matrix(x), Matrix(k), Matrix(v)).tensor());
  // Keys that are values are projected with them.
  expect_near(attend(x, k, k).output,
              plain_attention(attend, 3, Matrix(x), Matrix(k), Matrix(k)).tensor());
  expect_near(attend(x, k, k * 1.0).output, attend(x, k, k).output);
}

TEST(MultiheadAttention, KeysAndValuesOfOtherSizes) {
  nn::MultiheadAttention attend(4, 2, {.kdim = 3, .vdim = 5});
  EXPECT_THAT(testing::names(attend),
              UnorderedElementsAre("q_proj_weight", "k_proj_weight", "v_proj_weight",
                                   "in_proj_bias", "out_proj.weight", "out_proj.bias"));
  scramble(attend);
  const Tensor x = normal({2, 4});
  const Tensor k = normal({3, 3});
  const Tensor v = normal({3, 5});
  expect_near(attend(x, k, v).output,
              plain_attention(attend, 2, Matrix(x), Matrix(k), Matrix(v)).tensor());
  check_module(attend, [&] { return attend(x, k, v).output; });
  check_clone(attend, [&](const nn::Module& m) {
    return static_cast<const nn::MultiheadAttention&>(m)(x, k, v).output;
  });
}

TEST(MultiheadAttention, StartsAsInPyTorch) {
  manual_seed(1);
  const nn::MultiheadAttention attend(32, 4);
  EXPECT_THAT(testing::names(attend), UnorderedElementsAre("in_proj_weight", "in_proj_bias",
                                                           "out_proj.weight", "out_proj.bias"));
  EXPECT_EQ(attend.in_proj_weight.shape(), Shape({96, 32}));
  const double bound = std::sqrt(6.0 / (96 + 32));
  double largest = 0;
  for (const double w : doubles(attend.in_proj_weight)) largest = std::max(largest, std::abs(w));
  EXPECT_LE(largest, bound);
  EXPECT_GT(largest, 0.95 * bound);
  EXPECT_EQ(doubles(attend.in_proj_bias), std::vector<double>(96, 0));
  EXPECT_EQ(doubles(attend.out_proj.bias), std::vector<double>(32, 0));
  EXPECT_EQ(testing::names(nn::MultiheadAttention(4, 2, {.bias = false})).size(), 2u);
}

TEST(MultiheadAttention, BoolMasksHide) {
  nn::MultiheadAttention attend(4, 2);
  scramble(attend);
  const Tensor x = normal({3, 4});
  const Matrix m(x);
  const Tensor pad = tensor({0, 0, 1}) > 0;
  const Tensor hidden = tensor({{0, 1, 0}, {0, 0, 0}, {1, 1, 0}}) > 0;  // the last sees nothing
  const auto masked = [&](bool with_pad, bool with_mask) {
    return plain_attention(attend, 2, m, m, m,
                           [=](int64_t, int64_t i, int64_t j, double s) {
                             const bool hide = (with_mask && (i == 0 ? j == 1 : i == 2 && j < 2)) ||
                                               (with_pad && j == 2);
                             return hide ? -INFINITY : s;
                           })
        .tensor();
  };
  expect_near(attend(x, x, x, {.key_padding_mask = pad}).output, masked(true, false));
  expect_near(attend(x, x, x, {.attn_mask = hidden}).output, masked(false, true));
  const nn::MultiheadAttentionCall both{.key_padding_mask = pad, .attn_mask = hidden};
  expect_near(attend(x, x, x, both).output, masked(true, true));
  expect_near(attend(x, x, x, both).output[2], attend.out_proj.bias);
  check_module(attend, [&] { return attend(x, x, x, both).output; });
}

TEST(MultiheadAttention, FloatingMasksAreAdded) {
  nn::MultiheadAttention attend(4, 2);
  scramble(attend);
  const Tensor x = normal({3, 4});
  const Matrix m(x);
  const Tensor bias = variable(normal({2, 3, 3}));  // of each head
  const Tensor of_keys = normal({3});
  const Tensor pad = tensor({0, 1, 0}) > 0;
  const auto b = doubles(bias);
  const auto k = doubles(of_keys);
  const auto plus = [&](int64_t h, int64_t i, int64_t j, double s) {
    return s + b[static_cast<size_t>(9 * h + 3 * i + j)];
  };
  expect_near(attend(x, x, x, {.attn_mask = bias}).output,
              plain_attention(attend, 2, m, m, m, plus).tensor());
  expect_near(attend(x, x, x, {.key_padding_mask = of_keys, .attn_mask = bias}).output,
              plain_attention(attend, 2, m, m, m, [&](int64_t h, int64_t i, int64_t j, double s) {
                return plus(h, i, j, s) + k[static_cast<size_t>(j)];
              }).tensor());
  const Tensor y = attend(x, x, x, {.key_padding_mask = pad, .attn_mask = bias}).output;
  expect_near(y,
              plain_attention(attend, 2, m, m, m, [&](int64_t h, int64_t i, int64_t j, double s) {
                return j == 1 ? -INFINITY : plus(h, i, j, s);
              }).tensor());
  EXPECT_GT(abs(grad(square(y).sum(), bias)).sum().item(), 0);
}

TEST(MultiheadAttention, CausalNeedsNoMask) {
  nn::MultiheadAttention attend(4, 1);
  scramble(attend);
  const Tensor x = normal({4, 4});
  const Matrix m(x);
  const Tensor y = attend(x, x, x, {.is_causal = true}).output;
  expect_near(y, plain_attention(attend, 1, m, m, m, testing::see_past).tensor());
  const Tensor future = triu(ones({4, 4}), 1) > 0;
  expect_near(attend(x, x, x, {.attn_mask = future}).output, y);
}

TEST(MultiheadAttention, SamplesAreApart) {
  for (const bool batch_first : {false, true}) {
    nn::MultiheadAttention attend(4, 2, {.batch_first = batch_first});
    scramble(attend);
    const Tensor x = normal({2, 3, 4});
    const Tensor k = normal({2, 5, 4});
    const Tensor pad = tensor({{0, 0, 1, 0, 0}, {0, 1, 0, 0, 1}}) > 0;
    const Tensor mask = normal({4, 3, 5});  // two heads of the first sample, then of the second
    const auto order = [&](const Tensor& t) { return batch_first ? t : transpose(t, 0, 1); };
    const auto [y, weights] =
        attend(order(x), order(k), order(k), {.key_padding_mask = pad, .attn_mask = mask});
    ASSERT_EQ(weights.shape(), Shape({2, 3, 5}));
    for (int64_t i = 0; i < 2; ++i) {
      const auto one = attend(x[i], k[i], k[i],
                              {.key_padding_mask = pad[i], .attn_mask = mask.narrow(0, 2 * i, 2)});
      expect_near(order(y)[i], one.output);
      expect_near(weights[i], one.weights);
    }
  }
}

TEST(MultiheadAttention, DropoutIsOfTheWeightsInTraining) {
  nn::MultiheadAttention attend(4, 2, {.dropout = 0.5});
  scramble(attend);
  const Tensor x = normal({6, 4});
  const auto run = [&] {
    manual_seed(3);
    return attend(x, x, x, {.average_attn_weights = false});
  };
  const auto once = run();
  EXPECT_EQ(doubles(once.output), doubles(run().output));
  EXPECT_NE(doubles(once.output), doubles(attend(x, x, x).output));
  // The weights given are those that were used.
  const Tensor v =
      linear(x, attend.in_proj_weight->narrow(0, 8, 4), attend.in_proj_bias->narrow(0, 8, 4));
  const Tensor heads = stack({{v.narrow(1, 0, 2), v.narrow(1, 2, 2)}});
  const Tensor joined = reshape(transpose(matmul(once.weights, heads), 0, 1), {6, 4});
  expect_near(attend.out_proj(joined), once.output);
  attend.eval();
  const Matrix m(x);
  expect_near(run().output, plain_attention(attend, 2, m, m, m).tensor());
}

TEST(MultiheadAttention, CanBeDifferentiatedTwiceAndCopied) {
  nn::MultiheadAttention attend(4, 2);
  scramble(attend);
  const Tensor x = normal({3, 4});
  const Tensor k = normal({2, 4});
  check_module(attend, [&] { return attend(x, x, x).output; });
  check_module(attend, [&] {
    const auto [y, weights] = attend(x, k, k);
    return y.sum() + square(weights).sum();
  });
  check_clone(attend, [&](const nn::Module& m) {
    return static_cast<const nn::MultiheadAttention&>(m)(x, k, k).output;
  });
}

template <class E, class F>
void expect_error(const F& f, const std::string& message) {
  try {
    f();
    ADD_FAILURE() << "nothing thrown";
  } catch (const E& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr(message));
  }
}

TEST(MultiheadAttention, SaysWhatDoesNotFit) {
  const auto make = [](int64_t e, int64_t h, nn::MultiheadAttentionOptions o = {}) {
    return [=] { nn::MultiheadAttention(e, h, o); };
  };
  expect_error<ValueError>(make(0, 1), "embed_dim is 0, num_heads 1");
  expect_error<ValueError>(make(5, 2), "embed_dim is 5; it must be a multiple of num_heads=2");
  expect_error<ValueError>(make(4, 2, {.dropout = 2}), "dropout is 2; it must be in [0, 1]");
  const nn::MultiheadAttention attend(4, 2);
  const Tensor x = zeros({3, 4});
  const auto call = [&](const Tensor& q, const Tensor& k,
                        const nn::MultiheadAttentionCall& c = {}) {
    return [&attend, q, k, c] { attend(q, k, k, c); };
  };
  expect_error<ShapeError>(call(x, zeros({3, 5})),
                           "MultiheadAttention: query is [3,4], key is [3,5], value is [3,5]; they "
                           "must be [T,4], [S,4], [S,4], or have one axis more");
  expect_error<ShapeError>(call(zeros({4}), zeros({4})), "query is [4]");
  expect_error<ShapeError>(call(zeros({3, 2, 4}), zeros({3, 1, 4})), "the second");
  expect_error<ShapeError>(call(x, x, {.key_padding_mask = zeros({2})}),
                           "key_padding_mask is [2]; it must be [3]");
  expect_error<ShapeError>(call(x, x, {.attn_mask = zeros({2, 3})}),
                           "attn_mask is [2,3]; it must be [3,3] or [2,3,3]");
  expect_error<DTypeError>(call(x, x, {.attn_mask = testing::integers({3, 3}, 0, 1)}),
                           "attn_mask is int64; it must be bool or float32");
}

}  // namespace
}  // namespace ebb
