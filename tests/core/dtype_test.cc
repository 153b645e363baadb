// SPDX-License-Identifier: Apache-2.0
#include "ebb/core/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "ebb/core/half.h"

namespace ebb {
namespace {

TEST(DType, SizesNamesAndKinds) {
  EXPECT_EQ(size_of(kFloat32), 4u);
  EXPECT_EQ(size_of(kFloat64), 8u);
  EXPECT_EQ(size_of(kInt64), 8u);
  EXPECT_EQ(size_of(kInt32), 4u);
  EXPECT_EQ(size_of(kUInt8), 1u);
  EXPECT_EQ(size_of(kBool), 1u);
  EXPECT_EQ(size_of(kFloat16), 2u);
  EXPECT_EQ(size_of(kBFloat16), 2u);
  EXPECT_STREQ(name_of(kFloat32), "float32");
  EXPECT_STREQ(name_of(kBFloat16), "bfloat16");
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto t = static_cast<DType>(i);
    EXPECT_NE(is_floating(t), is_integral(t)) << name_of(t);
    EXPECT_EQ(is_differentiable(t), t == kFloat32 || t == kFloat64) << name_of(t);
  }
}

TEST(DType, OfCppTypes) {
  EXPECT_EQ(dtype_of<float>, kFloat32);
  EXPECT_EQ(dtype_of<int64_t>, kInt64);
  EXPECT_EQ(dtype_of<bool>, kBool);
  EXPECT_EQ(dtype_of<bfloat16>, kBFloat16);
}

TEST(DType, VisitGivesTheMatchingType) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto t = static_cast<DType>(i);
    int calls = 0;
    const bool visited = visit_arithmetic(t, [&](auto v) {
      ++calls;
      EXPECT_EQ(dtype_of<decltype(v)>, t);
    });
    EXPECT_EQ(visited, t != kFloat16 && t != kBFloat16) << name_of(t);
    EXPECT_EQ(calls, visited ? 1 : 0);
    EXPECT_EQ(visit_differentiable(t, [](auto) {}), is_differentiable(t));
  }
}

// The value of a binary16 by the definition in IEEE 754.
double value16(uint16_t bits) {
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  if (exponent == 31) return mantissa == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(Half, EveryFloat16IsExactAndComesBack) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float16 h{static_cast<uint16_t>(bits)};
    const double want = value16(h.bits);
    const float f = to_float(h);
    if (std::isnan(want)) {
      EXPECT_TRUE(std::isnan(f));
      EXPECT_TRUE(std::isnan(to_float(to_float16(f))));
      continue;
    }
    ASSERT_EQ(static_cast<double>(f), want) << bits;
    ASSERT_EQ(to_float16(f).bits, h.bits);
  }
}

TEST(Half, EveryBFloat16ComesBack) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const bfloat16 h{static_cast<uint16_t>(bits)};
    const float f = to_float(h);
    EXPECT_EQ(std::bit_cast<uint32_t>(f), bits << 16);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(to_float(to_bfloat16(f))));
    } else {
      ASSERT_EQ(to_bfloat16(f).bits, h.bits);
    }
  }
}

// Halfway between two neighbours goes to the even one; a hair to either side goes there.
TEST(Half, RoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const auto low = static_cast<uint16_t>(bits);
    const auto high = static_cast<uint16_t>(bits + 1);
    const double above = high == 0x7c00 ? 65536 : value16(high);
    const auto middle = static_cast<float>((value16(low) + above) / 2);
    ASSERT_EQ(to_float16(middle).bits, low % 2 == 0 ? low : high) << bits;
    ASSERT_EQ(to_float16(std::nextafterf(middle, 0)).bits, low) << bits;
    ASSERT_EQ(to_float16(std::nextafterf(middle, INFINITY)).bits, high) << bits;
    ASSERT_EQ(to_float16(-middle).bits, to_float16(middle).bits | 0x8000);
  }
  for (uint32_t bits = 0; bits < 0x7f80; bits += 7) {
    const float low = std::bit_cast<float>(bits << 16);
    const float middle = std::bit_cast<float>(bits << 16 | 0x8000u);
    ASSERT_EQ(to_bfloat16(middle).bits, bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(to_bfloat16(std::nextafterf(middle, 0)).bits, bits);
    ASSERT_EQ(to_bfloat16(std::nextafterf(middle, INFINITY)).bits, bits + 1);
    ASSERT_EQ(to_bfloat16(low).bits, bits);
  }
}

TEST(Half, Extremes) {
  EXPECT_EQ(to_float16(65519.996f).bits, 0x7bff);
  EXPECT_EQ(to_float16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(to_float16(INFINITY).bits, 0x7c00);
  EXPECT_EQ(to_float16(-1e30f).bits, 0xfc00);
  EXPECT_EQ(to_float16(1e-10f).bits, 0);
  EXPECT_EQ(to_float16(-0.0f).bits, 0x8000);
  EXPECT_EQ(to_bfloat16(INFINITY).bits, 0x7f80);
  EXPECT_EQ(to_bfloat16(std::numeric_limits<float>::max()).bits, 0x7f80);
  // A NaN whose payload is in the lower half only stays a NaN.
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(to_float(to_float16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace ebb
