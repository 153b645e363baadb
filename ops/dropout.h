// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"
#include "ebb/core/random.h"

// Relatives of dropout() (ops/random.h). Not in training, or where p is 0, each passes x on. Throws
// ValueError where p is outside [0, 1].
namespace ebb {

/// Sets whole channels to 0 with probability p, and scales the rest by 1 / (1 - p); channel_axis is
/// counted from the end, and what is before it counts samples: -3 for images [C,H,W] and [N,C,H,W],
/// as in ops/norm.h. Tompson et al., "Efficient object localization using convolutional networks",
/// 2015. The generator moves on by a number a channel.
Tensor feature_dropout(const Tensor& x, double p = 0.5, bool training = true,
                       int64_t channel_axis = -3, Generator& generator = default_generator(),
                       Where where = Where::current());

/// Sets elements to what selu gives far below 0, with probability p, then scales and shifts so that
/// mean 0 and variance 1 stay: Klambauer et al., "Self-normalizing neural networks", 2017.
Tensor alpha_dropout(const Tensor& x, double p = 0.5, bool training = true,
                     Generator& generator = default_generator(), Where where = Where::current());
/// The same for whole channels.
Tensor feature_alpha_dropout(const Tensor& x, double p = 0.5, bool training = true,
                             int64_t channel_axis = -3, Generator& generator = default_generator(),
                             Where where = Where::current());

}  // namespace ebb
