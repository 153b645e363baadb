// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// Normalisation. Tensors are float32 or float64, of one type (DTypeError).
namespace ebb {

/// The last axes of x, of shape `normalized_shape`, brought to mean 0 and variance 1 (of the
/// population, with `eps` added), then times `weight` plus `bias`, both of that shape; either may
/// be undefined, but bias only with weight. Ba, Kiros and Hinton, "Layer normalization", 2016. One
/// op. Throws ShapeError where x does not end in normalized_shape, or that is empty, or weight or
/// bias differs from it; ValueError where there is a bias but no weight.
Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight = Tensor(),
                  const Tensor& bias = Tensor(), double eps = 1e-5, Where where = Where::current());

}  // namespace ebb
