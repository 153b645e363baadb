// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "compare.h"

// Attention, products, and what moves elements, beside LibTorch: 215 configurations.
namespace ebb::beside_torch {
namespace {

void compare_attention(Draw& draw) {
  Shape front;
  for (int64_t i = draw(0, 2); i > 0; --i) front.push_back(draw(1, 3));
  const auto matrix = [&](int64_t rows, int64_t columns) {
    Shape s = front;
    s.push_back(rows);
    s.push_back(columns);
    return s;
  };
  const int64_t queries = draw(1, 9);
  const int64_t keys = draw(1, 9);
  const int64_t width = draw(1, 8);
  Call c{.op = "attention"};
  AttentionOptions o;
  o.is_causal = draw.coin();
  o.query_offset = o.is_causal && draw.coin() ? draw(0, 3) : 0;
  c.numbers = {{"causal", o.is_causal}, {"offset", o.query_offset}};
  if (draw.coin()) {
    o.scale = draw.between(0.1, 1);
    c.numbers["scale"] = *o.scale;
  }
  if (draw.coin()) o.keep_weights = draw.coin();
  In mask = fixed(Tensor());
  const int64_t kind = draw(0, 2);
  const Shape of_mask = draw.coin() ? Shape{queries, keys} : matrix(queries, keys);
  // Every query sees the first key: of none LibTorch makes NaN, we zeros.
  if (kind == 1) {
    const Tensor first = eq(arange(keys), zeros({keys}, {.dtype = kInt64}));
    mask = fixed(logical_or(testing::booleans(of_mask), first));
  }
  if (kind == 2) mask = In(testing::normal(of_mask));
  compare(c,
          {testing::normal(matrix(queries, width)), testing::normal(matrix(keys, width)),
           testing::normal(matrix(keys, draw(1, 6))), mask},
          [&](Span<const Tensor> t) {
            AttentionOptions with = o;
            with.attn_mask = t[3];
            return scaled_dot_product_attention(t[0], t[1], t[2], with);
          });
}

TEST(BesideTorch, Attention) {
  Draw draw("attention");
  repeat(80, [&] { compare_attention(draw); });
}

TEST(BesideTorch, Products) {
  Draw draw("products");
  repeat(25, [&] {
    Shape front;
    for (int64_t i = draw(0, 2); i > 0; --i) front.push_back(draw(1, 4));
    const int64_t in = draw(1, 9);
    const int64_t out = draw(1, 9);
    Shape x = front;
    x.push_back(in);
    std::vector<In> inputs = {testing::normal(x), testing::normal({out, in}),
                              draw.coin() ? testing::normal({out}) : Tensor()};
    compare({.op = "linear"}, inputs,
            [](const Tensor& a, const Tensor& w, const Tensor& b) { return linear(a, w, b); });
  });
}

// The borders of one to three axes, each by its own width; constant ones by negative widths too.
TEST(BesideTorch, PaddingModes) {
  Draw draw("pad");
  constexpr const char* kNames[] = {"constant", "reflect", "replicate", "circular"};
  repeat(80, [&] {
    const auto mode = static_cast<PadMode>(draw(0, 3));
    const int dims = static_cast<int>(draw(1, 3));
    const Shape shape = sample_shape(draw, dims, true, draw(1, 3), 1, 6);
    std::vector<int64_t> pads;
    for (int d = 0; d < dims; ++d) {
      const int64_t n = shape[shape.rank() - 1 - d];
      const int64_t most = mode == PadMode::kReflect ? n - 1 : mode == PadMode::kCircular ? n : 5;
      const int64_t least = mode == PadMode::kConstant ? -((n - 1) / 2) : 0;
      pads.push_back(draw(least, most));
      pads.push_back(draw(least, most));
    }
    const double value = mode == PadMode::kConstant ? draw.between(-1, 1) : 0;
    Call c{.op = "pad",
           .padding = pads,
           .mode = kNames[static_cast<int>(mode)],
           .numbers = {{"value", value}}};
    compare(c, samples({testing::normal(shape)}, true),
            [&](const Tensor& x) { return pad(x, pads, mode, value); });
  });
}

TEST(BesideTorch, PixelShuffle) {
  Draw draw("shuffle");
  repeat(15, [&] {
    const bool batched = draw.coin();
    const int64_t r = draw(1, 3);
    Shape shape = sample_shape(draw, 2, batched, r * r * draw(1, 3), 1, 5);
    compare({.op = "pixel_shuffle", .size = {r}}, samples({testing::normal(shape)}, batched),
            [&](const Tensor& x) { return pixel_shuffle(x, r); });
    shape[shape.rank() - 1] *= r;
    shape[shape.rank() - 2] *= r;
    compare({.op = "pixel_unshuffle", .size = {r}}, samples({testing::normal(shape)}, batched),
            [&](const Tensor& x) { return pixel_unshuffle(x, r); });
  });
}

}  // namespace
}  // namespace ebb::beside_torch
