// SPDX-License-Identifier: Apache-2.0
// Elementary functions of vectors of float or double, for the kernels; compiled once for each
// instruction set, so the include guard toggles instead of staying set.
//
// All take the whole range of their type: NaN gives NaN, infinities and denormals are exact cases
// of the formula. Accuracy: the table in unary.h. None relies on fused multiply-add; where a
// product must be exact, its factors have few enough bits.
//
// The reductions are the standard ones: W. J. Cody and W. Waite, Software Manual for the Elementary
// Functions (1980); FDLIBM, Sun Microsystems (1993); J.-M. Muller, Elementary Functions (3rd ed.,
// 2016).
#if defined(EBB_OPS_KERNELS_UNARY_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_UNARY_MATH_INL_H_
#undef EBB_OPS_KERNELS_UNARY_MATH_INL_H_
#else
#define EBB_OPS_KERNELS_UNARY_MATH_INL_H_
#endif

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "ebb/ops/kernels/simd-inl.h"
#include "ebb/ops/kernels/unary_constants.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace vec {

using hn::Add;
using hn::And;
using hn::BitCast;
using hn::Div;
using hn::Eq;
using hn::Ge;
using hn::Gt;
using hn::IfThenElse;
using hn::IfThenElseZero;
using hn::IfThenZeroElse;
using hn::Lt;
using hn::Mul;
using hn::MulAdd;
using hn::MulSub;
using hn::NegMulAdd;
using hn::Or;
using hn::Set;
using hn::ShiftLeft;
using hn::ShiftRight;
using hn::Sub;
using hn::Xor;
using hn::Zero;

template <class D>
using C = detail::MathConstants<hn::TFromD<D>>;
template <class D>
using DU = hn::RebindToUnsigned<D>;

template <class D, typename T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> infinity(D d) {
  return Set(d, std::numeric_limits<T>::infinity());
}
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> nan(D d) {
  return Set(d, std::numeric_limits<T>::quiet_NaN());
}
// x with the sign bit of `sign`, for x whose sign bit is 0.
template <class D, class V>
HWY_INLINE V with_sign(D d, V x, V sign) {
  return Or(x, And(hn::SignBit(d), sign));
}

// c[kFirst] + c[kFirst + 1] x + ... up to c[kEnd - 1], by Horner's rule.
template <size_t kFirst, size_t kEnd, class D, class V, typename T, size_t kSize>
HWY_INLINE V horner(D d, V x, const T (&c)[kSize]) {
  if constexpr (kFirst + 1 == kEnd) {
    return Set(d, c[kFirst]);
  } else {
    return MulAdd(horner<kFirst + 1, kEnd>(d, x, c), x, Set(d, c[kFirst]));
  }
}

// c[kFirst] + c[kFirst + 1] x + ... Long ones in blocks, each a chain of its own, which shortens
// the wait for one result. Unlike the even and the odd terms, all blocks but the first are small,
// so that no accuracy is lost.
template <size_t kFirst = 0, class D, class V, typename T, size_t kSize>
HWY_INLINE V polynomial(D d, V x, const T (&c)[kSize]) {
  constexpr size_t kBlock = 8;
  if constexpr (kFirst + kBlock + 2 < kSize) {
    const V x2 = Mul(x, x);
    const V x4 = Mul(x2, x2);
    return MulAdd(polynomial<kFirst + kBlock>(d, x, c), Mul(x4, x4),
                  horner<kFirst, kFirst + kBlock>(d, x, c));
  } else {
    return horner<kFirst, kSize>(d, x, c);
  }
}

// f of those lanes of x that `mask` names, one at a time; 0 in the others.
template <class D, class V, class M>
HWY_NOINLINE V lane_by_lane(D d, V x, M mask, double (*f)(double)) {
  HWY_ALIGN hn::TFromD<D> lanes[kLanes<D>];
  hn::Store(IfThenElseZero(mask, x), d, lanes);
  for (auto& lane : lanes) lane = f(lane);
  return IfThenElseZero(mask, hn::Load(d, lanes));
}

// ---- exponentials -------------------------------------------------------------------------------

// p 2^k: a value whose exponent is applied last, so that results below the smallest normal number
// are rounded once. `k` is kRoundToInt + k, whose low bits hold the integer.
template <class V>
struct Scaled {
  V p, k;
};

// p 2^(k + kExtra), in two steps because 2^k alone may not be representable. Of a k out of range
// (an x far outside exp's), any value, but NaN if p is.
template <int kExtra = 0, class D, class V>
HWY_INLINE V apply(D d, Scaled<V> s) {
  using T = hn::TFromD<D>;
  using U = hn::TFromD<DU<D>>;
  constexpr int kBits = C<D>::kMantissaBits;
  constexpr U kZero = std::bit_cast<U>(T{C<D>::kRoundToInt}) - 2 * C<D>::kExponentBias;
  const DU<D> du;
  const auto k = Sub(BitCast(du, s.k), Set(du, static_cast<U>(kZero - U(kExtra))));
  const auto half = ShiftRight<1>(k);
  const V first = BitCast(d, ShiftLeft<kBits>(half));
  const V second = BitCast(d, ShiftLeft<kBits>(Sub(k, half)));
  return Mul(Mul(s.p, first), second);
}

// p 2^k where that is a normal number, and p too.
template <class D, class V>
HWY_INLINE V apply_normal(D d, Scaled<V> s) {
  const DU<D> du;
  return BitCast(d, Add(BitCast(du, s.p), ShiftLeft<C<D>::kMantissaBits>(BitCast(du, s.k))));
}

// x = k ln(2) + r + r_low, |r| <= ln(2) / 2, as Cody and Waite: r is exact. k as in Scaled.
template <class V>
struct ReducedExp {
  V k, r, r_low;
};
template <class D, class V>
HWY_INLINE ReducedExp<V> reduce_exp(D d, V x, V low) {
  const V magic = Set(d, C<D>::kRoundToInt);
  const V k = MulAdd(x, Set(d, hn::TFromD<D>(1.4426950408889634)), magic);
  const V n = Sub(k, magic);
  return {k, NegMulAdd(n, Set(d, C<D>::kLn2High), x), NegMulAdd(n, Set(d, C<D>::kLn2Low), low)};
}

// e^r - 1 - r for |r| <= ln(2) / 2, plus low.
template <class D, class V>
HWY_INLINE V expm1_tail(D d, V r, V low) {
  return MulAdd(Mul(r, r), polynomial(d, r, C<D>::kExp), low);
}

// e^(x + low), |low| small and possibly 0.
template <class D, class V>
HWY_INLINE Scaled<V> exp_scaled(D d, V x, V low) {
  const ReducedExp<V> e = reduce_exp(d, x, low);
  const V tail = expm1_tail(d, Add(e.r, e.r_low), e.r_low);
  return {Add(Set(d, 1), Add(e.r, tail)), e.k};
}

// e^x for x <= 0.
template <class D, class V>
HWY_INLINE V exp_negative(D d, V x) {
  const Scaled<V> e = exp_scaled(d, x, Zero(d));
  if (HWY_LIKELY(hn::AllTrue(d, Gt(x, Set(d, -C<D>::kExpNormal))))) return apply_normal(d, e);
  return IfThenZeroElse(Lt(x, Set(d, C<D>::kExpLow)), apply(d, e));
}

// e^x 2^kExtra, kExtra in {-1, 0}; rounded once.
template <int kExtra = 0, class D, class V>
HWY_INLINE V exp(D d, V x) {
  const Scaled<V> e = exp_scaled(d, x, Zero(d));
  if constexpr (kExtra == 0) {
    const auto normal = Lt(hn::Abs(x), Set(d, C<D>::kExpNormal));
    if (HWY_LIKELY(hn::AllTrue(d, normal))) return apply_normal(d, e);
  }
  const V y = apply<kExtra>(d, e);
  const V high = Set(d, C<D>::kExpHigh - kExtra);
  return IfThenZeroElse(Lt(x, Set(d, C<D>::kExpLow)), IfThenElse(Gt(x, high), infinity(d), y));
}

// 2^x.
template <class D, class V>
HWY_INLINE V exp2(D d, V x) {
  using T = hn::TFromD<D>;
  const V magic = Set(d, C<D>::kRoundToInt);
  Scaled<V> e;
  e.k = Add(x, magic);
  const V r = Mul(Sub(x, Sub(e.k, magic)), Set(d, static_cast<T>(0.6931471805599453)));
  e.p = Add(Set(d, 1), expm1_tail(d, r, r));
  constexpr T kHigh = static_cast<T>(C<D>::kExponentBias + 2);
  constexpr T kLow = -static_cast<T>(C<D>::kExponentBias + C<D>::kMantissaBits + 1);
  return IfThenZeroElse(Lt(x, Set(d, kLow)),
                        IfThenElse(Gt(x, Set(d, kHigh)), infinity(d), apply(d, e)));
}

// e^x - 1 = 2^k (e^r - 1) + (2^k - 1), all halved so that 2^(k - 1) is finite wherever e^x is.
template <class D, class V>
HWY_INLINE V expm1(D d, V x) {
  using T = hn::TFromD<D>;
  using U = hn::TFromD<DU<D>>;
  const DU<D> du;
  const V half = Set(d, T{0.5});
  const ReducedExp<V> reduced = reduce_exp(d, x, Zero(d));
  const V k = reduced.k;
  const V e = Add(reduced.r, expm1_tail(d, Add(reduced.r, reduced.r_low), reduced.r_low));
  constexpr T kMagic = C<D>::kRoundToInt;
  constexpr U kOffset = std::bit_cast<U>(kMagic) - (C<D>::kExponentBias - 1);
  const V scale = BitCast(d, ShiftLeft<C<D>::kMantissaBits>(Sub(BitCast(du, k), Set(du, kOffset))));
  const V y = MulAdd(scale, e, Sub(scale, half));
  const V all = IfThenElse(Eq(k, Set(d, kMagic)), e, Add(y, y));
  return IfThenElse(Lt(x, Set(d, C<D>::kExpm1Low)), Set(d, -1),
                    IfThenElse(Gt(x, Set(d, C<D>::kExpHigh)), infinity(d), all));
}

// ---- logarithms ---------------------------------------------------------------------------------

// ln(1 + f) - f for 1 + f in [kLogSplit, 2 kLogSplit].
template <class D, class V>
HWY_INLINE V log1p_tail(D d, V f) {
  const V half_f2 = Mul(Mul(f, f), Set(d, hn::TFromD<D>(0.5)));
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    return MulSub(Mul(Mul(f, f), f), polynomial(d, f, C<D>::kLog), half_f2);
  } else {
    const V s = Div(f, Add(f, Set(d, 2)));
    const V s2 = Mul(s, s);
    return MulSub(s, MulAdd(s2, polynomial(d, s2, C<D>::kLog), half_f2), half_f2);
  }
}

// ln(2^k (1 + f)) + low, |low| small beside the rest or the rest 0.
template <class D, class V>
HWY_INLINE V log_sum(D d, V k, V f, V low) {
  const V small = Add(log1p_tail(d, f), MulAdd(k, Set(d, C<D>::kLn2Low), low));
  return MulAdd(k, Set(d, C<D>::kLn2High), Add(f, small));
}

// x = 2^k (1 + f) for normal positive x; 1 + f in [kLogSplit, 2 kLogSplit). Any value for others.
template <class D, class V>
HWY_INLINE void split(D d, V x, V& k, V& f) {
  using T = hn::TFromD<D>;
  using U = hn::TFromD<DU<D>>;
  constexpr int kBits = C<D>::kMantissaBits;
  constexpr T kTwoToBits = C<D>::kTwoToMantissaBits;
  const DU<D> du;
  const auto split_bits = Set(du, std::bit_cast<U>(T{C<D>::kLogSplit}));
  const auto bits = Add(Sub(BitCast(du, x), split_bits), Set(du, C<D>::kExponentBias << kBits));
  // An integer below 2^kBits put in the mantissa of 2^kBits is that integer plus 2^kBits.
  k = Sub(BitCast(d, Or(ShiftRight<kBits>(bits), Set(du, std::bit_cast<U>(kTwoToBits)))),
          Set(d, kTwoToBits + T(C<D>::kExponentBias)));
  f = Sub(BitCast(d, Add(And(bits, Set(du, C<D>::kMantissaMask)), split_bits)), Set(d, 1));
}

// A logarithm of any base, given combine(k, f) = log(2^k (1 + f)). The branches are for x that is
// not a positive normal number.
template <class D, class V, class Combine>
HWY_INLINE V any_log(D d, V x, const Combine& combine) {
  using T = hn::TFromD<D>;
  const auto normal = hn::And(Ge(x, Set(d, std::numeric_limits<T>::min())), Lt(x, infinity(d)));
  const bool all_normal = hn::AllTrue(d, normal);
  V k, f;
  if (HWY_LIKELY(all_normal)) {
    split(d, x, k, f);
  } else {
    split(d, IfThenElse(normal, x, Mul(x, Set(d, C<D>::kDenormalScale))), k, f);
    k = Sub(k, IfThenZeroElse(normal, Set(d, C<D>::kDenormalExponent)));
  }
  const V y = combine(k, f);
  if (HWY_LIKELY(all_normal)) return y;
  const V not_positive = IfThenElse(Eq(x, Zero(d)), hn::Neg(infinity(d)), nan(d));
  return IfThenElse(Gt(x, Zero(d)), IfThenElse(Eq(x, infinity(d)), x, y), not_positive);
}

template <class D>
struct NaturalLog {
  D d;
  template <class V>
  HWY_INLINE V operator()(V k, V f) const {
    return log_sum(d, k, f, Zero(d));
  }
};
// ln(1 + f) times log_b(e), plus k log_b(2), both constants given in two parts.
template <class D>
struct LogToBase {
  D d;
  double log_e, log_e_low, log_2, log_2_low;
  template <class V>
  HWY_INLINE V operator()(V k, V f) const {
    const V l = Add(f, log1p_tail(d, f));
    const V low = MulAdd(k, Set(d, log_2_low), Mul(l, Set(d, log_e_low)));
    return MulAdd(k, Set(d, log_2), MulAdd(l, Set(d, log_e), low));
  }
};

template <class D, class V>
HWY_INLINE V log(D d, V x) {
  return any_log(d, x, NaturalLog<D>{d});
}
template <class D, class V>
HWY_INLINE V log2(D d, V x) {
  return any_log(d, x, LogToBase<D>{d, 1.4426950408889634, 2.0355273740931033e-17, 1, 0});
}
template <class D, class V>
HWY_INLINE V log10(D d, V x) {
  return any_log(d, x,
                 LogToBase<D>{d, 0.4342944819032518, 1.098319650216765e-17, 0.3010299955494702,
                              1.1451100898021838e-10});
}

// ln(u) + c / u, where c is what was lost in rounding u = 1 + x.
template <class D, class V>
HWY_INLINE V log1p(D d, V x) {
  const V one = Set(d, 1);
  const V u = Add(one, x);
  const V from_x = Sub(u, one);
  const V c = Add(Sub(one, Sub(u, from_x)), Sub(x, from_x));
  V k, f;
  split(d, u, k, f);
  const V y = log_sum(d, k, f, Div(c, u));
  const auto inside = hn::And(Gt(x, Set(d, -1)), Lt(x, infinity(d)));
  if (HWY_LIKELY(hn::AllTrue(d, inside))) return y;
  const V outside = IfThenElse(Eq(x, Set(d, -1)), hn::Neg(infinity(d)),
                               IfThenElse(Eq(x, infinity(d)), x, nan(d)));
  return IfThenElse(inside, y, outside);
}

// ln(1 + x) for x in [0, 1].
template <class D, class V>
HWY_INLINE V log1p_unit(D d, V x) {
  using T = hn::TFromD<D>;
  const V one = Set(d, 1);
  const auto halve = Gt(x, Set(d, T(2 * C<D>::kLogSplit - 1)));
  const V f = IfThenElse(halve, Mul(Sub(x, one), Set(d, T(0.5))), x);
  return log_sum(d, IfThenElseZero(halve, one), f, Zero(d));
}

// ---- sigmoids -----------------------------------------------------------------------------------

// With w = e^-|x| and t = x < 0 ? w : 1: sigmoid(x) = t / (1 + w) = t - t w / (1 + w). Neither
// overflows nor cancels, and the last form makes little of the error of the quotient.
template <class D, class V>
HWY_INLINE V sigmoid(D d, V x) {
  const V one = Set(d, 1);
  const V w = exp_negative(d, hn::Neg(hn::Abs(x)));
  const V t = IfThenElse(Lt(x, Zero(d)), w, one);
  return NegMulAdd(t, Div(w, Add(one, w)), t);
}

// From t = e^(2 |x|) - 1: t / (t + 2), which is t/2 - (t/2) t / (t + 2) and 1 - 2 / (t + 2). Both
// make little of the quotient's error, the one for small t, the other for large.
template <class D, class V>
HWY_INLINE V tanh(D d, V x) {
  using T = hn::TFromD<D>;
  using U = hn::TFromD<DU<D>>;
  const DU<D> du;
  const V one = Set(d, 1);
  const V two = Set(d, 2);
  const V most = Set(d, C<D>::kTanhOne);
  const V abs = hn::Abs(x);
  const V a = IfThenElse(Gt(abs, most), most, abs);  // a NaN stays
  const ReducedExp<V> e = reduce_exp(d, Add(a, a), Zero(d));
  const V r = Add(e.r, e.r_low);
  const V p = Add(e.r, expm1_tail(d, r, e.r_low));
  constexpr U kBits = std::bit_cast<U>(T{1});
  const V scale = BitCast(d, Add(ShiftLeft<C<D>::kMantissaBits>(BitCast(du, e.k)), Set(du, kBits)));
  const V t = MulAdd(scale, p, Sub(scale, one));
  const V half = Mul(t, Set(d, T(0.5)));
  const V factor = hn::Min(half, one);  // half or 1, as t < 2 or not; the other minimum t or 2
  const V quotient = Div(hn::Min(t, two), Add(t, two));
  return with_sign(d, NegMulAdd(factor, quotient, factor), x);
}

// ---- the Gaussian and its integral --------------------------------------------------------------

// e^(-a^2), or e^(-a^2 / 2) if kHalf: the square is taken apart, or its rounding would be magnified
// a^2 times. |a| at most the place where the result is 0.
template <bool kHalf, class D, class V>
HWY_INLINE Scaled<V> gaussian_scaled(D d, V a) {
  const DU<D> du;
  const V scale = Set(d, hn::TFromD<D>(kHalf ? -0.5 : -1));
  const V high = BitCast(d, And(BitCast(du, a), Set(du, C<D>::kHighHalf)));
  const V low = Mul(Sub(a, high), Add(a, high));
  return exp_scaled(d, Mul(Mul(high, high), scale), Mul(low, scale));
}

// |x|, but at most `most`; NaN stays.
template <class D, class V>
HWY_INLINE V abs_at_most(D d, V x, hn::TFromD<D> most) {
  const V a = hn::Abs(x);
  return IfThenElse(Gt(a, Set(d, most)), Set(d, most), a);
}

// e^(-x^2).
template <class D, class V>
HWY_INLINE V gaussian(D d, V x) {
  return apply(d, gaussian_scaled<false>(d, abs_at_most(d, x, C<D>::kErfcZero)));
}

// Phi(-a) e^(a^2 / 2) for a >= 0, Phi the normal distribution's; times a if kTimesA. The function
// is smooth in (a - k) / (a + k), which takes [0, infinity) to [-1, 1): M. M. Shepherd and J. G.
// Laframboise, Math. Comp. 36 (1981).
template <bool kTimesA, class D, class V>
HWY_INLINE V phi_ratio(D d, V a) {
  const V quotient = Div(kTimesA ? a : Set(d, 1), Add(a, Set(d, C<D>::kPhiShift)));
  const V t = MulAdd(kTimesA ? quotient : Mul(a, quotient), Set(d, 2), Set(d, -1));
  return Mul(polynomial(d, t, C<D>::kPhi), quotient);
}

// erfc(a) e^(a^2) for a >= 0, from erfc(a) = 2 Phi(-a sqrt(2)).
template <class D, class V>
HWY_INLINE V erfc_ratio(D d, V a) {
  using T = hn::TFromD<D>;
  const V root = Set(d, T(1.4142135623730951));
  const V quotient = Div(root, Add(a, Set(d, T(C<D>::kPhiShift / 1.4142135623730951))));
  const V t = MulAdd(Mul(a, root), quotient, Set(d, -1));
  return Mul(polynomial(d, t, C<D>::kPhi), quotient);
}

// erf(x) for |x| <= kErfSplit.
template <class D, class V>
HWY_INLINE V erf_small(D d, V x) {
  return MulAdd(x, polynomial(d, Mul(x, x), C<D>::kErf), x);
}

// The ratio is least accurate near 0, where it is not needed.
template <class D, class V>
HWY_INLINE V erfc(D d, V x) {
  const V a = abs_at_most(d, x, C<D>::kErfcZero);
  Scaled<V> e = gaussian_scaled<false>(d, a);
  e.p = Mul(e.p, erfc_ratio(d, a));
  const V tail = apply(d, e);
  const V large = IfThenElse(Lt(x, Zero(d)), Sub(Set(d, 2), tail), tail);
  const V small = Sub(Set(d, 1), erf_small(d, x));
  return IfThenElse(Lt(a, Set(d, hn::TFromD<D>(0.5))), small, large);
}

template <class D, class V>
HWY_INLINE V erf(D d, V x) {
  const V one = Set(d, 1);
  const V a = hn::Abs(x);
  V large;
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    const V tail = polynomial(d, Sub(a, Set(d, C<D>::kErfcCentre)), C<D>::kErfc);
    large = IfThenElse(Gt(a, Set(d, C<D>::kErfOne)), one, Sub(one, tail));
  } else {
    // Beside 1, erfc needs no more than the plain square.
    const V bounded = abs_at_most(d, x, 6.0);
    const Scaled<V> e = exp_scaled(d, hn::Neg(Mul(bounded, bounded)), Zero(d));
    large = NegMulAdd(apply(d, e), erfc_ratio(d, bounded), one);
  }
  const V y = IfThenElse(Lt(a, Set(d, C<D>::kErfSplit)), erf_small(d, a), large);
  return with_sign(d, y, x);
}

// ---- trigonometric and hyperbolic, in double ----------------------------------------------------

template <class V, class VU>
struct SinCos {
  V sin, cos;   // of the distance to the nearest multiple of pi / 2
  VU quadrant;  // its low bits: which multiple
};

// Beyond it the reduction below loses accuracy.
inline constexpr double kTrigLimit = 1.6e6;

// x - n pi / 2 in three exact steps and a last one (n < 2^20, the first three parts have 33 bits),
// as a sum of two doubles.
template <class D, class V>
HWY_INLINE auto sin_cos(D d, V x) {
  const DU<D> du;
  const V magic = Set(d, C<D>::kRoundToInt);
  const V shifted = MulAdd(x, Set(d, 0.6366197723675814), magic);
  const V n = Sub(shifted, magic);
  const V a = NegMulAdd(n, Set(d, 0x1.921fb544p+0), x);
  const V step = Mul(n, Set(d, 0x1.0b4611a6p-34));
  const V b = Sub(a, step);
  const V lost = NegMulAdd(n, Set(d, 0x1.3198a2ep-69), Sub(Sub(a, b), step));
  const V low = NegMulAdd(n, Set(d, 0x1.b839a252049c1p-104), lost);
  const V r = Add(b, low);
  const V r_low = Add(Sub(b, r), low);

  const V one = Set(d, 1);
  const V z = Mul(r, r);
  const V half_z = Mul(z, Set(d, 0.5));
  const V w = Sub(one, half_z);
  const V cos_low = NegMulAdd(r, r_low, Sub(Sub(one, w), half_z));
  const V sin = Add(r, MulAdd(Mul(z, r), polynomial(d, z, C<D>::kSin), r_low));
  const V cos = Add(w, MulAdd(Mul(z, z), polynomial(d, z, C<D>::kCos), cos_low));
  return SinCos<V, hn::Vec<DU<D>>>{sin, cos, BitCast(du, shifted)};
}

// y where |x| is within the reduction's reach, f(x) elsewhere.
template <class D, class V>
HWY_INLINE V patch_large(D d, V x, V y, double (*f)(double)) {
  const auto large = Gt(hn::Abs(x), Set(d, kTrigLimit));
  if (HWY_LIKELY(hn::AllFalse(d, large))) return y;
  return IfThenElse(large, lane_by_lane(d, x, large, f), y);
}

// `odd` where the low bit of the quadrant is 1, `even` elsewhere; the sign changes with bit 1.
template <class D, class V, class VU>
HWY_INLINE V by_quadrant(D d, VU quadrant, V even, V odd) {
  const DU<D> du;
  const auto is_odd = hn::MaskFromVec(BitCast(d, Sub(Zero(du), And(quadrant, Set(du, 1)))));
  const V sign = BitCast(d, ShiftLeft<63>(ShiftRight<1>(quadrant)));
  return Xor(IfThenElse(is_odd, odd, even), sign);
}

template <class D, class V>
HWY_INLINE V sin(D d, V x) {
  const auto s = sin_cos(d, x);
  return patch_large(d, x, by_quadrant(d, s.quadrant, s.sin, s.cos), std::sin);
}

template <class D, class V>
HWY_INLINE V cos(D d, V x) {
  const DU<D> du;
  const auto s = sin_cos(d, x);
  const auto quadrant = Add(s.quadrant, Set(du, 1));
  return patch_large(d, x, by_quadrant(d, quadrant, s.sin, s.cos), std::cos);
}

template <class D, class V>
HWY_INLINE V tan(D d, V x) {
  const DU<D> du;
  const auto s = sin_cos(d, x);
  const auto odd = Sub(Zero(du), And(s.quadrant, Set(du, 1)));
  const auto is_odd = hn::MaskFromVec(BitCast(d, odd));
  const V y = Div(IfThenElse(is_odd, hn::Neg(s.cos), s.sin), IfThenElse(is_odd, s.sin, s.cos));
  return patch_large(d, x, y, std::tan);
}

// Reduced by atan(x) = pi/2 - atan(1/x) above sqrt(2) + 1, by pi/4 + atan((x - 1) / (x + 1)) above
// sqrt(2) - 1.
template <class D, class V>
HWY_INLINE V atan(D d, V x) {
  const V one = Set(d, 1);
  const V a = hn::Abs(x);
  const auto mid = Gt(a, Set(d, 0.41421356237309503));
  const auto high = Gt(a, Set(d, 2.4142135623730949));
  const V top = IfThenElse(high, Set(d, -1), IfThenElse(mid, Sub(a, one), a));
  const V bottom = IfThenElse(high, a, IfThenElse(mid, Add(a, one), one));
  const V base =
      IfThenElseZero(mid, IfThenElse(high, Set(d, 1.5707963267948966), Set(d, 0.7853981633974483)));
  const V base_low = IfThenElseZero(
      mid, IfThenElse(high, Set(d, 6.123233995736766e-17), Set(d, 3.061616997868383e-17)));
  const V r = Div(top, bottom);
  const V z = Mul(r, r);
  const V rest = MulAdd(Mul(z, r), polynomial(d, z, C<D>::kAtan), base_low);
  return with_sign(d, Add(base, Add(r, rest)), x);
}

// From h = e^|x| / 2, which overflows no sooner than the result.
template <class D, class V>
HWY_INLINE V cosh(D d, V x) {
  const V h = exp<-1>(d, hn::Abs(x));
  return Add(h, Div(Set(d, 0.25), h));
}
template <class D, class V>
HWY_INLINE V sinh(D d, V x) {
  const V a = hn::Abs(x);
  const V h = exp<-1>(d, a);
  const V large = Sub(h, Div(Set(d, 0.25), h));
  const V a2 = Mul(a, a);
  const V small = MulAdd(Mul(a2, a), polynomial(d, a2, C<D>::kSinh), a);
  return with_sign(d, IfThenElse(Lt(a, Set(d, 1)), small, large), x);
}

}  // namespace vec
}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_UNARY_MATH_INL_H_
