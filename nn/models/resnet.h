// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "ebb/nn/conv.h"
#include "ebb/nn/linear.h"
#include "ebb/nn/models/normalization.h"
#include "ebb/nn/sequential.h"

// Residual networks for images: He, Zhang, Ren, Sun 2016, "Deep residual learning for image
// recognition". Names of parameters are those of PyTorch's torchvision, whose weights fit.
namespace ebb::nn::models {

struct ResNetOptions {
  /// Blocks of each stage. Every stage but the first halves the image.
  std::vector<int64_t> layers = {2, 2, 2, 2};
  /// Channels of the first stage; each further one has twice those of the one before.
  int64_t width = 64;
  /// Blocks of 1x1, 3x3 and 1x1 that give out four times the channels they compute with; else of
  /// two 3x3.
  bool bottleneck = false;
  /// The beginning for images of 224 pixels, 7x7 of stride 2 and a maximum over 3x3 of stride 2;
  /// else 3x3 of stride 1, as for CIFAR-10 in the paper.
  bool large_images = true;
  /// Where a block changes the shape, what it adds is its input subsampled and filled up with
  /// channels of zeros (the paper's option A) instead of projected (option B).
  bool identity_shortcuts = false;
  int64_t in_channels = 3;
  int64_t num_classes = 1000;  ///< 0: there is no last layer, and forward() gives the features
  Normalization norm = {};
  /// The last norm of each block starts at 0, so that the block starts as the identity: Goyal et
  /// al. 2017.
  bool zero_init_residual = false;
};

/// ResNet-18, -34, -50, -101, -152 of the paper.
ResNetOptions resnet18(int64_t num_classes = 1000);
ResNetOptions resnet34(int64_t num_classes = 1000);
ResNetOptions resnet50(int64_t num_classes = 1000);
ResNetOptions resnet101(int64_t num_classes = 1000);
ResNetOptions resnet152(int64_t num_classes = 1000);
/// The paper's network of 6 n + 2 layers for images of about 32 pixels: three stages of n blocks,
/// of 16, 32 and 64 channels, with identity shortcuts; n = 3 is ResNet-20. Throws ValueError where
/// n < 1.
ResNetOptions resnet_small(int64_t n, int64_t in_channels = 3, int64_t num_classes = 10);

///   nn::models::ResNet net{nn::models::resnet50()};
class ResNet : public Layer {
 public:
  /// Throws ValueError where a size is out of its range.
  explicit ResNet(ResNetOptions options = {});
  ResNet(Module& parent, std::string name, ResNetOptions options = {});

  /// Scores [num_classes] of an image [in_channels,H,W], or [N,num_classes] of [N,in_channels,H,W].
  /// Throws ShapeError.
  Tensor forward(const Tensor& x) const override;
  /// The last stage's channels, averaged over the image.
  Tensor features(const Tensor& x) const;
  /// What each stage gives: channels that double, images that halve. For detection.
  std::vector<Tensor> stages(const Tensor& x) const;
  /// Channels of a stage's result.
  int64_t channels(size_t stage) const;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

 private:
  void start();

  ResNetOptions options_;
  std::unique_ptr<Layer> bn1_;
  std::vector<std::unique_ptr<Sequential>> stages_;

 public:
  Conv2d conv1;
  std::optional<Linear> fc;  ///< none where num_classes is 0
};

}  // namespace ebb::nn::models
