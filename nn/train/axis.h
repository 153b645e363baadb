// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "ebb/core/shape.h"

namespace ebb::train {

/// Where an axis has marks, and what is written there.
struct Ticks {
  std::vector<double> at;  // ascending
  std::vector<std::string> labels;
};

/// The range of values that an axis shows, linear or logarithmic.
class Axis {
 public:
  /// Numbers that cannot be drawn leave a gap: those that are not finite or are beyond 1e300, and
  /// on a logarithmic axis those below 1e-300.
  static bool drawable(double v, bool log) { return std::abs(v) <= 1e300 && (!log || v >= 1e-300); }

  /// The range of `values`, a little widened by `padding` (a part of the range) on both sides. An
  /// end that is given (not NaN, and drawable) is kept. There is a range of some width even where
  /// there are no values or all are equal.
  static Axis around(Span<const std::vector<double>* const> values, bool log, double padding,
                     double lo = NAN, double hi = NAN);

  /// lo < hi, both drawable.
  Axis(double lo, double hi, bool log);

  double lo() const { return lo_; }
  double hi() const { return hi_; }
  bool log() const { return log_; }

  /// 0 at lo, 1 at hi; NaN for what cannot be drawn.
  double position(double v) const;

  /// Marks at round numbers (1, 2 or 5 times a power of ten), about `count` of them or fewer but
  /// at least two. Large and small numbers are written with k, M or a power of ten.
  Ticks ticks(int count) const;

 private:
  double lo_;
  double hi_;
  bool log_;
};

/// A number for a person to read: 4 significant digits, without trailing zeros.
std::string short_number(double v);

}  // namespace ebb::train
