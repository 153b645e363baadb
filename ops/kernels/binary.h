// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "ebb/core/dtype.h"
#include "ebb/ops/kernels/dispatch.h"

// Elementwise kernels of two and three operands. A stride counts elements and belongs to the row
// being computed: 1 contiguous, 0 one value for the whole row, anything else allowed. Outputs are
// contiguous. An output may be one of the inputs if that input is contiguous too; other overlaps
// are not allowed. n may be 0; pointers need only the alignment of their element.
namespace ebb::kernels {

enum class Binary : uint8_t {
  kAdd,
  kSub,
  kMul,
  kDiv,          ///< integers: toward zero, x / 0 = 0
  kMinimum,      ///< NaN where either is NaN
  kMaximum,      ///< NaN where either is NaN
  kPow,          ///< integers: wraps; a negative exponent gives 0 except for bases 1 and -1
  kAtan2,        ///< floating only
  kFmod,         ///< sign of the dividend, as in C
  kRemainder,    ///< sign of the divisor, as in Python; integers: x mod 0 = 0
  kFloorDivide,  ///< toward -infinity; integers: x / 0 = 0
  kCount,
};
inline constexpr int kBinaryCount = static_cast<int>(Binary::kCount);

enum class Compare : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe };
inline constexpr int kCompareCount = 6;

enum class Logical : uint8_t { kAnd, kOr, kXor };
inline constexpr int kLogicalCount = 3;

/// out[i] = op(a[i * sa], b[i * sb]) for i < n; a, b and out are of the dtype asked for.
using BinaryFn = void (*)(const void* a, ptrdiff_t sa, const void* b, ptrdiff_t sb, void* out,
                          size_t n);
/// out[i] = 1 or 0.
using CompareFn = void (*)(const void* a, ptrdiff_t sa, const void* b, ptrdiff_t sb, uint8_t* out,
                           size_t n);
/// out[i] = cond[i * sc] != 0 ? a[i * sa] : b[i * sb].
using WhereFn = void (*)(const uint8_t* cond, ptrdiff_t sc, const void* a, ptrdiff_t sa,
                         const void* b, ptrdiff_t sb, void* out, size_t n);

namespace detail {

struct BinaryTable {
  BinaryFn fn[kDTypeCount][kBinaryCount];
};
struct CompareTable {
  CompareFn fn[kDTypeCount][kCompareCount];
  CompareFn logical[kLogicalCount];
  void (*logical_not)(const uint8_t* a, ptrdiff_t sa, uint8_t* out, size_t n);
  WhereFn where[4];  // by log2 of the element size
};
template <class T>
struct FusedTable {
  void (*axpy)(T alpha, const T* x, T* y, size_t n);
  void (*add_into)(const T* x, T* y, size_t n);
  void (*scale)(T alpha, const T* x, T* out, size_t n);
  void (*addcmul)(const T* c, T v, const T* a, const T* b, T* out, size_t n);
  void (*fill)(T value, T* out, size_t n);
  void (*mul_backward[4])(const T* g, const T* a, const T* b, T* da, T* db, size_t n);
};
struct FusedTables {
  FusedTable<float> f32;
  FusedTable<double> f64;
};

extern constinit const Dispatch<BinaryTable> binary;
extern constinit const Dispatch<CompareTable> compare;
extern constinit const Dispatch<FusedTables> fused;

// The kernels that are the same for every instruction set.
template <class T, Binary op>
void scalar_binary(const void* a, ptrdiff_t sa, const void* b, ptrdiff_t sb, void* out, size_t n);
template <class T, Compare op>
void scalar_compare(const void* a, ptrdiff_t sa, const void* b, ptrdiff_t sb, uint8_t* out,
                    size_t n);

template <class T>
const FusedTable<T>& fused_table() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return fused->f32;
  } else {
    return fused->f64;
  }
}

}  // namespace detail

/// The kernel of `op` for operands of type `t`. Null where there is none: float16 and bfloat16
/// (convert first), kAtan2 for integers; bool has add (or), mul (and), minimum and maximum only.
inline BinaryFn binary_fn(DType t, Binary op) {
  return detail::binary->fn[static_cast<size_t>(t)][static_cast<size_t>(op)];
}

/// The comparison of two operands of type `t`, any dtype. With NaN all but kNe are false.
inline CompareFn compare_fn(DType t, Compare op) {
  return detail::compare->fn[static_cast<size_t>(t)][static_cast<size_t>(op)];
}

/// and, or, xor of two bool operands; any byte but 0 counts as true, the result is 0 or 1.
inline CompareFn logical_fn(Logical op) {
  return detail::compare->logical[static_cast<size_t>(op)];
}

/// out[i] = !a[i * sa], of bool.
inline void logical_not(const uint8_t* a, ptrdiff_t sa, uint8_t* out, size_t n) {
  detail::compare->logical_not(a, sa, out, n);
}

/// The selection for elements of `item_size` bytes: 1, 2, 4 or 8.
inline WhereFn where_fn(size_t item_size) {
  return detail::compare->where[item_size == 8 ? 3 : item_size == 4 ? 2 : item_size == 2 ? 1 : 0];
}

/// Whether one of a[i * sa], i < n, is 0: for ops that must refuse to divide by it. Integers and
/// bool only; false for the floating types, where division by zero is defined.
bool contains_zero(DType t, const void* a, ptrdiff_t sa, size_t n);

// ---- fused forms on contiguous rows, T = float or double ---------------------------------------

/// y += alpha * x
template <class T>
void axpy(T alpha, const T* x, T* y, size_t n) {
  detail::fused_table<T>().axpy(alpha, x, y, n);
}
/// y += x
template <class T>
void add_into(const T* x, T* y, size_t n) {
  detail::fused_table<T>().add_into(x, y, n);
}
/// out = alpha * x
template <class T>
void scale(T alpha, const T* x, T* out, size_t n) {
  detail::fused_table<T>().scale(alpha, x, out, n);
}
/// out = c + v * a * b
template <class T>
void addcmul(const T* c, T v, const T* a, const T* b, T* out, size_t n) {
  detail::fused_table<T>().addcmul(c, v, a, b, out, n);
}
/// The gradients of a * b from that of the product, in one pass: da = g * b, db = g * a; or, where
/// `add_da` or `add_db` says so, added to what is there. `da` and `db` may be g, but not the same
/// array, nor a or b.
template <class T>
void mul_backward(const T* g, const T* a, const T* b, T* da, bool add_da, T* db, bool add_db,
                  size_t n) {
  detail::fused_table<T>().mul_backward[add_da + 2 * add_db](g, a, b, da, db, n);
}
/// out = value
template <class T>
void fill(T value, T* out, size_t n) {
  detail::fused_table<T>().fill(value, out, n);
}

}  // namespace ebb::kernels
