// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "ebb/autograd/testing.h"

// The recurrent units by their formulas, one number after the other.
namespace ebb::testing {

inline double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

/// w [rows, size] from row `first` on, `count` rows, times x, plus the bias where there is one.
inline std::vector<double> product_of(const RefArray& w, const std::vector<double>& x, size_t first,
                                      size_t count, const RefArray& bias = {}) {
  std::vector<double> y(count);
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < x.size(); ++j) y[i] += w.v[(first + i) * x.size() + j] * x[j];
    if (!bias.v.empty()) y[i] += bias.v[first + i];
  }
  return y;
}

/// Row r of [..., n].
inline std::vector<double> row_of(const RefArray& a, size_t r, size_t n) {
  const auto at = a.v.begin() + static_cast<ptrdiff_t>(r * n);
  return {at, at + static_cast<ptrdiff_t>(n)};
}

struct RefState {
  std::vector<double> h;
  std::vector<double> c;
};

/// The LSTM unit behind its sums; the peephole may be empty.
inline RefState lstm_unit(const std::vector<double>& gates, const std::vector<double>& c,
                          const RefArray& peephole = {}) {
  const size_t n = c.size();
  const auto peep = [&](size_t part, size_t i) {
    return peephole.v.empty() ? 0 : peephole.v[part * n + i];
  };
  RefState s{c, c};
  for (size_t i = 0; i < n; ++i) {
    const double in = sigmoid_of(gates[i] + peep(0, i) * c[i]);
    const double forget = sigmoid_of(gates[n + i] + peep(1, i) * c[i]);
    s.c[i] = forget * c[i] + in * std::tanh(gates[2 * n + i]);
    s.h[i] = sigmoid_of(gates[3 * n + i] + peep(2, i) * s.c[i]) * std::tanh(s.c[i]);
  }
  return s;
}

inline std::vector<double> sum_of(std::vector<double> a, const std::vector<double>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

}  // namespace ebb::testing
