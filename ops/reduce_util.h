// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "ebb/ops/kernels/reduce.h"
#include "ebb/ops/kernels/strided.h"
#include "ebb/ops/op_util.h"

// What the families of reductions share. Not for users.
namespace ebb::ops {

struct ReduceAttrs {
  uint32_t mask = ~0u;  // bit i: axis i is reduced
  bool keepdim = false;
};

/// `shape` with the axes of `mask` dropped, or of size 1 where they are kept.
Shape reduced_shape(const Shape& shape, uint32_t mask, bool keepdim);
/// Elements of x behind each element of the result.
int64_t reduced_count(const Shape& shape, uint32_t mask);
/// "axes=[0,2]", with " keepdim" where so.
std::string describe_axes(uint32_t mask, bool keepdim);

/// An operation for every element that is read.
Cost reduction_cost(Span<const Meta> in, Span<const Meta> out);

/// Throws DTypeError where the kernels of `op` do not take elements of that type.
void require_reducible(const OpDoc& doc, kernels::Reduce op, const Meta& x);
/// Throws ShapeError where an extreme of no elements is asked for.
void require_nonempty(const OpDoc& doc, const Shape& x, uint32_t mask);

/// out = op over the axes of `mask` of x, any strides; `out` contiguous.
void run_reduce(kernels::Reduce op, const Array& x, uint32_t mask, const Array& out);

/// A contiguous result `y` of a reduction of `shape`, kept or dropped axes alike, as a view of that
/// shape: each element repeated over what it came from.
Array spread(const Array& y, const Shape& shape, uint32_t mask);
/// The same as a gradient; elements of its own where there are so few that the next op gains by it.
Array spread_gradient(const Array& g, const Shape& shape, uint32_t mask);
/// The same on the tape: y with its reduced axes there, of size 1, to broadcast against x.
Tensor keep_axes(const Tensor& y, const Shape& shape, const ReduceAttrs& a);

/// One of the arrays that for_each_slice walks.
struct SliceOperand {
  const Array* array;
  bool written = false;  // else read
};
inline SliceOperand reads(const Array& a) { return {&a, false}; }
inline SliceOperand writes(const Array& a) { return {&a, true}; }

/// Calls f(rows, i) for every element i of what a reduction over `mask` gives, in order: rows[k]
/// are the elements behind it of operand k, in a row without gaps, where they lie or in a copy of a
/// few rows. At most 4 operands, of one shape, any strides.
void for_each_slice(uint32_t mask, std::initializer_list<SliceOperand> operands,
                    absl::FunctionRef<void(std::byte* const* rows, int64_t i)> f);
/// The same with elements of T: f(x, i) or f(x, y, i), ... of T*.
template <class T, class F, class... Operand>
void for_each_slice_of(uint32_t mask, const F& f, const Operand&... operands) {
  for_each_slice(mask, {operands...}, [&](std::byte* const* rows, int64_t i) {
    [&]<size_t... k>(std::index_sequence<k...>) { f(reinterpret_cast<T*>(rows[k])..., i); }
    (std::make_index_sequence<sizeof...(Operand)>());
  });
}

/// Calls f(offset, stride) for every line along `axis` of arrays of one shape: the offset of its
/// first element in each array, and of one element to the next.
template <class F, class... A>
void for_each_line(int axis, const F& f, const Array& first, const A&... others) {
  constexpr size_t kN = 1 + sizeof...(A);
  const std::array<const Array*, kN> arrays{&first, &others...};
  Shape dims;
  int64_t strides[kN][kMaxRank];
  std::array<const int64_t*, kN> all;
  std::array<ptrdiff_t, kN> along{};
  for (size_t k = 0; k < kN; ++k) all[k] = strides[k];
  for (int i = 0; i < first.rank(); ++i) {
    for (size_t k = 0; k < kN; ++k) {
      const int64_t stride = arrays[k]->stride(i);
      if (i == axis) {
        along[k] = stride;
      } else {
        strides[k][dims.rank()] = stride;
      }
    }
    if (i != axis) dims.push_back(first.size(i));
  }
  kernels::for_each_row<kN>(static_cast<size_t>(dims.rank()), dims.data(), all,
                            [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* step) {
                              std::array<ptrdiff_t, kN> offset;
                              std::copy_n(at, kN, offset.begin());
                              for (size_t i = 0; i < n; ++i) {
                                f(offset, along);
                                for (size_t k = 0; k < kN; ++k) offset[k] += step[k];
                              }
                            });
}

/// h_i = a_i h_{i-1} + b_i along an axis, h_{-1} = 0; with `lag` the factor is a_{i-1}. `reverse`
/// runs from the last element to the first.
Tensor linear_scan(const Tensor& a, const Tensor& b, int axis, bool reverse, bool lag);
/// y_i = x_{i-1} along an axis, y_0 = first; reversed as above.
Tensor scan_shift(const Tensor& x, int axis, bool reverse, double first);

/// |x|^q with the sign of x, or without it; 0 where x is 0 and q < 0, so that derivatives, which
/// are of the same kind, exist there.
Tensor signed_power(const Tensor& x, double q, bool odd);

/// g d|x|_p / dx on the tape, where y = |x|_p and g broadcast against x; 0 where y is 0.
Tensor norm_gradient(const Tensor& g, const Tensor& x, const Tensor& y, double p);
/// The norm of a row without gaps.
template <class T>
T norm_of_row(const T* x, int64_t n, double p);
/// Its gradient times g, where y is the norm. `to` may be x.
template <class T>
void norm_row_gradient(const T* x, int64_t n, double p, T y, T g, T* to);

}  // namespace ebb::ops
