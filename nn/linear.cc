// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/linear.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/nn/init.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/shape.h"

namespace ebb::nn {

namespace {

void require_sizes(const char* layer, std::initializer_list<int64_t> sizes) {
  for (int64_t n : sizes) {
    if (n >= 1) continue;
    throw ValueError(
        absl::StrCat(layer, ": the sizes are ", Shape(sizes).str(), "; each must be at least 1"));
  }
}

}  // namespace

Linear::Linear(int64_t in, int64_t out, LinearOptions options) { start(in, out, options); }

Linear::Linear(Module& parent, std::string name, int64_t in, int64_t out, LinearOptions options)
    : Layer(parent, std::move(name)) {
  start(in, out, options);
}

void Linear::start(int64_t in, int64_t out, LinearOptions options) try {
  require_sizes("Linear", {in, out});
  const double bound = 1 / std::sqrt(static_cast<double>(in));
  weight = register_parameter("weight", zeros({out, in}));
  init::uniform_(weight, -bound, bound);
  if (!options.bias) return;
  bias = register_parameter("bias", zeros({out}));
  init::uniform_(bias, -bound, bound);
} catch (const Error&) {
  ebb::detail::rethrow_as("Linear");
}

Tensor Linear::forward(const Tensor& x) const {
  return bias.defined() ? linear(x, weight, bias) : linear(x, weight);
}

std::unique_ptr<Module> Linear::clone() const {
  return clone_as(*this, weight.size(1), weight.size(0), LinearOptions{.bias = bias.defined()});
}

Bilinear::Bilinear(int64_t in1, int64_t in2, int64_t out, LinearOptions options) {
  start(in1, in2, out, options);
}

Bilinear::Bilinear(Module& parent, std::string name, int64_t in1, int64_t in2, int64_t out,
                   LinearOptions options)
    : Module(parent, std::move(name)) {
  start(in1, in2, out, options);
}

void Bilinear::start(int64_t in1, int64_t in2, int64_t out, LinearOptions options) try {
  require_sizes("Bilinear", {in1, in2, out});
  const double bound = 1 / std::sqrt(static_cast<double>(in1));
  weight = register_parameter("weight", zeros({out, in1, in2}));
  init::uniform_(weight, -bound, bound);
  if (!options.bias) return;
  bias = register_parameter("bias", zeros({out}));
  init::uniform_(bias, -bound, bound);
} catch (const Error&) {
  ebb::detail::rethrow_as("Bilinear");
}

Tensor Bilinear::operator()(const Tensor& x1, const Tensor& x2, Where where) const {
  const ebb::detail::PlaceScope scope(where);
  const int64_t out = weight.size(0);
  const int64_t in1 = weight.size(1);
  const int64_t in2 = weight.size(2);
  if (x1.shape() != Shape{in1} || x2.shape() != Shape{in2}) {
    throw ShapeError(absl::StrCat("Bilinear: x1 is ", x1.shape().str(), ", x2 is ",
                                  x2.shape().str(), "; the weight is ", weight.shape().str()));
  }
  // All rows of all W[k] times x2 in one product, then each k's against x1.
  const Tensor right = mv(reshape(weight, {out * in1, in2}), x2);
  const Tensor y = mv(reshape(right, {out, in1}), x1);
  return bias.defined() ? y + bias : y;
}

std::unique_ptr<Module> Bilinear::clone() const {
  return clone_as(*this, weight.size(1), weight.size(2), weight.size(0),
                  LinearOptions{.bias = bias.defined()});
}

}  // namespace ebb::nn
