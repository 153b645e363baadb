// SPDX-License-Identifier: Apache-2.0
// How products are cut into strips and blocks, and operands laid out for them; compiled once for
// each instruction set, so the include guard toggles instead of staying set.
#if defined(EBB_OPS_KERNELS_BLAS_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_BLAS_PACK_INL_H_
#undef EBB_OPS_KERNELS_BLAS_PACK_INL_H_
#else
#define EBB_OPS_KERNELS_BLAS_PACK_INL_H_
#endif

#include <algorithm>

#include "ebb/ops/kernels/blas_micro-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// A strip of columns of C, and the kernels that compute it.
template <class T>
struct Strip {
  size_t width;   // columns
  size_t padded;  // columns that the kernels' vectors cover
  size_t last;    // columns in the last vector
  bool partial;
  size_t rows;  // that the kernels compute at most
  const MicroFn<T>* fn;
};

// A strip at most a vector wide, with the shortest vector that holds it.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE Strip<T> narrow_strip(D, size_t cols) {
  constexpr size_t kN = kLanes<D>;
  if constexpr (kN * sizeof(T) > 16) {
    if (cols <= kN / 2) return narrow_strip(hn::Half<D>(), cols);
  }
  if (cols != kN) return {cols, kN, cols, true, kMaxRows1, kMicros<D, 1, true, kMaxRows1>.data()};
#if HWY_TARGET == HWY_AVX3
  if constexpr (kN == 8 && sizeof(T) == 4) {
    return {kN, kN, kN, false, kMaxRows1, kPairMicros.data()};
  }
#endif
  return {kN, kN, kN, false, kMaxRows1, kMicros<D, 1, false, kMaxRows1>.data()};
}

// The next strip of the columns that are left, at most two vectors wide.
template <class T>
HWY_INLINE Strip<T> next_strip(size_t cols) {
  using D = hn::ScalableTag<T>;
  constexpr size_t kN = kLanes<D>;
  if (cols >= 2 * kN)
    return {2 * kN, 2 * kN, kN, false, kMaxRows2, kMicros<D, 2, false, kMaxRows2>.data()};
  if (cols > kN)
    return {cols, 2 * kN, cols - kN, true, kMaxRows2, kMicros<D, 2, true, kMaxRows2>.data()};
  return narrow_strip(D(), cols);
}

// The same for C of one row or two, whose strips may be wider.
template <class T>
HWY_INLINE Strip<T> next_wide_strip(size_t m, size_t cols) {
  using D = hn::ScalableTag<T>;
  constexpr size_t kN = kLanes<D>;
  if (m == 1 && cols >= 8 * kN) {
    return {8 * kN, 8 * kN, kN, false, 1, kMicros<D, 8, false, 1>.data()};
  }
  if (cols >= 4 * kN) return {4 * kN, 4 * kN, kN, false, 2, kMicros<D, 4, false, 2>.data()};
  return next_strip<T>(cols);
}

// How rows are cut into blocks: as evenly as can be, none of more than `most`.
class Heights {
 public:
  template <size_t kMost>
  static HWY_INLINE Heights cut(size_t m) {
    return cut(m, kMost);
  }
  static HWY_INLINE Heights cut(size_t m, size_t most) {
    if (m <= most) return {m, 0};
    const size_t blocks = (m + most - 1) / most;
    const size_t missing = blocks * most - m;
    if (missing < blocks) return {most - 1, blocks - missing};  // spares a division
    return {m / blocks, m % blocks};
  }
  HWY_INLINE size_t next() {
    if (taller_ == 0) return height_;
    --taller_;
    return height_ + 1;
  }

 private:
  HWY_INLINE Heights(size_t height, size_t taller) : height_(height), taller_(taller) {}

  size_t height_;
  size_t taller_;  // blocks left that have a row more
};

// ---- packing of a strip of op(B): rows of `padded` values, of which `width` exist ----

template <class T>
HWY_INLINE void pack_rows(const T* b, ptrdiff_t ldb, size_t k, size_t width, size_t padded, T* to) {
  const hn::ScalableTag<T> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  if (width == 2 * kN) {  // nearly always
    for (size_t p = 0; p < k; ++p, b += ldb, to += 2 * kN) {
      hn::StoreU(hn::LoadU(d, b), d, to);
      hn::StoreU(hn::LoadU(d, b + kN), d, to + kN);
    }
    return;
  }
  for (size_t p = 0; p < k; ++p, b += ldb, to += padded) {
    map<1>(d, width, to, [=](auto t, size_t i) HWY_ATTR { return hn::LoadU(t, b + i); });
    std::fill(to + width, to + padded, T{0});
  }
}

#if HWY_TARGET == HWY_SCALAR
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void load_columns(D d, const T* from, ptrdiff_t, hn::Vec<D>* columns) {
  columns[0] = hn::LoadU(d, from);
}
#else
// The blocks of a vector from as many rows: block i has the first elements of row i * kBlockSide.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_blocks(D d, const T* from, ptrdiff_t ld) {
  if constexpr (kLanes<D> <= kBlockSide<T>) {
    return hn::LoadU(d, from);
  } else {
    const hn::Half<D> half;
    const T* upper = from + static_cast<ptrdiff_t>(kLanes<D> / 2) * ld;
    return hn::Combine(d, load_blocks(half, upper, ld), load_blocks(half, from, ld));
  }
}

// The first kBlockSide columns of as many rows as a vector has lanes.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void load_columns(D d, const T* from, ptrdiff_t ld, hn::Vec<D>* columns) {
  const auto r0 = load_blocks(d, from, ld);
  const auto r1 = load_blocks(d, from + ld, ld);
  if constexpr (sizeof(T) == 8) {
    columns[0] = hn::InterleaveLower(d, r0, r1);
    columns[1] = hn::InterleaveUpper(d, r0, r1);
  } else {
    const hn::Repartition<double, D> pairs;
    const auto r2 = load_blocks(d, from + 2 * ld, ld);
    const auto r3 = load_blocks(d, from + 3 * ld, ld);
    const auto lo01 = hn::BitCast(pairs, hn::InterleaveLower(d, r0, r1));
    const auto lo23 = hn::BitCast(pairs, hn::InterleaveLower(d, r2, r3));
    const auto hi01 = hn::BitCast(pairs, hn::InterleaveUpper(d, r0, r1));
    const auto hi23 = hn::BitCast(pairs, hn::InterleaveUpper(d, r2, r3));
    columns[0] = hn::BitCast(d, hn::InterleaveLower(pairs, lo01, lo23));
    columns[1] = hn::BitCast(d, hn::InterleaveUpper(pairs, lo01, lo23));
    columns[2] = hn::BitCast(d, hn::InterleaveLower(pairs, hi01, hi23));
    columns[3] = hn::BitCast(d, hn::InterleaveUpper(pairs, hi01, hi23));
  }
}
#endif

// From B as it is stored, transposed: row j of b is column j of the strip. Here those columns that
// fill vectors of D and shorter ones; returns how many that are.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE size_t pack_columns(D d, const T* b, ptrdiff_t ldb, size_t k, size_t width,
                               size_t padded, T* to) {
  constexpr size_t kN = kLanes<D>;
  constexpr size_t kSide = kBlockSide<T>;
  size_t j = 0;
  for (; j + kN <= width; j += kN) {
    const T* from = b + static_cast<ptrdiff_t>(j) * ldb;
    size_t p = 0;
    for (; p + kSide <= k; p += kSide) {
      hn::Vec<D> columns[kSide];
      load_columns(d, from + p, ldb, columns);
      HWY_UNROLL(4)
      for (size_t q = 0; q < kSide; ++q) hn::StoreU(columns[q], d, to + (p + q) * padded + j);
    }
    for (; p < k; ++p) {
      for (size_t q = 0; q < kN; ++q) {
        to[p * padded + j + q] = from[static_cast<ptrdiff_t>(q) * ldb + static_cast<ptrdiff_t>(p)];
      }
    }
  }
  if constexpr (kN > kSide) {
    const T* from = b + static_cast<ptrdiff_t>(j) * ldb;
    j += pack_columns(hn::Half<D>(), from, ldb, k, width - j, padded, to + j);
  }
  return j;
}
template <class T>
HWY_NOINLINE void pack_transposed(const T* b, ptrdiff_t ldb, size_t k, size_t width, size_t padded,
                                  T* to) {
  constexpr size_t kB = kBlockSide<T>;
  size_t j = pack_columns(hn::ScalableTag<T>(), b, ldb, k, width, padded, to);
  if (j < width && width >= kB) {  // some of them once more
    j = width - kB;
    pack_columns(Capped<T, kB>(), b + static_cast<ptrdiff_t>(j) * ldb, ldb, k, kB, padded, to + j);
    j = width;
  }
  for (; j < width; ++j) {
    const T* from = b + static_cast<ptrdiff_t>(j) * ldb;
    for (size_t p = 0; p < k; ++p) to[p * padded + j] = from[p];
  }
  for (; j < padded; ++j) {
    for (size_t p = 0; p < k; ++p) to[p * padded + j] = 0;
  }
}

// C = the transposed of `from` + beta * C, of as many rows of `from` as fill vectors of D and
// shorter ones, and one by one what is left. `from` has whole blocks in each row.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void store_transposed(D d, const T* from, size_t ld, size_t rows, size_t cols, T beta,
                                 T* c, ptrdiff_t ldc) {
  constexpr size_t kN = kLanes<D>;
  constexpr size_t kSide = kBlockSide<T>;
  for (; rows >= kN; rows -= kN, from += kN * ld, c += kN) {
    for (size_t j = 0; j < cols; j += kSide) {
      hn::Vec<D> columns[kSide];
      load_columns(d, from + j, static_cast<ptrdiff_t>(ld), columns);
      T* to = c + static_cast<ptrdiff_t>(j) * ldc;
      HWY_UNROLL(4)
      for (size_t q = 0; q < kSide; ++q, to += ldc) {
        if (q != 0 && j + q >= cols) break;
        auto sum = columns[q];
        if (beta != 0) sum = hn::MulAdd(hn::Set(d, beta), hn::LoadU(d, to), sum);
        hn::StoreU(sum, d, to);
      }
    }
  }
  if constexpr (kN > kSide) {
    return store_transposed(hn::Half<D>(), from, ld, rows, cols, beta, c, ldc);
  }
  for (; rows != 0; --rows, from += ld, ++c) {
    T* to = c;
    for (size_t j = 0; j < cols; ++j, to += ldc) {
      *to = beta == 0 ? from[j] : from[j] + beta * *to;
    }
  }
}

}  // namespace
}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_BLAS_PACK_INL_H_
