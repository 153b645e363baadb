// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// Products of vectors and matrices. Types must be equal and floating; sizes that do not fit are a
// ShapeError naming both operands.
namespace ebb {

/// Matrix [m,k] times vector [k]: [m]. The gradient of the matrix is a rank-one product and stays
/// one up to the optimiser.
Tensor mv(const Tensor& a, const Tensor& x, Where where = Where::current());
/// Matrix [m,k] times matrix [k,n]: [m,n].
Tensor mm(const Tensor& a, const Tensor& b, Where where = Where::current());
/// Column times row: u [m], v [n] to [m,n].
Tensor outer(const Tensor& u, const Tensor& v, Where where = Where::current());

}  // namespace ebb
