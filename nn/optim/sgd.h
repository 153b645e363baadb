// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/nn/optim/optimizer.h"

namespace ebb::optim {

struct SGDOptions {
  double lr = 1e-3;         ///< >= 0
  double momentum = 0;      ///< >= 0
  double dampening = 0;     ///< of what a gradient adds to the momentum
  double weight_decay = 0;  ///< >= 0; added to the gradient, times the weight
  bool nesterov = false;    ///< needs momentum and no dampening
  bool maximize = false;
};

/// Stochastic gradient descent, with momentum (Polyak 1964) or Nesterov's in the form of Sutskever
/// et al. 2013, "On the importance of initialization and momentum in deep learning". Every rank-one
/// product and every row of a plain step goes straight to the weight.
class SGD final : public OptimizerOf<SGDOptions> {
 public:
  using OptimizerOf::OptimizerOf;
};

}  // namespace ebb::optim
