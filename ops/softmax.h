// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"
#include "ebb/core/random.h"

// Probabilities from scores, along one axis of a floating tensor. The largest score is subtracted
// first, so nothing overflows. A row with NaN or infinity in it, or of -infinity alone, gives NaN;
// a score of -infinity among finite ones has probability 0. A bad axis is an IndexError, another
// type a DTypeError.
namespace ebb {

/// y_i = e^x_i / sum_j e^x_j along `axis`.
Tensor softmax(const Tensor& x, int64_t axis, Where where = Where::current());

/// ln(softmax(x)), exact where the probability itself is too small to be told from 0.
Tensor log_softmax(const Tensor& x, int64_t axis, Where where = Where::current());

/// softmax(-x).
Tensor softmin(const Tensor& x, int64_t axis, Where where = Where::current());

// Probabilities of which many are exactly 0. Where the set of the others changes, the gradient
// jumps.

/// The point of the probability simplex nearest to x, along `axis`: Martins and Astudillo, "From
/// softmax to sparsemax", 2016.
Tensor sparsemax(const Tensor& x, int64_t axis, Where where = Where::current());
/// The probabilities that maximise p'x + H(p) with Tsallis' entropy of order 1.5, between softmax
/// and sparsemax, exact: Peters, Niculae and Martins, "Sparse sequence-to-sequence models", 2019.
Tensor entmax15(const Tensor& x, int64_t axis, Where where = Where::current());
/// The same of order alpha > 1, by bisection; 2 is sparsemax, and toward 1 it becomes softmax.
/// Throws ValueError on another alpha.
Tensor entmax(const Tensor& x, double alpha, int64_t axis, Where where = Where::current());

/// softmax((logits + gumbel noise) / tau): a draw from the probabilities that softmax(logits) says,
/// made differentiable, the closer to one element the smaller tau. With `hard`, exactly the drawn
/// element, 1 among 0, with the gradient of the soft one: Jang, Gu and Poole, "Categorical
/// reparameterization with Gumbel-softmax", 2017. Throws ValueError where tau is not positive or
/// not finite.
Tensor gumbel_softmax(const Tensor& logits, double tau = 1, bool hard = false, int64_t axis = -1,
                      Generator& generator = default_generator(), Where where = Where::current());

}  // namespace ebb
