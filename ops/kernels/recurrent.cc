// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/recurrent.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/recurrent.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/unary-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

using hn::Add;
using hn::Mul;
using hn::MulAdd;
using hn::NegMulAdd;
using hn::Set;
using hn::Sub;
using hn::Zero;

// A vector of the cells from `at` on; the last one of a unit may be partial.
template <class T>
struct Cells {
  using L = unary::Lanes<T, T>;
  using D = typename L::D;
  using V = typename L::V;

  size_t at;
  size_t left;  // cells from there on

  HWY_INLINE V load(const T* p) const { return L::load(p + at, left); }
  HWY_INLINE V load_or_zero(const T* p) const { return p != nullptr ? load(p) : Zero(D()); }
  HWY_INLINE void store(V v, T* p) const { L::store(v, p + at, left); }
};

// Calls f for all cells of a unit: in one place, so that it is inlined.
template <class T, class F>
HWY_INLINE void for_cells(size_t n, const F& f) {
  constexpr size_t kN = kLanes<typename Cells<T>::D>;
  for (size_t at = 0; at < n; at += kN) f(Cells<T>{at, n - at});
}

// g times the derivative of a function at the place where its value is y.
template <class D, class V>
HWY_INLINE V through_sigmoid(D d, V g, V y) {
  return Mul(g, Mul(y, Sub(Set(d, 1), y)));
}
template <class D, class V>
HWY_INLINE V through_tanh(D d, V g, V y) {
  return Mul(g, NegMulAdd(y, y, Set(d, 1)));
}

template <class T>
void lstm(const LstmForward<T>& a) {
  const typename Cells<T>::D d;
  const size_t n = a.n;
  T* const forget = a.gates + n;
  T* const update = forget + a.k * n;
  T* const output = update + n;
  for_cells<T>(n, [&](const Cells<T>& s) HWY_ATTR {
    auto in = s.load(a.gates);
    if (a.peephole != nullptr) in = MulAdd(s.load(a.peephole), s.load_or_zero(a.c[0]), in);
    const auto i = vec::sigmoid(d, in);
    const auto g = vec::tanh(d, s.load(update));
    s.store(i, a.gates);
    s.store(g, update);
    auto c = Mul(i, g);
    for (size_t j = 0; j < a.k; ++j) {
      const auto before = s.load_or_zero(a.c[j]);
      auto arg = s.load(forget + j * n);
      if (a.peephole != nullptr) arg = MulAdd(s.load(a.peephole + n), before, arg);
      const auto f = vec::sigmoid(d, arg);
      s.store(f, forget + j * n);
      c = MulAdd(f, before, c);
    }
    auto out = s.load(output);
    if (a.peephole != nullptr) out = MulAdd(s.load(a.peephole + 2 * n), c, out);
    const auto o = vec::sigmoid(d, out);
    s.store(o, output);
    s.store(c, a.c_out);
    if (a.tanh_c == nullptr) return;
    const auto t = vec::tanh(d, c);
    s.store(t, a.tanh_c);
    s.store(Mul(o, t), a.h);
  });
}

template <class T>
void lstm_backward(const LstmBackward<T>& a) {
  const typename Cells<T>::D d;
  const size_t n = a.n;
  const T* const forget = a.gates + n;
  const T* const update = forget + a.k * n;
  const T* const output = update + n;
  T* const dforget = a.dgates + n;
  T* const dupdate = dforget + a.k * n;
  T* const doutput = dupdate + n;
  for_cells<T>(n, [&](const Cells<T>& s) HWY_ATTR {
    auto dc = s.load_or_zero(a.gc);
    auto out = Zero(d);
    if (a.gh != nullptr) {
      const auto gh = s.load(a.gh);
      const auto o = s.load(output);
      const auto t = s.load(a.tanh_c);
      out = through_sigmoid(d, Mul(gh, t), o);
      dc = Add(dc, through_tanh(d, Mul(gh, o), t));
      if (a.peephole != nullptr) dc = MulAdd(out, s.load(a.peephole + 2 * n), dc);
    }
    s.store(out, doutput);
    const auto i = s.load(a.gates);
    const auto g = s.load(update);
    const auto in = through_sigmoid(d, Mul(dc, g), i);
    s.store(in, a.dgates);
    s.store(through_tanh(d, Mul(dc, i), g), dupdate);
    for (size_t j = 0; j < a.k; ++j) {
      const auto f = s.load(forget + j * n);
      const auto arg = through_sigmoid(d, Mul(dc, s.load_or_zero(a.c[j])), f);
      s.store(arg, dforget + j * n);
      if (a.dc[j] == nullptr) continue;
      auto before = Mul(dc, f);
      if (a.peephole != nullptr) {
        before = MulAdd(in, s.load(a.peephole), before);
        before = MulAdd(arg, s.load(a.peephole + n), before);
      }
      s.store(before, a.dc[j]);
    }
  });
}

template <class T>
void gru(const GruForward<T>& a) {
  const typename Cells<T>::D d;
  const size_t n = a.n;
  for_cells<T>(n, [&](const Cells<T>& s) HWY_ATTR {
    const auto r = vec::sigmoid(d, Add(s.load(a.gates), s.load(a.hidden)));
    const auto z = vec::sigmoid(d, Add(s.load(a.gates + n), s.load(a.hidden + n)));
    const auto q = s.load(a.hidden + 2 * n);
    const auto m = vec::tanh(d, MulAdd(r, q, s.load(a.gates + 2 * n)));
    s.store(r, a.gates);
    s.store(z, a.gates + n);
    s.store(m, a.gates + 2 * n);
    s.store(q, a.gates + 3 * n);
    s.store(MulAdd(z, Sub(s.load_or_zero(a.h), m), m), a.out);
  });
}

template <class T>
void gru_backward(const GruBackward<T>& a) {
  const typename Cells<T>::D d;
  const size_t n = a.n;
  for_cells<T>(n, [&](const Cells<T>& s) HWY_ATTR {
    const auto g = s.load(a.g);
    const auto r = s.load(a.gates);
    const auto z = s.load(a.gates + n);
    const auto m = s.load(a.gates + 2 * n);
    const auto dm = through_tanh(d, NegMulAdd(g, z, g), m);
    const auto dr = through_sigmoid(d, Mul(dm, s.load(a.gates + 3 * n)), r);
    const auto dz = through_sigmoid(d, Mul(g, Sub(s.load_or_zero(a.h), m)), z);
    s.store(dr, a.dinput);
    s.store(dz, a.dinput + n);
    s.store(dm, a.dinput + 2 * n);
    s.store(dr, a.dhidden);
    s.store(dz, a.dhidden + n);
    s.store(Mul(dm, r), a.dhidden + 2 * n);
    if (a.dh != nullptr) s.store(Mul(g, z), a.dh);
  });
}

constexpr detail::RecurrentTables kTables{
    {lstm<float>, lstm_backward<float>, gru<float>, gru_backward<float>},
    {lstm<double>, lstm_backward<double>, gru<double>, gru_backward<double>}};

}  // namespace

const detail::RecurrentTables* recurrent_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(recurrent_tables);

constinit const Dispatch<detail::RecurrentTables> detail::recurrent{
    [] { return HWY_DYNAMIC_DISPATCH(recurrent_tables)(); }};

}  // namespace ebb::kernels
#endif
