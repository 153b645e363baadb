// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "ebb/autograd/gradient.h"
#include "ebb/autograd/tensor.h"

// For code that treats a part of a program as a function of its own: functional.h, checkpoint.h.
namespace ebb::detail {

/// `x` as an argument with an edge of its own, so that a derivative by it leaves alone other uses
/// of x that the function may have captured. With `graph` it stays connected to x's history, else
/// it is a new leaf.
Tensor as_argument(const Tensor& x, bool graph);

/// Partial derivatives: the gradients of sum_k <gradients[k], outputs[k]> by each of the edges
/// `wanted` (all different), where what these and `stops` were computed from counts as constant.
/// Takes over `gradients`, of the shapes of the outputs; undefined where nothing depends on an
/// edge. The form on `Gradient`s frees the tape between as it goes and keeps structure; the form
/// on tensors records the playback.
std::vector<Gradient> partial_gradients(Span<const Tensor> outputs, Span<Gradient> gradients,
                                        Span<const Edge> wanted, Span<const Edge> stops);
std::vector<Tensor> partial_gradients(Span<const Tensor> outputs, Span<Tensor> gradients,
                                      Span<const Edge> wanted, Span<const Edge> stops);

}  // namespace ebb::detail
