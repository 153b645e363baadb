// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ebb/ops/kernels/conv_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/conv_depthwise.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/blas_sums-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

using detail::ConvPlan;
using detail::ConvPlane;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr size_t kN = kLanes<D>;

// Images are read where they lie, a block of a few rows and one vector at a time: each row of x is
// loaded once for each column of the kernel and meets all rows of it. Lanes and rows outside the
// image are not read; that takes masked loads.
constexpr ptrdiff_t kRows = 7;  // of a block: networks halve 224

// What a vector of outputs sees of a row of x.
template <ptrdiff_t kSide, bool kEdge>
struct Window {
  // `column` is the first output, of `count` lanes.
  HWY_INLINE Window(const ConvPlane& s, ptrdiff_t column, size_t count)
      : first(column - s.pad_col) {
    if constexpr (kEdge) {
      const D d;
      const auto lanes = static_cast<ptrdiff_t>(count);
      HWY_UNROLL(8)
      for (ptrdiff_t k = 0; k < kSide; ++k) {
        const ptrdiff_t from = std::clamp<ptrdiff_t>(-first - k, 0, lanes);
        const ptrdiff_t to = std::clamp<ptrdiff_t>(s.width - first - k, from, lanes);
        mask[k] = hn::AndNot(hn::FirstN(d, static_cast<size_t>(from)),
                             hn::FirstN(d, static_cast<size_t>(to)));
      }
    }
  }
  // x is the start of a row, k a column of the kernel.
  HWY_INLINE V load(const float* x, ptrdiff_t k) const {
    if constexpr (kEdge) {
      return hn::MaskedLoad(mask[k], D(), x + first + k);
    } else {
      return hn::LoadU(D(), x + first + k);
    }
  }
  ptrdiff_t first;
  hn::Mask<D> mask[kEdge ? kSide : 1];
};

// f(block of rows, vector) for all outputs of a plane: whether a vector sees beyond the image, and
// whether the block has all its rows, is known when it is compiled.
template <ptrdiff_t kSide, class F>
HWY_INLINE void for_each_block(const ConvPlane& s, const F& f) {
  // Vectors from `inner` to `outer` see only what there is.
  const ptrdiff_t last = s.width + s.pad_col - kSide + 1;  // outputs before that do not see the end
  for (ptrdiff_t row = 0; row < s.out_height; row += kRows) {
    const ptrdiff_t rows = std::min(kRows, s.out_height - row);
    for (ptrdiff_t col = 0; col < s.out_width; col += kN) {
      const auto lanes = static_cast<size_t>(std::min<ptrdiff_t>(kN, s.out_width - col));
      const bool edge = col < s.pad_col || col + static_cast<ptrdiff_t>(kN) > last || lanes < kN;
      if (edge) {
        f(std::true_type(), row, rows, col, lanes);
      } else {
        f(std::false_type(), row, rows, col, lanes);
      }
    }
  }
}

template <ptrdiff_t kSide, bool kEdge, bool kTurned>
HWY_INLINE void block(const ConvPlane& s, const float* x, const float* w, V bias, ptrdiff_t row,
                      ptrdiff_t rows, ptrdiff_t col, size_t lanes, float* y) {
  const D d;
  const Window<kSide, kEdge> window(s, col, lanes);
  V sum[kRows];
  HWY_UNROLL(8)
  for (ptrdiff_t r = 0; r < kRows; ++r) sum[r] = bias;
  // Neither image nor result are in a near cache for long.
  const float* const x_ahead = x + (row - s.pad_row + kRows + kSide - 1) * s.width + col;
  float* const y_ahead = y + (row + kRows) * s.out_width + col;
  HWY_UNROLL(16)
  for (ptrdiff_t r = 0; r < kRows; ++r) {
    hwy::Prefetch(x_ahead + r * s.width);
    hwy::Prefetch(y_ahead + r * s.out_width);
  }
  // Rows of x from `first` to `last` exist.
  const ptrdiff_t first = s.pad_row - row;
  const ptrdiff_t last = s.height + first;
  HWY_UNROLL(8)
  for (ptrdiff_t k = 0; k < kSide; ++k) {
    const float* from = x + (row - s.pad_row) * s.width;
    V weight[kSide];
    HWY_UNROLL(8)
    for (ptrdiff_t j = 0; j < kSide; ++j) {
      const ptrdiff_t tap = j * kSide + k;
      weight[j] = hn::Set(d, w[kTurned ? kSide * kSide - 1 - tap : tap]);
    }
    HWY_UNROLL(32)
    for (ptrdiff_t i = 0; i < kRows + kSide - 1; ++i, from += s.width) {
      if (i < first || i >= last) continue;
      const V value = window.load(from, k);
      HWY_UNROLL(16)
      for (ptrdiff_t r = 0; r < kRows; ++r) {
        const ptrdiff_t j = i - r;
        if (j >= 0 && j < kSide) sum[r] = hn::MulAdd(value, weight[j], sum[r]);
      }
    }
  }
  y += row * s.out_width + col;
  HWY_UNROLL(8)
  for (ptrdiff_t r = 0; r < kRows; ++r, y += s.out_width) {
    if (r >= rows) break;
    if (kEdge && lanes < kN) {
      store_n(sum[r], d, y, lanes);
    } else {
      hn::StoreU(sum[r], d, y);
    }
  }
}

template <ptrdiff_t kSide, bool kTurned>
HWY_NOINLINE void plane(const ConvPlane& s, const float* x, const float* w, float bias, float* y) {
  const V b = hn::Set(D(), bias);
  for_each_block<kSide>(
      s, [=, &s](auto edge, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t col, size_t lanes) HWY_ATTR {
        block<kSide, decltype(edge)::value, kTurned>(s, x, w, b, row, rows, col, lanes, y);
      });
}

template <ptrdiff_t kSide, bool kEdge, bool kWhole>
HWY_INLINE void add_block(const ConvPlane& s, const float* x, const float* dy, ptrdiff_t row,
                          ptrdiff_t rows, ptrdiff_t col, size_t lanes, V* total) {
  constexpr size_t kTaps = kSide * kSide;
  const D d;
  V sums[kTaps];  // that they stay in registers
  HWY_UNROLL(32)
  for (size_t t = 0; t < kTaps; ++t) sums[t] = total[t];
  const Window<kSide, kEdge> window(s, col, lanes);
  V gradient[kRows];
  dy += row * s.out_width + col;
  const float* const x_ahead = x + (row - s.pad_row + kRows + kSide - 1) * s.width + col;
  const float* const dy_ahead = dy + kRows * s.out_width;
  HWY_UNROLL(16)
  for (ptrdiff_t r = 0; r < kRows; ++r) {
    hwy::Prefetch(x_ahead + r * s.width);
    hwy::Prefetch(dy_ahead + r * s.out_width);
  }
  x += (row - s.pad_row) * s.width;
  HWY_UNROLL(32)
  for (ptrdiff_t i = 0; i < kRows + kSide - 1; ++i, x += s.width) {
    if (i < kRows) {
      gradient[i] = !kWhole && i >= rows  ? hn::Zero(d)
                    : kEdge && lanes < kN ? load_n(d, dy, lanes)
                                          : hn::LoadU(d, dy);
      dy += s.out_width;
    }
    const ptrdiff_t at = row - s.pad_row + i;
    if (at < 0 || at >= s.height) continue;
    HWY_UNROLL(8)
    for (ptrdiff_t k = 0; k < kSide; ++k) {
      const V value = window.load(x, k);
      HWY_UNROLL(16)
      for (ptrdiff_t r = 0; r < kRows; ++r) {
        const ptrdiff_t j = i - r;
        if (j < 0 || j >= kSide || (!kWhole && r >= rows)) continue;
        sums[j * kSide + k] = hn::MulAdd(value, gradient[r], sums[j * kSide + k]);
      }
    }
  }
  HWY_UNROLL(32)
  for (size_t t = 0; t < kTaps; ++t) total[t] = sums[t];
}

template <ptrdiff_t kSide>
HWY_NOINLINE void plane_weights(const ConvPlane& s, const float* x, const float* dy, bool add,
                                float* dw) {
  constexpr size_t kTaps = kSide * kSide;
  const D d;
  V sums[kTaps];
  HWY_UNROLL(32)
  for (size_t t = 0; t < kTaps; ++t) sums[t] = hn::Zero(d);
  for_each_block<kSide>(
      s, [&](auto edge, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t col, size_t lanes) HWY_ATTR {
        if (rows == kRows) {
          add_block<kSide, decltype(edge)::value, true>(s, x, dy, row, rows, col, lanes, sums);
        } else {
          add_block<kSide, decltype(edge)::value, false>(s, x, dy, row, rows, col, lanes, sums);
        }
      });
  size_t t = 0;
  for (; t + 4 <= kTaps; t += 4) {
    store_four_sums(d, sums[t], sums[t + 1], sums[t + 2], sums[t + 3], 1.0f, add ? 1.0f : 0.0f,
                    dw + t);
  }
  for (; t < kTaps; ++t) {
    const float sum = reduce_lanes(d, sums[t], AddLanes());
    dw[t] = add ? dw[t] + sum : sum;
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
  (p.kernel[1] == 3 ? plane<3, false> : plane<5, false>)(forward_plane(p), x, w, b, y);
}

void grad_input(const ConvPlan& p, const float* dy, const float* w, float* dx) {
  const int64_t last = p.kernel[1] - 1;
  const ConvPlane s{p.out[1], p.out[2], p.in[1], p.in[2], last - p.pad[1], last - p.pad[2]};
  (p.kernel[1] == 3 ? plane<3, true> : plane<5, true>)(s, dy, w, 0.0f, dx);
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
