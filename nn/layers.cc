// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/layers.h"

#include "absl/strings/str_cat.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/norm.h"
#include "ebb/ops/random.h"

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

Tensor Dropout::forward(const Tensor& x) const { return dropout(x, p_, is_training()); }

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

Tensor LayerNorm::forward(const Tensor& x) const {
  if (!weight.defined()) return layer_norm(x, shape_, Tensor(), Tensor(), options_.eps);
  return layer_norm(x, shape_, weight, bias, options_.eps);
}

}  // namespace ebb::nn
