// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// Mathematical functions of one floating tensor, element by element. Integers are a DTypeError.
// Outside a function's domain the result is NaN or an infinity, as in C.
namespace ebb {

Tensor exp(const Tensor& x, Where where = Where::current());
Tensor log(const Tensor& x, Where where = Where::current());
Tensor sqrt(const Tensor& x, Where where = Where::current());
Tensor square(const Tensor& x, Where where = Where::current());
Tensor tanh(const Tensor& x, Where where = Where::current());

}  // namespace ebb
