// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ebb/nn/norm.h"

namespace ebb::nn::models {

/// The most channels that a network may be asked for as its `width`.
inline constexpr int64_t kWidest = int64_t{1} << 30;

/// What normalises the channels of a network for images or videos.
struct Normalization {
  enum class Kind : uint8_t {
    kBatch,   ///< BatchNorm2d or BatchNorm3d: PyTorch's weights fit
    kGroup,   ///< GroupNorm, the same for one sample as for many, in training as in evaluation
    kFrozen,  ///< FrozenBatchNorm: a batch norm that is not trained any more
  };
  Kind kind = Kind::kBatch;
  BatchNormOptions batch = {};  ///< of kFrozen: eps
  /// Of kGroup: groups, fewer where they do not divide the channels.
  int64_t groups = 8;
};

/// Every channel times one number plus another, by the running statistics, weight and bias of a
/// BatchNorm that was trained before: all four are buffers [C], under the names that BatchNorm has
/// for them, and stay as they are. For detectors, whose batches are too small for statistics of
/// their own: Ren, He, Girshick, Sun 2015 (torchvision's FrozenBatchNorm2d).
class FrozenBatchNorm : public Layer {
 public:
  /// `dims` axes are behind the channels. Throws ValueError where num_features is below 1.
  explicit FrozenBatchNorm(int64_t num_features, double eps = 1e-5, int dims = 2);
  /// x [C, dims axes] or [N, C, dims axes]. Throws ShapeError.
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, weight.size(0), eps_, dims_);
  }

  Tensor weight;
  Tensor bias;
  Tensor running_mean;
  Tensor running_var;

 private:
  double eps_;
  int dims_;
};

/// A layer that normalises `channels` channels of images, or of videos. Throws ValueError where
/// groups is below 1, and as the layer does.
std::unique_ptr<Layer> make_norm2d(const Normalization& choice, int64_t channels);
std::unique_ptr<Layer> make_norm3d(const Normalization& choice, int64_t channels);

}  // namespace ebb::nn::models
