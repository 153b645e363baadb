// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ebb/ops/kernels/conv_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/conv_winograd_weights.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/conv_tiles-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// Channels go in blocks so small that their products at all positions stay in the L1 cache.
template <size_t kTile>
struct Sizes {
  static constexpr size_t kPositions = (kTile + 2) * (kTile + 2);
  size_t in, out, in_whole, out_whole;
  size_t in_block, out_block;
  Cut cut;
  size_t in_step, out_step, product_step;  // between positions
  size_t turned, columns;

  Sizes(const ConvPlan& p, const Space& space)
      : in(static_cast<size_t>(p.group_in)),
        out(static_cast<size_t>(p.group_out)),
        in_whole(whole_vectors(in)),
        out_whole(whole_vectors(out)),
        in_block(std::min(in_whole, 2 * kN)),
        out_block(std::min(out, kMaxRows2)),
        cut(kTile, space, kPositions * in_whole, kPositions * out_whole) {
    in_step = apart(cut.seen * cut.count() * in_whole);
    out_step = apart(cut.deep * cut.count() * out_whole);
    product_step = apart(in_block * out_block);
    turned = std::max((cut.high * kTile + 2) * (cut.wide * kTile + 2) * kN, 9 * in_block);
    columns = (cut.wide * kTile + 2) * (kTile + 2) * kN;
  }
  size_t bytes() const {
    return Workspace::rounded(kPositions * in_step * sizeof(float)) +
           Workspace::rounded(kPositions * out_step * sizeof(float)) +
           Workspace::rounded(kPositions * product_step * sizeof(float)) +
           Workspace::rounded(turned * sizeof(float)) + Workspace::rounded(columns * sizeof(float));
  }
};

// Taps of one output channel and a vector of input channels from the products at all positions.
template <size_t kTile>
HWY_INLINE void transform_taps(const float* products, size_t position_step, float* taps,
                               size_t tap_step) {
  using Map = ToTaps<kTile>;
  const D d;
  V t[3][Map::kFrom];
  HWY_UNROLL(8)
  for (size_t j = 0; j < Map::kFrom; ++j) {
    V m[Map::kFrom];
    V to[3];
    HWY_UNROLL(8)
    for (size_t i = 0; i < Map::kFrom; ++i) {
      m[i] = hn::Load(d, products + (i * Map::kFrom + j) * position_step);
    }
    Map::apply(d, m, to);
    HWY_UNROLL(3)
    for (size_t i = 0; i < 3; ++i) t[i][j] = to[i];
  }
  HWY_UNROLL(3)
  for (size_t i = 0; i < 3; ++i) {
    V to[3];
    Map::apply(d, t[i], to);
    HWY_UNROLL(3)
    for (size_t j = 0; j < 3; ++j) hn::Store(to[j], d, taps + (i * 3 + j) * tap_step);
  }
}

template <size_t kTile>
void weight_gradient(const ConvPlan& p, const Space& space, const float* x, const float* dy,
                     bool add, float* dw) {
  constexpr size_t kPositions = Sizes<kTile>::kPositions;
  const Sizes<kTile> s(p, space);
  Workspace workspace(s.bytes());
  auto* const in_tiles = workspace.take<float>(kPositions * s.in_step);
  auto* const out_tiles = workspace.take<float>(kPositions * s.out_step);
  auto* const products = workspace.take<float>(kPositions * s.product_step);
  auto* const turned = workspace.take<float>(s.turned);
  auto* const columns = workspace.take<float>(s.columns);
  const int64_t none[2] = {0, 0};
  const size_t all = 9 * space.taps;
  s.cut.for_each([&](size_t first, size_t slices, const Tiles& tiles) HWY_ATTR {
    const size_t count = tiles.count();
    const int64_t from = static_cast<int64_t>(first) - space.pad[0];
    transform_slices<kTile, OfInput<kTile>>(
        x, s.in, space.in, space.in_area(), from, slices + space.taps - 1, tiles, space.pad + 1,
        turned, columns, in_tiles, s.in_step, count * s.in_whole, s.in_whole);
    transform_slices<kTile, OfGradient<kTile>>(
        dy, s.out, space.out, space.out_area(), static_cast<int64_t>(first), slices, tiles, none,
        turned, columns, out_tiles, s.out_step, count * s.out_whole, s.out_whole);
    Block<float> block{
        0,    1,    static_cast<ptrdiff_t>(s.out_whole), static_cast<ptrdiff_t>(s.in_whole),
        1.0f, 0.0f, static_cast<ptrdiff_t>(s.in_block),  kN};
    for (size_t o = 0; o < s.out; o += s.out_block) {
      const size_t out_count = std::min(s.out_block, s.out - o);
      for (size_t c = 0; c < s.in; c += s.in_block) {
        const size_t in_count = std::min(s.in_block, s.in_whole - c);
        for (size_t tap = 0; tap < space.taps; ++tap) {
          // The slices of dy that have one of x at this tap.
          const int64_t shift = from + static_cast<int64_t>(tap);
          const Span exist(-shift, space.in[0] - shift, static_cast<int64_t>(slices));
          block.k = exist.count() * count;
          const float* a = out_tiles + exist.first * count * s.out_whole + o;
          const float* b = in_tiles + (exist.first + tap) * count * s.in_whole + c;
          for (size_t q = 0; q < kPositions; ++q) {
            multiply(block, out_count, in_count, a + q * s.out_step, b + q * s.in_step,
                     products + q * s.product_step);
          }
          for (size_t k = 0; k < out_count; ++k) {
            for (size_t i = 0; i < in_count; i += kN) {
              transform_taps<kTile>(products + k * s.in_block + i, s.product_step, turned + i,
                                    s.in_block);
            }
            store_transposed(D(), turned, s.in_block, 9, std::min(in_count, s.in - c),
                             add ? 1.0f : 0.0f, dw + ((o + k) * s.in + c) * all + tap * 9,
                             static_cast<ptrdiff_t>(all));
          }
        }
      }
    }
    add = true;
  });
}

Space space_of(const ConvPlan& p) { return {static_cast<size_t>(p.kernel[0]), p.pad, p.in, p.out}; }

void grad_weight(const ConvPlan& p, const float* x, const float* dy, bool add, float* dw) {
  if (large_tiles(p.out[1], p.out[2])) {
    weight_gradient<4>(p, space_of(p), x, dy, add, dw);
  } else {
    weight_gradient<2>(p, space_of(p), x, dy, add, dw);
  }
}

size_t workspace(const ConvPlan& p) {
  return large_tiles(p.out[1], p.out[2]) ? Sizes<4>(p, space_of(p)).bytes()
                                         : Sizes<2>(p, space_of(p)).bytes();
}

constexpr detail::WinogradWeightsTable kTable{workspace, grad_weight};

}  // namespace

const detail::WinogradWeightsTable* winograd_weights_table() { return &kTable; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(winograd_weights_table);

constinit const Dispatch<detail::WinogradWeightsTable> detail::conv_winograd_weights{
    [] { return HWY_DYNAMIC_DISPATCH(winograd_weights_table)(); }};

}  // namespace ebb::kernels
#endif
