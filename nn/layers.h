// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "ebb/nn/module.h"
#include "ebb/nn/norm.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/unary.h"

// Layers that keep nothing: activations and dropout. Normalisation is in nn/norm.h.
namespace ebb::nn {

// One activation is one line: its name, its options with their defaults, its function.
#define EBB_ACTIVATION(Name, call)                                             \
  class Name : public Layer {                                                  \
   public:                                                                     \
    Name() = default;                                                          \
    Name(Module& parent, std::string name) : Layer(parent, std::move(name)) {} \
    Tensor forward(const Tensor& x) const override { return call; }            \
    std::unique_ptr<Module> clone() const override { return clone_as(*this); } \
  }

EBB_ACTIVATION(ReLU, relu(x));
EBB_ACTIVATION(SELU, selu(x));
EBB_ACTIVATION(GELU, gelu(x));
EBB_ACTIVATION(SiLU, silu(x));
EBB_ACTIVATION(Mish, mish(x));
EBB_ACTIVATION(Sigmoid, sigmoid(x));
EBB_ACTIVATION(LogSigmoid, logsigmoid(x));
EBB_ACTIVATION(Softplus, softplus(x));
EBB_ACTIVATION(Tanh, tanh(x));
EBB_ACTIVATION(Softsign, softsign(x));
#undef EBB_ACTIVATION

// The activations with one number to set.
#define EBB_ACTIVATION_OF(Name, function, parameter, initial)                                \
  class Name : public Layer {                                                                \
   public:                                                                                   \
    explicit Name(double parameter = initial) : parameter##_(parameter) {}                   \
    Name(Module& parent, std::string name, double parameter = initial)                       \
        : Layer(parent, std::move(name)), parameter##_(parameter) {}                         \
    Tensor forward(const Tensor& x) const override { return function(x, parameter##_); }     \
    std::unique_ptr<Module> clone() const override { return clone_as(*this, parameter##_); } \
                                                                                             \
   private:                                                                                  \
    double parameter##_;                                                                     \
  }

EBB_ACTIVATION_OF(LeakyReLU, leaky_relu, slope, 0.01);
EBB_ACTIVATION_OF(ELU, elu, alpha, 1.0);
EBB_ACTIVATION_OF(Softshrink, softshrink, lambda, 0.5);
EBB_ACTIVATION_OF(Hardshrink, hardshrink, lambda, 0.5);
#undef EBB_ACTIVATION_OF

class Hardtanh : public Layer {
 public:
  explicit Hardtanh(double low = -1, double high = 1) : low_(low), high_(high) {}
  Hardtanh(Module& parent, std::string name, double low = -1, double high = 1)
      : Layer(parent, std::move(name)), low_(low), high_(high) {}
  Tensor forward(const Tensor& x) const override { return hardtanh(x, low_, high_); }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, low_, high_); }

 private:
  double low_;
  double high_;
};

/// In training sets each element to 0 with probability p and scales the rest by 1/(1-p): Srivastava
/// et al. 2014. Otherwise passes its input on.
class Dropout : public Layer {
 public:
  /// Throws ValueError unless 0 <= p <= 1.
  explicit Dropout(double p = 0.5);
  Dropout(Module& parent, std::string name, double p = 0.5);
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, p_); }

 private:
  double p_;
};

}  // namespace ebb::nn
