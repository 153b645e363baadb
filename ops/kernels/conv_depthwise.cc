// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <type_traits>
#include <utility>

#include "ebb/ops/kernels/conv_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/conv_depthwise.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/blas_sums-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

using detail::ConvPlan;
using detail::ConvPlane;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr size_t kN = kLanes<D>;

// v, which is used more than once and is not to be loaded again: GCC holds an operand in memory to
// be as good as one in a register, and reads it at each use.
HWY_INLINE V in_register(V v) {
#if HWY_ARCH_X86 && HWY_COMPILER_GCC_ACTUAL && HWY_TARGET != HWY_SCALAR
  __asm__("" : "+v"(v.raw));
#endif
  return v;
}

// Images are read where they lie. A few vectors of columns are gone down row by row: each row of x
// is loaded once for each column of the kernel and meets all rows of it, so that as many rows of
// results are on their way as the kernel has. Lanes outside the image are not read; that takes
// masked loads.
#if HWY_TARGET == HWY_AVX3
constexpr size_t kRegisters = 32;
#else
constexpr size_t kRegisters = 16;
#endif
constexpr size_t kMostVectors = 4;

// Vectors side by side for a kernel: for the sums of the rows on their way, with its weights in
// registers if there is room.
template <size_t kSide>
inline constexpr size_t kSumVectors = std::clamp<size_t>(
    (kRegisters - 2 - std::min(kSide * kSide, kRegisters / 2)) / kSide, 2, kMostVectors);

// Of which the first and the last may see beyond the image, and have to be masked.
template <size_t kSide, size_t kVectors, bool kFirst, bool kLast>
struct Window {
  // `column` is the first output, of `count` lanes; `tap` the first column of the kernel, of kSide.
  Window(const ConvPlane& s, ptrdiff_t column, size_t count, size_t tap)
      : first(column - s.pad_col + static_cast<ptrdiff_t>(tap)) {
    if constexpr (kFirst) fill(s, first, std::min(count, kN), left);
    if constexpr (kLast && kVectors > 1) {
      constexpr size_t kBefore = (kVectors - 1) * kN;
      fill(s, first + static_cast<ptrdiff_t>(kBefore), count - kBefore, right);
    }
  }
  static void fill(const ConvPlane& s, ptrdiff_t from, size_t count, hn::Mask<D>* mask) {
    const D d;
    const auto lanes = static_cast<ptrdiff_t>(count);
    for (ptrdiff_t k = 0; k < static_cast<ptrdiff_t>(kSide); ++k) {
      const ptrdiff_t before = std::clamp<ptrdiff_t>(-from - k, 0, lanes);
      const ptrdiff_t end = std::clamp<ptrdiff_t>(s.width - from - k, before, lanes);
      mask[k] = hn::AndNot(hn::FirstN(d, static_cast<size_t>(before)),
                           hn::FirstN(d, static_cast<size_t>(end)));
    }
  }
  // `row` is the start of a row of x, v a vector, k a column of the kernel.
  HWY_INLINE V load(const float* row, size_t v, size_t k) const {
    const float* from = row + first + static_cast<ptrdiff_t>(v * kN + k);
    if (kFirst && v == 0) return hn::MaskedLoad(left[k], D(), from);
    if (kLast && v + 1 == kVectors) return hn::MaskedLoad(right[k], D(), from);
    return hn::LoadU(D(), from);
  }
  ptrdiff_t first;
  hn::Mask<D> left[kFirst ? kSide : 1];
  hn::Mask<D> right[kLast ? kSide : 1];
};

// A run of vectors of columns.
struct Columns {
  ptrdiff_t first;
  size_t count;  // that exist
  size_t vectors;
  bool masked_first, masked_last;
};

// f(columns) for all of a plane, at most `most` vectors at a time.
template <class F>
HWY_INLINE void for_each_run(const ConvPlane& s, size_t side, size_t most, const F& f) {
  const auto masked = [&](ptrdiff_t col) {
    const ptrdiff_t end = col + static_cast<ptrdiff_t>(kN);
    return col < s.pad_col || end > s.out_width ||
           end + static_cast<ptrdiff_t>(side) - 1 - s.pad_col > s.width;
  };
  constexpr auto kStep = static_cast<ptrdiff_t>(kN);
  for (ptrdiff_t col = 0; col < s.out_width;) {
    const auto left = static_cast<size_t>(s.out_width - col);
    size_t vectors = std::min(most, (left + kN - 1) / kN);
    for (size_t v = 1; v + 1 < vectors; ++v) {  // one in the middle is not to see beyond the image
      if (masked(col + static_cast<ptrdiff_t>(v) * kStep)) vectors = 1;
    }
    const ptrdiff_t last = col + static_cast<ptrdiff_t>(vectors - 1) * kStep;
    f(Columns{col, std::min(left, vectors * kN), vectors, masked(col), masked(last)});
    col = last + kStep;
  }
}

// f(0), f(1) and so on, which it is told as constants.
template <size_t... kAt, class F>
HWY_INLINE void in_turn(std::index_sequence<kAt...>, const F& f) {
  (f(std::integral_constant<size_t, kAt>()), ...);
}

// Adds what a row of x gives to the sums of the rows of y that see it, the first of which are at
// kOldest: there the row meets the last of the kernel's. Those of the last row begin here.
template <size_t kOldest, size_t kSide, size_t kVectors, class Window>
HWY_INLINE void add_row(const Window& window, const float* x, const V (&weight)[kSide * kSide],
                        V start, V (&sum)[kSide][kVectors]) {
  HWY_UNROLL(8)
  for (size_t k = 0; k < kSide; ++k) {
    HWY_UNROLL(8)
    for (size_t v = 0; v < kVectors; ++v) {
      const V value = in_register(window.load(x, v, k));
      HWY_UNROLL(8)
      for (size_t j = 0; j < kSide; ++j) {
        V& at = sum[(kOldest + kSide - 1 - j) % kSide][v];
        at = hn::MulAdd(value, weight[j * kSide + k], j == 0 && k == 0 ? start : at);
      }
    }
  }
}

template <size_t kSide, size_t kVectors, bool kFirst, bool kLast>
HWY_NOINLINE void columns(const ConvPlane& s, const Columns& c, const float* x, const float* w,
                          float bias, float* y) {
  constexpr auto kHalo = static_cast<ptrdiff_t>(kSide) - 1;
  const D d;
  const Window<kSide, kVectors, kFirst, kLast> window(s, c.first, c.count, 0);
  const size_t lanes = c.count - (kVectors - 1) * kN;  // of the last vector
  const V start = hn::Set(d, bias);
  V weight[kSide * kSide];
  HWY_UNROLL(32)
  for (size_t t = 0; t < kSide * kSide; ++t) weight[t] = hn::Set(d, w[t]);
  V sum[kSide][kVectors];  // of rows `row` to row + kSide - 1
  HWY_UNROLL(8)
  for (size_t q = 0; q < kSide; ++q) {
    HWY_UNROLL(8)
    for (size_t v = 0; v < kVectors; ++v) sum[q][v] = start;
  }
  ptrdiff_t row = -kHalo;
  const float* from = x + (row + kHalo - s.pad_row) * s.width;
  float* to = y + row * s.out_width + c.first;
  const auto store = [&](size_t oldest) HWY_ATTR {
    HWY_UNROLL(8)
    for (size_t v = 0; v < kVectors; ++v) {
      if (kLast && v + 1 == kVectors && lanes < kN) {
        store_n(sum[oldest][v], d, to + v * kN, lanes);
      } else {
        hn::StoreU(sum[oldest][v], d, to + v * kN);
      }
    }
  };
  const auto next = [&]() HWY_ATTR {
    ++row;
    from += s.width;
    to += s.out_width;
  };
  const ptrdiff_t inside = s.pad_row - kHalo;  // from there on
  const ptrdiff_t end = std::min(s.height + inside, s.out_height);
  while (row < s.out_height) {
    for (; row >= 0 && row >= inside && row + static_cast<ptrdiff_t>(kSide) <= end;) {
      in_turn(std::make_index_sequence<kSide>(), [&](auto q) HWY_ATTR {
        add_row<q>(window, from, weight, start, sum);
        store(q);
        next();
      });
    }
    if (row >= s.out_height) break;
    if (row >= inside && row < s.height + inside) {
      add_row<0>(window, from, weight, start, sum);
    } else {
      HWY_UNROLL(8)
      for (size_t v = 0; v < kVectors; ++v) sum[kSide - 1][v] = start;
    }
    if (row >= 0) store(0);
    HWY_UNROLL(8)
    for (size_t v = 0; v < kVectors; ++v) {
      HWY_UNROLL(8)
      for (size_t q = 0; q + 1 < kSide; ++q) sum[q][v] = sum[q + 1][v];
    }
    next();
  }
}

// Those of a vector alone are masked as the first is.
using ColumnsFn = void (*)(const ConvPlane& s, const Columns& c, const float* x, const float* w,
                           float bias, float* y);
template <size_t kSide, size_t kVectors>
constexpr ColumnsFn columns_fn(const Columns& c) {
  if constexpr (kVectors == 1) {
    return c.masked_first ? columns<kSide, 1, true, true> : columns<kSide, 1, false, false>;
  } else {
    if (c.vectors < kVectors) return columns_fn<kSide, kVectors - 1>(c);
    if (c.masked_first) {
      return c.masked_last ? columns<kSide, kVectors, true, true>
                           : columns<kSide, kVectors, true, false>;
    }
    return c.masked_last ? columns<kSide, kVectors, false, true>
                         : columns<kSide, kVectors, false, false>;
  }
}

template <size_t kSide>
void plane(const ConvPlane& s, const float* x, const float* w, float bias, float* y) {
  for_each_run(s, kSide, kSumVectors<kSide>, [&](const Columns& c) HWY_ATTR {
    columns_fn<kSide, kSumVectors<kSide>>(c)(s, c, x, w, bias, y);
  });
}

// The weights of kTaps columns of the kernel from `tap` on, of one vector of columns: added to
// `total`, by column and row.
template <size_t kSide, size_t kTaps, bool kMasked>
HWY_NOINLINE void add_columns(const ConvPlane& s, const Columns& c, size_t tap, const float* x,
                              const float* dy, V* total) {
  constexpr auto kHalo = static_cast<ptrdiff_t>(kSide) - 1;
  const D d;
  const Window<kTaps, 1, kMasked, kMasked> window(s, c.first, c.count, tap);
  V sum[kTaps][kSide];  // that they stay in registers
  HWY_UNROLL(8)
  for (size_t k = 0; k < kTaps; ++k) {
    HWY_UNROLL(8)
    for (size_t j = 0; j < kSide; ++j) sum[k][j] = total[k * kSide + j];
  }
  V gradient[kSide];  // rows of dy up to `row`, which is the one that meets x with the first tap
  dy += c.first;
  const auto gradient_at = [&](ptrdiff_t row) HWY_ATTR {
    const float* from = dy + row * s.out_width;
    return kMasked && c.count < kN ? load_n(d, from, c.count) : hn::LoadU(d, from);
  };
  const auto exists = [&](ptrdiff_t row) { return row >= 0 && row < s.out_height; };
  HWY_UNROLL(8)
  for (size_t q = 0; q + 1 < kSide; ++q) {
    const ptrdiff_t row = s.pad_row - kHalo + static_cast<ptrdiff_t>(q);
    gradient[q] = exists(row) ? gradient_at(row) : hn::Zero(d);
  }
  const float* from = x;
  ptrdiff_t row = s.pad_row;
  const ptrdiff_t last = s.height + s.pad_row;
  while (row < last) {
    // All rows exist.
    for (; row >= kHalo && row + static_cast<ptrdiff_t>(kSide) <= std::min(last, s.out_height);) {
      in_turn(std::make_index_sequence<kSide>(), [&](auto q) HWY_ATTR {
        gradient[(q + kSide - 1) % kSide] = gradient_at(row);
        HWY_UNROLL(8)
        for (size_t k = 0; k < kTaps; ++k) {
          const V value = in_register(window.load(from, 0, k));
          HWY_UNROLL(8)
          for (size_t j = 0; j < kSide; ++j) {
            sum[k][j] = hn::MulAdd(value, gradient[(q + kSide - 1 + kSide - j) % kSide], sum[k][j]);
          }
        }
        ++row;
        from += s.width;
      });
    }
    if (row >= last) break;
    gradient[kSide - 1] = exists(row) ? gradient_at(row) : hn::Zero(d);
    HWY_UNROLL(8)
    for (size_t k = 0; k < kTaps; ++k) {
      const V value = in_register(window.load(from, 0, k));
      HWY_UNROLL(8)
      for (size_t j = 0; j < kSide; ++j) {
        if (!exists(row - static_cast<ptrdiff_t>(j))) continue;
        sum[k][j] = hn::MulAdd(value, gradient[kSide - 1 - j], sum[k][j]);
      }
    }
    HWY_UNROLL(8)
    for (size_t q = 0; q + 1 < kSide; ++q) gradient[q] = gradient[q + 1];
    ++row;
    from += s.width;
  }
  HWY_UNROLL(8)
  for (size_t k = 0; k < kTaps; ++k) {
    HWY_UNROLL(8)
    for (size_t j = 0; j < kSide; ++j) total[k * kSide + j] = sum[k][j];
  }
}

template <size_t kSide>
void plane_weights(const ConvPlane& s, const float* x, const float* dy, bool add, float* dw) {
  // Columns of the kernel at a time, whose sums are in registers.
  constexpr size_t kTaps = std::min(kSide, (kRegisters - kSide - 1) / kSide);
  constexpr size_t kRest = kSide % kTaps;
  constexpr size_t kAll = (kSide * kSide + 3) / 4 * 4;
  const D d;
  V total[kAll];
  for (size_t t = 0; t < kAll; ++t) total[t] = hn::Zero(d);
  for_each_run(s, kSide, 1, [&](const Columns& c) HWY_ATTR {
    size_t k = 0;
    for (; k + kTaps <= kSide; k += kTaps) {
      (c.masked_first ? add_columns<kSide, kTaps, true>
                      : add_columns<kSide, kTaps, false>)(s, c, k, x, dy, total + k * kSide);
    }
    if constexpr (kRest != 0) {
      (c.masked_first ? add_columns<kSide, kRest, true>
                      : add_columns<kSide, kRest, false>)(s, c, k, x, dy, total + k * kSide);
    }
  });
  float sums[kAll];
  for (size_t t = 0; t < kAll; t += 4) {
    store_four_sums(d, total[t], total[t + 1], total[t + 2], total[t + 3], 1.0f, 0.0f, sums + t);
  }
  for (size_t k = 0; k < kSide; ++k) {
    for (size_t j = 0; j < kSide; ++j) {
      float& to = dw[j * kSide + k];
      to = add ? to + sums[k * kSide + j] : sums[k * kSide + j];
    }
  }
}

bool handles(const ConvPlan& p) {
  constexpr bool kMasked = kMaskedMemory<float> && HWY_TARGET != HWY_SCALAR;
  if (!kMasked || p.group_in != 1 || p.group_out != 1) return false;
  if (p.in[0] != 1 || p.out[0] != 1 || p.kernel[0] != 1 || p.pad[0] != 0) return false;
  if (p.kernel[1] != p.kernel[2] || (p.kernel[1] != 3 && p.kernel[1] != 5)) return false;
  for (int d = 1; d < 3; ++d) {
    if (p.stride[d] != 1 || p.dilation[d] != 1) return false;
  }
  return true;
}

ConvPlane forward_plane(const ConvPlan& p) {
  return {p.in[1], p.in[2], p.out[1], p.out[2], p.pad[1], p.pad[2]};
}

void forward(const ConvPlan& p, const float* x, const float* w, const float* bias, float* y) {
  const float b = bias == nullptr ? 0.0f : *bias;
  (p.kernel[1] == 3 ? plane<3> : plane<5>)(forward_plane(p), x, w, b, y);
}

void grad_input(const ConvPlan& p, const float* dy, const float* w, float* dx) {
  const int64_t last = p.kernel[1] - 1;
  const ConvPlane s{p.out[1], p.out[2], p.in[1], p.in[2], last - p.pad[1], last - p.pad[2]};
  float turned[25];
  std::reverse_copy(w, w + p.taps, turned);
  (p.kernel[1] == 3 ? plane<3> : plane<5>)(s, dy, turned, 0.0f, dx);
}

void grad_weight(const ConvPlan& p, const float* x, const float* dy, bool add, float* dw) {
  (p.kernel[1] == 3 ? plane_weights<3> : plane_weights<5>)(forward_plane(p), x, dy, add, dw);
}

constexpr detail::DepthwiseTable kTable{handles, forward, grad_input, grad_weight};

}  // namespace

const detail::DepthwiseTable* depthwise_table() { return &kTable; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(depthwise_table);

constinit const Dispatch<detail::DepthwiseTable> detail::conv_depthwise{
    [] { return HWY_DYNAMIC_DISPATCH(depthwise_table)(); }};

}  // namespace ebb::kernels
#endif
