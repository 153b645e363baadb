// SPDX-License-Identifier: Apache-2.0
// The innermost loops of matrix products; compiled once for each instruction set, so the include
// guard toggles instead of staying set.
#if defined(EBB_OPS_KERNELS_BLAS_MICRO_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_BLAS_MICRO_INL_H_
#undef EBB_OPS_KERNELS_BLAS_MICRO_INL_H_
#else
#define EBB_OPS_KERNELS_BLAS_MICRO_INL_H_
#endif

#include <array>
#include <utility>

#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// A block of C is computed in registers: kRows rows of kVectors vectors, of which the last may be
// partial. A is read one value at a time, wherever it lies; B a row of the block at a time.
template <class T>
using Block = detail::GemmBlock<T>;

template <class T>
using MicroFn = void (*)(const Block<T>& g, const T* a, const T* b, T* c);

// Few accumulators would wait for each other's latency, so k is then split into chains.
template <size_t kRows, size_t kVectors>
inline constexpr size_t kChains = kRows* kVectors >= 6   ? 1
                                  : kRows* kVectors >= 3 ? 2
                                                         : 4;

// Whether values of A are loaded four at a time and spread by shuffles. AVX2 has loads to spare.
template <class D>
inline constexpr bool kFourAtOnce = HWY_TARGET == HWY_AVX3&& kLanes<D> == 16;

template <class D, size_t kRows, size_t kVectors, bool kPartial, typename T = hn::TFromD<D>>
HWY_NOINLINE void micro(const Block<T>& g, const T* a, const T* b, T* c) {
  using V = hn::Vec<D>;
  constexpr size_t kN = kLanes<D>;
  constexpr size_t kC = kChains<kRows, kVectors>;
  constexpr bool kMaskB = kPartial && kMaskedMemory<T>;
  const D d;
  const size_t k = g.k;
  const ptrdiff_t ldc = g.ldc;
  const auto mask = hn::FirstN(d, kPartial ? g.last : kN);
  V acc[kC][kRows][kVectors];
  HWY_UNROLL(8)
  for (size_t s = 0; s < kC; ++s) {
    HWY_UNROLL(8)
    for (size_t r = 0; r < kRows; ++r) {
      HWY_UNROLL(8)
      for (size_t v = 0; v < kVectors; ++v) acc[s][r][v] = hn::Zero(d);
    }
  }
  const auto load_b = [&](V(&row)[kVectors]) HWY_ATTR {
    HWY_UNROLL(8)
    for (size_t v = 0; v < kVectors; ++v) {
      row[v] = kMaskB && v + 1 == kVectors ? hn::MaskedLoad(mask, d, b + v * kN)
                                           : hn::LoadU(d, b + v * kN);
    }
    b += g.b_row;
  };
  const auto step = [&](V(&to)[kRows][kVectors]) HWY_ATTR {
    V row[kVectors];
    load_b(row);
    HWY_UNROLL(8)
    for (size_t r = 0; r < kRows; ++r) {
      const V x = hn::Set(d, a[static_cast<ptrdiff_t>(r) * g.a_row]);
      HWY_UNROLL(8)
      for (size_t v = 0; v < kVectors; ++v) to[r][v] = hn::MulAdd(x, row[v], to[r][v]);
    }
    a += g.a_col;
  };
  size_t p = 0;
  if constexpr (kFourAtOnce<D> && kVectors == 1 && kC == 1) {
    // A load for each multiply-add is more than there are ports for.
    for (; g.a_col == 1 && p + 4 <= k; p += 4, a += 4) {
      V four[kRows];
      HWY_UNROLL(8)
      for (size_t r = 0; r < kRows; ++r) {
        four[r] = hn::LoadDup128(d, a + static_cast<ptrdiff_t>(r) * g.a_row);
      }
      const auto add = [&](const auto& nth) HWY_ATTR {
        V row[1];
        load_b(row);
        HWY_UNROLL(8)
        for (size_t r = 0; r < kRows; ++r) {
          acc[0][r][0] = hn::MulAdd(nth(four[r]), row[0], acc[0][r][0]);
        }
      };
      add([](V x) HWY_ATTR { return hn::Broadcast<0>(x); });
      add([](V x) HWY_ATTR { return hn::Broadcast<1>(x); });
      add([](V x) HWY_ATTR { return hn::Broadcast<2>(x); });
      add([](V x) HWY_ATTR { return hn::Broadcast<3>(x); });
    }
  }
  for (; p + kC <= k; p += kC) {
    HWY_UNROLL(8)
    for (size_t s = 0; s < kC; ++s) step(acc[s]);
  }
  if constexpr (kC > 1) {
    for (; p < k; ++p) step(acc[0]);
  }

  HWY_UNROLL(8)
  for (size_t s = 1; s < kC; ++s) {
    HWY_UNROLL(8)
    for (size_t r = 0; r < kRows; ++r) {
      HWY_UNROLL(8)
      for (size_t v = 0; v < kVectors; ++v) acc[0][r][v] = hn::Add(acc[0][r][v], acc[s][r][v]);
    }
  }
  const V alpha = hn::Set(d, g.alpha);
  if (g.beta != 0) {
    const V beta = hn::Set(d, g.beta);
    HWY_UNROLL(8)
    for (size_t r = 0; r < kRows; ++r) {
      const T* from = c + static_cast<ptrdiff_t>(r) * ldc;
      HWY_UNROLL(8)
      for (size_t v = 0; v < kVectors; ++v, from += kN) {
        V old = kPartial && v + 1 == kVectors ? load_n(d, from, g.last) : hn::LoadU(d, from);
        if (g.beta != 1) old = hn::Mul(beta, old);
        acc[0][r][v] = hn::MulAdd(alpha, acc[0][r][v], old);
      }
    }
  } else if (g.alpha != 1) {
    HWY_UNROLL(8)
    for (size_t r = 0; r < kRows; ++r) {
      HWY_UNROLL(8)
      for (size_t v = 0; v < kVectors; ++v) acc[0][r][v] = hn::Mul(acc[0][r][v], alpha);
    }
  }
  HWY_UNROLL(8)
  for (size_t r = 0; r < kRows; ++r, c += ldc) {
    HWY_UNROLL(8)
    for (size_t v = 0; v < kVectors; ++v) {
      if (kPartial && v + 1 == kVectors) {
        store_n(acc[0][r][v], d, c + v * kN, g.last);
      } else {
        hn::StoreU(acc[0][r][v], d, c + v * kN);
      }
    }
  }
}

#if HWY_TARGET == HWY_AVX3
constexpr size_t kMaxRows2 = 8;  // rows of a block two vectors wide; 32 registers
constexpr size_t kMaxRows1 = 8;
#elif HWY_TARGET == HWY_SCALAR
constexpr size_t kMaxRows2 = 4;
constexpr size_t kMaxRows1 = 4;
#else
constexpr size_t kMaxRows2 = 6;
constexpr size_t kMaxRows1 = 8;
#endif

template <class D, size_t kVectors, bool kPartial, size_t... kRow>
constexpr auto micros(std::index_sequence<kRow...>) {
  return std::array<MicroFn<hn::TFromD<D>>, sizeof...(kRow)>{
      micro<D, kRow + 1, kVectors, kPartial>...};
}
// By rows - 1.
template <class D, size_t kVectors, bool kPartial, size_t kRows>
inline constexpr auto kMicros = micros<D, kVectors, kPartial>(std::make_index_sequence<kRows>());

#if HWY_TARGET == HWY_AVX3
// C of eight columns: two rows side by side in a vector, so that none of its lanes is idle.
template <size_t kRows>
HWY_NOINLINE void micro_pairs(const Block<float>& g, const float* a, const float* b, float* c) {
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  constexpr size_t kPairs = (kRows + 1) / 2;
  constexpr size_t kChains = 2;
  const D d;
  const hn::Half<D> half;
  const ptrdiff_t a_row = g.a_row;
  const ptrdiff_t ldc = g.ldc;
  V acc[kChains][kPairs];
  HWY_UNROLL(4)
  for (size_t r = 0; r < kPairs; ++r) acc[0][r] = acc[1][r] = hn::Zero(d);
  // A row of op(B), in both halves.
  const auto row_of_b = [&]() HWY_ATTR {
    const V row{_mm512_broadcast_f32x8(_mm256_loadu_ps(b))};
    b += g.b_row;
    return row;
  };
  // Where the rows of a pair start; of the last pair there may be one.
  const auto first = [&](size_t r) HWY_ATTR { return a + static_cast<ptrdiff_t>(2 * r) * a_row; };
  const auto second = [&](size_t r) HWY_ATTR { return first(r) + (2 * r + 1 < kRows ? a_row : 0); };
  size_t p = 0;
  if (g.a_col == 1) {
    for (; p + 4 <= g.k; p += 4, a += 4) {
      const V b0 = row_of_b();
      const V b1 = row_of_b();
      const V b2 = row_of_b();
      const V b3 = row_of_b();
      HWY_UNROLL(4)
      for (size_t r = 0; r < kPairs; ++r) {
        const V x{_mm512_mask_broadcast_f32x4(_mm512_broadcast_f32x4(_mm_loadu_ps(first(r))),
                                              0xFF00, _mm_loadu_ps(second(r)))};
        acc[0][r] = hn::MulAdd(hn::Broadcast<0>(x), b0, acc[0][r]);
        acc[1][r] = hn::MulAdd(hn::Broadcast<1>(x), b1, acc[1][r]);
        acc[0][r] = hn::MulAdd(hn::Broadcast<2>(x), b2, acc[0][r]);
        acc[1][r] = hn::MulAdd(hn::Broadcast<3>(x), b3, acc[1][r]);
      }
    }
  }
  for (; p < g.k; ++p, a += g.a_col) {
    const V row = row_of_b();
    HWY_UNROLL(4)
    for (size_t r = 0; r < kPairs; ++r) {
      const V x = hn::ConcatUpperLower(d, hn::Set(d, *second(r)), hn::Set(d, *first(r)));
      acc[0][r] = hn::MulAdd(x, row, acc[0][r]);
    }
  }
  const V alpha = hn::Set(d, g.alpha);
  const V beta = hn::Set(d, g.beta);
  HWY_UNROLL(4)
  for (size_t r = 0; r < kPairs; ++r) acc[0][r] = hn::Add(acc[0][r], acc[1][r]);
  if (g.beta != 0) {
    const float* from = c;
    HWY_UNROLL(4)
    for (size_t r = 0; r < kPairs; ++r, from += 2 * ldc) {
      const auto lower = hn::LoadU(half, from);
      const auto upper = 2 * r + 1 < kRows ? hn::LoadU(half, from + ldc) : lower;
      const V old = hn::Mul(beta, hn::Combine(d, upper, lower));
      acc[0][r] = hn::MulAdd(alpha, acc[0][r], old);
    }
  } else if (g.alpha != 1) {
    HWY_UNROLL(4)
    for (size_t r = 0; r < kPairs; ++r) acc[0][r] = hn::Mul(alpha, acc[0][r]);
  }
  HWY_UNROLL(4)
  for (size_t r = 0; r < kPairs; ++r, c += 2 * ldc) {
    hn::StoreU(hn::LowerHalf(half, acc[0][r]), half, c);
    if (2 * r + 1 < kRows) hn::StoreU(hn::UpperHalf(half, acc[0][r]), half, c + ldc);
  }
}

template <size_t... kRow>
constexpr auto pair_micros(std::index_sequence<kRow...>) {
  return std::array<MicroFn<float>, sizeof...(kRow)>{micro_pairs<kRow + 1>...};
}
// By rows - 1.
inline constexpr auto kPairMicros = pair_micros(std::make_index_sequence<kMaxRows1>());
#endif

}  // namespace
}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_BLAS_MICRO_INL_H_
