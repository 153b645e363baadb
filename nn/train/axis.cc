// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/axis.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace ebb::train {
namespace {

// Differences below this are none: dividing them further would leave the range of double.
constexpr double kSmallest = 1e-290;

// A hyphen is too short for a sign.
std::string with_minus(const std::string& number) {
  return absl::StrReplaceAll(number, {{"-", "−"}});
}

std::string power_of_ten(int exponent) {
  return absl::StrCat("10^{", with_minus(absl::StrCat(exponent)), "}");
}

double round_step(double raw) {
  const double magnitude = std::pow(10, std::floor(std::log10(raw)));
  const double f = raw / magnitude;
  // The slack keeps 2 a 2 where the division came out a little above it.
  const double slack = 1 + 1e-9;
  return magnitude * (f <= slack ? 1 : f <= 2 * slack ? 2 : f <= 5 * slack ? 5 : 10);
}

// Labels of equally spaced ticks: all in one unit, with as many decimals as the step needs.
std::vector<std::string> label_linear(const std::vector<double>& at, double step) {
  double largest = 0;
  for (double v : at) largest = std::max(largest, std::abs(v));
  double unit = 1;
  std::string suffix;
  if (largest >= 1e10 || (largest < 1e-3 && largest > 0)) {
    const int exponent = static_cast<int>(std::floor(std::log10(largest)));
    unit = std::pow(10, exponent);
    suffix = "·" + power_of_ten(exponent);
  } else if (largest >= 1e7) {
    unit = 1e6;
    suffix = "M";
  } else if (largest >= 1e4) {
    unit = 1e3;
    suffix = "k";
  }
  const auto decimals_in = [step](double u) {
    return std::clamp(-static_cast<int>(std::floor(std::log10(step / u) + 1e-9)), 0, 17);
  };
  if ((unit == 1e3 || unit == 1e6) && decimals_in(unit) > 2) {  // small steps far from zero
    unit = 1;
    suffix.clear();
  }
  const int decimals = decimals_in(unit);
  std::vector<std::string> labels;
  labels.reserve(at.size());
  for (double v : at) {
    labels.push_back(v == 0 ? "0"
                            : with_minus(absl::StrFormat("%.*f", decimals, v / unit)) + suffix);
  }
  return labels;
}

Ticks linear_ticks(double lo, double hi, int count) {
  Ticks out;
  const double step = round_step((hi - lo) / std::max(count, 1));
  // Where neighbouring doubles are as far apart as the ticks, counting them would never end.
  if (!(std::max(std::abs(lo), std::abs(hi)) < 1e15 * step)) return out;
  for (double k = std::ceil(lo / step - 1e-9); k * step <= hi + 1e-9 * step; ++k) {
    out.at.push_back(k == 0 ? 0 : k * step);
  }
  if (out.at.size() < 2) return linear_ticks(lo, hi, 2 * std::max(count, 1));
  out.labels = label_linear(out.at, step);
  return out;
}

std::string label_log(int digit, int exponent, bool powers) {
  if (!powers) return short_number(digit * std::pow(10, exponent));
  if (digit == 1) return power_of_ten(exponent);
  return absl::StrCat(digit, "·", power_of_ten(exponent));
}

Ticks log_ticks(double lo, double hi, int count) {
  const double low = std::log10(lo), high = std::log10(hi);
  const int first = static_cast<int>(std::floor(low + 1e-9));
  const int last = static_cast<int>(std::ceil(high - 1e-9));
  // 1, 2 and 5 of each decade where there is room, else every decade, else every n-th.
  const bool three = 3 * (high - low) <= count + 1;
  const int step =
      three ? 1
            : std::max(1, static_cast<int>(
                              round_step(static_cast<double>(last - first) / std::max(count, 1))));
  const bool powers = first < -3 || last > 4;
  Ticks out;
  for (int e = first; e <= last; ++e) {
    if (e % step != 0) continue;
    for (int digit : {1, 2, 5}) {
      const double v = digit * std::pow(10, e);
      if ((digit > 1 && !three) || v < lo * (1 - 1e-9) || v > hi * (1 + 1e-9)) continue;
      out.at.push_back(v);
      out.labels.push_back(label_log(digit, e, powers));
    }
  }
  // Inside one decade these may all be outside.
  if (out.at.size() < 2) return linear_ticks(lo, hi, count);
  return out;
}

}  // namespace

std::string short_number(double v) {
  if (std::isnan(v)) return "nan";
  return with_minus(absl::StrFormat("%.4g", v));
}

Axis::Axis(double lo, double hi, bool log) : lo_(lo), hi_(hi), log_(log) {}

Axis Axis::around(Span<const std::vector<double>* const> values, bool log, double padding,
                  double lo, double hi) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const std::vector<double>* list : values) {
    for (double v : *list) {
      if (!drawable(v, log)) continue;
      low = std::min(low, v);
      high = std::max(high, v);
    }
  }
  const bool keep_lo = drawable(lo, log), keep_hi = drawable(hi, log);
  if (keep_lo) low = lo;
  if (keep_hi) high = hi;
  if (keep_lo && low > high) high = low;
  if (keep_hi && low > high) low = high;
  if (low > high) {
    low = log ? 1 : 0;
    high = log ? 10 : 1;
    return Axis(low, high, log);
  }
  if (log) {
    double a = std::log10(low), b = std::log10(high);
    const double pad = b - a < 1e-6 ? 0.3 : padding * (b - a);
    if (!keep_lo || a == b) a -= pad;
    if (!keep_hi || a == b) b += pad;
    return Axis(std::pow(10, std::max(a, -300.0)), std::pow(10, std::min(b, 300.0)), true);
  }
  // Where all values are (nearly) equal, a range about as large as they are.
  const double size = std::max(std::abs(low), std::abs(high));
  const bool flat = high - low <= std::max(1e-9 * size, kSmallest);
  const double pad = flat ? (size > kSmallest ? 0.1 * size : 1) : padding * (high - low);
  if (!keep_lo || flat) low -= pad;
  if (!keep_hi || flat) high += pad;
  return Axis(low, high, false);
}

double Axis::position(double v) const {
  if (!drawable(v, log_)) return NAN;
  if (log_) return (std::log(v) - std::log(lo_)) / (std::log(hi_) - std::log(lo_));
  return (v - lo_) / (hi_ - lo_);
}

Ticks Axis::ticks(int count) const {
  return log_ ? log_ticks(lo_, hi_, count) : linear_ticks(lo_, hi_, count);
}

}  // namespace ebb::train
