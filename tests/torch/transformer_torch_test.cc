// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "compare.h"

// Attention with several heads and Transformers beside LibTorch's, with its parameters by their
// names: 122 configurations.
namespace ebb::beside_torch {
namespace {

// Sizes of a call; sequences are [steps,n,width], or [steps,width] of a single sample.
struct Sizes {
  explicit Sizes(Draw& draw)
      : batched(draw.coin()),
        n(batched ? draw(1, 3) : 1),
        heads(draw(1, 3)),
        width(heads * (heads == 1 ? draw(4, 6) : draw(2, 4))),
        queries(draw(1, 6)),
        keys(draw(1, 6)) {}

  In sequence(int64_t steps, int64_t w) const {
    return In(testing::normal(batched ? Shape{steps, n, w} : Shape{steps, w}), true,
              batched ? std::optional<int64_t>() : 1);
  }
  // Keys that no query sees, never the first: of none LibTorch makes NaN, we zeros.
  In padding(Draw& draw, int64_t steps) const {
    if (draw.coin()) return fixed(Tensor());
    const Tensor late = gt(arange(steps), zeros({steps}, {.dtype = kInt64}));
    const Tensor some = testing::booleans(batched ? Shape{n, steps} : Shape{steps});
    return fixed(logical_and(some, late), batched ? std::optional<int64_t>() : 0);
  }

  bool batched;
  int64_t n;
  int64_t heads;
  int64_t width;
  int64_t queries;
  int64_t keys;
};

// A mask [rows,columns] as LibTorch's C++ knows it, of what is added to the scores: none, numbers,
// or minus infinity for keys that are not seen, which ours may be given as a bool too, or for those
// after the query, which ours knows as causal.
struct Mask {
  Mask(Draw& draw, int64_t rows, int64_t columns) : as_bool(draw.coin()) {
    const int64_t kind = draw(0, 3);
    if (kind == 0) return;
    causal = kind == 3;
    value = testing::normal({rows, columns});
    if (kind == 1) {
      as_bool = false;
      return;
    }
    const Tensor late = gt(arange(columns), zeros({columns}, {.dtype = kInt64}));
    const Tensor hidden = causal ? triu(ones({rows, columns}, {.dtype = kBool}), 1)
                                 : logical_and(testing::booleans({rows, columns}), late);
    value = masked_fill(zeros({rows, columns}, {.dtype = kFloat64}), hidden,
                        -std::numeric_limits<double>::infinity());
  }
  In in() const { return fixed(value); }
  Tensor ours(const Tensor& m) const {
    if (causal) return Tensor();
    return m.defined() && as_bool ? lt(m, zeros({}, {.dtype = m.dtype()})) : m;
  }

  Tensor value;
  bool as_bool;
  bool causal = false;
};

Tensor swapped(const Tensor& x) { return x.dim() == 3 ? transpose(x, 0, 1) : x; }

void compare_attention(Draw& draw) {
  const Sizes s(draw);
  const bool self = draw.coin();
  const bool other_sizes = !self && draw.coin();
  const bool average = draw.coin();
  nn::MultiheadAttentionOptions o;
  o.bias = draw.coin();
  o.kdim = other_sizes ? draw(1, 7) : s.width;
  o.vdim = o.kdim;  // LibTorch's C++ wants them equal
  o.batch_first = draw.coin();
  const int64_t keys = self ? s.queries : s.keys;
  const Mask mask(draw, s.queries, keys);
  const Call c{.op = "MultiheadAttention",
               .numbers = {{"width", s.width},
                           {"heads", s.heads},
                           {"bias", o.bias},
                           {"kdim", o.kdim},
                           {"vdim", o.vdim},
                           {"average", average},
                           {"self", self}}};
  std::vector<In> in = {s.sequence(s.queries, s.width)};
  if (!self) {
    in.push_back(s.sequence(keys, o.kdim));
    in.push_back(s.sequence(keys, o.vdim));
  }
  in.push_back(s.padding(draw, keys));
  in.push_back(mask.in());
  nn::MultiheadAttention attend(s.width, s.heads, o);
  compare_module(c, attend, in, [&](Span<const Tensor> t) -> std::vector<Tensor> {
    const size_t last = self ? 0 : 2;
    // Where samples come first, so do theirs; one tensor must stay one.
    const auto ours = [&](const Tensor& x) { return o.batch_first ? swapped(x) : x; };
    const Tensor q = ours(t[0]);
    const auto y = attend(q, self ? q : ours(t[1]), self ? q : ours(t[2]),
                          {.key_padding_mask = t[last + 1],
                           .attn_mask = mask.ours(t[last + 2]),
                           .average_attn_weights = average,
                           .is_causal = mask.causal});
    return {ours(y.output), y.weights};
  });
}

nn::TransformerLayerOptions layer_options(Draw& draw, Call* c, const Sizes& s) {
  nn::TransformerLayerOptions o;
  o.dim_feedforward = draw(1, 9);
  o.dropout = 0;
  o.batch_first = draw.coin();
  o.norm_first = draw.coin();
  const bool gelu = draw.coin();
  if (gelu) o.activation = nn::TransformerActivation::kGelu;
  c->numbers = {{"width", s.width},
                {"heads", s.heads},
                {"feedforward", o.dim_feedforward},
                {"gelu", gelu},
                {"norm_first", o.norm_first}};
  return o;
}

template <class M>
void compare_encoder(Draw& draw, const Call& c, M& module, const Sizes& s, bool batch_first) {
  const Mask mask(draw, s.queries, s.queries);
  const std::vector<In> in = {s.sequence(s.queries, s.width), mask.in(),
                              s.padding(draw, s.queries)};
  compare_module(c, module, in, [&](Span<const Tensor> t) {
    const auto ours = [&](const Tensor& x) { return batch_first ? swapped(x) : x; };
    return ours(module(
        ours(t[0]),
        {.src_mask = mask.ours(t[1]), .src_key_padding_mask = t[2], .is_causal = mask.causal}));
  });
}

template <class M>
void compare_decoder(Draw& draw, const Call& c, M& module, const Sizes& s, bool batch_first) {
  const Mask own(draw, s.queries, s.queries);
  const Mask other(draw, s.queries, s.keys);
  const std::vector<In> in = {
      s.sequence(s.queries, s.width), s.sequence(s.keys, s.width), own.in(), other.in(),
      s.padding(draw, s.queries),     s.padding(draw, s.keys)};
  compare_module(c, module, in, [&](Span<const Tensor> t) {
    const auto ours = [&](const Tensor& x) { return batch_first ? swapped(x) : x; };
    return ours(module(ours(t[0]), ours(t[1]),
                       {.tgt_mask = own.ours(t[2]),
                        .memory_mask = other.ours(t[3]),
                        .tgt_key_padding_mask = t[4],
                        .memory_key_padding_mask = t[5],
                        .tgt_is_causal = own.causal,
                        .memory_is_causal = other.causal}));
  });
}

TEST(TorchModules, MultiheadAttention) {
  Draw draw("multihead");
  repeat(60, [&] { compare_attention(draw); });
}

TEST(TorchModules, TransformerLayers) {
  Draw draw("transformer layers");
  repeat(25, [&] {
    const Sizes s(draw);
    Call c{.op = "TransformerEncoderLayer"};
    const auto o = layer_options(draw, &c, s);
    nn::TransformerEncoderLayer encoder(s.width, s.heads, o);
    compare_encoder(draw, c, encoder, s, o.batch_first);
    c.op = "TransformerDecoderLayer";
    nn::TransformerDecoderLayer decoder(s.width, s.heads, o);
    compare_decoder(draw, c, decoder, s, o.batch_first);
  });
}

// LibTorch's C++ has those that normalise afterwards.
TEST(TorchModules, TransformerStacks) {
  Draw draw("transformer stacks");
  repeat(6, [&] {
    const Sizes s(draw);
    Call c{.op = "TransformerEncoder"};
    nn::TransformerOptions o;
    o.layer = layer_options(draw, &c, s);
    o.layer.norm_first = false;
    o.final_norm = draw.coin();
    const int64_t layers = draw(1, 3);
    c.numbers["layers"] = static_cast<double>(layers);
    c.numbers["norm"] = o.final_norm;
    c.numbers["norm_first"] = 0;
    nn::TransformerEncoder encoder(s.width, s.heads, layers, o);
    compare_encoder(draw, c, encoder, s, o.layer.batch_first);
    c.op = "TransformerDecoder";
    nn::TransformerDecoder decoder(s.width, s.heads, layers, o);
    compare_decoder(draw, c, decoder, s, o.layer.batch_first);
  });
}

}  // namespace
}  // namespace ebb::beside_torch
