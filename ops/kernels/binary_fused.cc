// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/binary.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/binary_fused.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

template <class T>
void axpy_row(T alpha, const T* x, T* y, size_t n) {
  map(hn::ScalableTag<T>(), n, y, [=](auto d, size_t i) HWY_ATTR {
    return hn::MulAdd(hn::Set(d, alpha), hn::LoadU(d, x + i), hn::LoadU(d, y + i));
  });
}

template <class T>
void add_into_row(const T* x, T* y, size_t n) {
  map(hn::ScalableTag<T>(), n, y,
      [=](auto d, size_t i) HWY_ATTR { return hn::Add(hn::LoadU(d, y + i), hn::LoadU(d, x + i)); });
}

template <class T>
void scale_row(T alpha, const T* x, T* out, size_t n) {
  map(hn::ScalableTag<T>(), n, out,
      [=](auto d, size_t i) HWY_ATTR { return hn::Mul(hn::Set(d, alpha), hn::LoadU(d, x + i)); });
}

template <class T>
void addcmul_row(const T* c, T v, const T* a, const T* b, T* out, size_t n) {
  map(hn::ScalableTag<T>(), n, out, [=](auto d, size_t i) HWY_ATTR {
    const auto va = hn::Mul(hn::Set(d, v), hn::LoadU(d, a + i));
    return hn::MulAdd(va, hn::LoadU(d, b + i), hn::LoadU(d, c + i));
  });
}

template <class T>
void fill_row(T value, T* out, size_t n) {
  map(hn::ScalableTag<T>(), n, out, [=](auto d, size_t) HWY_ATTR { return hn::Set(d, value); });
}

template <bool kAddA, bool kAddB, class T>
void mul_backward_row(const T* g, const T* a, const T* b, T* da, T* db, size_t n) {
  // Both products before either is stored: one of them may replace g.
  const auto at = [=](auto d, size_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, g + i);
    auto to_a = hn::Mul(v, hn::LoadU(d, b + i));
    auto to_b = hn::Mul(v, hn::LoadU(d, a + i));
    if constexpr (kAddA) to_a = hn::MulAdd(v, hn::LoadU(d, b + i), hn::LoadU(d, da + i));
    if constexpr (kAddB) to_b = hn::MulAdd(v, hn::LoadU(d, a + i), hn::LoadU(d, db + i));
    hn::StoreU(to_a, d, da + i);
    hn::StoreU(to_b, d, db + i);
  };
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  size_t i = 0;
  for (; i + 4 * kN <= n; i += 4 * kN) {
    at(d, i);
    at(d, i + kN);
    at(d, i + 2 * kN);
    at(d, i + 3 * kN);
  }
  for (; i + kN <= n; i += kN) at(d, i);
  if constexpr (kN > 1) {
    const Shorter<decltype(d)> half;
    for (; i + kLanes<decltype(half)> <= n; i += kLanes<decltype(half)>) at(half, i);
    for (; i < n; ++i) at(Capped<T, 1>(), i);
  }
}

template <class T>
constexpr detail::FusedTable<T> fused_rows() {
  return {axpy_row<T>,
          add_into_row<T>,
          scale_row<T>,
          addcmul_row<T>,
          fill_row<T>,
          {mul_backward_row<false, false, T>, mul_backward_row<true, false, T>,
           mul_backward_row<false, true, T>, mul_backward_row<true, true, T>}};
}
constexpr detail::FusedTables kTable{fused_rows<float>(), fused_rows<double>()};

}  // namespace

const detail::FusedTables* fused_tables() { return &kTable; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(fused_tables);

constinit const Dispatch<detail::FusedTables> detail::fused{
    [] { return HWY_DYNAMIC_DISPATCH(fused_tables)(); }};

}  // namespace ebb::kernels
#endif
