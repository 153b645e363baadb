// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/softmax.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ebb/tests/kernels/kernel_testing.h"

namespace ebb::kernels {
namespace {

using testing::for_each_target;
using testing::Guarded;
using testing::samples;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<size_t> sizes() {
  std::vector<size_t> n;
  for (size_t i = 0; i <= 70; ++i) n.push_back(i);
  n.insert(n.end(), {127, 600, 1025, 5000});
  return n;
}

template <class T>
struct Expected {
  std::vector<long double> softmax, log_softmax;
  long double logsumexp;
};

template <class T>
Expected<T> reference(const std::vector<T>& x) {
  Expected<T> e;
  long double max = -std::numeric_limits<long double>::infinity();
  for (const T v : x) max = std::max<long double>(max, v);
  long double sum = 0;
  for (const T v : x) sum += std::exp(static_cast<long double>(v) - max);
  for (const T v : x) {
    e.log_softmax.push_back(static_cast<long double>(v) - max - std::log(sum));
    e.softmax.push_back(std::exp(static_cast<long double>(v) - max) / sum);
  }
  e.logsumexp = x.empty() ? max : max + std::log(sum);
  return e;
}

template <class T>
void check_forward() {
  constexpr double kEps = std::numeric_limits<T>::epsilon();
  for (const size_t n : sizes()) {
    for (const double spread : {0.0, 1.0, 20.0, 1e4}) {
      auto x = samples<T>(n, n + 1);
      for (T& v : x) v = static_cast<T>(v * spread + 300);
      if (n > 2 && spread == 1.0) x[n / 2] = static_cast<T>(-kInf);
      const auto e = reference(x);
      const Guarded<T> in(n, 0, x);
      Guarded<T> y(n, n % 4);
      Guarded<T> z(n, 0, x);  // in place

      softmax_row(in.data(), y.data(), n);
      softmax_row(z.data(), z.data(), n);
      for (size_t i = 0; i < n; ++i) {
        const double tolerance = 6 * kEps * static_cast<double>(e.softmax[i]) + 1e-37;
        ASSERT_NEAR(y[i], static_cast<double>(e.softmax[i]), tolerance) << "n " << n << " i " << i;
        ASSERT_EQ(y[i], z[i]);
      }
      ASSERT_TRUE(y.intact());

      log_softmax_row(in.data(), y.data(), n);
      Guarded<T> w(n, 0, x);
      log_softmax_row(w.data(), w.data(), n);
      for (size_t i = 0; i < n; ++i) {
        const auto expected = static_cast<double>(e.log_softmax[i]);
        if (std::isinf(expected)) {
          ASSERT_EQ(y[i], expected);
        } else {
          ASSERT_NEAR(y[i], expected, 4 * kEps * (std::fabs(expected) + 1))
              << "n " << n << " i " << i;
        }
        ASSERT_EQ(y[i], w[i]);
      }
      ASSERT_TRUE(y.intact());

      const T lse = logsumexp_row(in.data(), n);
      if (n == 0) {
        ASSERT_EQ(lse, static_cast<T>(-kInf));
      } else {
        ASSERT_NEAR(lse, static_cast<double>(e.logsumexp),
                    4 * kEps * std::fabs(static_cast<double>(e.logsumexp)));
      }
    }
  }
}

template <class T>
void check_edges() {
  for (const size_t n : {1, 2, 3, 5, 9, 16, 33, 70}) {
    for (size_t at = 0; at < n; ++at) {
      const auto row = [&](double all, double one) {
        std::vector<T> x(n, static_cast<T>(all));
        x[at] = static_cast<T>(one);
        return x;
      };
      std::vector<T> y(n);
      const auto all_nan = [&](const std::vector<T>& x) {
        softmax_row(x.data(), y.data(), n);
        bool nan = std::all_of(y.begin(), y.end(), [](T v) { return std::isnan(v); });
        log_softmax_row(x.data(), y.data(), n);
        return nan && std::all_of(y.begin(), y.end(), [](T v) { return std::isnan(v); });
      };
      const auto lowest = row(-kInf, -kInf);
      ASSERT_TRUE(all_nan(lowest));
      ASSERT_EQ(logsumexp_row(lowest.data(), n), static_cast<T>(-kInf));
      const auto nan = row(1, kNaN);
      ASSERT_TRUE(all_nan(nan));
      ASSERT_TRUE(std::isnan(logsumexp_row(nan.data(), n)));
      const auto infinite = row(1, kInf);
      ASSERT_TRUE(all_nan(infinite));
      ASSERT_EQ(logsumexp_row(infinite.data(), n), static_cast<T>(kInf));
      // All but one masked away: all the weight is on that one.
      const auto masked = row(-kInf, -5);
      softmax_row(masked.data(), y.data(), n);
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(y[i], i == at ? T{1} : T{0});
      log_softmax_row(masked.data(), y.data(), n);
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(y[i], i == at ? T{0} : static_cast<T>(-kInf));
      // The largest and the smallest number there are.
      const auto wide = row(std::numeric_limits<T>::lowest(), std::numeric_limits<T>::max());
      softmax_row(wide.data(), y.data(), n);
      ASSERT_EQ(y[at], T{1});
    }
  }
}

template <class T>
void check_backward() {
  constexpr double kEps = std::numeric_limits<T>::epsilon();
  for (const size_t n : sizes()) {
    const auto x = samples<T>(n, n + 1);
    const auto g = samples<T>(n, n + 2);
    std::vector<T> y(n);
    std::vector<T> log_y(n);
    softmax_row(x.data(), y.data(), n);
    log_softmax_row(x.data(), log_y.data(), n);
    long double dot = 0;
    long double sum = 0;
    for (size_t i = 0; i < n; ++i) {
      dot += static_cast<long double>(g[i]) * y[i];
      sum += g[i];
    }
    const Guarded<T> gy(n, 0, y);
    const Guarded<T> gl(n, 0, log_y);
    const Guarded<T> gg(n, 0, g);
    Guarded<T> dx(n, n % 4);
    Guarded<T> in_place(n, 0, g);
    const double tolerance = 64 * kEps;
    softmax_backward_row(gy.data(), gg.data(), dx.data(), n);
    softmax_backward_row(gy.data(), in_place.data(), in_place.data(), n);
    for (size_t i = 0; i < n; ++i) {
      ASSERT_NEAR(dx[i], static_cast<double>(y[i] * (g[i] - dot)), tolerance) << n << " " << i;
      ASSERT_EQ(dx[i], in_place[i]);
    }
    ASSERT_TRUE(dx.intact());
    Guarded<T> in_place_too(n, 0, g);
    log_softmax_backward_row(gl.data(), gg.data(), dx.data(), n);
    log_softmax_backward_row(gl.data(), in_place_too.data(), in_place_too.data(), n);
    for (size_t i = 0; i < n; ++i) {
      const auto expected =
          static_cast<double>(g[i] - std::exp(static_cast<long double>(log_y[i])) * sum);
      ASSERT_NEAR(dx[i], expected, tolerance) << n << " " << i;
      ASSERT_EQ(dx[i], in_place_too[i]);
    }
    ASSERT_TRUE(dx.intact());
    if (n > 0) {  // NaN stays visible; an impossible outcome passes its gradient on
      log_y[n / 2] = static_cast<T>(kNaN);
      log_y[0] = n > 1 ? static_cast<T>(-kInf) : log_y[0];
      log_softmax_backward_row(log_y.data(), g.data(), dx.data(), n);
      ASSERT_TRUE(std::isnan(dx[n / 2]));
      if (n > 1) {
        ASSERT_EQ(dx[0], g[0]);
      }
    }
  }
}

TEST(Softmax, Forward) {
  for_each_target([] {
    check_forward<float>();
    check_forward<double>();
  });
}
TEST(Softmax, InfinitiesAndNaN) {
  for_each_target([] {
    check_edges<float>();
    check_edges<double>();
  });
}
TEST(Softmax, Backward) {
  for_each_target([] {
    check_backward<float>();
    check_backward<double>();
  });
}

}  // namespace
}  // namespace ebb::kernels
