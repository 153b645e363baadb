// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/binary.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/binary_compare.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// A lane of all ones becomes the byte 1, a lane of zeros the byte 0.
template <class D>
HWY_INLINE hn::Vec<hn::Rebind<uint8_t, D>> to_bytes(D d, hn::Mask<D> mask) {
  const hn::RebindToUnsigned<D> bits;
  const auto one = hn::And(hn::BitCast(bits, hn::VecFromMask(d, mask)), hn::Set(bits, 1));
  if constexpr (sizeof(hn::TFromD<D>) == 1) {
    return one;
  } else {
    return hn::TruncateTo(hn::Rebind<uint8_t, D>(), one);
  }
}

struct Eq {
  template <class D>
  HWY_INLINE auto operator()(D d, hn::Vec<D> a, hn::Vec<D> b) const {
    return to_bytes(d, hn::Eq(a, b));
  }
};
// Not Highway's Ne, which on AVX2 and AVX3 is false for NaN.
struct Ne {
  template <class D>
  HWY_INLINE auto operator()(D d, hn::Vec<D> a, hn::Vec<D> b) const {
    return to_bytes(d, hn::Not(hn::Eq(a, b)));
  }
};
struct Lt {
  template <class D>
  HWY_INLINE auto operator()(D d, hn::Vec<D> a, hn::Vec<D> b) const {
    return to_bytes(d, hn::Lt(a, b));
  }
};
struct Le {
  template <class D>
  HWY_INLINE auto operator()(D d, hn::Vec<D> a, hn::Vec<D> b) const {
    if constexpr (hwy::IsFloat<hn::TFromD<D>>()) {
      return to_bytes(d, hn::Le(a, b));
    } else {
      return to_bytes(d, hn::Not(hn::Lt(b, a)));  // Highway has no Le for integers
    }
  }
};

// Reads a row of T.
template <class T>
struct Plain {
  using Lane = T;
  template <class D>
  static HWY_INLINE hn::Vec<D> load(D d, const T* p) {
    return hn::LoadU(d, p);
  }
};
// Reads a row of bool, of which any byte but 0 is true, as 0 and 1.
struct Bool {
  using Lane = uint8_t;
  template <class D>
  static HWY_INLINE hn::Vec<D> load(D d, const uint8_t* p) {
    return hn::Min(hn::LoadU(d, p), hn::Set(d, 1));
  }
};
struct And {
  template <class D>
  HWY_INLINE auto operator()(D, hn::Vec<D> a, hn::Vec<D> b) const {
    return hn::And(a, b);
  }
};
struct Or {
  template <class D>
  HWY_INLINE auto operator()(D, hn::Vec<D> a, hn::Vec<D> b) const {
    return hn::Or(a, b);
  }
};
struct Xor {
  template <class D>
  HWY_INLINE auto operator()(D, hn::Vec<D> a, hn::Vec<D> b) const {
    return hn::Xor(a, b);
  }
};

template <class Type, class Op>
void row(const void* av, ptrdiff_t sa, const void* bv, ptrdiff_t sb, uint8_t* out, size_t n) {
  using T = typename Type::Lane;
  const T* a = static_cast<const T*>(av);
  const T* b = static_cast<const T*>(bv);
  const Op op;
  const hn::ScalableTag<T> d;
  const Capped<T, 1> one;
  if (n == 0) return;
  if (sa == 1 && sb == 1) {
    map<1>(d, n, out, [=](auto t, size_t i) HWY_ATTR {
      return op(t, Type::load(t, a + i), Type::load(t, b + i));
    });
  } else if (sa == 1 && sb == 0) {
    const T y = hn::GetLane(Type::load(one, b));
    map<1>(d, n, out,
           [=](auto t, size_t i) HWY_ATTR { return op(t, Type::load(t, a + i), hn::Set(t, y)); });
  } else if (sa == 0 && sb == 1) {
    const T x = hn::GetLane(Type::load(one, a));
    map<1>(d, n, out,
           [=](auto t, size_t i) HWY_ATTR { return op(t, hn::Set(t, x), Type::load(t, b + i)); });
  } else {
    for (size_t i = 0; i < n; ++i) {
      out[i] = hn::GetLane(op(one, Type::load(one, a), Type::load(one, b)));
      a += sa;
      b += sb;
    }
  }
}

// a > b is b < a.
template <class Type, class Op>
void swapped_row(const void* a, ptrdiff_t sa, const void* b, ptrdiff_t sb, uint8_t* out, size_t n) {
  row<Type, Op>(b, sb, a, sa, out, n);
}

void not_row(const uint8_t* a, ptrdiff_t sa, uint8_t* out, size_t n) {
  if (sa == 1) {
    map<1>(hn::ScalableTag<uint8_t>(), n, out, [=](auto d, size_t i) HWY_ATTR {
      return to_bytes(d, hn::Eq(hn::LoadU(d, a + i), hn::Zero(d)));
    });
  } else {
    for (size_t i = 0; i < n; ++i, a += sa) out[i] = *a == 0;
  }
}

// Lanes as wide as D's where the bytes at `cond` are not 0.
template <class D>
HWY_INLINE hn::Mask<D> load_mask(D d, const uint8_t* cond) {
  const auto bytes = hn::LoadU(hn::Rebind<uint8_t, D>(), cond);
  if constexpr (sizeof(hn::TFromD<D>) == 1) {
    return hn::Ne(bytes, hn::Zero(d));
  } else if constexpr (sizeof(hn::TFromD<D>) == 8) {
    const auto words = hn::PromoteTo(hn::Rebind<uint32_t, D>(), bytes);
    return hn::Ne(hn::PromoteTo(d, words), hn::Zero(d));
  } else {
    return hn::Ne(hn::PromoteTo(d, bytes), hn::Zero(d));
  }
}

template <class T>
void where_row(const uint8_t* cond, ptrdiff_t sc, const void* av, ptrdiff_t sa, const void* bv,
               ptrdiff_t sb, void* outv, size_t n) {
  const T* a = static_cast<const T*>(av);
  const T* b = static_cast<const T*>(bv);
  T* out = static_cast<T*>(outv);
  const hn::ScalableTag<T> d;
  if (n == 0) return;
  if (sc == 1 && sa == 1 && sb == 1) {
    map<1>(d, n, out, [=](auto t, size_t i) HWY_ATTR {
      return hn::IfThenElse(load_mask(t, cond + i), hn::LoadU(t, a + i), hn::LoadU(t, b + i));
    });
  } else if (sc == 1 && sa == 1 && sb == 0) {
    const T y = *b;
    map<1>(d, n, out, [=](auto t, size_t i) HWY_ATTR {
      return hn::IfThenElse(load_mask(t, cond + i), hn::LoadU(t, a + i), hn::Set(t, y));
    });
  } else if (sc == 1 && sa == 0 && sb == 1) {
    const T x = *a;
    map<1>(d, n, out, [=](auto t, size_t i) HWY_ATTR {
      return hn::IfThenElse(load_mask(t, cond + i), hn::Set(t, x), hn::LoadU(t, b + i));
    });
  } else {
    for (size_t i = 0; i < n; ++i) {
      out[i] = *cond != 0 ? *a : *b;
      cond += sc;
      a += sa;
      b += sb;
    }
  }
}

template <class Type>
constexpr void set_row(detail::CompareTable& t, DType dtype) {
  CompareFn* fn = t.fn[static_cast<int>(dtype)];
  fn[static_cast<int>(Compare::kEq)] = row<Type, Eq>;
  fn[static_cast<int>(Compare::kNe)] = row<Type, Ne>;
  fn[static_cast<int>(Compare::kLt)] = row<Type, Lt>;
  fn[static_cast<int>(Compare::kLe)] = row<Type, Le>;
  fn[static_cast<int>(Compare::kGt)] = swapped_row<Type, Lt>;
  fn[static_cast<int>(Compare::kGe)] = swapped_row<Type, Le>;
}

template <class T>
constexpr void set_scalar_row(detail::CompareTable& t, DType dtype) {
  CompareFn* fn = t.fn[static_cast<int>(dtype)];
  fn[static_cast<int>(Compare::kEq)] = detail::scalar_compare<T, Compare::kEq>;
  fn[static_cast<int>(Compare::kNe)] = detail::scalar_compare<T, Compare::kNe>;
  fn[static_cast<int>(Compare::kLt)] = detail::scalar_compare<T, Compare::kLt>;
  fn[static_cast<int>(Compare::kLe)] = detail::scalar_compare<T, Compare::kLe>;
  fn[static_cast<int>(Compare::kGt)] = detail::scalar_compare<T, Compare::kGt>;
  fn[static_cast<int>(Compare::kGe)] = detail::scalar_compare<T, Compare::kGe>;
}

constexpr detail::CompareTable make_table() {
  detail::CompareTable t{};
  set_row<Plain<float>>(t, DType::kFloat32);
  set_row<Plain<double>>(t, DType::kFloat64);
  set_row<Plain<int64_t>>(t, DType::kInt64);
  set_row<Plain<int32_t>>(t, DType::kInt32);
  set_row<Plain<uint8_t>>(t, DType::kUInt8);
  set_row<Bool>(t, DType::kBool);
  set_scalar_row<float16>(t, DType::kFloat16);
  set_scalar_row<bfloat16>(t, DType::kBFloat16);
  t.logical[static_cast<int>(Logical::kAnd)] = row<Bool, And>;
  t.logical[static_cast<int>(Logical::kOr)] = row<Bool, Or>;
  t.logical[static_cast<int>(Logical::kXor)] = row<Bool, Xor>;
  t.logical_not = not_row;
  t.where[0] = where_row<uint8_t>;
  t.where[1] = where_row<uint16_t>;
  t.where[2] = where_row<uint32_t>;
  t.where[3] = where_row<uint64_t>;
  return t;
}
constexpr detail::CompareTable kTable = make_table();

}  // namespace

const detail::CompareTable* compare_table() { return &kTable; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(compare_table);

constinit const Dispatch<detail::CompareTable> detail::compare{
    [] { return HWY_DYNAMIC_DISPATCH(compare_table)(); }};

}  // namespace ebb::kernels
#endif
