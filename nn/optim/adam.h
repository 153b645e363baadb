// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "ebb/nn/optim/optimizer.h"

namespace ebb::optim {

struct AdamOptions {
  double lr = 1e-3;                            ///< >= 0
  std::array<double, 2> betas = {0.9, 0.999};  ///< each in [0, 1)
  double eps = 1e-8;                           ///< >= 0
  double weight_decay = 0;                     ///< >= 0; added to the gradient, times the weight
  bool amsgrad = false;
  bool maximize = false;
};

/// Kingma and Ba 2015, "Adam: a method for stochastic optimization". With `amsgrad` the form of
/// Reddi, Kale and Kumar 2018, "On the convergence of Adam and beyond".
class Adam final : public OptimizerOf<AdamOptions> {
 public:
  using OptimizerOf::OptimizerOf;
};

struct AdamWOptions {
  double lr = 1e-3;                            ///< >= 0
  std::array<double, 2> betas = {0.9, 0.999};  ///< each in [0, 1)
  double eps = 1e-8;                           ///< >= 0
  double weight_decay = 1e-2;                  ///< >= 0; shrinks the weight by lr times this
  bool amsgrad = false;
  bool maximize = false;
};

/// Adam with decoupled weight decay: Loshchilov and Hutter 2019, "Decoupled weight decay
/// regularization".
class AdamW final : public OptimizerOf<AdamWOptions> {
 public:
  using OptimizerOf::OptimizerOf;
};

}  // namespace ebb::optim
