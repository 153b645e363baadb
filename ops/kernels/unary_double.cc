// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "ebb/ops/kernels/unary.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/unary_double.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/unary-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace unary {
namespace {

struct Sin : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::sin(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    return Mul(g, vec::cos(d, x));
  }
};

struct Cos : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::cos(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    return hn::Neg(Mul(g, vec::sin(d, x)));
  }
};

struct Tan : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::tan(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V y, P) {
    return Mul(g, MulAdd(y, y, Set(d, 1)));
  }
};

struct Asin : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    const V one = Set(d, 1);
    return vec::atan(d, Div(x, hn::Sqrt(Mul(Sub(one, x), Add(one, x)))));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    const V one = Set(d, 1);
    return Div(g, hn::Sqrt(Mul(Sub(one, x), Add(one, x))));
  }
};

struct Acos : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    const V one = Set(d, 1);
    const V half = vec::atan(d, hn::Sqrt(Div(Sub(one, x), Add(one, x))));
    return Add(half, half);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P p) {
    return hn::Neg(Asin::gradient(d, g, x, p));
  }
};

struct Atan : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::atan(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    return Div(g, MulAdd(x, x, Set(d, 1)));
  }
};

struct Sinh : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::sinh(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    return Mul(g, vec::cosh(d, x));
  }
};

struct Cosh : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::cosh(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    return Mul(g, vec::sinh(d, x));
  }
};

// ln(1 + grown); for huge x ln(2 x), because the squares in `grown` would overflow.
template <class D, class V>
HWY_INLINE V log_of_inverse_hyperbolic(D d, V x, V grown) {
  const auto huge = Gt(x, Set(d, 1e20));
  return Add(vec::log1p(d, IfThenElse(huge, x, grown)),
             IfThenElseZero(huge, Set(d, 0.6931471805599453)));
}

struct Asinh : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    const V one = Set(d, 1);
    const V a = hn::Abs(x);
    const V a2 = Mul(a, a);
    const V grown = Add(a, Div(a2, Add(one, hn::Sqrt(Add(one, a2)))));
    return vec::with_sign(d, log_of_inverse_hyperbolic(d, a, grown), x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    // 1 / sqrt(1 + x^2), for large |x| from 1 / x, whose square does not overflow.
    const V one = Set(d, 1);
    const V a = hn::Abs(x);
    const auto large = Gt(a, one);
    const V m = IfThenElse(large, Div(one, a), a);
    return Mul(g, Div(IfThenElse(large, m, one), hn::Sqrt(MulAdd(m, m, one))));
  }
};

struct Acosh : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    const V one = Set(d, 1);
    const V t = Sub(x, one);
    const V grown = Add(t, hn::Sqrt(Mul(t, Add(t, Set(d, 2)))));
    return IfThenElse(Lt(x, one), vec::nan(d), log_of_inverse_hyperbolic(d, x, grown));
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    const V one = Set(d, 1);
    return Div(g, Mul(hn::Sqrt(Sub(x, one)), hn::Sqrt(Add(x, one))));
  }
};

struct Atanh : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    const V a = hn::Abs(x);
    const V y = vec::log1p(d, Div(Add(a, a), Sub(Set(d, 1), a)));
    return vec::with_sign(d, Mul(y, Set(d, 0.5)), x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    const V one = Set(d, 1);
    return Div(g, Mul(Sub(one, x), Add(one, x)));
  }
};

struct Erfc : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::erfc(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    return Mul(g, Mul(vec::gaussian(d, x), Set(d, -1.1283791670955126)));
  }
};

struct Log2 : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::log2(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    return Div(Mul(g, Set(d, 1.4426950408889634)), x);
  }
};

struct Log10 : InDouble {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return vec::log10(d, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    return Div(Mul(g, Set(d, 0.4342944819032518)), x);
  }
};

// ---- powers -------------------------------------------------------------------------------------

struct PowerTwo {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P) {
    return Mul(x, x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V x, P) {
    return Mul(g, Add(x, x));
  }
};

struct PowerThree {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P) {
    return Mul(Mul(x, x), x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    return Mul(g, Mul(Mul(x, x), Set(d, 3)));
  }
};

struct PowerMinusOne {
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P) {
    return Div(Set(d, 1), x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P) {
    const V r = Div(Set(d, -1), x);
    return hn::Neg(Mul(Mul(g, r), r));
  }
};

struct PowerHalf {
  template <class D, class V, class P>
  static HWY_INLINE V value(D, V x, P) {
    return hn::Sqrt(x);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D, V g, V x, P) {
    const V y = hn::Sqrt(x);
    return Div(g, Add(y, y));
  }
};

// What x^a is for x < 0, for finite a: NaN, |x|^a or -|x|^a.
constexpr double kFraction = 0, kEven = 1, kOdd = 2;

double parity(double a) {
  if (a != std::floor(a)) return kFraction;
  return std::fmod(a, 2) == 0 ? kEven : kOdd;
}

// Any finite power of floats: in double, e^(a ln |x|) is as good as exact. b is a's parity.
struct PowerOfFloats : InDouble {
  template <class D, class V>
  static HWY_INLINE V power(D d, V x, V a, V parity) {
    const V y = vec::exp(d, Mul(a, vec::log(d, hn::Abs(x))));
    const auto odd = Eq(parity, Set(d, kOdd));
    const auto negative = And(Lt(x, Zero(d)), Gt(x, hn::Neg(vec::infinity(d))));
    const auto undefined = And(negative, Eq(parity, Set(d, kFraction)));
    return IfThenElse(undefined, vec::nan(d), IfThenElse(odd, vec::with_sign(d, y, x), y));
  }
  template <class D, class V, class P>
  static HWY_INLINE V value(D d, V x, P p) {
    return power(d, x, p.a, p.b);
  }
  template <class D, class V, class P>
  static HWY_INLINE V gradient(D d, V g, V x, P p) {
    const V fraction = Set(d, kFraction);
    const V other = Sub(Set(d, kEven + kOdd), p.b);
    const V parity = IfThenElse(Eq(p.b, fraction), fraction, other);
    return Mul(g, Mul(p.a, power(d, x, Sub(p.a, Set(d, 1)), parity)));
  }
};

template <typename T>
void power_of_scalars(const T* x, T* y, size_t n, const UnaryParams& p) {
  for (size_t i = 0; i < n; ++i) y[i] = static_cast<T>(std::pow(double{x[i]}, p.a));
}
template <typename T>
void power_of_scalars_backward(const T* g, const T* x, T* dx, size_t n, const UnaryParams& p) {
  for (size_t i = 0; i < n; ++i) {
    dx[i] = static_cast<T>(g[i] * (p.a * std::pow(double{x[i]}, p.a - 1)));
  }
}

template <typename T>
void power(const T* x, T* y, size_t n, const UnaryParams& p) {
  if (p.a == 0) {
    std::fill_n(y, n, T{1});
  } else if (p.a == 1) {
    if (x != y) std::copy_n(x, n, y);
  } else if (p.a == 2) {
    forward<PowerTwo>(x, y, n, p);
  } else if (p.a == 3) {
    forward<PowerThree>(x, y, n, p);
  } else if (p.a == -1) {
    forward<PowerMinusOne>(x, y, n, p);
  } else if (p.a == 0.5) {
    forward<PowerHalf>(x, y, n, p);
  } else if (sizeof(T) == sizeof(float) && std::isfinite(p.a)) {
    forward<PowerOfFloats>(x, y, n, UnaryParams{p.a, parity(p.a)});
  } else {
    power_of_scalars(x, y, n, p);
  }
}

template <typename T>
void power_backward(const T* g, const T* x, const T* y, T* dx, size_t n, const UnaryParams& p) {
  constexpr Unary kOp = Unary::kPowScalar;
  if (p.a == 0) {
    std::fill_n(dx, n, T{0});
  } else if (p.a == 1) {
    if (g != dx) std::copy_n(g, n, dx);
  } else if (p.a == 2) {
    backward<PowerTwo, kOp>(g, x, y, dx, n, p);
  } else if (p.a == 3) {
    backward<PowerThree, kOp>(g, x, y, dx, n, p);
  } else if (p.a == -1) {
    backward<PowerMinusOne, kOp>(g, x, y, dx, n, p);
  } else if (p.a == 0.5) {
    backward<PowerHalf, kOp>(g, x, y, dx, n, p);
  } else if (sizeof(T) == sizeof(float) && std::isfinite(p.a)) {
    backward<PowerOfFloats, kOp>(g, x, y, dx, n, UnaryParams{p.a, parity(p.a)});
  } else {
    power_of_scalars_backward(g, x, dx, n, p);
  }
}

struct PowScalar {
  static constexpr UnaryKernels kKernels{power<float>, power<double>, power_backward<float>,
                                         power_backward<double>};
};

constexpr detail::UnaryTable<detail::kUnaryDoubleCount> kDoubleTable{
    {EBB_UNARY_DOUBLE(EBB_UNARY_KERNELS)}};

}  // namespace
}  // namespace unary

const detail::UnaryTable<detail::kUnaryDoubleCount>* unary_double_table() {
  return &unary::kDoubleTable;
}

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(unary_double_table);

constinit const Dispatch<detail::UnaryTable<detail::kUnaryDoubleCount>> detail::unary_double{
    [] { return HWY_DYNAMIC_DISPATCH(unary_double_table)(); }};

}  // namespace ebb::kernels
#endif
