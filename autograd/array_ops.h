// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/node.h"
#include "ebb/core/array.h"

// Plain functions on arrays that the engine, the gradients and the optimisers share; no tape.
namespace ebb {

/// `a` itself where it is contiguous, else a copy that is.
Array contiguous(const Array& a);
/// A contiguous copy in elements of its own.
Array copy(const Array& a);
/// Converted to `dtype`; `a` itself where it has that type.
Array cast(const Array& a, DType dtype);
/// Overwrites the elements of `to` (contiguous) with those of `from`: same shape and type, any
/// strides.
void copy_into(const Array& to, const Array& from);
/// to += from; `to` contiguous, float32 or float64; `from` of the same shape and type, any strides.
void add_into(const Array& to, const Array& from);
/// to += factor * from, under the same conditions.
void axpy_into(const Array& to, double factor, const Array& from);
/// factor * a, new.
Array scaled(const Array& a, double factor);
/// The transpose of a matrix, as a view.
Array transposed(const Array& a);
/// Sum of squares, added up in double.
double squared_norm(const Array& a);

namespace detail {
/// Throws NumericError where a floating array holds NaN or infinity:
/// "log: value has NaN at element 3, called at train.cc:12", counted in row-major order.
void check_finite(const Array& a, const char* op, const char* what, Where where);
}  // namespace detail

}  // namespace ebb
