// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>

#include "ebb/ops/kernels/reduce.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/reduce_simd.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// A reduction: add(a, x) takes the input x into the accumulator a, join() joins two accumulators,
// kNeutral is an input that changes nothing and an accumulator's start.
template <class T>
struct Sum {
  static constexpr T kNeutral = 0;
  template <class V>
  static HWY_INLINE V add(V a, V x) {
    return hn::Add(a, x);
  }
  template <class V>
  static HWY_INLINE V join(V a, V b) {
    return hn::Add(a, b);
  }
};
template <class T>
struct SumSquares : Sum<T> {
  template <class V>
  static HWY_INLINE V add(V a, V x) {
    return hn::MulAdd(x, x, a);
  }
};
template <class T>
struct SumAbs : Sum<T> {
  template <class V>
  static HWY_INLINE V add(V a, V x) {
    return hn::Add(a, hn::Abs(x));
  }
};
template <class T>
struct Prod {
  static constexpr T kNeutral = 1;
  template <class V>
  static HWY_INLINE V add(V a, V x) {
    return hn::Mul(a, x);
  }
  template <class V>
  static HWY_INLINE V join(V a, V b) {
    return hn::Mul(a, b);
  }
};
template <class T>
struct Max {
  static constexpr T kNeutral = -std::numeric_limits<T>::infinity();
  template <class V>
  static HWY_INLINE V add(V a, V x) {
    return hn::IfThenElse(hn::Or(hn::Gt(x, a), hn::IsNaN(x)), x, a);
  }
  template <class V>
  static HWY_INLINE V join(V a, V b) {
    return add(a, b);
  }
};
template <class T>
struct Min {
  static constexpr T kNeutral = std::numeric_limits<T>::infinity();
  template <class V>
  static HWY_INLINE V add(V a, V x) {
    return hn::IfThenElse(hn::Or(hn::Lt(x, a), hn::IsNaN(x)), x, a);
  }
  template <class V>
  static HWY_INLINE V join(V a, V b) {
    return add(a, b);
  }
};

// Elements of a row that are summed in order by each lane's accumulator before sums are paired.
constexpr size_t kBlock = 1024;
constexpr size_t kRowBlock = 64;  // the same for columns, in rows
constexpr size_t kMaxDepth = 56;  // of the tree of pairs

template <class R, class D, typename T = hn::TFromD<D>>
HWY_INLINE T reduce_block(D d, const T* p, size_t n) {
  constexpr size_t kN = kLanes<D>;
  if constexpr (kN > 1) {
    if (n <= kLanes<Shorter<D>>) return reduce_block<R>(Shorter<D>(), p, n);
  }
  const auto neutral = hn::Set(d, R::kNeutral);
  auto a0 = neutral;
  auto a1 = neutral;
  auto a2 = neutral;
  auto a3 = neutral;
  size_t i = 0;
  for (; i + 4 * kN <= n; i += 4 * kN) {
    a0 = R::add(a0, hn::LoadU(d, p + i));
    a1 = R::add(a1, hn::LoadU(d, p + i + kN));
    a2 = R::add(a2, hn::LoadU(d, p + i + 2 * kN));
    a3 = R::add(a3, hn::LoadU(d, p + i + 3 * kN));
  }
  for (; i + kN <= n; i += kN) a0 = R::add(a0, hn::LoadU(d, p + i));
  if (i < n) {
    const size_t rest = n - i;
    if (n >= kN) {  // a vector that ends with the row; what it shares with the one before is masked
      const auto last = hn::LoadU(d, p + n - kN);
      a1 = R::add(a1, hn::IfThenElse(hn::FirstN(d, kN - rest), neutral, last));
    } else {
      a1 = R::add(a1, hn::IfThenElse(hn::FirstN(d, rest), load_n(d, p, rest), neutral));
    }
  }
  a0 = R::join(R::join(a0, a1), R::join(a2, a3));
  return reduce_lanes(d, a0, [](auto x, auto y) HWY_ATTR { return R::join(x, y); });
}

template <class R, class T>
HWY_INLINE T join(T a, T b) {
  const Capped<T, 1> d;
  return hn::GetLane(R::join(hn::Set(d, a), hn::Set(d, b)));
}

// The tree of pairs is kept as the sums of its complete subtrees, which come and go like the bits
// of the number of blocks seen.
template <class T, class R>
void row(const void* inv, ptrdiff_t stride, size_t n, void* outv, bool accumulate) {
  const T* in = static_cast<const T*>(inv);
  T* out = static_cast<T*>(outv);
  T subtree[kMaxDepth];
  T copy[kBlock];
  T s;
  size_t depth = 0;
  for (size_t block = 0;; ++block) {
    const size_t size = std::min(kBlock, n);
    const T* p = in;
    if (stride != 1) {
      for (size_t i = 0; i < size; ++i) copy[i] = in[static_cast<ptrdiff_t>(i) * stride];
      p = copy;
    }
    s = reduce_block<R>(hn::ScalableTag<T>(), p, size);
    for (size_t bits = block; (bits & 1) != 0; bits >>= 1) s = join<R>(subtree[--depth], s);
    n -= size;
    if (n == 0) break;
    subtree[depth++] = s;
    in += static_cast<ptrdiff_t>(size) * stride;
  }
  while (depth > 0) s = join<R>(subtree[--depth], s);
  *out = accumulate ? join<R>(*out, s) : s;
}

// kV vectors of columns over at most kRowBlock rows. Even and odd rows have their own accumulators,
// which hides the latency of the addition.
template <class R, size_t kV, class D, typename T = hn::TFromD<D>>
HWY_INLINE void cols_block(D d, const T* in, ptrdiff_t ld, size_t rows, hn::Vec<D>* a) {
  hn::Vec<D> b[kV];
  for (size_t v = 0; v < kV; ++v) a[v] = b[v] = hn::Set(d, R::kNeutral);
  size_t i = 0;
  for (; i + 2 <= rows; i += 2, in += 2 * ld) {
    for (size_t v = 0; v < kV; ++v) {
      a[v] = R::add(a[v], hn::LoadU(d, in + v * kLanes<D>));
      b[v] = R::add(b[v], hn::LoadU(d, in + ld + v * kLanes<D>));
    }
  }
  for (size_t v = 0; v < kV; ++v) {
    if (i < rows) a[v] = R::add(a[v], hn::LoadU(d, in + v * kLanes<D>));
    a[v] = R::join(a[v], b[v]);
  }
}

template <class R, size_t kV, class D, typename T = hn::TFromD<D>>
HWY_INLINE void cols_chunk(D d, const T* in, ptrdiff_t ld, size_t rows, T* out, bool accumulate) {
  hn::Vec<D> subtree[kMaxDepth][kV];
  hn::Vec<D> s[kV];
  size_t depth = 0;
  for (size_t block = 0;; ++block) {
    const size_t size = std::min(kRowBlock, rows);
    cols_block<R, kV>(d, in, ld, size, s);
    for (size_t bits = block; (bits & 1) != 0; bits >>= 1) {
      --depth;
      for (size_t v = 0; v < kV; ++v) s[v] = R::join(subtree[depth][v], s[v]);
    }
    rows -= size;
    if (rows == 0) break;
    for (size_t v = 0; v < kV; ++v) subtree[depth][v] = s[v];
    ++depth;
    in += static_cast<ptrdiff_t>(size) * ld;
  }
  for (; depth > 0; --depth) {
    for (size_t v = 0; v < kV; ++v) s[v] = R::join(subtree[depth - 1][v], s[v]);
  }
  for (size_t v = 0; v < kV; ++v) {
    T* to = out + v * kLanes<D>;
    hn::StoreU(accumulate ? R::join(hn::LoadU(d, to), s[v]) : s[v], d, to);
  }
}

// What four vectors do not divide: single vectors, then ever shorter ones.
template <class R, class D, typename T = hn::TFromD<D>>
HWY_INLINE void cols_rest(D d, const T* in, ptrdiff_t ld, size_t rows, size_t cols, T* out,
                          bool accumulate) {
  constexpr size_t kN = kLanes<D>;
  while (cols >= kN) {
    cols_chunk<R, 1>(d, in, ld, rows, out, accumulate);
    in += kN;
    out += kN;
    cols -= kN;
  }
  if constexpr (kN > 1) cols_rest<R>(Shorter<D>(), in, ld, rows, cols, out, accumulate);
}

template <class T, class R>
void cols(const void* inv, ptrdiff_t ld, size_t rows, size_t n, void* outv, bool accumulate) {
  const T* in = static_cast<const T*>(inv);
  T* out = static_cast<T*>(outv);
  const hn::ScalableTag<T> d;
  constexpr size_t kStep = 4 * kLanes<decltype(d)>;
  size_t j = 0;
  for (; j + kStep <= n; j += kStep) cols_chunk<R, 4>(d, in + j, ld, rows, out + j, accumulate);
  cols_rest<R>(d, in + j, ld, rows, n - j, out + j, accumulate);
}

using Row = detail::ReduceTable::Entry[kReduceCount];

template <class T, Reduce op, template <class> class R>
constexpr void set_simd(Row& r) {
  r[static_cast<int>(op)] = {row<T, R<T>>, cols<T, R<T>>};
}
template <class T, Reduce op>
constexpr void set_scalar(Row& r) {
  r[static_cast<int>(op)] = {detail::scalar_reduce_row<T, op>, detail::scalar_reduce_cols<T, op>};
}

template <class T>
constexpr void set_float(Row& r) {
  set_simd<T, Reduce::kSum, Sum>(r);
  set_simd<T, Reduce::kProd, Prod>(r);
  set_simd<T, Reduce::kMax, Max>(r);
  set_simd<T, Reduce::kMin, Min>(r);
  set_simd<T, Reduce::kSumSquares, SumSquares>(r);
  set_simd<T, Reduce::kSumAbs, SumAbs>(r);
  set_scalar<T, Reduce::kAny>(r);
  set_scalar<T, Reduce::kAll>(r);
  set_scalar<T, Reduce::kCountNonzero>(r);
}
template <class T>
constexpr void set_integer(Row& r) {
  set_scalar<T, Reduce::kSum>(r);
  set_scalar<T, Reduce::kProd>(r);
  set_scalar<T, Reduce::kMax>(r);
  set_scalar<T, Reduce::kMin>(r);
  set_scalar<T, Reduce::kAny>(r);
  set_scalar<T, Reduce::kAll>(r);
  set_scalar<T, Reduce::kCountNonzero>(r);
}

constexpr detail::ReduceTable make_table() {
  detail::ReduceTable t{};
  set_float<float>(t.fn[static_cast<int>(DType::kFloat32)]);
  set_float<double>(t.fn[static_cast<int>(DType::kFloat64)]);
  set_integer<int64_t>(t.fn[static_cast<int>(DType::kInt64)]);
  set_integer<int32_t>(t.fn[static_cast<int>(DType::kInt32)]);
  set_integer<uint8_t>(t.fn[static_cast<int>(DType::kUInt8)]);
  set_integer<bool>(t.fn[static_cast<int>(DType::kBool)]);
  return t;
}
constexpr detail::ReduceTable kTable = make_table();

}  // namespace

const detail::ReduceTable* reduce_table() { return &kTable; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(reduce_table);

constinit const Dispatch<detail::ReduceTable> detail::reduce{
    [] { return HWY_DYNAMIC_DISPATCH(reduce_table)(); }};

}  // namespace ebb::kernels
#endif
