// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/unary.h"

#include <numbers>

#include "absl/strings/str_cat.h"
#include "ebb/ops/unary_op.h"

namespace ebb {
namespace ops {

using kernels::Unary;

namespace {

constexpr double kLn2 = std::numbers::ln2;
constexpr double kLn10 = std::numbers::ln10;
constexpr double kTwoOverSqrtPi = 2 * std::numbers::inv_sqrtpi;

// The gradient of a function that is constant piece by piece.
Tensor zeros_like_gradient(const Tensor& g) { return Tensor(Array::zeros(g.dtype(), g.shape())); }

}  // namespace

void run_unary(Unary op, const Array& x, const Array& y, const kernels::UnaryParams& p) {
  kernels::run_unary(op, x.dtype(), x.raw(), y.raw(), static_cast<size_t>(x.numel()), p);
}

void run_unary_backward(Unary op, const Array& g, const Array& x, const Array& y, const Array& dx,
                        const kernels::UnaryParams& p) {
  kernels::run_unary_backward(op, g.dtype(), g.raw(), x.defined() ? x.raw() : nullptr,
                              y.defined() ? y.raw() : nullptr, dx.raw(),
                              static_cast<size_t>(g.numel()), p);
}

struct Exp : UnaryOp<Exp, Unary::kExp> {
  static constexpr OpDoc kDoc{"exp", "y = e^x, elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g * s.out(0); }
};
EBB_OP(Exp)

struct Exp2 : UnaryOp<Exp2, Unary::kExp2> {
  static constexpr OpDoc kDoc{"exp2", "y = 2^x, elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g * s.out(0) * kLn2; }
};
EBB_OP(Exp2)

struct Expm1 : UnaryOp<Expm1, Unary::kExpm1> {
  static constexpr OpDoc kDoc{"expm1", "y = e^x - 1, elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g * (s.out(0) + 1); }
};
EBB_OP(Expm1)

struct Log : UnaryOp<Log, Unary::kLog> {
  static constexpr OpDoc kDoc{"log", "y = ln(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g / s.in(0); }
};
EBB_OP(Log)

struct Log2 : UnaryOp<Log2, Unary::kLog2> {
  static constexpr OpDoc kDoc{"log2", "y = log2(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g / (s.in(0) * kLn2); }
};
EBB_OP(Log2)

struct Log10 : UnaryOp<Log10, Unary::kLog10> {
  static constexpr OpDoc kDoc{"log10", "y = log10(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g / (s.in(0) * kLn10); }
};
EBB_OP(Log10)

struct Log1p : UnaryOp<Log1p, Unary::kLog1p> {
  static constexpr OpDoc kDoc{"log1p", "y = ln(1 + x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g / (s.in(0) + 1); }
};
EBB_OP(Log1p)

struct Sqrt : UnaryOp<Sqrt, Unary::kSqrt> {
  static constexpr OpDoc kDoc{"sqrt", "y = sqrt(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return 0.5 * g / s.out(0); }
};
EBB_OP(Sqrt)

struct Rsqrt : UnaryOp<Rsqrt, Unary::kRsqrt> {
  static constexpr OpDoc kDoc{"rsqrt", "y = 1 / sqrt(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return -0.5 * g * s.out(0) * square(s.out(0));
  }
};
EBB_OP(Rsqrt)

struct Square : UnaryOp<Square, Unary::kSquare> {
  static constexpr OpDoc kDoc{"square", "y = x^2, elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return 2 * g * s.in(0); }
};
EBB_OP(Square)

struct Reciprocal : UnaryOp<Reciprocal, Unary::kReciprocal> {
  static constexpr OpDoc kDoc{"reciprocal", "y = 1 / x, elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return -g * square(s.out(0)); }
};
EBB_OP(Reciprocal)

struct Abs : UnaryOp<Abs, Unary::kAbs> {
  static constexpr OpDoc kDoc{"abs", "y = |x|, elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g * sign(s.in(0)); }
};
EBB_OP(Abs)

struct Sign : UnaryOp<Sign, Unary::kSign> {
  static constexpr OpDoc kDoc{"sign", "y = -1, 0 or 1, elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved&, const Tensor& g) { return zeros_like_gradient(g); }
};
EBB_OP(Sign)

struct Sin : UnaryOp<Sin, Unary::kSin> {
  static constexpr OpDoc kDoc{"sin", "y = sin(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g * cos(s.in(0)); }
};
EBB_OP(Sin)

struct Cos : UnaryOp<Cos, Unary::kCos> {
  static constexpr OpDoc kDoc{"cos", "y = cos(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return -g * sin(s.in(0)); }
};
EBB_OP(Cos)

struct Tan : UnaryOp<Tan, Unary::kTan> {
  static constexpr OpDoc kDoc{"tan", "y = tan(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g * (square(s.out(0)) + 1); }
};
EBB_OP(Tan)

struct Asin : UnaryOp<Asin, Unary::kAsin> {
  static constexpr OpDoc kDoc{"asin", "y = arcsin(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g * rsqrt(1 - square(s.in(0)));
  }
};
EBB_OP(Asin)

struct Acos : UnaryOp<Acos, Unary::kAcos> {
  static constexpr OpDoc kDoc{"acos", "y = arccos(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return -g * rsqrt(1 - square(s.in(0)));
  }
};
EBB_OP(Acos)

struct Atan : UnaryOp<Atan, Unary::kAtan> {
  static constexpr OpDoc kDoc{"atan", "y = arctan(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g / (square(s.in(0)) + 1); }
};
EBB_OP(Atan)

struct Sinh : UnaryOp<Sinh, Unary::kSinh> {
  static constexpr OpDoc kDoc{"sinh", "y = sinh(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g * cosh(s.in(0)); }
};
EBB_OP(Sinh)

struct Cosh : UnaryOp<Cosh, Unary::kCosh> {
  static constexpr OpDoc kDoc{"cosh", "y = cosh(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g * sinh(s.in(0)); }
};
EBB_OP(Cosh)

struct Tanh : UnaryOp<Tanh, Unary::kTanh> {
  static constexpr OpDoc kDoc{"tanh", "y = tanh(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return tanh_backward(g, s.out(0)); }
};
EBB_OP(Tanh)

struct Asinh : UnaryOp<Asinh, Unary::kAsinh> {
  static constexpr OpDoc kDoc{"asinh", "y = arsinh(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g * rsqrt(square(s.in(0)) + 1);
  }
};
EBB_OP(Asinh)

struct Acosh : UnaryOp<Acosh, Unary::kAcosh> {
  static constexpr OpDoc kDoc{"acosh", "y = arcosh(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g * rsqrt(s.in(0) - 1) * rsqrt(s.in(0) + 1);
  }
};
EBB_OP(Acosh)

struct Atanh : UnaryOp<Atanh, Unary::kAtanh> {
  static constexpr OpDoc kDoc{"atanh", "y = artanh(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g / ((1 - s.in(0)) * (1 + s.in(0)));
  }
};
EBB_OP(Atanh)

struct Erf : UnaryOp<Erf, Unary::kErf> {
  static constexpr OpDoc kDoc{"erf", "y = erf(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g * exp(-square(s.in(0))) * kTwoOverSqrtPi;
  }
};
EBB_OP(Erf)

struct Erfc : UnaryOp<Erfc, Unary::kErfc> {
  static constexpr OpDoc kDoc{"erfc", "y = 1 - erf(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g * exp(-square(s.in(0))) * -kTwoOverSqrtPi;
  }
};
EBB_OP(Erfc)

struct Floor : UnaryOp<Floor, Unary::kFloor> {
  static constexpr OpDoc kDoc{"floor", "y = floor(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved&, const Tensor& g) { return zeros_like_gradient(g); }
};
EBB_OP(Floor)

struct Ceil : UnaryOp<Ceil, Unary::kCeil> {
  static constexpr OpDoc kDoc{"ceil", "y = ceil(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved&, const Tensor& g) { return zeros_like_gradient(g); }
};
EBB_OP(Ceil)

struct Round : UnaryOp<Round, Unary::kRound> {
  static constexpr OpDoc kDoc{"round", "y = x to the nearest integer, elementwise",
                              "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved&, const Tensor& g) { return zeros_like_gradient(g); }
};
EBB_OP(Round)

struct Trunc : UnaryOp<Trunc, Unary::kTrunc> {
  static constexpr OpDoc kDoc{"trunc", "y = x without its fraction, elementwise",
                              "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved&, const Tensor& g) { return zeros_like_gradient(g); }
};
EBB_OP(Trunc)

struct PowScalarAttrs {
  double exponent;
  operator kernels::UnaryParams() const { return {.a = exponent}; }  // NOLINT
};
struct PowScalar : UnaryOp<PowScalar, Unary::kPowScalar, PowScalarAttrs> {
  static constexpr OpDoc kDoc{"pow_scalar", "y = x^exponent, elementwise", "x:[...] -> y:[...]"};
  static std::string describe(const Attrs& a) { return absl::StrCat("exponent=", a.exponent); }
  static Tensor derivative(const Saved& s, const Tensor& g) {
    const double e = s.attrs<Attrs>().exponent;
    return e == 0 ? zeros_like_gradient(g) : e * g * pow(s.in(0), e - 1);
  }
};
EBB_OP(PowScalar)

}  // namespace ops

Tensor exp(const Tensor& x, Where where) { return apply<ops::Exp>(At(x, where)); }
Tensor exp2(const Tensor& x, Where where) { return apply<ops::Exp2>(At(x, where)); }
Tensor expm1(const Tensor& x, Where where) { return apply<ops::Expm1>(At(x, where)); }
Tensor log(const Tensor& x, Where where) { return apply<ops::Log>(At(x, where)); }
Tensor log2(const Tensor& x, Where where) { return apply<ops::Log2>(At(x, where)); }
Tensor log10(const Tensor& x, Where where) { return apply<ops::Log10>(At(x, where)); }
Tensor log1p(const Tensor& x, Where where) { return apply<ops::Log1p>(At(x, where)); }
Tensor sqrt(const Tensor& x, Where where) { return apply<ops::Sqrt>(At(x, where)); }
Tensor rsqrt(const Tensor& x, Where where) { return apply<ops::Rsqrt>(At(x, where)); }
Tensor square(const Tensor& x, Where where) { return apply<ops::Square>(At(x, where)); }
Tensor reciprocal(const Tensor& x, Where where) { return apply<ops::Reciprocal>(At(x, where)); }
Tensor abs(const Tensor& x, Where where) { return apply<ops::Abs>(At(x, where)); }
Tensor sign(const Tensor& x, Where where) { return apply<ops::Sign>(At(x, where)); }
Tensor sin(const Tensor& x, Where where) { return apply<ops::Sin>(At(x, where)); }
Tensor cos(const Tensor& x, Where where) { return apply<ops::Cos>(At(x, where)); }
Tensor tan(const Tensor& x, Where where) { return apply<ops::Tan>(At(x, where)); }
Tensor asin(const Tensor& x, Where where) { return apply<ops::Asin>(At(x, where)); }
Tensor acos(const Tensor& x, Where where) { return apply<ops::Acos>(At(x, where)); }
Tensor atan(const Tensor& x, Where where) { return apply<ops::Atan>(At(x, where)); }
Tensor sinh(const Tensor& x, Where where) { return apply<ops::Sinh>(At(x, where)); }
Tensor cosh(const Tensor& x, Where where) { return apply<ops::Cosh>(At(x, where)); }
Tensor tanh(const Tensor& x, Where where) { return apply<ops::Tanh>(At(x, where)); }
Tensor asinh(const Tensor& x, Where where) { return apply<ops::Asinh>(At(x, where)); }
Tensor acosh(const Tensor& x, Where where) { return apply<ops::Acosh>(At(x, where)); }
Tensor atanh(const Tensor& x, Where where) { return apply<ops::Atanh>(At(x, where)); }
Tensor erf(const Tensor& x, Where where) { return apply<ops::Erf>(At(x, where)); }
Tensor erfc(const Tensor& x, Where where) { return apply<ops::Erfc>(At(x, where)); }
Tensor floor(const Tensor& x, Where where) { return apply<ops::Floor>(At(x, where)); }
Tensor ceil(const Tensor& x, Where where) { return apply<ops::Ceil>(At(x, where)); }
Tensor round(const Tensor& x, Where where) { return apply<ops::Round>(At(x, where)); }
Tensor trunc(const Tensor& x, Where where) { return apply<ops::Trunc>(At(x, where)); }
Tensor pow(const Tensor& x, double exponent, Where where) {
  return apply_with<ops::PowScalar>({exponent}, At(x, where));
}

}  // namespace ebb
