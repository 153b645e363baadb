// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ebb/nn/conv.h"
#include "ebb/nn/module_list.h"
#include "ebb/nn/sequential.h"

namespace ebb::nn::models {

/// Coarser levels on top of a pyramid.
enum class ExtraLevels : uint8_t {
  kNone,
  kMaxPool,           ///< one: every second place of the coarsest
  kP6P7,              ///< two, by 3x3 of stride 2 from the coarsest: Lin et al. 2017, "Focal loss"
  kP6P7FromFeatures,  ///< the same from the coarsest of the backbone's features, as in the paper
};

struct FeaturePyramidOptions {
  std::vector<int64_t> in_channels = {};  ///< of the features, from fine to coarse
  int64_t out_channels = 256;             ///< of every level
  ExtraLevels extra = ExtraLevels::kNone;
};

/// Feature pyramid network: maps of features that get coarser and say more, brought to equal
/// channels, each with what is coarser added to it: Lin, Dollar, Girshick, He, Hariharan, Belongie
/// 2017, "Feature pyramid networks for object detection". Names of parameters are torchvision's,
/// `inner_blocks.N.0`, `layer_blocks.N.0`, `extra_blocks.p6` and `extra_blocks.p7`, whose weights
/// fit.
class FeaturePyramidNetwork : public Module {
 public:
  /// Throws ValueError where a size is below 1 or there are no in_channels.
  explicit FeaturePyramidNetwork(FeaturePyramidOptions options);
  FeaturePyramidNetwork(Module& parent, std::string name, FeaturePyramidOptions options);

  /// Of features [in_channels[i],H_i,W_i], or of batches, from fine to coarse, levels
  /// [out_channels,H_i,W_i], and the extra ones behind them. Throws ShapeError.
  std::vector<Tensor> operator()(Span<const Tensor> features, Where where = Where::current()) const;
  /// How many levels there are.
  size_t levels() const;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

 private:
  struct Extra : Module {
    using Module::Module;
    std::unique_ptr<Conv2d> p6;
    std::unique_ptr<Conv2d> p7;
    void start(int64_t in_channels, int64_t out_channels);
  };
  void start();

  FeaturePyramidOptions options_;
  ModuleList<Sequential> inner_blocks_{*this, "inner_blocks"};
  ModuleList<Sequential> layer_blocks_{*this, "layer_blocks"};
  Extra extra_blocks_{*this, "extra_blocks"};
};

}  // namespace ebb::nn::models
