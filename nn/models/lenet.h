// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/nn/conv.h"
#include "ebb/nn/linear.h"

namespace ebb::nn::models {

struct LeNet5Options {
  int64_t in_channels = 1;
  int64_t num_classes = 10;
  /// Around the image: 2 for 28 x 28 pixels, 0 for 32 x 32.
  int64_t padding = 2;
};

/// Two convolutions of 5 x 5 with pooling, three linear layers: LeCun, Bottou, Bengio, Haffner
/// 1998, "Gradient-based learning applied to document recognition", in the form in which it is used
/// today: rectifiers and maxima in place of squashing and trained averages, every map sees all maps
/// before it, linear scores in place of distances to prototypes. Parameters under `conv1`, `conv2`,
/// `fc1`, `fc2`, `fc3`: 61,706 of them.
class LeNet5 : public Layer {
 public:
  /// Throws ValueError where a size is below 1 or the padding negative.
  explicit LeNet5(LeNet5Options options = {});
  LeNet5(Module& parent, std::string name, LeNet5Options options = {});

  /// Scores [num_classes] of x [in_channels,H,W] where H = W = 32 - 2 padding; or of a batch,
  /// [N,num_classes] of [N,in_channels,H,W]. Throws ShapeError.
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

 private:
  LeNet5Options options_;

 public:
  Conv2d conv1{*this, "conv1", options_.in_channels, 6, 5, {.padding = options_.padding}};
  Conv2d conv2{*this, "conv2", 6, 16, 5};
  Linear fc1{*this, "fc1", 16 * 5 * 5, 120};
  Linear fc2{*this, "fc2", 120, 84};
  Linear fc3{*this, "fc3", 84, options_.num_classes};
};

}  // namespace ebb::nn::models
