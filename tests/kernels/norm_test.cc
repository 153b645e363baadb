// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/norm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ebb/ops/kernels/norm_channel.h"
#include "ebb/tests/kernels/kernel_testing.h"

namespace ebb::kernels {
namespace {

using testing::for_each_target;
using testing::Guarded;
using testing::samples;

std::vector<size_t> sizes() {
  std::vector<size_t> n;
  for (size_t i = 1; i <= 40; ++i) n.push_back(i);
  n.insert(n.end(), {127, 1025, 3000});
  return n;
}

// In long double, of one set: what each number, and the gradients, should be.
struct Expected {
  std::vector<long double> y, gx, gw, gb;
  long double mean = 0, variance = 0;
};

// Numbers of run k, neighbours, have weight w[k * step].
template <class T>
Expected expected(const std::vector<T>& x, const std::vector<T>& g, const std::vector<T>& w,
                  const std::vector<T>& b, size_t len, size_t step, double eps) {
  Expected e;
  const auto n = static_cast<long double>(x.size());
  for (const T v : x) e.mean += static_cast<long double>(v) / n;
  for (const T v : x) {
    const long double d = static_cast<long double>(v) - e.mean;
    e.variance += d * d / n;
  }
  const long double scale = 1 / std::sqrt(e.variance + static_cast<long double>(eps));
  std::vector<long double> z, h;
  long double h_mean = 0, hz_mean = 0;
  e.gw.assign(w.size(), 0);
  e.gb.assign(w.size(), 0);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i / len * step;
    z.push_back((static_cast<long double>(x[i]) - e.mean) * scale);
    e.y.push_back(z[i] * w[c] + b[c]);
    h.push_back(static_cast<long double>(g[i]) * w[c]);
    h_mean += h[i] / n;
    hz_mean += h[i] * z[i] / n;
    e.gw[c] += static_cast<long double>(g[i]) * z[i];
    e.gb[c] += static_cast<long double>(g[i]);
  }
  for (size_t i = 0; i < x.size(); ++i) {
    e.gx.push_back(scale * (h[i] - h_mean - z[i] * hz_mean));
  }
  return e;
}

template <class T>
std::vector<T> numbers(size_t n, size_t seed, double scale = 1, double shift = 0) {
  auto v = samples<T>(n, seed);
  for (T& e : v) e = static_cast<T>(static_cast<double>(e) * scale + shift);
  return v;
}

template <class T>
void expect_near(const T* got, const std::vector<long double>& want, double tolerance,
                 const char* what) {
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(got[i]), static_cast<double>(want[i]), tolerance)
        << what << " " << i << " of " << want.size();
  }
}

// Sets of `runs` runs of `len`, with other numbers between them, far from 0 and near.
template <class T>
void check_sets() {
  constexpr double kEps = 1e-3;
  constexpr double kUlp = std::numeric_limits<T>::epsilon();
  for (const size_t len : sizes()) {
    for (const size_t runs : {size_t{1}, size_t{2}, size_t{5}}) {
      for (const size_t gap : {size_t{0}, size_t{3}}) {
        for (const double shift : {0.0, 1000.0}) {
          if (len > 1000 && (runs > 2 || shift != 0)) continue;
          SCOPED_TRACE(::testing::Message() << "runs " << runs << " len " << len << " gap " << gap
                                            << " shift " << shift);
          const size_t stride = len + gap;
          const size_t all = (runs - 1) * stride + len;
          const auto x = numbers<T>(all, len + runs, 1, shift);
          const auto g = numbers<T>(all, len + runs + 7);
          const auto w = numbers<T>(runs, 3);
          const auto b = numbers<T>(runs, 4);
          std::vector<T> set, of_g;
          for (size_t k = 0; k < runs; ++k) {
            for (size_t i = 0; i < len; ++i) {
              set.push_back(x[k * stride + i]);
              of_g.push_back(g[k * stride + i]);
            }
          }
          const Expected e = expected(set, of_g, w, b, len, 1, kEps);
          const NormSet s{runs, len, static_cast<ptrdiff_t>(stride), 1};
          // Rounding of a mean of numbers that are nearly one is not to be seen.
          const double tolerance = 2000 * kUlp / std::sqrt(static_cast<double>(e.variance) + kEps);

          Guarded<T> y(all, 0, x);
          const NormStatistics found = norm_set(s, y.data(), w.data(), b.data(), y.data(), kEps);
          // The mean itself is a double, and as exact as that where it is large.
          EXPECT_NEAR(found.mean, static_cast<double>(e.mean), 100 * kUlp + 1e-15 * shift);
          EXPECT_NEAR(found.variance, static_cast<double>(e.variance), 100 * kUlp);
          Guarded<T> gx(all, 0, g);
          const Guarded<T> in(all, 0, x);
          std::vector<T> gw(runs), gb(runs);
          std::vector<double> sums(2 * runs);
          norm_set_backward(s, in.data(), w.data(), gx.data(), gx.data(), gw.data(), gb.data(),
                            sums.data(), kEps);
          for (size_t k = 0; k < runs; ++k) {
            const auto first = static_cast<std::ptrdiff_t>(k * len);
            const auto last = first + static_cast<std::ptrdiff_t>(len);
            expect_near(y.data() + k * stride, {e.y.begin() + first, e.y.begin() + last}, tolerance,
                        "y");
            expect_near(gx.data() + k * stride, {e.gx.begin() + first, e.gx.begin() + last},
                        10 * tolerance, "gx");
            for (size_t i = k * stride + len; i < std::min(all, (k + 1) * stride); ++i) {
              EXPECT_EQ(y[i], x[i]);
              EXPECT_EQ(gx[i], g[i]);
            }
          }
          const double many = 10 * tolerance * std::sqrt(static_cast<double>(len));
          expect_near(gw.data(), e.gw, many, "gw");
          expect_near(gb.data(), e.gb, many, "gb");
          EXPECT_TRUE(y.intact() && gx.intact());
        }
      }
    }
  }
}

TEST(NormKernels, SetsOfRuns) {
  for_each_target([] {
    check_sets<float>();
    check_sets<double>();
  });
}

// One weight for all runs, and none at all.
TEST(NormKernels, WeightsMayBeSharedOrAbsent) {
  for_each_target([] {
    const auto x = numbers<double>(12, 1);
    const auto g = numbers<double>(12, 2);
    for (const bool weighted : {true, false}) {
      const std::vector<double> w{weighted ? 2.5 : 1.0};
      const std::vector<double> b{weighted ? -1.0 : 0.0};
      const Expected e = expected(x, g, w, b, 4, 0, 0.1);
      const NormSet s{3, 4, 4, 0};
      std::vector<double> y(12), gx(12), gw(1), gb(1), sums(6);
      norm_set(s, x.data(), weighted ? w.data() : nullptr, weighted ? b.data() : nullptr, y.data(),
               0.1);
      norm_set_backward(s, x.data(), weighted ? w.data() : nullptr, g.data(), gx.data(), gw.data(),
                        gb.data(), sums.data(), 0.1);
      expect_near(y.data(), e.y, 1e-13, "y");
      expect_near(gx.data(), e.gx, 1e-12, "gx");
      expect_near(gw.data(), e.gw, 1e-12, "gw");
      expect_near(gb.data(), e.gb, 1e-12, "gb");
      norm_set_backward<double>(s, x.data(), nullptr, g.data(), nullptr, nullptr, gb.data(),
                                sums.data(), 0.1);
      EXPECT_NEAR(gb[0], 2 * static_cast<double>(e.gb[0]), 1e-12);
    }
  });
}

// Rows of layer normalisation are sets of runs of one number.
template <class T>
void check_rows() {
  constexpr double kEps = 1e-3;
  for (const size_t n : sizes()) {
    SCOPED_TRACE(n);
    const auto x = numbers<T>(n, n, 2, 5);
    const auto g = numbers<T>(n, n + 1);
    const auto w = numbers<T>(n, n + 2);
    const auto b = numbers<T>(n, n + 3);
    const Expected e = expected(x, g, w, b, 1, 1, kEps);
    const double tolerance = 5000 * std::numeric_limits<T>::epsilon() /
                             std::sqrt(static_cast<double>(e.variance) + kEps);
    Guarded<T> y(n, 0, x);
    layer_norm_row(y.data(), w.data(), b.data(), y.data(), n, kEps);
    expect_near(y.data(), e.y, tolerance, "y");
    Guarded<T> gx(n, 0, g);
    Guarded<T> gw(n, 0, std::vector<T>(n));
    layer_norm_backward_row(x.data(), w.data(), gx.data(), gx.data(), gw.data(), n, kEps);
    expect_near(gx.data(), e.gx, 10 * tolerance, "gx");
    expect_near(gw.data(), e.gw, 10 * tolerance, "gw");
    EXPECT_TRUE(y.intact() && gx.intact() && gw.intact());
  }
}

TEST(NormKernels, Rows) {
  for_each_target([] {
    check_rows<float>();
    check_rows<double>();
  });
}

TEST(NormKernels, RowsByTheirRootMeanSquare) {
  for_each_target([] {
    for (const size_t n : sizes()) {
      const auto x = numbers<double>(n, n, 2, 1);
      const auto g = numbers<double>(n, n + 1);
      const auto w = numbers<double>(n, n + 2);
      double squares = 0;
      double dot = 0;
      for (size_t i = 0; i < n; ++i) {
        squares += x[i] * x[i] / static_cast<double>(n);
        dot += g[i] * w[i] * x[i] / static_cast<double>(n);
      }
      const double s = 1 / std::sqrt(squares + 0.1);
      std::vector<double> y(n), gx(g), gw(n, 1.0);
      rms_norm_row(x.data(), w.data(), y.data(), n, 0.1);
      rms_norm_backward_row(x.data(), w.data(), gx.data(), gx.data(), gw.data(), n, 0.1);
      for (size_t i = 0; i < n; ++i) {
        EXPECT_NEAR(y[i], x[i] * s * w[i], 1e-12);
        EXPECT_NEAR(gx[i], s * (g[i] * w[i] - x[i] * s * s * dot), 1e-12);
        EXPECT_NEAR(gw[i], 1 + g[i] * x[i] * s, 1e-12);
      }
    }
  });
}

// A first look at a mean may be far off: at a number that none of the others is near.
TEST(NormKernels, MeasuresAgainWhereTheFirstGuessWasBad) {
  for_each_target([] {
    std::vector<float> x(160, 0);
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = i % 10 == 0 ? 3e4f : 1.0f + 1e-3f * static_cast<float>(i % 7);
    }
    const std::vector<float> none(1, 1), zero(1, 0);
    const Expected e = expected(x, x, none, zero, x.size(), 0, 1e-9);
    std::vector<float> y(x.size());
    norm_set<float>({1, x.size(), static_cast<ptrdiff_t>(x.size()), 0}, x.data(), nullptr, nullptr,
                    y.data(), 1e-9);
    expect_near(y.data(), e.y, 1e-5, "y");
    layer_norm_row<float>(x.data(), nullptr, nullptr, y.data(), x.size(), 1e-9);
    expect_near(y.data(), e.y, 1e-5, "y");
  });
}

TEST(NormKernels, ShiftedAndScaledRowsAndTheSumsOfTheirGradients) {
  for_each_target([] {
    for (const size_t n : sizes()) {
      const auto x = numbers<float>(n, n);
      const auto g = numbers<float>(n, n + 1);
      Guarded<float> y(n, 0, x);
      shift_scale_row(y.data(), 0.5f, 2.0f, -1.0f, y.data(), n);
      double sums[2] = {1, 2};
      gradient_sums_row(x.data(), 0.5f, g.data(), n, sums);
      double of_g = 1;
      double of_gx = 2;
      for (size_t i = 0; i < n; ++i) {
        EXPECT_NEAR(y[i], (x[i] - 0.5f) * 2 - 1, 1e-5);
        of_g += static_cast<double>(g[i]);
        of_gx += static_cast<double>(g[i]) * (static_cast<double>(x[i]) - 0.5);
      }
      EXPECT_NEAR(sums[0], of_g, 1e-3);
      EXPECT_NEAR(sums[1], of_gx, 1e-3);
      EXPECT_TRUE(y.intact());
    }
  });
}

}  // namespace
}  // namespace ebb::kernels
