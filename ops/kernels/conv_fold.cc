// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <utility>

#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/conv_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/conv_fold.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

using detail::ConvPlan;
using detail::Workspace;

// The input gradient the other way round: a product of matrices gives what each output's gradient
// is worth at each tap, and what falls on the same place is added up. Nothing is multiplied by
// padding, of which an input gradient sees a lot where images are small; and the vectors are full
// however few channels there are. The sums are made row by row in registers, for which lanes beside
// an output row are masked out.
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr size_t kN = kLanes<D>;
constexpr int64_t kMostColumns = 11;  // of a kernel

size_t products(const ConvPlan& p) { return static_cast<size_t>(p.group_in * p.taps * p.out_area); }

size_t workspace(const ConvPlan& p) { return products(p) * sizeof(float); }

bool pays(const ConvPlan& p) {
  constexpr bool kMasked = kMaskedMemory<float> && HWY_TARGET != HWY_SCALAR;
  constexpr int64_t kFewChannels = 8;
  constexpr size_t kMost = size_t{1} << 16;  // products, which stay in the L2 cache
  if (!kMasked || p.in[0] != 1 || p.out[0] != 1 || p.kernel[0] != 1 || p.pad[0] != 0) return false;
  if (p.stride[1] != 1 || p.stride[2] != 1 || p.kernel[2] > kMostColumns) return false;
  return p.group_in <= kFewChannels && p.group_out > 1 && products(p) <= kMost;
}

// The lanes of a vector of a row of dx that an output row reaches, for each column of the kernel.
struct Reach {
  ptrdiff_t at[kMostColumns];  // in the output row, of the first lane
  hn::Mask<D> lanes[kMostColumns];
  int64_t first, last;  // columns that reach any, one at least

  Reach(const ConvPlan& p, int64_t col) : first(p.kernel[2]), last(0) {
    constexpr auto kAll = static_cast<int64_t>(kN);
    const D d;
    for (int64_t j = 0; j < p.kernel[2]; ++j) {
      at[j] = col + p.pad[2] - j * p.dilation[2];
      const int64_t from = std::clamp<int64_t>(-at[j], 0, kAll);
      const int64_t to = std::clamp<int64_t>(p.out[2] - at[j], from, kAll);
      lanes[j] = hn::AndNot(hn::FirstN(d, static_cast<size_t>(from)),
                            hn::FirstN(d, static_cast<size_t>(to)));
      if (from == to) continue;
      first = std::min(first, j);
      last = j + 1;
    }
    if (first >= last) first = 0, last = 1;  // which reaches no lane
  }
};

// A vector of each row of dx, for all channels: the products that fall there, of `kColumns` columns
// of the kernel, which reach any lanes of it.
template <size_t kColumns>
HWY_NOINLINE void fold(const ConvPlan& p, const Reach& reach, const float* products, float* dx,
                       size_t lanes) {
  const D d;
  const int64_t area = p.out_area;
  hn::Mask<D> reached[kColumns];
  ptrdiff_t at[kColumns];
  HWY_UNROLL(11)
  for (size_t j = 0; j < kColumns; ++j) {
    const int64_t column = reach.first + static_cast<int64_t>(j);
    reached[j] = reach.lanes[column];
    at[j] = column * area + reach.at[column];
  }
  const int64_t between = p.kernel[2] * area - p.dilation[1] * p.out[2];  // taps of two rows
  for (int64_t c = 0; c < p.group_in; ++c, products += p.taps * area, dx += p.in_area) {
    for (int64_t row = 0; row < p.in[1]; ++row) {
      V sums[2] = {hn::Zero(d), hn::Zero(d)};
      int64_t from_row = row + p.pad[1];
      const float* from = products + from_row * p.out[2];
      for (int64_t i = 0; i < p.kernel[1]; ++i, from_row -= p.dilation[1], from += between) {
        if (from_row < 0 || from_row >= p.out[1]) continue;
        HWY_UNROLL(11)
        for (size_t j = 0; j < kColumns; ++j) {
          sums[j % 2] = hn::Add(sums[j % 2], hn::MaskedLoad(reached[j], d, from + at[j]));
        }
      }
      const V sum = hn::Add(sums[0], sums[1]);
      float* const to = dx + row * p.in[2];
      if (lanes == kN) {
        hn::StoreU(sum, d, to);
      } else {
        store_n(sum, d, to, lanes);
      }
    }
  }
}

template <size_t... kColumn>
constexpr auto folds(std::index_sequence<kColumn...>) {
  return std::array{fold<kColumn + 1>...};
}
// By columns - 1.
inline constexpr auto kFolds = folds(std::make_index_sequence<kMostColumns>());

void grad_input(const ConvPlan& p, const float* dy, const float* w, float* dx) {
  Workspace memory(workspace(p));
  auto* const each = memory.take<float>(products(p));
  const int64_t rows = p.group_in * p.taps;
  gemm(true, false, rows, p.out_area, p.group_out, 1.0f, w, rows, dy, p.out_area, 0.0f, each,
       p.out_area);
  for (int64_t col = 0; col < p.in[2]; col += kN) {
    const Reach reach(p, col);
    const auto lanes = static_cast<size_t>(std::min<int64_t>(kN, p.in[2] - col));
    kFolds[static_cast<size_t>(reach.last - reach.first - 1)](p, reach, each, dx + col, lanes);
  }
}

constexpr detail::FoldTable kTable{pays, workspace, grad_input};

}  // namespace

const detail::FoldTable* fold_table() { return &kTable; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(fold_table);

constinit const Dispatch<detail::FoldTable> detail::conv_fold{
    [] { return HWY_DYNAMIC_DISPATCH(fold_table)(); }};

}  // namespace ebb::kernels
#endif
