// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/nn/module.h"

// Normalisation by neighbours; the functions and the papers are in ops/norm.h.
namespace ebb::nn {

struct LocalResponseNormOptions {
  double alpha = 1e-4;
  double beta = 0.75;
  double k = 1;
  int dims = 2;  ///< axes behind the channels, as of GroupNorm
};

/// Divides by what the `size` nearest channels hold: Krizhevsky, Sutskever, Hinton 2012.
class LocalResponseNorm : public Layer {
 public:
  /// Throws ValueError where size is below 1 or dims negative.
  explicit LocalResponseNorm(int64_t size, LocalResponseNormOptions options = {});
  LocalResponseNorm(Module& parent, std::string name, int64_t size,
                    LocalResponseNormOptions options = {});
  /// x [C, dims axes], or with more axes in front. Throws ShapeError.
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, size_, options_); }

 private:
  void check() const;

  int64_t size_;
  LocalResponseNormOptions options_;
};

struct GDNOptions {
  bool inverse = false;
  double beta_min = 1e-6;   ///< beta is kept above
  double gamma_init = 0.1;  ///< first value of gamma's diagonal; the rest is 0
  int dims = 2;             ///< axes behind the channels, as of GroupNorm
};

/// Generalised divisive normalisation, x_c / sqrt(beta_c + sum_j gamma_cj x_j^2): Balle, Laparra,
/// Simoncelli 2016. Parameters `beta` [C] and `gamma` [C,C] hold the roots of what is used, which
/// so stays positive, and on which 2^-36 is put, so that a root of 0 can still learn.
class GDN : public Layer {
 public:
  /// Throws ValueError where channels is below 1, dims negative, or a number of the options.
  explicit GDN(int64_t channels, GDNOptions options = {});
  GDN(Module& parent, std::string name, int64_t channels, GDNOptions options = {});
  /// x [C, dims axes], or with more axes in front. Throws ShapeError.
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, beta.size(0), options_); }

  Parameter beta;
  Parameter gamma;

 private:
  void start(int64_t channels);

  GDNOptions options_;
};

struct LocalContrastNormOptions {
  int64_t radius = 4;
  double sigma = 2;
  double eps = 1e-8;
};

/// Subtracts what is around each pixel and divides by how much it varies there: Jarrett,
/// Kavukcuoglu, Ranzato, LeCun 2009.
class LocalContrastNorm : public Layer {
 public:
  explicit LocalContrastNorm(LocalContrastNormOptions options = {}) : options_(options) {}
  LocalContrastNorm(Module& parent, std::string name, LocalContrastNormOptions options = {})
      : Layer(parent, std::move(name)), options_(options) {}
  /// x [C,H,W] or [N,C,H,W]. Throws ShapeError.
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

 private:
  LocalContrastNormOptions options_;
};

}  // namespace ebb::nn
