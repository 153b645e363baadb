// SPDX-License-Identifier: Apache-2.0
#pragma once

// The layers that keep little or nothing.

#include "ebb/nn/activation.h"
#include "ebb/nn/dropout.h"
#include "ebb/nn/norm.h"
