// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/attention_relative.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "ebb/nn/transformer_xl.h"
#include "ebb/tests/nn/attention_reference.h"

namespace ebb {
namespace {

using testing::check_clone;
using testing::check_module;
using testing::doubles;
using testing::expect_near;
using ::testing::HasSubstr;
using testing::Matrix;
using testing::normal;
using testing::plain_linear;
using testing::scramble;
using ::testing::ThrowsMessage;
using ::testing::UnorderedElementsAre;

constexpr int64_t kWidth = 6;
constexpr int64_t kHeads = 2;
constexpr int64_t kEach = kWidth / kHeads;

// softmax(score(h, i, j)) mixed(h, j, i, c) over the keys j that sees(i, j), for every query.
Matrix mixed(int64_t queries, int64_t keys, const std::function<bool(int64_t, int64_t)>& sees,
             const std::function<double(int64_t, int64_t, int64_t)>& score,
             const std::function<double(int64_t, int64_t, int64_t)>& value) {
  Matrix y(queries, kWidth);
  for (int64_t h = 0; h < kHeads; ++h) {
    for (int64_t i = 0; i < queries; ++i) {
      double sum = 0;
      std::vector<double> p(static_cast<size_t>(keys));
      for (int64_t j = 0; j < keys; ++j) {
        if (!sees(i, j)) continue;
        p[static_cast<size_t>(j)] = std::exp(score(h, i, j) / std::sqrt(double{kEach}));
        sum += p[static_cast<size_t>(j)];
      }
      for (int64_t c = h * kEach; c < (h + 1) * kEach && sum > 0; ++c) {
        for (int64_t j = 0; j < keys; ++j) {
          y(i, c) += p[static_cast<size_t>(j)] / sum * value(i, j, c);
        }
      }
    }
  }
  return y;
}

bool all(int64_t, int64_t) { return true; }
bool past(int64_t i, int64_t j) { return j <= i; }

Matrix plain_relative(const nn::RelativePositionAttention& m, int64_t most, const Tensor& x,
                      const std::function<bool(int64_t, int64_t)>& sees) {
  const Matrix qkv = plain_linear(Matrix(x), Matrix(m.in_proj.weight), Matrix(m.in_proj.bias));
  const Matrix a(m.key_distances);
  const Matrix b(m.value_distances);
  const auto row = [&](int64_t i, int64_t j) { return std::clamp(j - i, -most, most) + most; };
  const Matrix y = mixed(
      qkv.rows, qkv.rows, sees,
      [&](int64_t h, int64_t i, int64_t j) {
        double s = 0;
        for (int64_t c = 0; c < kEach; ++c) {
          const int64_t at = h * kEach + c;
          s += qkv(i, at) * (qkv(j, kWidth + at) + a(row(i, j), c));
        }
        return s;
      },
      [&](int64_t i, int64_t j, int64_t c) {
        return qkv(j, 2 * kWidth + c) + b(row(i, j), c % kEach);
      });
  return plain_linear(y, Matrix(m.out_proj.weight), Matrix(m.out_proj.bias));
}

TEST(RelativePositionAttention, IsWhatThePaperSays) {
  for (const int64_t most : {0, 2, 9}) {
    nn::RelativePositionAttention m(kWidth, kHeads, most);
    scramble(m);
    for (const int64_t length : {1, 2, 5}) {
      const Tensor x = normal({length, kWidth});
      expect_near(m(x), plain_relative(m, most, x, all).tensor());
      expect_near(m(x, {.is_causal = true}), plain_relative(m, most, x, past).tensor());
    }
  }
}

TEST(RelativePositionAttention, Masks) {
  nn::RelativePositionAttention m(kWidth, kHeads, 2);
  scramble(m);
  const Tensor x = normal({4, kWidth});
  const Tensor mask = tensor({{0, 1, 0, 0}, {1, 1, 1, 1}, {0, 0, 0, 1}, {1, 0, 0, 0}}) > 0;
  const Matrix hidden(mask.to(kFloat64));
  const auto sees = [&](int64_t i, int64_t j) { return hidden(i, j) == 0; };
  const auto both = [&](int64_t i, int64_t j) { return j <= i && hidden(i, j) == 0; };
  expect_near(m(x, {.attn_mask = mask}), plain_relative(m, 2, x, sees).tensor());
  expect_near(m(x, {.attn_mask = mask, .is_causal = true}), plain_relative(m, 2, x, both).tensor());
}

TEST(RelativePositionAttention, SamplesAreIndependent) {
  nn::RelativePositionAttention m(kWidth, kHeads, 2);
  scramble(m);
  const Tensor x = normal({3, 4, kWidth});
  const Tensor y = m(x, {.is_causal = true});
  for (int64_t n = 0; n < 3; ++n) {
    expect_near(y.select(0, n), m(x.select(0, n), {.is_causal = true}));
  }
}

TEST(RelativePositionAttention, Gradients) {
  nn::RelativePositionAttention m(kWidth, kHeads, 2);
  scramble(m);
  const Tensor x = normal({4, kWidth});
  check_module(m, [&] { return m(x); });
  check_module(m, [&] { return m(x, {.is_causal = true}); });
}

TEST(RelativePositionAttention, DropoutTakesKeysAndDistancesTogether) {
  nn::RelativePositionAttention m(kWidth, kHeads, 2, {.dropout = 1});
  scramble(m);
  const Tensor x = normal({4, kWidth});
  const Tensor nothing = m.out_proj(zeros({4, kWidth}, {.dtype = kFloat64}));
  expect_near(m(x), nothing);
  m.eval();
  expect_near(m(x), plain_relative(m, 2, x, all).tensor());
}

TEST(RelativePositionAttention, NamesAndCopies) {
  nn::RelativePositionAttention m(kWidth, kHeads, 3);
  EXPECT_THAT(testing::names(m),
              UnorderedElementsAre("in_proj.weight", "in_proj.bias", "out_proj.weight",
                                   "out_proj.bias", "key_distances", "value_distances"));
  EXPECT_EQ(m.key_distances.shape(), (Shape{7, 3}));
  const Tensor x = randn({5, kWidth});
  check_clone(m, [&](const nn::Module& copy) {
    return dynamic_cast<const nn::RelativePositionAttention&>(copy)(x);
  });
}

TEST(RelativePositionAttention, Errors) {
  EXPECT_THAT([] { nn::RelativePositionAttention(6, 4, 2); },
              ThrowsMessage<ValueError>(HasSubstr("embed_dim is 6, num_heads 4")));
  EXPECT_THAT([] { nn::RelativePositionAttention(6, 2, -1); },
              ThrowsMessage<ValueError>(HasSubstr("max_distance is -1")));
  EXPECT_THAT([] { nn::RelativePositionAttention(6, 2, 1, {.dropout = 2}); },
              ThrowsMessage<ValueError>(HasSubstr("dropout is 2")));
  const nn::RelativePositionAttention m(6, 2, 1);
  EXPECT_THAT([&] { m(zeros({4, 5})); }, ThrowsMessage<ShapeError>(HasSubstr("x is [4,5]")));
  EXPECT_THAT(
      [&] {
        m(zeros({4, 6}), {.attn_mask = zeros({4, 4})});
      },
      ThrowsMessage<DTypeError>(HasSubstr("attn_mask is float32")));
  EXPECT_THAT(
      [&] {
        m(zeros({4, 6}), {.attn_mask = zeros({3, 4}) > 0});
      },
      ThrowsMessage<ShapeError>(HasSubstr("attn_mask is [3,4]; it must be [4,4]")));
}

Matrix plain_xl(const nn::TransformerXLAttention& m, const Tensor& x, const Tensor& memory,
                bool causal) {
  const int64_t before = memory.defined() ? memory.size(0) : 0;
  const Matrix all_of = Matrix(before > 0 ? cat(std::vector<Tensor>{memory, x}, 0) : x);
  const Matrix none(1, 3 * kWidth);
  const Matrix qkv = plain_linear(all_of, Matrix(m.qkv_net.weight), none);
  const Matrix w_r(m.r_net.weight);
  const Matrix u(m.r_w_bias);
  const Matrix v(m.r_r_bias);
  // Row `at` of the projected sines and cosines of a distance.
  const auto r = [&](int64_t distance, int64_t at) {
    double sum = 0;
    for (int64_t i = 0; i < kWidth; ++i) {
      const double angle = static_cast<double>(distance) /
                           std::pow(10000.0, static_cast<double>(i / 2 * 2) / double{kWidth});
      sum += w_r(at, i) * (i % 2 == 0 ? std::sin(angle) : std::cos(angle));
    }
    return sum;
  };
  const Matrix y = mixed(
      x.size(0), all_of.rows, [&](int64_t i, int64_t j) { return !causal || j <= i + before; },
      [&](int64_t h, int64_t i, int64_t j) {
        double s = 0;
        for (int64_t c = 0; c < kEach; ++c) {
          const int64_t at = h * kEach + c;
          const double q = qkv(i + before, at);
          s += (q + u(h, c)) * qkv(j, kWidth + at) + (q + v(h, c)) * r(i + before - j, at);
        }
        return s;
      },
      [&](int64_t, int64_t j, int64_t c) { return qkv(j, 2 * kWidth + c); });
  return plain_linear(y, Matrix(m.o_net.weight), Matrix(1, kWidth));
}

TEST(TransformerXLAttention, IsWhatThePaperSays) {
  nn::TransformerXLAttention m(kWidth, kHeads);
  scramble(m);
  for (const int64_t length : {1, 2, 5}) {
    const Tensor x = normal({length, kWidth});
    for (const int64_t before : {0, 1, 3, 7}) {
      const Tensor memory = before == 0 ? Tensor() : normal({before, kWidth});
      expect_near(m(x, memory), plain_xl(m, x, memory, true).tensor());
      expect_near(m(x, memory, {}), plain_xl(m, x, memory, false).tensor());
    }
  }
}

TEST(TransformerXLAttention, Gradients) {
  nn::TransformerXLAttention m(kWidth, kHeads);
  scramble(m);
  const Tensor x = normal({3, kWidth});
  const Tensor memory = normal({2, kWidth});
  check_module(m, [&] { return m(x, memory); });
}

TEST(TransformerXLAttention, SamplesAreIndependentAndErrorsNameTheShapes) {
  nn::TransformerXLAttention m(kWidth, kHeads);
  scramble(m);
  const Tensor x = normal({2, 4, kWidth});
  const Tensor memory = normal({2, 3, kWidth});
  const Tensor y = m(x, memory);
  for (int64_t n = 0; n < 2; ++n) {
    expect_near(y.select(0, n), m(x.select(0, n), memory.select(0, n)));
  }
  EXPECT_THAT([&] { m(x, memory.select(0, 0)); },
              ThrowsMessage<ShapeError>(HasSubstr("x is [2,4,6], memory [3,6]")));
  EXPECT_THAT(
      [&] {
        m(x, normal({2, 3, 5}));
      },
      ThrowsMessage<ShapeError>(HasSubstr("memory is [2,3,5]")));
}

nn::TransformerOptions small(bool norm_first) {
  return {.layer = {.dim_feedforward = 8, .dropout = 0, .norm_first = norm_first},
          .final_norm = norm_first};
}

// With a memory that forgets nothing, segments give what the whole sequence gives.
TEST(TransformerXL, SegmentsSeeWhatCameBefore) {
  for (const bool norm_first : {false, true}) {
    nn::TransformerXL m(kWidth, kHeads, 3, small(norm_first));
    scramble(m);
    const Tensor x = normal({9, kWidth});
    const Tensor whole = m(x);
    nn::SegmentMemory memory(100);
    std::vector<Tensor> parts;
    for (const auto& [first, count] : {std::pair{0, 4}, {4, 1}, {5, 4}}) {
      parts.push_back(m(narrow(x, 0, first, count), &memory));
    }
    EXPECT_EQ(memory.length(), 9);
    expect_near(cat(parts, 0), whole, 1e-11);
  }
}

TEST(TransformerXL, MemoryIsNotTheCallersBuffer) {
  nn::TransformerXL m(kWidth, kHeads, 1, small(false));
  scramble(m);
  const Tensor x = normal({3, kWidth});
  const std::vector<double> before = x.to_vector<double>();
  nn::SegmentMemory memory(8);
  m(x, &memory);
  Parameter(x).copy_from(zeros_like(x));  // used again
  EXPECT_EQ(memory.of_layer(0).to_vector<double>(), before);
}

// Through L layers a memory of M positions is felt L M positions later, and no further.
TEST(TransformerXL, ForgetsWhatIsTooFarBack) {
  nn::TransformerXL m(kWidth, kHeads, 2, small(false));
  scramble(m);
  Tensor x = normal({10, kWidth});
  const auto last = [&](const Tensor& sequence) {
    nn::SegmentMemory memory(3);
    Tensor y;
    for (int64_t i = 0; i < 10; ++i) y = m(narrow(sequence, 0, i, 1), &memory);
    EXPECT_EQ(memory.length(), 3);
    return doubles(y);
  };
  const auto with = [&](int64_t position) {
    const Tensor other = normal({1, kWidth});
    return cat(std::vector<Tensor>{narrow(x, 0, 0, position), other,
                                   narrow(x, 0, position + 1, 9 - position)},
               0);
  };
  const auto before = last(x);
  EXPECT_EQ(last(with(2)), before);  // 7 back
  EXPECT_NE(last(with(3)), before);  // 6 back: through both layers
}

TEST(TransformerXL, NoGradientGoesToTheMemory) {
  for (const bool norm_first : {false, true}) {
    nn::TransformerXLLayer m(kWidth, kHeads, small(norm_first).layer);
    scramble(m);
    const Tensor x = variable(normal({3, kWidth}));
    const Tensor memory = variable(normal({2, kWidth}));
    const auto g = grad({m(x, memory).sum()}, {x, memory}, {.allow_unused = true});
    EXPECT_TRUE(g[0].defined());
    EXPECT_FALSE(g[1].defined());
  }
}

TEST(TransformerXL, Gradients) {
  nn::TransformerXL m(kWidth, kHeads, 2, small(true));
  scramble(m);
  const Tensor first = normal({3, kWidth});
  const Tensor second = normal({2, kWidth});
  nn::SegmentMemory filled(4);
  m(first, &filled);
  check_module(m, [&] {
    nn::SegmentMemory memory = filled;
    return m(second, &memory);
  });
}

TEST(TransformerXL, NamesCopiesAndErrors) {
  nn::TransformerXL m(kWidth, kHeads, 1, small(true));
  EXPECT_THAT(testing::names(m),
              UnorderedElementsAre(
                  "layers.0.self_attn.qkv_net.weight", "layers.0.self_attn.r_net.weight",
                  "layers.0.self_attn.o_net.weight", "layers.0.self_attn.r_w_bias",
                  "layers.0.self_attn.r_r_bias", "layers.0.linear1.weight", "layers.0.linear1.bias",
                  "layers.0.linear2.weight", "layers.0.linear2.bias", "layers.0.norm1.weight",
                  "layers.0.norm1.bias", "layers.0.norm2.weight", "layers.0.norm2.bias",
                  "norm.weight", "norm.bias"));
  const Tensor x = randn({5, kWidth});
  check_clone(
      m, [&](const nn::Module& copy) { return dynamic_cast<const nn::TransformerXL&>(copy)(x); });
  EXPECT_THAT([] { nn::TransformerXL(6, 2, 0); },
              ThrowsMessage<ValueError>(HasSubstr("num_layers is 0")));
  EXPECT_THAT([] { nn::SegmentMemory(-1); },
              ThrowsMessage<ValueError>(HasSubstr("capacity is -1")));
  nn::SegmentMemory none(0);
  m(x, &none);
  EXPECT_EQ(none.length(), 0);
}

}  // namespace
}  // namespace ebb
