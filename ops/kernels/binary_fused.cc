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

template <bool kAddA, bool kAddB, class T>
HWY_NOINLINE void mul_backward_rows(const T* g, const T* a, const T* b, T* da, T* db, size_t n) {
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  // Both products before either is stored: one of them may replace g.
  const auto at = [=](auto t, size_t i) HWY_ATTR {
    const auto v = hn::LoadU(t, g + i);
    const auto x = hn::LoadU(t, a + i);
    const auto y = hn::LoadU(t, b + i);
    const auto to_a = kAddA ? hn::MulAdd(v, y, hn::LoadU(t, da + i)) : hn::Mul(v, y);
    const auto to_b = kAddB ? hn::MulAdd(v, x, hn::LoadU(t, db + i)) : hn::Mul(v, x);
    hn::StoreU(to_a, t, da + i);
    hn::StoreU(to_b, t, db + i);
  };
  size_t i = 0;
  for (; i + 2 * kN <= n; i += 2 * kN) {
    at(d, i);
    at(d, i + kN);
  }
  if (i + kN <= n) {
    at(d, i);
    i += kN;
  }
  const Shorter<decltype(d)> half;
  if constexpr (kN > 1) {
    for (; i + kLanes<decltype(half)> <= n; i += kLanes<decltype(half)>) at(half, i);
    const Capped<T, 1> one;
    for (; i < n; ++i) at(one, i);
  }
}

template <class T>
void mul_backward_row(const T* g, const T* a, const T* b, T* da, bool add_da, T* db, bool add_db,
                      size_t n) {
  if (!add_da && !add_db) return mul_backward_rows<false, false>(g, a, b, da, db, n);
  if (add_da && add_db) return mul_backward_rows<true, true>(g, a, b, da, db, n);
  if (add_da) return mul_backward_rows<true, false>(g, a, b, da, db, n);
  mul_backward_rows<false, true>(g, a, b, da, db, n);
}

template <class T>
void fill_row(T value, T* out, size_t n) {
  map(hn::ScalableTag<T>(), n, out, [=](auto d, size_t) HWY_ATTR { return hn::Set(d, value); });
}

template <class T>
constexpr detail::FusedTable<T> fused_rows() {
  return {axpy_row<T>,    add_into_row<T>, scale_row<T>,
          addcmul_row<T>, fill_row<T>,     mul_backward_row<T>};
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
