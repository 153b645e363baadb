// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "ebb/nn/module.h"
#include "ebb/ops/upsample.h"

// Layers that change the size of images; see ops/upsample.h. They have no parameters.
namespace ebb::nn {

/// Resamples: Upsample{*this, "up", {.scale_factor = {2, 2}, .mode = InterpolateMode::kBilinear}}.
class Upsample : public Layer {
 public:
  explicit Upsample(InterpolateOptions options) : options_(std::move(options)) {}
  Upsample(Module& parent, std::string name, InterpolateOptions options)
      : Layer(parent, std::move(name)), options_(std::move(options)) {}
  Tensor forward(const Tensor& x) const override { return interpolate(x, options_); }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

 private:
  InterpolateOptions options_;
};

/// Channels made resolution.
class PixelShuffle : public Layer {
 public:
  explicit PixelShuffle(int64_t upscale_factor) : factor_(upscale_factor) {}
  PixelShuffle(Module& parent, std::string name, int64_t upscale_factor)
      : Layer(parent, std::move(name)), factor_(upscale_factor) {}
  Tensor forward(const Tensor& x) const override { return pixel_shuffle(x, factor_); }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, factor_); }

 private:
  int64_t factor_;
};

/// Resolution made channels.
class PixelUnshuffle : public Layer {
 public:
  explicit PixelUnshuffle(int64_t downscale_factor) : factor_(downscale_factor) {}
  PixelUnshuffle(Module& parent, std::string name, int64_t downscale_factor)
      : Layer(parent, std::move(name)), factor_(downscale_factor) {}
  Tensor forward(const Tensor& x) const override { return pixel_unshuffle(x, factor_); }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, factor_); }

 private:
  int64_t factor_;
};

}  // namespace ebb::nn
