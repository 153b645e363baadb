// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "ebb/ops/kernels/binary.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/binary_simd.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

struct Add {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Add(a, b);
  }
};
struct Sub {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Sub(a, b);
  }
};
struct Mul {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Mul(a, b);
  }
};
struct Div {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Div(a, b);
  }
};
// Highway leaves Min and Max of NaN to the machine, so these are spelled out: a NaN a is taken as
// it is; with a NaN b the comparison is false, which takes b.
struct Minimum {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    if constexpr (hwy::IsFloat<hn::TFromV<V>>()) {
      return hn::IfThenElse(hn::Or(hn::Lt(a, b), hn::IsNaN(a)), a, b);
    } else {
      return hn::Min(a, b);
    }
  }
};
struct Maximum {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    if constexpr (hwy::IsFloat<hn::TFromV<V>>()) {
      return hn::IfThenElse(hn::Or(hn::Gt(a, b), hn::IsNaN(a)), a, b);
    } else {
      return hn::Max(a, b);
    }
  }
};
// Of bool, where any byte but 0 is true.
struct Or {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Min(hn::Or(a, b), hn::Set(hn::DFromV<V>(), 1));
  }
};
struct And {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Min(hn::Min(a, b), hn::Set(hn::DFromV<V>(), 1));
  }
};

// One operand is a single value, or their elements lie apart.
template <class T, class Op>
HWY_NOINLINE void strided_row(const T* a, ptrdiff_t sa, const T* b, ptrdiff_t sb, T* out,
                              size_t n) {
  const Op op;
  const hn::ScalableTag<T> d;
  if (n == 0) return;
  if (sa == 1 && sb == 0) {
    const T value = *b;
    map(d, n, out,
        [=](auto t, size_t i) HWY_ATTR { return op(hn::LoadU(t, a + i), hn::Set(t, value)); });
  } else if (sa == 0 && sb == 1) {
    const T value = *a;
    map(d, n, out,
        [=](auto t, size_t i) HWY_ATTR { return op(hn::Set(t, value), hn::LoadU(t, b + i)); });
  } else {
    const Capped<T, 1> one;
    for (size_t i = 0; i < n; ++i) {
      hn::StoreU(op(hn::LoadU(one, a), hn::LoadU(one, b)), one, out + i);
      a += sa;
      b += sb;
    }
  }
}

template <class T, class Op>
void simd_row(const void* av, ptrdiff_t sa, const void* bv, ptrdiff_t sb, void* outv, size_t n) {
  const T* a = static_cast<const T*>(av);
  const T* b = static_cast<const T*>(bv);
  T* out = static_cast<T*>(outv);
  const Op op;
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  if (sa != 1 || sb != 1) return strided_row<T, Op>(a, sa, b, sb, out, n);
  // Most small arrays have one of these sizes: in as few instructions as it takes.
  constexpr size_t kTurn = (kN * sizeof(T) < 64 ? 8 : 4) * kN;
  if (n % kTurn == 0) {
    for (const T* const end = a + n; a != end; a += kTurn, b += kTurn, out += kTurn) {
      HWY_UNROLL(8)
      for (size_t i = 0; i < kTurn; i += kN) {
        hn::StoreU(op(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, out + i);
      }
    }
    return;
  }
  const auto each = [=](auto t, size_t i)
                        HWY_ATTR { return op(hn::LoadU(t, a + i), hn::LoadU(t, b + i)); };
  if (n < kTurn) {
    map<1>(d, n, out, each);
  } else {
    map(d, n, out, each);
  }
}

using Row = BinaryFn[kBinaryCount];

template <class T, Binary op, class Op>
constexpr void set_simd(Row& row) {
  row[static_cast<int>(op)] = simd_row<T, Op>;
}
template <class T, Binary op>
constexpr void set_scalar(Row& row) {
  row[static_cast<int>(op)] = detail::scalar_binary<T, op>;
}

template <class T>
constexpr void set_row(Row& row) {
  set_simd<T, Binary::kAdd, Add>(row);
  set_simd<T, Binary::kSub, Sub>(row);
  if constexpr (sizeof(T) > 1) {
    set_simd<T, Binary::kMul, Mul>(row);
  } else {
    set_scalar<T, Binary::kMul>(row);
  }
  set_simd<T, Binary::kMinimum, Minimum>(row);
  set_simd<T, Binary::kMaximum, Maximum>(row);
  if constexpr (std::is_floating_point_v<T>) {
    set_simd<T, Binary::kDiv, Div>(row);
    set_scalar<T, Binary::kAtan2>(row);
  } else {
    set_scalar<T, Binary::kDiv>(row);
  }
  set_scalar<T, Binary::kPow>(row);
  set_scalar<T, Binary::kFmod>(row);
  set_scalar<T, Binary::kRemainder>(row);
  set_scalar<T, Binary::kFloorDivide>(row);
}

constexpr detail::BinaryTable make_table() {
  detail::BinaryTable t{};
  set_row<float>(t.fn[static_cast<int>(DType::kFloat32)]);
  set_row<double>(t.fn[static_cast<int>(DType::kFloat64)]);
  set_row<int64_t>(t.fn[static_cast<int>(DType::kInt64)]);
  set_row<int32_t>(t.fn[static_cast<int>(DType::kInt32)]);
  set_row<uint8_t>(t.fn[static_cast<int>(DType::kUInt8)]);
  Row& boolean = t.fn[static_cast<int>(DType::kBool)];
  set_simd<uint8_t, Binary::kAdd, Or>(boolean);
  set_simd<uint8_t, Binary::kMul, And>(boolean);
  set_simd<uint8_t, Binary::kMinimum, And>(boolean);
  set_simd<uint8_t, Binary::kMaximum, Or>(boolean);
  return t;
}
constexpr detail::BinaryTable kTable = make_table();

}  // namespace

const detail::BinaryTable* binary_table() { return &kTable; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(binary_table);

constinit const Dispatch<detail::BinaryTable> detail::binary{
    [] { return HWY_DYNAMIC_DISPATCH(binary_table)(); }};

}  // namespace ebb::kernels
#endif
