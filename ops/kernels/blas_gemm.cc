// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ebb/ops/kernels/blas.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/blas_gemm.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/blas_micro-inl.h"
#include "ebb/ops/kernels/blas_pack-inl.h"
#include "ebb/ops/kernels/blas_terms-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// ---- loops over the blocks ----

constexpr size_t kDepth = 256;  // of k at a time: a strip of op(B) so deep stays in the L1 cache

template <class T>
HWY_INLINE const T* element(const T* matrix, ptrdiff_t ld, size_t row, size_t col) {
  return matrix + static_cast<ptrdiff_t>(row) * ld + static_cast<ptrdiff_t>(col);
}

// Columns of op(B) as strips: all two vectors wide but the last.
template <class T>
struct Panel {
  const T* b;
  ptrdiff_t b_row;  // between rows; 0: packed, each strip to its own width
  size_t full;      // strips two vectors wide
  Strip<T> rest;    // the one after them; of width 0 if there is none
  const T* rest_b;
  ptrdiff_t rest_row;
};

// `height` rows of C from a panel, with the block's strides of op(A) set.
template <class T>
HWY_INLINE void compute_rows(const Panel<T>& panel, size_t height, Block<T>& block, const T* a,
                             T* c) {
  using D = hn::ScalableTag<T>;
  constexpr size_t kWidth = 2 * kLanes<D>;
  const MicroFn<T> fn = kMicros<D, 2, false, kMaxRows2>[std::min(height, kMaxRows2) - 1];
  const bool packed = panel.b_row == 0;
  const size_t step = packed ? block.k * kWidth : kWidth;
  const T* b = panel.b;
  block.b_row = packed ? static_cast<ptrdiff_t>(kWidth) : panel.b_row;
  for (size_t q = 0; q < panel.full; ++q, b += step, c += kWidth) fn(block, a, b, c);
  if (panel.rest.width == 0) return;
  block.b_row = panel.rest_row;
  block.last = panel.rest.last;
  panel.rest.fn[height - 1](block, a, panel.rest_b, c);
}

// Elements of op(B) that the L1 cache holds beside a block of op(A).
template <class T>
inline constexpr size_t kPanelSize = kDepth * 2 * kLanes<hn::ScalableTag<T>>;

// Columns of op(B), k rows deep, that make a panel: all that are left where they fit.
template <class T>
HWY_INLINE size_t panel_columns(size_t k, size_t n) {
  constexpr size_t kWidth = 2 * kLanes<hn::ScalableTag<T>>;
  if ((n + kWidth - 1) * k <= kPanelSize<T>) return n;
  return std::min(n, std::max(kWidth, kPanelSize<T> / 2 / k / kWidth * kWidth));
}

// Whether so many rows of a matrix push each other out of a cache of 8 ways, because their distance
// is a multiple of a power of two and few sets are left to them.
template <class T>
HWY_INLINE bool crowded(ptrdiff_t ld, size_t rows) {
  constexpr size_t kLine = 64;
  constexpr size_t kWay = 4096;
  const size_t distance = static_cast<size_t>(ld) * sizeof(T);
  const size_t power = std::clamp(distance & (~distance + 1), kLine, kWay);
  return rows * power > 8 * kWay;
}

// Packs `height` columns of A as it is stored (rows of op(A)), k deep, to rows of kPackedHeight.
constexpr size_t kPackedHeight = 8;
template <class T>
HWY_INLINE void pack_block(const T* a, ptrdiff_t lda, size_t k, size_t height, T* to) {
  const Capped<T, kPackedHeight> d;
  if constexpr (kMaskedMemory<T> && kLanes<decltype(d)> == kPackedHeight) {
    const auto mask = hn::FirstN(d, height);
    for (size_t p = 0; p < k; ++p, a += lda, to += kPackedHeight) {
      hn::Store(hn::MaskedLoad(mask, d, a), d, to);
    }
  } else {
    for (size_t p = 0; p < k; ++p, a += lda, to += kPackedHeight) {
      for (size_t r = 0; r < height; ++r) to[r] = a[r];
    }
  }
}

// Small and middling products: op(A) is read where it lies; so is op(B), unless it is transposed or
// its rows are so far apart that they would push each other out of the cache.
template <class T>
void gemm_direct(const detail::GemmArgs<T>& g) {
  constexpr size_t kWidth = 2 * kLanes<hn::ScalableTag<T>>;
  constexpr size_t kFewRows = 32;
  constexpr size_t kManyRows = 96;
  constexpr size_t kSpan = 64 << 10;
  constexpr size_t kNear = 512 << 10;  // comes from the L2 cache fast enough to be read often
  constexpr size_t kPackStrips = 4;    // that a packed block of op(A) is used for, to be worth it
  const size_t span = g.block.k * static_cast<size_t>(g.ldb()) * sizeof(T);
  const bool pack_b = g.tb || (span >= kSpan && g.m >= (span > kNear ? kFewRows : kManyRows));
  HWY_ALIGN T packed[kPanelSize<T>];
  HWY_ALIGN T packed_a[kPackedHeight * kDepth];
  Block<T> block;
  block.alpha = g.block.alpha;
  block.ldc = g.block.ldc;
  size_t parts = g.block.k <= kDepth ? 1 : (g.block.k + kDepth - 1) / kDepth;
  for (size_t k = 0; k < g.block.k; k += block.k, --parts) {
    block.k = parts == 1 ? g.block.k - k : (g.block.k - k) / parts;
    block.beta = k == 0 ? g.block.beta : T{1};
    const T* a = g.ta ? element(g.a, g.lda(), k, 0) : element(g.a, g.lda(), 0, k);
    const size_t columns = panel_columns<T>(block.k, g.n);
    for (size_t j = 0; j < g.n; j += columns) {
      const size_t n = std::min(columns, g.n - j);
      const T* b = g.tb ? element(g.b, g.ldb(), j, k) : element(g.b, g.ldb(), k, j);
      Panel<T> panel{b, g.ldb(), n / kWidth, {}, nullptr, g.ldb()};
      const size_t done = panel.full * kWidth;
      if (done < n) panel.rest = next_strip<T>(n - done);
      panel.rest_b = g.tb ? b + static_cast<ptrdiff_t>(done) * g.ldb() : b + done;
      T* to = packed;
      const auto pack = [&](const T* from, size_t width, size_t padded) HWY_ATTR {
        if (g.tb) {
          pack_transposed(from, g.ldb(), block.k, width, padded, to);
        } else {
          pack_rows(from, g.ldb(), block.k, width, padded, to);
        }
        to += block.k * padded;
      };
      if (pack_b) {
        for (size_t q = 0; q < done; q += kWidth) {
          pack(g.tb ? b + static_cast<ptrdiff_t>(q) * g.ldb() : b + q, kWidth, kWidth);
        }
        panel.b = packed;
        panel.b_row = 0;
      }
      if (done < n && (pack_b || (panel.rest.partial && !kMaskedMemory<T>))) {
        const T* const rest = to;
        pack(panel.rest_b, panel.rest.width, panel.rest.padded);
        panel.rest_b = rest;
        panel.rest_row = static_cast<ptrdiff_t>(panel.rest.padded);
      }
      const bool pack_a = g.ta && panel.full >= kPackStrips && crowded<T>(g.lda(), block.k);
      const bool one_vector = done == 0 && panel.rest.padded < kWidth;
      Heights heights =
          one_vector ? Heights::cut(g.m, panel.rest.rows) : Heights::cut<kMaxRows2>(g.m);
      T* c = g.c + j;
      for (size_t i = 0; i < g.m;) {
        const size_t height = heights.next();
        const T* rows;
        if (pack_a) {
          pack_block(a + i, g.lda(), block.k, height, packed_a);
          rows = packed_a;
          block.a_row = 1;
          block.a_col = kPackedHeight;
        } else {
          block.a_row = g.ta ? 1 : g.lda();
          block.a_col = g.ta ? g.lda() : 1;
          rows = a + static_cast<ptrdiff_t>(i) * block.a_row;
        }
        compute_rows(panel, height, block, rows, c);
        c += static_cast<ptrdiff_t>(height) * g.block.ldc;
        i += height;
      }
    }
  }
}

// op(B) is stored transposed and C has few rows: C' = B op(A)', where B is read where it lies and
// op(A)' is packed, which is the smaller of the two. What comes out is turned on its way to C.
template <class T>
void gemm_turned(const detail::GemmArgs<T>& g, T* packed) {
  using D = hn::ScalableTag<T>;
  constexpr size_t kWidth = 2 * kLanes<D>;
  constexpr size_t kTileRows = kMaxRows2 % 6 == 0 ? 24 : 16;  // whole blocks and whole vectors
  HWY_ALIGN T tile[kTileRows * kWidth];
  Block<T> block;
  block.a_row = g.ldb();
  block.a_col = 1;
  block.alpha = g.block.alpha;
  block.beta = 0;
  block.ldc = kWidth;
  size_t parts = (g.block.k + kDepth - 1) / kDepth;
  for (size_t k = 0; k < g.block.k; k += block.k, --parts) {
    block.k = (g.block.k - k) / parts;
    const T beta = k == 0 ? g.block.beta : T{1};
    T* to = packed;
    for (size_t j = 0; j < g.m;) {
      const Strip<T> strip = next_strip<T>(g.m - j);
      if (g.ta) {
        pack_rows(element(g.a, g.lda(), k, j), g.lda(), block.k, strip.width, strip.padded, to);
      } else {
        pack_transposed(element(g.a, g.lda(), j, k), g.lda(), block.k, strip.width, strip.padded,
                        to);
      }
      to += block.k * strip.padded;
      j += strip.width;
    }
    for (size_t i = 0; i < g.n; i += kTileRows) {
      const size_t rows = std::min(kTileRows, g.n - i);
      const T* b = packed;
      for (size_t j = 0; j < g.m;) {
        const Strip<T> strip = next_strip<T>(g.m - j);
        const MicroFn<T>* fn =
            strip.padded == kWidth ? kMicros<D, 2, false, kMaxRows2>.data() : strip.fn;
        block.b_row = static_cast<ptrdiff_t>(strip.padded);
        block.last = strip.last;
        Heights heights = Heights::cut<kMaxRows2>(rows);
        for (size_t r = 0; r < rows;) {
          const size_t height = heights.next();
          fn[height - 1](block, element(g.b, g.ldb(), i + r, k), b, tile + r * kWidth);
          r += height;
        }
        store_transposed(D(), tile, kWidth, rows, strip.width, beta,
                         g.c + static_cast<ptrdiff_t>(j) * g.block.ldc + i, g.block.ldc);
        b += block.k * strip.padded;
        j += strip.width;
      }
    }
  }
}

// Whether turning C costs less than packing op(B), and not much of the vectors is left empty. A
// strip of one vector takes as long as one of two; only dot products have none.
template <class T>
HWY_INLINE bool turning_pays(const detail::GemmArgs<T>& g) {
  constexpr size_t kN = kLanes<hn::ScalableTag<T>>;
  constexpr size_t kMostRows = 128;
  const size_t k = g.block.k;
  const size_t whole = g.m > 32 || k < 16 * kN ? kN : 2 * kN;
  const size_t empty = (g.m + whole - 1) / whole * whole - g.m;
  return g.tb && g.m <= kMostRows && 4 * empty <= g.m && g.n >= kN && k >= kN &&
         g.m * (k + 2 * g.n) <= g.n * k;
}

// Few columns and nothing to pack: the shortest way to the kernels.
template <class T>
HWY_NOINLINE void gemm_one_strip(detail::GemmArgs<T>& g) {
  const Strip<T> strip = next_strip<T>(g.n);
  g.block.last = strip.last;
  const T* a = g.a;
  T* c = g.c;
  Heights heights = Heights::cut(g.m, strip.rows);
  for (size_t left = g.m; left != 0;) {
    const size_t height = heights.next();
    strip.fn[height - 1](g.block, a, g.b, c);
    a += static_cast<ptrdiff_t>(height) * g.block.a_row;
    c += static_cast<ptrdiff_t>(height) * g.block.ldc;
    left -= height;
  }
}

// One row or two, with B as it lies: nothing is read twice.
template <class T>
void gemm_two_rows(const detail::GemmArgs<T>& g) {
  Block<T> block;
  block.a_row = g.ta ? 1 : g.lda();
  block.a_col = g.ta ? g.lda() : 1;
  block.b_row = g.ldb();
  block.alpha = g.block.alpha;
  block.ldc = g.block.ldc;
  size_t parts = (g.block.k + kDepth - 1) / kDepth;
  for (size_t k = 0; k < g.block.k; k += block.k, --parts) {
    block.k = (g.block.k - k) / parts;
    block.beta = k == 0 ? g.block.beta : T{1};
    const T* a = g.ta ? element(g.a, g.lda(), k, 0) : element(g.a, g.lda(), 0, k);
    for (size_t j = 0; j < g.n;) {
      const Strip<T> strip = next_wide_strip<T>(g.m, g.n - j);
      const T* b = element(g.b, g.ldb(), k, j);
      HWY_ALIGN T packed[kDepth * 2 * kLanes<hn::ScalableTag<T>>];
      block.b_row = g.ldb();
      if (strip.partial && !kMaskedMemory<T>) {
        pack_rows(b, g.ldb(), block.k, strip.width, strip.padded, packed);
        b = packed;
        block.b_row = static_cast<ptrdiff_t>(strip.padded);
      }
      block.last = strip.last;
      strip.fn[g.m - 1](block, a, b, g.c + j);
      j += strip.width;
    }
  }
}

// A sum of a few outer products, which costs no more than the passes over C.
template <size_t kTerms, class T>
HWY_NOINLINE void gemm_few_terms(const detail::GemmArgs<T>& g) {
  const Block<T>& p = g.block;
  const FewTerms<T> terms{g.m, p.alpha, g.a, p.a_row, p.a_col, g.b, p.b_row, g.c, p.ldc};
  const T beta = p.beta;
  if (beta == 1) {
    add_terms<kTerms>(terms, g.n, [](auto d, const T* at) HWY_ATTR { return hn::LoadU(d, at); });
  } else if (beta == 0) {
    add_terms<kTerms>(terms, g.n, [](auto d, const T*) HWY_ATTR { return hn::Zero(d); });
  } else {
    add_terms<kTerms>(terms, g.n, [beta](auto d, const T* at) HWY_ATTR {
      return hn::Mul(hn::Set(d, beta), hn::LoadU(d, at));
    });
  }
}

// The columns j to j + n of op(B), rows k to k + depth, as strips one after the other.
template <class T>
void pack_strips(const detail::GemmArgs<T>& g, size_t j, size_t k, size_t n, size_t depth, T* to) {
  // A few rows at a time over all strips: whole pages are read and not a line of each.
  constexpr size_t kRowsAtOnce = 8;
  const size_t step = g.tb ? depth : kRowsAtOnce;
  for (size_t p = 0; p < depth; p += step) {
    const size_t rows = std::min(step, depth - p);
    T* strip_start = to;
    for (size_t q = 0; q < n;) {
      const Strip<T> strip = next_strip<T>(n - q);
      T* rows_start = strip_start + p * strip.padded;
      if (g.tb) {
        pack_transposed(element(g.b, g.ldb(), j + q, k + p), g.ldb(), rows, strip.width,
                        strip.padded, rows_start);
      } else {
        pack_rows(element(g.b, g.ldb(), k + p, j + q), g.ldb(), rows, strip.width, strip.padded,
                  rows_start);
      }
      strip_start += depth * strip.padded;
      q += strip.width;
    }
  }
}

// Large products, both operands packed [Goto and van de Geijn 2008, "Anatomy of high-performance
// matrix multiplication"]: op(A) in blocks of rows, each [k][rows]; op(B) in strips.
template <class T>
void gemm_packed(const detail::GemmArgs<T>& g, T* scratch) {
  constexpr size_t kSide = detail::kGemmScratchBytes / 2 / kDepth / sizeof(T);
  T* const packed_a = scratch;
  T* const packed_b = scratch + kSide * kDepth;
  Block<T> block;
  block.a_row = 1;
  block.alpha = g.block.alpha;
  block.ldc = g.block.ldc;
  for (size_t j = 0; j < g.n; j += kSide) {
    const size_t n = std::min(kSide, g.n - j);
    size_t parts = (g.block.k + kDepth - 1) / kDepth;
    for (size_t k = 0; k < g.block.k; k += block.k, --parts) {
      block.k = (g.block.k - k) / parts;
      block.beta = k == 0 ? g.block.beta : T{1};
      pack_strips(g, j, k, n, block.k, packed_b);
      for (size_t i = 0; i < g.m; i += kSide) {
        const size_t m = std::min(kSide, g.m - i);
        Heights pack_heights = Heights::cut<kMaxRows2>(m);
        for (size_t r = 0; r < m;) {
          const size_t height = pack_heights.next();
          T* rows = packed_a + r * block.k;
          if (g.ta) {
            pack_rows(element(g.a, g.lda(), k, i + r), g.lda(), block.k, height, height, rows);
          } else {
            pack_transposed(element(g.a, g.lda(), i + r, k), g.lda(), block.k, height, height,
                            rows);
          }
          r += height;
        }
        const T* b = packed_b;
        T* c = g.c + static_cast<ptrdiff_t>(i) * g.block.ldc + j;
        for (size_t q = 0; q < n;) {
          const Strip<T> strip = next_strip<T>(n - q);
          block.b_row = static_cast<ptrdiff_t>(strip.padded);
          block.last = strip.last;
          Heights heights = Heights::cut<kMaxRows2>(m);
          T* to = c + q;
          for (size_t r = 0; r < m;) {
            const size_t height = heights.next();
            block.a_col = static_cast<ptrdiff_t>(height);
            strip.fn[height - 1](block, packed_a + r * block.k, b, to);
            to += static_cast<ptrdiff_t>(height) * g.block.ldc;
            r += height;
          }
          b += block.k * strip.padded;
          q += strip.width;
        }
      }
    }
  }
}

template <class T>
HWY_NOINLINE void scale_matrix(const detail::GemmArgs<T>& g) {
  const T beta = g.block.beta;
  T* c = g.c;
  for (size_t i = 0; i < g.m; ++i, c += g.block.ldc) {
    for (size_t j = 0; j < g.n; ++j) c[j] = beta == 0 ? T{0} : beta * c[j];
  }
}

template <class T>
HWY_NOINLINE void gemm_general(const detail::GemmArgs<T>& g) {
  const auto& vector = detail::of_type<T>(*detail::blas_vector);
  const size_t k = g.block.k;
  const T alpha = g.block.alpha;
  const T beta = g.block.beta;
  const ptrdiff_t ldc = g.block.ldc;
  if (g.n == 1 && ldc == 1 && (g.tb || g.ldb() == 1)) {  // op(B) and C are vectors
    if (g.ta) return vector.gemv_t(k, g.m, alpha, g.a, g.lda(), g.b, beta, g.c);
    return vector.gemv_n(g.m, k, alpha, g.a, g.lda(), g.b, beta, g.c);
  }
  if (g.m == 1 && !g.tb && (!g.ta || g.lda() == 1) &&
      k * g.n * sizeof(T) >= detail::kGemvByRowsBytes) {
    return vector.gemv_t(k, g.n, alpha, g.b, g.ldb(), g.a, beta, g.c);
  }
  constexpr size_t kLongRows = 4 * kLanes<hn::ScalableTag<T>>;
  if (k <= 4 && (!g.tb || g.ldb() == 1) && g.n >= kLongRows) {
    if (k == 1) return gemm_few_terms<1>(g);
    if (!g.tb && k == 2) return gemm_few_terms<2>(g);
    if (!g.tb && k == 3) return gemm_few_terms<3>(g);
    if (!g.tb && k == 4) return gemm_few_terms<4>(g);
  }
  if (!g.ta && g.n * k * sizeof(T) > detail::kGemmFarBytes) {
    if (detail::of_type<T>(g.tb ? *detail::blas_far_turned : *detail::blas_far)(g)) return;
  }
  if (turning_pays(g)) {
    if (void* scratch = detail::gemm_scratch()) return gemm_turned(g, static_cast<T*>(scratch));
  }
  constexpr size_t kFew = 32;
  if (std::min(g.m, g.n) <= kFew && k >= kLongRows && detail::of_type<T>(*detail::blas_skinny)(g))
    return;
  // Packing pays where what is packed is used often enough and would not stay in the L2 cache.
  constexpr size_t kPackRows = 32;
  constexpr size_t kPackCols = 256;
  constexpr size_t kPackBytes = size_t{1} << 20;
  if (g.m >= kPackRows && g.n >= kPackCols && std::max(g.m, g.n) * k * sizeof(T) >= kPackBytes) {
    if (void* scratch = detail::gemm_scratch()) return gemm_packed(g, static_cast<T*>(scratch));
  }
  if (g.m <= 2 && !g.tb) return gemm_two_rows(g);
  gemm_direct(g);
}

// The common small products first: what comes before the kernel is as long as the kernel for them.
template <class T>
void gemm(detail::GemmArgs<T>& g) {
  using D = hn::ScalableTag<T>;
  constexpr size_t kN = kLanes<D>;
  constexpr ptrdiff_t kClose = 32 * kN;  // rows of op(B) do not push each other out of the cache
  if (g.block.k == 0 || g.block.alpha == 0) return scale_matrix(g);
  if (!g.tb && g.n <= 2 * kN && g.m > 2 && g.n > 1 && g.block.k <= kDepth && g.ldb() <= kClose) {
    if (g.n == kN && g.m <= kMaxRows1) {
      return kMicros<D, 1, false, kMaxRows1>[g.m - 1](g.block, g.a, g.b, g.c);
    }
#if HWY_TARGET == HWY_AVX3
    if constexpr (sizeof(T) == 4) {
      if (g.n == 8 && g.m <= kMaxRows1) return kPairMicros[g.m - 1](g.block, g.a, g.b, g.c);
    }
#endif
    const bool dots = g.n <= kN / 2 && g.m >= 4 * kN && g.block.k >= 8 * kN;
    if (!dots && (kMaskedMemory<T> || g.n % kN == 0)) return gemm_one_strip(g);
  }
  gemm_general(g);
}

// ---- squares ----

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
// C = A B of as many rows and columns as a vector of floats has lanes: B is held in registers, and
// a row of A gives one of C.
void square(const float* a, ptrdiff_t lda, const float* b, ptrdiff_t ldb, float* c, ptrdiff_t ldc) {
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  constexpr size_t kN = kLanes<D>;
  const D d;
  V row_b[kN];
  HWY_UNROLL(16)
  for (size_t p = 0; p < kN; ++p, b += ldb) row_b[p] = hn::LoadU(d, b);
  for (size_t i = 0; i < kN; ++i, a += lda, c += ldc) {
    V even = hn::Mul(hn::Set(d, a[0]), row_b[0]);
    V odd = hn::Mul(hn::Set(d, a[1]), row_b[1]);
    HWY_UNROLL(8)
    for (size_t p = 2; p < kN; p += 2) {
      even = hn::MulAdd(hn::Set(d, a[p]), row_b[p], even);
      odd = hn::MulAdd(hn::Set(d, a[p + 1]), row_b[p + 1], odd);
    }
    hn::StoreU(hn::Add(even, odd), d, c);
  }
}
#endif

#if HWY_TARGET == HWY_AVX2
constexpr detail::SquareFn kSquare8 = square;
constexpr detail::SquareFn kSquare16 = nullptr;
#elif HWY_TARGET == HWY_AVX3
// The same of 8 rows and columns, two rows side by side in a vector.
void square_pairs(const float* a, ptrdiff_t lda, const float* b, ptrdiff_t ldb, float* c,
                  ptrdiff_t ldc) {
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  constexpr size_t kSide = 8;
  const D d;
  const hn::Half<D> half;
  V row_b[kSide];
  HWY_UNROLL(8)
  for (size_t p = 0; p < kSide; ++p) {
    row_b[p] = V{_mm512_broadcast_f32x8(_mm256_loadu_ps(b + static_cast<ptrdiff_t>(p) * ldb))};
  }
  HWY_UNROLL(4)
  for (size_t r = 0; r < kSide; r += 2, a += 2 * lda, c += 2 * ldc) {
    const auto four = [&](size_t p) HWY_ATTR {
      return V{_mm512_mask_broadcast_f32x4(_mm512_broadcast_f32x4(_mm_loadu_ps(a + p)), 0xFF00,
                                           _mm_loadu_ps(a + lda + p))};
    };
    const V x = four(0);
    const V y = four(4);
    V even = hn::Mul(hn::Broadcast<0>(x), row_b[0]);
    V odd = hn::Mul(hn::Broadcast<1>(x), row_b[1]);
    even = hn::MulAdd(hn::Broadcast<2>(x), row_b[2], even);
    odd = hn::MulAdd(hn::Broadcast<3>(x), row_b[3], odd);
    even = hn::MulAdd(hn::Broadcast<0>(y), row_b[4], even);
    odd = hn::MulAdd(hn::Broadcast<1>(y), row_b[5], odd);
    even = hn::MulAdd(hn::Broadcast<2>(y), row_b[6], even);
    odd = hn::MulAdd(hn::Broadcast<3>(y), row_b[7], odd);
    const V sum = hn::Add(even, odd);
    hn::StoreU(hn::LowerHalf(half, sum), half, c);
    hn::StoreU(hn::UpperHalf(half, sum), half, c + ldc);
  }
}
constexpr detail::SquareFn kSquare8 = square_pairs;
constexpr detail::SquareFn kSquare16 = square;
#else
constexpr detail::SquareFn kSquare8 = nullptr;
constexpr detail::SquareFn kSquare16 = nullptr;
#endif

constexpr detail::GemmTables kTables{gemm<float>, gemm<double>, kSquare8, kSquare16};

}  // namespace

const detail::GemmTables* gemm_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(gemm_tables);

constinit const Dispatch<detail::GemmTables> detail::blas_gemm{
    [] { return HWY_DYNAMIC_DISPATCH(gemm_tables)(); }};

}  // namespace ebb::kernels
#endif
