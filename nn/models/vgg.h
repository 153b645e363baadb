// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "ebb/nn/models/image_classifier.h"
#include "ebb/nn/models/normalization.h"

namespace ebb::nn::models {

struct VGGOptions {
  /// Convolutions of each stage, behind which the image is halved.
  std::vector<int64_t> layers = {2, 2, 3, 3, 3};
  /// Channels of the first stage; each further one has twice those of the one before, up to 8
  /// times these.
  int64_t width = 64;
  int64_t in_channels = 3;
  int64_t num_classes = 1000;
  /// Behind each convolution; none: there is no norm.
  std::optional<Normalization> norm = std::nullopt;
  double dropout = 0.5;
  int64_t hidden = 4096;  ///< of the first two linear layers
};

/// The paper's networks of 11 (A), 13 (B), 16 (D) and 19 (E) layers, and the same with batch norm.
VGGOptions vgg11(int64_t num_classes = 1000);
VGGOptions vgg13(int64_t num_classes = 1000);
VGGOptions vgg16(int64_t num_classes = 1000);
VGGOptions vgg19(int64_t num_classes = 1000);
VGGOptions vgg11_bn(int64_t num_classes = 1000);
VGGOptions vgg13_bn(int64_t num_classes = 1000);
VGGOptions vgg16_bn(int64_t num_classes = 1000);
VGGOptions vgg19_bn(int64_t num_classes = 1000);

/// Stages of 3x3 convolutions and three linear layers, for images of 224 pixels: Simonyan,
/// Zisserman 2015, "Very deep convolutional networks for large-scale image recognition". Names of
/// parameters are torchvision's, `features.N` and `classifier.N`, whose weights fit. Any image will
/// do whose sides are at least 2^stages.
///   nn::models::VGG net{nn::models::vgg16_bn()};
class VGG : public ImageClassifier {
 public:
  /// Throws ValueError where a size is below 1, there is no stage or more than 16, or the dropout
  /// is no probability.
  explicit VGG(VGGOptions options = {});
  VGG(Module& parent, std::string name, VGGOptions options = {});
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

 private:
  void start();

  VGGOptions options_;
};

}  // namespace ebb::nn::models
