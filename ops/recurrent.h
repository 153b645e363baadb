// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// Recurrent units, a step or a whole sequence at a time: one op from the matrix products to the new
// state. Names, shapes and the order of the gates are PyTorch's.
//
// A single sample is x [in] with states [hidden], a sequence of it x [steps,in]; several at once
// are [batch,in] and [steps,batch,in], with states [batch,hidden]. Of G gates the weights are
// weight_ih [G*hidden,in] and weight_hh [G*hidden,hidden], the biases [G*hidden], or undefined
// where there are none. An undefined state counts as 0 and costs nothing. All are float32 or
// float64, of one type (DTypeError); a shape that does not fit is a ShapeError.
//
// The gradient of a weight from few steps is a sum of as many products of two vectors, and stays
// one up to the optimiser where that is cheaper than the matrix (gradient.h): a weight that many
// steps use costs one matrix product at the end.
namespace ebb {

/// What an LSTM carries from one step to the next.
struct LSTMState {
  Tensor h;
  Tensor c;
};

/// Long short-term memory (Hochreiter, Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000), gates in
/// the order i, f, g, o:
///   i, f, o = sigmoid(W x + b + U h + b'), g = tanh(the same), c' = f c + i g, h' = o tanh(c')
/// With `peephole` [3*hidden], p for i, f and o, the arguments of i and f grow by p c, that of o by
/// p c': Gers, Schmidhuber 2000.
LSTMState lstm_cell(const Tensor& x, const LSTMState& state, const Tensor& weight_ih,
                    const Tensor& weight_hh, const Tensor& bias_ih = {}, const Tensor& bias_hh = {},
                    const Tensor& peephole = {}, Where where = Where::current());

/// The unit alone: `gates` [4*hidden] or [...,4*hidden] are the sums of the products, c [hidden] or
/// [...,hidden] the state, or undefined.
LSTMState lstm_gates(const Tensor& gates, const Tensor& c, const Tensor& peephole = {},
                     Where where = Where::current());

/// The same with the new state normalised on its way out, h' = o tanh(layer_norm(c')) with
/// `weight` and `bias` [hidden]: Ba, Kiros, Hinton 2016.
LSTMState lstm_norm_gates(const Tensor& gates, const Tensor& c, const Tensor& weight,
                          const Tensor& bias, double eps = 1e-5, Where where = Where::current());

/// Gated recurrent unit (Cho et al. 2014) as PyTorch has it, gates in the order r, z, n:
///   r, z = sigmoid(W x + b + U h + b'), n = tanh(W x + b + r (U h + b')), h' = (1 - z) n + z h
Tensor gru_cell(const Tensor& x, const Tensor& h, const Tensor& weight_ih, const Tensor& weight_hh,
                const Tensor& bias_ih = {}, const Tensor& bias_hh = {},
                Where where = Where::current());

enum class Nonlinearity : uint8_t { kTanh, kRelu };

/// h' = tanh(W x + b + U h + b'), or relu: Elman 1990.
Tensor rnn_cell(const Tensor& x, const Tensor& h, const Tensor& weight_ih, const Tensor& weight_hh,
                const Tensor& bias_ih = {}, const Tensor& bias_hh = {},
                Nonlinearity nonlinearity = Nonlinearity::kTanh, Where where = Where::current());

/// The states after each step of a sequence, [steps,hidden] or [steps,batch,hidden]: the input of
/// all steps is one matrix product. With `reverse` it is read from its end, and element t is the
/// state after reading x[t]. There must be one step at least.
LSTMState lstm_layer(const Tensor& x, const LSTMState& state, const Tensor& weight_ih,
                     const Tensor& weight_hh, const Tensor& bias_ih = {},
                     const Tensor& bias_hh = {}, bool reverse = false, const Tensor& peephole = {},
                     Where where = Where::current());
Tensor gru_layer(const Tensor& x, const Tensor& h, const Tensor& weight_ih, const Tensor& weight_hh,
                 const Tensor& bias_ih = {}, const Tensor& bias_hh = {}, bool reverse = false,
                 Where where = Where::current());
Tensor rnn_layer(const Tensor& x, const Tensor& h, const Tensor& weight_ih, const Tensor& weight_hh,
                 const Tensor& bias_ih = {}, const Tensor& bias_hh = {}, bool reverse = false,
                 Nonlinearity nonlinearity = Nonlinearity::kTanh, Where where = Where::current());

/// The node of a tree whose children have states of their own (Tai, Socher, Manning 2015, N-ary),
/// with a forget gate for each of N children; blocks of weight_hh in the order i, f_1 .. f_N, g, o:
///   i, g, o, f_k = as in lstm_cell of W x + b + U [h_1 .. h_N] + b', c' = i g + sum_k f_k c_k
/// weight_ih [4*hidden,in] and bias_ih have blocks i, f, g, o, f for all children alike; weight_hh
/// is [(3+N)*hidden,N*hidden]. Either x, weight_ih and bias_ih or the children may be absent: an
/// inner node without a word, a leaf.
LSTMState nary_tree_lstm_cell(const Tensor& x, Span<const LSTMState> children,
                              const Tensor& weight_ih, const Tensor& weight_hh,
                              const Tensor& bias_ih = {}, const Tensor& bias_hh = {},
                              Where where = Where::current());

/// The same for any number of children without an order (child-sum): i, g and o read the sum of the
/// h_k, f_k reads h_k alone. weight_ih [4*hidden,in], weight_hh [4*hidden,hidden] and bias
/// [4*hidden] have blocks i, f, g, o. x and weight_ih, or the children, may be absent.
LSTMState child_sum_tree_lstm_cell(const Tensor& x, Span<const LSTMState> children,
                                   const Tensor& weight_ih, const Tensor& weight_hh,
                                   const Tensor& bias = {}, Where where = Where::current());

}  // namespace ebb
