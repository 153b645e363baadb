// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/ops/upsample.h"

// The transpose of interpolate, an op of its own. Not for users.
namespace ebb {
namespace ops {

struct InterpolateAttrs {
  int dims = 2;
  InterpolateMode mode = InterpolateMode::kNearest;
  bool align_corners = false;
  int64_t size[3] = {1, 1, 1};  // of the axes afterwards, at the end; 0: from the factor
  double factor[3] = {};        // 0: positions follow from the sizes
};
struct InterpolateBackwardAttrs : InterpolateAttrs {
  int64_t in[3] = {1, 1, 1};
};

}  // namespace ops

/// The gradient of x, of the given shape, from that of interpolate's result.
Tensor interpolate_backward(const ops::InterpolateAttrs& attrs, const Tensor& g, const Shape& x,
                            Where where = Where::current());

}  // namespace ebb
