// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ebb/nn/linear.h"
#include "ebb/nn/models/normalization.h"
#include "ebb/nn/sequential.h"

// Residual networks for videos: Tran, Wang, Torresani, Ray, LeCun, Paluri 2018, "A closer look at
// spatiotemporal convolutions for action recognition". Names of parameters are those of PyTorch's
// torchvision, whose weights fit.
namespace ebb::nn::models {

/// What a stage of a VideoResNet convolves with.
enum class VideoConvolution : uint8_t {
  kSpatiotemporal,  ///< 3x3x3
  kSpatial,         ///< 1x3x3: each frame by itself
  /// 1x3x3, norm, rectifier, 3x1x1, with so many channels between that there are as many weights
  /// as in 3x3x3.
  kFactored,
};

struct VideoResNetOptions {
  struct Stage {
    VideoConvolution convolution;
    int64_t blocks = 2;
  };
  /// Every stage but the first halves the frames' sides, and their number too unless it is
  /// kSpatial.
  std::vector<Stage> stages = std::vector<Stage>(4, {VideoConvolution::kSpatiotemporal});
  /// The first convolution, 3x7x7, as 1x7x7 and 3x1x1 with 45 channels between.
  bool factored_stem = false;
  /// Channels of the first stage; each further one has twice those of the one before.
  int64_t width = 64;
  int64_t in_channels = 3;
  int64_t num_classes = 400;  ///< of Kinetics
  Normalization norm = {};
};

/// 18 layers of 3x3x3 (R3D); with only the first stage so, and frames by themselves behind it
/// (MC3); factored throughout (R(2+1)D).
VideoResNetOptions r3d_18(int64_t num_classes = 400);
VideoResNetOptions mc3_18(int64_t num_classes = 400);
VideoResNetOptions r2plus1d_18(int64_t num_classes = 400);

///   nn::models::VideoResNet net{nn::models::r2plus1d_18()};
class VideoResNet : public Layer {
 public:
  /// Throws ValueError where a size is below 1.
  explicit VideoResNet(VideoResNetOptions options = {});
  VideoResNet(Module& parent, std::string name, VideoResNetOptions options = {});

  /// Scores [num_classes] of T frames [in_channels,T,H,W], or [N,num_classes] of
  /// [N,in_channels,T,H,W]. Throws ShapeError.
  Tensor forward(const Tensor& x) const override { return fc(features(x)); }
  /// The last stage's channels, averaged over frames and pixels.
  Tensor features(const Tensor& x) const;
  /// What each stage gives.
  std::vector<Tensor> stages(const Tensor& x) const;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

 private:
  void start();

  VideoResNetOptions options_;
  Sequential stem_{*this, "stem"};
  std::vector<std::unique_ptr<Sequential>> stages_;

 public:
  Linear fc;
};

}  // namespace ebb::nn::models
