// SPDX-License-Identifier: Apache-2.0
// The functions of the list EBB_UNARY_EXP, in the form that unary-inl.h describes; compiled once
// for each instruction set, so the include guard toggles instead of staying set.
#if defined(EBB_OPS_KERNELS_UNARY_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_UNARY_EXP_INL_H_
#undef EBB_OPS_KERNELS_UNARY_EXP_INL_H_
#else
#define EBB_OPS_KERNELS_UNARY_EXP_INL_H_
#endif

#include "ebb/ops/kernels/unary-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace unary {

// In these, w = e^-|x|: in [0, 1] for every x, so that nothing overflows and nothing cancels.
template <class D, class V>
HWY_INLINE V exp_minus_abs(D d, V x) {
  return vec::exp_negative(d, hn::Neg(hn::Abs(x)));
}
// x for products with a factor that is 0 from here on, which +-infinity times 0 would spoil.
template <class D, class V>
HWY_INLINE V bounded(D d, V x) {
  return vec::with_sign(d, vec::abs_at_most(d, x, hn::TFromD<D>(-vec::C<D>::kExpLow)), x);
}
template <class D, class V>
HWY_INLINE V bounded_below(D d, V x) {
  const V low = Set(d, vec::C<D>::kExpLow);
  return IfThenElse(Lt(x, low), low, x);
}

struct Exp {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::exp(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V y, P) {
    return Mul(g, y);
  }
};

struct Exp2 {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::exp2(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V y, P) {
    return Mul(g, Mul(y, Set(d, hn::TFromD<D>(0.6931471805599453))));
  }
};

struct Expm1 {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::expm1(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V y, P) {
    return Mul(g, Add(y, Set(d, 1)));
  }
};

struct Log {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::log(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V x, P) {
    return Div(g, x);
  }
};

struct Log1p {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::log1p(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    return Div(g, Add(x, Set(d, 1)));
  }
};

struct Tanh {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::tanh(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V y, P) {
    return Mul(g, NegMulAdd(y, y, Set(d, 1)));
  }
};

struct Sigmoid {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::sigmoid(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V y, P) {
    return Mul(g, Mul(y, Sub(Set(d, 1), y)));
  }
};

struct LogSigmoid {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return Sub(IfThenElseZero(Lt(x, Zero(d)), x), vec::log1p_unit(d, exp_minus_abs(d, x)));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    return Mul(g, vec::sigmoid(d, hn::Neg(x)));
  }
};

struct Softplus {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P p) {
    const V z = Mul(x, p.a);
    const V y = Add(IfThenElseZero(Gt(z, Zero(d)), z), vec::log1p_unit(d, exp_minus_abs(d, z)));
    return IfThenElse(Gt(z, p.b), x, Div(y, p.a));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P p) {
    const V z = Mul(x, p.a);
    return IfThenElse(Gt(z, p.b), g, Mul(g, vec::sigmoid(d, z)));
  }
};

struct Silu {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return Mul(bounded_below(d, x), vec::sigmoid(d, x));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    const V one = Set(d, 1);
    const V w = exp_minus_abs(d, x);
    const V r = Div(one, Add(one, w));
    const V sigmoid = IfThenElse(Lt(x, Zero(d)), Mul(w, r), r);
    return Mul(g, MulAdd(bounded(d, x), Mul(Mul(w, r), r), sigmoid));
  }
};

// tanh(ln(1 + e^x)) = n / (n + 2) with n = e^x (e^x + 2), both multiplied by w^2 for x > 0.
struct Mish {
  template <class D, class V>
  static HWY_INLINE void fraction(D d, V x, V w, V& top, V& bottom) {
    const V two = Set(d, 2);
    const auto negative = Lt(x, Zero(d));
    top = IfThenElse(negative, MulAdd(w, w, Add(w, w)), MulAdd(w, two, Set(d, 1)));
    bottom = Add(top, IfThenElse(negative, two, Mul(Mul(w, w), two)));
  }
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    V top, bottom;
    fraction(d, x, exp_minus_abs(d, x), top, bottom);
    return Mul(bounded_below(d, x), Div(top, bottom));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    const V w = exp_minus_abs(d, x);
    V top, bottom;
    fraction(d, x, w, top, bottom);
    const V r = Div(Set(d, 1), bottom);
    const V slope = Mul(Mul(Mul(w, Set(d, 4)), MulAdd(w, IfThenElse(Lt(x, Zero(d)), Set(d, 1), w),
                                                      IfThenElse(Lt(x, Zero(d)), Set(d, 1), w))),
                        Mul(r, r));
    return Mul(g, MulAdd(bounded(d, x), slope, Mul(top, r)));
  }
};

struct Elu {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P p) {
    return IfThenElse(Gt(x, Zero(d)), x, Mul(p.a, vec::expm1(d, x)));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P p) {
    return Mul(g, IfThenElse(Gt(x, Zero(d)), Set(d, 1), Mul(p.a, vec::exp(d, x))));
  }
};

struct Celu {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P p) {
    return IfThenElse(Gt(x, Zero(d)), x, Mul(p.a, vec::expm1(d, Div(x, p.a))));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P p) {
    return IfThenElse(Gt(x, Zero(d)), g, Mul(g, vec::exp(d, Div(x, p.a))));
  }
};

struct Selu {
  static constexpr double kScale = 1.0507009873554805;
  static constexpr double kAlpha = 1.6732632423543773;
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    using T = hn::TFromD<D>;
    return IfThenElse(Gt(x, Zero(d)), Mul(x, Set(d, T(kScale))),
                      Mul(vec::expm1(d, x), Set(d, T(kScale * kAlpha))));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    using T = hn::TFromD<D>;
    return Mul(g, IfThenElse(Gt(x, Zero(d)), Set(d, T(kScale)),
                             Mul(vec::exp(d, x), Set(d, T(kScale * kAlpha)))));
  }
};

struct Erf {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::erf(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    return Mul(g, Mul(vec::gaussian(d, x), Set(d, hn::TFromD<D>(1.1283791670955126))));
  }
};

// With a = |x|: x Phi(x) = max(x, 0) - a Phi(-a), where Phi(-a) is accurate for every a but the
// smallest; for these, x Phi(x) = x / 2 (1 + erf(x / sqrt(2))).
struct Gelu {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    using T = hn::TFromD<D>;
    const V a = vec::abs_at_most(d, x, vec::C<D>::kPhiZero);
    auto e = vec::gaussian_scaled<true>(d, a);
    e.p = Mul(e.p, vec::phi_ratio<true>(d, a));
    const V large = Sub(IfThenElseZero(Gt(x, Zero(d)), x), vec::apply(d, e));
    const V half = Mul(x, Set(d, T(0.5)));
    const V small = MulAdd(half, vec::erf_small(d, Mul(x, Set(d, T(0.70710678118654752)))), half);
    return IfThenElse(Lt(a, Set(d, T(0.7))), small, large);
  }
  // Phi(x) + x phi(x), phi the density.
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    const V a = vec::abs_at_most(d, x, vec::C<D>::kPhiZero);
    const V e = vec::apply(d, vec::gaussian_scaled<true>(d, a));
    const V density = Mul(a, Set(d, hn::TFromD<D>(0.3989422804014327)));
    const V right = Mul(e, Sub(density, vec::phi_ratio<false>(d, a)));
    return Mul(g, IfThenElse(Lt(x, Zero(d)), hn::Neg(right), Add(right, Set(d, 1))));
  }
};

// The other form of Gelu is x sigmoid(z) with z = sqrt(8 / pi) (x + 0.044715 x^3).
struct GeluTanh {
  static constexpr double kLinear = 1.5957691216057308;
  static constexpr double kCubic = kLinear * 0.044715;
  template <class D, class V>
  static HWY_INLINE V argument(D d, V x) {
    using T = hn::TFromD<D>;
    return Mul(x, MulAdd(Mul(x, x), Set(d, T(kCubic)), Set(d, T(kLinear))));
  }
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return Mul(bounded_below(d, x), vec::sigmoid(d, argument(d, x)));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    using T = hn::TFromD<D>;
    const V one = Set(d, 1);
    const V b = bounded(d, x);
    const V w = exp_minus_abs(d, argument(d, b));
    const V r = Div(one, Add(one, w));
    const V sigmoid = IfThenElse(Lt(x, Zero(d)), Mul(w, r), r);
    const V slope = MulAdd(Mul(b, b), Set(d, T(3 * kCubic)), Set(d, T(kLinear)));
    return Mul(g, MulAdd(Mul(b, slope), Mul(Mul(w, r), r), sigmoid));
  }
};

}  // namespace unary
}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_UNARY_EXP_INL_H_
