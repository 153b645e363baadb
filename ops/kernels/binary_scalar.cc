// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <type_traits>

#include "ebb/core/half.h"
#include "ebb/ops/kernels/binary.h"

// The operators for which no instruction set has vectors.
namespace ebb::kernels {
namespace {

// ---- floating -----------------------------------------------------------------------------------

template <class T>
T float_remainder(T a, T b) {
  const T r = std::fmod(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

// Not floor(a / b), whose quotient may have been rounded up to the next integer: the exact
// remainder is taken off first, and what then should be an integer is rounded to one.
template <class T>
T float_floor_divide(T a, T b) {
  if (b == 0) return a / b;
  const T r = std::fmod(a, b);
  T q = (a - r) / b;
  if (r != 0 && (r < 0) != (b < 0)) q -= 1;
  return q == 0 ? std::copysign(T{0}, a / b) : std::round(q);
}

template <Binary op, class T>
T apply_float(T a, T b) {
  if constexpr (op == Binary::kPow) return std::pow(a, b);
  if constexpr (op == Binary::kAtan2) return std::atan2(a, b);
  if constexpr (op == Binary::kFmod) return std::fmod(a, b);
  if constexpr (op == Binary::kRemainder) return float_remainder(a, b);
  if constexpr (op == Binary::kFloorDivide) return float_floor_divide(a, b);
}

// ---- integers -----------------------------------------------------------------------------------

// Arithmetic wraps, so it is done in the unsigned type (of at least 32 bits: a smaller one would be
// promoted to int, whose overflow is undefined).
template <class T>
using Wrap = std::conditional_t<sizeof(T) < 4, uint32_t, std::make_unsigned_t<T>>;

template <class T>
T mul(T a, T b) {
  return static_cast<T>(static_cast<Wrap<T>>(a) * static_cast<Wrap<T>>(b));
}

// Besides x / 0, the machine traps on lowest / -1, so dividing by -1 is negation.
template <class T>
T div(T a, T b) {
  if (b == 0) return 0;
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return mul(a, b);
  return static_cast<T>(a / b);
}

template <class T>
T mod(T a, T b) {
  if (b == 0 || (std::is_signed_v<T> && b == static_cast<T>(-1))) return 0;
  return static_cast<T>(a % b);
}

template <class T>
T pow(T base, T exponent) {
  if (exponent < 0) {
    if (base == 1) return 1;
    if (base == static_cast<T>(-1)) return (exponent & 1) != 0 ? base : 1;
    return 0;
  }
  T result = 1;
  for (auto e = static_cast<Wrap<T>>(exponent); e != 0; e >>= 1) {
    if ((e & 1) != 0) result = mul(result, base);
    base = mul(base, base);
  }
  return result;
}

template <Binary op, class T>
T apply_integer(T a, T b) {
  if constexpr (op == Binary::kMul) return mul(a, b);
  if constexpr (op == Binary::kDiv) return div(a, b);
  if constexpr (op == Binary::kPow) return pow(a, b);
  const T r = mod(a, b);
  if constexpr (op == Binary::kFmod) return r;
  const bool below = r != 0 && (r < 0) != (b < 0);  // the quotient was rounded up
  if constexpr (op == Binary::kRemainder) return static_cast<T>(below ? r + b : r);
  if constexpr (op == Binary::kFloorDivide) return static_cast<T>(div(a, b) - (below ? 1 : 0));
}

template <Compare op>
bool compare_floats(float a, float b) {
  if constexpr (op == Compare::kEq) return a == b;
  if constexpr (op == Compare::kNe) return a != b;
  if constexpr (op == Compare::kLt) return a < b;
  if constexpr (op == Compare::kLe) return a <= b;
  if constexpr (op == Compare::kGt) return a > b;
  if constexpr (op == Compare::kGe) return a >= b;
}

template <class T>
bool has_zero(const T* a, ptrdiff_t sa, size_t n) {
  for (size_t i = 0; i < n; ++i, a += sa) {
    if (*a == 0) return true;
  }
  return false;
}

}  // namespace

template <class T, Binary op>
void detail::scalar_binary(const void* av, ptrdiff_t sa, const void* bv, ptrdiff_t sb, void* outv,
                           size_t n) {
  const T* a = static_cast<const T*>(av);
  const T* b = static_cast<const T*>(bv);
  T* out = static_cast<T*>(outv);
  for (size_t i = 0; i < n; ++i) {
    if constexpr (std::is_floating_point_v<T>) {
      out[i] = apply_float<op>(a[0], b[0]);
    } else {
      out[i] = apply_integer<op>(a[0], b[0]);
    }
    a += sa;
    b += sb;
  }
}

template <class T, Compare op>
void detail::scalar_compare(const void* av, ptrdiff_t sa, const void* bv, ptrdiff_t sb,
                            uint8_t* out, size_t n) {
  const T* a = static_cast<const T*>(av);
  const T* b = static_cast<const T*>(bv);
  for (size_t i = 0; i < n; ++i) {
    out[i] = compare_floats<op>(to_float(*a), to_float(*b));
    a += sa;
    b += sb;
  }
}

#define EBB_SCALAR_BINARY(T, op)                                                          \
  template void detail::scalar_binary<T, Binary::op>(const void*, ptrdiff_t, const void*, \
                                                     ptrdiff_t, void*, size_t)
#define EBB_SCALAR_BINARIES(T)      \
  EBB_SCALAR_BINARY(T, kPow);       \
  EBB_SCALAR_BINARY(T, kFmod);      \
  EBB_SCALAR_BINARY(T, kRemainder); \
  EBB_SCALAR_BINARY(T, kFloorDivide)

EBB_SCALAR_BINARIES(float);
EBB_SCALAR_BINARIES(double);
EBB_SCALAR_BINARIES(int64_t);
EBB_SCALAR_BINARIES(int32_t);
EBB_SCALAR_BINARIES(uint8_t);
EBB_SCALAR_BINARY(float, kAtan2);
EBB_SCALAR_BINARY(double, kAtan2);
EBB_SCALAR_BINARY(int64_t, kDiv);
EBB_SCALAR_BINARY(int32_t, kDiv);
EBB_SCALAR_BINARY(uint8_t, kDiv);
EBB_SCALAR_BINARY(uint8_t, kMul);

#define EBB_SCALAR_COMPARE(op)                                                                     \
  template void detail::scalar_compare<float16, Compare::op>(const void*, ptrdiff_t, const void*,  \
                                                             ptrdiff_t, uint8_t*, size_t);         \
  template void detail::scalar_compare<bfloat16, Compare::op>(const void*, ptrdiff_t, const void*, \
                                                              ptrdiff_t, uint8_t*, size_t)

EBB_SCALAR_COMPARE(kEq);
EBB_SCALAR_COMPARE(kNe);
EBB_SCALAR_COMPARE(kLt);
EBB_SCALAR_COMPARE(kLe);
EBB_SCALAR_COMPARE(kGt);
EBB_SCALAR_COMPARE(kGe);

bool contains_zero(DType t, const void* a, ptrdiff_t sa, size_t n) {
  switch (t) {
    case DType::kInt64:
      return has_zero(static_cast<const int64_t*>(a), sa, n);
    case DType::kInt32:
      return has_zero(static_cast<const int32_t*>(a), sa, n);
    case DType::kUInt8:
    case DType::kBool:
      return has_zero(static_cast<const uint8_t*>(a), sa, n);
    default:
      return false;
  }
}

}  // namespace ebb::kernels
