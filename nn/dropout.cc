// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/dropout.h"

#include "absl/strings/str_cat.h"
#include "ebb/ops/random.h"

namespace ebb::nn {

namespace {

double checked_probability(const char* layer, double p) {
  if (p >= 0 && p <= 1) return p;
  throw ValueError(absl::StrCat(layer, ": p is ", p, "; it must be in [0, 1]"));
}

}  // namespace

Dropout::Dropout(double p) : p_(checked_probability("Dropout", p)) {}

Dropout::Dropout(Module& parent, std::string name, double p)
    : Layer(parent, std::move(name)), p_(checked_probability("Dropout", p)) {}

Tensor Dropout::forward(const Tensor& x) const { return dropout(x, p_, is_training()); }

DropoutLayer::DropoutLayer(const char* layer, double p) : p_(checked_probability(layer, p)) {}

DropoutLayer::DropoutLayer(Module& parent, std::string name, const char* layer, double p)
    : Layer(parent, std::move(name)), p_(checked_probability(layer, p)) {}

}  // namespace ebb::nn
