// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/blas.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/blas_vector.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

struct AddLanes {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Add(a, b);
  }
};

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

// The dot products of kRows rows of A with x, in y.
template <size_t kRows, class D, typename T = hn::TFromD<D>>
HWY_INLINE void dot_rows(D d, size_t n, T alpha, const T* a, ptrdiff_t lda, const T* x, T beta,
                         T* y) {
  constexpr size_t kN = kLanes<D>;
  hn::Vec<D> s[kRows][2];
  for (size_t r = 0; r < kRows; ++r) s[r][0] = s[r][1] = hn::Zero(d);
  size_t j = 0;
  for (; j + 2 * kN <= n; j += 2 * kN) {
    const auto x0 = hn::LoadU(d, x + j);
    const auto x1 = hn::LoadU(d, x + j + kN);
    for (size_t r = 0; r < kRows; ++r) {
      const T* row = a + static_cast<ptrdiff_t>(r) * lda + j;
      s[r][0] = hn::MulAdd(hn::LoadU(d, row), x0, s[r][0]);
      s[r][1] = hn::MulAdd(hn::LoadU(d, row + kN), x1, s[r][1]);
    }
  }
  if (j + kN <= n) {
    const auto x0 = hn::LoadU(d, x + j);
    for (size_t r = 0; r < kRows; ++r) {
      const T* row = a + static_cast<ptrdiff_t>(r) * lda + j;
      s[r][0] = hn::MulAdd(hn::LoadU(d, row), x0, s[r][0]);
    }
    j += kN;
  }
  if (j < n) {
    const auto x0 = load_n(d, x + j, n - j);
    for (size_t r = 0; r < kRows; ++r) {
      const T* row = a + static_cast<ptrdiff_t>(r) * lda + j;
      s[r][1] = hn::MulAdd(load_n(d, row, n - j), x0, s[r][1]);
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    const T sum = alpha * reduce_lanes(d, hn::Add(s[r][0], s[r][1]), AddLanes());
    y[r] = beta == 0 ? sum : sum + beta * y[r];
  }
}

template <class T>
void gemv_n(size_t m, size_t n, T alpha, const T* a, ptrdiff_t lda, const T* x, T beta, T* y) {
  const hn::ScalableTag<T> d;
  size_t i = 0;
  for (; i + 4 <= m; i += 4, a += 4 * lda) dot_rows<4>(d, n, alpha, a, lda, x, beta, y + i);
  for (; i < m; ++i, a += lda) dot_rows<1>(d, n, alpha, a, lda, x, beta, y + i);
}

template <class T>
void ger(size_t m, size_t n, T alpha, const T* u, const T* v, T* a, ptrdiff_t lda) {
  for (size_t i = 0; i < m; ++i, a += lda) {
    const T ui = alpha * u[i];
    map(hn::ScalableTag<T>(), n, a, [=](auto d, size_t j) HWY_ATTR {
      return hn::MulAdd(hn::Set(d, ui), hn::LoadU(d, v + j), hn::LoadU(d, a + j));
    });
  }
}

constexpr detail::VectorTables kTables{{dot<float>, gemv_n<float>, ger<float>},
                                       {dot<double>, gemv_n<double>, ger<double>}};

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
