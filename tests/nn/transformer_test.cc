// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "ebb/core/memory.h"
#include "ebb/tests/nn/attention_reference.h"

namespace ebb {
namespace {

using testing::check_clone;
using testing::check_module;
using testing::doubles;
using testing::expect_near;
using testing::Masking;
using testing::Matrix;
using testing::normal;
using testing::plain_attention;
using testing::plain_linear;
using testing::plain_norm;
using testing::plain_sum;
using testing::scramble;
using ::testing::UnorderedElementsAre;

constexpr int64_t kHeads = 2;

Matrix plain_feed_forward(const Matrix& x, const nn::Linear& linear1, const nn::Linear& linear2,
                          bool gelu) {
  Matrix y = plain_linear(x, Matrix(linear1.weight), Matrix(linear1.bias));
  for (double& v : y.v) v = gelu ? v * 0.5 * std::erfc(-v / std::sqrt(2)) : std::max(v, 0.0);
  return plain_linear(y, Matrix(linear2.weight), Matrix(linear2.bias));
}

Matrix plain_encoder(const nn::TransformerEncoderLayer& m, const Matrix& x, bool norm_first,
                     bool gelu, const Masking& masked = testing::see_all) {
  const auto attend = [&](const Matrix& y) {
    return plain_attention(m.self_attn, kHeads, y, y, y, masked);
  };
  const auto feed = [&](const Matrix& y) {
    return plain_feed_forward(y, m.linear1, m.linear2, gelu);
  };
  if (norm_first) {
    const Matrix h = plain_sum(x, attend(plain_norm(x, m.norm1)));
    return plain_sum(h, feed(plain_norm(h, m.norm2)));
  }
  const Matrix h = plain_norm(plain_sum(x, attend(x)), m.norm1);
  return plain_norm(plain_sum(h, feed(h)), m.norm2);
}

Matrix plain_decoder(const nn::TransformerDecoderLayer& m, const Matrix& x, const Matrix& memory,
                     bool norm_first) {
  const auto self = [&](const Matrix& y) {
    return plain_attention(m.self_attn, kHeads, y, y, y, testing::see_past);
  };
  const auto cross = [&](const Matrix& y) {
    return plain_attention(m.multihead_attn, kHeads, y, memory, memory);
  };
  const auto feed = [&](const Matrix& y) {
    return plain_feed_forward(y, m.linear1, m.linear2, false);
  };
  if (norm_first) {
    Matrix h = plain_sum(x, self(plain_norm(x, m.norm1)));
    h = plain_sum(h, cross(plain_norm(h, m.norm2)));
    return plain_sum(h, feed(plain_norm(h, m.norm3)));
  }
  Matrix h = plain_norm(plain_sum(x, self(x)), m.norm1);
  h = plain_norm(plain_sum(h, cross(h)), m.norm2);
  return plain_norm(plain_sum(h, feed(h)), m.norm3);
}

TEST(TransformerEncoderLayer, ComputesItsFormula) {
  const Tensor x = normal({3, 4});
  for (const bool norm_first : {false, true}) {
    for (const bool gelu : {false, true}) {
      nn::TransformerEncoderLayer layer(
          4, kHeads,
          {.dim_feedforward = 5,
           .dropout = 0,
           .activation = gelu ? nn::TransformerActivation::kGelu : nn::TransformerActivation::kRelu,
           .norm_first = norm_first});
      scramble(layer);
      expect_near(layer(x), plain_encoder(layer, Matrix(x), norm_first, gelu).tensor());
      const Tensor pad = tensor({0, 1, 0}) > 0;
      const auto masked = [](int64_t, int64_t i, int64_t j, double s) {
        return j > i || j == 1 ? -INFINITY : s;
      };
      expect_near(layer(x, {.src_key_padding_mask = pad, .is_causal = true}),
                  plain_encoder(layer, Matrix(x), norm_first, gelu, masked).tensor());
      const Tensor future = triu(ones({3, 3}), 1) > 0;
      expect_near(layer(x, {.src_mask = future}), layer(x, {.is_causal = true}));
    }
  }
}

TEST(TransformerEncoderLayer, HasPyTorchsNamesAndFirstValues) {
  manual_seed(2);
  const nn::TransformerEncoderLayer layer(8, 2, {.dim_feedforward = 16});
  EXPECT_THAT(testing::names(layer),
              UnorderedElementsAre(
                  "self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight",
                  "self_attn.out_proj.bias", "linear1.weight", "linear1.bias", "linear2.weight",
                  "linear2.bias", "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"));
  const auto largest = [](const Parameter& p) { return abs(p.tensor()).max().item(); };
  EXPECT_NEAR(largest(layer.self_attn.in_proj_weight), std::sqrt(6.0 / 32), 0.02);
  EXPECT_NEAR(largest(layer.linear1.weight), 1 / std::sqrt(8.0), 0.02);
  EXPECT_NEAR(largest(layer.linear2.weight), 1 / std::sqrt(16.0), 0.02);
  EXPECT_EQ(testing::names(nn::TransformerEncoderLayer(8, 2, {.bias = false})).size(), 8u);
}

TEST(TransformerEncoderLayer, CanBeDifferentiatedTwiceAndCopied) {
  const Tensor x = normal({3, 4});
  for (const bool norm_first : {false, true}) {
    nn::TransformerEncoderLayer layer(4, kHeads,
                                      {.dim_feedforward = 5,
                                       .activation = nn::TransformerActivation::kGelu,
                                       .norm_first = norm_first});
    scramble(layer);
    layer.eval();
    check_module(layer, [&] { return layer(x); });
    check_clone(layer, [&](const nn::Module& m) {
      return static_cast<const nn::TransformerEncoderLayer&>(m)(x);
    });
  }
}

TEST(TransformerEncoderLayer, DropoutIsOfTrainingAndRepeats) {
  nn::TransformerEncoderLayer layer(4, kHeads, {.dim_feedforward = 5, .dropout = 0.5});
  scramble(layer);
  const Tensor x = normal({3, 4});
  const auto run = [&] {
    manual_seed(5);
    return doubles(layer(x));
  };
  const auto once = run();
  EXPECT_EQ(run(), once);
  EXPECT_NE(doubles(layer(x)), once);
  layer.eval();
  expect_near(layer(x), plain_encoder(layer, Matrix(x), false, false).tensor());
}

TEST(TransformerEncoderLayer, SamplesAreApart) {
  nn::TransformerEncoderLayer layer(4, kHeads, {.dim_feedforward = 5, .batch_first = true});
  scramble(layer);
  layer.eval();
  const Tensor x = normal({2, 3, 4});
  const Tensor pad = tensor({{0, 1, 0}, {0, 0, 1}}) > 0;
  const Tensor y = layer(x, {.src_key_padding_mask = pad});
  for (int64_t i = 0; i < 2; ++i) {
    expect_near(y[i], layer(x[i], {.src_key_padding_mask = pad[i]}));
  }
}

TEST(TransformerDecoderLayer, ComputesItsFormula) {
  const Tensor x = normal({3, 4});
  const Tensor memory = normal({5, 4});
  for (const bool norm_first : {false, true}) {
    nn::TransformerDecoderLayer layer(
        4, kHeads, {.dim_feedforward = 5, .dropout = 0, .norm_first = norm_first});
    scramble(layer);
    const Tensor y = layer(x, memory, {.tgt_is_causal = true});
    expect_near(y, plain_decoder(layer, Matrix(x), Matrix(memory), norm_first).tensor());
    // Keys that are not there and keys that are hidden are one.
    const Tensor pad = tensor({0, 0, 0, 1, 1}) > 0;
    const Tensor shorter = layer(x, memory.narrow(0, 0, 3), {.tgt_is_causal = true});
    expect_near(layer(x, memory, {.memory_key_padding_mask = pad, .tgt_is_causal = true}), shorter);
    const Tensor future = triu(ones({3, 3}), 1) > 0;
    const Tensor hidden = expand(pad, {3, 5});
    expect_near(layer(x, memory, {.tgt_mask = future, .memory_mask = hidden}), shorter);
  }
}

TEST(TransformerDecoderLayer, CanBeDifferentiatedTwiceAndCopied) {
  const Tensor x = normal({2, 4});
  const Tensor memory = normal({3, 4});
  nn::TransformerDecoderLayer layer(
      4, kHeads, {.dim_feedforward = 5, .activation = nn::TransformerActivation::kGelu});
  EXPECT_EQ(testing::names(layer).size(), 18u);
  EXPECT_THAT(testing::names(layer), ::testing::IsSupersetOf({"multihead_attn.in_proj_weight",
                                                              "norm3.bias", "linear2.weight"}));
  scramble(layer);
  layer.eval();
  check_module(layer, [&] { return layer(x, memory); });
  check_clone(layer, [&](const nn::Module& m) {
    return static_cast<const nn::TransformerDecoderLayer&>(m)(x, memory);
  });
}

TEST(Transformer, StacksLayers) {
  const nn::TransformerLayerOptions layer{.dim_feedforward = 5, .dropout = 0, .norm_first = true};
  nn::TransformerEncoder encoder(4, kHeads, 2, {.layer = layer});
  nn::TransformerDecoder decoder(4, kHeads, 2, {.layer = layer});
  EXPECT_NE(doubles(encoder.layers[0].linear1.weight), doubles(encoder.layers[1].linear1.weight));
  scramble(encoder);
  scramble(decoder);
  const Tensor x = normal({3, 4});
  const Tensor y = normal({2, 4});
  Matrix memory(x);
  for (const auto& l : encoder.layers) memory = plain_encoder(l, memory, true, false);
  memory = plain_norm(memory, *encoder.norm);
  Matrix want(y);
  for (const auto& l : decoder.layers) want = plain_decoder(l, want, memory, true);
  want = plain_norm(want, *decoder.norm);
  expect_near(encoder(x), memory.tensor());
  expect_near(decoder(y, encoder(x), {.tgt_is_causal = true}), want.tensor());
  EXPECT_THAT(testing::names(decoder),
              ::testing::IsSupersetOf({"layers.1.multihead_attn.out_proj.bias", "norm.weight"}));

  const nn::TransformerEncoder bare(4, kHeads, 1, {.layer = layer, .final_norm = false});
  EXPECT_EQ(bare.norm, nullptr);
  EXPECT_EQ(doubles(bare(x.to(kFloat32))), doubles(bare.layers[0](x.to(kFloat32))));
  EXPECT_THROW(nn::TransformerEncoder(4, kHeads, 0), ValueError);
  EXPECT_THROW(nn::TransformerDecoder(5, kHeads, 1), ValueError);
  EXPECT_THROW(encoder(normal({3, 5})), ShapeError);

  check_clone(encoder, [&](const nn::Module& m) {
    return static_cast<const nn::TransformerEncoder&>(m)(x);
  });
  check_clone(decoder, [&](const nn::Module& m) {
    return static_cast<const nn::TransformerDecoder&>(m)(y, x);
  });
}

TEST(Transformer, APartOfAModelLearnsToReverse) {
  // Of each sequence of four symbols the last first: content alone cannot tell, positions must.
  struct Net : nn::Module {
    nn::Embedding symbols{*this, "symbols", 5, 16};
    nn::TransformerEncoder body{
        *this, "body", 16,
        2,     1,      {.layer = {.dim_feedforward = 32, .dropout = 0, .norm_first = true}}};
    nn::Linear out{*this, "out", 16, 5};
    Tensor positions = nn::sinusoidal_positional_encoding(4, 16);
    Tensor operator()(const Tensor& ids) const { return out(body(symbols(ids) + positions)); }
  };
  manual_seed(1);
  Net net;
  optim::Adam adam(net.parameters(), {.lr = 3e-3});
  Generator draws(4);
  int right = 0;
  for (int step = 0; step < 1500; ++step) {
    const Tensor ids = randint(0, 5, {4}, {}, draws);
    const Tensor target = flip(ids);
    const Tensor scores = net(ids);
    if (step >= 1400) right += eq(scores.argmax(1), target).all().item() != 0;
    const Tensor loss = cross_entropy(scores, target);
    adam.zero_grad();
    loss.backward();
    adam.step();
  }
  EXPECT_GE(right, 95);
}

TEST(Transformer, TrainingTakesNoNewMemory) {
#ifdef EBB_NO_POOL
  GTEST_SKIP() << "every block comes from malloc";
#endif
  manual_seed(1);
  nn::TransformerEncoderLayer layer(16, 4, {.dim_feedforward = 32, .norm_first = true});
  optim::SGD sgd(layer.parameters(), {.lr = 0.01});
  const Tensor x = randn({8, 16});
  int64_t before = 0;
  for (int step = 0; step < 40; ++step) {
    if (step == 20) before = memory_stats().heap_allocations;
    sgd.zero_grad();
    square(layer(x, {.is_causal = true})).mean().backward();
    sgd.step();
  }
  EXPECT_EQ(memory_stats().heap_allocations, before);
}

TEST(Transformer, OpsArePlacedWhereTheLayerIsCalled) {
  const nn::TransformerDecoderLayer layer(4, 2, {.dim_feedforward = 8});
  const Tensor x = randn({3, 4});
  const Tensor y = layer(x, x);
  const std::string here = absl::StrCat("transformer_test.cc:", __LINE__ - 1);
  const std::string tape = tape_to_string(y);
  EXPECT_NE(tape.find(here), std::string::npos) << tape;
  for (const char* file : {"transformer.cc", "attention.cc", "linear.cc"}) {
    EXPECT_EQ(tape.find(file), std::string::npos) << tape;
  }
}

TEST(PositionalEncoding, IsItsFormula) {
  const Tensor y = nn::sinusoidal_positional_encoding(3, 5, {.dtype = kFloat64}, 100);
  ASSERT_EQ(y.shape(), Shape({3, 5}));
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t j = 0; j < 5; ++j) {
      const double angle =
          static_cast<double>(t) / std::pow(100, 2 * static_cast<double>(j / 2) / 5);
      EXPECT_NEAR(y[t][j].item(), j % 2 == 0 ? std::sin(angle) : std::cos(angle), 1e-14);
    }
  }
  EXPECT_EQ(nn::sinusoidal_positional_encoding(0, 4).shape(), Shape({0, 4}));
  EXPECT_EQ(nn::sinusoidal_positional_encoding(2, 4).dtype(), kFloat32);
  EXPECT_THROW(nn::sinusoidal_positional_encoding(-1, 4), ValueError);
  EXPECT_THROW(nn::sinusoidal_positional_encoding(1, 0), ValueError);
  EXPECT_THROW(nn::sinusoidal_positional_encoding(1, 2, {}, 0), ValueError);
  EXPECT_THROW(nn::sinusoidal_positional_encoding(1, 2, {.dtype = kInt64}), DTypeError);
}

}  // namespace
}  // namespace ebb
