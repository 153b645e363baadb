// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "ebb/nn/module.h"

// Modules of which a weight is computed from other parameters at each use.
namespace ebb::nn {

/// For as long as it lives, `parameter` yields `value` where it is used, in place of what it owns:
/// gradients then flow to wherever `value` came from. For one thread at a time.
class Substitution {
 public:
  /// Throws ShapeError where the shapes differ.
  Substitution(const Parameter& parameter, Tensor value);
  Substitution(const Substitution&) = delete;
  Substitution& operator=(const Substitution&) = delete;
  ~Substitution() { std::swap(parameter_.leaf().self, value_); }

 private:
  Parameter parameter_;
  Tensor value_;
};

namespace detail {

/// The parameter of a module of this name. Throws ValueError where there is none.
Parameter parameter_named(const char* op, const Module& module, const std::string& name);

/// A module `module` with a parameter that `Self::effective()` computes. A layer stays one, and
/// anything else is called as M is.
template <class Self, class M, class Base>
class Computed : public Base {
 public:
  using Base::Base;
  template <class... Args>
  auto operator()(Args&&... args) const {
    const Self& self = static_cast<const Self&>(*this);
    const Substitution as_computed(self.target(), self.effective());
    return (*self.module)(std::forward<Args>(args)...);
  }
};
template <class Self, class M>
class Computed<Self, M, Layer> : public Layer {
 public:
  using Layer::Layer;
  Tensor forward(const Tensor& x) const override {
    const Self& self = static_cast<const Self&>(*this);
    const Substitution as_computed(self.target(), self.effective());
    return self.module->forward(x);
  }
};
template <class Self, class M>
using ComputedOf =
    Computed<Self, M, std::conditional_t<std::is_base_of_v<Layer, M>, Layer, Module>>;

}  // namespace detail

struct WeightNormOptions {
  std::string name = "weight";  ///< of the parameter
  /// The axis that keeps a length for each index; none: one for all.
  std::optional<int64_t> dim = 0;
};

/// A module whose weight is g v / |v|: its length and its direction learn apart. Salimans and
/// Kingma, "Weight normalization", 2016. Parameters `weight_g` and `weight_v`, which is that of the
/// module, and the module's others under their names, as with PyTorch's weight_norm; and `module`
/// as a whole. The weight is at first what it was.
///
///   nn::WeightNorm<nn::Linear> fc{*this, "fc", std::make_unique<nn::Linear>(784, 128)};
template <class M>
class WeightNorm : public detail::ComputedOf<WeightNorm<M>, M> {
  using Base = detail::ComputedOf<WeightNorm<M>, M>;

 public:
  /// Throws ValueError where there is no parameter of that name, IndexError on a bad axis.
  explicit WeightNorm(std::unique_ptr<M> m, WeightNormOptions options = {})
      : module(std::move(m)), options_(std::move(options)) {
    start();
  }
  WeightNorm(Module& parent, std::string name, std::unique_ptr<M> m, WeightNormOptions options = {})
      : Base(parent, std::move(name)), module(std::move(m)), options_(std::move(options)) {
    start();
  }

  const Parameter& target() const { return target_; }
  /// The weight as it is used.
  Tensor effective() const;
  std::unique_ptr<Module> clone() const override {
    auto copy = std::unique_ptr<M>(static_cast<M*>(module->clone().release()));
    return clone_as(*this, std::move(copy), options_);
  }

  std::unique_ptr<M> module;
  Parameter weight_g;

 private:
  void start();

  WeightNormOptions options_;
  Parameter target_;
};

struct SpectralNormOptions {
  std::string name = "weight";  ///< of the parameter
  int64_t n_power_iterations = 1;
  double eps = 1e-12;  ///< least length of a vector that is divided by it
  /// The axis of the outputs; the others are the inputs together. 1 for transposed convolution.
  int64_t dim = 0;
};

/// A module whose weight is divided by its largest singular value, so that a linear map lengthens
/// no vector: Miyato, Kataoka, Koyama and Yoshida, "Spectral normalization for generative
/// adversarial networks", 2018. That value is u'W v, with u and v brought nearer to the singular
/// vectors by a step of the power method at each use in training. Parameter `weight_orig`, that of
/// the module, and the others under their names; buffers `weight_u` and `weight_v`: as with
/// PyTorch's spectral_norm. A call in training replaces the buffers: for one thread at a time.
template <class M>
class SpectralNorm : public detail::ComputedOf<SpectralNorm<M>, M> {
  using Base = detail::ComputedOf<SpectralNorm<M>, M>;

 public:
  /// Throws ValueError where there is no parameter of that name or n_power_iterations is below 1,
  /// IndexError on a bad axis.
  explicit SpectralNorm(std::unique_ptr<M> m, SpectralNormOptions options = {})
      : module(std::move(m)), options_(std::move(options)) {
    start();
  }
  SpectralNorm(Module& parent, std::string name, std::unique_ptr<M> m,
               SpectralNormOptions options = {})
      : Base(parent, std::move(name)), module(std::move(m)), options_(std::move(options)) {
    start();
  }

  const Parameter& target() const { return target_; }
  /// The weight as it is used; in training this is a use.
  Tensor effective() const;
  std::unique_ptr<Module> clone() const override {
    auto copy = std::unique_ptr<M>(static_cast<M*>(module->clone().release()));
    return clone_as(*this, std::move(copy), options_);
  }

  std::unique_ptr<M> module;
  mutable Tensor weight_u;  ///< [outputs]
  mutable Tensor weight_v;  ///< [inputs]

 private:
  void start();

  SpectralNormOptions options_;
  Parameter target_;
};

namespace detail {

/// First lengths of a weight, of the shape that weight_norm() wants.
Tensor lengths_of(const Tensor& weight, std::optional<int64_t> dim);
Tensor normed_weight(const Tensor& v, const Tensor& g, std::optional<int64_t> dim);
/// Random vectors of length 1, some steps of the power method on.
void start_spectral(const Tensor& weight, const SpectralNormOptions& options, Tensor* u, Tensor* v);
/// Some steps of it.
void power_method(const Tensor& weight, const SpectralNormOptions& options, int64_t steps,
                  Tensor* u, Tensor* v);
Tensor spectral_weight(const Tensor& weight, const SpectralNormOptions& options, const Tensor& u,
                       const Tensor& v);

}  // namespace detail

template <class M>
void WeightNorm<M>::start() {
  target_ = detail::parameter_named("WeightNorm", *module, options_.name);
  const std::string& name = options_.name;
  weight_g = this->register_parameter(name + "_g", detail::lengths_of(target_, options_.dim));
  this->register_parameter(name + "_v", target_);
  for (const auto& [other, p] : module->named_parameters()) {
    const bool direct = other.find('.') == std::string::npos;
    if (direct && other != name) this->register_parameter(other, p);
  }
  this->adopt("module", *module);
}

template <class M>
Tensor WeightNorm<M>::effective() const {
  return detail::normed_weight(target_, weight_g, options_.dim);
}

template <class M>
void SpectralNorm<M>::start() {
  target_ = detail::parameter_named("SpectralNorm", *module, options_.name);
  const std::string& name = options_.name;
  detail::start_spectral(target_, options_, &weight_u, &weight_v);
  this->register_parameter(name + "_orig", target_);
  for (const auto& [other, p] : module->named_parameters()) {
    const bool direct = other.find('.') == std::string::npos;
    if (direct && other != name) this->register_parameter(other, p);
  }
  this->register_buffer(name + "_u", &weight_u);
  this->register_buffer(name + "_v", &weight_v);
  this->adopt("module", *module);
}

template <class M>
Tensor SpectralNorm<M>::effective() const {
  if (this->is_training()) {
    detail::power_method(target_, options_, options_.n_power_iterations, &weight_u, &weight_v);
  }
  return detail::spectral_weight(target_, options_, weight_u, weight_v);
}

}  // namespace ebb::nn
