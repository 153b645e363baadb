// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/colors.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>

namespace ebb::train {
namespace {

// A colour by perceived lightness in [0, 1], chroma and hue in degrees.
struct Lch {
  double lightness, chroma, hue;
};

uint8_t srgb_byte(double linear) {
  linear = std::clamp(linear, 0.0, 1.0);
  const double v = linear <= 0.0031308 ? 12.92 * linear : 1.055 * std::pow(linear, 1 / 2.4) - 0.055;
  return static_cast<uint8_t>(std::lround(255 * v));
}

// B. Ottosson, "A perceptual color space for image processing" (Oklab, 2020).
Color from_oklab(const Lch& c) {
  const double radians = c.hue * (std::numbers::pi / 180);
  const double a = c.chroma * std::cos(radians), b = c.chroma * std::sin(radians);
  const auto cube = [](double v) { return v * v * v; };
  const double l = cube(c.lightness + 0.3963377774 * a + 0.2158037573 * b);
  const double m = cube(c.lightness - 0.1055613458 * a - 0.0638541728 * b);
  const double s = cube(c.lightness - 0.0894841775 * a - 1.2914855480 * b);
  return {srgb_byte(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
          srgb_byte(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
          srgb_byte(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)};
}

Color sequential(double t) {
  static constexpr Lch kStops[] = {
      {0.29, 0.115, 318}, {0.37, 0.110, 288}, {0.45, 0.100, 252},
      {0.53, 0.092, 222}, {0.61, 0.096, 190}, {0.69, 0.125, 162},
      {0.77, 0.155, 144}, {0.85, 0.175, 124}, {0.92, 0.185, 104},
  };
  constexpr int kPieces = std::size(kStops) - 1;
  const double at = t * kPieces;
  const int i = std::min(static_cast<int>(at), kPieces - 1);
  const double f = at - i;
  const auto mix = [f](double a, double b) { return a + f * (b - a); };
  const Lch &a = kStops[i], &b = kStops[i + 1];
  return from_oklab({mix(a.lightness, b.lightness), mix(a.chroma, b.chroma), mix(a.hue, b.hue)});
}

Color diverging(double t) {
  const double side = 2 * t - 1, strength = std::abs(side);
  const Lch end = side < 0 ? Lch{0.40, 0.155, 258} : Lch{0.44, 0.175, 27};
  return from_oklab({0.975 + (end.lightness - 0.975) * std::pow(strength, 1.15),
                     end.chroma * std::pow(strength, 0.85), end.hue});
}

}  // namespace

Color map_color(ColorMap map, double t) {
  if (std::isnan(t)) return {226, 229, 233};
  t = std::clamp(t, 0.0, 1.0);
  switch (map) {
    case ColorMap::kSequential:
      return sequential(t);
    case ColorMap::kDiverging:
      return diverging(t);
    case ColorMap::kGrey:
      break;
  }
  const uint8_t grey = static_cast<uint8_t>(std::lround(255 * t));
  return {grey, grey, grey};
}

Color series_color(int64_t i) {
  static constexpr Color kColors[] = {
      {0, 114, 178},  {213, 94, 0},  {0, 158, 115}, {204, 121, 167}, {230, 159, 0},
      {86, 180, 233}, {96, 70, 160}, {128, 84, 40}, {120, 124, 130}, {150, 164, 40},
  };
  return kColors[i % static_cast<int64_t>(std::size(kColors))];
}

}  // namespace ebb::train
