// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/nn/module.h"
#include "ebb/ops/dropout.h"

// Dropout, in training mode only.
namespace ebb::nn {

/// In training sets each element to 0 with probability p and scales the rest by 1/(1-p): Srivastava
/// et al. 2014. Otherwise passes its input on.
class Dropout : public Layer {
 public:
  /// Throws ValueError unless 0 <= p <= 1.
  explicit Dropout(double p = 0.5);
  Dropout(Module& parent, std::string name, double p = 0.5);
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, p_); }

 private:
  double p_;
};

/// What the relatives of Dropout share.
class DropoutLayer : public Layer {
 protected:
  /// Throws ValueError unless 0 <= p <= 1.
  DropoutLayer(const char* layer, double p);
  DropoutLayer(Module& parent, std::string name, const char* layer, double p);
  double p() const { return p_; }

 private:
  double p_;
};

/// Drops whole channels of [C, kDims axes] or [N, C, kDims axes]: Tompson et al. 2015.
template <int kDims>
class ChannelDropout : public DropoutLayer {
 public:
  explicit ChannelDropout(double p = 0.5) : DropoutLayer("Dropout of channels", p) {}
  ChannelDropout(Module& parent, std::string name, double p = 0.5)
      : DropoutLayer(parent, std::move(name), "Dropout of channels", p) {}
  Tensor forward(const Tensor& x) const override {
    return feature_dropout(x, p(), is_training(), -1 - kDims);
  }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, p()); }
};
using Dropout1d = ChannelDropout<1>;
using Dropout2d = ChannelDropout<2>;
using Dropout3d = ChannelDropout<3>;

/// Dropout that keeps mean 0 and variance 1, for networks of SELU: Klambauer et al. 2017.
class AlphaDropout : public DropoutLayer {
 public:
  explicit AlphaDropout(double p = 0.5) : DropoutLayer("AlphaDropout", p) {}
  AlphaDropout(Module& parent, std::string name, double p = 0.5)
      : DropoutLayer(parent, std::move(name), "AlphaDropout", p) {}
  Tensor forward(const Tensor& x) const override { return alpha_dropout(x, p(), is_training()); }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, p()); }
};

}  // namespace ebb::nn
