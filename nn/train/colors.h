// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/nn/train/canvas.h"

namespace ebb::train {

enum class ColorMap {
  kSequential,  // dark violet over teal to yellow; lightness rises evenly
  kDiverging,   // blue, white in the middle, red; equally strong on both sides
  kGrey,        // black to white
};

/// The colour of t in [0, 1]; t outside is clamped, NaN is light grey.
Color map_color(ColorMap map, double t);

/// The colour of the i-th series or class, i >= 0; the ten of them repeat. The first six are from
/// the palette of Okabe and Ito (2008), which readers with any colour vision can tell apart.
Color series_color(int64_t i);

}  // namespace ebb::train
