// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <string>

#include "ebb/autograd/leaf.h"
#include "ebb/core/error.h"
#include "ebb/nn/init.h"

// What the recurrent layers share. Not for users.
namespace ebb::nn::detail {

inline void require_sizes(const char* layer, int64_t in, int64_t hidden) {
  if (in >= 1 && hidden >= 1) return;
  throw ValueError(std::string(layer) + ": the sizes are " + Shape{in, hidden}.str() +
                   "; each must be at least 1");
}

/// The parameter with values from U(-1/sqrt(hidden), 1/sqrt(hidden)).
inline Parameter drawn(Parameter p, int64_t hidden) {
  const double bound = 1 / std::sqrt(static_cast<double>(hidden));
  init::uniform_(p, -bound, bound);
  return p;
}

/// The parameter as a tensor, or `absent` where there is none.
inline const Tensor& or_absent(const Parameter& p, const Tensor& absent) {
  return p.defined() ? p.tensor() : absent;
}

}  // namespace ebb::nn::detail
