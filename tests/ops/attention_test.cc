// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/core/memory.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/random.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr uint64_t kSeed = 7;

struct Case {
  std::string name;
  std::vector<Shape> shapes;  // one to three, and of the mask
  int64_t heads = 0;
  enum Mask { kNone, kBool, kFloat } mask = kNone;
  bool causal = false;
  double dropout = 0;
  std::optional<double> scale = {};
  bool alibi = false;
  int64_t offset = 0;
};

// Element (i, j) of the matrix at `lead` of an array that broadcasts.
double element(const RefArray& a, const std::vector<int64_t>& lead, int64_t i, int64_t j) {
  size_t at = 0;
  const int r = a.shape.rank();
  const auto n = static_cast<int>(lead.size());
  const auto step = [&](int axis, int64_t index) {
    const int64_t size = a.shape[axis];
    at = at * static_cast<size_t>(size) + static_cast<size_t>(size == 1 ? 0 : index);
  };
  for (int axis = 0; axis < r - 2; ++axis)
    step(axis, lead[static_cast<size_t>(n - (r - 2) + axis)]);
  if (r >= 2) step(r - 2, i);
  if (r >= 1) step(r - 1, j);
  return a.v[at];
}

// By the definition, element by element.
std::vector<RefArray> reference(const Case& c, Span<const RefArray> in) {
  const size_t parts = c.shapes.size() - (c.mask == Case::kNone ? 0 : 1);
  const int64_t heads = std::max<int64_t>(c.heads, 1);
  // Which input, and the first of its columns.
  const auto source = [&](size_t role) { return std::min(role, parts - 1); };
  const auto width = [&](size_t role) {
    const RefArray& a = in[source(role)];
    const int64_t pieces = source(role) == parts - 1 ? static_cast<int64_t>(4 - parts) : 1;
    return a.shape[a.shape.rank() - 1] / (pieces * heads);
  };
  const auto value = [&](size_t role, const std::vector<int64_t>& lead, int64_t head, int64_t row,
                         int64_t col) {
    const auto piece = static_cast<int64_t>(role - source(role));
    return element(in[source(role)], lead, row, (piece * heads + head) * width(role) + col);
  };
  Shape lead;
  for (size_t i = 0; i < parts; ++i) {
    const Shape& s = in[i].shape;
    broadcast_shapes(lead, Shape(s.data(), static_cast<size_t>(s.rank() - 2)), &lead);
  }
  const auto rows_of = [&](size_t role) {
    const Shape& s = in[source(role)].shape;
    return s[s.rank() - 2];
  };
  const int64_t rows = rows_of(0);
  const int64_t cols = rows_of(1);
  Shape ys = lead;
  ys.push_back(rows);
  ys.push_back(heads * width(2));
  Shape ps = lead;
  if (c.heads > 0) ps.push_back(heads);
  ps.push_back(rows);
  ps.push_back(cols);
  RefArray y(ys);
  RefArray p(ps);
  const double scale =
      c.scale.value_or(1 / std::sqrt(static_cast<double>(std::max<int64_t>(width(0), 1))));
  Generator g(kSeed);
  std::vector<int64_t> index(static_cast<size_t>(lead.rank()));
  for (int64_t b = 0; b < lead.numel(); ++b) {
    int64_t rest = b;
    for (int a = lead.rank() - 1; a >= 0; --a) {
      index[static_cast<size_t>(a)] = rest % lead[a];
      rest /= lead[a];
    }
    for (int64_t h = 0; h < heads; ++h) {
      std::vector<int64_t> of_head = index;
      if (c.heads > 0) of_head.push_back(h);
      for (int64_t i = 0; i < rows; ++i) {
        std::vector<double> w(static_cast<size_t>(cols));
        double sum = 0;
        for (int64_t j = 0; j < cols; ++j) {
          double score = 0;
          for (int64_t d = 0; d < width(0); ++d) {
            score += value(0, index, h, i, d) * value(1, index, h, j, d);
          }
          score *= scale;
          if (c.alibi) {
            const int64_t n = c.heads > 0 ? heads : lead.rank() > 0 ? lead[lead.rank() - 1] : 1;
            const int64_t at = c.heads > 0 ? h : lead.rank() > 0 ? index.back() : 0;
            score -= alibi_slopes(n, {.dtype = kFloat64})[at].item() *
                     static_cast<double>(std::abs(i + c.offset - j));
          }
          bool sees = !c.causal || j <= i + c.offset;
          if (c.mask == Case::kBool) sees = sees && element(in[parts], of_head, i, j) != 0;
          if (c.mask == Case::kFloat) score += element(in[parts], of_head, i, j);
          w[static_cast<size_t>(j)] = sees ? std::exp(score) : 0;
          sum += w[static_cast<size_t>(j)];
        }
        for (int64_t j = 0; j < cols; ++j) {
          double& pj = w[static_cast<size_t>(j)];
          pj = sum == 0 ? 0 : pj / sum;
          p.v[static_cast<size_t>(((b * heads + h) * rows + i) * cols + j)] = pj;
          if (c.dropout > 0) {
            uint8_t keep = 0;
            g.fill_bernoulli(&keep, 1, 1 - c.dropout);
            pj = keep == 0 ? 0 : pj / (1 - c.dropout);
          }
        }
        for (int64_t e = 0; e < width(2); ++e) {
          double out = 0;
          for (int64_t j = 0; j < cols; ++j)
            out += w[static_cast<size_t>(j)] * value(2, index, h, j, e);
          y.v[static_cast<size_t>((b * rows + i) * heads * width(2) + h * width(2) + e)] = out;
        }
      }
    }
  }
  if (c.heads == 0) return {y};
  return {y, p};
}

// What the op gives for the inputs of a case.
std::vector<Tensor> call(const Case& c, bool keep, Span<const Tensor> in) {
  AttentionOptions options{.dropout_p = c.dropout,
                           .is_causal = c.causal,
                           .scale = c.scale,
                           .alibi = c.alibi,
                           .query_offset = c.offset,
                           .keep_weights = keep};
  const bool masked = c.mask != Case::kNone;
  if (masked) options.attn_mask = in.back();
  const Span<const Tensor> parts = in.first(in.size() - (masked ? 1 : 0));
  Generator g(kSeed);
  if (c.heads == 0) {
    return {scaled_dot_product_attention(parts[0], parts[1], parts[2], options, g)};
  }
  AttentionOutput out = multi_head_attention(parts, c.heads, options, g);
  if (!keep) return {out.output};
  return {out.output, out.weights};
}

Sample sample(Case c, bool keep) {
  Sample s{.name = c.name};
  for (size_t i = 0; i < c.shapes.size(); ++i) {
    const bool mask = c.mask == Case::kBool && i + 1 == c.shapes.size();
    s.inputs.push_back(mask ? testing::booleans(c.shapes[i]) : normal(c.shapes[i]));
  }
  s.call = [c, keep](Span<const Tensor> in) { return call(c, keep, in); };
  s.reference = [c, keep](Span<const RefArray> in) {
    std::vector<RefArray> all = reference(c, in);
    if (!keep) all.resize(1);
    return all;
  };
  return s;
}

// Both ops are the same function of the same inputs.
RegisterSamples attention_samples(const std::string& op, bool keep) {
  return RegisterSamples(op, [op, keep] {
    OpSamples s{.op = op};
    using Shapes = std::vector<Shape>;
    const std::vector<Case> cases = {
        {.name = "plain", .shapes = Shapes{{3, 4}, {3, 4}, {3, 4}}},
        {.name = "cross, other widths", .shapes = Shapes{{2, 3}, {5, 3}, {5, 4}}},
        {.name = "one query", .shapes = Shapes{{1, 3}, {4, 3}, {4, 2}}},
        {.name = "one key", .shapes = Shapes{{3, 2}, {1, 2}, {1, 1}}},
        {.name = "scaled", .shapes = Shapes{{3, 2}, {3, 2}, {3, 2}}, .scale = 0.3},
        {.name = "leading axes", .shapes = Shapes{{2, 2, 3, 2}, {2, 2, 4, 2}, {2, 2, 4, 3}}},
        {.name = "broadcast", .shapes = Shapes{{2, 1, 3, 2}, {3, 4, 2}, {1, 4, 2}}},
        {.name = "shared keys", .shapes = Shapes{{3, 2, 2}, {1, 4, 2}, {4, 2}}},
        {.name = "causal", .shapes = Shapes{{4, 2}, {4, 2}, {4, 2}}, .causal = true},
        {.name = "causal, more keys", .shapes = Shapes{{2, 2}, {5, 2}, {5, 2}}, .causal = true},
        {.name = "causal, more queries", .shapes = Shapes{{5, 2}, {2, 2}, {2, 2}}, .causal = true},
        {.name = "bool mask",
         .shapes = Shapes{{4, 2}, {5, 2}, {5, 2}, {4, 5}},
         .mask = Case::kBool},
        {.name = "mask of keys",
         .shapes = Shapes{{2, 3, 2}, {2, 4, 2}, {2, 4, 2}, {4}},
         .mask = Case::kBool},
        {.name = "mask and causal",
         .shapes = Shapes{{4, 2}, {4, 2}, {4, 2}, {4, 4}},
         .mask = Case::kBool,
         .causal = true},
        {.name = "bias", .shapes = Shapes{{3, 2}, {4, 2}, {4, 2}, {3, 4}}, .mask = Case::kFloat},
        {.name = "bias of heads",
         .shapes = Shapes{{2, 2, 3, 2}, {2, 2, 3, 2}, {2, 2, 3, 2}, {2, 1, 3}},
         .mask = Case::kFloat,
         .causal = true},
        {.name = "dropout", .shapes = Shapes{{2, 3, 2}, {2, 4, 2}, {2, 4, 2}}, .dropout = 0.4},
        {.name = "dropout of all", .shapes = Shapes{{3, 2}, {4, 2}, {4, 2}}, .dropout = 1},
        {.name = "dropout and bias",
         .shapes = Shapes{{3, 2}, {4, 2}, {4, 2}, {3, 4}},
         .mask = Case::kFloat,
         .dropout = 0.3},
        {.name = "heads", .shapes = Shapes{{3, 4}, {5, 4}, {5, 6}}, .heads = 2},
        {.name = "one head", .shapes = Shapes{{3, 4}, {5, 4}, {5, 6}}, .heads = 1},
        {.name = "heads, shared keys", .shapes = Shapes{{2, 3, 4}, {5, 4}, {1, 5, 4}}, .heads = 2},
        {.name = "keys and values packed", .shapes = Shapes{{3, 4}, {5, 8}}, .heads = 2},
        {.name = "packed", .shapes = Shapes{{3, 12}}, .heads = 2},
        {.name = "packed, samples", .shapes = Shapes{{2, 3, 12}}, .heads = 4},
        {.name = "packed, bias of heads",
         .shapes = Shapes{{3, 12}, {2, 3, 3}},
         .heads = 2,
         .mask = Case::kFloat},
        {.name = "packed keys, mask",
         .shapes = Shapes{{2, 3, 4}, {2, 5, 8}, {2, 1, 1, 5}},
         .heads = 2,
         .mask = Case::kBool},
        {.name = "packed, causal, dropout",
         .shapes = Shapes{{4, 6}},
         .heads = 2,
         .causal = true,
         .dropout = 0.5},
        {.name = "late queries",
         .shapes = Shapes{{2, 2}, {5, 2}, {5, 2}},
         .causal = true,
         .offset = 3},
        {.name = "queries before the keys",
         .shapes = Shapes{{4, 2}, {3, 2}, {3, 2}},
         .causal = true,
         .offset = -2},
        {.name = "alibi", .shapes = Shapes{{2, 3, 2}, {2, 4, 2}, {2, 4, 2}}, .alibi = true},
        {.name = "alibi, packed, causal",
         .shapes = Shapes{{2, 4, 18}},
         .heads = 3,
         .causal = true,
         .alibi = true},
        {.name = "alibi of one head, late",
         .shapes = Shapes{{2, 2}, {4, 2}, {4, 2}},
         .alibi = true,
         .offset = 2},
        {.name = "no query", .shapes = Shapes{{0, 2}, {3, 2}, {3, 2}}},
        {.name = "no key", .shapes = Shapes{{3, 2}, {0, 2}, {0, 2}}},
        {.name = "no sample", .shapes = Shapes{{0, 3, 2}, {1, 3, 2}, {0, 3, 2}}},
        {.name = "no element", .shapes = Shapes{{3, 0}, {4, 0}, {4, 2}}},
        {.name = "nothing packed", .shapes = Shapes{{0, 12}}, .heads = 2},
    };
    for (const Case& c : cases) s.samples.push_back(sample(c, keep));
    s.sized = [keep](int64_t n) {
      std::vector<Sample> all;
      if (n <= 70) {
        const auto add = [&](const Case& c) { all.push_back(sample(c, keep)); };
        add({.name = "keys", .shapes = Shapes{{2, 3}, {n, 3}, {n, 2}}});
        add({.name = "width", .shapes = Shapes{{2, n}, {3, n}, {3, n}}});
        add({.name = "heads", .shapes = Shapes{{n, 12}}, .heads = 2});
        add({.name = "causal", .shapes = Shapes{{n, 6}}, .heads = 1, .causal = true});
      }
      return all;
    };

    const auto plain = [keep](AttentionOptions options) {
      options.keep_weights = keep;
      return [options](Span<const Tensor> in) {
        return scaled_dot_product_attention(in[0], in[1], in[2], options);
      };
    };
    const auto headed = [keep](int64_t heads) {
      return [=](Span<const Tensor> in) {
        return multi_head_attention(in, heads, {.keep_weights = keep}).output;
      };
    };
    const auto masked = [keep](Span<const Tensor> in) {
      return scaled_dot_product_attention(in[0], in[1], in[2],
                                          {.attn_mask = in[3], .keep_weights = keep});
    };
    const Tensor x = normal({3, 4});
    s.errors = {
        error_sample<ShapeError>("rank", {normal({4}), x, x}, plain({}),
                                 op + ": query is [4], key is [3,4], "
                                      "value is [3,4]; query must have rank 2 at least"),
        error_sample<ShapeError>("widths", {x, normal({3, 5}), x}, plain({}),
                                 "key is [3,5], value is [3,4]; a query has 4 elements, a key 5"),
        error_sample<ShapeError>("keys", {x, x, normal({2, 4})}, plain({}),
                                 "key.size(-2)=3 must equal value.size(-2)=2"),
        error_sample<ShapeError>("axes", {normal({2, 3, 4}), normal({3, 3, 4}), x}, plain({}),
                                 "the axes before the last two must be equal or 1"),
        error_sample<ShapeError>("mask", {x, x, x, normal({4, 3})}, masked,
                                 "attn_mask is [4,3]; attn_mask must broadcast to [3,3]"),
        error_sample<ShapeError>("mask of too many", {x, x, x, normal({2, 3, 3})}, masked,
                                 "attn_mask must broadcast to [3,3]"),
        error_sample<DTypeError>("mask type", {x, x, x, testing::integers({3, 3}, 0, 1)}, masked,
                                 "attn_mask is int64[3,3]; it must be bool or float64"),
        error_sample<DTypeError>("integers", {testing::integers({3, 4}, 0, 1), x, x}, plain({}),
                                 op + ": input 0 is int64[3,4]"),
        error_sample<ValueError>("dropout", {x, x, x}, plain({.dropout_p = 1.5}),
                                 "dropout_p is 1.5, outside [0, 1]"),
        error_sample<ShapeError>("heads", {x, x, x}, headed(3),
                                 "query.size(-1)=4 must be a multiple of 3"),
        error_sample<ShapeError>("packed", {x}, headed(2),
                                 "query_key_value.size(-1)=4 must be a multiple of 6"),
        error_sample<ValueError>("no heads", {x, x, x}, headed(0),
                                 "multi_head_attention: 3 inputs and 0 heads"),
        error_sample<ValueError>("inputs", {x, x, x, x}, headed(1), "4 inputs and 1 heads"),
    };
    s.no_scalar = "there are no rows to attend to";
    return s;
  });
}
const RegisterSamples kAttention = attention_samples("scaled_dot_product_attention", true);
const RegisterSamples kLeanAttention =
    attention_samples("scaled_dot_product_attention_lean", false);

// Peak memory beyond what is there before, in numbers of float32.
int64_t peak_of(const std::function<void()>& f) {
  reset_peak_memory();
  const int64_t before = memory_stats().live_bytes;
  f();
  return (memory_stats().peak_bytes - before) / 4;
}

TEST(Attention, LeanMemoryGrowsWithTheLengthAndNotWithItsSquare) {
  constexpr int64_t kHeads = 2, kWidth = 8;
  const auto peak = [](int64_t length, std::optional<bool> keep) {
    const Tensor x = variable(randn({length, 3 * kHeads * kWidth}));
    const Tensor in[] = {x};
    const auto step = [&] {
      square(multi_head_attention(in, kHeads, {.is_causal = true, .keep_weights = keep}).output)
          .sum()
          .backward();
      x.zero_grad();
    };
    step();
    return peak_of(step);
  };
  // Twice as long: twice the inputs, outputs and their gradients.
  const int64_t shorter = peak(512, false);
  const int64_t longer = peak(1024, false);
  EXPECT_LT(longer, 2.2 * static_cast<double>(shorter));
  EXPECT_LT(longer, 1024 * 3 * kHeads * kWidth * 5);
  EXPECT_GT(peak(1024, true), kHeads * 1024 * 1024);
}

// What is given up where the weights are not kept is nothing but time.
TEST(Attention, LeanIsTheSameAsKeeping) {
  const Tensor x = randn({150, 36});
  const auto run = [&](bool keep) {
    const Tensor at = variable(x);
    const Tensor in[] = {at};
    Generator g(5);
    const Tensor y =
        multi_head_attention(
            in, 3, {.dropout_p = 0.2, .is_causal = true, .alibi = true, .keep_weights = keep}, g)
            .output;
    square(y).sum().backward();
    EXPECT_EQ(g.state().counter_lo, 3u * 150 * 150);
    return std::pair{y.to_vector<float>(), at.grad().to_vector<float>()};
  };
  const auto [y, g] = run(true);
  const auto [lean_y, lean_g] = run(false);
  for (size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(lean_y[i], y[i], 1e-6);
  for (size_t i = 0; i < g.size(); ++i) EXPECT_NEAR(lean_g[i], g[i], 1e-5);
}

TEST(Attention, AlibiSlopesAreThoseOfThePaper) {
  EXPECT_EQ(
      alibi_slopes(8).to_vector<double>(),
      (std::vector<double>{0.5, 0.25, 0.125, 0.0625, 0.03125, 1.0 / 64, 1.0 / 128, 1.0 / 256}));
  const auto three = alibi_slopes(3, {.dtype = kFloat64}).to_vector<double>();
  EXPECT_DOUBLE_EQ(three[0], std::exp2(-4));
  EXPECT_DOUBLE_EQ(three[1], std::exp2(-8));
  EXPECT_DOUBLE_EQ(three[2], std::exp2(-2));
  EXPECT_THROW(alibi_slopes(0), ValueError);
}

TEST(Attention, AQueryThatSeesNothingGetsZerosAndPassesNoGradient) {
  const Tensor q = variable(normal({3, 4}));
  const Tensor k = variable(normal({3, 4}));
  const Tensor v = variable(normal({3, 4}));
  const Tensor sees = testing::tensor({3, 3}, {1, 0, 1, 0, 0, 0, 0, 1, 0}) > 0;
  const Tensor bias =
      where(sees, zeros({}, {.dtype = kFloat64}), full({}, -kInf, {.dtype = kFloat64}));
  for (const Tensor& mask : {sees, bias}) {
    const Tensor y = scaled_dot_product_attention(q, k, v, {.attn_mask = mask});
    EXPECT_EQ(y[1].to_vector<double>(), std::vector<double>(4, 0.0));
    EXPECT_EQ(y[2].to_vector<double>(), v[1].to_vector<double>());
    const Tensor inputs[] = {q, k, v};
    const auto first = grad(std::vector<Tensor>{square(y).sum()}, inputs, {.create_graph = true});
    EXPECT_EQ(first[0][1].to_vector<double>(), std::vector<double>(4, 0.0));
    for (const Tensor& g : first) {
      for (const double e : g.to_vector<double>()) EXPECT_TRUE(std::isfinite(e));
      for (const Tensor& h : grad(std::vector<Tensor>{square(g).sum()}, inputs,
                                  {.retain_graph = true, .allow_unused = true})) {
        for (const double e : h.to_vector<double>()) EXPECT_TRUE(std::isfinite(e));
      }
    }
  }
}

TEST(Attention, DropoutDropsAsDropoutDoes) {
  Generator a(3);
  Generator b(3);
  const Tensor x = normal({6, 8});
  const Tensor inputs[] = {x, x, x};
  const AttentionOutput with = multi_head_attention(inputs, 2, {.dropout_p = 0.25}, a);
  EXPECT_EQ(with.weights.to_vector<double>(),
            multi_head_attention(inputs, 2).weights.to_vector<double>());
  const Tensor kept = dropout(with.weights, 0.25, true, b);
  EXPECT_EQ(a.state(), b.state());
  for (int64_t h = 0; h < 2; ++h) {
    const auto y = with.output.narrow(1, 4 * h, 4).to_vector<double>();
    const auto want = kept[h].matmul(x.narrow(1, 4 * h, 4)).to_vector<double>();
    for (size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], want[i], 1e-14);
  }
}

TEST(Attention, PackedIsTheSameAsApart) {
  const Tensor x = variable(normal({5, 24}));
  const auto [q, k, v] = chunk<3>(x, 1);
  const Tensor apart[] = {q, k, v};
  const Tensor two[] = {q, x.narrow(1, 8, 16)};
  const Tensor one[] = {x};
  const Tensor want = multi_head_attention(apart, 2).output;
  const auto g = grad(square(want).sum(), x, {.retain_graph = true}).to_vector<double>();
  for (const Span<const Tensor> in : {Span<const Tensor>(two), Span<const Tensor>(one)}) {
    const Tensor y = multi_head_attention(in, 2).output;
    EXPECT_EQ(y.to_vector<double>(), want.to_vector<double>());
    EXPECT_EQ(grad(square(y).sum(), x, {.retain_graph = true}).to_vector<double>(), g);
  }
  // Heads as a leading axis.
  const auto split = [](const Tensor& t) { return transpose(reshape(t, {5, 2, 4}), 0, 1); };
  const Tensor y = scaled_dot_product_attention(split(q), split(k), split(v));
  EXPECT_EQ(reshape(transpose(y, 0, 1), {5, 8}).to_vector<double>(), want.to_vector<double>());
}

TEST(Attention, GivesEachInputItsGradientAlone) {
  const Tensor x[] = {normal({3, 4}), normal({5, 4}), normal({5, 4}), normal({2, 3, 5})};
  for (const double p : {0.0, 0.5}) {
    const auto loss = [&](Span<const Tensor> in) {
      Generator g(1);
      const AttentionOutput out =
          multi_head_attention(in.first(3), 2, {.attn_mask = in[3], .dropout_p = p}, g);
      return square(out.output).sum() + square(out.weights).sum();
    };
    const std::vector<Tensor> all = {variable(x[0]), variable(x[1]), variable(x[2]),
                                     variable(x[3])};
    loss(all).backward();
    for (size_t i = 0; i < 4; ++i) {
      std::vector<Tensor> one(x, x + 4);
      one[i] = variable(x[i]);
      loss(one).backward();
      EXPECT_EQ(one[i].grad().to_vector<double>(), all[i].grad().to_vector<double>()) << i;
    }
  }
}

TEST(Attention, WeightsAloneCanBeDifferentiated) {
  const Tensor x = variable(normal({3, 12}));
  const Tensor one[] = {x};
  const auto [q, k, v] = chunk<3>(x.detach(), 1);
  const Tensor q1 = variable(q);
  const Tensor apart[] = {q1, k, v};
  const auto g = grad(square(multi_head_attention(one, 2).weights).sum(), x);
  const auto want = grad(square(multi_head_attention(apart, 2).weights).sum(), q1);
  EXPECT_EQ(g.narrow(1, 0, 4).to_vector<double>(), want.to_vector<double>());
  EXPECT_EQ(g.narrow(1, 8, 4).to_vector<double>(), std::vector<double>(12, 0.0));
}

}  // namespace
}  // namespace ebb
