// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/nn/optim/optimizer.h"

namespace ebb::optim {

struct AdagradOptions {
  double lr = 1e-2;                      ///< >= 0
  double lr_decay = 0;                   ///< >= 0; step t uses lr / (1 + (t - 1) lr_decay)
  double weight_decay = 0;               ///< >= 0; added to the gradient, times the weight
  double initial_accumulator_value = 0;  ///< >= 0
  double eps = 1e-10;                    ///< >= 0
  bool maximize = false;
};

/// Duchi, Hazan and Singer 2011, "Adaptive subgradient methods for online learning and stochastic
/// optimization".
class Adagrad final : public OptimizerOf<AdagradOptions> {
 public:
  using OptimizerOf::OptimizerOf;
};

}  // namespace ebb::optim
