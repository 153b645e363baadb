// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/outer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "ebb/tests/kernels/kernel_testing.h"

namespace ebb::kernels {
namespace {

using testing::for_each_target;
using testing::Guarded;
using testing::Random;

// Small integers, and alpha a power of two: the results are exact.
template <class T>
std::vector<T> integers(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<T> v(n);
  for (T& x : v) x = static_cast<T>(static_cast<int>(random.below(9)) - 4);
  return v;
}

template <class T>
void check(size_t m, size_t n, size_t count, size_t pad) {
  constexpr T kAlpha = -0.5;
  const size_t lda = n + pad;
  std::vector<std::unique_ptr<Guarded<T>>> vectors;  // each ends where nothing may be read
  std::vector<const T*> u;
  std::vector<const T*> v;
  for (size_t p = 0; p < count; ++p) {
    vectors.push_back(std::make_unique<Guarded<T>>(m, 0, integers<T>(m, 3 * p + 1)));
    u.push_back(vectors.back()->data());
    vectors.push_back(std::make_unique<Guarded<T>>(n, 0, integers<T>(n, 3 * p + 2)));
    v.push_back(vectors.back()->data());
  }
  std::vector<T> expected = integers<T>((m - 1) * lda + n, 7);
  Guarded<T> a(expected.size(), 0, expected);
  for (size_t i = 0; i < m; ++i) {
    for (size_t p = 0; p < count; ++p) {
      for (size_t j = 0; j < n; ++j) expected[i * lda + j] += kAlpha * u[p][i] * v[p][j];
    }
  }
  add_outers<T>(static_cast<int64_t>(m), static_cast<int64_t>(n), kAlpha,
                {u.data(), v.data(), count}, a.data(), static_cast<int64_t>(lda));
  for (size_t i = 0; i < expected.size(); ++i) {  // what lies between the rows too
    ASSERT_EQ(a[i], expected[i]) << "element " << i << " of m " << m << " n " << n << " terms "
                                 << count << " pad " << pad;
  }
  ASSERT_TRUE(a.intact());
}

TEST(Outer, SumsOfProducts) {
  for_each_target([] {
    for (const size_t m : {1, 5, 6, 7, 8, 9, 13, 16, 27}) {
      for (const size_t n : {1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 70}) {
        for (const size_t count : {1, 2, 5, 16, 17, 20}) {
          check<float>(m, n, count, n % 2 == 0 ? 0 : 3);
          check<double>(m, n, count, n % 2 == 0 ? 3 : 0);
        }
      }
    }
  });
}

// The columns go in several panels, the terms in several passes.
TEST(Outer, ManyColumnsAndTerms) {
  for_each_target([] {
    for (const size_t n : {300, 4200}) {
      for (const size_t count : {2, 30, 64, 65, 150}) {
        check<float>(11, n, count, 1);
        check<double>(11, n, count, 1);
      }
    }
  });
}

TEST(Outer, NothingToAdd) {
  for_each_target([] {
    Guarded<float> a(6, 0, {1, 2, 3, 4, 5, 6});
    add_outers<float>(2, 3, 1, {nullptr, nullptr, 0}, a.data(), 3);
    for (size_t i = 0; i < 6; ++i) EXPECT_EQ(a[i], static_cast<float>(i + 1));
    add_outers<float>(0, 3, 1, {nullptr, nullptr, 0}, a.data(), 3);
    EXPECT_TRUE(a.intact());
  });
}

}  // namespace
}  // namespace ebb::kernels
