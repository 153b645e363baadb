// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/nn/linear.h"

// Layers in which inputs multiply each other. nn::Bilinear has a weight for every pair of elements;
// these have fewer.
namespace ebb::nn {

/// y = P (U x1 * V x2) + b, a bilinear form of rank `rank`: Kim et al., "Hadamard product for
/// low-rank bilinear pooling", 2017. x1 [...,in1] and x2 [...,in2] to [...,out]; the axes in front
/// broadcast. Parameters `factor1.weight` U [rank,in1], `factor2.weight` V [rank,in2],
/// `pool.weight` P [out,rank] and `pool.bias` b [out], each drawn as Linear's.
class LowRankBilinear : public Module {
 public:
  /// Throws ValueError where a size is below 1.
  LowRankBilinear(int64_t in1, int64_t in2, int64_t rank, int64_t out, LinearOptions options = {});
  LowRankBilinear(Module& parent, std::string name, int64_t in1, int64_t in2, int64_t rank,
                  int64_t out, LinearOptions options = {});

  /// Throws ShapeError where an input does not fit its weight or the other.
  Tensor operator()(const Tensor& x1, const Tensor& x2, Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override;

  Linear factor1;
  Linear factor2;
  Linear pool;
};

/// Three vectors whose triple products have a weight of rank `factors`: gated units, whose mapping
/// units h tell how an input x is turned into an output y. Memisevic and Hinton, "Unsupervised
/// learning of image transformations", 2007, in the factored form of their "Learning to represent
/// spatial transformations with factored higher-order Boltzmann machines", 2010:
///
///   E(x, y, h) = - sum_f (Wx x)_f (Wy y)_f (Wh h)_f - b' h - a' y
///
/// Any two of the three give the third. Parameters `weight_x` [factors,x], `weight_y` [factors,y],
/// `weight_h` [factors,h], drawn from N(0, 0.01^2), `bias_y` a [y] and `bias_h` b [h] of zeros. The
/// vectors may have axes in front, which broadcast.
class FactoredGate : public Module {
 public:
  /// Throws ValueError where a size is below 1.
  FactoredGate(int64_t x_size, int64_t y_size, int64_t h_size, int64_t factors);
  FactoredGate(Module& parent, std::string name, int64_t x_size, int64_t y_size, int64_t h_size,
               int64_t factors);

  /// What drives the mapping units, Wh' (Wx x * Wy y) + b: their logits, where they are binary.
  Tensor operator()(const Tensor& x, const Tensor& y, Where where = Where::current()) const;
  /// What drives the output, Wy' (Wx x * Wh h) + a: its mean, where it is normal with variance 1.
  Tensor output(const Tensor& x, const Tensor& h, Where where = Where::current()) const;
  /// E(x, y, h): [], or the shape of the axes in front.
  Tensor energy(const Tensor& x, const Tensor& y, const Tensor& h,
                Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override;

  Parameter weight_x;
  Parameter weight_y;
  Parameter weight_h;
  Parameter bias_y;
  Parameter bias_h;

 private:
  void start(int64_t x_size, int64_t y_size, int64_t h_size, int64_t factors);
};

/// gamma * x + beta along one axis of x, [C] each; or [N,C], a row for each of the N samples along
/// the first axis of x. Perez et al., "FiLM: visual reasoning with a general conditioning layer",
/// 2018. Throws ShapeError where sizes do not fit, IndexError on a bad axis, ValueError where the
/// axis is that of the samples.
Tensor film(const Tensor& x, const Tensor& gamma, const Tensor& beta, int64_t axis = -1,
            Where where = Where::current());

struct FiLMOptions {
  int64_t axis = -1;  ///< of x, that of the features: 0 for [C,H,W]
};

/// Scales and shifts each feature of x by what `condition` [K], or [N,K] for N samples, says:
/// x (1 + dgamma) + beta, where dgamma and beta are the two halves of a linear layer's output.
/// Parameters `generator.weight` [2C,K] and `generator.bias` [2C], drawn as Linear's.
class FiLM : public Module {
 public:
  /// Throws ValueError where a size is below 1.
  FiLM(int64_t condition, int64_t features, FiLMOptions options = {});
  FiLM(Module& parent, std::string name, int64_t condition, int64_t features,
       FiLMOptions options = {});

  /// Throws as film() and linear() do.
  Tensor operator()(const Tensor& x, const Tensor& condition, Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override;

  Linear generator;

 private:
  FiLMOptions options_;
};

}  // namespace ebb::nn
