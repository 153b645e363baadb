// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "ebb/autograd/leaf.h"
#include "ebb/core/random.h"

// First values of parameters. All overwrite the elements, and draw from `generator`. Fan in and fan
// out of a weight [out, in, ...] are in and out times the product of the sizes behind; a weight of
// rank below 2 has none, which is a ShapeError.
namespace ebb::nn::init {

/// While one lives, what this thread makes draws no first values: what would be drawn stays as it
/// is, 0 in Ebb's own layers, and the generator moves on as if it had been, so that all numbers
/// after are the same. For a network whose weights come from a file: drawing those of VGG-16 takes
/// most of the time in which it is made. constant_() and sparse_() set what they set. (PyTorch's
/// skip_init.)
///
///   const nn::init::SkipGuard skip;
///   nn::models::VGG net{nn::models::vgg16()};
///   io::load(net, "vgg16.safetensors");
class SkipGuard {
 public:
  SkipGuard();
  ~SkipGuard();
  SkipGuard(const SkipGuard&) = delete;
  SkipGuard& operator=(const SkipGuard&) = delete;

 private:
  const bool before_;
};

void constant_(const Parameter& p, double value);
inline void zeros_(const Parameter& p) { constant_(p, 0); }
inline void ones_(const Parameter& p) { constant_(p, 1); }
/// U(low, high).
void uniform_(const Parameter& p, double low = 0, double high = 1,
              Generator& generator = default_generator());
/// N(mean, std^2).
void normal_(const Parameter& p, double mean = 0, double std = 1,
             Generator& generator = default_generator());

/// Factor that keeps the variance through a nonlinearity: "linear", "sigmoid", "tanh" (5/3), "relu"
/// (sqrt 2), "leaky_relu" (of slope `param`, by default 0.01), "selu" (3/4). Throws ValueError on
/// another.
double calculate_gain(std::string_view nonlinearity, double param = 0.01);

/// Glorot, Bengio 2010: variance gain^2 * 2 / (fan_in + fan_out).
void xavier_uniform_(const Parameter& p, double gain = 1,
                     Generator& generator = default_generator());
void xavier_normal_(const Parameter& p, double gain = 1,
                    Generator& generator = default_generator());

enum class Fan { kIn, kOut };
/// He, Zhang, Ren, Sun 2015: variance gain^2 / fan, gain that of leaky_relu with slope `a`.
void kaiming_uniform_(const Parameter& p, double a = 0, Fan fan = Fan::kIn,
                      Generator& generator = default_generator());
void kaiming_normal_(const Parameter& p, double a = 0, Fan fan = Fan::kIn,
                     Generator& generator = default_generator());

/// Rows, or columns where those are fewer, orthogonal and of length `gain`; the axes after the
/// first count as one. Saxe, McClelland, Ganguli 2014.
void orthogonal_(const Parameter& p, double gain = 1, Generator& generator = default_generator());
/// A matrix [out, in] in which the fraction `sparsity` of each column is 0 and the rest
/// N(0, std^2). Martens 2010. Throws ValueError unless 0 <= sparsity <= 1.
void sparse_(const Parameter& p, double sparsity, double std = 0.01,
             Generator& generator = default_generator());

}  // namespace ebb::nn::init
