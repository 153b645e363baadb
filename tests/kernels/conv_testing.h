// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "ebb/core/memory.h"
#include "ebb/core/parallel.h"
#include "ebb/ops/kernels/conv.h"
#include "ebb/tests/kernels/kernel_testing.h"

// What the tests of the convolution kernels share.
namespace ebb::kernels::testing {

inline size_t product(const int64_t (&sizes)[3], int dims) {
  size_t n = 1;
  for (int d = 0; d < dims; ++d) n *= static_cast<size_t>(sizes[d]);
  return n;
}
inline size_t x_size(const ConvShape& s) {
  return static_cast<size_t>(s.batch * s.in_channels) * product(s.in, s.dims);
}
inline size_t y_size(const ConvShape& s) {
  return static_cast<size_t>(s.batch * s.out_channels) * product(s.out, s.dims);
}
inline size_t w_size(const ConvShape& s) {
  return static_cast<size_t>(s.out_channels * s.in_channels / s.groups) * product(s.kernel, s.dims);
}

inline std::string describe(const ConvShape& s) {
  std::ostringstream out;
  const auto list = [&](const char* name, const int64_t(&v)[3]) {
    out << ' ' << name;
    for (int d = 0; d < s.dims; ++d) out << (d == 0 ? ' ' : 'x') << v[d];
  };
  out << "batch " << s.batch << " channels " << s.in_channels << "->" << s.out_channels
      << " groups " << s.groups;
  list("in", s.in);
  list("kernel", s.kernel);
  list("stride", s.stride);
  list("dilation", s.dilation);
  list("pad", s.pad);
  list("out", s.out);
  return out.str();
}

// Calls f(x, w, y) with the indices of every product of the convolution.
template <class F>
void for_each_product(const ConvShape& s, const F& f) {
  int64_t in[3] = {1, 1, 1}, kernel[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1},
          pad[3] = {0, 0, 0}, out[3] = {1, 1, 1};
  for (int d = 0; d < s.dims; ++d) {
    in[d] = s.in[d];
    kernel[d] = s.kernel[d];
    stride[d] = s.stride[d];
    dilation[d] = s.dilation[d];
    pad[d] = s.pad[d];
    out[d] = s.out[d];
  }
  const int64_t gi = s.in_channels / s.groups;
  const int64_t go = s.out_channels / s.groups;
  size_t y = 0;
  int64_t o[3], k[3], i[3];
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t oc = 0; oc < s.out_channels; ++oc) {
      for (o[0] = 0; o[0] < out[0]; ++o[0]) {
        for (o[1] = 0; o[1] < out[1]; ++o[1]) {
          for (o[2] = 0; o[2] < out[2]; ++o[2], ++y) {
            for (int64_t c = 0; c < gi; ++c) {
              for (k[0] = 0; k[0] < kernel[0]; ++k[0]) {
                for (k[1] = 0; k[1] < kernel[1]; ++k[1]) {
                  for (k[2] = 0; k[2] < kernel[2]; ++k[2]) {
                    bool inside = true;
                    for (int d = 0; d < 3; ++d) {
                      i[d] = o[d] * stride[d] + k[d] * dilation[d] - pad[d];
                      inside = inside && i[d] >= 0 && i[d] < in[d];
                    }
                    if (!inside) continue;
                    const int64_t channel = n * s.in_channels + oc / go * gi + c;
                    const int64_t x = ((channel * in[0] + i[0]) * in[1] + i[1]) * in[2] + i[2];
                    const int64_t w =
                        (((oc * gi + c) * kernel[0] + k[0]) * kernel[1] + k[1]) * kernel[2] + k[2];
                    f(static_cast<size_t>(x), static_cast<size_t>(w), y);
                  }
                }
              }
            }
          }
        }
      }
    }
  }
}

template <class T>
std::vector<T> numbers(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<T> v(n);
  for (T& x : v) x = static_cast<T>(random.unit());
  return v;
}

// The largest difference as a part of the largest value expected.
template <class T>
double error(const Guarded<T>& got, const std::vector<double>& expected) {
  double difference = 0;
  double largest = 1e-30;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - expected[i]);
    if (!(d <= difference)) difference = d;  // a NaN stays
    largest = std::max(largest, std::abs(expected[i]));
  }
  return expected.empty() ? 0 : difference / largest;
}

// Runs a pass in memory that holds NaN, and sees that it takes no more than it says. Other threads
// would take as much again.
template <class T, class F>
void within_workspace(const ConvShape& s, ConvPass pass, const F& run) {
  const size_t bytes = conv_workspace_bytes(s, pass, sizeof(T));
  EXPECT_LE(bytes, 4 * sizeof(T) * w_size(s) + (size_t{1} << 20));
  if (bytes != 0) {
    // The pool hands out last what was given back last.
    ebb::detail::Block* block = ebb::detail::allocate(bytes);
    std::memset(static_cast<void*>(block + 1), 0xFF, bytes - sizeof(*block));
    ebb::detail::deallocate(block);
  }
  const int threads = num_threads();
  set_num_threads(1);
  reset_peak_memory();
  const int64_t before = memory_stats().live_bytes;
  run();
  EXPECT_LE(memory_stats().peak_bytes - before, static_cast<int64_t>(bytes));
  set_num_threads(threads);
}

// All passes against plain loops. Operands end before a page that may not be touched, and results
// hold NaN before they are written.
template <class T>
void check(const ConvShape& s, bool with_bias, double tolerance) {
  SCOPED_TRACE(describe(s));
  const Guarded<T> x(x_size(s), 0, numbers<T>(x_size(s), 1));
  const Guarded<T> w(w_size(s), 0, numbers<T>(w_size(s), 2));
  const Guarded<T> dy(y_size(s), 0, numbers<T>(y_size(s), 3));
  const auto channels = static_cast<size_t>(s.out_channels);
  const Guarded<T> bias(channels, 0, numbers<T>(channels, 4));
  std::vector<double> y_expected(y_size(s));
  std::vector<double> dx_expected(x_size(s));
  std::vector<double> dw_expected(w_size(s));
  std::vector<double> db_expected(channels);
  const size_t plane = product(s.out, s.dims);
  for (size_t i = 0; i < y_expected.size(); ++i) {
    const size_t channel = i / plane % channels;
    if (with_bias) y_expected[i] = bias[channel];
    db_expected[channel] += dy[i];
  }
  for_each_product(s, [&](size_t xi, size_t wi, size_t yi) {
    y_expected[yi] += static_cast<double>(x[xi]) * w[wi];
    dx_expected[xi] += static_cast<double>(dy[yi]) * w[wi];
    dw_expected[wi] += static_cast<double>(dy[yi]) * x[xi];
  });
  const std::vector<T> nans(std::max({x_size(s), y_size(s), w_size(s), channels}),
                            std::numeric_limits<T>::quiet_NaN());
  for_each_target([&] {
    Guarded<T> y(y_size(s), 0, nans);
    Guarded<T> dx(x_size(s), 0, nans);
    Guarded<T> dw(w_size(s), 0, nans);
    Guarded<T> db(channels, 0, nans);
    within_workspace<T>(s, ConvPass::kForward, [&] {
      conv_forward(s, x.data(), w.data(), with_bias ? bias.data() : nullptr, y.data());
    });
    within_workspace<T>(s, ConvPass::kGradInput,
                        [&] { conv_grad_input(s, dy.data(), w.data(), dx.data()); });
    within_workspace<T>(s, ConvPass::kGradWeight,
                        [&] { conv_grad_weight(s, x.data(), dy.data(), dw.data()); });
    conv_grad_bias(s, dy.data(), db.data());
    EXPECT_LE(error(y, y_expected), tolerance) << "forward";
    EXPECT_LE(error(dx, dx_expected), tolerance) << "input gradient";
    EXPECT_LE(error(dw, dw_expected), tolerance) << "weight gradient";
    EXPECT_LE(error(db, db_expected), tolerance) << "bias gradient";
    EXPECT_TRUE(y.intact() && dx.intact() && dw.intact() && db.intact());
  });
}

template <class T>
void check(const ConvShape& s, bool with_bias = true) {
  check<T>(s, with_bias, sizeof(T) == 4 ? 2e-5 : 1e-13);
}

inline ConvShape square(int64_t batch, int64_t in, int64_t out, int64_t groups, int64_t height,
                        int64_t width, int64_t side, int64_t stride, int64_t pad) {
  ConvShape s{2,      batch,      in, out, groups, {height, width}, {side, side}, {stride, stride},
              {1, 1}, {pad, pad}, {}};
  for (int d = 0; d < 2; ++d) s.out[d] = (s.in[d] + 2 * pad - side) / stride + 1;
  return s;
}

}  // namespace ebb::kernels::testing
