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

}  // namespace
}  // namespace ebb
