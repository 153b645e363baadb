// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/copy.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/dispatch.h"
#include "ebb/ops/kernels/strided.h"

// Not compiled for each target, so kept to one copy.
#ifndef EBB_OPS_KERNELS_COPY_TABLE
#define EBB_OPS_KERNELS_COPY_TABLE
namespace ebb::kernels {

// dst[i * dst_ld + j] = src[j * src_ld + i] for i < m, j < n.
template <class T>
using TransposeFn = void (*)(const T* src, ptrdiff_t src_ld, T* dst, ptrdiff_t dst_ld, size_t m,
                             size_t n);
struct TransposeTable {
  TransposeFn<float> of4;
  TransposeFn<double> of8;
};

}  // namespace ebb::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/copy.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// In square tiles, so that the cache lines of both sides are used whole.
template <class T>
void transpose(const T* src, ptrdiff_t src_ld, T* dst, ptrdiff_t dst_ld, size_t m, size_t n) {
  constexpr size_t kTile = 128 / sizeof(T);
  constexpr size_t kB = kBlockSide<T>;
  const auto at = [](size_t row, ptrdiff_t ld, size_t col) {
    return static_cast<ptrdiff_t>(row) * ld + static_cast<ptrdiff_t>(col);
  };
  const auto move = [](const T* from, T* to) { std::memcpy(to, from, sizeof(T)); };
  for (size_t i0 = 0; i0 < m; i0 += kTile) {
    const size_t i1 = std::min(i0 + kTile, m);
    for (size_t j0 = 0; j0 < n; j0 += kTile) {
      const size_t j1 = std::min(j0 + kTile, n);
      size_t i = i0;
      for (; i + kB <= i1; i += kB) {
        size_t j = j0;
        for (; j + kB <= j1; j += kB) {
          transpose_block(src + at(j, src_ld, i), src_ld, dst + at(i, dst_ld, j), dst_ld);
        }
        for (; j < j1; ++j) {
          for (size_t q = i; q < i + kB; ++q) move(src + at(j, src_ld, q), dst + at(q, dst_ld, j));
        }
      }
      for (; i < i1; ++i) {
        for (size_t j = j0; j < j1; ++j) move(src + at(j, src_ld, i), dst + at(i, dst_ld, j));
      }
    }
  }
}

constexpr TransposeTable kTable{transpose<float>, transpose<double>};

}  // namespace

const TransposeTable* transpose_table() { return &kTable; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(transpose_table);

namespace {

constinit const Dispatch<TransposeTable> transposes{
    [] { return HWY_DYNAMIC_DISPATCH(transpose_table)(); }};

using Byte = unsigned char;

// Elements are moved as words of their size, whatever their type: hence memcpy, and strides in
// bytes.
template <class Word>
Word load(const Byte* p) {
  Word w;
  std::memcpy(&w, p, sizeof(Word));
  return w;
}
template <class Word>
void store(Word w, Byte* p) {
  std::memcpy(p, &w, sizeof(Word));
}

template <class Word>
void copy_row(const Byte* src, ptrdiff_t src_step, Byte* dst, ptrdiff_t dst_step, size_t n) {
  constexpr ptrdiff_t kDense = sizeof(Word);
  if (src_step == kDense && dst_step == kDense) {
    std::memcpy(dst, src, n * sizeof(Word));
  } else if (src_step == 0 && dst_step == kDense) {
    const Word w = load<Word>(src);
    for (size_t i = 0; i < n; ++i) store(w, dst + i * sizeof(Word));
  } else if (dst_step == kDense) {
    for (size_t i = 0; i < n; ++i, src += src_step) store(load<Word>(src), dst + i * sizeof(Word));
  } else {
    for (size_t i = 0; i < n; ++i, src += src_step, dst += dst_step) store(load<Word>(src), dst);
  }
}

// dst[i, j] = src[i, j], m x n, where the rows of dst and the columns of src are dense.
template <class Word>
void transpose(const Byte* src, ptrdiff_t src_step, Byte* dst, ptrdiff_t dst_step, size_t m,
               size_t n) {
  constexpr ptrdiff_t kSize = sizeof(Word);
  if constexpr (kSize == 4) {
    transposes->of4(reinterpret_cast<const float*>(src), src_step / kSize,
                    reinterpret_cast<float*>(dst), dst_step / kSize, m, n);
  } else if constexpr (kSize == 8) {
    transposes->of8(reinterpret_cast<const double*>(src), src_step / kSize,
                    reinterpret_cast<double*>(dst), dst_step / kSize, m, n);
  } else {
    for (size_t i = 0; i < m; ++i, src += kSize, dst += dst_step) {
      copy_row<Word>(src, src_step, dst, kSize, n);
    }
  }
}

template <class Word>
void copy_words(StridedPlan<2> plan, const Byte* src, Byte* dst) {
  constexpr ptrdiff_t kSize = sizeof(Word);
  const auto for_each = [&](const auto& f) {
    for_each_row(plan, [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* step) {
      f(src + at[1] * kSize, step[1] * kSize, dst + at[0] * kSize, step[0] * kSize, n);
    });
  };
  // Where the source is dense in another dim than the destination, the two make matrices to
  // transpose, one for each element of the other dims.
  constexpr size_t kWorthIt = 8;
  if (!plan.empty && plan.rank >= 2 && plan.strides[0][0] == 1 && plan.strides[0][1] != 1 &&
      plan.dims[0] >= kWorthIt) {
    for (size_t d = 1; d < plan.rank; ++d) {
      if (plan.strides[d][1] != 1 || plan.dims[d] < kWorthIt) continue;
      const size_t n = plan.dims[0];
      const size_t m = plan.dims[d];
      const ptrdiff_t src_ld = plan.strides[0][1] * kSize;
      const ptrdiff_t dst_ld = plan.strides[d][0] * kSize;
      plan.remove(d);
      plan.remove(0);
      for_each([&](const Byte* s, ptrdiff_t s_step, Byte* to, ptrdiff_t to_step, size_t count) {
        for (size_t i = 0; i < count; ++i, s += s_step, to += to_step) {
          transpose<Word>(s, src_ld, to, dst_ld, m, n);
        }
      });
      return;
    }
  }
  for_each([](const Byte* s, ptrdiff_t s_step, Byte* to, ptrdiff_t to_step, size_t n) {
    copy_row<Word>(s, s_step, to, to_step, n);
  });
}

}  // namespace

void copy_strided(size_t item_size, size_t rank, const int64_t* dims, const void* src,
                  const int64_t* src_strides, void* dst, const int64_t* dst_strides) {
  const StridedPlan<2> plan(rank, dims, {dst_strides, src_strides});
  const auto* from = static_cast<const Byte*>(src);
  auto* to = static_cast<Byte*>(dst);
  switch (item_size) {
    case 1:
      return copy_words<uint8_t>(plan, from, to);
    case 2:
      return copy_words<uint16_t>(plan, from, to);
    case 4:
      return copy_words<uint32_t>(plan, from, to);
    default:
      return copy_words<uint64_t>(plan, from, to);
  }
}

void fill_strided(size_t item_size, size_t rank, const int64_t* dims, const void* value, void* dst,
                  const int64_t* dst_strides) {
  constexpr std::array<int64_t, kMaxRank> kBroadcast{};
  copy_strided(item_size, rank, dims, value, kBroadcast.data(), dst, dst_strides);
}

void gather_rows(const void* in, ptrdiff_t in_stride, const int64_t* ids, size_t n,
                 size_t row_bytes, void* out) {
  const auto* from = static_cast<const std::byte*>(in);
  auto* to = static_cast<std::byte*>(out);
  for (size_t i = 0; i < n; ++i, to += row_bytes) {
    std::memcpy(to, from + static_cast<ptrdiff_t>(ids[i]) * in_stride, row_bytes);
  }
}

template <class T>
void scatter_add_rows(const T* rows, const int64_t* ids, size_t n, size_t cols, T* out,
                      ptrdiff_t ld) {
  for (size_t i = 0; i < n; ++i, rows += cols) {
    add_into(rows, out + static_cast<ptrdiff_t>(ids[i]) * ld, cols);
  }
}
template void scatter_add_rows(const float*, const int64_t*, size_t, size_t, float*, ptrdiff_t);
template void scatter_add_rows(const double*, const int64_t*, size_t, size_t, double*, ptrdiff_t);

}  // namespace ebb::kernels
#endif
