// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "ebb/nn/module.h"

namespace ebb::nn {

/// Layers one after the other, named "0", "1", ...:
///
///   nn::Sequential net;
///   net.add<nn::Linear>(784, 128);
///   net.add<nn::ReLU>();
class Sequential : public Layer {
 public:
  using Layer::Layer;

  /// Makes a layer at the end and gives it back.
  template <class L, class... Args>
  L& add(Args&&... args) {
    return static_cast<L&>(append(std::make_unique<L>(std::forward<Args>(args)...)));
  }
  /// Takes over a layer that was made by itself. Throws ValueError where it is null or a part of
  /// another module.
  Layer& append(std::unique_ptr<Layer> layer);

  size_t size() const { return layers_.size(); }
  /// Throws IndexError.
  Layer& operator[](size_t i) const;

  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override;

 private:
  std::vector<std::unique_ptr<Layer>> layers_;
};

}  // namespace ebb::nn
