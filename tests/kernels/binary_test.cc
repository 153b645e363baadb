// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/binary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "ebb/core/half.h"
#include "ebb/tests/kernels/kernel_testing.h"

namespace ebb::kernels {
namespace {

using testing::for_each_target;
using testing::Guarded;
using testing::Random;
using testing::same;
using testing::samples;

struct Form {
  ptrdiff_t sa, sb;
};
constexpr Form kForms[] = {{1, 1}, {1, 0}, {0, 1}, {0, 0}, {2, 1}, {1, 3}, {-1, 1}, {0, -2}};

// Elements that a row of n with stride s spans, and where it starts among them.
size_t span_of(size_t n, ptrdiff_t s) {
  return n == 0 ? 0 : (n - 1) * static_cast<size_t>(s < 0 ? -s : s) + 1;
}
size_t start_of(size_t n, ptrdiff_t s) { return s < 0 ? span_of(n, s) - 1 : 0; }

std::vector<size_t> sizes() {
  std::vector<size_t> n;
  for (size_t i = 0; i <= 70; ++i) n.push_back(i);
  n.push_back(131);
  n.push_back(1000);
  return n;
}

__extension__ typedef __int128 Wide;

uint64_t power(uint64_t base, uint64_t exponent) {
  if (exponent == 0) return 1;
  const uint64_t root = power(base, exponent / 2);
  return root * root * (exponent % 2 == 1 ? base : 1);
}

// The definitions, spelled without regard for speed, in wider arithmetic where that helps.
template <class T>
T reference(Binary op, T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    switch (op) {
      case Binary::kAdd:
        return a + b;
      case Binary::kSub:
        return a - b;
      case Binary::kMul:
        return a * b;
      case Binary::kDiv:
        return a / b;
      case Binary::kMinimum:
        return std::isnan(a) || std::isnan(b) ? std::numeric_limits<T>::quiet_NaN()
                                              : std::fmin(a, b);
      case Binary::kMaximum:
        return std::isnan(a) || std::isnan(b) ? std::numeric_limits<T>::quiet_NaN()
                                              : std::fmax(a, b);
      case Binary::kPow:
        return std::pow(a, b);
      case Binary::kAtan2:
        return std::atan2(a, b);
      case Binary::kFmod:
        return std::fmod(a, b);
      case Binary::kRemainder: {
        const T r = std::fmod(a, b);
        return r == 0 || std::signbit(r) == std::signbit(b) ? r : r + b;
      }
      default: {  // kFloorDivide; the values are small, so long double division is exact enough
        if (b == 0 || !std::isfinite(a))
          return b == 0 ? a / b : std::numeric_limits<T>::quiet_NaN();
        if (std::isinf(b)) return a == 0 || std::signbit(a) == std::signbit(b) ? T{0} : T{-1};
        return static_cast<T>(
            std::floor(static_cast<long double>(a) / static_cast<long double>(b)));
      }
    }
  } else {
    const auto wide_a = static_cast<Wide>(a);
    const auto wide_b = static_cast<Wide>(b);
    switch (op) {
      case Binary::kAdd:
        return static_cast<T>(wide_a + wide_b);
      case Binary::kSub:
        return static_cast<T>(wide_a - wide_b);
      case Binary::kMul:
        return static_cast<T>(wide_a * wide_b);
      case Binary::kDiv:
        return b == 0 ? T{0} : static_cast<T>(wide_a / wide_b);
      case Binary::kMinimum:
        return a < b ? a : b;
      case Binary::kMaximum:
        return a < b ? b : a;
      case Binary::kPow: {
        if (b < 0) return a == 1 ? T{1} : wide_a != -1 ? T{0} : static_cast<T>(b % 2 == 0 ? 1 : -1);
        return static_cast<T>(power(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
      }
      case Binary::kFmod:
        return b == 0 ? T{0} : static_cast<T>(wide_a % wide_b);
      case Binary::kRemainder: {
        if (b == 0) return 0;
        const auto r = wide_a % wide_b;
        return static_cast<T>(r != 0 && (r < 0) != (b < 0) ? r + wide_b : r);
      }
      default: {  // kFloorDivide
        if (b == 0) return 0;
        const auto q = wide_a / wide_b;
        return static_cast<T>(q * wide_b != wide_a && (wide_a < 0) != (wide_b < 0) ? q - 1 : q);
      }
    }
  }
}

template <class T>
void check_binary(DType dtype, Binary op) {
  const BinaryFn fn = binary_fn(dtype, op);
  ASSERT_NE(fn, nullptr);
  for (const size_t n : sizes()) {
    for (const Form& f : kForms) {
      const size_t na = span_of(n, f.sa);
      const size_t nb = span_of(n, f.sb);
      const size_t gap = n % 4;
      const Guarded<T> a(na, 0, samples<T>(na, n + 1, true));
      const Guarded<T> b(nb, 0, samples<T>(nb, n + 7, true));
      Guarded<T> out(n, gap);
      const T* pa = a.data() + start_of(n, f.sa);
      const T* pb = b.data() + start_of(n, f.sb);
      fn(pa, f.sa, pb, f.sb, out.data(), n);
      for (size_t i = 0; i < n; ++i) {
        const T x = pa[static_cast<ptrdiff_t>(i) * f.sa];
        const T y = pb[static_cast<ptrdiff_t>(i) * f.sb];
        ASSERT_TRUE(same(out[i], reference(op, x, y)))
            << "op " << static_cast<int>(op) << " n " << n << " i " << i << " strides " << f.sa
            << "," << f.sb << ": " << +x << " op " << +y << " = " << +out[i];
      }
      ASSERT_TRUE(out.intact());
    }
    // In place, over either operand.
    const auto x = samples<T>(n, n + 1);
    const auto y = samples<T>(n, n + 2);
    Guarded<T> a(n, 0, x);
    Guarded<T> b(n, 0, y);
    fn(a.data(), 1, b.data(), 1, a.data(), n);
    for (size_t i = 0; i < n; ++i) ASSERT_TRUE(same(a[i], reference(op, x[i], y[i])));
    const Guarded<T> again(n, 0, x);
    fn(again.data(), 1, b.data(), 1, b.data(), n);
    for (size_t i = 0; i < n; ++i) ASSERT_TRUE(same(b[i], reference(op, x[i], y[i])));
  }
}

TEST(Binary, Float32) {
  for_each_target([] {
    for (int op = 0; op < kBinaryCount; ++op) check_binary<float>(kFloat32, Binary(op));
  });
}
TEST(Binary, Float64) {
  for_each_target([] {
    for (int op = 0; op < kBinaryCount; ++op) check_binary<double>(kFloat64, Binary(op));
  });
}

template <class T>
void check_integer_type(DType dtype) {
  for (int op = 0; op < kBinaryCount; ++op) {
    if (Binary(op) == Binary::kAtan2) {
      EXPECT_EQ(binary_fn(dtype, Binary(op)), nullptr);
    } else {
      check_binary<T>(dtype, Binary(op));
    }
  }
}
TEST(Binary, Int64) {
  for_each_target([] { check_integer_type<int64_t>(kInt64); });
}
TEST(Binary, Int32) {
  for_each_target([] { check_integer_type<int32_t>(kInt32); });
}
TEST(Binary, UInt8) {
  for_each_target([] { check_integer_type<uint8_t>(kUInt8); });
}

TEST(Binary, HasNoKernelsForStorageTypes) {
  EXPECT_EQ(binary_fn(kFloat16, Binary::kAdd), nullptr);
  EXPECT_EQ(binary_fn(kBFloat16, Binary::kMul), nullptr);
}

TEST(Binary, FloatDivisionAndRemainderAtTheEdges) {
  const auto apply = [](Binary op, double a, double b) {
    double out;
    binary_fn(kFloat64, op)(&a, 1, &b, 1, &out, 1);
    return out;
  };
  // 1 / 0.1 rounds to 10, but 0.1 is more than a tenth.
  EXPECT_EQ(apply(Binary::kFloorDivide, 1, 0.1), 9);
  EXPECT_EQ(apply(Binary::kFloorDivide, -1, 0.1), -10);
  EXPECT_TRUE(std::signbit(apply(Binary::kFloorDivide, -0.0, 3)));
  EXPECT_EQ(apply(Binary::kFloorDivide, 3, -0.0), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(apply(Binary::kRemainder, -7, 3), 2);
  EXPECT_EQ(apply(Binary::kRemainder, 7, -3), -2);
  EXPECT_EQ(apply(Binary::kFmod, -7, 3), -1);
}

TEST(Binary, BoolIsLogicOnAnyNonzeroByte) {
  const uint8_t a[] = {0, 0, 1, 1, 0, 6, 6, 255, 2};
  const uint8_t b[] = {0, 1, 0, 1, 9, 0, 9, 255, 4};
  constexpr size_t kN = 9;
  for_each_target([&] {
    for (const Binary op : {Binary::kAdd, Binary::kMaximum, Binary::kMul, Binary::kMinimum}) {
      uint8_t out[kN];
      binary_fn(kBool, op)(a, 1, b, 1, out, kN);
      const bool any = op == Binary::kAdd || op == Binary::kMaximum;
      for (size_t i = 0; i < kN; ++i) {
        EXPECT_EQ(out[i], any ? (a[i] || b[i]) : (a[i] && b[i])) << i;
      }
    }
    EXPECT_EQ(binary_fn(kBool, Binary::kSub), nullptr);
  });
}

// ---- comparisons --------------------------------------------------------------------------------

float as_number(float16 x) { return to_float(x); }
float as_number(bfloat16 x) { return to_float(x); }
template <class T>
T as_number(T x) {
  return x;
}

template <class T>
bool reference(Compare op, T a, T b) {
  switch (op) {
    case Compare::kEq:
      return a == b;
    case Compare::kNe:
      return a != b;
    case Compare::kLt:
      return a < b;
    case Compare::kLe:
      return a <= b;
    case Compare::kGt:
      return a > b;
    default:
      return a >= b;
  }
}

template <class T>
std::vector<T> storage_samples(size_t n, uint64_t seed) {
  if constexpr (std::is_class_v<T>) {
    const auto floats = samples<float>(n, seed, true);
    std::vector<T> v(n);
    for (size_t i = 0; i < n; ++i) {
      if constexpr (std::is_same_v<T, float16>) {
        v[i] = to_float16(std::round(floats[i]));
      } else {
        v[i] = to_bfloat16(std::round(floats[i]));
      }
    }
    return v;
  } else {
    return samples<T>(n, seed, true);
  }
}

template <class T>
void check_compare(DType dtype) {
  for (int op = 0; op < kCompareCount; ++op) {
    const CompareFn fn = compare_fn(dtype, Compare(op));
    for (const size_t n : sizes()) {
      for (const Form& f : kForms) {
        const size_t na = span_of(n, f.sa);
        const size_t nb = span_of(n, f.sb);
        const Guarded<T> a(na, 0, storage_samples<T>(na, n + 1));
        const Guarded<T> b(nb, 0, storage_samples<T>(nb, n + 2));
        Guarded<uint8_t> out(n, n % 3);
        const T* pa = a.data() + start_of(n, f.sa);
        const T* pb = b.data() + start_of(n, f.sb);
        fn(pa, f.sa, pb, f.sb, out.data(), n);
        for (size_t i = 0; i < n; ++i) {
          auto x = as_number(pa[static_cast<ptrdiff_t>(i) * f.sa]);
          auto y = as_number(pb[static_cast<ptrdiff_t>(i) * f.sb]);
          if (dtype == kBool) {
            x = x != 0;
            y = y != 0;
          }
          ASSERT_EQ(+out[i], +reference(Compare(op), x, y))
              << "op " << op << " n " << n << " i " << i << ": " << +x << ", " << +y;
        }
        ASSERT_TRUE(out.intact());
      }
    }
  }
}

TEST(Compare, EveryType) {
  for_each_target([] {
    check_compare<float>(kFloat32);
    check_compare<double>(kFloat64);
    check_compare<int64_t>(kInt64);
    check_compare<int32_t>(kInt32);
    check_compare<uint8_t>(kUInt8);
    check_compare<uint8_t>(kBool);
  });
  check_compare<float16>(kFloat16);
  check_compare<bfloat16>(kBFloat16);
}

TEST(Compare, Logic) {
  for_each_target([] {
    for (const size_t n : sizes()) {
      const auto a = samples<uint8_t>(n, n + 1, true);
      const auto b = samples<uint8_t>(n, n + 2, true);
      const Guarded<uint8_t> ga(n, 0, a);
      Guarded<uint8_t> gb(n, 0, b);
      Guarded<uint8_t> out(n, 1);
      for (int op = 0; op < kLogicalCount; ++op) {
        logical_fn(Logical(op))(ga.data(), 1, gb.data(), 1, out.data(), n);
        for (size_t i = 0; i < n; ++i) {
          const bool x = a[i] != 0;
          const bool y = b[i] != 0;
          const bool expected[] = {x && y, x || y, x != y};
          ASSERT_EQ(out[i], expected[op]) << "op " << op << " n " << n << " i " << i;
        }
      }
      logical_not(ga.data(), 1, out.data(), n);
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(out[i], a[i] == 0);
      if (n > 0) {
        logical_not(ga.data() + n - 1, -1, out.data(), n);
        for (size_t i = 0; i < n; ++i) ASSERT_EQ(out[i], a[n - 1 - i] == 0);
      }
      ASSERT_TRUE(out.intact());
      logical_not(gb.data(), 1, gb.data(), n);
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(gb[i], b[i] == 0);
    }
  });
}

template <class T>
void check_where() {
  struct WhereForm {
    ptrdiff_t sc, sa, sb;
  };
  constexpr WhereForm kWhere[] = {{1, 1, 1}, {1, 1, 0}, {1, 0, 1},
                                  {1, 0, 0}, {0, 1, 1}, {2, 3, -1}};
  const WhereFn fn = where_fn(sizeof(T));
  for (const size_t n : sizes()) {
    for (const WhereForm& f : kWhere) {
      const size_t nc = span_of(n, f.sc);
      const size_t na = span_of(n, f.sa);
      const size_t nb = span_of(n, f.sb);
      const Guarded<uint8_t> c(nc, 0, [&] {
        auto v = samples<uint8_t>(nc, n + 3);
        for (auto& x : v) x = x % 3 == 0 ? 0 : x;
        return v;
      }());
      const Guarded<T> a(na, 0, samples<T>(na, n + 1, true));
      const Guarded<T> b(nb, 0, samples<T>(nb, n + 2, true));
      Guarded<T> out(n, n % 3);
      const T* pb = b.data() + start_of(n, f.sb);
      fn(c.data(), f.sc, a.data(), f.sa, pb, f.sb, out.data(), n);
      for (size_t i = 0; i < n; ++i) {
        const auto k = static_cast<ptrdiff_t>(i);
        const T expected = c.data()[k * f.sc] != 0 ? a.data()[k * f.sa] : pb[k * f.sb];
        ASSERT_EQ(out[i], expected) << "size " << sizeof(T) << " n " << n << " i " << i;
      }
      ASSERT_TRUE(out.intact());
    }
  }
}

TEST(Where, EveryItemSize) {
  for_each_target([] {
    check_where<uint8_t>();
    check_where<uint16_t>();
    check_where<uint32_t>();
    check_where<uint64_t>();
  });
}

TEST(ContainsZero, FindsItWhereverItIs) {
  for (size_t n = 0; n < 20; ++n) {
    std::vector<int32_t> v(2 * n, 5);
    EXPECT_FALSE(contains_zero(kInt32, v.data(), 2, n));
    for (size_t i = 0; i < n; ++i) {
      v[2 * i] = 0;
      EXPECT_TRUE(contains_zero(kInt32, v.data(), 2, n));
      v[2 * i] = 1;
    }
    std::vector<uint8_t> bytes(n, 0);
    EXPECT_EQ(contains_zero(kBool, bytes.data(), 1, n), n > 0);
    std::vector<int64_t> longs(n, int64_t{1} << 40);
    EXPECT_FALSE(contains_zero(kInt64, longs.data(), 1, n));
    std::vector<float> floats(n, 0);
    EXPECT_FALSE(contains_zero(kFloat32, floats.data(), 1, n));
  }
}

// ---- fused forms --------------------------------------------------------------------------------

template <class T>
void check_fused() {
  const T alpha = T(1.25);
  const double tolerance = 8 * std::numeric_limits<T>::epsilon();
  for (const size_t n : sizes()) {
    for (size_t gap = 0; gap < 3; ++gap) {
      const auto x = samples<T>(n, n + 1);
      const auto y = samples<T>(n, n + 2);
      const auto z = samples<T>(n, n + 3);
      const Guarded<T> gx(n, gap, x);
      const Guarded<T> gy(n, 0, y);
      Guarded<T> out(n, gap, z);
      const auto check = [&](const char* name, auto expected) {
        for (size_t i = 0; i < n; ++i) {
          ASSERT_NEAR(out[i], expected(i), tolerance * 16) << name << " n " << n << " i " << i;
        }
        ASSERT_TRUE(out.intact()) << name;
      };
      axpy(alpha, gx.data(), out.data(), n);
      check("axpy", [&](size_t i) { return z[i] + alpha * x[i]; });
      scale(alpha, gx.data(), out.data(), n);
      check("scale", [&](size_t i) { return alpha * x[i]; });
      add_into(gy.data(), out.data(), n);
      check("add_into", [&](size_t i) { return alpha * x[i] + y[i]; });
      addcmul(gy.data(), alpha, gx.data(), gy.data(), out.data(), n);
      check("addcmul", [&](size_t i) { return y[i] + alpha * x[i] * y[i]; });
      fill(alpha, out.data(), n);
      check("fill", [&](size_t) { return alpha; });
      // In place.
      scale(T(2), out.data(), out.data(), n);
      check("scale", [&](size_t) { return 2 * alpha; });
      addcmul(out.data(), T(1), gx.data(), gy.data(), out.data(), n);
      check("addcmul", [&](size_t i) { return 2 * alpha + x[i] * y[i]; });
    }
  }
}

template <class T>
void check_mul_backward() {
  for (const size_t n : {0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 47, 64, 100, 129}) {
    Random random(n);
    const auto numbers = [&] {
      std::vector<T> v(n);
      for (T& x : v) x = static_cast<T>(static_cast<int>(random.below(15)) - 7);
      return v;
    };
    const auto g = numbers();
    const auto a = numbers();
    const auto b = numbers();
    const auto to_a = numbers();
    const auto to_b = numbers();
    for (int flags = 0; flags < 4; ++flags) {
      const bool add_a = flags % 2 == 1;
      const bool add_b = flags / 2 == 1;
      for (int in_place = 0; in_place < 3; ++in_place) {  // neither, da or db is g
        if ((in_place == 1 && add_a) || (in_place == 2 && add_b)) continue;
        Guarded<T> gg(n, 0, g);
        const Guarded<T> ga(n, 1, a);
        const Guarded<T> gb(n, 0, b);
        Guarded<T> da(n, 2, to_a);
        Guarded<T> db(n, 0, to_b);
        T* const out_a = in_place == 1 ? gg.data() : da.data();
        T* const out_b = in_place == 2 ? gg.data() : db.data();
        mul_backward<T>(gg.data(), ga.data(), gb.data(), out_a, add_a, out_b, add_b, n);
        for (size_t i = 0; i < n; ++i) {
          ASSERT_EQ(out_a[i], g[i] * b[i] + (add_a ? to_a[i] : 0)) << n << " " << flags << " " << i;
          ASSERT_EQ(out_b[i], g[i] * a[i] + (add_b ? to_b[i] : 0)) << n << " " << flags << " " << i;
        }
        ASSERT_TRUE(gg.intact() && da.intact() && db.intact()) << n;
      }
    }
  }
}

TEST(Fused, BothGradientsOfAProduct) {
  for_each_target([] {
    check_mul_backward<float>();
    check_mul_backward<double>();
  });
}

TEST(Fused, Float32) {
  for_each_target([] { check_fused<float>(); });
}
TEST(Fused, Float64) {
  for_each_target([] { check_fused<double>(); });
}

}  // namespace
}  // namespace ebb::kernels
