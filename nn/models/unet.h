// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ebb/nn/conv.h"
#include "ebb/nn/models/normalization.h"

namespace ebb::nn::models {

struct UNetOptions {
  int64_t in_channels = 3;
  int64_t num_classes = 1;  ///< channels of the result
  int64_t width = 32;       ///< channels at full size; twice as many at each halving
  int64_t depth = 4;        ///< how often the image is halved, 1 to 16
  Normalization norm = {};
};

/// A class for each pixel: convolutions of 3x3 in pairs while the image is halved, and again while
/// it is doubled, where each size sees what was found at it on the way down: Ronneberger, Fischer,
/// Brox 2015, "U-Net: convolutional networks for biomedical image segmentation"; with padding, so
/// that the result is as large as the image, and with norms. Names of parameters are those of the
/// U-Net in PyTorch's hub (Buda, Saha, Mazurowski 2019), whose weights fit.
class UNet : public Layer {
 public:
  /// Throws ValueError where a size is out of its range.
  explicit UNet(UNetOptions options = {});
  UNet(Module& parent, std::string name, UNetOptions options = {});

  /// Scores [num_classes,H,W] of an image [in_channels,H,W], or of a batch; H and W are multiples
  /// of 2^depth. Throws ShapeError.
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

 private:
  void start();

  UNetOptions options_;
  std::vector<std::unique_ptr<Layer>> encoders_;  // from full size down
  std::unique_ptr<Layer> bottleneck_;
  std::vector<std::unique_ptr<ConvTranspose2d>> ups_;  // from full size down
  std::vector<std::unique_ptr<Layer>> decoders_;
  std::unique_ptr<Conv2d> conv_;
};

}  // namespace ebb::nn::models
