// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// Probabilities from scores, along one axis of a floating tensor. The largest score is subtracted
// first, so nothing overflows. A row with NaN or infinity in it, or of -infinity alone, gives NaN;
// a score of -infinity among finite ones has probability 0. A bad axis is an IndexError, another
// type a DTypeError.
namespace ebb {

/// y_i = e^x_i / sum_j e^x_j along `axis`.
Tensor softmax(const Tensor& x, int64_t axis, Where where = Where::current());

/// ln(softmax(x)), exact where the probability itself is too small to be told from 0.
Tensor log_softmax(const Tensor& x, int64_t axis, Where where = Where::current());

}  // namespace ebb
