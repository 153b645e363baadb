// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "ebb/nn/layers.h"
#include "ebb/nn/module.h"
#include "ebb/ops/recurrent.h"

// Recurrent layers with PyTorch's names, shapes and order of gates. All parameters are drawn from
// U(-1/sqrt(hidden), 1/sqrt(hidden)); sizes below 1 are a ValueError. Formulas: ops/recurrent.h.
//
// A single sample has no batch axis: x [in] at a cell and [steps,in] at a layer. An undefined
// initial state is 0.
namespace ebb::nn {

using LSTMState = ebb::LSTMState;
using Nonlinearity = ebb::Nonlinearity;

/// What the cells have in common: `weight_ih` [gates*hidden,in], `weight_hh` [gates*hidden,hidden],
/// and `bias_ih`, `bias_hh` [gates*hidden], undefined without.
class RecurrentCell : public Module {
 public:
  int64_t input_size() const { return weight_ih.size(1); }
  int64_t hidden_size() const { return weight_hh.size(1); }

  Parameter weight_ih;
  Parameter weight_hh;
  Parameter bias_ih;
  Parameter bias_hh;

 protected:
  RecurrentCell(const char* layer, int64_t in, int64_t hidden, int64_t gates, bool bias);
  RecurrentCell(Module& parent, std::string name, const char* layer, int64_t in, int64_t hidden,
                int64_t gates, bool bias);

 private:
  void start(const char* layer, int64_t in, int64_t hidden, int64_t gates, bool bias);
};

struct RNNCellOptions {
  bool bias = true;
  Nonlinearity nonlinearity = Nonlinearity::kTanh;
};

/// h' = tanh(W x + b + U h + b'), or relu.
class RNNCell : public RecurrentCell {
 public:
  RNNCell(int64_t in, int64_t hidden, RNNCellOptions options = {});
  RNNCell(Module& parent, std::string name, int64_t in, int64_t hidden,
          RNNCellOptions options = {});
  /// x [in] or [batch,in], h [hidden] or [batch,hidden].
  Tensor operator()(const Tensor& x, const Tensor& h = {}) const;
  std::unique_ptr<Module> clone() const override;

 private:
  Nonlinearity nonlinearity_;
};

struct GRUCellOptions {
  bool bias = true;
};

/// A gated recurrent unit, gates in the order r, z, n.
class GRUCell : public RecurrentCell {
 public:
  GRUCell(int64_t in, int64_t hidden, GRUCellOptions options = {});
  GRUCell(Module& parent, std::string name, int64_t in, int64_t hidden,
          GRUCellOptions options = {});
  Tensor operator()(const Tensor& x, const Tensor& h = {}) const;
  std::unique_ptr<Module> clone() const override;
};

struct LSTMCellOptions {
  bool bias = true;
  bool peephole = false;  ///< Gers, Schmidhuber 2000
};

/// Long short-term memory, gates in the order i, f, g, o:
///   nn::LSTMState state;
///   for (int64_t t = 0; t < x.size(0); ++t) state = cell(x[t], state);
class LSTMCell : public RecurrentCell {
 public:
  LSTMCell(int64_t in, int64_t hidden, LSTMCellOptions options = {});
  LSTMCell(Module& parent, std::string name, int64_t in, int64_t hidden,
           LSTMCellOptions options = {});
  LSTMState operator()(const Tensor& x, const LSTMState& state = {}) const;
  std::unique_ptr<Module> clone() const override;

  Parameter peephole;  ///< [3*hidden], for i, f, o; undefined without

 private:
  void start(bool with_peephole);
};

/// An LSTM that normalises both products and the state on its way out (Ba, Kiros, Hinton 2016):
///   gates = norm_ih(W x) + norm_hh(U h); c' = f c + i g; h' = o tanh(norm_c(c'))
/// The biases are those of the norms.
class LayerNormLSTMCell : public RecurrentCell {
 public:
  LayerNormLSTMCell(int64_t in, int64_t hidden);
  LayerNormLSTMCell(Module& parent, std::string name, int64_t in, int64_t hidden);
  LSTMState operator()(const Tensor& x, const LSTMState& state = {}) const;
  std::unique_ptr<Module> clone() const override;

  LayerNorm norm_ih;
  LayerNorm norm_hh;
  LayerNorm norm_c;
};

/// Options of GRU and LSTM.
struct RecurrentOptions {
  int64_t num_layers = 1;
  bool bias = true;
  bool batch_first = false;    ///< batches are [batch,steps,in]; a single sample is as ever
  double dropout = 0;          ///< in training, on what one layer gives the next
  bool bidirectional = false;  ///< a second unit reads from the end; results stand side by side
};

struct RNNOptions {
  int64_t num_layers = 1;
  Nonlinearity nonlinearity = Nonlinearity::kTanh;
  bool bias = true;
  bool batch_first = false;
  double dropout = 0;
  bool bidirectional = false;
};

/// What the layers over sequences have in common. Parameters of layer l are `weight_ih_l<l>`,
/// `weight_hh_l<l>`, `bias_ih_l<l>`, `bias_hh_l<l>`, with `_reverse` behind for the second
/// direction.
class RecurrentLayer : public Module {
 public:
  int64_t hidden_size() const { return hidden_; }
  /// States that flow: layers times directions.
  int64_t num_states() const { return static_cast<int64_t>(units_.size()); }

 protected:
  /// The parameters of one layer and direction.
  struct Unit {
    Parameter weight_ih;
    Parameter weight_hh;
    Parameter bias_ih;
    Parameter bias_hh;
  };
  RecurrentLayer(const char* layer, int64_t in, int64_t hidden, int64_t gates,
                 const RecurrentOptions& options);
  RecurrentLayer(Module& parent, std::string name, const char* layer, int64_t in, int64_t hidden,
                 int64_t gates, const RecurrentOptions& options);

  /// Runs all layers. `run(unit, reverse, x, h, c)` gives all states h and c of one, c undefined
  /// where there is none; `state` has those of all, or is undefined, and has the last ones
  /// afterwards. Gives the states h of the last layer.
  template <class F>
  Tensor run_layers(const Tensor& x, LSTMState* state, const F& run) const;

  const RecurrentOptions& options() const { return options_; }
  int64_t input_size() const { return input_; }

 private:
  void start(int64_t gates);
  void require_state(const Tensor& state, const char* what, const Tensor& x) const;

  const char* layer_;
  int64_t input_;
  int64_t hidden_;
  RecurrentOptions options_;
  std::vector<Unit> units_;  // by layer, then by direction
};

struct RNNOutput {
  Tensor output;  ///< [steps,directions*hidden] or [steps,batch,..]: of the last layer
  Tensor h;       ///< [layers*directions,hidden] or [..,batch,hidden]: the last of each
};
struct LSTMOutput {
  Tensor output;
  LSTMState state;  ///< h and c as RNNOutput::h
};

/// x [steps,in] or [steps,batch,in], h [layers*directions,hidden] or [..,batch,hidden].
class RNN : public RecurrentLayer {
 public:
  RNN(int64_t in, int64_t hidden, RNNOptions options = {});
  RNN(Module& parent, std::string name, int64_t in, int64_t hidden, RNNOptions options = {});
  RNNOutput operator()(const Tensor& x, const Tensor& h = {}) const;
  std::unique_ptr<Module> clone() const override;

 private:
  Nonlinearity nonlinearity_;
};

class GRU : public RecurrentLayer {
 public:
  GRU(int64_t in, int64_t hidden, RecurrentOptions options = {});
  GRU(Module& parent, std::string name, int64_t in, int64_t hidden, RecurrentOptions options = {});
  RNNOutput operator()(const Tensor& x, const Tensor& h = {}) const;
  std::unique_ptr<Module> clone() const override;
};

class LSTM : public RecurrentLayer {
 public:
  LSTM(int64_t in, int64_t hidden, RecurrentOptions options = {});
  LSTM(Module& parent, std::string name, int64_t in, int64_t hidden, RecurrentOptions options = {});
  LSTMOutput operator()(const Tensor& x, const LSTMState& state = {}) const;
  std::unique_ptr<Module> clone() const override;
};

}  // namespace ebb::nn
