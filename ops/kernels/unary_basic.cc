// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/unary.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/unary_basic.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/unary-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace unary {
namespace {

// A derivative of 0 almost everywhere.
struct Step {
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V, V, P) {
    return Zero(d);
  }
};

struct Neg {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P) {
    return hn::Neg(x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V, P) {
    return hn::Neg(g);
  }
};

struct Sign : Step {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    const V one = Set(d, 1);
    return IfThenElse(Gt(x, Zero(d)), one, IfThenElse(Lt(x, Zero(d)), Set(d, -1), x));
  }
};

struct Abs {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P) {
    return hn::Abs(x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P p) {
    return IfThenZeroElse(Eq(x, Zero(d)), Mul(g, Sign::value(d, x, p)));
  }
};

struct Square {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P) {
    return Mul(x, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V x, P) {
    return Mul(g, Add(x, x));
  }
};

struct Sqrt {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P) {
    return hn::Sqrt(x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V y, P) {
    return Div(g, Add(y, y));
  }
};

struct Rsqrt {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return Div(Set(d, 1), hn::Sqrt(x));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V y, P) {
    return Mul(Mul(g, y), Mul(Mul(y, y), Set(d, hn::TFromD<D>(-0.5))));
  }
};

struct Reciprocal {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return Div(Set(d, 1), x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V y, P) {
    return hn::Neg(Mul(Mul(g, y), y));
  }
};

struct Relu {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return IfThenZeroElse(Lt(x, Zero(d)), x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V y, P) {
    return IfThenZeroElse(Le(y, Zero(d)), g);
  }
};

struct LeakyRelu {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P p) {
    return IfThenElse(Gt(x, Zero(d)), x, Mul(x, p.a));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P p) {
    return IfThenElse(Gt(x, Zero(d)), g, Mul(g, p.a));
  }
};

struct Clamp {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P p) {
    const V raised = IfThenElse(Lt(x, p.a), p.a, x);
    return IfThenElse(Gt(raised, p.b), p.b, raised);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V x, P p) {
    return IfThenElseZero(And(Ge(x, p.a), Le(x, p.b)), g);
  }
};

struct Hardtanh {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P p) {
    return Clamp::value(d, x, p);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V x, P p) {
    return IfThenZeroElse(Or(Le(x, p.a), Ge(x, p.b)), g);
  }
};

struct Hardshrink {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P p) {
    return IfThenZeroElse(Le(hn::Abs(x), p.a), x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V x, P p) {
    return IfThenZeroElse(Le(hn::Abs(x), p.a), g);
  }
};

struct Softshrink {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P p) {
    const V shift = vec::with_sign(d, p.a, x);
    return IfThenZeroElse(Le(hn::Abs(x), p.a), Sub(x, shift));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V x, P p) {
    return IfThenZeroElse(Le(hn::Abs(x), p.a), g);
  }
};

struct Threshold {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P p) {
    return IfThenElse(Le(x, p.a), p.b, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V x, P p) {
    return IfThenZeroElse(Le(x, p.a), g);
  }
};

struct Hardsigmoid {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    const V y = Div(Add(x, Set(d, 3)), Set(d, 6));
    return IfThenElse(Ge(x, Set(d, 3)), Set(d, 1), IfThenZeroElse(Le(x, Set(d, -3)), y));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    return IfThenZeroElse(Or(Le(x, Set(d, -3)), Ge(x, Set(d, 3))), Div(g, Set(d, 6)));
  }
};

struct Hardswish {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P p) {
    const V y = Mul(x, Hardsigmoid::value(d, x, p));
    return IfThenElse(Ge(x, Set(d, 3)), x, IfThenZeroElse(Le(x, Set(d, -3)), y));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    const V slope = Div(Add(Add(x, x), Set(d, 3)), Set(d, 6));
    return IfThenElse(Ge(x, Set(d, 3)), g, IfThenZeroElse(Le(x, Set(d, -3)), Mul(g, slope)));
  }
};

struct Softsign {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    const V one = Set(d, 1);
    const V a = hn::Abs(x);
    const V y = IfThenElse(Eq(a, vec::infinity(d)), one, Div(a, Add(one, a)));
    return vec::with_sign(d, y, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    const V one = Set(d, 1);
    const V r = Div(one, Add(one, hn::Abs(x)));
    return Mul(g, Mul(r, r));
  }
};

struct Affine {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P p) {
    return MulAdd(p.a, x, p.b);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V, P p) {
    return Mul(g, p.a);
  }
};

struct Floor : Step {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P) {
    return hn::Floor(x);
  }
};

struct Ceil : Step {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P) {
    return hn::Ceil(x);
  }
};

struct Round : Step {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P) {
    return hn::Round(x);
  }
};

struct Trunc : Step {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P) {
    return hn::Trunc(x);
  }
};

constexpr detail::UnaryTable<detail::kUnaryBasicCount> kBasicTable{
    {EBB_UNARY_BASIC(EBB_UNARY_KERNELS)}};

}  // namespace
}  // namespace unary

const detail::UnaryTable<detail::kUnaryBasicCount>* unary_basic_table() {
  return &unary::kBasicTable;
}

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(unary_basic_table);

constinit const Dispatch<detail::UnaryTable<detail::kUnaryBasicCount>> detail::unary_basic{
    [] { return HWY_DYNAMIC_DISPATCH(unary_basic_table)(); }};

}  // namespace ebb::kernels
#endif
