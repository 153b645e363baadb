// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "ebb/autograd/tensor.h"

namespace ebb::nn {

/// What has to be stored in order to go on later, by name: parameters and buffers of a module,
/// state and options of an optimiser, counters of a scheduler. Numbers are tensors of rank 0.
using StateDict = std::map<std::string, Tensor>;

}  // namespace ebb::nn
