// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "ebb/autograd/tensor.h"

// Boxes in images: x1, y1, x2, y2 along the last axis, x to the right and y down, x1 <= x2 and y1
// <= y2. Names and meaning are those of torchvision. A tensor of another shape is a ShapeError, one
// that is not float32 or float64, or of another type than its fellows, a DTypeError.
namespace ebb {

/// Areas: [...,4] to [...].
Tensor box_area(const Tensor& boxes, Where where = Where::current());

/// How much of what two boxes cover they share, area of the intersection over area of the union: 0
/// to 1. [N,4] and [M,4] to [N,M]. NaN where both boxes are without area. One op. Jaccard 1901.
Tensor box_iou(const Tensor& boxes1, const Tensor& boxes2, Where where = Where::current());

/// [...,4] with every corner moved into an image of this size. Throws ValueError where that is
/// negative.
Tensor clip_boxes_to_image(const Tensor& boxes, int64_t height, int64_t width,
                           Where where = Where::current());

/// Non-maximum suppression: of boxes [N,4] with scores [N] the indices [K], int64, of those that
/// are kept, best first. Going from the best score down, a box is dropped where it shares more than
/// iou_threshold with one that is kept. Among equal scores the first box counts as better. The
/// result carries no gradient. O(N K), a nanosecond or so a pair of boxes. Throws ValueError where
/// a score or the threshold is NaN.
Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold,
           Where where = Where::current());
/// The same in each category by itself: only boxes of equal number in idxs [N], integers, drop one
/// another.
Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& idxs,
                   double iou_threshold, Where where = Where::current());

/// Factors of the four numbers that a box is coded by.
using BoxWeights = std::array<double, 4>;

/// Where boxes [...,4] lie as seen from proposals [...,4]: the distance of their middles, x and y,
/// in widths and heights of the proposal, and the logarithms of their width and height over its;
/// times `weights`. The axes in front broadcast. Throws ValueError where a weight is 0 or not
/// finite. Girshick, Donahue, Darrell, Malik 2014.
Tensor encode_boxes(const Tensor& boxes, const Tensor& proposals,
                    const BoxWeights& weights = {1, 1, 1, 1}, Where where = Where::current());
/// The boxes that `codes` [...,4] stand for. A logarithm above log(1000 / 16) counts as that, so
/// that no box grows beyond all measure. Throws as encode_boxes does.
Tensor decode_boxes(const Tensor& codes, const Tensor& proposals,
                    const BoxWeights& weights = {1, 1, 1, 1}, Where where = Where::current());

}  // namespace ebb
