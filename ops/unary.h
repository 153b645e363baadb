// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// Mathematical functions of one floating tensor, element by element. Any other type is a
// DTypeError. Outside a function's domain the result is NaN or an infinity, as in C. The largest
// errors in ulp stand in ops/kernels/unary.h.
namespace ebb {

/// e^x.
Tensor exp(const Tensor& x, Where where = Where::current());
/// 2^x.
Tensor exp2(const Tensor& x, Where where = Where::current());
/// e^x - 1, exact near 0.
Tensor expm1(const Tensor& x, Where where = Where::current());
/// Natural logarithm.
Tensor log(const Tensor& x, Where where = Where::current());
/// Logarithm to base 2.
Tensor log2(const Tensor& x, Where where = Where::current());
/// Logarithm to base 10.
Tensor log10(const Tensor& x, Where where = Where::current());
/// ln(1 + x), exact near 0.
Tensor log1p(const Tensor& x, Where where = Where::current());
/// Square root.
Tensor sqrt(const Tensor& x, Where where = Where::current());
/// 1 / sqrt(x).
Tensor rsqrt(const Tensor& x, Where where = Where::current());
/// x^2.
Tensor square(const Tensor& x, Where where = Where::current());
/// 1 / x.
Tensor reciprocal(const Tensor& x, Where where = Where::current());
/// |x|; the gradient at 0 is 0.
Tensor abs(const Tensor& x, Where where = Where::current());
/// -1, 0 or 1; the gradient is 0.
Tensor sign(const Tensor& x, Where where = Where::current());
/// Sine; radians, as in all that follow.
Tensor sin(const Tensor& x, Where where = Where::current());
/// Cosine.
Tensor cos(const Tensor& x, Where where = Where::current());
/// Tangent.
Tensor tan(const Tensor& x, Where where = Where::current());
/// Arc sine.
Tensor asin(const Tensor& x, Where where = Where::current());
/// Arc cosine.
Tensor acos(const Tensor& x, Where where = Where::current());
/// Arc tangent.
Tensor atan(const Tensor& x, Where where = Where::current());
/// Hyperbolic sine.
Tensor sinh(const Tensor& x, Where where = Where::current());
/// Hyperbolic cosine.
Tensor cosh(const Tensor& x, Where where = Where::current());
/// Hyperbolic tangent.
Tensor tanh(const Tensor& x, Where where = Where::current());
/// The gradient of tanh by its output y: g (1 - y^2), with broadcasting.
Tensor tanh_backward(const Tensor& g, const Tensor& y, Where where = Where::current());
/// The gradient of sigmoid by its output y: g y (1 - y), with broadcasting.
Tensor sigmoid_backward(const Tensor& g, const Tensor& y, Where where = Where::current());
/// Inverse hyperbolic sine.
Tensor asinh(const Tensor& x, Where where = Where::current());
/// Inverse hyperbolic cosine.
Tensor acosh(const Tensor& x, Where where = Where::current());
/// Inverse hyperbolic tangent.
Tensor atanh(const Tensor& x, Where where = Where::current());
/// The error function.
Tensor erf(const Tensor& x, Where where = Where::current());
/// 1 - erf(x), exact where that is small.
Tensor erfc(const Tensor& x, Where where = Where::current());
/// Largest integer not above x; the gradient is 0, as of the next three.
Tensor floor(const Tensor& x, Where where = Where::current());
/// Smallest integer not below x.
Tensor ceil(const Tensor& x, Where where = Where::current());
/// Nearest integer, halves to the even one.
Tensor round(const Tensor& x, Where where = Where::current());
/// x without its fraction.
Tensor trunc(const Tensor& x, Where where = Where::current());
/// x^exponent. 0^0 is 1; a negative x with a fractional exponent gives NaN.
Tensor pow(const Tensor& x, double exponent, Where where = Where::current());

}  // namespace ebb
