// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "ebb/autograd/tensor.h"

// Other sizes of images and their like. What does not fit is a ShapeError, a number out of its
// range a ValueError; both name the numbers.
namespace ebb {

enum class InterpolateMode : uint8_t {
  kNearest,       ///< floor(o * in / out), as PyTorch's "nearest"
  kNearestExact,  ///< floor((o + 1/2) * in / out), the element nearest to the centre
  kLinear,        ///< along one axis
  kBilinear,      ///< along two
  kTrilinear,     ///< along three
  kBicubic,       ///< along two, by cubic convolution with a = -3/4 (Keys, 1981)
  kArea,          ///< means, as adaptive_avg_pool
};

struct InterpolateOptions {
  /// Sizes of the resampled axes afterwards, one for each or one for all.
  Shape size = {};
  /// Or by how much they grow: to floor(n * factor).
  absl::InlinedVector<double, 3> scale_factor = {};
  InterpolateMode mode = InterpolateMode::kNearest;
  /// The first and last elements stay where they are, instead of the outer edges. Not for kNearest,
  /// kNearestExact and kArea.
  bool align_corners = false;
  /// Positions follow from the sizes even where a factor was given, not from the factor.
  bool recompute_scale_factor = false;
  /// How many axes are resampled, 1 to 3, where that is not said otherwise.
  int dims = 0;
};

/// x resampled along its last one, two or three axes: [C,...] or [N,C,...], float32 or float64. How
/// many is said by the mode; for kNearest, kNearestExact and kArea by the numbers given if these
/// are two or three, or by `dims`, or by an x of rank 2 or 5: one number and [C,H,W], say, could be
/// meant as [N,C,L], which is a ValueError. Either `size` or `scale_factor` must be given, not both
/// (ValueError). A factor counts even where it leaves the size; PyTorch's CPU code then copies.
Tensor interpolate(const Tensor& x, const InterpolateOptions& options,
                   Where where = Where::current());

/// Channels made resolution (Shi et al., "Real-time single image and video super-resolution using
/// an efficient sub-pixel convolutional neural network", 2016): x [C*r*r,H,W] or [N,C*r*r,H,W] of
/// any type to [C,H*r,W*r] or [N,C,H*r,W*r].
Tensor pixel_shuffle(const Tensor& x, int64_t upscale_factor, Where where = Where::current());
/// The inverse: x [C,H*r,W*r] or [N,C,H*r,W*r] to [C*r*r,H,W] or [N,C*r*r,H,W].
Tensor pixel_unshuffle(const Tensor& x, int64_t downscale_factor, Where where = Where::current());

}  // namespace ebb
