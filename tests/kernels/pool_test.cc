// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/pool.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "ebb/tests/kernels/kernel_testing.h"

namespace ebb::kernels {
namespace {

using testing::for_each_target;
using testing::Guarded;
using testing::Random;

size_t count_in(const PoolShape& s) {
  return static_cast<size_t>(s.planes * s.in[0] * s.in[1] * s.in[2]);
}
size_t count_out(const PoolShape& s) {
  return static_cast<size_t>(s.planes * s.out[0] * s.out[1] * s.out[2]);
}

// Calls f(output, element) for what each window sees of x, in row-major order.
template <class F>
void for_each_seen(const PoolShape& s, F&& f) {
  size_t o = 0;
  for (int64_t p = 0; p < s.planes; ++p) {
    for (int64_t a = 0; a < s.out[0] * s.out[1] * s.out[2]; ++a, ++o) {
      const int64_t at[3] = {a / (s.out[1] * s.out[2]), a / s.out[2] % s.out[1], a % s.out[2]};
      for (int64_t k = 0; k < s.kernel[0] * s.kernel[1] * s.kernel[2]; ++k) {
        const int64_t tap[3] = {k / (s.kernel[1] * s.kernel[2]), k / s.kernel[2] % s.kernel[1],
                                k % s.kernel[2]};
        int64_t element = p;
        bool inside = true;
        for (int d = 0; d < 3; ++d) {
          const int64_t i = at[d] * s.stride[d] - s.pad[d] + tap[d] * s.dilation[d];
          inside = inside && i >= 0 && i < s.in[d];
          element = element * s.in[d] + i;
        }
        if (inside) f(o, static_cast<size_t>(element));
      }
    }
  }
}

// Small integers, so that sums are exact and some elements are equal.
template <class T>
std::vector<T> integers(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<T> v(n);
  for (T& x : v) x = static_cast<T>(static_cast<int>(random.below(17)) - 8);
  return v;
}

template <class T>
void expect_equal(const Guarded<T>& got, const std::vector<T>& want, const char* what) {
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(got[i], want[i]) << what << ", element " << i << " of " << want.size();
  }
  ASSERT_TRUE(got.intact()) << what;
}

template <class T>
void check_max(const PoolShape& s) {
  const auto x = integers<T>(count_in(s), 1);
  const auto g = integers<T>(count_out(s), 2);
  std::vector<T> y(count_out(s));
  std::vector<int64_t> index(count_out(s), -1);
  for_each_seen(s, [&](size_t o, size_t i) {
    if (index[o] >= 0 && x[i] <= y[o]) return;
    y[o] = x[i];
    index[o] = static_cast<int64_t>(i);
  });
  std::vector<T> dx(x.size());
  for (size_t o = 0; o < g.size(); ++o) dx[static_cast<size_t>(index[o])] += g[o];
  const Guarded<T> from(x.size(), 0, x);
  const Guarded<T> gradient(g.size(), 0, g);
  Guarded<T> to(y.size());
  max_pool(s, from.data(), to.data());
  expect_equal(to, y, "max");
  Guarded<T> back(x.size());
  max_pool_backward(s, from.data(), to.data(), gradient.data(), back.data());
  expect_equal(back, dx, "backward of max");
  Guarded<int64_t> found(y.size());
  max_pool(s, from.data(), to.data(), found.data());
  expect_equal(to, y, "max with indices");
  const int64_t plane = s.in[0] * s.in[1] * s.in[2];
  for (int64_t& i : index) i %= plane;
  expect_equal(found, index, "indices");
}

// Divided by a power of two, so that these are exact too.
template <class T>
void check_average(const PoolShape& s) {
  const auto x = integers<T>(count_in(s), 3);
  const auto g = integers<T>(count_out(s), 4);
  std::vector<T> y(count_out(s));
  std::vector<T> dx(x.size());
  for_each_seen(s, [&](size_t o, size_t i) {
    y[o] += x[i] / 8;
    dx[i] += g[o] / 8;
  });
  const Guarded<T> from(x.size(), 0, x);
  const Guarded<T> gradient(g.size(), 0, g);
  Guarded<T> to(y.size());
  avg_pool(s, true, 8, from.data(), to.data());
  expect_equal(to, y, "average");
  Guarded<T> back(x.size());
  avg_pool_backward(s, true, 8, gradient.data(), back.data());
  expect_equal(back, dx, "backward of average");
}

// Windows of `kernel` at `stride` over an image of that width, and the same over three axes.
PoolShape shape(int64_t planes, int64_t depth, int64_t height, int64_t width, int64_t kernel,
                int64_t stride, int64_t pad, int64_t dilation) {
  PoolShape s{planes, {depth, height, width}, {}, {}, {}, {}, {}};
  for (int d = 0; d < 3; ++d) {
    const bool flat = s.in[d] == 1;
    s.kernel[d] = flat ? 1 : kernel;
    s.stride[d] = flat ? 1 : stride;
    s.pad[d] = flat ? 0 : pad;
    s.dilation[d] = flat ? 1 : dilation;
    s.out[d] = (s.in[d] + 2 * s.pad[d] - s.dilation[d] * (s.kernel[d] - 1) - 1) / s.stride[d] + 1;
  }
  return s;
}

std::vector<PoolShape> shapes() {
  std::vector<PoolShape> all;
  for (const int64_t width : {4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 34, 63, 64, 65, 70}) {
    all.push_back(shape(2, 1, 6, width, 2, 2, 0, 1));
    all.push_back(shape(2, 1, 5, width, 2, 2, 0, 1));
    all.push_back(shape(2, 1, 7, width, 3, 2, 1, 1));
    all.push_back(shape(1, 1, 6, width, 3, 1, 1, 1));
    all.push_back(shape(1, 1, 6, width, 2, 3, 1, 2));
    all.push_back(shape(1, 1, 1, width, 4, 4, 0, 1));
    all.push_back(shape(1, 4, 4, width, 2, 2, 0, 1));
    all.push_back(shape(1, 4, 5, width, 3, 1, 1, 1));
  }
  return all;
}

TEST(Pool, LargestOfWindows) {
  for_each_target([] {
    for (const PoolShape& s : shapes()) {
      check_max<float>(s);
      check_max<double>(s);
      if (::testing::Test::HasFatalFailure()) return;
    }
  });
}

TEST(Pool, MeansOfWindows) {
  for_each_target([] {
    for (const PoolShape& s : shapes()) {
      if (s.dilation[2] != 1) continue;
      check_average<float>(s);
      check_average<double>(s);
      if (::testing::Test::HasFatalFailure()) return;
    }
  });
}

TEST(Pool, AdaptiveWindowsCoverAnAxisEvenly) {
  for (int64_t n = 1; n < 40; ++n) {
    for (int64_t out = 1; out < 50; ++out) {
      int64_t end = 0;
      for (int64_t o = 0; o < out; ++o) {
        const PoolWindow w = adaptive_window(n, out, o);
        ASSERT_LE(w.begin, end);
        ASSERT_GT(w.end, w.begin);
        ASSERT_GE(w.end, end);
        ASSERT_LE(w.end - w.begin, n / out + 2);
        end = w.end;
      }
      ASSERT_EQ(end, n);
    }
  }
}

}  // namespace
}  // namespace ebb::kernels
