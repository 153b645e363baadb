// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ebb/ebb.h>

#include <functional>

// Predictive sparse decomposition: Kavukcuoglu, Ranzato, LeCun 2008, "Fast inference in sparse
// coding algorithms with applications to object recognition". An image y [784] is a sum of few
// atoms, the columns of W [784,256], with coefficients z [256]. The energy
//
//   E(y, z) = 1/2 |y - W z|^2 + lambda |z|_1 + alpha/2 |z - Enc(y)|^2
//
// is minimised over z for each image; then W and the encoder take one gradient step.
namespace psd {

/// The largest eigenvalue of W'W, which bounds the curvature of 1/2 |y - W z|^2, by power iteration
/// that goes on from where it stopped the last time. A few per cent are added, for the estimate
/// comes from below.
class Curvature {
 public:
  double operator()(const ebb::Tensor& w, int iterations);

 private:
  ebb::Tensor v_;
};

struct FistaOptions {
  double lambda;
  double curvature;      ///< Lipschitz constant of the smooth part's gradient
  double tolerance = 0;  ///< ends when |z' - z| <= tolerance |z'|
  int max_iterations = 10000;
};

struct FistaResult {
  ebb::Tensor z;
  int iterations;
};

/// Minimises f(z) + lambda |z|_1 from `start` by FISTA (Beck, Teboulle 2009), with the momentum
/// taken back to 0 whenever it points uphill (O'Donoghue, Candes 2015). `gradient` is that of f;
/// `done`, if given, sees every iterate and may end the search.
FistaResult fista(const std::function<ebb::Tensor(const ebb::Tensor&)>& gradient,
                  const ebb::Tensor& start, const FistaOptions& options,
                  const std::function<bool(const ebb::Tensor&)>& done = {});

/// 1/2 |y - W z|^2 + lambda |z|_1, as a scalar on the tape.
ebb::Tensor energy(const ebb::Tensor& w, const ebb::Tensor& y, const ebb::Tensor& z, double lambda);

/// LISTA: Gregor, LeCun 2010, "Learning fast approximations of sparse coding". As many rounds as
/// layers of z <- shrink(We y + S z, theta), begun at shrink(We y, theta), with trainable We, S and
/// one threshold theta a coefficient.
class Encoder : public ebb::nn::Module {
 public:
  Encoder(int64_t pixels, int64_t atoms, int layers);

  /// Image [pixels] to coefficients [atoms].
  ebb::Tensor operator()(const ebb::Tensor& y) const;

  /// Makes the layers those of ISTA on W: We = W'/L, S = I - W'W/L, theta = lambda/L.
  void start_as_ista(const ebb::Tensor& w, double curvature, double lambda);

 private:
  int layers_;
  ebb::Parameter we_;
  ebb::Parameter s_;
  ebb::Parameter theta_;
};

/// 256 atoms of unit length.
class Dictionary : public ebb::nn::Module {
 public:
  Dictionary(int64_t pixels, int64_t atoms);

  const ebb::Tensor& w() const { return w_; }
  /// Atom k becomes the k-th column of `atoms` [pixels, atoms], brought to length 1.
  void set(const ebb::Tensor& atoms);
  /// Brings every atom back to length 1.
  void normalize() { set(w_); }

 private:
  ebb::Parameter w_;
};

}  // namespace psd
