// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/convert.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "ebb/core/half.h"
#include "ebb/ops/kernels/dispatch.h"

// The include guard keeps what follows, which is not compiled for each target, to one copy.
#ifndef EBB_OPS_KERNELS_CONVERT_TABLE
#define EBB_OPS_KERNELS_CONVERT_TABLE
namespace ebb::kernels {

struct HalfTable {
  void (*f16_to_f32)(const float16* in, float* out, size_t n);
  void (*f32_to_f16)(const float* in, float16* out, size_t n);
  void (*bf16_to_f32)(const bfloat16* in, float* out, size_t n);
  void (*f32_to_bf16)(const float* in, bfloat16* out, size_t n);
};

}  // namespace ebb::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/convert.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// Where the machine has no instructions for float16, the functions of core/half.h are exact and
// Highway's need not be.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
void f16_to_f32(const float16* in, float* out, size_t n) {
  map(hn::ScalableTag<float>(), n, out, [=](auto d, size_t i) HWY_ATTR {
    const hn::Rebind<hwy::float16_t, decltype(d)> half;
    return hn::PromoteTo(d, hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(in + i)));
  });
}
void f32_to_f16(const float* in, float16* out, size_t n) {
  auto* to = reinterpret_cast<hwy::float16_t*>(out);
  map(hn::ScalableTag<float>(), n, to, [=](auto d, size_t i) HWY_ATTR {
    const hn::Rebind<hwy::float16_t, decltype(d)> half;
    return hn::DemoteTo(half, hn::LoadU(d, in + i));
  });
}
#else
void f16_to_f32(const float16* in, float* out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = to_float(in[i]);
}
void f32_to_f16(const float* in, float16* out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = to_float16(in[i]);
}
#endif
void bf16_to_f32(const bfloat16* in, float* out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = to_float(in[i]);
}
void f32_to_bf16(const float* in, bfloat16* out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = to_bfloat16(in[i]);
}

constexpr HalfTable kTable{f16_to_f32, f32_to_f16, bf16_to_f32, f32_to_bf16};

}  // namespace

const HalfTable* half_table() { return &kTable; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(half_table);

namespace {

constinit const Dispatch<HalfTable> half{[] { return HWY_DYNAMIC_DISPATCH(half_table)(); }};

template <class T>
inline constexpr bool kIsHalf = std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>;

// What a T is in memory: a bool is a byte.
template <class T>
using Stored = std::conditional_t<std::is_same_v<T, bool>, uint8_t, T>;

void to_floats(const float16* in, float* out, size_t n) { half->f16_to_f32(in, out, n); }
void to_floats(const bfloat16* in, float* out, size_t n) { half->bf16_to_f32(in, out, n); }
void from_floats(const float* in, float16* out, size_t n) { half->f32_to_f16(in, out, n); }
void from_floats(const float* in, bfloat16* out, size_t n) { half->f32_to_bf16(in, out, n); }

// Rounding twice to nearest can go wrong at a tie that the first rounding made. Rounding to odd
// first cannot: an inexact result gets an odd last bit, which is never a tie
// [Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums"].
float round_to_odd(double x) {
  const float f = static_cast<float>(x);
  const double back = f;
  if (back == x || std::isnan(x)) return f;
  auto bits = std::bit_cast<uint32_t>(f);
  if (std::fabs(back) > std::fabs(x)) --bits;  // toward zero; from infinity to the largest
  return std::bit_cast<float>(bits | 1u);
}
double round_to_odd(int64_t x) {
  const double d = static_cast<double>(x);
  // 2^63 would overflow on the way back; only the largest values round to it.
  const bool top = d == 0x1p63;
  const int64_t back = top ? std::numeric_limits<int64_t>::max() : static_cast<int64_t>(d);
  if (back == x && !top) return d;
  auto bits = std::bit_cast<uint64_t>(d);
  if (top || (x > 0 ? back > x : back < x)) --bits;
  return std::bit_cast<double>(bits | 1u);
}

// A float that rounds to the same half as x does.
template <class T>
float float_for_half(T x) {
  if constexpr (std::is_same_v<T, int64_t>) {
    return round_to_odd(round_to_odd(x));
  } else if constexpr (std::is_same_v<T, double> || std::is_same_v<T, int32_t>) {
    return round_to_odd(static_cast<double>(x));
  } else if constexpr (std::is_same_v<T, bool>) {
    return x ? 1.0f : 0.0f;
  } else {
    return static_cast<float>(x);
  }
}

template <class To, class From>
To truncate(From x) {
  constexpr auto kMax = std::numeric_limits<To>::max();
  constexpr auto kMin = std::numeric_limits<To>::min();
  const From limit = std::ldexp(From{1}, std::numeric_limits<To>::digits);  // kMax + 1
  if (!(x < limit)) return x >= limit ? kMax : To{0};                       // the latter is NaN
  if (x <= (std::is_signed_v<To> ? -limit : From{0})) return kMin;
  return static_cast<To>(x);
}

template <class From, class To>
To convert_value(Stored<From> x) {
  if constexpr (std::is_same_v<To, bool>) {
    return x != 0;
  } else if constexpr (std::is_same_v<From, bool>) {
    return static_cast<To>(x != 0 ? 1 : 0);
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    return truncate<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

constexpr size_t kChunk = 256;

template <class From, class To>
void convert_row(const void* inv, void* outv, size_t n) {
  const auto* in = static_cast<const Stored<From>*>(inv);
  auto* out = static_cast<Stored<To>*>(outv);
  if constexpr (kIsHalf<From>) {
    if constexpr (std::is_same_v<From, To>) {
      std::copy_n(in, n, out);
    } else if constexpr (std::is_same_v<To, float>) {
      to_floats(in, out, n);
    } else {
      float floats[kChunk];
      for (size_t i = 0; i < n; i += kChunk) {
        const size_t size = std::min(kChunk, n - i);
        to_floats(in + i, floats, size);
        convert_row<float, To>(floats, out + i, size);
      }
    }
  } else if constexpr (kIsHalf<To>) {
    if constexpr (std::is_same_v<From, float>) {
      from_floats(in, out, n);
    } else {
      float floats[kChunk];
      for (size_t i = 0; i < n; i += kChunk) {
        const size_t size = std::min(kChunk, n - i);
        for (size_t j = 0; j < size; ++j) {
          floats[j] = float_for_half<From>(static_cast<From>(in[i + j]));
        }
        from_floats(floats, out + i, size);
      }
    }
  } else {
    for (size_t i = 0; i < n; ++i) {
      out[i] = static_cast<Stored<To>>(convert_value<From, To>(in[i]));
    }
  }
}

// In the order of DType.
template <class From>
constexpr std::array<ConvertFn, kDTypeCount> kFrom{
    convert_row<From, float>,   convert_row<From, double>,  convert_row<From, int64_t>,
    convert_row<From, int32_t>, convert_row<From, uint8_t>, convert_row<From, bool>,
    convert_row<From, float16>, convert_row<From, bfloat16>};
constexpr std::array<std::array<ConvertFn, kDTypeCount>, kDTypeCount> kConvert{
    kFrom<float>,   kFrom<double>, kFrom<int64_t>, kFrom<int32_t>,
    kFrom<uint8_t>, kFrom<bool>,   kFrom<float16>, kFrom<bfloat16>};

}  // namespace

ConvertFn convert_fn(DType from, DType to) {
  return kConvert[static_cast<size_t>(from)][static_cast<size_t>(to)];
}

}  // namespace ebb::kernels
#endif
