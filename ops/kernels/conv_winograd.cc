// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ebb/ops/kernels/conv_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/conv_winograd.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/blas_micro-inl.h"
#include "ebb/ops/kernels/blas_pack-inl.h"
#include "ebb/ops/kernels/conv_winograd-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

using detail::ConvPlan;
using detail::Workspace;

// Vectors are of channels: `kN` of them side by side, for which images are turned on the way in and
// out. So no lane is idle however small an image is, and tiles may lie anywhere in it.
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr size_t kN = kLanes<D>;

constexpr size_t whole_vectors(size_t channels) { return (channels + kN - 1) / kN * kN; }

// A rectangle of tiles.
struct Tiles {
  size_t row, col;    // of the first
  size_t rows, cols;  // how many
  size_t count() const { return rows * cols; }
};

// An image of a vector of channels: where it is stored, and how many of the vector exist.
struct Image {
  const float* data;
  ptrdiff_t height, width;
  size_t channels;
};

// The transform of what the tiles see, of Map::kFrom squared elements each at distances of kTile,
// the first of the image's tiles `pad` above and left of the image:
//   to[position * position_step + tile * tile_step], tiles row by row.
template <size_t kTile, class Map>
HWY_NOINLINE void transform_tiles(const Image& image, const Tiles& tiles, const int64_t pad[2],
                                  float* turned, float* columns, float* to, size_t position_step,
                                  size_t tile_step) {
  constexpr size_t kFrom = Map::kFrom;
  constexpr size_t kTo = Map::kTo;
  const D d;
  const size_t width = kTile * (tiles.cols - 1) + kFrom;
  const auto top = static_cast<ptrdiff_t>(tiles.row * kTile) - pad[0];
  const auto left = static_cast<ptrdiff_t>(tiles.col * kTile) - pad[1];
  const auto bottom = top + static_cast<ptrdiff_t>(kTile * (tiles.rows - 1) + kFrom);
  const auto right = left + static_cast<ptrdiff_t>(width);
  // What there is of that rectangle in the image.
  const ptrdiff_t first_row = std::clamp<ptrdiff_t>(top, 0, image.height);
  const ptrdiff_t last_row = std::clamp(bottom, first_row, image.height);
  const ptrdiff_t first_col = std::clamp<ptrdiff_t>(left, 0, image.width);
  const ptrdiff_t last_col = std::clamp(right, first_col, image.width);
  const auto wide = static_cast<size_t>(last_col - first_col);
  const auto high = static_cast<size_t>(last_row - first_row);
  const float* from = image.data + first_row * image.width + first_col;
  const ptrdiff_t plane = image.height * image.width;
  if (wide == static_cast<size_t>(image.width)) {
    pack_transposed(from, plane, high * wide, image.channels, kN, turned);
  } else {
    for (size_t i = 0; i < high; ++i, from += image.width) {
      pack_transposed(from, plane, wide, image.channels, kN, turned + i * wide * kN);
    }
  }
  HWY_ALIGN static constexpr float kZeros[kN] = {};
  for (size_t r = 0; r < tiles.rows; ++r) {
    // Columns first, those that two tiles see once for both.
    const float* rows[kFrom];
    size_t step[kFrom];
    for (size_t i = 0; i < kFrom; ++i) {
      const ptrdiff_t at = top + static_cast<ptrdiff_t>(r * kTile + i);
      const bool inside = at >= first_row && at < last_row;
      rows[i] = inside ? turned + static_cast<size_t>(at - first_row) * wide * kN : kZeros;
      step[i] = inside ? kN : 0;
    }
    float* column = columns;
    for (ptrdiff_t j = left; j < right; ++j, column += kTo * kN) {
      if (j < first_col || j >= last_col) {
        for (size_t i = 0; i < kTo; ++i) hn::Store(hn::Zero(d), d, column + i * kN);
        continue;
      }
      V x[kFrom];
      V t[kTo];
      HWY_UNROLL(8)
      for (size_t i = 0; i < kFrom; ++i) {
        x[i] = hn::Load(d, rows[i]);
        rows[i] += step[i];
      }
      Map::apply(d, x, t);
      HWY_UNROLL(8)
      for (size_t i = 0; i < kTo; ++i) hn::Store(t[i], d, column + i * kN);
    }
    for (size_t c = 0; c < tiles.cols; ++c, to += tile_step) {
      const float* tile = columns + c * kTile * kTo * kN;
      HWY_UNROLL(8)
      for (size_t i = 0; i < kTo; ++i) {
        V x[kFrom];
        V t[kTo];
        HWY_UNROLL(8)
        for (size_t j = 0; j < kFrom; ++j) x[j] = hn::Load(d, tile + (j * kTo + i) * kN);
        Map::apply(d, x, t);
        HWY_UNROLL(8)
        for (size_t j = 0; j < kTo; ++j) {
          hn::Store(t[j], d, to + (i * kTo + j) * position_step);
        }
      }
    }
  }
}

// The way back: from the products to kTile squared outputs of each tile.
template <size_t kTile>
HWY_NOINLINE void transform_back(const float* products, size_t position_step, size_t tile_step,
                                 const Tiles& tiles, const float* bias, size_t channels,
                                 size_t height, size_t width, float* turned, float* y) {
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
  const auto plane = static_cast<ptrdiff_t>(height * width);
  y += top * width + left;
  if (wide == width) {
    store_transposed(d, turned, kN, high * wide, channels, 0.0f, y, plane);
  } else {
    for (size_t i = 0; i < high; ++i, y += width) {
      store_transposed(d, turned + i * wide * kN, kN, wide, channels, 0.0f, y, plane);
    }
  }
}

// ---- products ----

// C = A B + beta C at every position, with as many columns as fill whole vectors.
template <size_t kPositions>
HWY_NOINLINE void multiply(Block<float> block, size_t rows, size_t cols, const float* a,
                           size_t a_step, const float* b, size_t b_step, float* c, size_t c_step) {
  for (size_t p = 0; p < kPositions; ++p, a += a_step, b += b_step, c += c_step) {
    for (size_t j = 0; j < cols;) {
      const bool two = cols - j >= 2 * kN;
      const MicroFn<float>* fn =
          two ? kMicros<D, 2, false, kMaxRows2>.data() : kMicros<D, 1, false, kMaxRows1>.data();
      Heights heights = Heights::cut(rows, two ? kMaxRows2 : kMaxRows1);
      for (size_t i = 0; i < rows;) {
        const size_t height = heights.next();
        fn[height - 1](block, a + static_cast<ptrdiff_t>(i) * block.a_row, b + j,
                       c + static_cast<ptrdiff_t>(i) * block.ldc + j);
        i += height;
      }
      j += two ? 2 * kN : kN;
    }
  }
}

// Matrices of neighbouring positions are a cache line more apart than they are large: at a power of
// two, all of a tile's positions would fall into the same few sets of the cache.
constexpr size_t apart(size_t elements) { return elements + 64 / sizeof(float); }

constexpr size_t kTransformed = 600 << 10;  // bytes of transformed tiles and products at a time
constexpr size_t kLeastTiles = 8;
constexpr size_t kWeights = 600 << 10;  // bytes of transformed weights that are kept
constexpr size_t kOutBlock = 32;        // output channels at a time
constexpr size_t kDepth = 64;           // input channels at a time

// How the tiles of an image are cut into rectangles of at most `most`.
struct Cut {
  size_t rows, cols;  // of tiles in the image
  size_t high, wide;  // of a rectangle
  Cut(size_t tile, int64_t height, int64_t width, size_t most)
      : rows((static_cast<size_t>(height) + tile - 1) / tile),
        cols((static_cast<size_t>(width) + tile - 1) / tile) {
    const auto even = [](size_t n, size_t part) {
      const size_t parts = (n + part - 1) / part;
      return (n + parts - 1) / parts;
    };
    wide = even(cols, std::min(cols, most));
    high = even(rows, std::clamp<size_t>(most / wide, 1, rows));
  }
  size_t count() const { return high * wide; }
  template <class F>
  void for_each(const F& f) const {
    for (size_t r = 0; r < rows; r += high) {
      for (size_t c = 0; c < cols; c += wide) {
        f(Tiles{r, c, std::min(high, rows - r), std::min(wide, cols - c)});
      }
    }
  }
};

// What a forward pass or an input gradient needs, which are the same with other weights.
template <size_t kTile>
struct Sizes {
  static constexpr size_t kPositions = (kTile + 2) * (kTile + 2);
  size_t in, out;  // channels
  size_t in_whole, out_whole;
  size_t block;  // output channels at a time
  size_t depth;  // input channels at a time
  bool kept;     // whether all of the transformed weights are
  Cut cut;
  size_t tile_step, product_step, weight_step;  // between positions
  size_t turned, columns, weights;

  Sizes(int64_t in_channels, int64_t out_channels, int64_t height, int64_t width)
      : in(static_cast<size_t>(in_channels)),
        out(static_cast<size_t>(out_channels)),
        in_whole(whole_vectors(in)),
        out_whole(whole_vectors(out)),
        block(std::min(out_whole, whole_vectors(kOutBlock))),
        depth(in),
        kept(kPositions * in * out_whole * sizeof(float) <= kWeights),
        cut(kTile, height, width,
            std::max(kLeastTiles, kTransformed / sizeof(float) / kPositions / (in_whole + block))) {
    if (!kept) depth = std::min(in, kDepth);
    tile_step = apart(cut.count() * in_whole);
    product_step = apart(cut.count() * block);
    weight_step = apart(depth * block);
    turned = (cut.high * kTile + 2) * (cut.wide * kTile + 2) * kN;
    columns = (cut.wide * kTile + 2) * (kTile + 2) * kN;
    weights = kPositions * weight_step * (kept ? (out_whole + block - 1) / block : 1);
  }
  size_t bytes() const {
    return Workspace::rounded(kPositions * tile_step * sizeof(float)) +
           Workspace::rounded(kPositions * product_step * sizeof(float)) +
           Workspace::rounded(weights * sizeof(float)) +
           Workspace::rounded(turned * sizeof(float)) +
           Workspace::rounded(std::max(columns, 9 * depth * kN) * sizeof(float));
  }
};

// Transformed weights of output channels from `out` on and input channels from `in` on:
// to[position][in][out]. For an input gradient, w is turned by half and its channels change places.
template <size_t kTile, bool kGradient>
HWY_NOINLINE void transform_weights(const float* w, const Sizes<kTile>& s, size_t out,
                                    size_t out_count, size_t in, size_t in_count, float* taps,
                                    float* to) {
  constexpr size_t kSide = kTile + 2;
  const D d;
  for (size_t o = 0; o < out_count; o += kN, out += kN) {
    const size_t channels = std::min(kN, s.out - std::min(out, s.out));
    if constexpr (!kGradient) {
      pack_transposed(w + (out * s.in + in) * 9, static_cast<ptrdiff_t>(s.in * 9), in_count * 9,
                      channels, kN, taps);
    }
    for (size_t i = 0; i < in_count; ++i) {
      const float* from = taps;
      if constexpr (kGradient) {
        pack_transposed(w + ((in + i) * s.out + out) * 9, 9, 9, channels, kN, taps);
      } else {
        from += i * 9 * kN;
      }
      float* at = to + i * s.block + o;
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

template <size_t kTile, bool kGradient>
void correlate(const Sizes<kTile>& s, const int64_t pad[2], const float* x, int64_t height,
               int64_t width, const float* w, const float* bias, float* y, int64_t out_height,
               int64_t out_width) {
  constexpr size_t kPositions = Sizes<kTile>::kPositions;
  Workspace workspace(s.bytes());
  auto* const tiles_at = workspace.take<float>(kPositions * s.tile_step);
  auto* const products = workspace.take<float>(kPositions * s.product_step);
  auto* const weights = workspace.take<float>(s.weights);
  auto* const turned = workspace.take<float>(s.turned);
  auto* const columns = workspace.take<float>(std::max(s.columns, 9 * s.depth * kN));
  const auto out_area = static_cast<size_t>(out_height * out_width);
  if (s.kept) {
    float* to = weights;
    for (size_t o = 0; o < s.out; o += s.block, to += kPositions * s.weight_step) {
      transform_weights<kTile, kGradient>(w, s, o, std::min(s.block, s.out_whole - o), 0, s.in,
                                          columns, to);
    }
  }
  s.cut.for_each([&](const Tiles& tiles) HWY_ATTR {
    for (size_t c = 0; c < s.in; c += kN) {
      const Image image{x + static_cast<int64_t>(c) * height * width, height, width,
                        std::min(kN, s.in - c)};
      transform_tiles<kTile, OfInput<kTile>>(image, tiles, pad, turned, columns, tiles_at + c,
                                             s.tile_step, s.in_whole);
    }
    const float* kept = weights;
    for (size_t o = 0; o < s.out; o += s.block, kept += kPositions * s.weight_step) {
      const size_t out_count = std::min(s.block, s.out_whole - o);
      for (size_t c = 0; c < s.in; c += s.depth) {
        const size_t in_count = std::min(s.depth, s.in - c);
        if (!s.kept) {
          transform_weights<kTile, kGradient>(w, s, o, out_count, c, in_count, columns, weights);
        }
        const Block<float> block{in_count,
                                 static_cast<ptrdiff_t>(s.in_whole),
                                 1,
                                 static_cast<ptrdiff_t>(s.block),
                                 1.0f,
                                 c == 0 ? 0.0f : 1.0f,
                                 static_cast<ptrdiff_t>(s.block),
                                 kN};
        multiply<kPositions>(block, tiles.count(), out_count, tiles_at + c, s.tile_step,
                             s.kept ? kept : weights, s.weight_step, products, s.product_step);
      }
      for (size_t k = 0; k < out_count && o + k < s.out; k += kN) {
        transform_back<kTile>(products + k, s.product_step, s.block, tiles,
                              bias == nullptr ? nullptr : bias + o + k, std::min(kN, s.out - o - k),
                              static_cast<size_t>(out_height), static_cast<size_t>(out_width),
                              turned, y + (o + k) * out_area);
      }
    }
  });
}

// ---- weight gradient ----

template <size_t kTile>
struct GradientSizes {
  static constexpr size_t kPositions = (kTile + 2) * (kTile + 2);
  size_t in, out, in_whole, out_whole;
  size_t in_block, out_block;
  Cut cut;
  size_t in_step, out_step, product_step;
  size_t turned, columns;

  explicit GradientSizes(const ConvPlan& p)
      : in(static_cast<size_t>(p.group_in)),
        out(static_cast<size_t>(p.group_out)),
        in_whole(whole_vectors(in)),
        out_whole(whole_vectors(out)),
        in_block(std::min(in_whole, whole_vectors(kDepth))),
        out_block(std::min(out_whole, whole_vectors(kOutBlock))),
        cut(kTile, p.out[1], p.out[2],
            std::max(kLeastTiles,
                     kTransformed / sizeof(float) / kPositions / (in_whole + out_whole))) {
    in_step = apart(cut.count() * in_whole);
    out_step = apart(cut.count() * out_whole);
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
void weight_gradient(const ConvPlan& p, const float* x, const float* dy, bool add, float* dw) {
  using Size = GradientSizes<kTile>;
  constexpr size_t kPositions = Size::kPositions;
  const Size s(p);
  Workspace workspace(s.bytes());
  auto* const in_tiles = workspace.take<float>(kPositions * s.in_step);
  auto* const out_tiles = workspace.take<float>(kPositions * s.out_step);
  auto* const products = workspace.take<float>(kPositions * s.product_step);
  auto* const turned = workspace.take<float>(s.turned);
  auto* const columns = workspace.take<float>(s.columns);
  const int64_t none[2] = {0, 0};
  s.cut.for_each([&](const Tiles& tiles) HWY_ATTR {
    for (size_t c = 0; c < s.in; c += kN) {
      const Image image{x + static_cast<int64_t>(c) * p.in_area, p.in[1], p.in[2],
                        std::min(kN, s.in - c)};
      transform_tiles<kTile, OfInput<kTile>>(image, tiles, p.pad + 1, turned, columns, in_tiles + c,
                                             s.in_step, s.in_whole);
    }
    for (size_t c = 0; c < s.out; c += kN) {
      const Image image{dy + static_cast<int64_t>(c) * p.out_area, p.out[1], p.out[2],
                        std::min(kN, s.out - c)};
      transform_tiles<kTile, OfGradient<kTile>>(image, tiles, none, turned, columns, out_tiles + c,
                                                s.out_step, s.out_whole);
    }
    const Block<float> block{tiles.count(),
                             1,
                             static_cast<ptrdiff_t>(s.out_whole),
                             static_cast<ptrdiff_t>(s.in_whole),
                             1.0f,
                             0.0f,
                             static_cast<ptrdiff_t>(s.in_block),
                             kN};
    const float beta = add ? 1.0f : 0.0f;
    for (size_t o = 0; o < s.out; o += s.out_block) {
      const size_t out_count = std::min(s.out_block, s.out - o);
      for (size_t c = 0; c < s.in; c += s.in_block) {
        const size_t in_count = std::min(s.in_block, s.in_whole - c);
        multiply<kPositions>(block, out_count, in_count, out_tiles + o, s.out_step, in_tiles + c,
                             s.in_step, products, s.product_step);
        for (size_t k = 0; k < out_count; ++k) {
          for (size_t i = 0; i < in_count; i += kN) {
            transform_taps<kTile>(products + k * s.in_block + i, s.product_step, turned + i,
                                  s.in_block);
          }
          store_transposed(D(), turned, s.in_block, 9, std::min(in_count, s.in - c), beta,
                           dw + ((o + k) * s.in + c) * 9, 9);
        }
      }
    }
    add = true;
  });
}

// ---- which tile ----

// Tiles of 4x4 take 36 products for 16 outputs, those of 2x2 16 for 4. Small images leave part of
// their tiles empty.
bool large_tiles(int64_t height, int64_t width) {
  const auto products = [&](int64_t tile, int64_t each) {
    return (height + tile - 1) / tile * ((width + tile - 1) / tile) * each;
  };
  return products(4, 36) <= products(2, 16);
}

template <bool kGradient>
void correlate(int64_t in, int64_t out, const int64_t pad[2], const float* x, int64_t height,
               int64_t width, const float* w, const float* bias, float* y, int64_t out_height,
               int64_t out_width) {
  const auto run = [&](const auto& sizes) {
    correlate<std::decay_t<decltype(sizes)>::kPositions == 36 ? 4 : 2, kGradient>(
        sizes, pad, x, height, width, w, bias, y, out_height, out_width);
  };
  if (large_tiles(out_height, out_width)) {
    run(Sizes<4>(in, out, out_height, out_width));
  } else {
    run(Sizes<2>(in, out, out_height, out_width));
  }
}

void forward(const ConvPlan& p, const float* x, const float* w, const float* bias, float* y) {
  correlate<false>(p.group_in, p.group_out, p.pad + 1, x, p.in[1], p.in[2], w, bias, y, p.out[1],
                   p.out[2]);
}

void grad_input(const ConvPlan& p, const float* dy, const float* w, float* dx) {
  const int64_t pad[2] = {2 - p.pad[1], 2 - p.pad[2]};
  correlate<true>(p.group_out, p.group_in, pad, dy, p.out[1], p.out[2], w, nullptr, dx, p.in[1],
                  p.in[2]);
}

void grad_weight(const ConvPlan& p, const float* x, const float* dy, bool add, float* dw) {
  if (large_tiles(p.out[1], p.out[2])) {
    weight_gradient<4>(p, x, dy, add, dw);
  } else {
    weight_gradient<2>(p, x, dy, add, dw);
  }
}

size_t workspace(const ConvPlan& p, ConvPass pass) {
  const auto bytes = [](int64_t in, int64_t out, int64_t height, int64_t width) {
    return large_tiles(height, width) ? Sizes<4>(in, out, height, width).bytes()
                                      : Sizes<2>(in, out, height, width).bytes();
  };
  switch (pass) {
    case ConvPass::kForward:
      return bytes(p.group_in, p.group_out, p.out[1], p.out[2]);
    case ConvPass::kGradInput:
      return bytes(p.group_out, p.group_in, p.in[1], p.in[2]);
    case ConvPass::kGradWeight:
      break;
  }
  return large_tiles(p.out[1], p.out[2]) ? GradientSizes<4>(p).bytes()
                                         : GradientSizes<2>(p).bytes();
}

constexpr detail::WinogradTable kTable{workspace, forward, grad_input, grad_weight};

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
