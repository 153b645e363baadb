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

template <class T>
constexpr detail::FusedTable<T> fused_rows() {
  return {axpy_row<T>, add_into_row<T>, scale_row<T>, addcmul_row<T>, fill_row<T>};
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
