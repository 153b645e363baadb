// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/blas.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <thread>
#include <vector>

#include "ebb/tests/kernels/kernel_testing.h"

// The elements are small integers, and alpha and beta powers of two, so results are exact in float
// too and are compared for equality.
namespace ebb::kernels {
namespace {

using testing::for_each_target;
using testing::Guarded;
using testing::Random;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Product {
  bool ta, tb;
  int64_t m, n, k;
  double alpha, beta;
  int64_t pad;  // what the leading dimensions are larger than the rows by
};

size_t area(int64_t rows, int64_t cols, int64_t ld) {
  return rows == 0 || cols == 0 ? 0 : static_cast<size_t>((rows - 1) * ld + cols);
}

template <class T>
std::vector<T> integers(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<T> v(n);
  for (T& x : v) x = static_cast<T>(static_cast<int>(random.below(9)) - 4);
  return v;
}

template <class T>
class GemmCase {
 public:
  GemmCase(const Product& p, uint64_t seed)
      : p_(p),
        lda_((p.ta ? p.m : p.k) + p.pad),
        ldb_((p.tb ? p.k : p.n) + p.pad),
        ldc_(p.n + p.pad),
        a_(integers<T>(p.ta ? area(p.k, p.m, lda_) : area(p.m, p.k, lda_), seed)),
        b_(integers<T>(p.tb ? area(p.n, p.k, ldb_) : area(p.k, p.n, ldb_), seed + 1)),
        c_(integers<T>(area(p.m, p.n, ldc_), seed + 2)),
        expected_(c_) {
    // Row by row of op(B), which is quick enough for the large cases.
    std::vector<double> row(static_cast<size_t>(p.n));
    for (int64_t i = 0; i < p.m; ++i) {
      std::fill(row.begin(), row.end(), 0.0);
      for (int64_t q = 0; q < p.k; ++q) {
        const double x = a_[at(p.ta ? q : i, p.ta ? i : q, lda_)];
        for (int64_t j = 0; j < p.n; ++j) {
          row[static_cast<size_t>(j)] += x * b_[at(p.tb ? j : q, p.tb ? q : j, ldb_)];
        }
      }
      for (int64_t j = 0; j < p.n; ++j) {
        T& c = expected_[at(i, j, ldc_)];
        c = static_cast<T>(p.alpha * row[static_cast<size_t>(j)] + p.beta * c);
      }
    }
  }

  void check() const {
    const Guarded<T> a(a_.size(), 0, a_);
    const Guarded<T> b(b_.size(), 0, b_);
    Guarded<T> c(c_.size(), 0, c_);
    const bool nan = p_.beta == 0;  // what C holds must not matter then
    for (int64_t i = 0; i < p_.m && nan; ++i) {
      for (int64_t j = 0; j < p_.n; ++j) c[at(i, j, ldc_)] = static_cast<T>(kNaN);
    }
    gemm<T>(p_.ta, p_.tb, p_.m, p_.n, p_.k, static_cast<T>(p_.alpha), a.data(), lda_, b.data(),
            ldb_, static_cast<T>(p_.beta), c.data(), ldc_);
    for (size_t i = 0; i < c_.size(); ++i) {  // what lies between the rows too
      ASSERT_EQ(c[i], expected_[i]) << "element " << i << " of m " << p_.m << " n " << p_.n << " k "
                                    << p_.k << " ta " << p_.ta << " tb " << p_.tb << " alpha "
                                    << p_.alpha << " beta " << p_.beta << " pad " << p_.pad;
    }
    ASSERT_TRUE(c.intact());
  }

  // Whether the product comes out right, in plain memory.
  bool right() const {
    std::vector<T> c = c_;
    gemm<T>(p_.ta, p_.tb, p_.m, p_.n, p_.k, static_cast<T>(p_.alpha), a_.data(), lda_, b_.data(),
            ldb_, static_cast<T>(p_.beta), c.data(), ldc_);
    return c == expected_;
  }

 private:
  static size_t at(int64_t i, int64_t j, int64_t ld) { return static_cast<size_t>(i * ld + j); }

  Product p_;
  int64_t lda_, ldb_, ldc_;
  std::vector<T> a_, b_, c_, expected_;
};

template <class T>
void check_products(const std::vector<Product>& products) {
  std::vector<GemmCase<T>> cases;
  for (const Product& p : products) cases.emplace_back(p, cases.size());
  for_each_target([&] {
    for (const auto& c : cases) ASSERT_NO_FATAL_FAILURE(c.check());
  });
}

std::vector<Product> small_products() {
  constexpr double kScalars[][2] = {{1, 0}, {1, 1}, {0.5, -2}, {-1, 0.5}};
  std::vector<Product> out;
  Random random(7);
  const auto add = [&](int64_t m, int64_t n, int64_t k) {
    const size_t pick = random.below(16);
    const double* s = kScalars[pick % 4];
    out.push_back({pick % 2 == 1, pick / 2 % 2 == 1, m, n, k, s[0], s[1],
                   static_cast<int64_t>(random.below(2) * 3)});
  };
  for (int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13}) {
    for (int64_t n = 1; n <= 40; ++n) {
      for (int64_t k : {1, 2, 3, 8, 17}) add(m, n, k);
    }
  }
  for (int i = 0; i < 1500; ++i) {
    add(static_cast<int64_t>(random.below(71)), static_cast<int64_t>(random.below(140)),
        static_cast<int64_t>(random.below(71)));
  }
  for (int64_t k = 1; k <= 5; ++k) {  // a few terms
    for (int64_t n : {16, 31, 64, 77, 128, 129, 200, 256, 257, 300}) {
      for (int64_t m : {1, 3, 8, 33}) add(m, n, k);
    }
  }
  for (int tb = 0; tb < 2; ++tb) {  // one row or two, wide and deep
    for (int ta = 0; ta < 2; ++ta) {
      for (int64_t m : {1, 2, 3}) {
        for (int64_t n : {128, 129, 255, 300}) {
          for (int64_t k : {1, 65, 300}) out.push_back({ta == 1, tb == 1, m, n, k, 1, 0, 1});
        }
      }
    }
  }
  return out;
}

// Squares of 8 and 16 have a way of their own, unless they are to be scaled or turned.
std::vector<Product> squares() {
  std::vector<Product> out;
  for (const int64_t n : {7, 8, 9, 15, 16, 17}) {
    for (const int64_t pad : {0, 3}) {
      for (const bool ta : {false, true}) {
        for (const bool tb : {false, true}) {
          for (const double beta : {0, 1}) out.push_back({ta, tb, n, n, n, 1, beta, pad});
        }
      }
      out.push_back({false, false, n, n, n, 2, 0, pad});
    }
  }
  return out;
}

TEST(Gemm, SquaresFloat32) { check_products<float>(squares()); }
TEST(Gemm, SquaresFloat64) { check_products<double>(squares()); }
TEST(Gemm, SmallFloat32) { check_products<float>(small_products()); }
TEST(Gemm, SmallFloat64) { check_products<double>(small_products()); }

// Few rows or columns: both sides of where products become dot products.
std::vector<Product> skinny_products() {
  std::vector<Product> out;
  const auto add = [&](int64_t m, int64_t n, int64_t k) {
    for (int t = 0; t < 4; ++t) {
      const auto i = static_cast<int64_t>(out.size());
      out.push_back({t % 2 == 1, t / 2 == 1, m, n, k, i % 3 == 0 ? 0.5 : 1,
                     i % 5 == 0   ? 0.0
                     : i % 5 == 1 ? -2.0
                                  : 1.0,
                     i % 2 * 3});
    }
  };
  for (const int64_t few : {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 32, 33}) {
    for (const int64_t many : {6, 17, 64, 67}) {
      for (const int64_t k : {7, 16, 31, 32, 63, 64, 65, 127, 130, 256, 261}) {
        add(few, many, k);
        add(many, few, k);
      }
    }
  }
  for (const int64_t k : {1, 2, 3, 4, 5, 8}) {  // sums of few outer products
    for (const int64_t n : {15, 16, 31, 32, 63, 64, 65, 130}) add(19, n, k);
  }
  add(40, 130, 512);  // rows a power of two apart
  add(512, 130, 40);
  return out;
}

// op(B) stored transposed and fewer rows than columns: the product is computed the other way round.
std::vector<Product> turned_products() {
  std::vector<Product> out;
  for (const int64_t m : {6, 8, 14, 15, 16, 24, 31, 32, 33, 47, 64, 127, 128, 129}) {
    for (const int64_t n : {m + 1, 3 * m + 5, 4 * m + 24}) {
      for (const int64_t k : {15, 20, 64, 259}) {
        const auto i = static_cast<int64_t>(out.size());
        out.push_back({i % 7 == 0, true, m, n, k, i % 3 == 0 ? 0.5 : 1,
                       i % 5 == 0   ? 1.0
                       : i % 5 == 1 ? -2.0
                                    : 0.0,
                       i % 2 * 3});
      }
    }
  }
  return out;
}

TEST(Gemm, TurnedFloat32) { check_products<float>(turned_products()); }
TEST(Gemm, TurnedFloat64) { check_products<double>(turned_products()); }

TEST(Gemm, SkinnyFloat32) { check_products<float>(skinny_products()); }
TEST(Gemm, SkinnyFloat64) { check_products<double>(skinny_products()); }

// Few rows with very many of a transposed matrix outside the L2 cache.
std::vector<Product> far_turned_products() {
  std::vector<Product> out;
  for (const int64_t m : {2, 4, 7, 8, 15, 17, 30, 32, 33, 57, 64, 65}) {
    const auto odd = static_cast<double>(m % 3);
    out.push_back({false, true, m, 3001, 131, 0.5, odd, m % 2});
    out.push_back({false, true, m, 519, 801, -1, odd, 3});
  }
  return out;
}

TEST(Gemm, FarTurnedFloat32) { check_products<float>(far_turned_products()); }
TEST(Gemm, FarTurnedFloat64) { check_products<double>(far_turned_products()); }

// Few rows with a long matrix outside the L2 cache.
std::vector<Product> far_products() {
  std::vector<Product> out;
  for (const int64_t m : {5, 6, 7, 14, 15, 22, 26, 30, 31, 45, 64, 65}) {
    const auto odd = static_cast<double>(m % 3);
    out.push_back({false, false, m, 256, 1600, 0.5, odd, 0});
    out.push_back({false, false, m, 261, 1601, 1, odd, 0});
  }
  out.push_back({false, false, 30, 512, 800, 1, 0, 0});
  out.push_back({false, false, 11, 40, 10100, -1, 1, 0});
  out.push_back({false, false, 11, 256, 1600, 1, 1, 1});
  return out;
}

TEST(Gemm, FarFloat32) { check_products<float>(far_products()); }
TEST(Gemm, FarFloat64) { check_products<double>(far_products()); }

std::vector<Product> large_products(size_t item_size) {
  std::vector<Product> out;
  const int64_t more = item_size == 4 ? 1000 : 520;  // past the size from which both are packed
  for (int tb = 0; tb < 2; ++tb) {
    for (int ta = 0; ta < 2; ++ta) {
      const bool a = ta == 1;
      const bool b = tb == 1;
      out.push_back({a, b, 41, 140, 150, 1, 0, 0});     // op(B) packed strip by strip
      out.push_back({a, b, 97, 520, 60, 1, 0, 0});      // rows of B far apart and often used
      out.push_back({a, b, 7, 30, 700, 0.5, 2, 1});     // k in parts
      out.push_back({a, b, 37, 270, more, 0.5, 1, 3});  // both packed
      out.push_back({a, b, 33, more, 280, 1, 0, 0});    // columns in parts
      out.push_back({a, b, more, 259, 263, 1, -1, 1});  // rows in parts
    }
  }
  return out;
}

TEST(Gemm, LargeFloat32) { check_products<float>(large_products(4)); }
TEST(Gemm, LargeFloat64) { check_products<double>(large_products(8)); }

template <class T>
void check_nothing_read() {
  // With alpha = 0 or k = 0 the operands are not looked at.
  for (const double beta : {0.0, 2.0}) {
    for (const bool empty : {false, true}) {
      std::vector<T> c(12, beta == 0 ? static_cast<T>(kNaN) : T{3});
      const std::vector<T> nan(12, static_cast<T>(kNaN));
      const T* operand = empty ? nullptr : nan.data();
      gemm<T>(false, false, 3, 4, empty ? 0 : 3, empty ? T{1} : T{0}, operand, 4, operand, 4,
              static_cast<T>(beta), c.data(), 4);
      for (const T x : c) ASSERT_EQ(x, beta == 0 ? T{0} : T{6});
    }
  }
  gemm<T>(false, false, 0, 4, 3, T{1}, nullptr, 3, nullptr, 4, T{0}, nullptr, 4);
  gemm<T>(false, false, 4, 0, 3, T{1}, nullptr, 3, nullptr, 1, T{0}, nullptr, 1);
}

TEST(Gemm, EmptyOperandsAndZeroAlpha) {
  for_each_target([] {
    check_nothing_read<float>();
    check_nothing_read<double>();
  });
}

TEST(Gemm, NaNInAnOperandReachesTheResult) {
  for_each_target([] {
    std::vector<float> a(64, 0);
    std::vector<float> b(64, 0);
    std::vector<float> c(64, 0);
    a[9] = static_cast<float>(kNaN);  // row 1
    gemm<float>(false, false, 8, 8, 8, 1, a.data(), 8, b.data(), 8, 0, c.data(), 8);
    for (size_t i = 0; i < 64; ++i) ASSERT_EQ(std::isnan(c[i]), i / 8 == 1) << i;
  });
}

// ---- vectors ------------------------------------------------------------------------------------

template <class T>
void check_vectors(int64_t m, int64_t n, int64_t pad) {
  const int64_t ld = n + pad;
  const auto um = static_cast<size_t>(m);
  const auto un = static_cast<size_t>(n);
  const auto seed = static_cast<uint64_t>(m * 1000 + n);
  const Guarded<T> a(area(m, n, ld), 0, integers<T>(area(m, n, ld), seed));
  const auto element = [&](size_t i, size_t j) { return a[i * static_cast<size_t>(ld) + j]; };
  const Guarded<T> u(um, 0, integers<T>(um, seed + 1));
  const Guarded<T> v(un, 0, integers<T>(un, seed + 2));
  for (const double beta : {0.0, 1.0, -0.5}) {
    for (const bool ta : {false, true}) {
      const size_t out = ta ? un : um;
      const auto before = integers<T>(out, seed + 3);
      Guarded<T> y(out, 0, beta == 0 ? std::vector<T>(out, static_cast<T>(kNaN)) : before);
      gemv<T>(ta, m, n, T{2}, a.data(), ld, ta ? u.data() : v.data(), static_cast<T>(beta),
              y.data());
      for (size_t i = 0; i < out; ++i) {
        double s = 0;
        for (size_t j = 0; j < (ta ? um : un); ++j)
          s += ta ? element(j, i) * u[j] : element(i, j) * v[j];
        const double expected = 2 * s + (beta == 0 ? 0 : beta * before[i]);
        ASSERT_EQ(y[i], expected) << "gemv " << ta << " " << m << "x" << n << " beta " << beta
                                  << " i " << i;
      }
      ASSERT_TRUE(y.intact());
    }
  }
  std::vector<T> start(a.data(), a.data() + a.size());
  Guarded<T> r(a.size(), 0, start);
  ger<T>(m, n, T{0.5}, u.data(), v.data(), r.data(), ld);
  for (size_t i = 0; i < um; ++i) {
    for (size_t j = 0; j < un; ++j) start[i * static_cast<size_t>(ld) + j] += T{0.5} * u[i] * v[j];
  }
  for (size_t i = 0; i < start.size(); ++i) ASSERT_EQ(r[i], start[i]) << "ger " << m << "x" << n;
  ASSERT_TRUE(r.intact());

  const Guarded<T> x(un, 0, integers<T>(un, seed + 4));
  for (const double beta : {0.0, 1.0}) {
    const auto before = integers<T>(um, seed + 5);
    Guarded<T> w(a.size(), 0, std::vector<T>(a.data(), a.data() + a.size()));
    Guarded<T> y(um, 0, beta == 0 ? std::vector<T>(um, static_cast<T>(kNaN)) : before);
    Guarded<T> want(um, 0, beta == 0 ? std::vector<T>(um, static_cast<T>(kNaN)) : before);
    ger_gemv<T>(m, n, T{0.5}, u.data(), v.data(), w.data(), ld, x.data(), static_cast<T>(beta),
                y.data());
    gemv<T>(false, m, n, T{1}, r.data(), ld, x.data(), static_cast<T>(beta), want.data());
    for (size_t i = 0; i < start.size(); ++i) ASSERT_EQ(w[i], r[i]) << m << "x" << n;
    for (size_t i = 0; i < um; ++i) ASSERT_EQ(y[i], want[i]) << m << "x" << n;
    ASSERT_TRUE(w.intact());
    ASSERT_TRUE(y.intact());
  }
}

template <class T>
void check_all_vectors() {
  for (const int64_t m : {0, 1, 2, 3, 4, 5, 8, 11, 65}) {
    for (int64_t n = 0; n <= 70; ++n) check_vectors<T>(m, n, n % 3);
  }
  for (const int64_t m : {70, 131}) {  // both sides of where rows are read in order
    for (const int64_t n : {63, 64, 65, 96, 97, 128, 129, 150, 192, 200, 256, 257, 300}) {
      check_vectors<T>(m, n, n % 2);
    }
  }
  for (int64_t n = 1; n <= 5; ++n) {  // narrow ones, around each number of rows that fits a vector
    for (int64_t m = 1; m <= 50; ++m) check_vectors<T>(m, n, 0);
  }
  check_vectors<T>(1101, 1001, 0);
  check_vectors<T>(203, 401, 0);  // past the size from which rows are added up one after the other
  check_vectors<T>(5, 20001, 0);
  // Rows that fit the registers, of matrices that do not fit the first-level cache.
  for (const int64_t n : {96, 128, 192, 256}) check_vectors<T>(131, n, n % 5);
  for (int64_t n = 65; n <= 400; n += 5) check_vectors<T>(134, n, 0);
  for (const int64_t n : {128, 120, 65}) check_vectors<T>(1025, n, 0);
}

TEST(Gemv, AndRankOneUpdate) {
  for_each_target([] {
    check_all_vectors<float>();
    check_all_vectors<double>();
  });
}

template <class T>
void check_outer(int64_t m, int64_t n, int64_t stride) {
  const auto um = static_cast<size_t>(m);
  const auto un = static_cast<size_t>(n);
  const Guarded<T> u(area(m, 1, stride), 0, integers<T>(area(m, 1, stride), 1));
  const Guarded<T> v(un, 0, integers<T>(un, 2));
  Guarded<T> y(um * un, 0, std::vector<T>(um * un, static_cast<T>(kNaN)));
  outer<T>(m, n, u.data(), stride, v.data(), y.data());
  for (size_t i = 0; i < um * un; ++i) {
    ASSERT_EQ(y[i], u[i / un * static_cast<size_t>(stride)] * v[i % un]) << m << "x" << n;
  }
  ASSERT_TRUE(y.intact());
}

TEST(Outer, Product) {
  for_each_target([] {
    for (const int64_t m : {0, 1, 2, 3, 7, 16, 17, 40}) {
      for (const int64_t n : {0, 1, 2, 3, 4, 5, 16, 63, 64, 130, 257, 300}) {
        for (const int64_t stride : {1, 3}) {
          check_outer<float>(m, n, stride);
          check_outer<double>(m, n, stride);
        }
      }
    }
  });
}

// Where sums are rounded: both ways of taking them agree to the last bit.
template <class T>
void check_rounding(int64_t m, int64_t n) {
  const auto random = [](int64_t size, double seed) {
    std::vector<T> v(static_cast<size_t>(size));
    for (size_t i = 0; i < v.size(); ++i) {
      v[i] = static_cast<T>(std::sin(seed + 1.7 * static_cast<double>(i)));
    }
    return v;
  };
  const std::vector<T> u = random(m, 1);
  const std::vector<T> v = random(n, 2);
  const std::vector<T> x = random(n, 3);
  std::vector<T> apart = random(m * n, 4);
  std::vector<T> together = apart;
  std::vector<T> y = random(m, 5);
  std::vector<T> want = y;
  ger<T>(m, n, T{-0.1f}, u.data(), v.data(), apart.data(), n);
  gemv<T>(false, m, n, T{1}, apart.data(), n, x.data(), T{1}, want.data());
  ger_gemv<T>(m, n, T{-0.1f}, u.data(), v.data(), together.data(), n, x.data(), T{1}, y.data());
  ASSERT_EQ(together, apart) << m << "x" << n;
  ASSERT_EQ(y, want) << m << "x" << n;
}

TEST(Gemv, WithARankOneUpdateInOnePass) {
  for_each_target([] {
    for (const int64_t n : {1, 3, 7, 8, 16, 31, 64, 100, 120, 150, 257, 300, 304, 700, 784}) {
      for (const int64_t m : {61, 203}) {
        check_rounding<float>(m, n);
        check_rounding<double>(m, n);
      }
    }
    for (const int64_t m : {1025, 2049, 33000}) {
      for (const int64_t n : {1, 2, 3, 4, 5}) {
        check_rounding<float>(m, n);
        check_rounding<double>(m, n);
      }
    }
  });
}

template <class T>
void check_dot() {
  for (size_t n = 0; n <= 140; ++n) {
    const auto x = integers<T>(n, n);
    const auto y = integers<T>(n, n + 1);
    double expected = 0;
    for (size_t i = 0; i < n; ++i) expected += x[i] * y[i];
    for (size_t gap = 0; gap < 3; ++gap) {
      const Guarded<T> a(n, gap, x);
      const Guarded<T> b(n, 0, y);
      ASSERT_EQ(dot(a.data(), b.data(), n), expected) << n;
    }
  }
}

TEST(Dot, ExactOnIntegers) {
  for_each_target([] {
    check_dot<float>();
    check_dot<double>();
  });
}

TEST(Dot, ErrorOfALongFloat32ProductIsSmall) {
  constexpr size_t kN = 1000000;
  Random random(5);
  std::vector<float> x(kN);
  long double exact = 0;
  for (float& v : x) {
    v = static_cast<float>(1 + random.unit() / 2);
    exact += static_cast<long double>(v) * v;
  }
  for_each_target([&] { EXPECT_NEAR(dot(x.data(), x.data(), kN) / exact, 1.0L, 3e-7L); });
}

TEST(Gemm, ThreadsDoNotDisturbEachOther) {
  std::vector<GemmCase<float>> cases;
  cases.emplace_back(Product{false, false, 40, 300, 900, 1, 0, 0}, 1);
  cases.emplace_back(Product{true, true, 64, 64, 64, 1, 0, 0}, 2);
  const auto run = [](const GemmCase<float>& c, size_t times, bool* wrong) {
    for (size_t i = 0; i < times; ++i) *wrong |= !c.right();
  };
  constexpr size_t kThreads = 4;
  std::vector<std::thread> threads;
  bool wrong[kThreads] = {};
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back(run, std::cref(cases[t % 2]), t % 2 == 0 ? 10 : 200, &wrong[t]);
  }
  for (auto& t : threads) t.join();
  for (const bool w : wrong) EXPECT_FALSE(w);
}

TEST(Gemv, OneRowIsNotReadWhereAlphaIsZero) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float a[] = {nan, nan, nan};
  float y[] = {1, 2, 3};
  kernels::gemv(true, 1, 3, 0.0f, a, 3, &nan, 1.0f, y);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(y[i], i + 1);
}

}  // namespace
}  // namespace ebb::kernels
