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

// ---- few tiles ----

// With few tiles, products are sums so short that they stay in registers: those of a column of
// positions, from which it is transformed at once.
constexpr size_t kFewRows = HWY_TARGET == HWY_AVX3 ? 4 : 2;  // output channels at a time

struct FewSizes {
  static constexpr size_t kPositions = 36;
  Tiles tiles;
  size_t in, out, in_whole, out_step, turned, columns;

  FewSizes(const ConvPlan& p, const Space& space)
      : tiles(tiles_of(space)),
        in(static_cast<size_t>(p.group_in)),
        out(static_cast<size_t>(p.group_out)),
        in_whole(whole_vectors(in)),
        out_step(apart(whole_vectors(out))),
        turned((tiles.rows * 4 + 2) * (tiles.cols * 4 + 2) * kN),
        columns((tiles.cols * 4 + 2) * 6 * kN) {}
  size_t rows() const { return kPositions * tiles.count(); }
  size_t bytes() const {
    return Workspace::rounded(rows() * in_whole * sizeof(float)) +
           Workspace::rounded(rows() * out_step * sizeof(float)) +
           Workspace::rounded(rows() * out * sizeof(float)) +
           Workspace::rounded(turned * sizeof(float)) +
           Workspace::rounded(columns * sizeof(float)) +
           Workspace::rounded(kFewRows * 9 * kN * sizeof(float));
  }
};

// taps: [kRows][9] of a vector of input channels; x: [36][kTiles] of the same; dy: [kRows][36]
// [kTiles].
template <size_t kTiles, size_t kRows>
HWY_NOINLINE void multiply_taps(const float* x, const float* dy, float* taps) {
  using Map = ToTaps<4>;
  constexpr size_t kRow = FewSizes::kPositions * kTiles;
  const D d;
  HWY_ALIGN float half[kRows][3][6][kN];
  for (size_t j = 0; j < 6; ++j, x += kTiles * kN, dy += kTiles) {
    V m[kRows][6];
    HWY_UNROLL(8)
    for (size_t i = 0; i < 6; ++i) {
      const float* const from = x + i * 6 * kTiles * kN;
      const float* const by = dy + i * 6 * kTiles;
      HWY_UNROLL(8)
      for (size_t t = 0; t < kTiles; ++t) {
        const V v = hn::Load(d, from + t * kN);
        HWY_UNROLL(8)
        for (size_t r = 0; r < kRows; ++r) {
          const V g = hn::Set(d, by[r * kRow + t]);
          m[r][i] = t == 0 ? hn::Mul(v, g) : hn::MulAdd(v, g, m[r][i]);
        }
      }
    }
    HWY_UNROLL(8)
    for (size_t r = 0; r < kRows; ++r) {
      V to[3];
      Map::apply(d, m[r], to);
      HWY_UNROLL(3)
      for (size_t i = 0; i < 3; ++i) hn::Store(to[i], d, half[r][i][j]);
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(3)
    for (size_t i = 0; i < 3; ++i, taps += 3 * kN) {
      V m[6];
      V to[3];
      HWY_UNROLL(8)
      for (size_t j = 0; j < 6; ++j) m[j] = hn::Load(d, half[r][i][j]);
      Map::apply(d, m, to);
      HWY_UNROLL(3)
      for (size_t j = 0; j < 3; ++j) hn::Store(to[j], d, taps + j * kN);
    }
  }
}

template <size_t kTiles>
void weight_gradient_few(const FewSizes& s, const Space& space, const float* x, const float* dy,
                         bool add, float* dw) {
  const size_t rows = s.rows();
  Workspace workspace(s.bytes());
  auto* const in_tiles = workspace.take<float>(rows * s.in_whole);
  auto* const seen = workspace.take<float>(rows * s.out_step);
  auto* const out_tiles = workspace.take<float>(rows * s.out);
  auto* const turned = workspace.take<float>(s.turned);
  auto* const columns = workspace.take<float>(s.columns);
  auto* const taps = workspace.take<float>(kFewRows * 9 * kN);
  const int64_t none[2] = {0, 0};
  for (size_t c = 0; c < s.in; c += kN) {
    transform_slices<4, OfInput<4>>(x + c * space.in_area(), std::min(kN, s.in - c), space.in,
                                    space.in_area(), 0, 1, s.tiles, space.pad + 1, turned, columns,
                                    in_tiles + c * rows, kTiles * kN, 0, kN);
  }
  transform_few<kTiles, OfGradient<4>>(dy, s.out, space.out, s.tiles, none, turned, columns, seen,
                                       s.out_step, out_tiles);
  for (size_t c = 0; c < s.in; c += kN) {
    const size_t channels = std::min(kN, s.in - c);
    for (size_t o = 0; o < s.out;) {
      const bool whole = s.out - o >= kFewRows;
      const size_t count = whole ? kFewRows : 1;
      if (o + 2 * kFewRows <= s.out && channels == kN) {
        prefetch_taps(dw + ((o + kFewRows) * s.in + c) * 9, s.in * 9, kFewRows, kN);
      }
      const float* const from = in_tiles + c * rows;
      const float* const by = out_tiles + o * rows;
      if (whole) {
        multiply_taps<kTiles, kFewRows>(from, by, taps);
      } else {
        multiply_taps<kTiles, 1>(from, by, taps);
      }
      for (size_t r = 0; r < count; ++r, ++o) {
        store_transposed(D(), taps + r * 9 * kN, kN, 9, channels, add ? 1.0f : 0.0f,
                         dw + (o * s.in + c) * 9, 9);
      }
    }
  }
}

void weight_gradient_few(const ConvPlan& p, const Space& space, const float* x, const float* dy,
                         bool add, float* dw) {
  const FewSizes s(p, space);
  switch (s.tiles.count()) {
    case 1:
      return weight_gradient_few<1>(s, space, x, dy, add, dw);
    case 2:
      return weight_gradient_few<2>(s, space, x, dy, add, dw);
    case 3:
      return weight_gradient_few<3>(s, space, x, dy, add, dw);
    default:
      return weight_gradient_few<4>(s, space, x, dy, add, dw);
  }
}

Space space_of(const ConvPlan& p) { return {static_cast<size_t>(p.kernel[0]), p.pad, p.in, p.out}; }

void grad_weight(const ConvPlan& p, const float* x, const float* dy, bool add, float* dw) {
  if (is_few(space_of(p))) {
    weight_gradient_few(p, space_of(p), x, dy, add, dw);
  } else if (large_tiles(p.out[1], p.out[2])) {
    weight_gradient<4>(p, space_of(p), x, dy, add, dw);
  } else {
    weight_gradient<2>(p, space_of(p), x, dy, add, dw);
  }
}

size_t workspace(const ConvPlan& p) {
  if (is_few(space_of(p))) return FewSizes(p, space_of(p)).bytes();
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
