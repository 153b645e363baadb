// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "ebb/nn/models/image_classifier.h"

namespace ebb::nn::models {

struct AlexNetOptions {
  int64_t in_channels = 3;
  int64_t num_classes = 1000;
  double dropout = 0.5;
  /// Of the five convolutions.
  std::array<int64_t, 5> channels = {64, 192, 384, 256, 256};
  int64_t hidden = 4096;  ///< of the first two linear layers
};

/// Five convolutions and three linear layers for images of 224 pixels: Krizhevsky, Sutskever,
/// Hinton 2012, "ImageNet classification with deep convolutional neural networks", in the form of
/// Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks": one tower,
/// no response normalisation. 61,100,840 parameters; their names are torchvision's, `features.N`
/// and `classifier.N`, whose weights fit. Images of 63 pixels and more will do.
class AlexNet : public ImageClassifier {
 public:
  /// Throws ValueError where a size is below 1 or the dropout no probability.
  explicit AlexNet(AlexNetOptions options = {});
  AlexNet(Module& parent, std::string name, AlexNetOptions options = {});
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

 private:
  void start();

  AlexNetOptions options_;
};

}  // namespace ebb::nn::models
