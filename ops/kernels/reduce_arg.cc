// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "ebb/ops/kernels/reduce.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/reduce_arg.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// The first i with test(d, in[i]); there is one.
template <class T, class Test>
HWY_INLINE size_t find_first(const T* in, size_t n, const Test& test) {
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  size_t i = 0;
  for (; i + kN <= n; i += kN) {
    const intptr_t at = hn::FindFirstTrue(d, test(d, hn::LoadU(d, in + i)));
    if (at >= 0) return i + static_cast<size_t>(at);
  }
  const intptr_t at = hn::FindFirstTrue(d, test(d, load_n(d, in + i, n - i)));
  return i + static_cast<size_t>(at);
}

// Twice over the row, first for the extreme, then for its place: both passes are plain.
template <class T, ArgReduce op>
int64_t arg_row(const void* inv, ptrdiff_t stride, size_t n) {
  constexpr size_t kWorthIt = 16;
  if (stride != 1 || n < kWorthIt) return detail::scalar_arg_row<T, op>(inv, stride, n);
  const T* in = static_cast<const T*>(inv);
  T best;
  reduce_row_fn(dtype_of<T>, op == ArgReduce::kArgMax ? Reduce::kMax : Reduce::kMin)(in, 1, n,
                                                                                     &best, false);
  if (std::isnan(best)) {
    return static_cast<int64_t>(
        find_first(in, n, [](auto, auto x) HWY_ATTR { return hn::IsNaN(x); }));
  }
  return static_cast<int64_t>(
      find_first(in, n, [=](auto d, auto x) HWY_ATTR { return hn::Eq(x, hn::Set(d, best)); }));
}

using Row = detail::ArgReduceTable::Entry[2];

template <class T>
constexpr void set_float(Row& r) {
  r[0] = {arg_row<T, ArgReduce::kArgMax>, detail::scalar_arg_cols<T, ArgReduce::kArgMax>};
  r[1] = {arg_row<T, ArgReduce::kArgMin>, detail::scalar_arg_cols<T, ArgReduce::kArgMin>};
}
template <class T>
constexpr void set_integer(Row& r) {
  r[0] = {detail::scalar_arg_row<T, ArgReduce::kArgMax>,
          detail::scalar_arg_cols<T, ArgReduce::kArgMax>};
  r[1] = {detail::scalar_arg_row<T, ArgReduce::kArgMin>,
          detail::scalar_arg_cols<T, ArgReduce::kArgMin>};
}

constexpr detail::ArgReduceTable make_table() {
  detail::ArgReduceTable t{};
  set_float<float>(t.fn[static_cast<int>(DType::kFloat32)]);
  set_float<double>(t.fn[static_cast<int>(DType::kFloat64)]);
  set_integer<int64_t>(t.fn[static_cast<int>(DType::kInt64)]);
  set_integer<int32_t>(t.fn[static_cast<int>(DType::kInt32)]);
  set_integer<uint8_t>(t.fn[static_cast<int>(DType::kUInt8)]);
  set_integer<bool>(t.fn[static_cast<int>(DType::kBool)]);
  return t;
}
constexpr detail::ArgReduceTable kTable = make_table();

}  // namespace

const detail::ArgReduceTable* arg_reduce_table() { return &kTable; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(arg_reduce_table);

constinit const Dispatch<detail::ArgReduceTable> detail::arg_reduce{
    [] { return HWY_DYNAMIC_DISPATCH(arg_reduce_table)(); }};

}  // namespace ebb::kernels
#endif
