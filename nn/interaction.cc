// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/interaction.h"

#include "absl/strings/str_cat.h"
#include "ebb/nn/init.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

namespace ebb::nn {

LowRankBilinear::LowRankBilinear(int64_t in1, int64_t in2, int64_t rank, int64_t out,
                                 LinearOptions options)
    : factor1(*this, "factor1", in1, rank, {.bias = false}),
      factor2(*this, "factor2", in2, rank, {.bias = false}),
      pool(*this, "pool", rank, out, options) {}

LowRankBilinear::LowRankBilinear(Module& parent, std::string name, int64_t in1, int64_t in2,
                                 int64_t rank, int64_t out, LinearOptions options)
    : Module(parent, std::move(name)),
      factor1(*this, "factor1", in1, rank, {.bias = false}),
      factor2(*this, "factor2", in2, rank, {.bias = false}),
      pool(*this, "pool", rank, out, options) {}

Tensor LowRankBilinear::operator()(const Tensor& x1, const Tensor& x2, Where where) const {
  const ebb::detail::PlaceScope scope(where);
  return pool(factor1(x1) * factor2(x2));
}

std::unique_ptr<Module> LowRankBilinear::clone() const {
  return clone_as(*this, factor1.weight.size(1), factor2.weight.size(1), pool.weight.size(1),
                  pool.weight.size(0), LinearOptions{.bias = pool.bias.defined()});
}

FactoredGate::FactoredGate(int64_t x_size, int64_t y_size, int64_t h_size, int64_t factors) {
  start(x_size, y_size, h_size, factors);
}

FactoredGate::FactoredGate(Module& parent, std::string name, int64_t x_size, int64_t y_size,
                           int64_t h_size, int64_t factors)
    : Module(parent, std::move(name)) {
  start(x_size, y_size, h_size, factors);
}

void FactoredGate::start(int64_t x_size, int64_t y_size, int64_t h_size, int64_t factors) {
  if (x_size < 1 || y_size < 1 || h_size < 1 || factors < 1) {
    throw ValueError(absl::StrCat("FactoredGate: the sizes are ",
                                  Shape{x_size, y_size, h_size, factors}.str(),
                                  "; each must be at least 1"));
  }
  const auto weight = [&](const char* name, int64_t size) {
    Parameter p = register_parameter(name, zeros({factors, size}));
    init::normal_(p, 0, 0.01);
    return p;
  };
  weight_x = weight("weight_x", x_size);
  weight_y = weight("weight_y", y_size);
  weight_h = weight("weight_h", h_size);
  bias_y = register_parameter("bias_y", zeros({y_size}));
  bias_h = register_parameter("bias_h", zeros({h_size}));
}

Tensor FactoredGate::operator()(const Tensor& x, const Tensor& y, Where where) const {
  const ebb::detail::PlaceScope scope(where);
  return linear(linear(x, weight_x) * linear(y, weight_y), t(weight_h), bias_h);
}

Tensor FactoredGate::output(const Tensor& x, const Tensor& h, Where where) const {
  const ebb::detail::PlaceScope scope(where);
  return linear(linear(x, weight_x) * linear(h, weight_h), t(weight_y), bias_y);
}

Tensor FactoredGate::energy(const Tensor& x, const Tensor& y, const Tensor& h, Where where) const {
  const ebb::detail::PlaceScope scope(where);
  const Tensor drive = linear(x, weight_x) * linear(y, weight_y) * linear(h, weight_h);
  return -(sum(drive, -1) + sum(h * bias_h, -1) + sum(y * bias_y, -1));
}

std::unique_ptr<Module> FactoredGate::clone() const {
  return clone_as(*this, weight_x.size(1), weight_y.size(1), weight_h.size(1), weight_x.size(0));
}

Tensor film(const Tensor& x, const Tensor& gamma, const Tensor& beta, int64_t axis, Where where) {
  const ebb::detail::PlaceScope scope(where);
  const int at = normalize_axis(axis, x.dim(), "film");
  const Shape shape = x.shape();
  const Shape g = gamma.shape();
  const bool samples = g.rank() == 2;
  const bool fits = g == beta.shape() && !shape.empty() && (samples || g.rank() == 1) &&
                    g[g.rank() - 1] == shape[at] && (!samples || g[0] == shape[0]);
  if (!fits) {
    throw ShapeError(absl::StrCat("film: x is ", shape.str(), ", gamma is ", g.str(), ", beta is ",
                                  beta.shape().str(), "; they must have x.size(", at,
                                  ") elements, or so many for each sample of x"));
  }
  if (samples && at == 0) {
    throw ValueError(absl::StrCat("film: gamma is ", g.str(),
                                  "; the axis of the features is 0, that of the samples"));
  }
  Shape like;
  for (int i = samples ? 0 : at; i < shape.rank(); ++i) {
    like.push_back(i == at || (samples && i == 0) ? shape[i] : 1);
  }
  return x * reshape(gamma, like) + reshape(beta, like);
}

FiLM::FiLM(int64_t condition, int64_t features, FiLMOptions options)
    : generator(*this, "generator", condition, 2 * features), options_(options) {}

FiLM::FiLM(Module& parent, std::string name, int64_t condition, int64_t features,
           FiLMOptions options)
    : Module(parent, std::move(name)),
      generator(*this, "generator", condition, 2 * features),
      options_(options) {}

Tensor FiLM::operator()(const Tensor& x, const Tensor& condition, Where where) const {
  const ebb::detail::PlaceScope scope(where);
  const Tensor both = generator(condition);
  const int64_t features = both.size(-1) / 2;
  return film(x, narrow(both, -1, 0, features) + 1, narrow(both, -1, features, features),
              options_.axis);
}

std::unique_ptr<Module> FiLM::clone() const {
  return clone_as(*this, generator.weight.size(1), generator.weight.size(0) / 2, options_);
}

}  // namespace ebb::nn
