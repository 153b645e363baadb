// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "ebb/tests/kernels/kernel_testing.h"

namespace ebb::kernels {
namespace {

using testing::for_each_target;
using testing::Guarded;
using testing::samples;

constexpr Activation kAll[] = {Activation::kNone,    Activation::kRelu, Activation::kTanh,
                               Activation::kSigmoid, Activation::kGelu, Activation::kSilu};
static_assert(std::size(kAll) == static_cast<size_t>(kActivationCount));

struct Value {
  double y, slope;
};

Value reference(Activation f, double z) {
  const double sigmoid = 1 / (1 + std::exp(-z));
  const double phi = 0.5 * std::erfc(-z / std::sqrt(2.0));
  switch (f) {
    case Activation::kRelu:
      return {z > 0 ? z : 0, z > 0 ? 1.0 : 0.0};
    case Activation::kTanh:
      return {std::tanh(z), 1 - std::tanh(z) * std::tanh(z)};
    case Activation::kSigmoid:
      return {sigmoid, sigmoid * (1 - sigmoid)};
    case Activation::kGelu:
      return {z * phi, phi + z * std::exp(-z * z / 2) / std::sqrt(2 * 3.14159265358979324)};
    case Activation::kSilu:
      return {z * sigmoid, sigmoid + z * sigmoid * (1 - sigmoid)};
    default:
      return {z, 1};
  }
}

template <class T>
constexpr double kTolerance = 16 * static_cast<double>(std::numeric_limits<T>::epsilon());

template <class T>
void check_rows(Activation f, size_t n, size_t gap, bool bias) {
  const auto x = samples<T>(n, n + 1);
  const auto b = samples<T>(n, n + 2);
  const auto g = samples<T>(n, n + 3);
  const Guarded<T> in(n, gap, x);
  const Guarded<T> add(n, 0, b);
  Guarded<T> z(n, gap);
  Guarded<T> y(n, 0);
  bias_activation(f, in.data(), bias ? add.data() : nullptr, z.data(), y.data(), n);
  Guarded<T> in_place(n, 0, x);
  bias_activation(f, static_cast<const T*>(in_place.data()), bias ? add.data() : nullptr,
                  static_cast<T*>(nullptr), in_place.data(), n);

  const Guarded<T> gy(n, gap, g);
  Guarded<T> dz(n, gap);
  Guarded<T> db(n, 0, b);
  const T* saved = activation_reads_output(f) ? y.data() : z.data();
  bias_activation_backward(f, gy.data(), saved, dz.data(), db.data(), n);
  Guarded<T> over(n, 0, g);
  bias_activation_backward(f, static_cast<const T*>(over.data()), saved, over.data(),
                           static_cast<T*>(nullptr), n);
  for (size_t i = 0; i < n; ++i) {
    const T sum = bias ? x[i] + b[i] : x[i];
    const Value v = reference(f, sum);
    ASSERT_EQ(z[i], sum) << "n " << n << " i " << i;
    ASSERT_NEAR(y[i], v.y, kTolerance<T> * (1 + std::fabs(v.y))) << "n " << n << " i " << i;
    ASSERT_EQ(in_place[i], y[i]) << "n " << n << " i " << i;
    ASSERT_NEAR(dz[i], g[i] * v.slope, kTolerance<T> * (1 + std::fabs(g[i])))
        << "n " << n << " i " << i;
    ASSERT_EQ(over[i], dz[i]) << "n " << n << " i " << i;
    ASSERT_EQ(db[i], b[i] + dz[i]) << "n " << n << " i " << i;
  }
  ASSERT_TRUE(y.intact() && z.intact() && dz.intact() && db.intact() && in_place.intact());
}

template <class T>
void check_all_rows() {
  for (const Activation f : kAll) {
    SCOPED_TRACE(static_cast<int>(f));
    for (size_t n = 0; n <= 70; ++n) {
      ASSERT_NO_FATAL_FAILURE(check_rows<T>(f, n, n % 4, n % 3 != 0));
    }
  }
}

TEST(Linear, BiasAndActivation) {
  for_each_target([] {
    check_all_rows<float>();
    check_all_rows<double>();
  });
}

TEST(Linear, NaNStays) {
  for_each_target([] {
    for (const Activation f : kAll) {
      for (const size_t n : {1, 9, 16}) {
        const std::vector<float> x(n, std::numeric_limits<float>::quiet_NaN());
        std::vector<float> y(n);
        bias_activation<float>(f, x.data(), nullptr, nullptr, y.data(), n);
        for (const float v : y) ASSERT_TRUE(std::isnan(v)) << static_cast<int>(f);
      }
    }
  });
}

template <class T>
void check_layer(int64_t m, int64_t n, int64_t ld) {
  const auto um = static_cast<size_t>(m);
  const auto un = static_cast<size_t>(n);
  const auto at = [ld](size_t i, size_t j) { return i * static_cast<size_t>(ld) + j; };
  auto w = samples<T>(um * static_cast<size_t>(ld), 5);
  for (T& v : w) v = static_cast<T>(v / std::sqrt(static_cast<double>(n + 1)));
  const auto x = samples<T>(un, 6);
  const auto b = samples<T>(um, 7);
  const auto g = samples<T>(um, 8);
  // Sums of n products, of numbers of about 4.
  const double tolerance = kTolerance<T> * (16 + static_cast<double>(n));
  for (const Activation f : kAll) {
    std::vector<T> z(um), y(um), dz(um), dx(un);
    linear_forward(f, m, n, w.data(), ld, x.data(), b.data(), z.data(), y.data());
    auto dw = w;
    auto db = b;
    linear_backward(f, m, n, w.data(), ld, x.data(), g.data(),
                    activation_reads_output(f) ? y.data() : z.data(), dz.data(), dx.data(),
                    dw.data(), db.data());
    std::vector<double> expected_dx(un);
    for (size_t i = 0; i < um; ++i) {
      double sum = b[i];
      for (size_t j = 0; j < un; ++j) sum += static_cast<double>(w[at(i, j)]) * x[j];
      const Value v = reference(f, sum);
      ASSERT_NEAR(z[i], sum, tolerance);
      ASSERT_NEAR(y[i], v.y, tolerance);
      // Where relu bends, rounding may decide.
      if (f == Activation::kRelu && std::fabs(sum) < tolerance) return;
      ASSERT_NEAR(dz[i], g[i] * v.slope, tolerance);
      ASSERT_NEAR(db[i], b[i] + dz[i], tolerance);
      for (size_t j = 0; j < un; ++j) {
        expected_dx[j] += static_cast<double>(w[at(i, j)]) * dz[i];
        ASSERT_NEAR(dw[at(i, j)], w[at(i, j)] + static_cast<double>(dz[i]) * x[j], tolerance);
      }
    }
    const double many = kTolerance<T> * (16 + static_cast<double>(m));
    for (size_t j = 0; j < un; ++j) ASSERT_NEAR(dx[j], expected_dx[j], many);
    // What is not wanted is not touched.
    std::vector<T> again(um);
    linear_backward<T>(f, m, n, nullptr, ld, nullptr, g.data(),
                       activation_reads_output(f) ? y.data() : z.data(), again.data(), nullptr,
                       nullptr, nullptr);
    ASSERT_EQ(again, dz);
    linear_forward<T>(f, m, n, w.data(), ld, x.data(), nullptr, nullptr, again.data());
    for (size_t i = 0; i < um; ++i) {
      ASSERT_NEAR(again[i], reference(f, static_cast<double>(z[i]) - b[i]).y, tolerance);
    }
  }
}

TEST(Linear, Layer) {
  for_each_target([] {
    for (const int64_t m : {1, 3, 8, 17}) {
      for (const int64_t n : {1, 5, 16, 33}) {
        ASSERT_NO_FATAL_FAILURE(check_layer<float>(m, n, n));
        ASSERT_NO_FATAL_FAILURE(check_layer<double>(m, n, n + 3));
      }
    }
    check_layer<float>(120, 300, 300);
  });
}

}  // namespace
}  // namespace ebb::kernels
