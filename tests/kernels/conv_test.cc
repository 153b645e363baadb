// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/conv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "ebb/core/memory.h"
#include "ebb/tests/kernels/kernel_testing.h"

namespace ebb::kernels {
namespace {

using testing::for_each_target;
using testing::Guarded;
using testing::Random;

size_t product(const int64_t (&sizes)[3], int dims) {
  size_t n = 1;
  for (int d = 0; d < dims; ++d) n *= static_cast<size_t>(sizes[d]);
  return n;
}
size_t x_size(const ConvShape& s) {
  return static_cast<size_t>(s.batch * s.in_channels) * product(s.in, s.dims);
}
size_t y_size(const ConvShape& s) {
  return static_cast<size_t>(s.batch * s.out_channels) * product(s.out, s.dims);
}
size_t w_size(const ConvShape& s) {
  return static_cast<size_t>(s.out_channels * s.in_channels / s.groups) * product(s.kernel, s.dims);
}

std::string describe(const ConvShape& s) {
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

// Runs a pass in memory that holds NaN, and sees that it takes no more than it says.
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
  reset_peak_memory();
  const int64_t before = memory_stats().live_bytes;
  run();
  EXPECT_LE(memory_stats().peak_bytes - before, static_cast<int64_t>(bytes));
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

ConvShape draw(Random& random) {
  const auto between = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random.below(static_cast<size_t>(high - low + 1)));
  };
  ConvShape s{};
  s.dims = static_cast<int>(between(1, 3));
  s.batch = between(1, 3);
  s.groups = random.below(3) == 0 ? between(1, 4) : 1;
  const int64_t most = random.below(4) == 0 ? 40 : 9;
  s.in_channels = s.groups * between(1, most);
  s.out_channels = s.groups * between(1, most);
  if (random.below(6) == 0) {  // depthwise
    s.groups = s.in_channels;
    s.out_channels = s.groups * between(1, 2);
  }
  const int64_t side[] = {0, 70, 20, 8};
  for (int d = 0; d < s.dims; ++d) {
    do {
      s.kernel[d] = between(1, random.below(3) == 0 ? 7 : 3);
      s.stride[d] = random.below(2) == 0 ? 1 : between(1, 4);
      s.dilation[d] = random.below(3) == 0 ? between(1, 3) : 1;
      s.in[d] = between(1, side[s.dims]);
      s.pad[d] = random.below(3) == 0 ? between(0, 6) : s.kernel[d] / 2;
      const int64_t behind = random.below(3) == 0 ? between(-3, 5) : s.pad[d];
      s.out[d] =
          (s.in[d] + s.pad[d] + behind - s.dilation[d] * (s.kernel[d] - 1) - 1) / s.stride[d] + 1;
    } while (s.out[d] < 1);
  }
  return s;
}

TEST(Conv, RandomGeometries) {
  Random random(7);
  for (int i = 0; i < 300; ++i) {
    const ConvShape s = draw(random);
    check<float>(s, i % 2 == 0);
    check<double>(s, i % 2 == 0);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(Conv, NothingToCompute) {
  for (const int64_t batch : {0, 1}) {
    for (const int64_t in : {0, 3}) {
      for (const int64_t out : {0, 2}) {
        check<float>({2, batch, in, out, 1, {4, 4}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {4, 4}});
      }
    }
  }
  // Outputs that read only padding.
  check<float>({1, 1, 2, 3, 1, {3}, {2}, {1}, {1}, {9}, {20}});
  check<float>({2, 1, 2, 3, 1, {0, 3}, {2, 1}, {1, 1}, {1, 1}, {2, 0}, {3, 3}});
}

ConvShape square(int64_t batch, int64_t in, int64_t out, int64_t groups, int64_t height,
                 int64_t width, int64_t side, int64_t stride, int64_t pad) {
  ConvShape s{2,      batch,      in, out, groups, {height, width}, {side, side}, {stride, stride},
              {1, 1}, {pad, pad}, {}};
  for (int d = 0; d < 2; ++d) s.out[d] = (s.in[d] + 2 * pad - side) / stride + 1;
  return s;
}

// 3x3 with stride 1: channels that do and do not fill vectors, images of all sizes from one tile's
// part on, and so many channels that transformed weights are not kept and tiles go in several
// rectangles. Winograd's form costs accuracy; 1e-4 of the largest value is promised.
TEST(Conv, Winograd) {
  for (const int64_t channels : {7, 8, 9, 16, 33}) {
    for (const int64_t height : {1, 2, 3, 4, 5, 8, 13}) {
      for (const int64_t pad : {0, 1, 2, 3}) {
        const int64_t width = height < 3 ? 9 : height + pad;
        if (height + 2 * pad < 3) continue;
        check<float>(square(1, channels, channels + pad, 1, height, width, 3, 1, pad), true, 1e-5);
      }
    }
  }
  check<float>(square(2, 8, 20, 1, 9, 10, 3, 1, 1), true, 1e-5);
  check<float>(square(2, 24, 48, 3, 7, 6, 3, 1, 1), false, 1e-5);
  check<float>(square(1, 70, 75, 1, 7, 7, 3, 1, 1), true, 1e-5);
  check<float>(square(1, 150, 140, 1, 5, 6, 3, 1, 1), true, 1e-5);
  check<float>(square(1, 24, 20, 1, 52, 51, 3, 1, 1), true, 1e-5);
  check<float>(square(1, 10, 9, 1, 3, 700, 3, 1, 1), true, 1e-5);
}

// Three axes, of which the first is summed in the transformed domain: kernels of any depth, images
// that are cut into runs of slices, slices that see nothing but padding.
TEST(Conv, WinogradOfSlices) {
  const auto volume = [](int64_t batch, int64_t in, int64_t out, int64_t groups,
                         const int64_t(&size)[3], int64_t depth, int64_t before, int64_t pad) {
    ConvShape s{3, batch, in, out, groups, {}, {depth, 3, 3}, {1, 1, 1}, {1, 1, 1}, {}, {0, 0, 0}};
    const int64_t front[] = {before, pad, pad};
    for (int d = 0; d < 3; ++d) {
      s.in[d] = size[d];
      s.pad[d] = front[d];
      s.out[d] = size[d] + 2 * front[d] - s.kernel[d] + 1;
    }
    return s;
  };
  for (const int64_t depth : {1, 2, 3, 5}) {
    for (const int64_t before : {0, 1, 2, 4}) {
      for (const int64_t slices : {1, 2, 6}) {
        if (slices + 2 * before < depth) continue;
        for (const int64_t channels : {8, 9, 16}) {
          check<float>(volume(1, channels, 17, 1, {slices, 5, 6}, depth, before, 1), true, 1e-5);
        }
      }
    }
  }
  check<float>(volume(1, 16, 16, 1, {16, 9, 10}, 3, 1, 1), true, 1e-5);
  check<float>(volume(2, 20, 36, 2, {4, 8, 7}, 3, 1, 2), false, 1e-5);
  check<float>(volume(1, 70, 40, 1, {5, 12, 13}, 3, 1, 1), true, 1e-5);
  check<float>(volume(1, 24, 40, 1, {13, 20, 20}, 3, 1, 0), true, 1e-5);
  ConvShape uneven = volume(1, 12, 10, 1, {7, 9, 9}, 3, 1, 1);
  uneven.out[0] = 5;
  uneven.out[1] = 11;
  check<float>(uneven, true, 1e-5);
}

TEST(Conv, Depthwise) {
  for (const int64_t side : {3, 5}) {
    for (const int64_t width : {1, 2, 7, 8, 9, 14, 16, 17, 18, 32, 35, 49}) {
      for (const int64_t height : {1, 5, 7, 8, 15}) {
        for (const int64_t pad : {int64_t{0}, side / 2, side - 1, side + 2}) {
          if (std::min(width, height) + 2 * pad < side) continue;
          check<float>(square(1, 3, 3, 3, height, width, side, 1, pad), width % 2 == 0);
        }
      }
    }
  }
  check<float>(square(1, 2, 2, 2, 19, 83, 3, 1, 1));
  check<float>(square(1, 2, 2, 2, 19, 83, 5, 1, 2));
  check<float>(square(1, 2, 2, 2, 12, 130, 3, 1, 17));
  ConvShape cut = square(1, 2, 2, 2, 14, 60, 5, 1, 2);  // rows and columns that nothing reads
  cut.out[0] = 4;
  cut.out[1] = 37;
  check<float>(cut);
  check<float>(square(2, 3, 3, 3, 9, 20, 3, 1, 1));
  check<float>(square(1, 4, 8, 4, 9, 20, 3, 1, 1));
  check<float>(square(1, 4, 4, 4, 9, 20, 3, 2, 1));
  check<double>(square(1, 4, 4, 4, 9, 20, 3, 1, 1));
}

// Sums too long for one go, weights in several strips, images in several boxes; few channels, for
// which vectors are of outputs.
TEST(Conv, Direct) {
  for (const int64_t in : {1, 6, 130}) {
    for (const int64_t out : {1, 3, 6, 16, 17, 40}) {
      check<float>(square(1, in, out, 1, 11, 9, 3, 2, 1));
      check<float>(square(1, in, out, 1, 12, 12, 5, 1, 0));
      check<float>(square(1, in, out, 1, 6, 7, 1, 1, 0));
    }
  }
  check<double>(square(1, 130, 20, 1, 11, 9, 3, 2, 1));
  check<float>(square(1, 3, 20, 1, 90, 90, 7, 2, 3));
  check<float>(square(1, 1, 6, 1, 150, 140, 5, 1, 2));
  check<float>(square(2, 6, 1, 1, 28, 28, 5, 1, 2));
  check<float>(square(1, 40, 5, 1, 40, 41, 3, 1, 1));
  check<float>({1, 1, 20, 40, 1, {3000}, {5}, {1}, {2}, {4}, {3000}});
  check<float>(
      {3, 1, 16, 16, 1, {9, 10, 11}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {9, 10, 11}});
  // Taps so far apart that no workspace would hold what a box sees.
  check<float>({1, 1, 2, 3, 1, {5}, {2}, {1}, {3000000}, {3000000}, {5}});
}

}  // namespace
}  // namespace ebb::kernels
