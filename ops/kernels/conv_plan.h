// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/ops/kernels/conv.h"

namespace ebb::kernels::detail {

/// A convolution with three axes, whatever it has: those that it lacks come first and are of size
/// one. The last axis is the one along which elements are neighbours.
struct ConvPlan {
  explicit ConvPlan(const ConvShape& s)
      : batch(s.batch),
        groups(s.groups),
        group_in(s.in_channels / s.groups),
        group_out(s.out_channels / s.groups) {
    for (int d = 0; d < s.dims; ++d) {
      const int axis = 3 - s.dims + d;
      in[axis] = s.in[d];
      kernel[axis] = s.kernel[d];
      stride[axis] = s.stride[d];
      dilation[axis] = s.dilation[d];
      pad[axis] = s.pad[d];
      out[axis] = s.out[d];
    }
    taps = kernel[0] * kernel[1] * kernel[2];
  }

  int64_t batch, groups;
  int64_t group_in, group_out;  ///< channels of a group
  int64_t in[3] = {1, 1, 1};
  int64_t kernel[3] = {1, 1, 1};
  int64_t stride[3] = {1, 1, 1};
  int64_t dilation[3] = {1, 1, 1};
  int64_t pad[3] = {0, 0, 0};
  int64_t out[3] = {1, 1, 1};
  int64_t taps;
};

}  // namespace ebb::kernels::detail
