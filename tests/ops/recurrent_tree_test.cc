// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/recurrent.h"
#include "ebb/ops/reduce.h"
#include "recurrent_reference.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::product_of;
using testing::RefArray;
using testing::RegisterSamples;
using testing::row_of;
using testing::Sample;
using testing::sigmoid_of;
using testing::sum_of;

// Inputs: x, weight_ih, weight_hh, bias_ih, then bias_hh of the N-ary cell, then h and c of each
// child.
size_t first_child(bool sum) { return sum ? 4 : 5; }

std::vector<RefArray> tree_reference(bool sum, size_t n, Span<const RefArray> in) {
  const size_t first = first_child(sum);
  const size_t k = (in.size() - first) / 2;
  const RefArray& lead = in[0].v.empty() && k > 0 ? in[first] : in[0];
  const auto lead_size = static_cast<size_t>(lead.shape[lead.shape.rank() - 1]);
  Shape shape = lead.shape;
  shape[shape.rank() - 1] = static_cast<int64_t>(n);
  RefArray h(shape);
  RefArray c(shape);
  for (size_t r = 0; r < lead.v.size() / lead_size; ++r) {
    // Arguments of i, f_1 .. f_k, g, o.
    std::vector<std::vector<double>> args(3 + k, std::vector<double>(n));
    const auto add = [&](size_t part, const std::vector<double>& y) {
      args[part] = sum_of(args[part], y);
    };
    // The block of i, f, g, o that belongs to a part.
    const auto block = [&](size_t part) { return part == 0 ? 0 : part <= k ? 1 : part - k + 1; };
    if (!in[0].v.empty()) {
      const auto d = in[0].v.size() / (lead.v.size() / lead_size);
      for (size_t p = 0; p < 3 + k; ++p) {
        add(p, product_of(in[1], row_of(in[0], r, d), block(p) * n, n));
      }
    }
    for (size_t p = 0; p < 3 + k && !in[3].v.empty(); ++p) add(p, row_of(in[3], block(p), n));
    std::vector<std::vector<double>> hs;
    std::vector<double> joined;
    std::vector<double> total(n);
    for (size_t j = 0; j < k; ++j) {
      hs.push_back(row_of(in[first + 2 * j], r, n));
      joined.insert(joined.end(), hs[j].begin(), hs[j].end());
      total = sum_of(total, hs[j]);
    }
    for (size_t p = 0; p < 3 + k && k > 0; ++p) {
      if (!sum) {
        add(p, product_of(in[2], joined, p * n, n, in[4]));
      } else {
        const bool forget = p >= 1 && p <= k;
        add(p, product_of(in[2], forget ? hs[p - 1] : total, block(p) * n, n));
      }
    }
    for (size_t i = 0; i < n; ++i) {
      double state = sigmoid_of(args[0][i]) * std::tanh(args[k + 1][i]);
      for (size_t j = 0; j < k; ++j) {
        state += sigmoid_of(args[1 + j][i]) * row_of(in[first + 2 * j + 1], r, n)[i];
      }
      c.v[r * n + i] = state;
      h.v[r * n + i] = sigmoid_of(args[k + 2][i]) * std::tanh(state);
    }
  }
  return {h, c};
}

std::vector<Tensor> call_tree(bool sum, Span<const Tensor> in) {
  const size_t first = first_child(sum);
  std::vector<LSTMState> children;
  for (size_t i = first; i + 1 < in.size(); i += 2) children.push_back({in[i], in[i + 1]});
  const LSTMState s = sum ? child_sum_tree_lstm_cell(in[0], children, in[1], in[2], in[3])
                          : nary_tree_lstm_cell(in[0], children, in[1], in[2], in[3], in[4]);
  return {s.h, s.c};
}

struct TreeCase {
  bool sum;
  int64_t children;
  bool word = true;
  bool bias = true;
  int64_t batch = -1;  // none
  int64_t n = 3;
  int64_t d = 4;
};

Sample tree_sample(const TreeCase& t) {
  const int64_t n = t.n;
  const int64_t k = t.children;
  const auto shape = [&](int64_t last) { return t.batch < 0 ? Shape{last} : Shape{t.batch, last}; };
  Sample s{.name = absl::StrCat(k, " children", t.word ? " word" : "", t.bias ? " bias" : "",
                                " batch ", t.batch, " size ", n)};
  s.inputs = {t.word ? normal(shape(t.d)) : Tensor(),
              t.word ? normal({4 * n, t.d}) * 0.7 : Tensor(),
              k == 0  ? Tensor()
              : t.sum ? normal({4 * n, n}) * 0.5
                      : normal({(3 + k) * n, k * n}) * 0.5,
              t.bias && (t.word || t.sum) ? normal({4 * n}) : Tensor()};
  if (!t.sum) s.inputs.push_back(t.bias && k > 0 ? normal({(3 + k) * n}) : Tensor());
  for (int64_t j = 0; j < 2 * k; ++j) s.inputs.push_back(normal(shape(n)));
  s.call = [sum = t.sum](Span<const Tensor> in) { return call_tree(sum, in); };
  s.reference = [sum = t.sum, n](Span<const RefArray> in) {
    return tree_reference(sum, static_cast<size_t>(n), in);
  };
  s.tolerance64 = 1e-11;
  s.tolerance32 = 5e-5;
  return s;
}

OpSamples tree_samples(const std::string& op, bool sum) {
  OpSamples s{.op = op};
  for (const int64_t k : {0, 1, 2, 3}) {
    s.samples.push_back(tree_sample({sum, k}));
    s.samples.push_back(tree_sample({sum, k, true, true, 2}));
    if (k == 0) continue;
    s.samples.push_back(tree_sample({sum, k, false}));
    s.samples.push_back(tree_sample({sum, k, false, false, 2}));
  }
  s.samples.push_back(tree_sample({sum, 2, true, false}));
  s.samples.push_back(tree_sample({sum, 0, true, false}));
  s.samples.push_back(tree_sample({sum, 2, true, true, 0}));
  s.samples.push_back(tree_sample({sum, 2, true, true, 1, 1, 1}));
  s.samples.push_back(tree_sample({sum, 40, false, true, -1, 1}));  // more inputs than bits
  s.sizes = {1, 2, 7, 8, 9, 16, 31, 33};
  s.sized = [sum](int64_t n) {
    return std::vector<Sample>{tree_sample({sum, 2, false, true, -1, n, n}),
                               tree_sample({sum, 0, true, true, -1, n, n + 1}),
                               tree_sample({sum, 3, true, true, 3, n, n})};
  };
  const auto call = [sum](Span<const Tensor> in) { return call_tree(sum, in); };
  // Two children of 3 cells, a word of 4.
  const auto with = [sum](size_t at, const Tensor& other) {
    std::vector<Tensor> in = tree_sample({sum, 2}).inputs;
    in[at] = other;
    return in;
  };
  const size_t first = first_child(sum);
  s.errors = {
      error_sample<ShapeError>("x", with(0, normal({})), call,
                               absl::StrCat(op, ": x is []; it must be [size] or [batch,size]")),
      error_sample<ShapeError>(
          "weight_ih", with(1, normal({12, 5})), call,
          absl::StrCat(op, ": x is [4], hidden is 3, weight_ih is [12,5]; it must be [12,4]")),
      error_sample<ShapeError>(
          "weight_hh", with(2, normal({12, 6})), call,
          sum ? "weight_hh is [12,6]; with 2 children it must be [4*hidden,hidden]"
              : "weight_hh is [12,6]; with 2 children it must be [5*hidden,2*hidden]"),
      error_sample<ShapeError>("bias", with(3, normal({15})), call, "is [15]; it must be [12]"),
      error_sample<ShapeError>("h", with(first + 2, normal({4})), call,
                               "h of child 1 is [4]; it must be [3]"),
      error_sample<ShapeError>("c", with(first + 1, normal({1, 3})), call,
                               "c of child 0 is [1,3]; it must be [3]"),
      error_sample<DTypeError>("integers", with(first, testing::integers({3}, 0, 2)), call,
                               "x is float64[4], h of child 0 is int64[3]"),
      error_sample<ValueError>("undefined", with(first, Tensor()), call,
                               absl::StrCat(op, ": the state of child 0 is undefined")),
      error_sample<ValueError>(
          "nothing", tree_sample({sum, 0}).inputs,
          [sum](Span<const Tensor> in) {
            std::vector<Tensor> none(in.begin(), in.end());
            none[0] = Tensor();
            return call_tree(sum, none);
          },
          absl::StrCat(op, ": there is neither x nor a child"))};
  s.no_scalar = "a unit has at least one cell";
  return s;
}

const RegisterSamples kNary{"nary_tree_lstm_cell",
                            [] { return tree_samples("nary_tree_lstm_cell", false); }};
const RegisterSamples kChildSum{"child_sum_tree_lstm_cell",
                                [] { return tree_samples("child_sum_tree_lstm_cell", true); }};

std::vector<double> values(const Tensor& t) { return t.to_vector<double>(); }

TEST(TreeOps, WithOneChildTheyAreAnLstm) {
  const Tensor x = normal({4});
  const LSTMState s{normal({3}), normal({3})};
  const Tensor w = normal({12, 4});
  const Tensor u = normal({12, 3});
  const Tensor b = normal({12});
  const LSTMState want = lstm_cell(x, s, w, u, b);
  for (const LSTMState& got :
       {nary_tree_lstm_cell(x, {{s}}, w, u, b), child_sum_tree_lstm_cell(x, {{s}}, w, u, b)}) {
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(values(got.h)[i], values(want.h)[i], 1e-14);
      EXPECT_NEAR(values(got.c)[i], values(want.c)[i], 1e-14);
    }
  }
}

TEST(TreeOps, ChildrenOfASumHaveNoOrder) {
  const LSTMState a{normal({3}), normal({3})};
  const LSTMState b{normal({3}), normal({3})};
  const Tensor u = normal({12, 3});
  const auto ab = values(child_sum_tree_lstm_cell({}, {{a, b}}, {}, u).h);
  const auto ba = values(child_sum_tree_lstm_cell({}, {{b, a}}, {}, u).h);
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(ab[i], ba[i], 1e-14);
}

TEST(TreeOps, GradientsOfWeightsStayProducts) {
  const int64_t n = 16;
  for (const bool sum : {false, true}) {
    const Tensor w = variable(normal({4 * n, n}));
    const Tensor u = variable(sum ? normal({4 * n, n}) : normal({5 * n, 2 * n}));
    const Tensor x = normal({n});
    const auto cell = [&](const Tensor& word, Span<const LSTMState> children, const Tensor& wi,
                          const Tensor& wh) {
      return sum ? child_sum_tree_lstm_cell(word, children, wi, wh)
                 : nary_tree_lstm_cell(word, children, wi, wh);
    };
    const auto loss = [&](const Tensor& wi, const Tensor& wh) {
      const LSTMState a = cell(x, {}, wi, wh);
      const LSTMState b = cell(x * 2.0, {}, wi, wh);
      return cell({}, {{a, b}}, wi, wh).h.sum();
    };
    loss(w, u).backward();
    const auto dense = grad({{loss(w * 1.0, u * 1.0)}}, {{w, u}});
    for (size_t i = 0; i < 2; ++i) {
      auto& leaf = *static_cast<detail::Leaf*>((i == 0 ? w : u).edge().node());
      EXPECT_FALSE(leaf.grad.dense_part().defined());
      const auto got = values(Tensor(leaf.grad.dense()));
      const auto want = values(dense[i]);
      for (size_t j = 0; j < got.size(); ++j) EXPECT_NEAR(got[j], want[j], 1e-12);
    }
  }
}

}  // namespace
}  // namespace ebb
