// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/leaf.h"

namespace ebb::optim {

/// The 2-norm of all gradients of `parameters` as one vector; those without count as 0. Gradients
/// keep their structure: products are not multiplied out.
double grad_norm(Span<const Parameter> parameters);

struct ClipOptions {
  double norm_type = 2;             ///< > 0, or infinity; other than 2 makes gradients dense
  bool error_if_nonfinite = false;  ///< throw NumericError where the norm is NaN or infinite
};

/// Scales all gradients by max_norm / (norm + 1e-6) where that is below 1, so that their norm as
/// one vector is at most max_norm (Pascanu, Mikolov and Bengio 2013, "On the difficulty of training
/// recurrent neural networks"). Gives the norm before. Throws ValueError unless max_norm >= 0 and
/// norm_type > 0.
double clip_grad_norm(Span<const Parameter> parameters, double max_norm,
                      const ClipOptions& options = {});

/// Brings every element of every gradient to [-limit, limit]. Row- and column-sparse gradients stay
/// so. Throws ValueError unless limit >= 0.
void clip_grad_value(Span<const Parameter> parameters, double limit);

}  // namespace ebb::optim
