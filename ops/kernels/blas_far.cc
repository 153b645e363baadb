// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <iterator>

#include "ebb/ops/kernels/blas.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/blas_far.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/blas_pack-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// Products A B of a few rows of A with a long B that lies outside the L2 cache: B is read where it
// lies, by as many rows of A at once as there are registers for, and comes in once, in order.

constexpr size_t kDepth = 128;    // rows of B at a time: with the next ones they fit the L2 cache
constexpr size_t kWidest = 512;   // columns of B
constexpr size_t kMostRows = 64;  // of A

template <class T>
struct FarBlock {
  size_t k;
  ptrdiff_t ldb;
  size_t ld;  // of the sums
  bool add;   // to what is there
  bool fetch;
  const T* next;  // what to fetch: as much as there is in this block of B
};

template <class T>
using BlockFn = void (*)(const FarBlock<T>& g, const T* a, const T* b, T* c);

// kRows rows of the sums, kVectors vectors wide; a is [k][kRows].
template <class D, size_t kRows, size_t kVectors, bool kFetch, typename T = hn::TFromD<D>>
HWY_INLINE void run_block(D d, const FarBlock<T>& g, const T* a, const T* b, T* c) {
  using V = hn::Vec<D>;
  constexpr size_t kN = kLanes<D>;
  constexpr size_t kLine = 64 / sizeof(T);
  const size_t k = g.k;
  const ptrdiff_t ldb = g.ldb;
  const T* next = g.next;
  V sum[kRows][kVectors];
  HWY_UNROLL(32)
  for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(2)
    for (size_t q = 0; q < kVectors; ++q) {
      sum[r][q] = g.add ? hn::Load(d, c + r * g.ld + q * kN) : hn::Zero(d);
    }
  }
  for (size_t p = 0; p < k; ++p, a += kRows, b += ldb) {
    if constexpr (kFetch) {
      HWY_UNROLL(2)
      for (size_t q = 0; q < kVectors * kN; q += kLine) {
        __builtin_prefetch(next + q, 0, 2);  // to L2: the L1 cache is full of A
      }
      next += kVectors * kN;
    }
    V row[kVectors];
    HWY_UNROLL(2)
    for (size_t q = 0; q < kVectors; ++q) row[q] = hn::LoadU(d, b + q * kN);
    HWY_UNROLL(32)
    for (size_t r = 0; r < kRows; ++r) {
      const V x = hn::Set(d, a[r]);
      HWY_UNROLL(2)
      for (size_t q = 0; q < kVectors; ++q) sum[r][q] = hn::MulAdd(x, row[q], sum[r][q]);
    }
  }
  HWY_UNROLL(32)
  for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(2)
    for (size_t q = 0; q < kVectors; ++q) hn::Store(sum[r][q], d, c + r * g.ld + q * kN);
  }
}

template <class D, size_t kRows, size_t kVectors, typename T = hn::TFromD<D>>
HWY_NOINLINE void block(const FarBlock<T>& g, const T* a, const T* b, T* c) {
  if (g.fetch) {
    run_block<D, kRows, kVectors, true>(D(), g, a, b, c);
  } else {
    run_block<D, kRows, kVectors, false>(D(), g, a, b, c);
  }
}

template <class T>
struct Shape {
  size_t rows;
  size_t vectors;
  BlockFn<T> fn;
};
template <class T, size_t kRows, size_t kVectors>
constexpr Shape<T> shape() {
  return {kRows, kVectors, block<hn::ScalableTag<T>, kRows, kVectors>};
}
// Ascending.
template <class T>
constexpr Shape<T> kShapes[] = {
#if HWY_TARGET == HWY_AVX3
    shape<T, 7, 2>(),  shape<T, 10, 2>(), shape<T, 14, 2>(), shape<T, 18, 1>(),
    shape<T, 22, 1>(), shape<T, 26, 1>(), shape<T, 30, 1>(),
#elif HWY_TARGET == HWY_SCALAR
    shape<T, 4, 1>(),
#else
    shape<T, 4, 2>(),
    shape<T, 5, 2>(),
    shape<T, 6, 2>(),
#endif
};

template <class T>
bool gemm_far(const detail::GemmArgs<T>& g) {
  constexpr size_t kN = kLanes<hn::ScalableTag<T>>;
  constexpr size_t kLeastRows = 6;  // fewer wait for B no longer in other ways
  const size_t k = g.block.k;
  const bool fits = g.m >= kLeastRows && g.m <= kMostRows && g.n >= 2 * kN && g.n <= kWidest;
  if (!fits || g.ldb() != static_cast<ptrdiff_t>(g.n) ||
      k * g.n * sizeof(T) <= detail::kGemmFarBytes)
    return false;
  const auto& shapes = kShapes<T>;
  const size_t most = std::end(shapes)[-1].rows;
  const size_t blocks = (g.m + most - 1) / most;
  const Shape<T>* shape = shapes;
  while (shape->rows * blocks < g.m) ++shape;
  const size_t height = shape->rows;
  const size_t width = shape->vectors * kN;
  constexpr size_t kMostHeight = kMostRows + 32;  // with what fills the last block
  constexpr size_t kSizeA = kMostHeight * kDepth;
  constexpr size_t kSizeSums = kMostHeight * (kWidest + 2 * kN);
  static_assert((kSizeA + kSizeSums + kDepth * 2 * kN) * sizeof(T) <= detail::kGemmScratchBytes);
  auto* const packed_a = static_cast<T*>(detail::gemm_scratch());
  if (packed_a == nullptr) return false;
  T* const sums = packed_a + kSizeA;
  T* const packed_b = sums + kSizeSums;  // the last columns
  FarBlock<T> block;
  block.ld = (g.n + width - 1) / width * width;
  for (size_t p = 0; p < k; p += kDepth) {
    block.k = std::min(kDepth, k - p);
    block.add = p != 0;
    for (size_t first = 0; first < g.m; first += height) {
      const T* from = g.a + static_cast<ptrdiff_t>(first) * g.lda() + static_cast<ptrdiff_t>(p);
      pack_transposed(from, g.lda(), block.k, std::min(height, g.m - first), height,
                      packed_a + first * block.k);
    }
    const T* const rows = g.b + p * g.n;
    for (size_t q = 0; q < g.n; q += width) {
      const T* b = rows + q;
      block.ldb = g.ldb();
      block.next = rows + (block.k * g.n + q * block.k);
      block.fetch = p + 2 * kDepth <= k;
      if (q + width > g.n) {
        const size_t left = g.n - q;
        for (size_t r = 0; r < block.k; ++r, b += g.n) {
          std::copy(b, b + left, packed_b + r * width);
          std::fill(packed_b + r * width + left, packed_b + (r + 1) * width, T{0});
        }
        b = packed_b;
        block.ldb = static_cast<ptrdiff_t>(width);
        block.fetch = false;
      }
      for (size_t first = 0; first < g.m; first += height) {
        shape->fn(block, packed_a + first * block.k, b, sums + first * block.ld + q);
        block.fetch = false;
      }
    }
  }
  const T alpha = g.block.alpha;
  const T beta = g.block.beta;
  for (size_t i = 0; i < g.m; ++i) {
    T* const c = g.c + static_cast<ptrdiff_t>(i) * g.block.ldc;
    const T* const from = sums + i * block.ld;
    map<1>(hn::ScalableTag<T>(), g.n, c, [=](auto d, size_t q) HWY_ATTR {
      const auto v = hn::Mul(hn::Set(d, alpha), hn::LoadU(d, from + q));
      return beta == 0 ? v : hn::MulAdd(hn::Set(d, beta), hn::LoadU(d, c + q), v);
    });
  }
  return true;
}

constexpr detail::SkinnyTables kTables{gemm_far<float>, gemm_far<double>};

}  // namespace

const detail::SkinnyTables* far_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(far_tables);

constinit const Dispatch<detail::SkinnyTables> detail::blas_far{
    [] { return HWY_DYNAMIC_DISPATCH(far_tables)(); }};

}  // namespace ebb::kernels
#endif
