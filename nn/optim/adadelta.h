// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/nn/optim/optimizer.h"

namespace ebb::optim {

struct AdadeltaOptions {
  double lr = 1;            ///< >= 0
  double rho = 0.9;         ///< in [0, 1]
  double eps = 1e-6;        ///< >= 0
  double weight_decay = 0;  ///< >= 0; added to the gradient, times the weight
  bool maximize = false;
};

/// Zeiler 2012, "ADADELTA: an adaptive learning rate method".
class Adadelta final : public OptimizerOf<AdadeltaOptions> {
 public:
  using OptimizerOf::OptimizerOf;
};

}  // namespace ebb::optim
