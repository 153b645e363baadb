// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ebb/ebb.h>

#include <algorithm>
#include <cmath>
#include <numbers>

// Randomly distorted images.
namespace lenet {

/// The largest distortions, each drawn evenly between minus and plus that much: the planar affine
/// transformations that LeCun et al. 1998 train on, and a rotation.
struct Distortion {
  double shift = 2;      ///< pixels, along each axis
  double scale = 0.15;   ///< relative, of each axis by itself: squeezing too
  double shear = 0.2;    ///< columns to the right for each row down
  double rotation = 10;  ///< degrees
};

/// An image [1,H,W] under a random affine map about its middle, read between the pixels by linear
/// interpolation; `outside` is what lies around it.
inline ebb::Tensor distorted(const ebb::Tensor& image, const Distortion& most, double outside,
                             ebb::Generator& generator) {
  const auto draw = [&](double limit) { return limit * (2 * generator.uniform() - 1); };
  const double angle = draw(most.rotation) * std::numbers::pi / 180;
  const double sx = 1 + draw(most.scale);
  const double sy = 1 + draw(most.scale);
  const double shear = draw(most.shear);
  // From a pixel of the result to where it is read: a rotation, a shear and a scaling.
  const double xx = (std::cos(angle) - shear * std::sin(angle)) / sx;
  const double xy = (-std::sin(angle) - shear * std::cos(angle)) / sx;
  const double yx = std::sin(angle) / sy;
  const double yy = std::cos(angle) / sy;
  const double dx = draw(most.shift);
  const double dy = draw(most.shift);

  const int64_t h = image.size(1);
  const int64_t w = image.size(2);
  const float* from = image.value().data<float>();
  const auto at = [&](int64_t y, int64_t x) {
    return y < 0 || y >= h || x < 0 || x >= w ? outside : static_cast<double>(from[y * w + x]);
  };
  std::vector<float> result;
  result.reserve(static_cast<size_t>(h * w));
  for (int64_t i = 0; i < h; ++i) {
    for (int64_t j = 0; j < w; ++j) {
      const double u = static_cast<double>(j) - 0.5 * static_cast<double>(w - 1);
      const double v = static_cast<double>(i) - 0.5 * static_cast<double>(h - 1);
      const double x = xx * u + xy * v + dx + 0.5 * static_cast<double>(w - 1);
      const double y = yx * u + yy * v + dy + 0.5 * static_cast<double>(h - 1);
      const auto x0 = static_cast<int64_t>(std::floor(x));
      const auto y0 = static_cast<int64_t>(std::floor(y));
      const double px = x - std::floor(x);
      const double py = y - std::floor(y);
      const double above = (1 - px) * at(y0, x0) + px * at(y0, x0 + 1);
      const double below = (1 - px) * at(y0 + 1, x0) + px * at(y0 + 1, x0 + 1);
      result.push_back(static_cast<float>((1 - py) * above + py * below));
    }
  }
  return ebb::from_vector(result, {1, h, w});
}

}  // namespace lenet
