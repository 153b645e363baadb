// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// The nonlinearities of neural networks, element by element, on floating tensors.
namespace ebb {

/// max(x, 0); the gradient at 0 is 0.
Tensor relu(const Tensor& x, Where where = Where::current());
/// x where x > 0, else slope * x.
Tensor leaky_relu(const Tensor& x, double slope = 0.01, Where where = Where::current());

}  // namespace ebb
