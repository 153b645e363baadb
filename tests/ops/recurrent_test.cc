// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/recurrent.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/reduce.h"
#include "recurrent_reference.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

enum class Kind { kLstm, kGru, kTanh, kRelu };

size_t gates_of(Kind kind) { return kind == Kind::kLstm ? 4 : kind == Kind::kGru ? 3 : 1; }

// One step of one sample: h and, of an LSTM, c.
testing::RefState step(Kind kind, Span<const RefArray> in, const std::vector<double>& x,
                       const testing::RefState& s) {
  const size_t n = s.h.size();
  const size_t g = gates_of(kind) * n;
  const auto a = testing::product_of(in[2], x, 0, g, in[4]);
  const auto b = testing::product_of(in[3], s.h, 0, g, in[5]);
  if (kind == Kind::kLstm) return testing::lstm_unit(testing::sum_of(a, b), s.c, in[7]);
  testing::RefState next = s;
  for (size_t i = 0; i < n; ++i) {
    if (kind == Kind::kGru) {
      const double r = testing::sigmoid_of(a[i] + b[i]);
      const double z = testing::sigmoid_of(a[n + i] + b[n + i]);
      next.h[i] = (1 - z) * std::tanh(a[2 * n + i] + r * b[2 * n + i]) + z * s.h[i];
    } else {
      next.h[i] = kind == Kind::kTanh ? std::tanh(a[i] + b[i]) : std::max(a[i] + b[i], 0.0);
    }
  }
  return next;
}

// All of a call: x [d], [b,d], [t,d] or [t,b,d].
std::vector<RefArray> unit_reference(Kind kind, bool sequence, bool reverse,
                                     Span<const RefArray> in) {
  const Shape& x = in[0].shape;
  const auto n = static_cast<size_t>(in[3].shape[1]);
  const auto d = static_cast<size_t>(x[x.rank() - 1]);
  const size_t steps = sequence ? static_cast<size_t>(x[0]) : 1;
  const size_t batch = d * steps == 0 ? 0 : in[0].v.size() / d / steps;
  Shape shape = x;
  shape[x.rank() - 1] = in[3].shape[1];
  RefArray h(shape);
  RefArray c(shape);
  for (size_t b = 0; b < batch; ++b) {
    testing::RefState s{std::vector<double>(n), std::vector<double>(n)};
    if (!in[1].v.empty()) s.h = testing::row_of(in[1], b, n);
    if (in.size() > 6 && !in[6].v.empty()) s.c = testing::row_of(in[6], b, n);
    for (size_t i = 0; i < steps; ++i) {
      const size_t row = (reverse ? steps - 1 - i : i) * batch + b;
      s = step(kind, in, testing::row_of(in[0], row, d), s);
      std::copy(s.h.begin(), s.h.end(), h.v.begin() + static_cast<ptrdiff_t>(row * n));
      std::copy(s.c.begin(), s.c.end(), c.v.begin() + static_cast<ptrdiff_t>(row * n));
    }
  }
  if (kind == Kind::kLstm) return {h, c};
  return {h};
}

std::vector<Tensor> call_unit(Kind kind, bool sequence, bool reverse, Span<const Tensor> in) {
  const auto both = [](LSTMState s) { return std::vector<Tensor>{s.h, s.c}; };
  const auto activation = kind == Kind::kRelu ? Nonlinearity::kRelu : Nonlinearity::kTanh;
  if (kind == Kind::kLstm && sequence) {
    return both(lstm_layer(in[0], {in[1], in[6]}, in[2], in[3], in[4], in[5], reverse, in[7]));
  }
  if (kind == Kind::kLstm) {
    return both(lstm_cell(in[0], {in[1], in[6]}, in[2], in[3], in[4], in[5], in[7]));
  }
  if (kind == Kind::kGru && sequence) {
    return {gru_layer(in[0], in[1], in[2], in[3], in[4], in[5], reverse)};
  }
  if (kind == Kind::kGru) return {gru_cell(in[0], in[1], in[2], in[3], in[4], in[5])};
  if (sequence) {
    return {rnn_layer(in[0], in[1], in[2], in[3], in[4], in[5], reverse, activation)};
  }
  return {rnn_cell(in[0], in[1], in[2], in[3], in[4], in[5], activation)};
}

struct UnitCase {
  Kind kind;
  bool sequence = false;
  Shape x;
  int64_t hidden = 4;
  std::string without = {};  // of "h", "c", "i", "j": state h and c, bias_ih, bias_hh
  bool peephole = false;
  bool reverse = false;
};

Sample unit_sample(const UnitCase& u) {
  const auto g = static_cast<int64_t>(gates_of(u.kind));
  const int64_t d = u.x[u.x.rank() - 1];
  Shape state(u.x.data() + (u.sequence ? 1 : 0), static_cast<size_t>(u.x.rank() - u.sequence));
  state[state.rank() - 1] = u.hidden;
  const auto maybe = [&](char name, const Shape& shape) {
    return u.without.find(name) == std::string::npos ? normal(shape) : Tensor();
  };
  Sample s{.name = absl::StrCat(u.x.str(), " to ", u.hidden, " without '", u.without,
                                u.peephole ? "' peephole" : "'", u.reverse ? " reverse" : "",
                                u.kind == Kind::kRelu ? " relu" : "")};
  s.inputs = {normal(u.x),
              maybe('h', state),
              normal({g * u.hidden, d}) * 0.7,
              normal({g * u.hidden, u.hidden}) * 0.5,
              maybe('i', {g * u.hidden}),
              maybe('j', {g * u.hidden})};
  if (u.kind == Kind::kLstm) {
    s.inputs.push_back(maybe('c', state));
    s.inputs.push_back(u.peephole ? normal({3 * u.hidden}) : Tensor());
  }
  s.call = [u](Span<const Tensor> in) { return call_unit(u.kind, u.sequence, u.reverse, in); };
  s.reference = [u](Span<const RefArray> in) {
    return unit_reference(u.kind, u.sequence, u.reverse, in);
  };
  s.tolerance64 = 1e-11;
  s.tolerance32 = 5e-5;
  return s;
}

OpSamples unit_samples(const std::string& op, Kind kind, bool sequence) {
  OpSamples s{.op = op};
  const auto shape = [=](std::initializer_list<int64_t> step) {
    Shape x = step;
    if (!sequence) return x;
    Shape all{3};
    for (const int64_t n : x) all.push_back(n);
    return all;
  };
  s.samples = {unit_sample({kind, sequence, shape({5})}),
               unit_sample({kind, sequence, shape({5}), 4, "hcij"}),
               unit_sample({kind, sequence, shape({5}), 4, "h"}),
               unit_sample({kind, sequence, shape({5}), 4, "cj"}),
               unit_sample({kind, sequence, shape({5}), 4, "i"}),
               unit_sample({kind, sequence, shape({2, 5}), 3}),
               unit_sample({kind, sequence, shape({2, 5}), 3, "hcij"}),
               unit_sample({kind, sequence, shape({1, 5}), 3}),
               unit_sample({kind, sequence, shape({0, 5}), 3}),
               unit_sample({kind, sequence, shape({1}), 1})};
  if (sequence) {
    s.samples.push_back(unit_sample({kind, true, {1, 5}, 4}));
    s.samples.push_back(unit_sample({kind, true, {1, 2, 5}, 4, "hc"}));
    for (const char* without : {"", "hc"}) {
      for (const Shape& x : {Shape{3, 5}, Shape{3, 2, 5}}) {
        s.samples.push_back(unit_sample({kind, true, x, 4, without, false, true}));
      }
    }
  }
  if (kind == Kind::kLstm) {
    s.samples.push_back(unit_sample({kind, sequence, shape({5}), 4, "", true}));
    s.samples.push_back(unit_sample({kind, sequence, shape({5}), 4, "hcj", true}));
    s.samples.push_back(unit_sample({kind, sequence, shape({2, 5}), 4, "", true, sequence}));
  }
  if (kind == Kind::kTanh) {
    for (Sample relu : {unit_sample({Kind::kRelu, sequence, shape({5})}),
                        unit_sample({Kind::kRelu, sequence, shape({2, 5}), 4, "hj"})}) {
      s.samples.push_back(std::move(relu));
    }
  }
  s.sizes = {1, 2, 7, 8, 9, 16, 31, 33};
  s.sized = [=](int64_t n) {
    return std::vector<Sample>{unit_sample({kind, sequence, shape({n}), n}),
                               unit_sample({kind, sequence, shape({3, n + 2}), n})};
  };
  const auto g = static_cast<int64_t>(gates_of(kind));
  const auto with = [=](std::initializer_list<Shape> shapes) {
    std::vector<Tensor> in;
    for (const Shape& x : shapes) in.push_back(normal(x));
    if (kind == Kind::kLstm) in.resize(8);
    return in;
  };
  const auto call = [=](Span<const Tensor> in) { return call_unit(kind, sequence, false, in); };
  const Shape x = shape({5});
  s.errors = {
      error_sample<ShapeError>("x", with({{}, {4}, {g * 4, 5}, {g * 4, 4}, {g * 4}, {g * 4}}), call,
                               absl::StrCat(op, ": x is []; it must be [")),
      error_sample<ShapeError>(
          "weight_hh", with({x, {4}, {g * 4, 5}, {g * 4, 5}, {g * 4}, {g * 4}}), call,
          absl::StrCat(op, ": weight_hh is [", g * 4, ",5]; it must be [", g, "*hidden,hidden]")),
      error_sample<ShapeError>(
          "weight_ih", with({x, {4}, {g * 4, 6}, {g * 4, 4}, {g * 4}, {g * 4}}), call,
          absl::StrCat("weight_ih is [", g * 4, ",6]; it must be [", g * 4, ",5]")),
      error_sample<ShapeError>("h", with({x, {3}, {g * 4, 5}, {g * 4, 4}, {g * 4}, {g * 4}}), call,
                               "h is [3]; it must be [4]"),
      error_sample<ShapeError>("bias", with({x, {4}, {g * 4, 5}, {g * 4, 4}, {g * 4}, {4, g}}),
                               call,
                               absl::StrCat("bias_hh is [4,", g, "]; it must be [", g * 4, "]")),
      error_sample<DTypeError>(
          "types", with({x, {4}, {g * 4, 5}, {g * 4, 4}, {g * 4}, {g * 4}}),
          [=](Span<const Tensor> in) {
            std::vector<Tensor> mixed(in.begin(), in.end());
            mixed[2] = mixed[2].detach().to(kFloat32);
            return call(mixed);
          },
          absl::StrCat(op, ": x is float64", x.str(), ", weight_ih is float32")),
      error_sample<DTypeError>(
          "integers", with({x, {4}, {g * 4, 5}, {g * 4, 4}, {g * 4}, {g * 4}}),
          [=](Span<const Tensor> in) {
            std::vector<Tensor> mixed(in.begin(), in.end());
            mixed[0] = mixed[0].detach().to(kInt64);
            return call(mixed);
          },
          absl::StrCat(op, ": x is int64", x.str(), "; it must be float32 or float64"))};
  if (sequence) {
    s.errors.push_back(error_sample<ShapeError>(
        "no step", with({{0, 5}, {4}, {g * 4, 5}, {g * 4, 4}, {g * 4}, {g * 4}}), call,
        "x is [0,5]; there is no step"));
  }
  s.no_scalar = "a unit has at least one cell";
  return s;
}

const RegisterSamples kLstmCell{"lstm_cell",
                                [] { return unit_samples("lstm_cell", Kind::kLstm, false); }};
const RegisterSamples kLstmLayer{"lstm_layer",
                                 [] { return unit_samples("lstm_layer", Kind::kLstm, true); }};
const RegisterSamples kGruCell{"gru_cell",
                               [] { return unit_samples("gru_cell", Kind::kGru, false); }};
const RegisterSamples kGruLayer{"gru_layer",
                                [] { return unit_samples("gru_layer", Kind::kGru, true); }};
const RegisterSamples kRnnCell{"rnn_cell",
                               [] { return unit_samples("rnn_cell", Kind::kTanh, false); }};
const RegisterSamples kRnnLayer{"rnn_layer",
                                [] { return unit_samples("rnn_layer", Kind::kTanh, true); }};

// ---- the unit alone ----------------------------------------------------------------------------

// Row by row; the last vector is normalised where there are a weight and a bias.
std::vector<RefArray> gates_reference(Span<const RefArray> in, bool norm) {
  const RefArray& gates = in[0];
  Shape shape = gates.shape;
  shape[shape.rank() - 1] /= 4;
  RefArray h(shape);
  RefArray c(shape);
  const auto n = static_cast<size_t>(shape[shape.rank() - 1]);
  for (size_t r = 0; r < h.v.size() / n; ++r) {
    const auto before = in[1].v.empty() ? std::vector<double>(n) : testing::row_of(in[1], r, n);
    const auto row = testing::row_of(gates, r, 4 * n);
    const auto s = testing::lstm_unit(row, before, norm ? RefArray() : in[2]);
    double mean = 0;
    double var = 0;
    for (size_t i = 0; i < n; ++i) mean += s.c[i] / static_cast<double>(n);
    for (size_t i = 0; i < n; ++i)
      var += (s.c[i] - mean) * (s.c[i] - mean) / static_cast<double>(n);
    for (size_t i = 0; i < n; ++i) {
      c.v[r * n + i] = s.c[i];
      h.v[r * n + i] = s.h[i];
      if (!norm) continue;
      const double y = (s.c[i] - mean) / std::sqrt(var + 1e-3) * in[2].v[i] + in[3].v[i];
      h.v[r * n + i] = testing::sigmoid_of(row[3 * n + i]) * std::tanh(y);
    }
  }
  return {h, c};
}

Sample gates_sample(const Shape& h, bool state, bool peephole, bool norm) {
  Shape gates = h;
  const int64_t n = h[h.rank() - 1];
  gates[h.rank() - 1] = 4 * n;
  Sample s{.name = absl::StrCat(h.str(), state ? " state" : "", peephole ? " peephole" : "")};
  s.inputs = {normal(gates), state ? normal(h) : Tensor()};
  if (norm) {
    s.inputs.push_back(normal({n}));
    s.inputs.push_back(normal({n}));
    s.call = [](Span<const Tensor> in) {
      const LSTMState r = lstm_norm_gates(in[0], in[1], in[2], in[3], 1e-3);
      return std::vector<Tensor>{r.h, r.c};
    };
    s.tolerance64 = 1e-10;
    s.tolerance32 = 2e-4;
  } else {
    s.inputs.push_back(peephole ? normal({3 * n}) : Tensor());
    s.call = [](Span<const Tensor> in) {
      const LSTMState r = lstm_gates(in[0], in[1], in[2]);
      return std::vector<Tensor>{r.h, r.c};
    };
  }
  s.reference = [norm](Span<const RefArray> in) { return gates_reference(in, norm); };
  return s;
}

const RegisterSamples kLstmGates{
    "lstm_gates", [] {
      OpSamples s{.op = "lstm_gates"};
      for (const bool peephole : {false, true}) {
        for (const bool state : {false, true}) {
          for (const Shape& h : {Shape{5}, Shape{3, 4}, Shape{2, 0, 3}, Shape{2, 3, 1}}) {
            s.samples.push_back(gates_sample(h, state, peephole, false));
          }
        }
      }
      s.sized = [](int64_t n) {
        std::vector<Sample> all;
        if (n > 0)
          all = {gates_sample({n}, true, false, false), gates_sample({2, n}, true, true, false)};
        return all;
      };
      const auto call = [](Span<const Tensor> in) {
        return lstm_gates(in[0], in[1], in.size() > 2 ? in[2] : Tensor()).h;
      };
      s.errors = {error_sample<ShapeError>("gates", {normal({2, 6}), normal({2, 1})}, call,
                                           "lstm_gates: gates is [2,6]; it must be [...,4*hidden]"),
                  error_sample<ShapeError>("none", {normal({2, 0}), normal({2, 0})}, call,
                                           "gates is [2,0]"),
                  error_sample<ShapeError>("scalar", {normal({}), normal({})}, call, "gates is []"),
                  error_sample<ShapeError>("c", {normal({8}), normal({3})}, call,
                                           "gates is [8], c is [3]; it must be [2]"),
                  error_sample<ShapeError>("peephole", {normal({8}), normal({2}), normal({2})},
                                           call, "lstm_gates: peephole is [2]; it must be [6]"),
                  error_sample<DTypeError>("integers", {testing::integers({8}, 0, 3), normal({2})},
                                           call, "lstm_gates: input 0 is int64[8]"),
                  error_sample<DTypeError>(
                      "types", {normal({8}), normal({2})},
                      [](const Tensor& g, const Tensor& c) {
                        return lstm_gates(g, c.detach().to(kFloat32)).h;
                      },
                      "input 0 is float64[8], input 1 is float32[2]")};
      s.no_scalar = "a unit has at least one cell";
      return s;
    }};

const RegisterSamples kLstmNormGates{
    "lstm_norm_gates", [] {
      OpSamples s{.op = "lstm_norm_gates"};
      for (const bool state : {false, true}) {
        for (const Shape& h : {Shape{5}, Shape{3, 4}, Shape{2, 0, 3}, Shape{2, 3, 4}}) {
          s.samples.push_back(gates_sample(h, state, false, true));
        }
      }
      s.sized = [](int64_t n) {
        std::vector<Sample> all;
        if (n > 2) all.push_back(gates_sample({n}, true, false, true));
        return all;
      };
      const auto call = [](Span<const Tensor> in) {
        return lstm_norm_gates(in[0], in[1], in[2], in[3]).h;
      };
      s.errors = {
          error_sample<ShapeError>("gates", {normal({6}), normal({2}), normal({2}), normal({2})},
                                   call, "lstm_norm_gates: gates is [6]"),
          error_sample<ShapeError>("c", {normal({8}), normal({3}), normal({2}), normal({2})}, call,
                                   "c is [3]; it must be [2]"),
          error_sample<ShapeError>("weight", {normal({8}), normal({2}), normal({3}), normal({2})},
                                   call, "weight is [3]; it must be [2]"),
          error_sample<ShapeError>("bias", {normal({8}), normal({2}), normal({2}), normal({1})},
                                   call, "bias is [1]; it must be [2]"),
          error_sample<DTypeError>(
              "integers", {normal({8}), normal({2}), normal({2}), testing::integers({2}, 0, 3)},
              call, "lstm_norm_gates: input 0 is int64[2]")};
      s.no_scalar = "a unit has at least one cell";
      return s;
    }};

// ---- what the samples do not show --------------------------------------------------------------

struct Weights {
  explicit Weights(int64_t gates, int64_t d, int64_t n)
      : ih(variable(normal({gates * n, d}))),
        hh(variable(normal({gates * n, n}) * 0.3)),
        bi(variable(normal({gates * n}))),
        bh(variable(normal({gates * n}))) {}
  std::vector<Tensor> all() const { return {ih, hh, bi, bh}; }
  Tensor ih, hh, bi, bh;
};

void expect_near(const Tensor& a, const Tensor& b, double tolerance) {
  ASSERT_EQ(a.shape(), b.shape());
  const auto x = a.to_vector<double>();
  const auto y = b.to_vector<double>();
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], tolerance) << i;
}

TEST(RecurrentOps, AStepAtATimeIsTheSequence) {
  for (const bool reverse : {false, true}) {
    const Weights w(4, 5, 3);
    const Tensor x = variable(normal({6, 5}));
    const Tensor v = normal({6, 3});
    LSTMState state{variable(normal({3})), variable(normal({3}))};
    std::vector<Tensor> leaves = w.all();
    leaves.insert(leaves.end(), {x, state.h, state.c});

    const LSTMState all = lstm_layer(x, state, w.ih, w.hh, w.bi, w.bh, reverse);
    const auto want = grad({{(all.h * v).sum() + all.c.sum()}}, leaves);
    Tensor loss = zeros({}, {.dtype = kFloat64});
    for (int64_t i = 0; i < 6; ++i) {
      const int64_t at = reverse ? 5 - i : i;
      state = lstm_cell(x[at], state, w.ih, w.hh, w.bi, w.bh);
      expect_near(state.h, all.h[at], 1e-12);
      expect_near(state.c, all.c[at], 1e-12);
      loss = loss + (state.h * v[at]).sum() + state.c.sum();
    }
    const auto got = grad({{loss}}, leaves);
    for (size_t i = 0; i < want.size(); ++i) expect_near(got[i], want[i], 1e-10);
  }
}

TEST(RecurrentOps, AGruStepAtATimeIsTheSequence) {
  const Weights w(3, 5, 3);
  const Tensor x = variable(normal({6, 5}));
  const Tensor v = normal({6, 3});
  const Tensor y = gru_layer(x, {}, w.ih, w.hh, w.bi, w.bh);
  std::vector<Tensor> leaves = w.all();
  leaves.push_back(x);
  const auto want = grad({{(y * v).sum()}}, leaves);
  Tensor loss = zeros({}, {.dtype = kFloat64});
  Tensor h;
  for (int64_t i = 0; i < 6; ++i) {
    h = gru_cell(x[i], h, w.ih, w.hh, w.bi, w.bh);
    loss = loss + (h * v[i]).sum();
  }
  const auto got = grad({{loss}}, leaves);
  for (size_t i = 0; i < want.size(); ++i) expect_near(got[i], want[i], 1e-10);
}

TEST(RecurrentOps, GradientsOfWeightsStayProducts) {
  // Of a leaf they are as many products as there were steps; behind another op they are dense.
  const int64_t n = 16;
  const Tensor x = normal({5, n});
  for (const bool sequence : {true, false}) {
    const Weights w(4, n, n);
    const auto loss = [&](const Tensor& ih, const Tensor& hh) {
      if (sequence) return lstm_layer(x, {}, ih, hh, w.bi, w.bh).h.sum();
      LSTMState s;
      Tensor sum = zeros({}, {.dtype = kFloat64});
      for (int64_t i = 0; i < 5; ++i) {
        s = lstm_cell(x[i], s, ih, hh, w.bi, w.bh);
        sum = sum + s.h.sum();
      }
      return sum;
    };
    loss(w.ih, w.hh).backward();
    const auto dense = grad({{loss(w.ih * 1.0, w.hh * 1.0)}}, {{w.ih, w.hh}});
    for (size_t i = 0; i < 2; ++i) {
      auto& leaf = *static_cast<detail::Leaf*>(w.all()[i].edge().node());
      EXPECT_FALSE(leaf.grad.is_dense());
      EXPECT_FALSE(leaf.grad.dense_part().defined());
      int64_t rank = 0;
      for (const Outer& o : leaf.grad.outer_parts()) rank += o.u.rank() == 1 ? 1 : o.u.size(0);
      EXPECT_EQ(rank, i == 0 ? 5 : 4);  // the first state is 0
      expect_near(Tensor(leaf.grad.dense()), dense[i], 1e-12);
    }
  }
}

TEST(RecurrentOps, AFirstStepLeavesAWeightItDidNotUseAZeroGradient) {
  const Weights w(4, 3, 2);
  lstm_cell(normal({3}), {}, w.ih, w.hh, w.bi, w.bh).h.sum().backward();
  ASSERT_TRUE(w.hh.grad().defined());
  for (const double g : w.hh.grad().to_vector<double>()) EXPECT_EQ(g, 0);
}

TEST(RecurrentOps, WeightsMayBeViewsOfAnyStrides) {
  const Weights w(4, 5, 3);
  const Tensor x = normal({4, 5});
  const Tensor wide = normal({12, 10});
  const Tensor turned = variable(normal({3, 12}));
  const Tensor view = wide.slice(1, 0, 10, 2);
  const Tensor a = lstm_layer(x, {}, view, turned.t(), w.bi, w.bh).h;
  const Tensor b = lstm_layer(x, {}, view.contiguous(), turned.t().contiguous(), w.bi, w.bh).h;
  expect_near(a, b, 1e-13);
  const Tensor v = normal({4, 3});
  expect_near(grad((a * v).sum(), turned), grad((b * v).sum(), turned), 1e-12);
}

TEST(RecurrentOps, OnlyTheLastStateMayBeUsed) {
  const Weights w(4, 5, 3);
  const Tensor x = normal({4, 5});
  const LSTMState all = lstm_layer(x, {}, w.ih, w.hh, w.bi, w.bh);
  const auto leaves = w.all();
  const auto c_alone = grad({{all.c[3].sum()}}, leaves, {.retain_graph = true});
  LSTMState s;
  for (int64_t i = 0; i < 4; ++i) s = lstm_cell(x[i], s, w.ih, w.hh, w.bi, w.bh);
  const auto want = grad({{s.c.sum()}}, leaves);
  for (size_t i = 0; i < want.size(); ++i) expect_near(c_alone[i], want[i], 1e-12);
}

TEST(RecurrentOps, SaturatedGatesStayFinite) {
  const Tensor gates = variable(tensor({1e4, -1e4, 1e4, 1e4, -1e4, -1e4, 1e4, -1e4}).to(kFloat32));
  const LSTMState s = lstm_gates(gates, tensor({3.0, -2.0}).to(kFloat32));
  EXPECT_EQ(s.c.to_vector<float>(), (std::vector<float>{2, -2}));
  EXPECT_FLOAT_EQ(s.h.to_vector<float>()[1], 0.0f);
  for (const double g : grad(s.h.sum(), gates).to_vector<double>()) EXPECT_EQ(g, 0);
}

}  // namespace
}  // namespace ebb
