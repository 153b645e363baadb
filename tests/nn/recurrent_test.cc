// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/recurrent.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "ebb/autograd/testing.h"
#include "ebb/ebb.h"

namespace ebb {
namespace {

using Vector = std::vector<double>;

Vector doubles(const Tensor& t) { return t.to(kFloat64).to_vector<double>(); }

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

void expect_near(const Vector& got, const Vector& want, double tolerance = 1e-12) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], tolerance) << i;
}

// ---- plain loops
// ---------------------------------------------------------------------------------

struct Plain {
  Vector h, c;
};

// One unit with PyTorch's parameters, by name, in plain double arithmetic.
class PlainUnit {
 public:
  PlainUnit(const nn::StateDict& state, const std::string& suffix) {
    for (const char* name : {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "peephole"}) {
      const auto it = state.find(name + suffix);
      if (it != state.end()) p_[name] = doubles(it->second);
    }
  }
  Plain lstm(const Vector& x, const Plain& s) const {
    const size_t n = s.h.size();
    const Vector a = sum(x, s.h, 4 * n);
    Plain next = s;
    for (size_t i = 0; i < n; ++i) {
      const double in = sigmoid_of(a[i] + peep(i) * s.c[i]);
      const double forget = sigmoid_of(a[n + i] + peep(n + i) * s.c[i]);
      next.c[i] = forget * s.c[i] + in * std::tanh(a[2 * n + i]);
      next.h[i] = sigmoid_of(a[3 * n + i] + peep(2 * n + i) * next.c[i]) * std::tanh(next.c[i]);
    }
    return next;
  }
  Plain gru(const Vector& x, const Plain& s) const {
    const size_t n = s.h.size();
    const Vector a = product("weight_ih", "bias_ih", x, 3 * n);
    const Vector b = product("weight_hh", "bias_hh", s.h, 3 * n);
    Plain next = s;
    for (size_t i = 0; i < n; ++i) {
      const double r = sigmoid_of(a[i] + b[i]);
      const double z = sigmoid_of(a[n + i] + b[n + i]);
      next.h[i] = (1 - z) * std::tanh(a[2 * n + i] + r * b[2 * n + i]) + z * s.h[i];
    }
    return next;
  }
  Plain rnn(const Vector& x, const Plain& s, bool relu) const {
    Plain next = s;
    const Vector a = sum(x, s.h, s.h.size());
    for (size_t i = 0; i < a.size(); ++i) next.h[i] = relu ? std::max(a[i], 0.0) : std::tanh(a[i]);
    return next;
  }

 private:
  double peep(size_t i) const { return p_.contains("peephole") ? p_.at("peephole")[i] : 0; }
  Vector product(const char* weight, const char* bias, const Vector& x, size_t rows) const {
    Vector y(rows);
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < x.size(); ++j) y[i] += p_.at(weight)[i * x.size() + j] * x[j];
      if (p_.contains(bias)) y[i] += p_.at(bias)[i];
    }
    return y;
  }
  Vector sum(const Vector& x, const Vector& h, size_t rows) const {
    Vector a = product("weight_ih", "bias_ih", x, rows);
    const Vector b = product("weight_hh", "bias_hh", h, rows);
    for (size_t i = 0; i < rows; ++i) a[i] += b[i];
    return a;
  }
  std::map<std::string, Vector> p_;
};

struct PlainResult {
  std::vector<Vector> output;  // by step
  Vector h, c;                 // of all layers and directions
};

// Layers and directions over [steps][size].
template <class Step>
PlainResult plain_layers(const nn::Module& m, std::vector<Vector> x, size_t layers, bool both,
                         size_t hidden, const Vector& h0, const Vector& c0, const Step& step) {
  PlainResult r;
  const auto state = m.state_dict();
  const size_t steps = x.size();
  for (size_t l = 0; l < layers; ++l) {
    std::vector<Vector> y(steps);
    for (size_t d = 0; d < (both ? 2u : 1u); ++d) {
      const PlainUnit unit(state, "_l" + std::to_string(l) + (d == 1 ? "_reverse" : ""));
      const size_t at = (l * (both ? 2 : 1) + d) * hidden;
      const auto part = [&](const Vector& all) {
        if (all.empty()) return Vector(hidden);
        return Vector(all.begin() + static_cast<ptrdiff_t>(at),
                      all.begin() + static_cast<ptrdiff_t>(at + hidden));
      };
      Plain s{part(h0), part(c0)};
      for (size_t i = 0; i < steps; ++i) {
        const size_t t = d == 1 ? steps - 1 - i : i;
        s = step(unit, x[t], s);
        y[t].insert(y[t].end(), s.h.begin(), s.h.end());
      }
      r.h.insert(r.h.end(), s.h.begin(), s.h.end());
      r.c.insert(r.c.end(), s.c.begin(), s.c.end());
    }
    x = std::move(y);
  }
  r.output = std::move(x);
  return r;
}

std::vector<Vector> rows(const Tensor& x) {
  std::vector<Vector> all;
  for (int64_t i = 0; i < x.size(0); ++i) all.push_back(doubles(x[i]));
  return all;
}

Vector joined(const std::vector<Vector>& parts) {
  Vector all;
  for (const Vector& p : parts) all.insert(all.end(), p.begin(), p.end());
  return all;
}

// The directional derivative of a scalar function by each parameter, and of the gradient's square,
// against differences.
template <class F>
void check_gradients(const nn::Module& m, const F& loss) {
  const auto derivative = [&](const Parameter& p, const Tensor& v, const auto& value) {
    const Tensor start = p.tensor().detach() * 1.0;
    constexpr double kStep = 1e-6;
    p.copy_from(start + kStep * v);
    const double above = value();
    p.copy_from(start - kStep * v);
    const double below = value();
    p.copy_from(start);
    return (above - below) / (2 * kStep);
  };
  for (const auto& [name, p] : m.named_parameters()) {
    SCOPED_TRACE(name);
    const Tensor v(testing::normal(p.shape()));
    const double first = (grad(loss(), p) * v).sum().item();
    EXPECT_NEAR(first, derivative(p, v, [&] { return loss().item(); }),
                1e-6 * std::max(1.0, std::abs(first)));
    const auto slope = [&, &parameter = p] {
      return square(grad(loss(), parameter, {.create_graph = true})).sum();
    };
    const double second = (grad(slope(), p) * v).sum().item();
    EXPECT_NEAR(second, derivative(p, v, [&] { return slope().item(); }),
                1e-5 * std::max(1.0, std::abs(second)));
  }
}

std::vector<std::string> names(const nn::Module& m) {
  std::vector<std::string> all;
  for (const auto& [name, p] : m.named_parameters()) all.push_back(name);
  return all;
}

template <class M>
std::unique_ptr<M> cloned(const M& m) {
  return std::unique_ptr<M>(static_cast<M*>(m.clone().release()));
}

// ---- cells
// ---------------------------------------------------------------------------------------

TEST(LSTMCell, IsThePlainLoop) {
  for (const bool bias : {true, false}) {
    for (const bool peephole : {false, true}) {
      nn::LSTMCell cell(3, 5, {.bias = bias, .peephole = peephole});
      cell.to(kFloat64);
      const PlainUnit plain(cell.state_dict(), "");
      const Tensor x = testing::normal({4, 3});
      nn::LSTMState s;
      Plain want{Vector(5), Vector(5)};
      for (int64_t t = 0; t < 4; ++t) {
        s = cell(x[t], s);
        want = plain.lstm(doubles(x[t]), want);
        expect_near(doubles(s.h), want.h);
        expect_near(doubles(s.c), want.c);
      }
      const auto loss = [&] {
        const nn::LSTMState a = cell(x[0]);
        const nn::LSTMState b = cell(x[1], a);
        return square(b.h).sum() + b.c.sum();
      };
      check_gradients(cell, loss);
    }
  }
}

TEST(GRUCell, IsThePlainLoop) {
  for (const bool bias : {true, false}) {
    nn::GRUCell cell(3, 5, {.bias = bias});
    cell.to(kFloat64);
    const PlainUnit plain(cell.state_dict(), "");
    const Tensor x = testing::normal({4, 3});
    Tensor h;
    Plain want{Vector(5), Vector(5)};
    for (int64_t t = 0; t < 4; ++t) {
      h = cell(x[t], h);
      want = plain.gru(doubles(x[t]), want);
      expect_near(doubles(h), want.h);
    }
    check_gradients(cell, [&] { return square(cell(x[1], cell(x[0]))).sum(); });
  }
}

TEST(RNNCell, IsThePlainLoop) {
  for (const bool relu : {false, true}) {
    nn::RNNCell cell(3, 5,
                     {.nonlinearity = relu ? nn::Nonlinearity::kRelu : nn::Nonlinearity::kTanh});
    cell.to(kFloat64);
    const PlainUnit plain(cell.state_dict(), "");
    const Tensor x = testing::normal({4, 3});
    Tensor h;
    Plain want{Vector(5), {}};
    for (int64_t t = 0; t < 4; ++t) {
      h = cell(x[t], h);
      want = plain.rnn(doubles(x[t]), want, relu);
      expect_near(doubles(h), want.h);
    }
    check_gradients(cell, [&] { return square(cell(x[1], cell(x[0]))).sum(); });
  }
}

TEST(LayerNormLSTMCell, IsItsFormula) {
  nn::LayerNormLSTMCell cell(3, 5);
  cell.to(kFloat64);
  EXPECT_EQ(names(cell), (std::vector<std::string>{"weight_ih", "weight_hh", "norm_ih.weight",
                                                   "norm_ih.bias", "norm_hh.weight", "norm_hh.bias",
                                                   "norm_c.weight", "norm_c.bias"}));
  for (const Parameter& p : cell.parameters()) p.copy_from(testing::normal(p.shape()));
  const Tensor x = testing::normal({2, 3});
  const auto plain = [&](const Tensor& in, const nn::LSTMState& s) {
    const Tensor h = s.h.defined() ? s.h : zeros({5}, {.dtype = kFloat64});
    const Tensor c = s.c.defined() ? s.c : zeros({5}, {.dtype = kFloat64});
    const auto [i, f, g, o] =
        chunk<4>(cell.norm_ih(mv(cell.weight_ih, in)) + cell.norm_hh(mv(cell.weight_hh, h)));
    const Tensor next = sigmoid(f) * c + sigmoid(i) * tanh(g);
    return nn::LSTMState{sigmoid(o) * tanh(cell.norm_c(next)), next};
  };
  nn::LSTMState s;
  nn::LSTMState want;
  for (int64_t t = 0; t < 2; ++t) {
    s = cell(x[t], s);
    want = plain(x[t], want);
    expect_near(doubles(s.h), doubles(want.h));
    expect_near(doubles(s.c), doubles(want.c));
  }
  check_gradients(cell, [&] {
    const nn::LSTMState b = cell(x[1], cell(x[0]));
    return square(b.h).sum() + b.c.sum();
  });
}

TEST(Cells, TakeBatches) {
  nn::LSTMCell lstm(3, 4);
  nn::GRUCell gru(3, 4);
  nn::RNNCell rnn(3, 4);
  const Tensor x = randn({2, 3});
  const Tensor h = randn({2, 4});
  const Tensor c = randn({2, 4});
  const nn::LSTMState s = lstm(x, {h, c});
  for (int64_t i = 0; i < 2; ++i) {
    expect_near(doubles(s.h[i]), doubles(lstm(x[i], {h[i], c[i]}).h), 1e-6);
    expect_near(doubles(gru(x, h)[i]), doubles(gru(x[i], h[i])), 1e-6);
    expect_near(doubles(rnn(x, h)[i]), doubles(rnn(x[i], h[i])), 1e-6);
  }
  EXPECT_THROW(lstm(randn({4})), ShapeError);
  EXPECT_THROW(gru(x, randn({4})), ShapeError);
  EXPECT_THROW(nn::LSTMCell(0, 4), ValueError);
  EXPECT_THROW(nn::GRUCell(4, 0), ValueError);
}

TEST(Cells, CloneAndConvert) {
  const nn::LSTMCell lstm(3, 4, {.bias = false, .peephole = true});
  const auto a = cloned(lstm);
  const Tensor x = randn({3});
  EXPECT_EQ(doubles((*a)(x).h), doubles(lstm(x).h));
  EXPECT_EQ(names(*a), (std::vector<std::string>{"weight_ih", "weight_hh", "peephole"}));
  const nn::RNNCell rnn(3, 4, {.nonlinearity = nn::Nonlinearity::kRelu});
  EXPECT_EQ(doubles((*cloned(rnn))(x)), doubles(rnn(x)));
  nn::GRUCell gru(3, 4);
  EXPECT_EQ(doubles((*cloned(gru))(x)), doubles(gru(x)));
  gru.to(kFloat64);
  EXPECT_EQ(gru(x.to(kFloat64)).dtype(), kFloat64);
  const nn::LayerNormLSTMCell norm(3, 4);
  EXPECT_EQ(doubles((*cloned(norm))(x).h), doubles(norm(x).h));
}

TEST(Cells, StartWithinTheirBound) {
  manual_seed(4);
  const nn::GRUCell cell(7, 25);
  for (const Parameter& p : cell.parameters()) {
    double largest = 0;
    for (const double v : doubles(p)) {
      EXPECT_LE(std::abs(v), 0.2);
      largest = std::max(largest, std::abs(v));
    }
    EXPECT_GT(largest, 0.15);
  }
}

// ---- layers
// --------------------------------------------------------------------------------------

TEST(LSTM, IsThePlainLoop) {
  for (const int64_t layers : {1, 2, 3}) {
    for (const bool both : {false, true}) {
      nn::LSTM lstm(3, 4, {.num_layers = layers, .bidirectional = both});
      lstm.to(kFloat64);
      const Tensor x = testing::normal({5, 3});
      const int64_t states = layers * (both ? 2 : 1);
      const auto step = [](const PlainUnit& u, const Vector& in, const Plain& s) {
        return u.lstm(in, s);
      };
      for (const bool initial : {false, true}) {
        const nn::LSTMState s =
            initial ? nn::LSTMState{testing::normal({states, 4}), testing::normal({states, 4})}
                    : nn::LSTMState{};
        const auto [output, last] = lstm(x, s);
        EXPECT_EQ(output.shape(), Shape({5, both ? 8 : 4}));
        EXPECT_EQ(last.h.shape(), Shape({states, 4}));
        const PlainResult want = plain_layers(lstm, rows(x), static_cast<size_t>(layers), both, 4,
                                              initial ? doubles(s.h) : Vector(),
                                              initial ? doubles(s.c) : Vector(), step);
        expect_near(doubles(output), joined(want.output));
        expect_near(doubles(last.h), want.h);
        expect_near(doubles(last.c), want.c);
      }
    }
  }
}

TEST(GRU, IsThePlainLoop) {
  for (const bool both : {false, true}) {
    nn::GRU gru(3, 4, {.num_layers = 2, .bias = !both, .bidirectional = both});
    gru.to(kFloat64);
    const Tensor x = testing::normal({5, 3});
    const Tensor h0 = testing::normal({both ? 4 : 2, 4});
    const auto [output, h] = gru(x, h0);
    const PlainResult want = plain_layers(
        gru, rows(x), 2, both, 4, doubles(h0), {},
        [](const PlainUnit& u, const Vector& in, const Plain& s) { return u.gru(in, s); });
    expect_near(doubles(output), joined(want.output));
    expect_near(doubles(h), want.h);
  }
}

TEST(RNN, IsThePlainLoop) {
  for (const bool relu : {false, true}) {
    nn::RNN rnn(3, 4,
                {.num_layers = 2,
                 .nonlinearity = relu ? nn::Nonlinearity::kRelu : nn::Nonlinearity::kTanh,
                 .bidirectional = true});
    rnn.to(kFloat64);
    const Tensor x = testing::normal({5, 3});
    const auto [output, h] = rnn(x);
    const PlainResult want = plain_layers(
        rnn, rows(x), 2, true, 4, {}, {},
        [&](const PlainUnit& u, const Vector& in, const Plain& s) { return u.rnn(in, s, relu); });
    expect_near(doubles(output), joined(want.output));
    expect_near(doubles(h), want.h);
  }
}

TEST(RecurrentLayers, HaveGradientsOfBothOrders) {
  const Tensor x = testing::normal({3, 2});
  nn::LSTM lstm(2, 3, {.num_layers = 2, .bidirectional = true});
  lstm.to(kFloat64);
  check_gradients(lstm, [&] {
    const auto [y, s] = lstm(x);
    return square(y).sum() + s.h.sum() + square(s.c).sum();
  });
  nn::GRU gru(2, 3, {.num_layers = 2, .bidirectional = true});
  gru.to(kFloat64);
  check_gradients(gru, [&] { return square(gru(x).output).sum() + square(gru(x).h).sum(); });
  nn::RNN rnn(2, 3, {.bidirectional = true});
  rnn.to(kFloat64);
  check_gradients(rnn, [&] { return square(rnn(x).output).sum(); });
}

TEST(RecurrentLayers, AreTheirCellsStepByStep) {
  nn::LSTM layer(3, 4);
  nn::LSTMCell cell(3, 4);
  layer.to(kFloat64);
  cell.to(kFloat64);
  const auto state = layer.state_dict();
  nn::StateDict renamed;
  for (const auto& [name, value] : state) renamed[name.substr(0, name.size() - 3)] = value;
  cell.load_state_dict(renamed);
  const Tensor x = testing::normal({6, 3});
  const Tensor v = testing::normal({6, 4});
  (layer(x).output * v).sum().backward();
  nn::LSTMState s;
  Tensor loss = zeros({}, {.dtype = kFloat64});
  for (int64_t t = 0; t < 6; ++t) {
    s = cell(x[t], s);
    loss = loss + (s.h * v[t]).sum();
  }
  loss.backward();
  const auto a = layer.parameters();
  const auto b = cell.parameters();
  for (size_t i = 0; i < a.size(); ++i) expect_near(doubles(a[i].grad()), doubles(b[i].grad()));
}

TEST(RecurrentLayers, TakeBatches) {
  for (const bool batch_first : {false, true}) {
    nn::LSTM lstm(3, 4, {.num_layers = 2, .batch_first = batch_first, .bidirectional = true});
    nn::GRU gru(3, 4, {.batch_first = batch_first});
    const Tensor x = randn({5, 2, 3});
    const Tensor h = randn({4, 2, 4});
    const Tensor c = randn({4, 2, 4});
    const Tensor in = batch_first ? x.transpose(0, 1) : x;
    const auto [output, last] = lstm(in, {h, c});
    EXPECT_EQ(output.shape(), batch_first ? Shape({2, 5, 8}) : Shape({5, 2, 8}));
    EXPECT_EQ(last.h.shape(), Shape({4, 2, 4}));
    const Tensor y = gru(in).output;
    for (int64_t b = 0; b < 2; ++b) {
      const auto one = lstm(x.select(1, b), {h.select(1, b), c.select(1, b)});
      expect_near(doubles(output.select(batch_first ? 0 : 1, b)), doubles(one.output), 1e-6);
      expect_near(doubles(last.c.select(1, b)), doubles(one.state.c), 1e-6);
      expect_near(doubles(y.select(batch_first ? 0 : 1, b)), doubles(gru(x.select(1, b)).output),
                  1e-6);
    }
  }
}

TEST(RecurrentLayers, NameTheirParametersAsPyTorch) {
  const nn::LSTM lstm(3, 4, {.num_layers = 2, .bidirectional = true});
  EXPECT_EQ(names(lstm),
            (std::vector<std::string>{
                "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_ih_l0_reverse",
                "weight_hh_l0_reverse", "bias_ih_l0_reverse", "bias_hh_l0_reverse", "weight_ih_l1",
                "weight_hh_l1", "bias_ih_l1", "bias_hh_l1", "weight_ih_l1_reverse",
                "weight_hh_l1_reverse", "bias_ih_l1_reverse", "bias_hh_l1_reverse"}));
  const auto state = lstm.state_dict();
  EXPECT_EQ(state.at("weight_ih_l0").shape(), Shape({16, 3}));
  EXPECT_EQ(state.at("weight_ih_l1").shape(), Shape({16, 8}));
  EXPECT_EQ(state.at("weight_hh_l1_reverse").shape(), Shape({16, 4}));
  EXPECT_EQ(state.at("bias_hh_l1").shape(), Shape({16}));
  EXPECT_EQ(names(nn::GRU(3, 4, {.bias = false})),
            (std::vector<std::string>{"weight_ih_l0", "weight_hh_l0"}));
}

TEST(RecurrentLayers, CloneWithOptionsAndMode) {
  nn::LSTM lstm(3, 4,
                {.num_layers = 2, .batch_first = true, .dropout = 0.5, .bidirectional = true});
  lstm.eval();
  const auto copy = cloned(lstm);
  EXPECT_FALSE(copy->is_training());
  const Tensor x = randn({2, 5, 3});
  EXPECT_EQ(doubles((*copy)(x).output), doubles(lstm(x).output));
  const nn::GRU gru(3, 4, {.num_layers = 2});
  EXPECT_EQ(doubles((*cloned(gru))(x[0]).h), doubles(gru(x[0]).h));
  nn::RNN rnn(3, 4, {.nonlinearity = nn::Nonlinearity::kRelu, .bias = false});
  rnn.to(kFloat64);
  const Tensor wide = x[0].to(kFloat64);
  EXPECT_EQ(doubles((*cloned(rnn))(wide).h), doubles(rnn(wide).h));
}

TEST(RecurrentLayers, DropBetweenLayersInTrainingOnly) {
  manual_seed(3);
  nn::GRU gru(3, 64, {.num_layers = 2, .dropout = 0.5});
  const Tensor x = randn({4, 3});
  const Vector a = doubles(gru(x).output);
  EXPECT_NE(doubles(gru(x).output), a);
  gru.eval();
  const Vector b = doubles(gru(x).output);
  EXPECT_EQ(doubles(gru(x).output), b);
  // With all dropped the second layer reads zeros.
  nn::RNN none(3, 4, {.num_layers = 2, .bias = false, .dropout = 1});
  for (const double v : doubles(none(x).output)) EXPECT_EQ(v, 0);
  nn::RNN one(3, 4, {.dropout = 1});  // nothing lies between
  EXPECT_NE(doubles(one(x).output), Vector(16));
}

template <class E, class F>
void expect_error(const std::string& message, const F& f) {
  try {
    f();
    ADD_FAILURE() << "nothing was thrown; expected " << message;
  } catch (const E& e) {
    EXPECT_NE(std::string(e.what()).find(message), std::string::npos) << e.what();
  }
}

TEST(RecurrentLayers, SayWhatDoesNotFit) {
  const nn::LSTM lstm(3, 4, {.num_layers = 2});
  expect_error<ShapeError>("LSTM: x is [3]; it must be [steps,size] or [steps,batch,size]",
                           [&] { lstm(randn({3})); });
  expect_error<ShapeError>("LSTM: x is [5,2]; it must have one step at least, of size 3", [&] {
    lstm(randn({5, 2}));
  });
  expect_error<ShapeError>("LSTM: x is [0,3]", [&] { lstm(randn({0, 3})); });
  expect_error<ShapeError>("LSTM: h is [1,4]; it must be [2,4]", [&] {
    lstm(randn({5, 3}), {randn({1, 4}), randn({2, 4})});
  });
  expect_error<ShapeError>("LSTM: c is [2,4]; it must be [2,6,4]", [&] {
    lstm(randn({5, 6, 3}), {randn({2, 6, 4}), randn({2, 4})});
  });
  expect_error<ValueError>("GRU: num_layers is 0", [] { nn::GRU(3, 4, {.num_layers = 0}); });
  expect_error<ValueError>("RNN: dropout is 2", [] { nn::RNN(3, 4, {.dropout = 2}); });
  expect_error<ValueError>("GRU: the sizes are [3,0]", [] { nn::GRU(3, 0); });
}

TEST(RecurrentLayers, AreRecordedAtTheLineOfTheCall) {
  nn::LSTM lstm(3, 4, {.num_layers = 2});
  nn::GRUCell cell(3, 4);
  const unsigned here = __LINE__;
  const Tensor y = lstm(randn({5, 3})).output;
  const Tensor h = cell(randn({3}));
  EXPECT_EQ(y.edge().node()->where.line(), here + 1);
  EXPECT_EQ(h.edge().node()->where.line(), here + 2);
}

// A task no unit without a memory can do: the first symbol of a sequence, after ten steps of noise.
// Its forget gates start open, or it would take long to find out [Jozefowicz et al. 2015].
TEST(RecurrentLayers, LearnToRemember) {
  manual_seed(7);
  struct Net : nn::Module {
    nn::LSTM lstm{*this, "lstm", 2, 8};
    nn::Linear out{*this, "out", 8, 2};
  };
  Net net;
  auto state = net.state_dict();
  state["lstm.bias_ih_l0"] =
      state["lstm.bias_ih_l0"] + cat({{zeros({8}), full({8}, 3), zeros({16})}});
  net.load_state_dict(state);
  optim::Adam adam(net.parameters(), {.lr = 0.01});
  Generator random(5);
  int wrong = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto symbol = static_cast<int64_t>(random.uniform_int(2));
    const Tensor first = tensor({symbol == 0 ? 1.0f : -1.0f, 1.0f}).reshape({1, 2});
    const Tensor x = cat({{first, randn({10, 2}) * tensor({1.0f, 0.0f})}});
    const Tensor y = net.out(net.lstm(x).state.h[0]);
    if (i >= 900) wrong += argmax(y).item<int64_t>() != symbol;
    const Tensor loss = cross_entropy(y, symbol);
    adam.zero_grad();
    loss.backward();
    adam.step();
  }
  EXPECT_LE(wrong, 2) << "of 100; chance is 50";
}

}  // namespace
}  // namespace ebb
