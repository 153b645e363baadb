// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/weight_norm.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/norm.h"
#include "ebb/ops/random.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"

namespace ebb::nn {

Substitution::Substitution(const Parameter& parameter, Tensor value)
    : parameter_(parameter), value_(std::move(value)) {
  if (parameter.shape() != value_.shape()) {
    throw ShapeError(absl::StrCat("Substitution: the parameter is ", parameter.shape().str(),
                                  ", the value is ", value_.shape().str(),
                                  "; the shapes must be the same"));
  }
  std::swap(parameter_.leaf().self, value_);
}

namespace detail {

Parameter parameter_named(const char* op, const Module& module, const std::string& name) {
  for (const auto& [n, p] : module.named_parameters()) {
    if (n == name) return p;
  }
  throw ValueError(absl::StrCat(op, ": the module has no parameter '", name, "'"));
}

Tensor lengths_of(const Tensor& weight, std::optional<int64_t> dim) {
  const NoGradGuard no_grad;
  if (!dim) return norm(weight);
  const int axis = normalize_axis(*dim, weight.dim(), "WeightNorm");
  std::vector<int64_t> others;
  for (int64_t i = 0; i < weight.dim(); ++i) {
    if (i != axis) others.push_back(i);
  }
  if (others.empty()) return abs(weight);
  return norm(weight, 2, Axes(Span<const int64_t>(others)), true);
}

Tensor normed_weight(const Tensor& v, const Tensor& g, std::optional<int64_t> dim) {
  return weight_norm(v, g, dim);
}

namespace {

// [outputs, inputs].
Tensor as_matrix(const Tensor& weight, const SpectralNormOptions& options) {
  const int axis = normalize_axis(options.dim, weight.dim(), "SpectralNorm");
  const Tensor front = axis == 0 ? weight : transpose(weight, 0, axis);
  return reshape(front, {front.size(0), front.numel() / std::max<int64_t>(front.size(0), 1)});
}

Tensor of_length_one(const Tensor& x, double eps) { return x / std::max(norm(x).item(), eps); }

}  // namespace

void power_method(const Tensor& weight, const SpectralNormOptions& options, int64_t steps,
                  Tensor* u, Tensor* v) {
  const NoGradGuard no_grad;
  const Tensor w = as_matrix(weight.detach(), options);
  for (int64_t i = 0; i < steps; ++i) {
    const Tensor image = mv(t(w), *u);
    // Of weights that have no values yet, u and v would be 0 for good.
    if (norm(image).item() == 0) return;
    *v = of_length_one(image, options.eps);
    *u = of_length_one(mv(w, *v), options.eps);
  }
}

void start_spectral(const Tensor& weight, const SpectralNormOptions& options, Tensor* u,
                    Tensor* v) {
  if (options.n_power_iterations < 1) {
    throw ValueError(absl::StrCat("SpectralNorm: n_power_iterations is ",
                                  options.n_power_iterations, "; it must be at least 1"));
  }
  const NoGradGuard no_grad;
  const Tensor w = as_matrix(weight, options);
  *u = of_length_one(randn({w.size(0)}, {.dtype = w.dtype()}), options.eps);
  *v = of_length_one(randn({w.size(1)}, {.dtype = w.dtype()}), options.eps);
  constexpr int64_t kFirstSteps = 15;
  power_method(weight, options, kFirstSteps, u, v);
}

Tensor spectral_weight(const Tensor& weight, const SpectralNormOptions& options, const Tensor& u,
                       const Tensor& v) {
  return weight / dot(u, mv(as_matrix(weight, options), v));
}

}  // namespace detail

}  // namespace ebb::nn
