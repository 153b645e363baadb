// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace ebb::kernels {

inline constexpr size_t kMaxRank = 8;

/// The dims of an iteration over N strided operands, brought into the shape that runs fastest:
/// dims of size 1 dropped, the dim in which operand 0 (by custom the output) moves least innermost,
/// neighbours merged where every operand allows it.
template <size_t N>
struct StridedPlan {
  size_t rank = 0;  ///< after merging; dim 0 is the innermost
  std::array<size_t, kMaxRank> dims;
  std::array<std::array<ptrdiff_t, N>, kMaxRank> strides;  ///< [dim][operand], in elements
  bool empty = false;

  /// `dims`: [rank] sizes, `operand_strides[k]`: [rank] strides of operand k in elements, 0 for a
  /// broadcast dim, negative allowed. rank <= kMaxRank.
  StridedPlan(size_t rank_in, const int64_t* dims_in,
              const std::array<const int64_t*, N>& operand_strides) {
    for (size_t i = rank_in; i-- > 0;) {
      if (dims_in[i] == 0) {
        empty = true;
        return;
      }
      if (dims_in[i] == 1) continue;
      std::array<ptrdiff_t, N> s;
      for (size_t k = 0; k < N; ++k) s[k] = static_cast<ptrdiff_t>(operand_strides[k][i]);
      insert(static_cast<size_t>(dims_in[i]), s);
    }
    merge();
  }

  /// Takes dim d out; the caller iterates over it.
  void remove(size_t d) {
    --rank;
    for (; d < rank; ++d) {
      dims[d] = dims[d + 1];
      strides[d] = strides[d + 1];
    }
  }

 private:
  // Whether a dim of strides `a` belongs inside one of strides `b`. A stride of 0 says nothing
  // about an operand, so the next operand decides.
  static bool inside(const std::array<ptrdiff_t, N>& a, const std::array<ptrdiff_t, N>& b) {
    for (size_t k = 0; k < N; ++k) {
      const ptrdiff_t x = a[k] < 0 ? -a[k] : a[k];
      const ptrdiff_t y = b[k] < 0 ? -b[k] : b[k];
      if (x == 0 || y == 0 || x == y) continue;
      return x < y;
    }
    return false;
  }

  void insert(size_t size, const std::array<ptrdiff_t, N>& s) {
    size_t at = rank++;
    for (; at > 0 && inside(s, strides[at - 1]); --at) {
      dims[at] = dims[at - 1];
      strides[at] = strides[at - 1];
    }
    dims[at] = size;
    strides[at] = s;
  }

  void merge() {
    if (rank < 2) return;
    size_t last = 0;
    for (size_t i = 1; i < rank; ++i) {
      bool fits = true;
      for (size_t k = 0; k < N; ++k) {
        fits &= strides[i][k] == strides[last][k] * static_cast<ptrdiff_t>(dims[last]);
      }
      if (fits) {
        dims[last] *= dims[i];
      } else {
        ++last;
        dims[last] = dims[i];
        strides[last] = strides[i];
      }
    }
    rank = last + 1;
  }
};

/// Calls `row(offsets, n, inner_strides)` for every innermost row, all counted in elements:
///   row(const ptrdiff_t* offsets /*[N]*/, size_t n, const ptrdiff_t* inner_strides /*[N]*/).
template <size_t N, class Row>
void for_each_row(const StridedPlan<N>& plan, Row&& row) {
  if (plan.empty) return;
  std::array<ptrdiff_t, N> offsets{};
  if (plan.rank == 0) {
    std::array<ptrdiff_t, N> ones;
    ones.fill(1);
    row(offsets.data(), size_t{1}, ones.data());
    return;
  }
  const size_t n = plan.dims[0];
  const ptrdiff_t* inner = plan.strides[0].data();
  if (plan.rank == 1) {
    row(offsets.data(), n, inner);
    return;
  }
  std::array<size_t, kMaxRank> index{};
  for (;;) {
    for (size_t i = 0; i < plan.dims[1]; ++i) {
      row(static_cast<const ptrdiff_t*>(offsets.data()), n, inner);
      for (size_t k = 0; k < N; ++k) offsets[k] += plan.strides[1][k];
    }
    size_t d = 1;
    for (;;) {
      // Dim d has run to its end: take it back to its start and carry into the next.
      for (size_t k = 0; k < N; ++k) {
        offsets[k] -= plan.strides[d][k] * static_cast<ptrdiff_t>(plan.dims[d]);
      }
      index[d] = 0;
      if (++d == plan.rank) return;
      for (size_t k = 0; k < N; ++k) offsets[k] += plan.strides[d][k];
      if (++index[d] < plan.dims[d]) break;
    }
  }
}

/// The general loop nest over N strided operands. Sizes `dims` [rank]; `strides[k]` [rank] are
/// those of operand k in elements (0: broadcast, negative allowed), rank <= kMaxRank. Calls `row`
/// once for every row of the innermost dim, which is chosen for speed: the dims are sorted by the
/// strides of operand 0, of operand 1 where operand 0 does not care, and so on; a single call when
/// everything is contiguous, one with n = 1 for a scalar, none when a dim is 0. No allocation.
///   row(const ptrdiff_t* offsets /*[N]*/, size_t n, const ptrdiff_t* inner_strides /*[N]*/)
/// Where operand 0 is dense (any order of its dims), its inner stride is 1.
template <size_t N, class Row>
void for_each_row(size_t rank, const int64_t* dims, const std::array<const int64_t*, N>& strides,
                  Row&& row) {
  // Most arrays are dense: settle those without a plan.
  size_t total = 1;
  bool dense = true;
  for (size_t i = rank; i-- > 0 && dense;) {
    if (dims[i] != 1) {
      for (size_t k = 0; k < N; ++k) dense &= strides[k][i] == static_cast<int64_t>(total);
    }
    total *= static_cast<size_t>(dims[i]);
  }
  if (dense) {
    if (total == 0) return;
    std::array<ptrdiff_t, N> zeros{};
    std::array<ptrdiff_t, N> ones;
    ones.fill(1);
    row(static_cast<const ptrdiff_t*>(zeros.data()), total,
        static_cast<const ptrdiff_t*>(ones.data()));
    return;
  }
  for_each_row(StridedPlan<N>(rank, dims, strides), std::forward<Row>(row));
}

}  // namespace ebb::kernels
