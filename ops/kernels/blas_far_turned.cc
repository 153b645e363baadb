// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <utility>

#include "ebb/ops/kernels/blas.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/blas_far_turned.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/blas_pack-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// Products A B' of a few rows of A with very many of a B that lies outside the L2 cache, computed
// as C' = B A': the rows of B are read where they lie, once, and those that come next are fetched
// meanwhile; A is transposed first, and C a little at a time.

#if HWY_TARGET == HWY_AVX3
constexpr size_t kHeight = 8;  // rows of a block of C' that is computed in registers
#else
constexpr size_t kHeight = 6;
#endif
constexpr size_t kGroup = 2 * kHeight;  // columns of C that are written together
constexpr size_t kDepth = 256;          // of k at a time: a strip of A' stays in the L1 cache
constexpr size_t kMostRows = 64;        // of A

template <class T>
struct FarBlock {
  size_t k;
  const T* b;
  ptrdiff_t ldb;
  const T* next;  // rows of B that are needed after these
  size_t fetch;   // cache lines of each of them to fetch; 0 where they were fetched already
  bool add;       // to what is there
  size_t ld;      // of C'
};

template <class T>
using BlockFn = void (*)(const FarBlock<T>& g, const T* a, T* c);

// A block of C', kRows by kVectors vectors, from a strip of A'.
template <class D, size_t kRows, size_t kVectors, typename T = hn::TFromD<D>>
HWY_NOINLINE void block(const FarBlock<T>& g, const T* a, T* c) {
  using V = hn::Vec<D>;
  constexpr size_t kN = kLanes<D>;
  const D d;
  const size_t k = g.k;
  const ptrdiff_t ldb = g.ldb;
  const T* b = g.b;
  V sum[kRows][kVectors];
  HWY_UNROLL(8)
  for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(2)
    for (size_t q = 0; q < kVectors; ++q) {
      sum[r][q] = g.add ? hn::Load(d, c + r * g.ld + q * kN) : hn::Zero(d);
    }
  }
  const auto step = [&]() HWY_ATTR {
    V row[kVectors];
    HWY_UNROLL(2)
    for (size_t q = 0; q < kVectors; ++q) row[q] = hn::Load(d, a + q * kN);
    HWY_UNROLL(8)
    for (size_t r = 0; r < kRows; ++r) {
      const V x = hn::Set(d, b[static_cast<ptrdiff_t>(r) * ldb]);
      HWY_UNROLL(2)
      for (size_t q = 0; q < kVectors; ++q) sum[r][q] = hn::MulAdd(x, row[q], sum[r][q]);
    }
    a += kVectors * kN;
    ++b;
  };
  constexpr size_t kLine = 64 / sizeof(T);
  size_t p = 0;
  for (size_t r = 0; r < kRows && g.fetch != 0; ++r) {
    const T* line = g.next + static_cast<ptrdiff_t>(r) * ldb;
    for (size_t l = 0; l < g.fetch; ++l, line += kLine, ++p) {
      hwy::Prefetch(line);
      step();
    }
  }
  for (; p < k; ++p) step();
  HWY_UNROLL(8)
  for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(2)
    for (size_t q = 0; q < kVectors; ++q) hn::Store(sum[r][q], d, c + r * g.ld + q * kN);
  }
}

template <class D, size_t kVectors, size_t... kRow>
constexpr auto blocks(std::index_sequence<kRow...>) {
  return std::array<BlockFn<hn::TFromD<D>>, sizeof...(kRow)>{block<D, kRow + 1, kVectors>...};
}
// By rows - 1.
template <class D, size_t kVectors>
inline constexpr auto kBlocks = blocks<D, kVectors>(std::make_index_sequence<kHeight>());

// A' as strips of two vectors, then of one, each [k][width].
template <class T>
void pack(const detail::GemmArgs<T>& g, size_t k, size_t depth, T* to) {
  constexpr size_t kN = kLanes<hn::ScalableTag<T>>;
  for (size_t i = 0; i < g.m;) {
    const size_t width = g.m - i > kN ? 2 * kN : kN;
    const T* from = g.a + static_cast<ptrdiff_t>(i) * g.lda() + static_cast<ptrdiff_t>(k);
    pack_transposed(from, g.lda(), depth, std::min(width, g.m - i), width, to);
    to += depth * width;
    i += width;
  }
}

template <class T>
bool gemm_far_turned(const detail::GemmArgs<T>& g) {
  using D = hn::ScalableTag<T>;
  constexpr size_t kN = kLanes<D>;
  const size_t k = g.block.k;
  const size_t padded = (g.m + kN - 1) / kN * kN;
  if (g.m < kN / 2 || g.m > kMostRows || g.n < 16 * kGroup || k < 4 * kN) return false;
  if (g.n * k * sizeof(T) <= detail::kGemmFarBytes) return false;
  if (padded * k * sizeof(T) > detail::kGemmScratchBytes) return false;
  auto* const packed = static_cast<T*>(detail::gemm_scratch());
  if (packed == nullptr) return false;
  HWY_ALIGN T turned[kGroup * (kMostRows + 2 * kN)];
  HWY_ALIGN T rows[(kMostRows + 2 * kN) * kGroup];
  for (size_t p = 0; p < k; p += kDepth) {
    pack(g, p, std::min(kDepth, k - p), packed + p * padded);
  }
  const D d;
  const ptrdiff_t ldb = g.ldb();
  FarBlock<T> block;
  block.ldb = ldb;
  block.ld = padded;
  for (size_t j = 0; j < g.n; j += kGroup) {
    const size_t group = std::min(kGroup, g.n - j);
    for (size_t r = 0; r < group; r += kHeight) {
      const size_t height = std::min(kHeight, group - r);
      const T* const b = g.b + static_cast<ptrdiff_t>(j + r) * ldb;
      const bool ends = j + r + kHeight + height > g.n;
      for (size_t p = 0; p < k; p += kDepth) {
        block.k = std::min(kDepth, k - p);
        block.b = b + p;
        block.next = ends ? block.b : block.b + static_cast<ptrdiff_t>(kHeight) * ldb;
        block.fetch = block.k * sizeof(T) / 64;
        block.add = p != 0;
        const T* a = packed + p * padded;
        T* to = turned + r * padded;
        size_t i = 0;
        for (; i + kN < g.m; i += 2 * kN, a += 2 * kN * block.k) {
          kBlocks<D, 2>[height - 1](block, a, to + i);
          block.fetch = 0;
        }
        if (i < g.m) kBlocks<D, 1>[height - 1](block, a, to + i);
      }
    }
    pack_transposed(turned, static_cast<ptrdiff_t>(padded), padded, group, kGroup, rows);
    for (size_t i = 0; i < g.m; ++i) {
      T* const c = g.c + static_cast<ptrdiff_t>(i) * g.block.ldc + j;
      const T* const from = rows + i * kGroup;
      const auto alpha = g.block.alpha;
      const auto beta = g.block.beta;
      map<1>(d, group, c, [=](auto t, size_t q) HWY_ATTR {
        const auto v = hn::Mul(hn::Set(t, alpha), hn::LoadU(t, from + q));
        return beta == 0 ? v : hn::MulAdd(hn::Set(t, beta), hn::LoadU(t, c + q), v);
      });
    }
  }
  return true;
}

constexpr detail::SkinnyTables kTables{gemm_far_turned<float>, gemm_far_turned<double>};

}  // namespace

const detail::SkinnyTables* far_turned_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(far_turned_tables);

constinit const Dispatch<detail::SkinnyTables> detail::blas_far_turned{
    [] { return HWY_DYNAMIC_DISPATCH(far_turned_tables)(); }};

}  // namespace ebb::kernels
#endif
