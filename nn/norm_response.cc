// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/norm_response.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/norm.h"
#include "ebb/ops/unary.h"

namespace ebb::nn {

LocalResponseNorm::LocalResponseNorm(int64_t size, LocalResponseNormOptions options)
    : size_(size), options_(options) {
  check();
}

LocalResponseNorm::LocalResponseNorm(Module& parent, std::string name, int64_t size,
                                     LocalResponseNormOptions options)
    : Layer(parent, std::move(name)), size_(size), options_(options) {
  check();
}

void LocalResponseNorm::check() const {
  if (size_ >= 1 && options_.dims >= 0) return;
  throw ValueError(absl::StrCat("LocalResponseNorm: size is ", size_, ", dims ", options_.dims,
                                "; they must be at least 1 and 0"));
}

Tensor LocalResponseNorm::forward(const Tensor& x) const {
  return local_response_norm(x, size_, options_.alpha, options_.beta, options_.k,
                             -1 - options_.dims);
}

namespace {

constexpr double kPedestal = 0x1p-36;

// What a parameter stands for: its square from a bound on, at least `least`.
Tensor positive(const Tensor& p, double least) {
  return affine(square(clamp(p, std::sqrt(least + kPedestal), INFINITY)), 1, -kPedestal);
}

}  // namespace

GDN::GDN(int64_t channels, GDNOptions options) : options_(options) { start(channels); }

GDN::GDN(Module& parent, std::string name, int64_t channels, GDNOptions options)
    : Layer(parent, std::move(name)), options_(options) {
  start(channels);
}

void GDN::start(int64_t channels) try {
  if (channels < 1 || options_.dims < 0 || !(options_.beta_min >= 0) ||
      !(options_.gamma_init >= 0)) {
    throw ValueError(absl::StrCat("GDN: channels is ", channels, ", dims ", options_.dims,
                                  ", beta_min ", options_.beta_min, ", gamma_init ",
                                  options_.gamma_init,
                                  "; channels must be at least 1, the others not negative"));
  }
  beta = register_parameter("beta", sqrt(affine(ones({channels}), 1, kPedestal)));
  gamma = register_parameter("gamma", sqrt(affine(eye(channels), options_.gamma_init, kPedestal)));
} catch (const Error&) {
  ebb::detail::rethrow_as("GDN");
}

Tensor GDN::forward(const Tensor& x) const {
  return gdn(x, positive(beta, options_.beta_min), positive(gamma, 0), options_.inverse,
             -1 - options_.dims);
}

Tensor LocalContrastNorm::forward(const Tensor& x) const {
  return local_contrast_norm(x, options_.radius, options_.sigma, options_.eps);
}

}  // namespace ebb::nn
