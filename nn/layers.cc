// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/layers.h"

#include "absl/strings/str_cat.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/random.h"
#include "ebb/ops/reduce.h"

namespace ebb::nn {

namespace {

double checked_probability(double p) {
  if (p >= 0 && p <= 1) return p;
  throw ValueError(absl::StrCat("Dropout: p is ", p, "; it must be in [0, 1]"));
}

}  // namespace

Dropout::Dropout(double p) : p_(checked_probability(p)) {}

Dropout::Dropout(Module& parent, std::string name, double p)
    : Layer(parent, std::move(name)), p_(checked_probability(p)) {}

Tensor Dropout::operator()(const Tensor& x) const { return dropout(x, p_, is_training()); }

LayerNorm::LayerNorm(const Shape& normalized_shape, LayerNormOptions options)
    : shape_(normalized_shape), options_(options) {
  start();
}

LayerNorm::LayerNorm(Module& parent, std::string name, const Shape& normalized_shape,
                     LayerNormOptions options)
    : Layer(parent, std::move(name)), shape_(normalized_shape), options_(options) {
  start();
}

void LayerNorm::start() {
  if (shape_.rank() == 0 || shape_.numel() < 1) {
    throw ValueError(absl::StrCat("LayerNorm: normalized_shape is ", shape_.str(),
                                  "; it must have at least one axis and one element"));
  }
  if (!options_.elementwise_affine) return;
  weight = register_parameter("weight", ones(shape_));
  bias = register_parameter("bias", zeros(shape_));
}

Tensor LayerNorm::operator()(const Tensor& x) const {
  const Shape shape = x.shape();
  const int lead = shape.rank() - shape_.rank();
  bool fits = lead >= 0;
  Shape axes;
  for (int i = 0; i < shape_.rank() && fits; ++i) {
    fits = shape[lead + i] == shape_[i];
    axes.push_back(lead + i);
  }
  if (!fits) {
    throw ShapeError(
        absl::StrCat("LayerNorm: x is ", shape.str(), "; it must end in ", shape_.str()));
  }
  const Axes over{Span<const int64_t>(axes.begin(), static_cast<size_t>(axes.rank()))};
  const Tensor centred = x - mean(x, over, true);
  const Tensor y = centred * rsqrt(mean(square(centred), over, true) + options_.eps);
  return weight.defined() ? y * weight + bias : y;
}

}  // namespace ebb::nn
