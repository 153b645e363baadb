// SPDX-License-Identifier: Apache-2.0
// The loops around the functions of unary_*.cc; compiled once for each instruction set, so the
// include guard toggles instead of staying set.
//
// A function is a struct with
//   static V value(D d, V x, P p)            f(x)
//   static V gradient(D d, V g, V s, P p)    g f'(x); s is x or y, whichever the list in unary.h
//   says
// for vectors V of float or double, V = Vec<D>. p.a and p.b are vectors of the parameters. A struct
// derived from InDouble sees double only; its floats are converted on the way in and out.
#if defined(EBB_OPS_KERNELS_UNARY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_UNARY_INL_H_
#undef EBB_OPS_KERNELS_UNARY_INL_H_
#else
#define EBB_OPS_KERNELS_UNARY_INL_H_
#endif

#include <cstddef>
#include <type_traits>

#include "ebb/ops/kernels/simd-inl.h"
#include "ebb/ops/kernels/unary.h"
#include "ebb/ops/kernels/unary_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace unary {

using hn::Add;
using hn::And;
using hn::Div;
using hn::Eq;
using hn::Ge;
using hn::Gt;
using hn::IfThenElse;
using hn::IfThenElseZero;
using hn::IfThenZeroElse;
using hn::Le;
using hn::Lt;
using hn::Mul;
using hn::MulAdd;
using hn::NegMulAdd;
using hn::Or;
using hn::Set;
using hn::Sub;
using hn::Zero;

struct InDouble {};

template <class V>
struct Params {
  V a, b;
};

// Reads and writes T in memory as vectors of Compute.
template <typename T, typename Compute>
struct Lanes {
  using D = hn::ScalableTag<Compute>;
  using Memory = hn::Rebind<T, D>;
  using V = hn::Vec<D>;

  static HWY_INLINE V widen(hn::Vec<Memory> v) {
    if constexpr (std::is_same_v<T, Compute>) {
      return v;
    } else {
      return hn::PromoteTo(D(), v);
    }
  }
  static HWY_INLINE hn::Vec<Memory> narrow(V v) {
    if constexpr (std::is_same_v<T, Compute>) {
      return v;
    } else {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
      // Where DemoteTo is emulated it makes the largest float of infinity.
      HWY_ALIGN Compute wide[kLanes<D>];
      HWY_ALIGN T out[kLanes<D>];
      hn::Store(v, D(), wide);
      for (size_t i = 0; i < kLanes<D>; ++i) out[i] = static_cast<T>(wide[i]);
      return hn::Load(Memory(), out);
#else
      return hn::DemoteTo(Memory(), v);
#endif
    }
  }
  // The first min(n, kLanes<D>) elements.
  static HWY_INLINE V load(const T* p, size_t n) {
    return widen(HWY_LIKELY(n >= kLanes<D>) ? hn::LoadU(Memory(), p) : load_n(Memory(), p, n));
  }
  static HWY_INLINE void store(V v, T* p, size_t n) {
    if (HWY_LIKELY(n >= kLanes<D>)) {
      hn::StoreU(narrow(v), Memory(), p);
    } else {
      store_n(narrow(v), Memory(), p, n);
    }
  }
};

template <class Op, typename T>
using LanesOf = Lanes<T, std::conditional_t<std::is_base_of_v<InDouble, Op>, double, T>>;

template <class D>
HWY_INLINE Params<hn::Vec<D>> params(D d, const UnaryParams& p) {
  using T = hn::TFromD<D>;
  return {hn::Set(d, static_cast<T>(p.a)), hn::Set(d, static_cast<T>(p.b))};
}

// The last, partial vector is computed like the others, so that the place of an element does not
// change its result.
template <class Op, typename T>
void forward(const T* x, T* y, size_t n, const UnaryParams& unary_params) {
  using L = LanesOf<Op, T>;
  const typename L::D d;
  const auto p = params(d, unary_params);
  constexpr size_t kN = kLanes<typename L::D>;
  size_t i = 0;
  for (; i + kN <= n; i += kN) L::store(Op::value(d, L::load(x + i, kN), p), y + i, kN);
  if (i < n) L::store(Op::value(d, L::load(x + i, n - i), p), y + i, n - i);
}

template <class Op, Unary kOp, typename T>
void backward(const T* g, const T* x, const T* y, T* dx, size_t n,
              const UnaryParams& unary_params) {
  using L = LanesOf<Op, T>;
  const typename L::D d;
  const auto p = params(d, unary_params);
  // A function whose derivative is constant is given g once more.
  const T* saved = backward_reads_input(kOp) ? x : backward_reads_output(kOp) ? y : g;
  constexpr size_t kN = kLanes<typename L::D>;
  size_t i = 0;
  for (; i + kN <= n; i += kN) {
    L::store(Op::gradient(d, L::load(g + i, kN), L::load(saved + i, kN), p), dx + i, kN);
  }
  if (i < n) {
    const size_t rest = n - i;
    L::store(Op::gradient(d, L::load(g + i, rest), L::load(saved + i, rest), p), dx + i, rest);
  }
}

// A struct may bring loops of its own.
template <class Op, Unary kOp>
constexpr UnaryKernels kernels_of() {
  if constexpr (requires { Op::kKernels; }) {
    return Op::kKernels;
  } else {
    return {forward<Op, float>, forward<Op, double>, backward<Op, kOp, float>,
            backward<Op, kOp, double>};
  }
}

// An entry of a table, from a line of the list.
#define EBB_UNARY_KERNELS(name, reads, ulp32, ulp64) kernels_of<name, Unary::k##name>(),

}  // namespace unary
}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_UNARY_INL_H_
