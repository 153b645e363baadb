// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "ebb/core/dtype.h"
#include "ebb/ops/kernels/dispatch.h"

// Reductions and scans. A reduction comes in two forms, so that any set of axes can be reduced
// where it lies: along a row, and over the rows of a matrix into one row (columns).
//
// Floating numbers are added pairwise over blocks of fixed size: the error grows with log(n)
// [Higham 1993, "The accuracy of floating point summation"]. A result depends on neither alignment
// nor stride, and that of a column not on the columns beside it; it does depend on the instruction
// set. Strides and `ld` count elements and may be 0 or negative.
namespace ebb::kernels {

enum class Reduce : uint8_t {
  kSum,
  kProd,
  kMax,         ///< NaN if there is one
  kMin,         ///< NaN if there is one
  kSumSquares,  ///< floating only
  kSumAbs,      ///< floating only
  kAny,         ///< whether one is not 0 (NaN is not 0)
  kAll,         ///< whether none is 0
  kCountNonzero,
};
inline constexpr int kReduceCount = 9;

/// The type of the result: of the input for kMax and kMin; int64 for kSum and kProd of integers and
/// bool, which wrap; int64 for kCountNonzero; bool for kAny and kAll; else that of the input.
constexpr DType reduce_dtype(Reduce op, DType in) {
  if (op == Reduce::kAny || op == Reduce::kAll) return DType::kBool;
  if (op == Reduce::kCountNonzero) return DType::kInt64;
  if (op == Reduce::kMax || op == Reduce::kMin || !is_integral(in)) return in;
  return DType::kInt64;
}

/// *out = op over in[i * stride], i < n. With `accumulate` *out is an operand too. n = 0 gives the
/// neutral element: 0, 1, -infinity or the lowest value for kMax, infinity or the highest for kMin.
using ReduceRowFn = void (*)(const void* in, ptrdiff_t stride, size_t n, void* out,
                             bool accumulate);
/// out[j] = op over in[i * ld + j], i < rows, for j < cols. `out` is contiguous.
using ReduceColsFn = void (*)(const void* in, ptrdiff_t ld, size_t rows, size_t cols, void* out,
                              bool accumulate);

enum class ArgReduce : uint8_t { kArgMax, kArgMin };

/// Index i < n of the largest or smallest in[i * stride]: of the first one, or of the first NaN.
/// n >= 1.
using ArgRowFn = int64_t (*)(const void* in, ptrdiff_t stride, size_t n);
/// out[j] = index i < rows of the largest or smallest in[i * ld + j], for j < cols. rows >= 1.
using ArgColsFn = void (*)(const void* in, ptrdiff_t ld, size_t rows, size_t cols, int64_t* out);

enum class Scan : uint8_t { kCumSum, kCumProd };

/// out[i * so] = in[0] op ... op in[i * si], i < n. The output's type is reduce_dtype(kSum, type):
/// float32 is accumulated in float64. out may be in where the strides are equal.
using ScanFn = void (*)(const void* in, ptrdiff_t si, void* out, ptrdiff_t so, size_t n);

namespace detail {

struct ReduceTable {
  struct Entry {
    ReduceRowFn row;
    ReduceColsFn cols;
  };
  Entry fn[kDTypeCount][kReduceCount];
};
struct ArgReduceTable {
  struct Entry {
    ArgRowFn row;
    ArgColsFn cols;
  };
  Entry fn[kDTypeCount][2];
};

extern constinit const Dispatch<ReduceTable> reduce;
extern constinit const Dispatch<ArgReduceTable> arg_reduce;

// The kernels that are the same for every instruction set. T = bool stands for bytes of which any
// but 0 is true.
template <class T, Reduce op>
void scalar_reduce_row(const void* in, ptrdiff_t stride, size_t n, void* out, bool accumulate);
template <class T, Reduce op>
void scalar_reduce_cols(const void* in, ptrdiff_t ld, size_t rows, size_t cols, void* out,
                        bool accumulate);
template <class T, ArgReduce op>
int64_t scalar_arg_row(const void* in, ptrdiff_t stride, size_t n);
template <class T, ArgReduce op>
void scalar_arg_cols(const void* in, ptrdiff_t ld, size_t rows, size_t cols, int64_t* out);

}  // namespace detail

/// The kernels for inputs of type `t`. Null where there are none: float16 and bfloat16 (convert
/// first), kSumSquares and kSumAbs of integers.
inline ReduceRowFn reduce_row_fn(DType t, Reduce op) {
  return detail::reduce->fn[static_cast<size_t>(t)][static_cast<size_t>(op)].row;
}
inline ReduceColsFn reduce_cols_fn(DType t, Reduce op) {
  return detail::reduce->fn[static_cast<size_t>(t)][static_cast<size_t>(op)].cols;
}
/// Null for float16 and bfloat16.
inline ArgRowFn arg_row_fn(DType t, ArgReduce op) {
  return detail::arg_reduce->fn[static_cast<size_t>(t)][static_cast<size_t>(op)].row;
}
inline ArgColsFn arg_cols_fn(DType t, ArgReduce op) {
  return detail::arg_reduce->fn[static_cast<size_t>(t)][static_cast<size_t>(op)].cols;
}
/// Null for float16 and bfloat16.
ScanFn scan_fn(DType t, Scan op);

/// The sum of a contiguous row of float or double.
template <class T>
T sum(const T* in, size_t n) {
  T out;
  reduce_row_fn(dtype_of<T>, Reduce::kSum)(in, 1, n, &out, false);
  return out;
}

}  // namespace ebb::kernels
