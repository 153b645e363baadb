// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ebb/ops/kernels/conv_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/conv_winograd.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/conv_tiles-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// The way back: from the products to kTile squared outputs of each tile.
template <size_t kTile>
HWY_NOINLINE void transform_back(const float* products, size_t position_step, size_t tile_step,
                                 const Tiles& tiles, const float* bias, size_t channels,
                                 size_t height, size_t width, size_t channel, float* turned,
                                 float* y) {
  using Map = ToOutput<kTile>;
  const D d;
  const size_t top = tiles.row * kTile;
  const size_t left = tiles.col * kTile;
  const size_t high = std::min(tiles.rows * kTile, height - top);
  const size_t wide = std::min(tiles.cols * kTile, width - left);
  const V b = bias == nullptr ? hn::Zero(d)
              : channels < kN ? load_n(d, bias, channels)
                              : hn::LoadU(d, bias);
  for (size_t r = 0; r < tiles.rows; ++r) {
    for (size_t c = 0; c < tiles.cols; ++c, products += tile_step) {
      V t[kTile][Map::kFrom];
      HWY_UNROLL(8)
      for (size_t j = 0; j < Map::kFrom; ++j) {
        V m[Map::kFrom];
        V to[kTile];
        HWY_UNROLL(8)
        for (size_t i = 0; i < Map::kFrom; ++i) {
          m[i] = hn::Load(d, products + (i * Map::kFrom + j) * position_step);
        }
        Map::apply(d, m, to);
        HWY_UNROLL(8)
        for (size_t i = 0; i < kTile; ++i) t[i][j] = to[i];
      }
      const size_t rows = std::min(kTile, high - r * kTile);
      const size_t cols = std::min(kTile, wide - c * kTile);
      float* to = turned + (r * kTile * wide + c * kTile) * kN;
      HWY_UNROLL(8)
      for (size_t i = 0; i < kTile; ++i, to += wide * kN) {
        if (i >= rows) break;
        V out[kTile];
        Map::apply(d, t[i], out);
        HWY_UNROLL(8)
        for (size_t j = 0; j < kTile; ++j) {
          if (j < cols) hn::Store(hn::Add(out[j], b), d, to + j * kN);
        }
      }
    }
  }
  const auto plane = static_cast<ptrdiff_t>(channel);
  y += top * width + left;
  if (wide == width) {
    store_transposed(d, turned, kN, high * wide, channels, 0.0f, y, plane);
  } else {
    for (size_t i = 0; i < high; ++i, y += width) {
      store_transposed(d, turned + i * wide * kN, kN, wide, channels, 0.0f, y, plane);
    }
  }
}

constexpr size_t kWeights = 600 << 10;  // bytes of transformed weights that are kept

// What a forward pass or an input gradient needs, which are the same with other weights.
template <size_t kTile>
struct Sizes {
  static constexpr size_t kPositions = (kTile + 2) * (kTile + 2);
  size_t in, out;  // channels
  size_t in_whole, out_whole;
  size_t taps;   // of the first axis
  size_t block;  // output channels at a time
  size_t depth;  // input channels at a time
  bool kept;     // whether all of the transformed weights are
  Cut cut;
  size_t tile_step, product_step, weight_step;  // between positions
  size_t turned, columns, weights;

  Sizes(const Space& space, int64_t in_channels, int64_t out_channels)
      : in(static_cast<size_t>(in_channels)),
        out(static_cast<size_t>(out_channels)),
        in_whole(whole_vectors(in)),
        out_whole(whole_vectors(out)),
        taps(space.taps),
        block(std::min(out_whole, whole_vectors(kOutBlock))),
        depth(in),
        kept(kPositions * taps * in * out_whole * sizeof(float) <= kWeights),
        cut(kTile, space, kPositions * in_whole, kPositions * block) {
    if (!kept) depth = std::min(in, kDepth);
    tile_step = apart(cut.seen * cut.count() * in_whole);
    product_step = apart(cut.deep * cut.count() * block);
    weight_step = apart(taps * depth * block);
    turned = (cut.high * kTile + 2) * (cut.wide * kTile + 2) * kN;
    columns = std::max((cut.wide * kTile + 2) * (kTile + 2), 9 * taps * depth) * kN;
    weights = kPositions * weight_step * (kept ? (out_whole + block - 1) / block : 1);
  }
  size_t bytes() const {
    return Workspace::rounded(kPositions * tile_step * sizeof(float)) +
           Workspace::rounded(kPositions * product_step * sizeof(float)) +
           Workspace::rounded(weights * sizeof(float)) +
           Workspace::rounded(turned * sizeof(float)) + Workspace::rounded(columns * sizeof(float));
  }
};

// Transformed weights of output channels from `out` on and input channels from `in` on:
// to[position][tap][in][out]. For an input gradient, w is turned by half and its channels change
// places.
template <size_t kTile, bool kGradient>
HWY_NOINLINE void transform_weights(const float* w, const Sizes<kTile>& s, size_t out,
                                    size_t out_count, size_t in, size_t in_count, float* taps,
                                    float* to) {
  constexpr size_t kSide = kTile + 2;
  const D d;
  const size_t all = 9 * s.taps;
  for (size_t o = 0; o < out_count; o += kN, out += kN) {
    const size_t channels = std::min(kN, s.out - std::min(out, s.out));
    if constexpr (!kGradient) {
      pack_transposed(w + (out * s.in + in) * all, static_cast<ptrdiff_t>(s.in * all),
                      in_count * all, channels, kN, taps);
    }
    for (size_t i = 0; i < in_count; ++i) {
      const float* from = taps;
      if constexpr (kGradient) {
        pack_transposed(w + ((in + i) * s.out + out) * all, static_cast<ptrdiff_t>(all), all,
                        channels, kN, taps);
      } else {
        from += i * all * kN;
      }
      for (size_t slice = 0; slice < s.taps; ++slice, from += 9 * kN) {
        const size_t at_slice = kGradient ? s.taps - 1 - slice : slice;
        float* at = to + (at_slice * s.depth + i) * s.block + o;
        // A square of three by three is too uneven for transform_square().
        V t[kSide][3];
        HWY_UNROLL(3)
        for (size_t c = 0; c < 3; ++c) {
          V g[3];
          V column[kSide];
          HWY_UNROLL(3)
          for (size_t r = 0; r < 3; ++r) {
            const size_t tap = r * 3 + c;
            g[r] = hn::Load(d, from + (kGradient ? 8 - tap : tap) * kN);
          }
          OfTaps<kTile>::apply(d, g, column);
          HWY_UNROLL(8)
          for (size_t r = 0; r < kSide; ++r) t[r][c] = column[r];
        }
        HWY_UNROLL(8)
        for (size_t r = 0; r < kSide; ++r) {
          V row[kSide];
          OfTaps<kTile>::apply(d, t[r], row);
          HWY_UNROLL(8)
          for (size_t c = 0; c < kSide; ++c) {
            hn::Store(row[c], d, at + (r * kSide + c) * s.weight_step);
          }
        }
      }
    }
  }
}

// The products of a part at all positions, for `out_count` output channels and the input channels
// from `in` on. Transformed slices of a tile are neighbours, so that an output slice's product over
// the slices that it sees is one of matrices. `first` is the part's first slice.
template <size_t kTile>
HWY_NOINLINE void multiply_slices(const Sizes<kTile>& s, const Space& space, size_t first,
                                  size_t slices, size_t tiles, size_t in, size_t in_count,
                                  size_t out_count, const float* tiles_at, const float* weights,
                                  float* products) {
  Block<float> block{0,
                     static_cast<ptrdiff_t>(s.cut.seen * s.in_whole),
                     1,
                     static_cast<ptrdiff_t>(s.block),
                     1.0f,
                     0.0f,
                     static_cast<ptrdiff_t>(s.block),
                     kN};
  const bool joined = s.depth == s.in_whole;
  for (size_t p = 0; p < Sizes<kTile>::kPositions; ++p) {
    for (size_t z = 0; z < slices; ++z) {
      const int64_t from = static_cast<int64_t>(first + z) - space.pad[0];
      const Span taps(-from, space.in[0] - from, static_cast<int64_t>(s.taps));
      const float* a = tiles_at + p * s.tile_step + (z + taps.first) * s.in_whole + in;
      const float* b = weights + p * s.weight_step + taps.first * s.depth * s.block;
      float* const c = products + p * s.product_step + z * tiles * s.block;
      block.beta = in == 0 ? 0.0f : 1.0f;
      if (joined || taps.count() == 0) {
        block.k = taps.count() * in_count;
        multiply(block, tiles, out_count, a, b, c);
        continue;
      }
      block.k = in_count;
      for (size_t t = taps.first; t < taps.last; ++t) {
        multiply(block, tiles, out_count, a, b, c);
        a += s.in_whole;
        b += s.depth * s.block;
        block.beta = 1.0f;
      }
    }
  }
}

template <size_t kTile, bool kGradient>
void correlate(const Sizes<kTile>& s, const Space& space, const float* x, const float* w,
               const float* bias, float* y) {
  constexpr size_t kPositions = Sizes<kTile>::kPositions;
  Workspace workspace(s.bytes());
  auto* const tiles_at = workspace.take<float>(kPositions * s.tile_step);
  auto* const products = workspace.take<float>(kPositions * s.product_step);
  auto* const weights = workspace.take<float>(s.weights);
  auto* const turned = workspace.take<float>(s.turned);
  auto* const columns = workspace.take<float>(s.columns);
  const auto height = static_cast<size_t>(space.out[1]);
  const auto width = static_cast<size_t>(space.out[2]);
  if (s.kept) {
    float* to = weights;
    for (size_t o = 0; o < s.out; o += s.block, to += kPositions * s.weight_step) {
      transform_weights<kTile, kGradient>(w, s, o, std::min(s.block, s.out_whole - o), 0, s.in,
                                          columns, to);
    }
  }
  s.cut.for_each([&](size_t first, size_t slices, const Tiles& tiles) HWY_ATTR {
    transform_slices<kTile, OfInput<kTile>>(
        x, s.in, space.in, space.in_area(), static_cast<int64_t>(first) - space.pad[0],
        slices + s.taps - 1, tiles, space.pad + 1, turned, columns, tiles_at, s.tile_step,
        s.in_whole, s.cut.seen * s.in_whole);
    const float* kept = weights;
    for (size_t o = 0; o < s.out; o += s.block, kept += kPositions * s.weight_step) {
      const size_t out_count = std::min(s.block, s.out_whole - o);
      for (size_t c = 0; c < s.in; c += s.depth) {
        const size_t in_count = std::min(s.depth, s.in - c);
        if (!s.kept) {
          transform_weights<kTile, kGradient>(w, s, o, out_count, c, in_count, columns, weights);
        }
        multiply_slices(s, space, first, slices, tiles.count(), c, in_count, out_count, tiles_at,
                        s.kept ? kept : weights, products);
      }
      for (size_t z = 0; z < slices; ++z) {
        for (size_t k = 0; k < out_count && o + k < s.out; k += kN) {
          transform_back<kTile>(products + z * tiles.count() * s.block + k, s.product_step, s.block,
                                tiles, bias == nullptr ? nullptr : bias + o + k,
                                std::min(kN, s.out - o - k), height, width, space.out_area(),
                                turned,
                                y + (o + k) * space.out_area() + (first + z) * height * width);
        }
      }
    }
  });
}

// ---- few tiles ----

// With few tiles the weights are transformed for little use. So that takes part in the products:
// a vector of output channels at a time, columns of its taps are transformed for as many input
// channels as stay in the L1 cache, and rows of them in registers, where they meet all tiles at
// once.
constexpr size_t kFewDepth = 16;  // input channels at a time

struct FewSizes {
  static constexpr size_t kPositions = 36;
  Tiles tiles;
  size_t in, in_step, turned, columns, taps;

  FewSizes(const Space& space, int64_t in_channels)
      : tiles(tiles_of(space)),
        in(static_cast<size_t>(in_channels)),
        in_step(apart(whole_vectors(in))),
        turned((tiles.rows * 4 + 2) * (tiles.cols * 4 + 2) * kN),
        columns((tiles.cols * 4 + 2) * 6 * kN),
        taps(9 * kFewDepth * kN) {}
  size_t rows() const { return kPositions * tiles.count(); }
  size_t bytes() const {
    return Workspace::rounded(rows() * in_step * sizeof(float)) +
           Workspace::rounded(rows() * in * sizeof(float)) +
           Workspace::rounded(rows() * kN * sizeof(float)) +
           Workspace::rounded(turned * sizeof(float)) +
           Workspace::rounded(columns * sizeof(float)) + Workspace::rounded(taps * sizeof(float)) +
           Workspace::rounded(2 * taps * sizeof(float));
  }
};

// Positions of a row whose sums the registers hold.
constexpr size_t kFewPositions = HWY_TARGET == HWY_AVX3 ? 6 : 3;

// Adds to the products of a row of positions, from kFirst on. taps: [count][3], columns of which
// have been transformed; tiles: [count][36][kTiles], of one row; products: [6][kTiles].
template <size_t kTiles, size_t kFirst = 0>
HWY_INLINE void multiply_row(size_t count, const float* taps, const float* tiles, float* products) {
  constexpr size_t kCount = kFewPositions;
  const D d;
  V sum[kCount][kTiles];
  HWY_UNROLL(8)
  for (size_t p = 0; p < kCount; ++p) {
    HWY_UNROLL(8)
    for (size_t t = 0; t < kTiles; ++t) sum[p][t] = hn::Zero(d);
  }
  const float* tap = taps;
  const float* tile = tiles + kFirst * kTiles;
  for (size_t i = 0; i < count; ++i, tap += 3 * kN, tile += 36 * kTiles) {
    const V g[3] = {hn::Load(d, tap), hn::Load(d, tap + kN), hn::Load(d, tap + 2 * kN)};
    V row[6];
    OfTapsUnscaled::apply(d, g, row);
    HWY_UNROLL(8)
    for (size_t p = 0; p < kCount; ++p) {
      HWY_UNROLL(8)
      for (size_t t = 0; t < kTiles; ++t) {
        sum[p][t] = hn::MulAdd(row[kFirst + p], hn::Set(d, tile[p * kTiles + t]), sum[p][t]);
      }
    }
  }
  float* to = products + kFirst * kTiles * kN;
  HWY_UNROLL(8)
  for (size_t p = 0; p < kCount; ++p) {
    HWY_UNROLL(8)
    for (size_t t = 0; t < kTiles; ++t, to += kN) {
      hn::Store(hn::Add(sum[p][t], hn::Load(d, to)), d, to);
    }
  }
  if constexpr (kFirst + kCount < 6) {
    multiply_row<kTiles, kFirst + kCount>(count, taps, tiles, products);
  }
}

// Nine taps of a vector of channels that lie behind each other.
HWY_INLINE void turn_taps(const float* w, float* to) {
#if HWY_TARGET == HWY_SCALAR
  pack_transposed(w, 9, 9, kN, kN, to);
#else
  const D d;
  V taps[4];
  for (size_t first : {size_t{0}, size_t{5}, size_t{4}}) {
    load_columns(d, w + first, 9, taps);
    HWY_UNROLL(4)
    for (size_t q = 0; q < 4; ++q) hn::Store(taps[q], d, to + (first + q) * kN);
  }
#endif
}

// Columns of taps, transformed: to[row][count][column].
template <bool kGradient>
HWY_NOINLINE void transform_columns(const float* w, const FewSizes& s, size_t out_channels,
                                    size_t out, size_t in, size_t count, float* taps, float* to) {
  const D d;
  const size_t channels = std::min(kN, out_channels - out);
  if constexpr (!kGradient) {
    pack_transposed(w + (out * s.in + in) * 9, static_cast<ptrdiff_t>(s.in * 9), count * 9,
                    channels, kN, taps);
  }
  const size_t row_step = count * 3 * kN;
  for (size_t i = 0; i < count; ++i, to += 3 * kN) {
    if constexpr (kGradient) {
      const float* const from = w + ((in + i) * out_channels + out) * 9;
      if (channels == kN) {
        turn_taps(from, taps);
      } else {
        pack_transposed(from, 9, 9, channels, kN, taps);
      }
    }
    HWY_UNROLL(3)
    for (size_t c = 0; c < 3; ++c) {
      V g[3];
      V column[6];
      HWY_UNROLL(3)
      for (size_t r = 0; r < 3; ++r) {
        const size_t tap = r * 3 + c;
        g[r] = hn::Load(d, taps + (kGradient ? 8 - tap : tap) * kN);
      }
      OfTapsUnscaled::apply(d, g, column);
      HWY_UNROLL(8)
      for (size_t r = 0; r < 6; ++r) hn::Store(column[r], d, to + r * row_step + c * kN);
    }
    if constexpr (!kGradient) taps += 9 * kN;
  }
}

template <size_t kTiles, bool kGradient>
void correlate_few(const FewSizes& s, const Space& space, size_t out, const float* x,
                   const float* w, const float* bias, float* y) {
  const D d;
  const size_t rows = s.rows();
  Workspace workspace(s.bytes());
  auto* const seen = workspace.take<float>(rows * s.in_step);
  auto* const tiles = workspace.take<float>(rows * s.in);
  auto* const products = workspace.take<float>(rows * kN);
  auto* const turned = workspace.take<float>(s.turned);
  auto* const columns = workspace.take<float>(s.columns);
  auto* const taps = workspace.take<float>(s.taps);
  auto* const transformed = workspace.take<float>(2 * s.taps);
  transform_few<kTiles, OfInput<4>>(x, s.in, space.in, s.tiles, space.pad + 1, turned, columns,
                                    seen, s.in_step, tiles);
  HWY_ALIGN float scales[FewSizes::kPositions * kTiles];
  for (size_t i = 0; i < rows; ++i) {
    const size_t p = i / kTiles;
    scales[i] = static_cast<float>(kTapScales[p / 6] * kTapScales[p % 6]);
  }
  for (size_t i = 0; i < s.in; ++i) {
    float* const tile = tiles + i * rows;
    map<1>(d, rows, tile, [&](auto t, size_t k) HWY_ATTR {
      return hn::Mul(hn::LoadU(t, tile + k), hn::LoadU(t, scales + k));
    });
  }
  const auto height = static_cast<size_t>(space.out[1]);
  const auto width = static_cast<size_t>(space.out[2]);
  for (size_t o = 0; o < out; o += kN) {
    std::fill_n(products, rows * kN, 0.0f);
    for (size_t c = 0; c < s.in; c += kFewDepth) {
      const size_t count = std::min(kFewDepth, s.in - c);
      transform_columns<kGradient>(w, s, out, o, c, count, taps, transformed);
      // What comes next, where there is as much of it.
      const bool more = c + 2 * kFewDepth <= s.in;
      const size_t next_c = more ? c + kFewDepth : 0;
      const size_t next_o = more ? o : o + kN;
      const bool fetch = next_o + kN <= out && s.in >= kFewDepth;
      for (size_t r = 0; r < 6; ++r) {
        if (fetch && r < 4) {
          constexpr size_t kRows = kGradient ? kFewDepth : kN;
          constexpr size_t kColumns = kGradient ? kN : kFewDepth;
          const size_t row = (kGradient ? out : s.in) * 9;
          const float* next =
              kGradient ? w + (next_c * out + next_o) * 9 : w + (next_o * s.in + next_c) * 9;
          prefetch_taps(next + r * (kRows / 4) * row, row, kRows / 4, kColumns);
        }
        multiply_row<kTiles>(count, transformed + r * count * 3 * kN,
                             tiles + c * rows + r * 6 * kTiles, products + r * 6 * kTiles * kN);
      }
    }
    transform_back<4>(products, kTiles * kN, kN, s.tiles, bias == nullptr ? nullptr : bias + o,
                      std::min(kN, out - o), height, width, space.out_area(), turned,
                      y + o * space.out_area());
  }
}

template <bool kGradient>
void correlate_few(const Space& space, int64_t in, int64_t out_channels, const float* x,
                   const float* w, const float* bias, float* y) {
  const FewSizes s(space, in);
  const auto out = static_cast<size_t>(out_channels);
  switch (s.tiles.count()) {
    case 1:
      return correlate_few<1, kGradient>(s, space, out, x, w, bias, y);
    case 2:
      return correlate_few<2, kGradient>(s, space, out, x, w, bias, y);
    case 3:
      return correlate_few<3, kGradient>(s, space, out, x, w, bias, y);
    default:
      return correlate_few<4, kGradient>(s, space, out, x, w, bias, y);
  }
}

template <bool kGradient>
void correlate(const Space& space, int64_t in, int64_t out, const float* x, const float* w,
               const float* bias, float* y) {
  if (is_few(space)) {
    correlate_few<kGradient>(space, in, out, x, w, bias, y);
  } else if (large_tiles(space.out[1], space.out[2])) {
    correlate<4, kGradient>(Sizes<4>(space, in, out), space, x, w, bias, y);
  } else {
    correlate<2, kGradient>(Sizes<2>(space, in, out), space, x, w, bias, y);
  }
}

Space forward_space(const ConvPlan& p) {
  return {static_cast<size_t>(p.kernel[0]), p.pad, p.in, p.out};
}
// What follows the gradient of y takes `pad`'s place as what goes before it.
Space backward_space(const ConvPlan& p, int64_t (&pad)[3]) {
  for (int d = 0; d < 3; ++d) pad[d] = p.kernel[d] - 1 - p.pad[d];
  return {static_cast<size_t>(p.kernel[0]), pad, p.out, p.in};
}

void forward(const ConvPlan& p, const float* x, const float* w, const float* bias, float* y) {
  correlate<false>(forward_space(p), p.group_in, p.group_out, x, w, bias, y);
}

void grad_input(const ConvPlan& p, const float* dy, const float* w, float* dx) {
  int64_t pad[3];
  correlate<true>(backward_space(p, pad), p.group_out, p.group_in, dy, w, nullptr, dx);
}

size_t workspace(const ConvPlan& p, bool backward) {
  int64_t pad[3];
  const Space space = backward ? backward_space(p, pad) : forward_space(p);
  const int64_t in = backward ? p.group_out : p.group_in;
  const int64_t out = backward ? p.group_in : p.group_out;
  if (is_few(space)) return FewSizes(space, in).bytes();
  return large_tiles(space.out[1], space.out[2]) ? Sizes<4>(space, in, out).bytes()
                                                 : Sizes<2>(space, in, out).bytes();
}

size_t depth(const ConvPlan& p) {
  const Space space = forward_space(p);
  if (is_few(space)) return kFewDepth;
  return large_tiles(space.out[1], space.out[2]) ? Sizes<4>(space, p.group_in, p.group_out).depth
                                                 : Sizes<2>(space, p.group_in, p.group_out).depth;
}

constexpr detail::WinogradTable kTable{workspace, depth, forward, grad_input};

}  // namespace

const detail::WinogradTable* winograd_table() { return &kTable; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(winograd_table);

constinit const Dispatch<detail::WinogradTable> detail::conv_winograd{
    [] { return HWY_DYNAMIC_DISPATCH(winograd_table)(); }};

}  // namespace ebb::kernels
#endif
