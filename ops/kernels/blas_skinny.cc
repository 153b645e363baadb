// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ebb/ops/kernels/blas.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/blas_skinny.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/blas_sums-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// C = alpha A B' + beta C, where the rows of both are contiguous.
template <class T>
struct Dots {
  size_t k;
  T alpha, beta;
  ptrdiff_t lda, ldb, ldc;
};

// The products of kA rows of A with kB rows of B, kB 4 or 1: each row that is loaded meets all of
// the others, and nothing has to be packed.
template <size_t kA, size_t kB, class T>
HWY_NOINLINE void dot_block(const Dots<T>& g, const T* a, const T* b, T* c) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr size_t kN = kLanes<decltype(d)>;
  V s[kA][kB];
  HWY_UNROLL(4)
  for (size_t i = 0; i < kA; ++i) {
    HWY_UNROLL(4)
    for (size_t j = 0; j < kB; ++j) s[i][j] = hn::Zero(d);
  }
  const auto step = [&](const auto& load) HWY_ATTR {
    V row[kA];
    HWY_UNROLL(4)
    for (size_t i = 0; i < kA; ++i) row[i] = load(a + static_cast<ptrdiff_t>(i) * g.lda);
    HWY_UNROLL(4)
    for (size_t j = 0; j < kB; ++j) {
      const V x = load(b + static_cast<ptrdiff_t>(j) * g.ldb);
      HWY_UNROLL(4)
      for (size_t i = 0; i < kA; ++i) s[i][j] = hn::MulAdd(row[i], x, s[i][j]);
    }
  };
  size_t left = g.k;
  for (; left >= kN; left -= kN, a += kN, b += kN) {
    step([d](const T* p) HWY_ATTR { return hn::LoadU(d, p); });
  }
  if (left != 0) step([d, left](const T* p) HWY_ATTR { return load_n(d, p, left); });
  HWY_UNROLL(4)
  for (size_t i = 0; i < kA; ++i, c += g.ldc) {
    if constexpr (kB == 4) {
      store_four_sums(d, s[i][0], s[i][1], s[i][2], s[i][3], g.alpha, g.beta, c);
    } else {
      const T sum = g.alpha * reduce_lanes(d, s[i][0], AddLanes());
      *c = g.beta == 0 ? sum : sum + g.beta * *c;
    }
  }
}

#if HWY_TARGET == HWY_AVX3
constexpr size_t kMaxA = 4;  // rows of A in a block; 32 registers
#else
constexpr size_t kMaxA = 3;
#endif

template <size_t kB, class T>
HWY_INLINE void dot_rows(const Dots<T>& g, size_t rows, const T* a, const T* b, T* c) {
  if (rows == 1) return dot_block<1, kB>(g, a, b, c);
  if (rows == 2) return dot_block<2, kB>(g, a, b, c);
  if (kMaxA == 3 || rows == 3) return dot_block<3, kB>(g, a, b, c);
  dot_block<kMaxA, kB>(g, a, b, c);
}

template <class T>
void dots(const Dots<T>& g, size_t m, size_t n, const T* a, const T* b, T* c) {
  const auto block = [&](size_t i, size_t j) HWY_ATTR {
    const size_t rows = std::min(kMaxA, m - i);
    const T* pa = a + static_cast<ptrdiff_t>(i) * g.lda;
    T* pc = c + static_cast<ptrdiff_t>(i) * g.ldc;
    if (j + 4 <= n) return dot_rows<4>(g, rows, pa, b + static_cast<ptrdiff_t>(j) * g.ldb, pc + j);
    for (; j < n; ++j) dot_rows<1>(g, rows, pa, b + static_cast<ptrdiff_t>(j) * g.ldb, pc + j);
  };
  // The larger of the two is read once; the other stays in the cache.
  if (m < n) {
    for (size_t j = 0; j < n; j += 4) {
      for (size_t i = 0; i < m; i += kMaxA) block(i, j);
    }
  } else {
    for (size_t i = 0; i < m; i += kMaxA) {
      for (size_t j = 0; j < n; j += 4) block(i, j);
    }
  }
}

template <class T>
bool gemm_skinny(const detail::GemmArgs<T>& g) {
  constexpr size_t kN = kLanes<hn::ScalableTag<T>>;
  const auto& p = g.block;
  constexpr size_t kLong = 4 * kN;             // sums short of that cost more to end than to make
  const size_t few = p.k >= 16 * kN ? 32 : 8;  // that packing the other operand does not pay for
  constexpr size_t kFit = detail::kGemmScratchBytes / sizeof(T);
  const auto run = [&](const T* b, ptrdiff_t ldb) HWY_ATTR {
    dots(Dots<T>{p.k, p.alpha, p.beta, g.lda(), ldb, p.ldc}, g.m, g.n, g.a, b, g.c);
    return true;
  };
  if (p.k < kLong) return false;
  if (!g.ta && g.tb && std::min(g.m, g.n) <= few) return run(g.b, g.ldb());
  if (g.n > kN / 2 || g.m <= kN) return false;
  auto* const scratch = static_cast<T*>(detail::gemm_scratch());
  if (scratch == nullptr) return false;
  if (!g.ta) {
    if (g.n * p.k > kFit) return false;
    for (size_t q = 0; q < p.k; ++q) {
      const T* row = g.b + static_cast<ptrdiff_t>(q) * g.ldb();
      for (size_t j = 0; j < g.n; ++j) scratch[j * p.k + q] = row[j];
    }
    return run(scratch, static_cast<ptrdiff_t>(p.k));
  }
  // C' = op(B)' A as it is stored: few rows instead of few columns.
  if (g.n * g.m > kFit) return false;
  const auto rows = static_cast<ptrdiff_t>(g.m);
  detail::GemmArgs<T> transposed{
      {p.k, g.tb ? g.ldb() : 1, g.tb ? 1 : g.ldb(), g.lda(), p.alpha, T{0}, rows, 0},
      !g.tb,
      false,
      g.n,
      g.m,
      g.b,
      g.a,
      scratch};
  detail::of_type<T> (*detail::blas_gemm)(transposed);
  T* c = g.c;
  for (size_t i = 0; i < g.m; ++i, c += p.ldc) {
    for (size_t j = 0; j < g.n; ++j) {
      const T sum = scratch[j * g.m + i];
      c[j] = p.beta == 0 ? sum : sum + p.beta * c[j];
    }
  }
  return true;
}

constexpr detail::SkinnyTables kTables{gemm_skinny<float>, gemm_skinny<double>};

}  // namespace

const detail::SkinnyTables* skinny_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(skinny_tables);

constinit const Dispatch<detail::SkinnyTables> detail::blas_skinny{
    [] { return HWY_DYNAMIC_DISPATCH(skinny_tables)(); }};

}  // namespace ebb::kernels
#endif
