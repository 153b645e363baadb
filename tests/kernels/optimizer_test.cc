// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "ebb/tests/kernels/kernel_testing.h"

// Every kernel, on every instruction set, of every length around the vectors', against the rule
// written out. The rules themselves are checked in tests/nn/optim_test.cc.
namespace ebb::kernels {
namespace {

using testing::for_each_target;
using testing::Guarded;

// Rows of random numbers, some of them positive, and what they hold after a rule in double.
template <class T>
class Rows {
 public:
  Rows(size_t n, int count, size_t gap) {
    std::mt19937 random(static_cast<unsigned>(17 * n + gap));
    std::normal_distribution<double> normal;
    for (int r = 0; r < count; ++r) {
      rows_.push_back(std::make_unique<Guarded<T>>(n, gap));
      want_.emplace_back(n);
      for (size_t i = 0; i < n; ++i) {
        // States that stand under a root are not negative.
        const double x = r < 2 ? normal(random) : std::abs(normal(random));
        (*rows_.back())[i] = static_cast<T>(x);
        want_.back()[i] = static_cast<double>((*rows_.back())[i]);
      }
    }
  }
  T* operator[](int r) { return rows_[static_cast<size_t>(r)]->data(); }
  double& want(int r, size_t i) { return want_[static_cast<size_t>(r)][i]; }

  void check() const {
    const double tolerance = sizeof(T) == 4 ? 2e-6 : 2e-15;
    for (size_t r = 0; r < rows_.size(); ++r) {
      EXPECT_TRUE(rows_[r]->intact()) << "row " << r;
      for (size_t i = 0; i < want_[r].size(); ++i) {
        const double want = want_[r][i];
        ASSERT_NEAR(static_cast<double>((*rows_[r])[i]), want, tolerance * (1 + std::abs(want)))
            << "row " << r << " element " << i << " of " << want_[r].size();
      }
    }
  }

 private:
  std::vector<std::unique_ptr<Guarded<T>>> rows_;
  std::vector<std::vector<double>> want_;
};

// run(rows, n) calls the kernel, rule(rows, i) computes element i of want.
template <class T, class Run, class Rule>
void sweep(int count, const Run& run, const Rule& rule) {
  for (size_t n = 0; n <= 37; ++n) {
    for (const size_t gap : {0, 1, 3}) {
      Rows<T> rows(n, count, gap);
      run(rows, n);
      for (size_t i = 0; i < n; ++i) rule(rows, i);
      rows.check();
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

template <class T>
class OptimizerKernels : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(OptimizerKernels, Types);

TYPED_TEST(OptimizerKernels, Sgd) {
  using T = TypeParam;
  for_each_target([] {
    for (const int kind : {0, 1, 2}) {
      const SgdStep s{0.1, 0.9, 0.7, 0.05, -1, kind == 2};
      sweep<T>(
          3, [&](auto& r, size_t n) { sgd_update(s, r[0], r[1], kind == 0 ? nullptr : r[2], n); },
          [&](auto& r, size_t i) {
            double g = s.sign * r.want(1, i) + s.weight_decay * r.want(0, i);
            if (kind != 0) {
              const double v = r.want(2, i) = s.momentum * r.want(2, i) + s.keep * g;
              g = kind == 2 ? g + s.momentum * v : v;
            }
            r.want(0, i) -= s.lr * g;
          });
    }
  });
}

TYPED_TEST(OptimizerKernels, Adam) {
  using T = TypeParam;
  for_each_target([] {
    for (const bool amsgrad : {false, true}) {
      const AdamStep s{0.95, 0.02, -1, 0.8, 0.9, 0.05, 1.5, 1e-3};
      sweep<T>(
          5,
          [&](auto& r, size_t n) {
            adam_update(s, r[0], r[1], r[2], r[3], amsgrad ? r[4] : nullptr, n);
          },
          [&](auto& r, size_t i) {
            const double w = r.want(0, i);
            const double g = s.sign * r.want(1, i) + s.l2 * w;
            r.want(2, i) = s.b1 * r.want(2, i) + (1 - s.b1) * g;
            double v = r.want(3, i) = s.b2 * r.want(3, i) + (1 - s.b2) * g * g;
            if (amsgrad) v = r.want(4, i) = std::max(r.want(4, i), v);
            r.want(0, i) = s.decay * w - s.rate * r.want(2, i) / (std::sqrt(v) * s.scale + s.eps);
          });
    }
  });
}

TYPED_TEST(OptimizerKernels, Adagrad) {
  using T = TypeParam;
  for_each_target([] {
    const AdagradStep s{0.1, 0.05, -1, 1e-3};
    sweep<T>(
        3, [&](auto& r, size_t n) { adagrad_update(s, r[0], r[1], r[2], n); },
        [&](auto& r, size_t i) {
          const double g = s.sign * r.want(1, i) + s.weight_decay * r.want(0, i);
          r.want(2, i) += g * g;
          r.want(0, i) -= s.rate * g / (std::sqrt(r.want(2, i)) + s.eps);
        });
  });
}

TYPED_TEST(OptimizerKernels, Adadelta) {
  using T = TypeParam;
  for_each_target([] {
    const AdadeltaStep s{0.5, 0.9, 0.05, -1, 1e-3};
    sweep<T>(
        4, [&](auto& r, size_t n) { adadelta_update(s, r[0], r[1], r[2], r[3], n); },
        [&](auto& r, size_t i) {
          const double g = s.sign * r.want(1, i) + s.weight_decay * r.want(0, i);
          r.want(2, i) = s.rho * r.want(2, i) + (1 - s.rho) * g * g;
          const double d = std::sqrt(r.want(3, i) + s.eps) / std::sqrt(r.want(2, i) + s.eps) * g;
          r.want(3, i) = s.rho * r.want(3, i) + (1 - s.rho) * d * d;
          r.want(0, i) -= s.lr * d;
        });
  });
}

TYPED_TEST(OptimizerKernels, Rmsprop) {
  using T = TypeParam;
  for_each_target([] {
    for (const int kind : {0, 1, 2, 3}) {
      const bool centered = (kind & 1) != 0;
      const bool moving = (kind & 2) != 0;
      const RmspropStep s{0.1, 0.9, 0.05, -1, 0.1, 0.8};
      const auto run = [&](auto& r, size_t n) {
        // With the mean a tenth of the root the square stays above the mean's.
        for (size_t i = 0; i < n && centered; ++i) {
          r[3][i] = static_cast<T>(0.1) * std::sqrt(r[2][i]);
          r.want(3, i) = static_cast<double>(r[3][i]);
        }
        rmsprop_update(s, r[0], r[1], r[2], centered ? r[3] : nullptr, moving ? r[4] : nullptr, n);
      };
      sweep<T>(5, run, [&](auto& r, size_t i) {
        const double g = s.sign * r.want(1, i) + s.weight_decay * r.want(0, i);
        double square = r.want(2, i) = s.alpha * r.want(2, i) + (1 - s.alpha) * g * g;
        if (centered) {
          r.want(3, i) = s.alpha * r.want(3, i) + (1 - s.alpha) * g;
          square -= r.want(3, i) * r.want(3, i);
        }
        double d = g / (std::sqrt(square) + s.eps);
        if (moving) d = r.want(4, i) = s.momentum * r.want(4, i) + d;
        r.want(0, i) -= s.lr * d;
      });
    }
  });
}

TYPED_TEST(OptimizerKernels, Mix) {
  using T = TypeParam;
  for_each_target([] {
    const double map[] = {0.5, -2, 0.25, 3};
    sweep<T>(
        2, [&](auto& r, size_t n) { mix(map, r[0], r[1], n); },
        [&](auto& r, size_t i) {
          const double a = r.want(0, i);
          const double b = r.want(1, i);
          r.want(0, i) = map[0] * a + map[1] * b;
          r.want(1, i) = map[2] * a + map[3] * b;
        });
  });
}

// Two steps of different lengths; the series and the sum give the same.
TYPED_TEST(OptimizerKernels, AdamReplay) {
  using T = TypeParam;
  for_each_target([] {
    const double a[] = {0.05, 0.03};
    const double b[] = {1.5, 1.25};
    constexpr double kEps = 1e-4;
    for (const bool amsgrad : {false, true}) {
      for (const bool series : {false, true}) {
        AdamReplay r{0.9, 0.8, 0.7, kEps, a, b, 2, {}, 0, std::numeric_limits<double>::infinity()};
        r.largest = kEps / b[1];
        if (series) r.series_from = 128 * r.largest;
        for (int k = 0; k < AdamReplay::kTerms; ++k) {
          for (int j = 0; j < 2; ++j) {
            r.series[k] += a[j] / b[j] * std::pow(kEps / b[j] / r.largest, k);
          }
        }
        sweep<T>(
            5,
            [&](auto& rows, size_t n) {
              for (size_t i = 0; i < n; i += 5) {  // elements that never moved
                rows[1][i] = rows[2][i] = rows[3][i] = 0;
                rows.want(1, i) = rows.want(2, i) = rows.want(3, i) = 0;
              }
              adam_replay(r, rows[0], rows[1], rows[2], amsgrad ? rows[3] : nullptr, n);
            },
            [&](auto& rows, size_t i) {
              const double s = std::sqrt(rows.want(amsgrad ? 3 : 2, i));
              double sum = 0;
              for (int j = 0; j < 2; ++j) sum += a[j] / (b[j] * s + kEps);
              rows.want(0, i) = 0.9 * rows.want(0, i) - rows.want(1, i) * sum;
              rows.want(1, i) *= 0.8;
              rows.want(2, i) *= 0.7;
            });
      }
    }
  });
}

}  // namespace
}  // namespace ebb::kernels
