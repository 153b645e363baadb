// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "ebb/nn/module.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/softmax.h"
#include "ebb/ops/unary.h"

// Activations as layers; what they compute is said in ops/activation.h and ops/softmax.h.
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
EBB_ACTIVATION(ReLU6, relu6(x));
EBB_ACTIVATION(Hardsigmoid, hardsigmoid(x));
EBB_ACTIVATION(Hardswish, hardswish(x));
EBB_ACTIVATION(Tanhshrink, tanhshrink(x));
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
EBB_ACTIVATION_OF(CELU, celu, alpha, 1.0);
EBB_ACTIVATION_OF(Softshrink, softshrink, lambda, 0.5);
EBB_ACTIVATION_OF(Hardshrink, hardshrink, lambda, 0.5);
#undef EBB_ACTIVATION_OF

// Those that work along an axis.
#define EBB_ACTIVATION_ALONG(Name, function)                                          \
  class Name : public Layer {                                                         \
   public:                                                                            \
    explicit Name(int64_t axis = -1) : axis_(axis) {}                                 \
    Name(Module& parent, std::string name, int64_t axis = -1)                         \
        : Layer(parent, std::move(name)), axis_(axis) {}                              \
    Tensor forward(const Tensor& x) const override { return function(x, axis_); }     \
    std::unique_ptr<Module> clone() const override { return clone_as(*this, axis_); } \
                                                                                      \
   private:                                                                           \
    int64_t axis_;                                                                    \
  }

EBB_ACTIVATION_ALONG(Softmax, softmax);
EBB_ACTIVATION_ALONG(LogSoftmax, log_softmax);
EBB_ACTIVATION_ALONG(Softmin, softmin);
EBB_ACTIVATION_ALONG(Sparsemax, sparsemax);
EBB_ACTIVATION_ALONG(Entmax15, entmax15);
EBB_ACTIVATION_ALONG(GLU, glu);
EBB_ACTIVATION_ALONG(ReGLU, reglu);
EBB_ACTIVATION_ALONG(GEGLU, geglu);
EBB_ACTIVATION_ALONG(SwiGLU, swiglu);
#undef EBB_ACTIVATION_ALONG

/// The largest of every `pieces` neighbours along `axis`.
class Maxout : public Layer {
 public:
  explicit Maxout(int64_t pieces, int64_t axis = -1) : pieces_(pieces), axis_(axis) {}
  Maxout(Module& parent, std::string name, int64_t pieces, int64_t axis = -1)
      : Layer(parent, std::move(name)), pieces_(pieces), axis_(axis) {}
  Tensor forward(const Tensor& x) const override { return maxout(x, pieces_, axis_); }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, pieces_, axis_); }

 private:
  int64_t pieces_;
  int64_t axis_;
};

/// x where x > threshold, else value.
class Threshold : public Layer {
 public:
  Threshold(double threshold, double value) : threshold_(threshold), value_(value) {}
  Threshold(Module& parent, std::string name, double threshold, double value)
      : Layer(parent, std::move(name)), threshold_(threshold), value_(value) {}
  Tensor forward(const Tensor& x) const override { return threshold(x, threshold_, value_); }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, threshold_, value_); }

 private:
  double threshold_;
  double value_;
};

/// leaky_relu with slopes drawn from U(lower, upper) in training, and their mean otherwise.
class RReLU : public Layer {
 public:
  explicit RReLU(double lower = 1.0 / 8, double upper = 1.0 / 3) : lower_(lower), upper_(upper) {}
  RReLU(Module& parent, std::string name, double lower = 1.0 / 8, double upper = 1.0 / 3)
      : Layer(parent, std::move(name)), lower_(lower), upper_(upper) {}
  Tensor forward(const Tensor& x) const override { return rrelu(x, lower_, upper_, is_training()); }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, lower_, upper_); }

 private:
  double lower_;
  double upper_;
};

struct PReLUOptions {
  double init = 0.25;
  int dims = 2;  ///< axes behind the channels, as of GroupNorm
};

/// x where x > 0, else weight x, with a parameter `weight` [num_parameters]: one for all, or one
/// for each channel of [C, dims axes] or [N, C, dims axes].
class PReLU : public Layer {
 public:
  /// Throws ValueError where num_parameters is below 1 or dims negative.
  explicit PReLU(int64_t num_parameters = 1, PReLUOptions options = {});
  PReLU(Module& parent, std::string name, int64_t num_parameters = 1, PReLUOptions options = {});
  Tensor forward(const Tensor& x) const override { return prelu(x, weight, -1 - options_.dims); }
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, weight.size(0), options_);
  }

  Parameter weight;

 private:
  void start(int64_t num_parameters);

  PReLUOptions options_;
};

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

}  // namespace ebb::nn
