// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "ebb/nn/models/image_classifier.h"
#include "ebb/nn/models/normalization.h"

namespace ebb::nn::models {

struct MobileNetV2Options {
  /// Blocks of one kind, one after the other: a line of the paper's table 2.
  struct Stage {
    int64_t expansion;  ///< how many times its input's channels a block computes with
    int64_t channels;
    int64_t blocks;
    int64_t stride;  ///< of the first
  };

  /// Factor of all channels, rounded to multiples of 8, but for the last layer's, which only grow.
  double width_multiplier = 1;
  int64_t in_channels = 3;
  int64_t num_classes = 1000;
  double dropout = 0.2;
  std::vector<Stage> stages = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                               {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
  int64_t first_channels = 32;
  int64_t last_channels = 1280;
  Normalization norm = {};
};

MobileNetV2Options mobilenet_v2(int64_t num_classes = 1000, double width_multiplier = 1);

/// `channels` to the nearest multiple of 8, but no more than a tenth below it; 8 at least.
int64_t round_channels(double channels);

/// Blocks that widen their input by a 1x1 convolution, filter each channel by itself, and narrow
/// the result without a rectifier; ends of equal shape are added: Sandler, Howard, Zhu, Zhmoginov,
/// Chen 2018, "MobileNetV2: inverted residuals and linear bottlenecks". 3,504,872 parameters; their
/// names are torchvision's, `features.N...` and `classifier.1`, whose weights fit.
class MobileNetV2 : public ImageClassifier {
 public:
  /// Throws ValueError where a size is below 1, the width multiplier not positive, or the dropout
  /// no probability.
  explicit MobileNetV2(MobileNetV2Options options = {});
  MobileNetV2(Module& parent, std::string name, MobileNetV2Options options = {});
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

 private:
  void start();

  MobileNetV2Options options_;
};

}  // namespace ebb::nn::models
