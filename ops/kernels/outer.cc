// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/outer.h"

#include <algorithm>
#include <array>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/outer.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX3
constexpr size_t kHeight = 8;  // rows of a block of A that is computed in registers
#else
constexpr size_t kHeight = 6;
#endif
constexpr size_t kPackedHeight = 8;
// What is gone through of the v for each block of rows: it stays in the L1 cache, or on the smaller
// ones comes from L2 in good time.
constexpr size_t kPanelBytes = 32768;

template <class T>
struct Block {
  size_t terms;
  T alpha;
  ptrdiff_t lda;
  size_t last;     // columns in a partial vector
  const T* u;      // packed, [terms][kPackedHeight]
  ptrdiff_t next;  // from this block of A to the one that is computed after it
};

template <class T>
using BlockFn = void (*)(const Block<T>& g, const T* v, T* a);

// kRows rows of A, kVectors vectors wide. Those of the next block are fetched meanwhile: A comes
// from outside the L2 cache, and a few columns of a few rows at a time is nothing that the machine
// foresees.
template <class D, size_t kRows, size_t kVectors, bool kPartial, typename T = hn::TFromD<D>>
HWY_NOINLINE void block(const Block<T>& g, const T* v, T* a) {
  using V = hn::Vec<D>;
  constexpr size_t kN = kLanes<D>;
  constexpr size_t kLine = 64 / sizeof(T);
  constexpr size_t kLines = (kVectors * kN + kLine - 1) / kLine;  // of a row
  constexpr auto kHigh = static_cast<ptrdiff_t>(kRows);
  const D d;
  const size_t terms = g.terms;
  const ptrdiff_t lda = g.lda;
  const T* u = g.u;
  V sum[kRows][kVectors];
  HWY_UNROLL(8)
  for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(2)
    for (size_t q = 0; q < kVectors; ++q) sum[r][q] = hn::Zero(d);
  }
  const auto step = [&]() HWY_ATTR {
    V row[kVectors];
    HWY_UNROLL(2)
    for (size_t q = 0; q < kVectors; ++q) row[q] = hn::Load(d, v + q * kN);
    HWY_UNROLL(8)
    for (size_t r = 0; r < kRows; ++r) {
      const V x = hn::Set(d, u[r]);
      HWY_UNROLL(2)
      for (size_t q = 0; q < kVectors; ++q) sum[r][q] = hn::MulAdd(x, row[q], sum[r][q]);
    }
    u += kPackedHeight;
    v += kVectors * kN;
  };
  size_t p = 0;
  const T* line = a + g.next;
  for (size_t l = 0; l < kLines; ++l, line += static_cast<ptrdiff_t>(kLine) - kHigh * lda) {
    for (size_t r = 0; r < kRows; ++r, line += lda) {
      hwy::Prefetch(line);
      if (p == terms) continue;
      step();
      ++p;
    }
  }
  for (; p < terms; ++p) step();
  const V alpha = hn::Set(d, g.alpha);
  HWY_UNROLL(8)
  for (size_t r = 0; r < kRows; ++r, a += lda) {
    HWY_UNROLL(2)
    for (size_t q = 0; q < kVectors; ++q) {
      T* const at = a + q * kN;
      if constexpr (kPartial) {
        store_n(hn::MulAdd(alpha, sum[r][q], load_n(d, at, g.last)), d, at, g.last);
      } else {
        hn::StoreU(hn::MulAdd(alpha, sum[r][q], hn::LoadU(d, at)), d, at);
      }
    }
  }
}

template <class D, size_t kVectors, bool kPartial, size_t... kRow>
constexpr auto blocks(std::index_sequence<kRow...>) {
  return std::array<BlockFn<hn::TFromD<D>>, sizeof...(kRow)>{
      block<D, kRow + 1, kVectors, kPartial>...};
}
// By rows - 1.
template <class D, size_t kVectors, bool kPartial>
inline constexpr auto kBlocks = blocks<D, kVectors, kPartial>(std::make_index_sequence<kHeight>());

// Elements i to i + kPackedHeight of a vector of m; what lies beyond it is 0.
template <class T>
HWY_INLINE void pack_u(const T* u, size_t i, size_t m, T* to) {
  const Capped<T, kPackedHeight> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  if (i + kPackedHeight <= m) {
    HWY_UNROLL(8)
    for (size_t q = 0; q < kPackedHeight; q += kN) hn::Store(hn::LoadU(d, u + i + q), d, to + q);
  } else {
    for (size_t q = 0; q < kPackedHeight; ++q) to[q] = i + q < m ? u[i + q] : T{0};
  }
}

// Columns of the terms' v as strips of two vectors, then of one; zeros behind the last column.
template <class T>
HWY_INLINE void pack_v(const OuterTerms<T>& terms, size_t first, size_t n, T* to) {
  constexpr size_t kN = kLanes<hn::ScalableTag<T>>;
  for (size_t j = 0; j < n;) {
    const size_t strip = n - j >= 2 * kN ? 2 * kN : kN;
    const size_t width = std::min(strip, n - j);
    for (size_t p = 0; p < terms.count; ++p, to += strip) {
      const T* const from = terms.v[p] + first + j;
      std::copy(from, from + width, to);
      std::fill(to + width, to + strip, T{0});
    }
    j += width;
  }
}

// All of `terms` at once.
template <class T>
HWY_INLINE void add_few(size_t m, size_t n, T alpha, const OuterTerms<T>& terms, T* a,
                        ptrdiff_t lda) {
  using D = hn::ScalableTag<T>;
  constexpr size_t kN = kLanes<D>;
  HWY_ALIGN T packed_v[kPanelBytes / sizeof(T)];
  HWY_ALIGN T packed_u[kPackedHeight * kOuterTerms];
  const size_t fit = kPanelBytes / sizeof(T) / terms.count / (2 * kN) * (2 * kN);
  const size_t columns = std::min(n, std::max(fit, 2 * kN));
  Block<T> g;
  g.terms = terms.count;
  g.alpha = alpha;
  g.lda = lda;
  g.u = packed_u;
  for (size_t first = 0; first < n; first += columns) {
    const size_t width = std::min(columns, n - first);
    pack_v(terms, first, width, packed_v);
    for (size_t i = 0; i < m; i += kHeight) {
      const size_t height = std::min(kHeight, m - i);
      T* const row = a + static_cast<ptrdiff_t>(i) * lda + first;
      g.next = i + kHeight + height <= m ? static_cast<ptrdiff_t>(kHeight) * lda : 0;
      for (size_t p = 0; p < terms.count; ++p) {
        pack_u(terms.u[p], i, m, packed_u + p * kPackedHeight);
      }
      const T* v = packed_v;
      size_t j = 0;
      for (; j + 2 * kN <= width; j += 2 * kN, v += 2 * kN * terms.count) {
        kBlocks<D, 2, false>[height - 1](g, v, row + j);
      }
      if (j + kN <= width) {
        kBlocks<D, 1, false>[height - 1](g, v, row + j);
        j += kN;
        v += kN * terms.count;
      }
      if (j == width) continue;
      g.last = width - j;
      kBlocks<D, 1, true>[height - 1](g, v, row + j);
    }
  }
}

template <class T>
void add_outers(size_t m, size_t n, T alpha, const OuterTerms<T>& terms, T* a, ptrdiff_t lda) {
  size_t parts = (terms.count + kOuterTerms - 1) / kOuterTerms;
  for (size_t done = 0; parts != 0; --parts) {
    const size_t count = (terms.count - done) / parts;
    add_few(m, n, alpha, {terms.u + done, terms.v + done, count}, a, lda);
    done += count;
  }
}

constexpr detail::OuterTables kTables{add_outers<float>, add_outers<double>};

}  // namespace

const detail::OuterTables* outer_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(outer_tables);

constinit const Dispatch<detail::OuterTables> detail::outer{
    [] { return HWY_DYNAMIC_DISPATCH(outer_tables)(); }};

}  // namespace ebb::kernels
#endif
