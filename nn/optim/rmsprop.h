// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/nn/optim/optimizer.h"

namespace ebb::optim {

struct RMSpropOptions {
  double lr = 1e-2;         ///< >= 0
  double alpha = 0.99;      ///< >= 0
  double eps = 1e-8;        ///< >= 0
  double weight_decay = 0;  ///< >= 0; added to the gradient, times the weight
  double momentum = 0;      ///< >= 0
  bool centered = false;    ///< divide by the deviation from the mean gradient
  bool maximize = false;
};

/// Tieleman and Hinton 2012, "Neural networks for machine learning", lecture 6.5. The centred form
/// is that of Graves 2013, "Generating sequences with recurrent neural networks".
class RMSprop final : public OptimizerOf<RMSpropOptions> {
 public:
  using OptimizerOf::OptimizerOf;
};

}  // namespace ebb::optim
