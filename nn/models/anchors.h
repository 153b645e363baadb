// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "ebb/autograd/tensor.h"

// Anchors, the boxes that a detector starts from, and which of them stand for which objects. Boxes
// are as in ops/box.h.
namespace ebb::nn::models {

struct AnchorOptions {
  /// Of each level of a pyramid, from fine to coarse: the square roots of the anchors' areas.
  std::vector<std::vector<double>> sizes = {
      {32, 40, 50}, {64, 80, 101}, {128, 161, 203}, {256, 322, 406}, {512, 645, 812}};
  std::vector<double> aspect_ratios = {0.5, 1, 2};  ///< height over width, at each size
};

/// Anchors at every place of a pyramid: Ren, He, Girshick, Sun 2015, "Faster R-CNN". The default
/// sizes are RetinaNet's: 32, 64, 128, 256 and 512 times 1, 2^(1/3) and 2^(2/3), cut to integers.
class AnchorGenerator {
 public:
  /// Throws ValueError where there is no size or ratio, or one is not positive.
  explicit AnchorGenerator(AnchorOptions options = {});

  size_t levels() const { return options_.sizes.size(); }
  /// Anchors at a place of a level: sizes times ratios, all sizes of the first ratio first.
  int64_t at_each_place(size_t level) const;
  /// The anchors of a level around the origin, corners rounded to whole pixels, halves to even:
  /// [at_each_place(level),4], float32.
  Tensor around_origin(size_t level) const;
  /// Those of a level whose map of features has `rows` x `columns` places, in an image of height x
  /// width pixels: [rows * columns * at_each_place(level), 4], row by row, float32. Places are
  /// height / rows and width / columns pixels apart, rounded down, the first at 0. Throws
  /// ValueError where a size is below 1, IndexError where there is no such level.
  Tensor operator()(size_t level, int64_t rows, int64_t columns, int64_t height,
                    int64_t width) const;

 private:
  AnchorOptions options_;
};

struct MatchOptions {
  double high = 0.5;  ///< from here on an anchor stands for an object
  double low = 0.4;   ///< below it stands for the background
  /// Every object has the anchors that fit it best, however badly, but for those that miss it.
  bool allow_low_quality = true;
};

/// What match_boxes says of an anchor that stands for no object.
inline constexpr int64_t kBackground = -1;
inline constexpr int64_t kBetween = -2;  ///< for neither: it fits too well for the background

/// For each of A anchors the object that it fits best, or kBackground or kBetween, int64 [A], by
/// how well G objects and the anchors fit, [G,A], as box_iou gives. Of equal fits the first object
/// counts; NaN fits nothing. Without objects all is background. Ren et al. 2015. Throws ShapeError;
/// DTypeError unless float32 or float64; ValueError where low > high.
Tensor match_boxes(const Tensor& fit, const MatchOptions& options = {});

}  // namespace ebb::nn::models
