// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/autograd/tensor.h"

// Images read at any places: spatial transformers (Jaderberg et al. 2015). Tensors are float32 or
// float64, of one type (DTypeError); what does not fit is a ShapeError that names the shapes.
namespace ebb {

enum class GridSampleMode : uint8_t {
  kBilinear,  ///< between the nearest elements; over volumes trilinear
  kNearest,   ///< the nearest element; no gradient reaches the grid. Halves go to the even one
  kBicubic,   ///< cubic convolution with a = -3/4 (Keys, 1981), over images only
};
/// What lies outside the image.
enum class GridPadding : uint8_t {
  kZeros,
  kBorder,      ///< the nearest element of the border
  kReflection,  ///< the image mirrored at its borders, again and again
};

struct GridSampleOptions {
  GridSampleMode mode = GridSampleMode::kBilinear;
  GridPadding padding_mode = GridPadding::kZeros;
  /// -1 and 1 are the centres of the first and last elements, instead of their outer edges.
  bool align_corners = false;
};

/// x at the places of the grid: x [C,H,W] with grid [H',W',2] to [C,H',W'], or x [N,C,H,W] with
/// grid [N,H',W',2] to [N,C,H',W']; of volumes x [C,T,H,W] with grid [T',H',W',3] and so on. A
/// place is (x, y) or (x, y, z): along the last axis first, from -1 to 1. One that is not a number
/// counts as outside. Where the interpolation has a kink, as at the elements, the gradient by the
/// grid is that of the side towards larger coordinates; beyond a border that is repeated it is 0.
Tensor grid_sample(const Tensor& x, const Tensor& grid, const GridSampleOptions& options = {},
                   Where where = Where::current());

/// The places to which affine maps take those of a grid, for grid_sample: theta [2,3] with `size`
/// {C,H,W} to [H,W,2], or theta [N,2,3] with {N,C,H,W} to [N,H,W,2]; of volumes theta [3,4] with
/// {C,T,H,W} to [T,H,W,3] and so on. The channels do not matter.
Tensor affine_grid(const Tensor& theta, const Shape& size, bool align_corners = false,
                   Where where = Where::current());

}  // namespace ebb
