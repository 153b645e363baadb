// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/recurrent.h"

#include "absl/strings/str_cat.h"
#include "ebb/nn/recurrent_util.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/random.h"
#include "ebb/ops/shape.h"

namespace ebb::nn {

using detail::drawn;
using detail::or_absent;
using detail::require_sizes;

// ---- cells -------------------------------------------------------------------------------------

RecurrentCell::RecurrentCell(const char* layer, int64_t in, int64_t hidden, int64_t gates,
                             bool bias) {
  start(layer, in, hidden, gates, bias);
}

RecurrentCell::RecurrentCell(Module& parent, std::string name, const char* layer, int64_t in,
                             int64_t hidden, int64_t gates, bool bias)
    : Module(parent, std::move(name)) {
  start(layer, in, hidden, gates, bias);
}

void RecurrentCell::start(const char* layer, int64_t in, int64_t hidden, int64_t gates, bool bias) {
  require_sizes(layer, in, hidden);
  const int64_t rows = gates * hidden;
  weight_ih = drawn(register_parameter("weight_ih", zeros({rows, in})), hidden);
  weight_hh = drawn(register_parameter("weight_hh", zeros({rows, hidden})), hidden);
  if (!bias) return;
  bias_ih = drawn(register_parameter("bias_ih", zeros({rows})), hidden);
  bias_hh = drawn(register_parameter("bias_hh", zeros({rows})), hidden);
}

RNNCell::RNNCell(int64_t in, int64_t hidden, RNNCellOptions options)
    : RecurrentCell("RNNCell", in, hidden, 1, options.bias), nonlinearity_(options.nonlinearity) {}

RNNCell::RNNCell(Module& parent, std::string name, int64_t in, int64_t hidden,
                 RNNCellOptions options)
    : RecurrentCell(parent, std::move(name), "RNNCell", in, hidden, 1, options.bias),
      nonlinearity_(options.nonlinearity) {}

Tensor RNNCell::operator()(const Tensor& x, const Tensor& h, Where where) const {
  const Tensor absent;
  return rnn_cell(x, h, weight_ih, weight_hh, or_absent(bias_ih, absent),
                  or_absent(bias_hh, absent), nonlinearity_, where);
}

std::unique_ptr<Module> RNNCell::clone() const {
  return clone_as(*this, input_size(), hidden_size(),
                  RNNCellOptions{.bias = bias_ih.defined(), .nonlinearity = nonlinearity_});
}

GRUCell::GRUCell(int64_t in, int64_t hidden, GRUCellOptions options)
    : RecurrentCell("GRUCell", in, hidden, 3, options.bias) {}

GRUCell::GRUCell(Module& parent, std::string name, int64_t in, int64_t hidden,
                 GRUCellOptions options)
    : RecurrentCell(parent, std::move(name), "GRUCell", in, hidden, 3, options.bias) {}

Tensor GRUCell::operator()(const Tensor& x, const Tensor& h, Where where) const {
  const Tensor absent;
  return gru_cell(x, h, weight_ih, weight_hh, or_absent(bias_ih, absent),
                  or_absent(bias_hh, absent), where);
}

std::unique_ptr<Module> GRUCell::clone() const {
  return clone_as(*this, input_size(), hidden_size(), GRUCellOptions{.bias = bias_ih.defined()});
}

LSTMCell::LSTMCell(int64_t in, int64_t hidden, LSTMCellOptions options)
    : RecurrentCell("LSTMCell", in, hidden, 4, options.bias) {
  start(options.peephole);
}

LSTMCell::LSTMCell(Module& parent, std::string name, int64_t in, int64_t hidden,
                   LSTMCellOptions options)
    : RecurrentCell(parent, std::move(name), "LSTMCell", in, hidden, 4, options.bias) {
  start(options.peephole);
}

void LSTMCell::start(bool with_peephole) {
  if (!with_peephole) return;
  peephole = drawn(register_parameter("peephole", zeros({3 * hidden_size()})), hidden_size());
}

LSTMState LSTMCell::operator()(const Tensor& x, const LSTMState& state, Where where) const {
  const Tensor absent;
  return lstm_cell(x, state, weight_ih, weight_hh, or_absent(bias_ih, absent),
                   or_absent(bias_hh, absent), or_absent(peephole, absent), where);
}

std::unique_ptr<Module> LSTMCell::clone() const {
  return clone_as(*this, input_size(), hidden_size(),
                  LSTMCellOptions{.bias = bias_ih.defined(), .peephole = peephole.defined()});
}

LayerNormLSTMCell::LayerNormLSTMCell(int64_t in, int64_t hidden)
    : RecurrentCell("LayerNormLSTMCell", in, hidden, 4, false),
      norm_ih(*this, "norm_ih", {4 * hidden}),
      norm_hh(*this, "norm_hh", {4 * hidden}),
      norm_c(*this, "norm_c", {hidden}) {}

LayerNormLSTMCell::LayerNormLSTMCell(Module& parent, std::string name, int64_t in, int64_t hidden)
    : RecurrentCell(parent, std::move(name), "LayerNormLSTMCell", in, hidden, 4, false),
      norm_ih(*this, "norm_ih", {4 * hidden}),
      norm_hh(*this, "norm_hh", {4 * hidden}),
      norm_c(*this, "norm_c", {hidden}) {}

LSTMState LayerNormLSTMCell::operator()(const Tensor& x, const LSTMState& state,
                                        Where where) const {
  const ebb::detail::PlaceScope scope(where);
  Tensor gates = norm_ih(linear(x, weight_ih));
  // A state of 0 is normalised to the bias.
  gates = gates + (state.h.defined() ? norm_hh(linear(state.h, weight_hh)) : norm_hh.bias.tensor());
  return lstm_norm_gates(gates, state.c, norm_c.weight, norm_c.bias);
}

std::unique_ptr<Module> LayerNormLSTMCell::clone() const {
  return clone_as(*this, input_size(), hidden_size());
}

// ---- layers over sequences ---------------------------------------------------------------------

RecurrentLayer::RecurrentLayer(const char* layer, int64_t in, int64_t hidden, int64_t gates,
                               const RecurrentOptions& options)
    : layer_(layer), input_(in), hidden_(hidden), options_(options) {
  start(gates);
}

RecurrentLayer::RecurrentLayer(Module& parent, std::string name, const char* layer, int64_t in,
                               int64_t hidden, int64_t gates, const RecurrentOptions& options)
    : Module(parent, std::move(name)),
      layer_(layer),
      input_(in),
      hidden_(hidden),
      options_(options) {
  start(gates);
}

void RecurrentLayer::start(int64_t gates) {
  require_sizes(layer_, input_, hidden_);
  if (options_.num_layers < 1) {
    throw ValueError(
        absl::StrCat(layer_, ": num_layers is ", options_.num_layers, "; it must be at least 1"));
  }
  if (!(options_.dropout >= 0 && options_.dropout <= 1)) {
    throw ValueError(
        absl::StrCat(layer_, ": dropout is ", options_.dropout, "; it must be in [0, 1]"));
  }
  const int64_t rows = gates * hidden_;
  const int directions = options_.bidirectional ? 2 : 1;
  for (int64_t l = 0; l < options_.num_layers; ++l) {
    for (int d = 0; d < directions; ++d) {
      const int64_t in = l == 0 ? input_ : directions * hidden_;
      const auto make = [&](const char* what, const Shape& shape) {
        return drawn(
            register_parameter(absl::StrCat(what, "_l", l, d == 0 ? "" : "_reverse"), zeros(shape)),
            hidden_);
      };
      Unit u;
      u.weight_ih = make("weight_ih", {rows, in});
      u.weight_hh = make("weight_hh", {rows, hidden_});
      if (options_.bias) {
        u.bias_ih = make("bias_ih", {rows});
        u.bias_hh = make("bias_hh", {rows});
      }
      units_.push_back(std::move(u));
    }
  }
}

void RecurrentLayer::require_state(const Tensor& state, const char* what, const Tensor& x) const {
  if (!state.defined()) return;
  Shape want{num_states(), hidden_};
  if (x.dim() == 3) want = {num_states(), x.size(1), hidden_};
  if (state.shape() == want) return;
  throw ShapeError(
      absl::StrCat(layer_, ": ", what, " is ", state.shape().str(), "; it must be ", want.str()));
}

template <class F>
Tensor RecurrentLayer::run_layers(const Tensor& input, LSTMState* state, const F& run) const {
  if (input.dim() != 2 && input.dim() != 3) {
    throw ShapeError(absl::StrCat(layer_, ": x is ", input.shape().str(),
                                  "; it must be [steps,size] or [",
                                  options_.batch_first ? "batch,steps" : "steps,batch", ",size]"));
  }
  const bool swap = options_.batch_first && input.dim() == 3;
  Tensor x = swap ? input.transpose(0, 1) : input;
  if (x.size(0) < 1 || x.size(-1) != input_) {
    throw ShapeError(absl::StrCat(layer_, ": x is ", input.shape().str(),
                                  "; it must have one step at least, of size ", input_));
  }
  require_state(state->h, "h", x);
  require_state(state->c, "c", x);
  const LSTMState first = *state;
  const size_t directions = options_.bidirectional ? 2 : 1;
  const int64_t steps = x.size(0);
  TensorList last_h;
  TensorList last_c;
  for (size_t k = 0; k < units_.size(); k += directions) {
    std::array<Tensor, 2> y;
    for (size_t d = 0; d < directions; ++d) {
      const auto at = static_cast<int64_t>(k + d);
      const auto of_unit = [&](const Tensor& all) {
        return all.defined() ? all.select(0, at) : Tensor();
      };
      const LSTMState s = run(units_[k + d], d == 1, x, of_unit(first.h), of_unit(first.c));
      const int64_t end = d == 1 ? 0 : steps - 1;
      last_h.push_back(s.h.narrow(0, end, 1));
      if (s.c.defined()) last_c.push_back(s.c.narrow(0, end, 1));
      y[d] = s.h;
    }
    x = directions == 2 ? cat(y, -1) : y[0];
    if (k + directions < units_.size() && options_.dropout > 0) {
      x = dropout(x, options_.dropout, is_training());
    }
  }
  const auto joined = [](const TensorList& all) { return all.size() == 1 ? all[0] : cat(all); };
  state->h = joined(last_h);
  if (!last_c.empty()) state->c = joined(last_c);
  return swap ? x.transpose(0, 1) : x;
}

namespace {

RecurrentOptions common(const RNNOptions& o) {
  return {.num_layers = o.num_layers,
          .bias = o.bias,
          .batch_first = o.batch_first,
          .dropout = o.dropout,
          .bidirectional = o.bidirectional};
}

}  // namespace

RNN::RNN(int64_t in, int64_t hidden, RNNOptions options)
    : RecurrentLayer("RNN", in, hidden, 1, common(options)), nonlinearity_(options.nonlinearity) {}

RNN::RNN(Module& parent, std::string name, int64_t in, int64_t hidden, RNNOptions options)
    : RecurrentLayer(parent, std::move(name), "RNN", in, hidden, 1, common(options)),
      nonlinearity_(options.nonlinearity) {}

RNNOutput RNN::operator()(const Tensor& x, const Tensor& h, Where where) const {
  const ebb::detail::PlaceScope scope(where);
  LSTMState state{h, {}};
  const Tensor absent;
  const auto run = [&](const Unit& u, bool reverse, const Tensor& in, const Tensor& h0,
                       const Tensor&) -> LSTMState {
    return {rnn_layer(in, h0, u.weight_ih, u.weight_hh, or_absent(u.bias_ih, absent),
                      or_absent(u.bias_hh, absent), reverse, nonlinearity_),
            {}};
  };
  Tensor output = run_layers(x, &state, run);
  return {std::move(output), std::move(state.h)};
}

std::unique_ptr<Module> RNN::clone() const {
  const RecurrentOptions& o = options();
  return clone_as(*this, input_size(), hidden_size(),
                  RNNOptions{.num_layers = o.num_layers,
                             .nonlinearity = nonlinearity_,
                             .bias = o.bias,
                             .batch_first = o.batch_first,
                             .dropout = o.dropout,
                             .bidirectional = o.bidirectional});
}

GRU::GRU(int64_t in, int64_t hidden, RecurrentOptions options)
    : RecurrentLayer("GRU", in, hidden, 3, options) {}

GRU::GRU(Module& parent, std::string name, int64_t in, int64_t hidden, RecurrentOptions options)
    : RecurrentLayer(parent, std::move(name), "GRU", in, hidden, 3, options) {}

RNNOutput GRU::operator()(const Tensor& x, const Tensor& h, Where where) const {
  const ebb::detail::PlaceScope scope(where);
  LSTMState state{h, {}};
  const Tensor absent;
  const auto run = [&](const Unit& u, bool reverse, const Tensor& in, const Tensor& h0,
                       const Tensor&) -> LSTMState {
    return {gru_layer(in, h0, u.weight_ih, u.weight_hh, or_absent(u.bias_ih, absent),
                      or_absent(u.bias_hh, absent), reverse),
            {}};
  };
  Tensor output = run_layers(x, &state, run);
  return {std::move(output), std::move(state.h)};
}

std::unique_ptr<Module> GRU::clone() const {
  return clone_as(*this, input_size(), hidden_size(), options());
}

LSTM::LSTM(int64_t in, int64_t hidden, RecurrentOptions options)
    : RecurrentLayer("LSTM", in, hidden, 4, options) {}

LSTM::LSTM(Module& parent, std::string name, int64_t in, int64_t hidden, RecurrentOptions options)
    : RecurrentLayer(parent, std::move(name), "LSTM", in, hidden, 4, options) {}

LSTMOutput LSTM::operator()(const Tensor& x, const LSTMState& state, Where where) const {
  const ebb::detail::PlaceScope scope(where);
  LSTMState last = state;
  const Tensor absent;
  const auto run = [&](const Unit& u, bool reverse, const Tensor& in, const Tensor& h,
                       const Tensor& c) {
    return lstm_layer(in, {h, c}, u.weight_ih, u.weight_hh, or_absent(u.bias_ih, absent),
                      or_absent(u.bias_hh, absent), reverse);
  };
  Tensor output = run_layers(x, &last, run);
  return {std::move(output), std::move(last)};
}

std::unique_ptr<Module> LSTM::clone() const {
  return clone_as(*this, input_size(), hidden_size(), options());
}

}  // namespace ebb::nn
