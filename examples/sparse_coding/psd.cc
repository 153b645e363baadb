// SPDX-License-Identifier: Apache-2.0
#include "psd.h"

#include <cmath>

namespace psd {

using ebb::Tensor;

namespace {

double length(const Tensor& x) { return std::sqrt(square(x).sum().item()); }

// Moves x toward 0 by theta, and to 0 within: the proximal step of theta |x|, differentiable in
// both.
Tensor shrink(const Tensor& x, const Tensor& theta) { return relu(x - theta) - relu(-x - theta); }

}  // namespace

double Curvature::operator()(const Tensor& w, int iterations) {
  const ebb::NoGradGuard no_grad;
  if (!v_.defined()) v_ = ebb::full({w.size(1)}, 1 / std::sqrt(static_cast<double>(w.size(1))));
  double eigenvalue = 0;
  for (int i = 0; i < iterations; ++i) {
    const Tensor next = mv(w.t(), mv(w, v_));
    eigenvalue = length(next);
    v_ = next / eigenvalue;
  }
  return 1.05 * eigenvalue;
}

FistaResult fista(const std::function<Tensor(const Tensor&)>& gradient, const Tensor& start,
                  const FistaOptions& options, const std::function<bool(const Tensor&)>& done) {
  const ebb::NoGradGuard no_grad;
  const double step = 1 / options.curvature;
  Tensor z = start;  // the iterate
  Tensor u = start;  // the point ahead of it, at which the gradient is taken
  double t = 1;
  int i = 0;
  while (i < options.max_iterations) {
    ++i;
    const Tensor next = softshrink(u - gradient(u) * step, options.lambda * step);
    const Tensor move = next - z;
    double momentum = 0;
    if (dot(u - next, move).item() > 0) {
      t = 1;
    } else {
      const double t_next = (1 + std::sqrt(1 + 4 * t * t)) / 2;
      momentum = (t - 1) / t_next;
      t = t_next;
    }
    u = next + move * momentum;
    z = next;
    if (done && done(z)) break;
    if (options.tolerance > 0 && length(move) <= options.tolerance * length(z)) break;
  }
  return {z, i};
}

Tensor energy(const Tensor& w, const Tensor& y, const Tensor& z, double lambda) {
  return 0.5 * square(y - mv(w, z)).sum() + lambda * abs(z).sum();
}

Encoder::Encoder(int64_t pixels, int64_t atoms, int layers)
    : layers_(layers),
      we_(register_parameter("we", ebb::zeros({atoms, pixels}))),
      s_(register_parameter("s", ebb::zeros({atoms, atoms}))),
      theta_(register_parameter("theta", ebb::zeros({atoms}))) {}

Tensor Encoder::operator()(const Tensor& y) const {
  const Tensor b = mv(we_, y);
  Tensor z = shrink(b, theta_);
  for (int layer = 0; layer < layers_; ++layer) z = shrink(b + mv(s_, z), theta_);
  return z;
}

void Encoder::start_as_ista(const Tensor& w, double curvature, double lambda) {
  const ebb::NoGradGuard no_grad;
  const int64_t atoms = w.size(1);
  we_.copy_from(w.t() / curvature);
  s_.copy_from(ebb::eye(atoms) - mm(w.t(), w) / curvature);
  theta_.copy_from(ebb::full({atoms}, lambda / curvature));
}

Dictionary::Dictionary(int64_t pixels, int64_t atoms)
    : w_(register_parameter("w", ebb::zeros({pixels, atoms}))) {}

void Dictionary::set(const Tensor& atoms) {
  const ebb::NoGradGuard no_grad;
  w_.copy_from(atoms * rsqrt(square(atoms).sum(0)));
}

}  // namespace psd
