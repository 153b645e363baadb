// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "ebb/ops/kernels/dispatch.h"

// What a recurrent unit of n cells computes between the matrix products of one step. All vectors
// are contiguous; those named [k, n] are k of them one behind the other. T = float or double.
namespace ebb::kernels {

/// A long short-term memory with any number k of states flowing in, each through a forget gate of
/// its own: 1 in a sequence, one a child in a tree.
///   i, f_j, o = sigmoid(.), g = tanh(.); c' = i g + sum_j f_j c_j; h' = o tanh(c')
/// With a peephole [3, n] (k = 1) the arguments of i and f grow by its first two rows times c, that
/// of o by its third times c'.
template <class T>
struct LstmForward {
  size_t n;
  size_t k;
  T* gates;  ///< [3 + k, n]: i, f_1 .. f_k, g, o before their functions; overwritten by after
  const T* const* c;  ///< k states; a null one is 0
  const T* peephole;  ///< null for none
  T* c_out;           ///< c'
  T* tanh_c;          ///< tanh(c'); null where neither it nor h' is wanted
  T* h;               ///< h'
};

template <class T>
struct LstmBackward {
  size_t n;
  size_t k;
  const T* gates;  ///< as LstmForward left them
  const T* const* c;
  const T* peephole;
  const T* tanh_c;  ///< may be null where gh is
  const T* gh;      ///< gradient of h'; null for 0
  const T* gc;      ///< gradient of c'; null for 0
  T* dgates;        ///< [3 + k, n]: gradient of the arguments of the gates
  T* const* dc;     ///< gradients of the k states; null ones are not wanted, one may be gc
};

/// A gated recurrent unit (Cho et al. 2014) with the reset gate behind the product:
///   r, z = sigmoid(a + b), m = tanh(a + r b), h' = (1 - z) m + z h
/// for the parts a of the input and b of the state.
template <class T>
struct GruForward {
  size_t n;
  T* gates;         ///< [4, n]: r, z and m of the input, and room; overwritten by r, z, m and b's m
  const T* hidden;  ///< [3, n]: r, z, m of the state
  const T* h;       ///< null for 0
  T* out;           ///< h'
};

template <class T>
struct GruBackward {
  size_t n;
  const T* gates;  ///< as GruForward left them
  const T* h;      ///< null for 0
  const T* g;      ///< gradient of h'
  T* dinput;       ///< [3, n]: gradient of a
  T* dhidden;      ///< [3, n]: gradient of b
  T* dh;           ///< gradient of h but for what comes through b; null where not wanted, may be g
};

namespace detail {

template <class T>
struct RecurrentTable {
  void (*lstm)(const LstmForward<T>& a);
  void (*lstm_backward)(const LstmBackward<T>& a);
  void (*gru)(const GruForward<T>& a);
  void (*gru_backward)(const GruBackward<T>& a);
};
struct RecurrentTables {
  RecurrentTable<float> f32;
  RecurrentTable<double> f64;
};
extern constinit const Dispatch<RecurrentTables> recurrent;

template <class T>
const RecurrentTable<T>& recurrent_table() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return recurrent->f32;
  } else {
    return recurrent->f64;
  }
}

}  // namespace detail

template <class T>
void lstm(const LstmForward<T>& a) {
  detail::recurrent_table<T>().lstm(a);
}
template <class T>
void lstm_backward(const LstmBackward<T>& a) {
  detail::recurrent_table<T>().lstm_backward(a);
}
template <class T>
void gru(const GruForward<T>& a) {
  detail::recurrent_table<T>().gru(a);
}
template <class T>
void gru_backward(const GruBackward<T>& a) {
  detail::recurrent_table<T>().gru_backward(a);
}

}  // namespace ebb::kernels
