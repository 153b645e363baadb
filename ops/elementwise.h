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
