// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "ebb/nn/sequential.h"

namespace ebb::nn::models {

/// What AlexNet, VGG and MobileNetV2 share: `features` of an image, averaged over a fixed number of
/// windows, are what `classifier` gives scores to.
class ImageClassifier : public Layer {
 public:
  /// Scores [num_classes] of an image [in_channels,H,W], or [N,num_classes] of [N,in_channels,H,W].
  /// Throws ShapeError, also where the image is too small.
  Tensor forward(const Tensor& x) const override;

 private:
  int64_t windows_;

 public:
  Sequential features{*this, "features"};
  Sequential classifier{*this, "classifier"};

 protected:
  /// The features are averaged over windows x windows of them.
  explicit ImageClassifier(int64_t windows);
  ImageClassifier(Module& parent, std::string name, int64_t windows);

  /// Throws ValueError where add_three_layers() would: before the features are made.
  static void require_head(const char* model, int64_t hidden, int64_t num_classes, double dropout);
  /// Three linear layers, rectified between, `dropout` before the first and the second; or, as in
  /// VGG, behind them.
  void add_three_layers(int64_t channels, int64_t hidden, int64_t num_classes, double dropout,
                        bool dropout_first);
};

/// First values for networks of images: weights of convolutions are drawn from N(0, 2 / fan out)
/// (He et al. 2015), matrices from N(0, 0.01^2); biases are 0. Weights of norms stay.
void init_image_network(const Module& net);

}  // namespace ebb::nn::models
