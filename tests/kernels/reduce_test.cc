// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/reduce.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "ebb/tests/kernels/kernel_testing.h"

namespace ebb::kernels {
namespace {

using testing::for_each_target;
using testing::Guarded;
using testing::Random;
using testing::same;
using testing::samples;

constexpr Reduce kAllOps[] = {Reduce::kSum, Reduce::kProd,       Reduce::kMax,
                              Reduce::kMin, Reduce::kSumSquares, Reduce::kSumAbs,
                              Reduce::kAny, Reduce::kAll,        Reduce::kCountNonzero};

bool exists(DType t, Reduce op) {
  return !is_integral(t) || (op != Reduce::kSumSquares && op != Reduce::kSumAbs);
}

// Bool values are bytes; as numbers they are 0 and 1.
template <class T>
T number(DType t, T x) {
  return t == kBool ? static_cast<T>(x != 0) : x;
}

// What the op makes of `values`, plainly: in long double, or wrapping for integers. Sums of the
// absolute terms go to `scale`, to which errors are relative.
template <class T, class Out>
Out reference(DType t, Reduce op, const std::vector<T>& values, long double* scale) {
  using Wide = std::conditional_t<std::is_floating_point_v<T>, long double, uint64_t>;
  const bool product = op == Reduce::kProd;
  Wide s = product ? 1 : 0;
  *scale = 0;
  bool any = false;
  bool all = true;
  int64_t count = 0;
  T max = std::is_floating_point_v<T> ? -std::numeric_limits<T>::infinity()
                                      : (t == kBool ? T{0} : std::numeric_limits<T>::lowest());
  T min = std::is_floating_point_v<T> ? std::numeric_limits<T>::infinity()
                                      : (t == kBool ? T{1} : std::numeric_limits<T>::max());
  bool nan = false;
  for (const T raw : values) {
    const T x = number(t, raw);
    any |= x != 0;
    all &= x != 0;
    count += x != 0;
    if constexpr (std::is_floating_point_v<T>) nan |= std::isnan(x);
    max = std::max(max, x);
    min = std::min(min, x);
    auto term = static_cast<Wide>(x);
    if (op == Reduce::kSumSquares) term *= term;
    if constexpr (std::is_floating_point_v<T>) {
      if (op == Reduce::kSumAbs) term = std::fabs(term);
      *scale += std::fabs(term);
    }
    s = product ? s * term : s + term;
  }
  switch (op) {
    case Reduce::kAny:
      return static_cast<Out>(any);
    case Reduce::kAll:
      return static_cast<Out>(all);
    case Reduce::kCountNonzero:
      return static_cast<Out>(count);
    case Reduce::kMax:
      return nan ? std::numeric_limits<Out>::quiet_NaN() : static_cast<Out>(max);
    case Reduce::kMin:
      return nan ? std::numeric_limits<Out>::quiet_NaN() : static_cast<Out>(min);
    default:
      // Every factor may add half an ulp, in whatever order.
      if (product) *scale = static_cast<long double>(s) * (1 + values.size() / 16.0L);
      return static_cast<Out>(s);
  }
}

template <class Out>
bool close(Out got, Out expected, long double scale) {
  if constexpr (std::is_floating_point_v<Out>) {
    if (std::isnan(expected) || std::isinf(expected)) return same(got, expected);
    const long double tolerance =
        16 * std::numeric_limits<Out>::epsilon() * (std::fabs(scale) + 1e-30L);
    return std::fabs(static_cast<long double>(got) - static_cast<long double>(expected)) <=
           tolerance;
  } else {
    return got == expected;
  }
}

template <class T>
std::vector<T> values(size_t n, uint64_t seed, Reduce op) {
  const bool extreme = op == Reduce::kMax || op == Reduce::kMin;
  // Infinities of both signs have no sum; for extremes and tests they count.
  const bool special = !std::is_floating_point_v<T> || (extreme && seed % 3 == 0) ||
                       op == Reduce::kAny || op == Reduce::kAll || op == Reduce::kCountNonzero;
  auto v = samples<T>(n, seed, special);
  Random random(seed);
  for (T& x : v) {
    if (op == Reduce::kAll && x == 0 && seed % 2 == 0) x = 1;
    if (op == Reduce::kAny && seed % 2 == 0) x = 0;
    if constexpr (std::is_floating_point_v<T>) {
      if (op == Reduce::kProd) x = static_cast<T>(0.9 + 0.2 * (random.unit() + 1) / 2);
    }
  }
  return v;
}

template <class T, class Out>
void check_rows(DType t, Reduce op) {
  const ReduceRowFn fn = reduce_row_fn(t, op);
  ASSERT_NE(fn, nullptr);
  std::vector<size_t> sizes;
  for (size_t n = 0; n <= 70; ++n) sizes.push_back(n);
  for (const size_t n : {127, 128, 1000, 1023, 1024, 1025, 2047, 3100}) sizes.push_back(n);
  for (const size_t n : sizes) {
    const auto v = values<T>(n, n + 1, op);
    long double scale;
    const Out expected = reference<T, Out>(t, op, v, &scale);
    Out contiguous{};
    for (const ptrdiff_t stride : {1, 3, -1, -2}) {
      const size_t step = static_cast<size_t>(stride < 0 ? -stride : stride);
      const size_t span = n == 0 ? 0 : (n - 1) * step + 1;
      Guarded<T> in(span, 0, std::vector<T>(span, T{77}));
      T* first = in.data() + (stride < 0 && n > 0 ? span - 1 : 0);
      for (size_t i = 0; i < n; ++i) first[static_cast<ptrdiff_t>(i) * stride] = v[i];
      Guarded<Out> out(1);
      fn(first, stride, n, out.data(), false);
      ASSERT_TRUE(close(out[0], expected, scale))
          << "op " << static_cast<int>(op) << " n " << n << " stride " << stride << ": " << +out[0]
          << " for " << +expected;
      if (stride == 1) contiguous = out[0];
      ASSERT_TRUE(same(out[0], contiguous)) << "depends on the stride";
      ASSERT_TRUE(out.intact());
      // With what is there already: the result twice over.
      fn(first, stride, n, out.data(), true);
      std::vector<T> twice = v;
      twice.insert(twice.end(), v.begin(), v.end());
      const Out expected_twice = reference<T, Out>(t, op, twice, &scale);
      ASSERT_TRUE(close(out[0], expected_twice, scale)) << static_cast<int>(op) << " n " << n;
    }
    // Wherever it lies.
    for (size_t gap = 1; gap < 4; ++gap) {
      const Guarded<T> in(n, gap, v);
      Out out;
      fn(in.data(), 1, n, &out, false);
      ASSERT_TRUE(same(out, contiguous)) << "depends on the alignment";
    }
  }
}

template <class T, class Out>
void check_cols(DType t, Reduce op) {
  const ReduceColsFn fn = reduce_cols_fn(t, op);
  ASSERT_NE(fn, nullptr);
  for (const size_t rows : {0, 1, 2, 3, 7, 63, 64, 65, 130, 200}) {
    for (const size_t cols : {0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 31, 33, 64, 70}) {
      for (const size_t extra : {0, 3}) {
        const size_t ld = cols + extra;
        const size_t span = rows == 0 || cols == 0 ? 0 : (rows - 1) * ld + cols;
        const Guarded<T> in(span, 0, values<T>(span, rows * 100 + cols, op));
        Guarded<Out> out(cols, cols % 3);
        for (const bool accumulate : {false, true}) {
          fn(in.data(), static_cast<ptrdiff_t>(ld), rows, cols, out.data(), accumulate);
          for (size_t j = 0; j < cols; ++j) {
            std::vector<T> column;
            for (int times = accumulate ? 2 : 1; times > 0; --times) {
              for (size_t i = 0; i < rows; ++i) column.push_back(in[i * ld + j]);
            }
            long double scale;
            const Out expected = reference<T, Out>(t, op, column, &scale);
            ASSERT_TRUE(close(out[j], expected, scale))
                << "op " << static_cast<int>(op) << " " << rows << "x" << cols << " column " << j
                << ": " << +out[j] << " for " << +expected;
          }
          ASSERT_TRUE(out.intact());
        }
        if (cols > 1) {  // a column alone gives the same bits
          std::vector<Out> alone(1);
          fn(in.data(), static_cast<ptrdiff_t>(ld), rows, cols, out.data(), false);
          fn(in.data() + cols - 1, static_cast<ptrdiff_t>(ld), rows, 1, alone.data(), false);
          ASSERT_TRUE(same(alone[0], out[cols - 1]));
        }
      }
    }
  }
}

template <class T>
void check_type(DType t) {
  for (const Reduce op : kAllOps) {
    if (!exists(t, op)) {
      EXPECT_EQ(reduce_row_fn(t, op), nullptr);
      EXPECT_EQ(reduce_cols_fn(t, op), nullptr);
      continue;
    }
    switch (reduce_dtype(op, t)) {
      case DType::kInt64:
        check_rows<T, int64_t>(t, op);
        check_cols<T, int64_t>(t, op);
        break;
      case DType::kBool:
        check_rows<T, uint8_t>(t, op);
        check_cols<T, uint8_t>(t, op);
        break;
      default:
        check_rows<T, T>(t, op);
        check_cols<T, T>(t, op);
    }
  }
}

TEST(Reduce, Float32) {
  for_each_target([] { check_type<float>(kFloat32); });
}
TEST(Reduce, Float64) {
  for_each_target([] { check_type<double>(kFloat64); });
}
// The same for every instruction set.
TEST(Reduce, Integers) {
  check_type<int64_t>(kInt64);
  check_type<int32_t>(kInt32);
  check_type<uint8_t>(kUInt8);
  check_type<uint8_t>(kBool);
  EXPECT_EQ(reduce_row_fn(kFloat16, Reduce::kSum), nullptr);
}

TEST(Reduce, ErrorOfALongFloat32SumIsSmall) {
  constexpr size_t kN = 1000000;
  Random random(3);
  std::vector<float> x(kN);
  long double exact = 0;
  long double squares = 0;
  for (float& v : x) {
    v = static_cast<float>(0.5 + 0.5 * random.unit());
    exact += v;
    squares += static_cast<long double>(v) * v;
  }
  for_each_target([&] {
    EXPECT_NEAR(sum(x.data(), kN) / exact, 1.0L, 3e-7L);
    float s;
    reduce_row_fn(kFloat32, Reduce::kSumSquares)(x.data(), 1, kN, &s, false);
    EXPECT_NEAR(s / squares, 1.0L, 3e-7L);
    // As one column and as four.
    reduce_cols_fn(kFloat32, Reduce::kSum)(x.data(), 1, kN, 1, &s, false);
    EXPECT_NEAR(s / exact, 1.0L, 3e-7L);
    float four[4];
    reduce_cols_fn(kFloat32, Reduce::kSum)(x.data(), 4, kN / 4, 4, four, false);
    EXPECT_NEAR((four[0] + four[1] + four[2] + four[3]) / exact, 1.0L, 5e-7L);
  });
}

// ---- indices ------------------------------------------------------------------------------------

template <class T>
size_t reference_arg(DType t, ArgReduce op, const std::vector<T>& v) {
  size_t best = 0;
  for (size_t i = 0; i < v.size(); ++i) {
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(v[i])) return i;
    }
    const T x = number(t, v[i]);
    const T b = number(t, v[best]);
    if (op == ArgReduce::kArgMax ? x > b : x < b) best = i;
  }
  return best;
}

template <class T>
void check_arg(DType t) {
  for (const ArgReduce op : {ArgReduce::kArgMax, ArgReduce::kArgMin}) {
    for (size_t n = 1; n <= 150; ++n) {
      for (int kind = 0; kind < 4; ++kind) {
        auto v = samples<T>(n, n * 4 + static_cast<size_t>(kind), kind == 3);
        if (kind == 1) std::fill(v.begin(), v.end(), T{0});  // all tied
        if (kind == 2) {                                     // many ties
          for (T& x : v) x = static_cast<T>(static_cast<int>(x) / 3);
        }
        const auto expected = static_cast<int64_t>(reference_arg(t, op, v));
        const Guarded<T> in(n, 0, v);
        ASSERT_EQ(arg_row_fn(t, op)(in.data(), 1, n), expected) << "n " << n << " kind " << kind;
        std::vector<T> spread(3 * n);
        for (size_t i = 0; i < n; ++i) spread[3 * i] = v[i];
        ASSERT_EQ(arg_row_fn(t, op)(spread.data(), 3, n), expected);
      }
    }
    for (const size_t rows : {1, 2, 5, 40}) {
      for (const size_t cols : {0, 1, 3, 17}) {
        const size_t ld = cols + 2;
        const Guarded<T> in(rows * ld, 0, samples<T>(rows * ld, rows + cols, true));
        Guarded<int64_t> out(cols);
        arg_cols_fn(t, op)(in.data(), static_cast<ptrdiff_t>(ld), rows, cols, out.data());
        for (size_t j = 0; j < cols; ++j) {
          std::vector<T> column;
          for (size_t i = 0; i < rows; ++i) column.push_back(in[i * ld + j]);
          ASSERT_EQ(out[j], static_cast<int64_t>(reference_arg(t, op, column)));
        }
        ASSERT_TRUE(out.intact());
      }
    }
  }
}

TEST(ArgReduce, EveryType) {
  for_each_target([] {
    check_arg<float>(kFloat32);
    check_arg<double>(kFloat64);
  });
  check_arg<int64_t>(kInt64);
  check_arg<int32_t>(kInt32);
  check_arg<uint8_t>(kUInt8);
  check_arg<uint8_t>(kBool);
  EXPECT_EQ(arg_row_fn(kBFloat16, ArgReduce::kArgMax), nullptr);
}

TEST(ArgReduce, FirstNaNWins) {
  for_each_target([] {
    for (size_t n = 1; n <= 70; ++n) {
      for (size_t i = 0; i < n; ++i) {
        std::vector<float> v(n, std::numeric_limits<float>::infinity());
        v[i] = v[n - 1] = std::numeric_limits<float>::quiet_NaN();
        ASSERT_EQ(arg_row_fn(kFloat32, ArgReduce::kArgMax)(v.data(), 1, n),
                  static_cast<int64_t>(i));
        ASSERT_EQ(arg_row_fn(kFloat32, ArgReduce::kArgMin)(v.data(), 1, n),
                  static_cast<int64_t>(i));
      }
    }
  });
}

// ---- scans --------------------------------------------------------------------------------------

template <class T, class Out>
void check_scan(DType t) {
  for (const Scan op : {Scan::kCumSum, Scan::kCumProd}) {
    for (const size_t n : {0, 1, 2, 3, 10, 70}) {
      for (const ptrdiff_t si : {1, 2}) {
        for (const ptrdiff_t so : {1, 3}) {
          const auto v = samples<T>(n * static_cast<size_t>(si), n + 5);
          std::vector<Out> out(n * static_cast<size_t>(so) + 1, Out{99});
          scan_fn(t, op)(v.data(), si, out.data(), so, n);
          using Wide = std::conditional_t<std::is_floating_point_v<T>, double, uint64_t>;
          Wide s = op == Scan::kCumSum ? 0 : 1;
          for (size_t i = 0; i < n; ++i) {
            const auto x = static_cast<Wide>(number(t, v[i * static_cast<size_t>(si)]));
            s = op == Scan::kCumSum ? s + x : s * x;
            ASSERT_EQ(out[i * static_cast<size_t>(so)], static_cast<Out>(s));
          }
          ASSERT_EQ(out.back(), Out{99});
        }
      }
      // In place.
      if constexpr (std::is_same_v<T, Out>) {
        auto v = samples<T>(n, n + 6);
        std::vector<Out> out(n);
        scan_fn(t, op)(v.data(), 1, out.data(), 1, n);
        scan_fn(t, op)(v.data(), 1, v.data(), 1, n);
        ASSERT_EQ(v, out);
      }
    }
  }
}

TEST(Scan, EveryType) {
  check_scan<float, float>(kFloat32);
  check_scan<double, double>(kFloat64);
  check_scan<int64_t, int64_t>(kInt64);
  check_scan<int32_t, int64_t>(kInt32);
  check_scan<uint8_t, int64_t>(kUInt8);
  check_scan<uint8_t, int64_t>(kBool);
  EXPECT_EQ(scan_fn(kFloat16, Scan::kCumSum), nullptr);
}

}  // namespace
}  // namespace ebb::kernels
