// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
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

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// The value of the half with `mantissa_bits` and `exponent_bits`, from the definition.
double half_value(uint16_t bits, int mantissa_bits, int exponent_bits) {
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = bits >> 15 != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return mantissa != 0 ? kNaN : sign * kInf;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}
double value_of(float16 h) { return half_value(h.bits, 10, 5); }
double value_of(bfloat16 h) { return half_value(h.bits, 7, 8); }

template <class H>
std::vector<H> all_halves() {
  std::vector<H> v(65536);
  for (size_t i = 0; i < v.size(); ++i) v[i].bits = static_cast<uint16_t>(i);
  return v;
}

template <class H>
void check_every_half_widens(DType dtype) {
  const auto halves = all_halves<H>();
  std::vector<float> floats(65536);
  std::vector<double> doubles(65536);
  convert(dtype, halves.data(), kFloat32, floats.data(), halves.size());
  convert(dtype, halves.data(), kFloat64, doubles.data(), halves.size());
  std::vector<H> back(65536);
  std::vector<H> back_from_doubles(65536);
  convert(kFloat32, floats.data(), dtype, back.data(), back.size());
  convert(kFloat64, doubles.data(), dtype, back_from_doubles.data(), back.size());
  for (size_t i = 0; i < 65536; ++i) {
    const double expected = value_of(halves[i]);
    ASSERT_TRUE(same(static_cast<double>(floats[i]), expected)) << i;
    ASSERT_TRUE(same(doubles[i], expected)) << i;
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value_of(back[i]))) << i;
      ASSERT_TRUE(std::isnan(value_of(back_from_doubles[i]))) << i;
    } else {
      ASSERT_EQ(back[i].bits, halves[i].bits) << i;
      ASSERT_EQ(back_from_doubles[i].bits, halves[i].bits) << i;
    }
  }
}

TEST(Convert, EveryHalfWidensExactlyAndComesBack) {
  for_each_target([] {
    check_every_half_widens<float16>(kFloat16);
    check_every_half_widens<bfloat16>(kBFloat16);
  });
}

// Between two halves that are neighbours: below the middle, at it, above it, in float32 and,
// closer, in float64. At the middle the even one must be chosen.
template <class H>
void check_rounding(DType dtype) {
  std::vector<double> doubles;
  std::vector<uint16_t> expected;
  for (uint32_t bits = 0; bits < 65535; ++bits) {
    const H low{static_cast<uint16_t>(bits)};
    const H high{static_cast<uint16_t>(bits + 1)};
    const double a = value_of(low);
    double b = value_of(high);
    if (std::isnan(a) || std::isinf(a) || std::isnan(b) || bits == 0x7fff) continue;
    // What would follow the largest number, were there no infinity.
    if (std::isinf(b)) b = a + (a - value_of(H{static_cast<uint16_t>(bits - 1)}));
    const double middle = (a + b) / 2;
    const uint16_t even = bits % 2 == 0 ? low.bits : high.bits;
    doubles.insert(doubles.end(), {middle, std::nextafter(middle, a), std::nextafter(middle, b),
                                   a + (middle - a) / 2});
    expected.insert(expected.end(), {even, low.bits, high.bits, low.bits});
  }
  std::vector<H> got(doubles.size());
  convert(kFloat64, doubles.data(), dtype, got.data(), got.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i].bits, expected[i]) << doubles[i];

  // The middle itself and the quarter are float32 numbers too.
  std::vector<float> floats;
  std::vector<uint16_t> expected_floats;
  for (size_t i = 0; i < doubles.size(); ++i) {
    const auto f = static_cast<float>(doubles[i]);
    if (static_cast<double>(f) != doubles[i]) continue;
    floats.push_back(f);
    expected_floats.push_back(expected[i]);
  }
  ASSERT_GT(floats.size(), 60000u);
  got.resize(floats.size());
  convert(kFloat32, floats.data(), dtype, got.data(), got.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i].bits, expected_floats[i]) << floats[i];
}

TEST(Convert, RoundsToTheNearestHalfTiesToEven) {
  for_each_target([] {
    check_rounding<float16>(kFloat16);
    check_rounding<bfloat16>(kBFloat16);
  });
}

template <class H>
void check_beyond(DType dtype) {
  const std::vector<double> in = {kInf, -kInf, kNaN, 1e300, -1e300, 1e-300, -1e-300, 0.0, -0.0};
  std::vector<H> out(in.size());
  convert(kFloat64, in.data(), dtype, out.data(), in.size());
  const double expected[] = {kInf, -kInf, kNaN, kInf, -kInf, 0.0, -0.0, 0.0, -0.0};
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_TRUE(same(value_of(out[i]), expected[i])) << in[i];
    EXPECT_EQ(std::signbit(value_of(out[i])) && !std::isnan(in[i]), std::signbit(expected[i]));
  }
  // A NaN whose payload is in the bits that are cut off.
  const float nan = std::bit_cast<float>(uint32_t{0x7f800001});
  convert(kFloat32, &nan, dtype, out.data(), 1);
  EXPECT_TRUE(std::isnan(value_of(out[0])));
}

TEST(Convert, BeyondTheRangeOfAHalf) {
  for_each_target([] {
    check_beyond<float16>(kFloat16);
    check_beyond<bfloat16>(kBFloat16);
  });
}

TEST(Convert, Int64ToHalfIsRoundedOnce) {
  // One more than the middle of two bfloat16 neighbours, at a distance that float64 cannot hold.
  const int64_t middle = (int64_t{1} << 62) + (int64_t{1} << 54);
  const std::vector<int64_t> in = {middle,
                                   middle + 1,
                                   middle - 1,
                                   -middle - 1,
                                   std::numeric_limits<int64_t>::max(),
                                   std::numeric_limits<int64_t>::min(),
                                   65519,
                                   65520};
  std::vector<bfloat16> out(in.size());
  convert(kInt64, in.data(), kBFloat16, out.data(), in.size());
  EXPECT_EQ(value_of(out[0]), 0x1p62);
  EXPECT_EQ(value_of(out[1]), 0x1p62 + 0x1p55);
  EXPECT_EQ(value_of(out[2]), 0x1p62);
  EXPECT_EQ(value_of(out[3]), -0x1p62 - 0x1p55);
  EXPECT_EQ(value_of(out[4]), 0x1p63);
  EXPECT_EQ(value_of(out[5]), -0x1p63);
  std::vector<float16> halves(in.size());
  convert(kInt64, in.data(), kFloat16, halves.data(), in.size());
  EXPECT_EQ(value_of(halves[6]), 65504);
  EXPECT_EQ(value_of(halves[7]), kInf);
  const int32_t small = 65519;
  convert(kInt32, &small, kFloat16, halves.data(), 1);
  EXPECT_EQ(value_of(halves[0]), 65504);
}

// ---- the other types ----------------------------------------------------------------------------

// The definition, in long double, which holds every value of the types here.
template <class From, class To>
To expected_value(DType from, DType to, From x) {
  if (from == kBool) x = x != 0;
  if (to == kBool) return static_cast<To>(x != 0 ? 1 : 0);
  if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (std::isnan(x)) return 0;
    const auto wide = std::trunc(static_cast<long double>(x));
    if (wide >= static_cast<long double>(std::numeric_limits<To>::max())) {
      return std::numeric_limits<To>::max();
    }
    if (wide <= static_cast<long double>(std::numeric_limits<To>::min())) {
      return std::numeric_limits<To>::min();
    }
    return static_cast<To>(wide);
  } else {
    return static_cast<To>(x);
  }
}

template <class From, class To>
void check_pair(DType from, DType to) {
  for (size_t n = 0; n <= 70; ++n) {
    auto x = samples<From>(n, n + 1, true);
    if constexpr (std::is_floating_point_v<From>) {
      constexpr double kLarge[] = {255.5,        256,           -0.5,   -1,      2147483647.0,
                                   2147483648.0, -2147483649.0, 9.3e18, -9.3e18, 1e30};
      for (size_t i = 0; i < n; i += 3) x[i] = static_cast<From>(kLarge[(i / 3) % 10]);
    }
    const Guarded<From> in(n, n % 2, x);
    Guarded<To> out(n, n % 3);
    convert(from, in.data(), to, out.data(), n);
    for (size_t i = 0; i < n; ++i) {
      ASSERT_TRUE(same(out[i], expected_value<From, To>(from, to, x[i])))
          << name_of(from) << " to " << name_of(to) << ": " << +x[i] << " became " << +out[i];
    }
    ASSERT_TRUE(out.intact());
  }
}

template <class From>
void check_from(DType from) {
  check_pair<From, float>(from, kFloat32);
  check_pair<From, double>(from, kFloat64);
  check_pair<From, int64_t>(from, kInt64);
  check_pair<From, int32_t>(from, kInt32);
  check_pair<From, uint8_t>(from, kUInt8);
  check_pair<From, uint8_t>(from, kBool);
}

TEST(Convert, EveryPairOfArithmeticTypes) {
  check_from<float>(kFloat32);
  check_from<double>(kFloat64);
  check_from<int64_t>(kInt64);
  check_from<int32_t>(kInt32);
  check_from<uint8_t>(kUInt8);
  check_from<uint8_t>(kBool);
}

// From and to half by way of float32, whose conversions are tested above.
template <class T, class H>
void check_with_half(DType dtype, DType half) {
  for (const size_t n : {0, 1, 7, 70, 255, 256, 257, 600}) {
    const auto x = samples<T>(n, n + 1);
    const Guarded<T> in(n, 0, x);
    Guarded<H> halves(n, 1);
    convert(dtype, in.data(), half, halves.data(), n);
    ASSERT_TRUE(halves.intact());
    Guarded<T> back(n, 1);
    convert(half, halves.data(), dtype, back.data(), n);
    ASSERT_TRUE(back.intact());
    for (size_t i = 0; i < n; ++i) {
      const auto number =
          dtype == kBool ? static_cast<double>(x[i] != 0) : static_cast<double>(x[i]);
      const double got = value_of(halves[i]);
      ASSERT_NEAR(got, number, std::fabs(number) * 0x1p-8);
      if (dtype == kBool) {
        ASSERT_EQ(back[i], got != 0);
      } else {
        ASSERT_EQ(static_cast<double>(back[i]), std::is_integral_v<T> ? std::trunc(got) : got);
      }
    }
  }
}

TEST(Convert, EveryTypeToAndFromHalf) {
  for_each_target([] {
    check_with_half<float, float16>(kFloat32, kFloat16);
    check_with_half<double, float16>(kFloat64, kFloat16);
    check_with_half<int32_t, float16>(kInt32, kFloat16);
    check_with_half<uint8_t, float16>(kUInt8, kFloat16);
    check_with_half<uint8_t, float16>(kBool, kFloat16);
    check_with_half<float, bfloat16>(kFloat32, kBFloat16);
    check_with_half<double, bfloat16>(kFloat64, kBFloat16);
    check_with_half<int64_t, bfloat16>(kInt64, kBFloat16);
    check_with_half<uint8_t, bfloat16>(kBool, kBFloat16);
  });
}

TEST(Convert, BetweenTheHalves) {
  const auto halves = all_halves<float16>();
  std::vector<bfloat16> out(halves.size());
  convert(kFloat16, halves.data(), kBFloat16, out.data(), out.size());
  std::vector<float16> copy(halves.size());
  convert(kFloat16, halves.data(), kFloat16, copy.data(), copy.size());
  for (size_t i = 0; i < halves.size(); ++i) {
    ASSERT_EQ(copy[i].bits, halves[i].bits);
    ASSERT_TRUE(
        same(value_of(out[i]), value_of(to_bfloat16(static_cast<float>(value_of(halves[i]))))));
  }
}

TEST(Convert, InPlaceWhereTheSizesAgree) {
  std::vector<float> v = samples<float>(70, 1);
  const auto before = v;
  convert(kFloat32, v.data(), kInt32, v.data(), v.size());
  for (size_t i = 0; i < v.size(); ++i) {
    ASSERT_EQ(std::bit_cast<int32_t>(v[i]), static_cast<int32_t>(before[i]));
  }
}

}  // namespace
}  // namespace ebb::kernels
