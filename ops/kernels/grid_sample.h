// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

// One axis of reading an image between its elements.
namespace ebb::kernels {

enum class GridTaps : uint8_t { kLinear, kNearest, kCubic };
enum class GridBorder : uint8_t { kZeros, kClamp, kReflect };

/// The elements that a place lies between, and their parts in it.
struct GridAxis {
  int taps = 1;
  int64_t index[4] = {};  ///< -1: outside, where it is zero
  double weight[4] = {1, 0, 0, 0};
  double slope[4] = {};       ///< of the weights, by the coordinate
  double fraction = 0;        ///< t, the distance from the element before
  double fraction_slope = 0;  ///< of t, by the coordinate
};

namespace detail {

/// u mirrored at `low` and `high`, and in `slope` whether it runs on or back.
inline double reflected(double u, double low, double high, double* slope) {
  const double span = high - low;
  if (span <= 0) {
    *slope = 0;
    return 0;
  }
  double from = u - low;
  *slope = from < 0 ? -1 : 1;
  from = std::abs(from);
  const double flips = std::floor(from / span);
  const double rest = from - flips * span;
  if (std::fmod(flips, 2) == 0) return rest + low;
  *slope = -*slope;
  return span - rest + low;
}

/// Brought into [0, n - 1] as the border says.
inline double inside(GridBorder border, bool align, double n, double u, double* slope) {
  *slope = 1;
  if (border == GridBorder::kZeros) return u;
  if (border == GridBorder::kReflect) {
    u = align ? reflected(u, 0, n - 1, slope) : reflected(u, -0.5, n - 0.5, slope);
  }
  if (u > 0 && u < n - 1) return u;
  *slope = 0;
  return u > 0 ? n - 1 : 0;
}

}  // namespace detail

/// Weights of the elements at -1, 0, 1 and 2 for a place at t in [0, 1), and their slopes by t.
inline void cubic_taps(double t, double* weight, double* slope) {
  constexpr double kA = -0.75;
  const auto near = [](double x) { return ((kA + 2) * x - (kA + 3)) * x * x + 1; };
  const auto near_slope = [](double x) { return (3 * (kA + 2) * x - 2 * (kA + 3)) * x; };
  const auto far = [](double x) { return ((kA * x - 5 * kA) * x + 8 * kA) * x - 4 * kA; };
  const auto far_slope = [](double x) { return (3 * kA * x - 10 * kA) * x + 8 * kA; };
  weight[0] = far(1 + t);
  weight[1] = near(t);
  weight[2] = near(1 - t);
  weight[3] = far(2 - t);
  slope[0] = far_slope(1 + t);
  slope[1] = near_slope(t);
  slope[2] = -near_slope(1 - t);
  slope[3] = -far_slope(2 - t);
}

/// Of an axis with n elements at coordinate c, -1 to 1 from its first to its last.
inline GridAxis grid_axis(GridTaps taps, GridBorder border, bool align, int64_t n, double c) {
  const auto size = static_cast<double>(n);
  double u = align ? (c + 1) / 2 * (size - 1) : ((c + 1) * size - 1) / 2;
  double per_coordinate = align ? (size - 1) / 2 : size / 2;
  if (!(std::abs(u) < 0x1p40)) {  // all places so far away are alike
    u = u > 0 ? 0x1p40 : -0x1p40;
    per_coordinate = 0;
  }
  const auto checked = [n](int64_t i) { return i >= 0 && i < n ? i : -1; };

  GridAxis a;
  if (taps == GridTaps::kCubic) {
    const double first = std::floor(u);
    a.taps = 4;
    a.fraction = u - first;
    a.fraction_slope = per_coordinate;
    cubic_taps(a.fraction, a.weight, a.slope);
    for (int k = 0; k < 4; ++k) {
      double slope;
      a.index[k] = checked(static_cast<int64_t>(
          std::floor(detail::inside(border, align, size, first + k - 1, &slope))));
      a.slope[k] *= per_coordinate;
    }
    return a;
  }
  double slope;
  u = detail::inside(border, align, size, u, &slope);
  if (taps == GridTaps::kNearest) {
    a.index[0] = checked(static_cast<int64_t>(std::nearbyint(u)));
    return a;
  }
  const double first = std::floor(u);
  a.taps = 2;
  a.fraction = u - first;
  a.fraction_slope = slope * per_coordinate;
  a.weight[0] = 1 - a.fraction;
  a.weight[1] = a.fraction;
  a.slope[0] = -a.fraction_slope;
  a.slope[1] = a.fraction_slope;
  a.index[0] = checked(static_cast<int64_t>(first));
  a.index[1] = checked(static_cast<int64_t>(first) + 1);
  return a;
}

}  // namespace ebb::kernels
