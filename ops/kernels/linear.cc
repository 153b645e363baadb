// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/linear.h"

#include "ebb/ops/kernels/unary.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/linear.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "ebb/ops/kernels/unary-inl.h"
#include "ebb/ops/kernels/unary_exp-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

struct None {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P) {
    return x;
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V, P) {
    return g;
  }
};
struct Relu {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x);  // a NaN stays
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V y, P) {
    return hn::IfThenZeroElse(hn::Le(y, hn::Zero(d)), g);
  }
};

// A row of whole vectors and a last one, of which only `left` lanes exist.
template <class D, class F>
HWY_INLINE void for_each_vector(D, size_t n, const F& f) {
  constexpr size_t kN = kLanes<D>;
  size_t i = 0;
  for (; i + kN <= n; i += kN) f(i, kN);
  if (i < n) f(i, n - i);
}

template <class F, class T>
void forward(const T* x, const T* b, T* z, T* y, size_t n) {
  using L = unary::Lanes<T, T>;
  const typename L::D d;
  const int none = 0;  // these functions have no parameters
  for_each_vector(d, n, [=](size_t i, size_t left) HWY_ATTR {
    auto v = L::load(x + i, left);
    if (b != nullptr) v = hn::Add(v, L::load(b + i, left));
    if (z != nullptr) L::store(v, z + i, left);
    L::store(F::value(d, v, none), y + i, left);
  });
}

template <class F, class T>
void backward(const T* g, const T* saved, T* dz, T* db, size_t n) {
  using L = unary::Lanes<T, T>;
  const typename L::D d;
  const int none = 0;
  if constexpr (std::is_same_v<F, None>) saved = g;
  for_each_vector(d, n, [=](size_t i, size_t left) HWY_ATTR {
    const auto v = F::gradient(d, L::load(g + i, left), L::load(saved + i, left), none);
    if (db != nullptr) L::store(hn::Add(L::load(db + i, left), v), db + i, left);
    L::store(v, dz + i, left);
  });
}

template <class T>
constexpr detail::LinearTable<T> table() {
  return {{forward<None, T>, forward<Relu, T>, forward<unary::Tanh, T>, forward<unary::Sigmoid, T>,
           forward<unary::Gelu, T>, forward<unary::Silu, T>},
          {backward<None, T>, backward<Relu, T>, backward<unary::Tanh, T>,
           backward<unary::Sigmoid, T>, backward<unary::Gelu, T>, backward<unary::Silu, T>}};
}
constexpr detail::LinearTables kTables{table<float>(), table<double>()};

}  // namespace

const detail::LinearTables* linear_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(linear_tables);

constinit const Dispatch<detail::LinearTables> detail::linear{
    [] { return HWY_DYNAMIC_DISPATCH(linear_tables)(); }};

}  // namespace ebb::kernels
#endif
