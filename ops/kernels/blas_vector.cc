// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <atomic>
#include <type_traits>
#include <utility>

#include "ebb/ops/kernels/blas.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/blas_vector.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/blas_narrow-inl.h"
#include "ebb/ops/kernels/blas_sums-inl.h"
#include "ebb/ops/kernels/blas_terms-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

constexpr size_t kBlock = 1024;  // elements summed in order by each lane before sums are paired
constexpr size_t kMaxDepth = 56;

template <class D, typename T = hn::TFromD<D>>
HWY_INLINE T dot_block(D d, const T* a, const T* b, size_t n) {
  constexpr size_t kN = kLanes<D>;
  if constexpr (kN > 1) {
    if (n <= kLanes<Shorter<D>>) return dot_block(Shorter<D>(), a, b, n);
  }
  auto s0 = hn::Zero(d);
  auto s1 = hn::Zero(d);
  auto s2 = hn::Zero(d);
  auto s3 = hn::Zero(d);
  size_t i = 0;
  for (; i + 4 * kN <= n; i += 4 * kN) {
    s0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s0);
    s1 = hn::MulAdd(hn::LoadU(d, a + i + kN), hn::LoadU(d, b + i + kN), s1);
    s2 = hn::MulAdd(hn::LoadU(d, a + i + 2 * kN), hn::LoadU(d, b + i + 2 * kN), s2);
    s3 = hn::MulAdd(hn::LoadU(d, a + i + 3 * kN), hn::LoadU(d, b + i + 3 * kN), s3);
  }
  for (; i + kN <= n; i += kN) s0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s0);
  if (i < n) s1 = hn::MulAdd(load_n(d, a + i, n - i), load_n(d, b + i, n - i), s1);
  return reduce_lanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)), AddLanes());
}

// The pairs are kept as in reduce_simd.cc.
template <class T>
T dot(const T* a, const T* b, size_t n) {
  T subtree[kMaxDepth];
  T s;
  size_t depth = 0;
  for (size_t block = 0;; ++block) {
    const size_t size = n < kBlock ? n : kBlock;
    s = dot_block(hn::ScalableTag<T>(), a, b, size);
    for (size_t bits = block; (bits & 1) != 0; bits >>= 1) s += subtree[--depth];
    n -= size;
    if (n == 0) break;
    subtree[depth++] = s;
    a += size;
    b += size;
  }
  while (depth > 0) s += subtree[--depth];
  return s;
}

// The dot products of kRows rows of A with x, in y; kRows is 4 or 1.
template <size_t kRows, class D, typename T = hn::TFromD<D>>
HWY_INLINE void dot_rows(D d, size_t n, T alpha, const T* a, ptrdiff_t lda, const T* x, T beta,
                         T* y) {
  constexpr size_t kN = kLanes<D>;
  hn::Vec<D> s[kRows][2];
  HWY_UNROLL(4)
  for (size_t r = 0; r < kRows; ++r) s[r][0] = s[r][1] = hn::Zero(d);
  size_t j = 0;
  for (; j + 2 * kN <= n; j += 2 * kN) {
    const auto x0 = hn::LoadU(d, x + j);
    const auto x1 = hn::LoadU(d, x + j + kN);
    HWY_UNROLL(4)
    for (size_t r = 0; r < kRows; ++r) {
      const T* row = a + static_cast<ptrdiff_t>(r) * lda + j;
      s[r][0] = hn::MulAdd(hn::LoadU(d, row), x0, s[r][0]);
      s[r][1] = hn::MulAdd(hn::LoadU(d, row + kN), x1, s[r][1]);
    }
  }
  const auto add_rest = [&](auto which) HWY_ATTR {
    const auto x0 = load_n(d, x + j, n - j);
    HWY_UNROLL(4)
    for (size_t r = 0; r < kRows; ++r) {
      const T* row = a + static_cast<ptrdiff_t>(r) * lda + j;
      s[r][which()] = hn::MulAdd(load_n(d, row, n - j), x0, s[r][which()]);
    }
  };
  if (j + kN <= n) {
    const auto x0 = hn::LoadU(d, x + j);
    HWY_UNROLL(4)
    for (size_t r = 0; r < kRows; ++r) {
      const T* row = a + static_cast<ptrdiff_t>(r) * lda + j;
      s[r][0] = hn::MulAdd(hn::LoadU(d, row), x0, s[r][0]);
    }
    j += kN;
    if (j < n) add_rest(std::integral_constant<size_t, 1>());
  } else if (j < n) {
    add_rest(std::integral_constant<size_t, 0>());
  }
  HWY_UNROLL(4)
  for (size_t r = 0; r < kRows; ++r) s[r][0] = hn::Add(s[r][0], s[r][1]);
  if constexpr (kRows == 4) {
    store_four_sums(d, s[0][0], s[1][0], s[2][0], s[3][0], alpha, beta, y);
  } else {
    const T sum = alpha * reduce_lanes(d, s[0][0], AddLanes());
    *y = beta == 0 ? sum : sum + beta * *y;
  }
}

template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void dot_all_rows(D d, size_t m, size_t n, T alpha, const T* a, ptrdiff_t lda,
                             const T* x, T beta, T* y) {
  constexpr size_t kN = kLanes<D>;
  if constexpr (kN > 4) {
    if (n <= kN / 2) {
      return dot_all_rows(hn::Half<D>(), m, n, alpha, a, lda, x, beta, y);
    }
  }
  size_t i = 0;
  for (; i + 4 <= m; i += 4, a += 4 * lda) dot_rows<4>(d, n, alpha, a, lda, x, beta, y + i);
  for (; i < m; ++i, a += lda) dot_rows<1>(d, n, alpha, a, lda, x, beta, y + i);
}

// With vectors of 64 bytes a line is one load, and what comes from outside the L1 cache comes in
// faster in the order in which it lies than from several rows at a time. With shorter ones the
// loads of x would take longer than that gains.
template <class T>
constexpr bool in_order(size_t m, size_t n) {
  constexpr size_t kNear = size_t{32} << 10;
  return kLanes<hn::ScalableTag<T>> * sizeof(T) == 64 && m * n * sizeof(T) > kNear;
}

// The elements of a row, as row_sum reads them.
template <class T>
struct StoredRow {
  const T* a;
  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, size_t j) const {
    return hn::LoadU(d, a + j);
  }
  template <class D>
  HWY_INLINE hn::Vec<D> load_part(D d, size_t j, size_t n) const {
    return load_n(d, a + j, n);
  }
};

// The elements of a row as they are after a += factor * v, which happens as they are read.
template <class T>
struct UpdatedRow {
  T* a;
  const T* v;
  T factor;
  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, size_t j) const {
    const auto sum = hn::MulAdd(hn::Set(d, factor), hn::LoadU(d, v + j), hn::LoadU(d, a + j));
    hn::StoreU(sum, d, a + j);
    return sum;
  }
  template <class D>
  HWY_INLINE hn::Vec<D> load_part(D d, size_t j, size_t n) const {
    const auto sum = hn::MulAdd(hn::Set(d, factor), load_n(d, v + j, n), load_n(d, a + j, n));
    store_n(sum, d, a + j, n);
    return sum;
  }
};

// The product of one row with x before its lanes are added up, in the order of dot_rows.
template <class D, class Row, typename T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> row_sum(D d, size_t n, const Row& row, const T* x) {
  constexpr size_t kN = kLanes<D>;
  auto s0 = hn::Zero(d);
  auto s1 = hn::Zero(d);
  size_t j = 0;
  const auto pair = [&](size_t at) HWY_ATTR {
    s0 = hn::MulAdd(row.load(d, at), hn::LoadU(d, x + at), s0);
    s1 = hn::MulAdd(row.load(d, at + kN), hn::LoadU(d, x + at + kN), s1);
  };
  for (; j + 8 * kN <= n; j += 8 * kN) {
    HWY_UNROLL(4)
    for (size_t k = 0; k < 8; k += 2) pair(j + k * kN);
  }
  for (; j + 2 * kN <= n; j += 2 * kN) pair(j);
  const auto rest = [&](hn::Vec<D> sum) HWY_ATTR {
    return hn::MulAdd(row.load_part(d, j, n - j), load_n(d, x + j, n - j), sum);
  };
  if (j + kN <= n) {
    s0 = hn::MulAdd(row.load(d, j), hn::LoadU(d, x + j), s0);
    j += kN;
    if (j < n) s1 = rest(s1);
  } else if (j < n) {
    s0 = rest(s0);
  }
  return hn::Add(s0, s1);
}

// y = alpha * A x + beta * y, one row after the other: sum(i) is the product of row i with x before
// its lanes are added up.
template <class D, class Sum, typename T = hn::TFromD<D>>
HWY_INLINE void dot_rows_in_turn(D d, size_t m, T alpha, const Sum& sum, T beta, T* y) {
  constexpr size_t kN = kLanes<D>;
  HWY_ALIGN T sums[4 * kN];
  for (size_t i = 0; i < m; i += 4) {
    const size_t rows = m - i < 4 ? m - i : 4;
    // A loop of few loads: what fetches ahead tells streams apart by the loads that read them.
    HWY_UNROLL(1)
    for (size_t r = 0; r < rows; ++r) hn::Store(sum(i + r), d, sums + r * kN);
    if (rows == 4) {
      store_four_sums(d, hn::Load(d, sums), hn::Load(d, sums + kN), hn::Load(d, sums + 2 * kN),
                      hn::Load(d, sums + 3 * kN), alpha, beta, y + i);
      continue;
    }
    for (size_t r = 0; r < rows; ++r) {
      const T product = alpha * reduce_lanes(d, hn::Load(d, sums + r * kN), AddLanes());
      y[i + r] = beta == 0 ? product : product + beta * y[i + r];
    }
  }
}

// The same with all of x in registers: kV vectors, of which the last may be partial.
template <size_t kV, bool kWhole, class T>
HWY_NOINLINE void dot_in_registers(size_t m, size_t n, T alpha, const T* a, ptrdiff_t lda,
                                   const T* x, T beta, T* y) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr size_t kN = kLanes<decltype(d)>;
  const auto last = hn::FirstN(d, n - (kV - 1) * kN);
  const auto load = [&](const T* row, size_t v) HWY_ATTR {
    return kWhole || v + 1 < kV ? hn::LoadU(d, row + v * kN)
                                : hn::MaskedLoad(last, d, row + v * kN);
  };
  V xs[kV];
  HWY_UNROLL(24)
  for (size_t v = 0; v < kV; ++v) xs[v] = load(x, v);
  const auto sum = [&](size_t i) HWY_ATTR {
    const T* const row = a + static_cast<ptrdiff_t>(i) * lda;
    V s[2] = {hn::Zero(d), hn::Zero(d)};
    HWY_UNROLL(24)
    for (size_t v = 0; v < kV; ++v) {
      // The compiler would load the part of a vector first, and the order in memory be lost.
      if (!kWhole && v + 1 == kV) std::atomic_signal_fence(std::memory_order_seq_cst);
      s[v % 2] = hn::MulAdd(load(row, v), xs[v], s[v % 2]);
    }
    return hn::Add(s[0], s[1]);
  };
  dot_rows_in_turn(d, m, alpha, sum, beta, y);
}

#if HWY_TARGET == HWY_AVX3
constexpr size_t kFewestInRegisters = 5;
constexpr size_t kMostInRegisters = 24;
template <class T, bool kWhole, size_t... i>
constexpr auto dots_in_registers(std::index_sequence<i...>) {
  return std::array{dot_in_registers<kFewestInRegisters + i, kWhole, T>...};
}
// By vectors beyond the fewest.
template <class T, bool kWhole>
inline constexpr auto kDotsInRegisters = dots_in_registers<T, kWhole>(
    std::make_index_sequence<kMostInRegisters - kFewestInRegisters + 1>());
#endif

template <class T>
HWY_NOINLINE void dot_in_order(size_t m, size_t n, T alpha, const T* a, ptrdiff_t lda, const T* x,
                               T beta, T* y) {
  const hn::ScalableTag<T> d;
  const auto sum = [=](size_t i) HWY_ATTR {
    return row_sum(d, n, StoredRow<T>{a + static_cast<ptrdiff_t>(i) * lda}, x);
  };
  dot_rows_in_turn(d, m, alpha, sum, beta, y);
}

template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void update_all_rows(D d, size_t m, size_t n, T alpha, const T* u, const T* v, T* a,
                                ptrdiff_t lda, const T* x, T* y, T beta) {
  constexpr size_t kN = kLanes<D>;
  if constexpr (kN > 4) {
    if (n <= kN / 2) {
      return update_all_rows(hn::Half<D>(), m, n, alpha, u, v, a, lda, x, y, beta);
    }
  }
  const auto sum = [=](size_t i) HWY_ATTR {
    const UpdatedRow<T> row{a + static_cast<ptrdiff_t>(i) * lda, v, alpha * u[i]};
    return row_sum(d, n, row, x);
  };
  dot_rows_in_turn(d, m, T{1}, sum, beta, y);
}

template <class T>
void gemv_n(size_t m, size_t n, T alpha, const T* a, ptrdiff_t lda, const T* x, T beta, T* y) {
  constexpr size_t kLongRows = 8 * kLanes<hn::ScalableTag<T>>;
  constexpr size_t kFar = size_t{2} << 20;
  if (narrow(n, lda)) {
    return with_columns(n, [=](auto columns) HWY_ATTR {
      narrow_n<decltype(columns)::value>(m, alpha, a, x, beta, y);
    });
  }
#if HWY_TARGET == HWY_AVX3
  constexpr size_t kN = kLanes<hn::ScalableTag<T>>;
  const size_t vectors = (n + kN - 1) / kN;
  if (in_order<T>(m, n) && vectors >= kFewestInRegisters && vectors <= kMostInRegisters) {
    const auto& dots = n % kN == 0 ? kDotsInRegisters<T, true> : kDotsInRegisters<T, false>;
    return dots[vectors - kFewestInRegisters](m, n, alpha, a, lda, x, beta, y);
  }
#endif
  if (in_order<T>(m, n) && n >= kLongRows && m * n * sizeof(T) <= kFar)
    return dot_in_order(m, n, alpha, a, lda, x, beta, y);
  dot_all_rows(hn::ScalableTag<T>(), m, n, alpha, a, lda, x, beta, y);
}

// y = beta * y + the sum of kRows rows of A, weighted by alpha * x: one pass over long rows.
template <size_t kRows, class T>
HWY_INLINE void add_rows(size_t n, T alpha, const T* a, ptrdiff_t lda, const T* x, T beta, T* y) {
  T weight[kRows];
  for (size_t r = 0; r < kRows; ++r) weight[r] = alpha * x[r];
  map<1>(hn::ScalableTag<T>(), n, y, [&](auto d, size_t j) HWY_ATTR {
    auto s = hn::Mul(hn::Set(d, weight[0]), hn::LoadU(d, a + j));
    HWY_UNROLL(8)
    for (size_t r = 1; r < kRows; ++r) {
      const T* row = a + static_cast<ptrdiff_t>(r) * lda + j;
      s = hn::MulAdd(hn::Set(d, weight[r]), hn::LoadU(d, row), s);
    }
    return beta == 0 ? s : hn::MulAdd(hn::Set(d, beta), hn::LoadU(d, y + j), s);
  });
}

// The same with all of y in registers: kV vectors, of which the last four may be partial or empty
// unless they are `kWhole`.
template <size_t kV, bool kWhole, class T>
HWY_NOINLINE void add_rows_in_order(size_t m, size_t n, T alpha, const T* a, ptrdiff_t lda,
                                    const T* x, T beta, T* y) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr size_t kN = kLanes<decltype(d)>;
  constexpr size_t kPartial = kWhole ? 0 : 4;
  hn::Mask<decltype(d)> there[kPartial + 1];
  for (size_t v = 0; v < kPartial; ++v) {
    const size_t first = (kV - kPartial + v) * kN;
    there[v] = hn::FirstN(d, n > first ? n - first : 0);
  }
  const auto load = [&](const T* row, size_t v) HWY_ATTR {
    return v < kV - kPartial ? hn::LoadU(d, row + v * kN)
                             : hn::MaskedLoad(there[v - (kV - kPartial)], d, row + v * kN);
  };
  V s[kV];
  HWY_UNROLL(24)
  for (size_t v = 0; v < kV; ++v) s[v] = hn::Zero(d);
  for (size_t i = 0; i < m; ++i, a += lda) {
    const V weight = hn::Set(d, x[i]);
    HWY_UNROLL(24)
    for (size_t v = 0; v < kV; ++v) s[v] = hn::MulAdd(weight, load(a, v), s[v]);
  }
  HWY_UNROLL(24)
  for (size_t v = 0; v < kV; ++v) {
    s[v] = hn::Mul(s[v], hn::Set(d, alpha));
    if (beta != 0) s[v] = hn::MulAdd(hn::Set(d, beta), load(y, v), s[v]);
    if (v < kV - kPartial) {
      hn::StoreU(s[v], d, y + v * kN);
    } else {
      hn::BlendedStore(s[v], there[v - (kV - kPartial)], d, y + v * kN);
    }
  }
}

template <class T>
void gemv_t(size_t m, size_t n, T alpha, const T* a, ptrdiff_t lda, const T* x, T beta, T* y) {
  constexpr size_t kN = kLanes<hn::ScalableTag<T>>;
  const size_t bytes = m * n * sizeof(T);
  if (m == 1 && alpha != 0) return add_rows<1>(n, alpha, a, lda, x, beta, y);
  if (alpha != 0 && narrow(n, lda)) {
    return with_columns(n, [=](auto columns) HWY_ATTR {
      narrow_t<decltype(columns)::value>(m, alpha, a, x, beta, y);
    });
  }
  if constexpr (kN * sizeof(T) == 64) {
    const auto in_registers = [&](auto vectors) HWY_ATTR {
      constexpr size_t kV = decltype(vectors)::value;
      if (n == kV * kN) return add_rows_in_order<kV, true>(m, n, alpha, a, lda, x, beta, y);
      add_rows_in_order<kV, false>(m, n, alpha, a, lda, x, beta, y);
    };
    if (bytes >= detail::kGemvByRowsBytes && n > 4 * kN && n <= 8 * kN) {
      return in_registers(std::integral_constant<size_t, 8>());
    }
    if (in_order<T>(m, n) && n > 8 * kN && n <= 24 * kN) {
      if (n <= 12 * kN) return in_registers(std::integral_constant<size_t, 12>());
      if (n <= 16 * kN) return in_registers(std::integral_constant<size_t, 16>());
      if (n <= 20 * kN) return in_registers(std::integral_constant<size_t, 20>());
      return in_registers(std::integral_constant<size_t, 24>());
    }
  }
  // A small y is held in registers, a strip at a time; a matrix too large for the caches is better
  // read row by row.
  if (bytes < detail::kGemvByRowsBytes || m == 0) {
    detail::GemmArgs<T> product{{m, 1, 1, lda, alpha, beta, 1, 0}, false, false, 1, n, x, a, y};
    detail::of_type<T> (*detail::blas_gemm)(product);
    return;
  }
  constexpr size_t kNear = size_t{4} << 20;
  size_t i = 0;
  if (in_order<T>(m, n) && bytes <= kNear) {
    for (; i + 2 <= m; i += 2, a += 2 * lda) {
      add_rows<2>(n, alpha, a, lda, x + i, i == 0 ? beta : T{1}, y);
    }
  } else {
    for (; i + 8 <= m; i += 8, a += 8 * lda) {
      add_rows<8>(n, alpha, a, lda, x + i, i == 0 ? beta : T{1}, y);
    }
  }
  for (; i < m; ++i, a += lda) add_rows<1>(n, alpha, a, lda, x + i, i == 0 ? beta : T{1}, y);
}

// kRows rows of A, which share what is loaded of v.
template <size_t kRows, class T>
HWY_INLINE void ger_rows(size_t n, T alpha, const T* u, const T* v, T* a, ptrdiff_t lda) {
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  hn::Vec<decltype(d)> x[kRows];
  HWY_UNROLL(4)
  for (size_t r = 0; r < kRows; ++r) x[r] = hn::Set(d, alpha * u[r]);
  size_t j = 0;
  for (; j + 2 * kN <= n; j += 2 * kN) {
    const auto v0 = hn::LoadU(d, v + j);
    const auto v1 = hn::LoadU(d, v + j + kN);
    HWY_UNROLL(4)
    for (size_t r = 0; r < kRows; ++r) {
      T* at = a + static_cast<ptrdiff_t>(r) * lda + j;
      hn::StoreU(hn::MulAdd(x[r], v0, hn::LoadU(d, at)), d, at);
      hn::StoreU(hn::MulAdd(x[r], v1, hn::LoadU(d, at + kN)), d, at + kN);
    }
  }
  for (; j + kN <= n; j += kN) {
    const auto v0 = hn::LoadU(d, v + j);
    HWY_UNROLL(4)
    for (size_t r = 0; r < kRows; ++r) {
      T* at = a + static_cast<ptrdiff_t>(r) * lda + j;
      hn::StoreU(hn::MulAdd(x[r], v0, hn::LoadU(d, at)), d, at);
    }
  }
  if (j < n) {
    const auto v0 = load_n(d, v + j, n - j);
    HWY_UNROLL(4)
    for (size_t r = 0; r < kRows; ++r) {
      T* at = a + static_cast<ptrdiff_t>(r) * lda + j;
      store_n(hn::MulAdd(x[r], v0, load_n(d, at, n - j)), d, at, n - j);
    }
  }
}

template <class T>
void ger(size_t m, size_t n, T alpha, const T* u, const T* v, T* a, ptrdiff_t lda) {
  if (narrow(n, lda)) {
    return with_columns(
        n, [=](auto columns) HWY_ATTR { narrow_ger<decltype(columns)::value>(m, alpha, u, v, a); });
  }
  if (n > kStripsUpTo<T>) {
    // Four at a time spare loads of v; from outside the L2 cache, one row comes in faster.
    constexpr size_t kNear = size_t{512} << 10;
    const size_t in_fours = m * n * sizeof(T) <= kNear ? m / 4 * 4 : 0;
    size_t i = 0;
    for (; i < in_fours; i += 4, a += 4 * lda) ger_rows<4>(n, alpha, u + i, v, a, lda);
    for (; i < m; ++i, a += lda) ger_rows<1>(n, alpha, u + i, v, a, lda);
    return;
  }
  add_terms<1>(FewTerms<T>{m, alpha, u, 1, 0, v, 0, a, lda}, n,
               [](auto d, const T* at) HWY_ATTR { return hn::LoadU(d, at); });
}

template <class T>
void ger_gemv(size_t m, size_t n, T alpha, const T* u, const T* v, T* a, ptrdiff_t lda, const T* x,
              T beta, T* y) {
  // One pass pays where it spares the way from a cache further out than the first. With masked
  // stores of a row's last part, which the loads of the next row wait for, it has to be far.
  const bool waits = HWY_TARGET == HWY_AVX3 && n % kLanes<hn::ScalableTag<T>> != 0;
  const bool pays = m * n * sizeof(T) > (waits ? size_t{512} << 10 : size_t{32} << 10);
  if (!pays || narrow(n, lda)) {
    ger(m, n, alpha, u, v, a, lda);
    return gemv_n(m, n, T{1}, a, lda, x, beta, y);
  }
  update_all_rows(hn::ScalableTag<T>(), m, n, alpha, u, v, a, lda, x, y, beta);
}

template <class T>
void outer_product(size_t m, size_t n, const T* u, ptrdiff_t u_row, const T* v, T* y) {
  const auto ldy = static_cast<ptrdiff_t>(n);
  if (u_row == 1 && narrow(n, ldy)) {
    return with_columns(n, [=](auto columns) HWY_ATTR {
      narrow_outer<decltype(columns)::value>(hn::ScalableTag<T>(), 0, m, u, v, y);
    });
  }
  add_terms<1>(FewTerms<T>{m, T{1}, u, u_row, 0, v, 0, y, ldy}, n,
               [](auto d, const T*) HWY_ATTR { return hn::Zero(d); });
}

template <class T>
constexpr detail::VectorTable<T> table() {
  return {dot<T>, gemv_n<T>, gemv_t<T>, ger<T>, ger_gemv<T>, outer_product<T>};
}
constexpr detail::VectorTables kTables{table<float>(), table<double>()};

}  // namespace

const detail::VectorTables* vector_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(vector_tables);

constinit const Dispatch<detail::VectorTables> detail::blas_vector{
    [] { return HWY_DYNAMIC_DISPATCH(vector_tables)(); }};

}  // namespace ebb::kernels
#endif
