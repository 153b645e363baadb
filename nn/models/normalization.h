// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "ebb/nn/norm.h"

namespace ebb::nn::models {

/// What normalises the channels of a network for images.
struct Normalization {
  enum class Kind : uint8_t {
    kBatch,  ///< BatchNorm2d: PyTorch's weights fit
    kGroup,  ///< GroupNorm, the same for one sample as for many, in training as in evaluation
  };
  Kind kind = Kind::kBatch;
  BatchNormOptions batch = {};
  /// Of kGroup: groups, fewer where they do not divide the channels.
  int64_t groups = 8;
};

/// A layer that normalises `channels` channels of images. Throws ValueError where groups is below
/// 1, and as the layer does.
std::unique_ptr<Layer> make_norm2d(const Normalization& choice, int64_t channels);

}  // namespace ebb::nn::models
