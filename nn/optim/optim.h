// SPDX-License-Identifier: Apache-2.0
#pragma once

// All optimisers, and what goes with them.
#include "ebb/nn/optim/adadelta.h"   // IWYU pragma: export
#include "ebb/nn/optim/adagrad.h"    // IWYU pragma: export
#include "ebb/nn/optim/adam.h"       // IWYU pragma: export
#include "ebb/nn/optim/clip.h"       // IWYU pragma: export
#include "ebb/nn/optim/lbfgs.h"      // IWYU pragma: export
#include "ebb/nn/optim/rmsprop.h"    // IWYU pragma: export
#include "ebb/nn/optim/scheduler.h"  // IWYU pragma: export
#include "ebb/nn/optim/sgd.h"        // IWYU pragma: export
