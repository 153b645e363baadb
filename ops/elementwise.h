// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// Arithmetic, comparison and selection, element by element, with NumPy's broadcasting: shapes are
// matched from the last dimension, and sizes must be equal or 1. Where the types of two operands
// differ both are converted to the wider (bool < uint8 < int32 < int64 < float32 < float64).
// A shape that does not fit is a ShapeError, a type that an op does not take a DTypeError.
namespace ebb {

Tensor add(const Tensor& a, const Tensor& b, Where where = Where::current());
Tensor sub(const Tensor& a, const Tensor& b, Where where = Where::current());
Tensor mul(const Tensor& a, const Tensor& b, Where where = Where::current());
/// True division: integers are converted to float32 first.
Tensor div(const Tensor& a, const Tensor& b, Where where = Where::current());
/// scale * x + shift; x floating.
Tensor affine(const Tensor& x, double scale, double shift, Where where = Where::current());

/// The smaller (larger) of the two; NaN where either is. Of a tie each gets half the gradient.
Tensor minimum(const Tensor& a, const Tensor& b, Where where = Where::current());
Tensor maximum(const Tensor& a, const Tensor& b, Where where = Where::current());
/// a^b. 0^0 is 1; a negative a with a fractional b gives NaN. Integers: a negative power is 0, but
/// of 1 and -1.
Tensor pow(const Tensor& a, const Tensor& b, Where where = Where::current());
/// Angle of the point (x, y) in (-pi, pi]; floating types.
Tensor atan2(const Tensor& y, const Tensor& x, Where where = Where::current());
/// What a division leaves, with the sign of a (fmod) or of b (remainder). Integers: 0 where b is 0.
Tensor fmod(const Tensor& a, const Tensor& b, Where where = Where::current());
Tensor remainder(const Tensor& a, const Tensor& b, Where where = Where::current());
/// a where the condition (bool) holds, else b.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b,
             Where place = Where::current());

/// Of bool tensors; no gradient.
Tensor logical_and(const Tensor& a, const Tensor& b, Where where = Where::current());
Tensor logical_or(const Tensor& a, const Tensor& b, Where where = Where::current());
Tensor logical_xor(const Tensor& a, const Tensor& b, Where where = Where::current());
Tensor logical_not(const Tensor& x, Where where = Where::current());

// Comparisons: bool, without gradient. NaN compares false, but for ne.
Tensor eq(const Tensor& a, const Tensor& b, Where where = Where::current());
Tensor ne(const Tensor& a, const Tensor& b, Where where = Where::current());
Tensor lt(const Tensor& a, const Tensor& b, Where where = Where::current());
Tensor le(const Tensor& a, const Tensor& b, Where where = Where::current());
Tensor gt(const Tensor& a, const Tensor& b, Where where = Where::current());
Tensor ge(const Tensor& a, const Tensor& b, Where where = Where::current());

/// The type that two operands are converted to.
DType promote_types(DType a, DType b);

}  // namespace ebb
