// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/sequential.h"

#include "absl/strings/str_cat.h"

namespace ebb::nn {

Layer& Sequential::append(std::unique_ptr<Layer> layer) {
  if (layer == nullptr) throw ValueError("Sequential: the layer is null");
  adopt(absl::StrCat(layers_.size()), *layer);
  layers_.push_back(std::move(layer));
  return *layers_.back();
}

Layer& Sequential::operator[](size_t i) const {
  if (i >= layers_.size()) {
    throw IndexError(absl::StrCat("Sequential: layer ", i, " of ", layers_.size()));
  }
  return *layers_[i];
}

Tensor Sequential::forward(const Tensor& x) const {
  Tensor y = x;
  for (const auto& layer : layers_) y = (*layer)(y);
  return y;
}

std::unique_ptr<Module> Sequential::clone() const {
  auto copy = std::make_unique<Sequential>();
  for (const auto& layer : layers_) {
    std::unique_ptr<Module> part = layer->clone();
    auto* same = dynamic_cast<Layer*>(part.get());
    if (same == nullptr) throw Error("Sequential: clone() of a layer did not give a layer");
    (void)part.release();
    copy->append(std::unique_ptr<Layer>(same));
  }
  copy->copy_modes(*this);
  return copy;
}

}  // namespace ebb::nn
