// SPDX-License-Identifier: Apache-2.0
// What the passes of Winograd's convolution share; compiled once for each instruction set, so the
// include guard toggles instead of staying set.
#if defined(EBB_OPS_KERNELS_CONV_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_CONV_TILES_INL_H_
#undef EBB_OPS_KERNELS_CONV_TILES_INL_H_
#else
#define EBB_OPS_KERNELS_CONV_TILES_INL_H_
#endif

#include <algorithm>

#include "ebb/ops/kernels/blas_micro-inl.h"
#include "ebb/ops/kernels/blas_pack-inl.h"
#include "ebb/ops/kernels/conv_plan.h"
#include "ebb/ops/kernels/conv_winograd-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/cache_control.h"
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

// A slice of an image of a vector of channels: where it is stored, and how many of the vector
// exist.
struct Image {
  const float* data;
  ptrdiff_t height, width;
  ptrdiff_t channel;  // elements from one channel to the next
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
  if (wide == static_cast<size_t>(image.width)) {
    pack_transposed(from, image.channel, high * wide, image.channels, kN, turned);
  } else {
    for (size_t i = 0; i < high; ++i, from += image.width) {
      pack_transposed(from, image.channel, wide, image.channels, kN, turned + i * wide * kN);
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

// ---- products ----

// C = A B + beta C, with as many columns as fill whole vectors.
HWY_INLINE void multiply(const Block<float>& block, size_t rows, size_t cols, const float* a,
                         const float* b, float* c) {
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

// Matrices of neighbouring positions are a cache line more apart than they are large: at a power of
// two, all of a tile's positions would fall into the same few sets of the cache.
constexpr size_t apart(size_t elements) { return elements + 64 / sizeof(float); }

constexpr size_t kTransformed = 600 << 10;  // bytes of transformed tiles and products at a time
constexpr size_t kLeastTiles = 8;
constexpr size_t kOutBlock = 32;  // output channels at a time
constexpr size_t kDepth = 64;     // input channels at a time

// What a pass reads and writes: three axes, of which the first has taps of its own and its slices
// are transformed one by one.
struct Space {
  size_t taps;  // of the first axis
  const int64_t* pad;
  const int64_t* in;
  const int64_t* out;
  size_t in_area() const { return static_cast<size_t>(in[0] * in[1] * in[2]); }
  size_t out_area() const { return static_cast<size_t>(out[0] * out[1] * out[2]); }
};

// What there is in [0, size) of the indices from `from` to before `to`.
struct Span {
  Span(int64_t from, int64_t to, int64_t size)
      : first(static_cast<size_t>(std::clamp<int64_t>(from, 0, size))),
        last(std::max(first, static_cast<size_t>(std::clamp<int64_t>(to, 0, size)))) {}
  size_t count() const { return last - first; }
  size_t first, last;
};

// How the output is cut: into runs of slices, and these into rectangles of tiles.
struct Cut {
  size_t slices, rows, cols;  // of the output; rows and columns of tiles
  size_t deep, high, wide;    // of a part
  size_t seen;                // slices of the input that a part sees

  // `in` and `out`: elements of a tile of a slice at all positions.
  Cut(size_t tile, const Space& space, size_t in, size_t out)
      : slices(static_cast<size_t>(space.out[0])),
        rows((static_cast<size_t>(space.out[1]) + tile - 1) / tile),
        cols((static_cast<size_t>(space.out[2]) + tile - 1) / tile),
        deep(slices) {
    const auto even = [](size_t n, size_t part) {
      const size_t parts = (n + part - 1) / part;
      return (n + parts - 1) / parts;
    };
    const auto most = [&] {
      return kTransformed / sizeof(float) / ((deep + space.taps - 1) * in + deep * out);
    };
    while (deep > 1 && most() < std::min(kLeastTiles, rows * cols)) deep = even(slices, deep / 2);
    const size_t tiles = std::max(kLeastTiles, most());
    wide = even(cols, std::min(cols, tiles));
    high = even(rows, std::clamp<size_t>(tiles / wide, 1, rows));
    seen = deep + space.taps - 1;
  }
  size_t count() const { return high * wide; }
  // f(first slice, slices, tiles) for all parts.
  template <class F>
  void for_each(const F& f) const {
    for (size_t z = 0; z < slices; z += deep) {
      const size_t n = std::min(deep, slices - z);
      for (size_t r = 0; r < rows; r += high) {
        for (size_t c = 0; c < cols; c += wide) {
          f(z, n, Tiles{r, c, std::min(high, rows - r), std::min(wide, cols - c)});
        }
      }
    }
  }
};

// The transforms of all slices of x that a part sees, of `channels` channels: those that do not
// exist are left out. to[position][...], tiles and slices at the distances that are told.
template <size_t kTile, class Map>
HWY_INLINE void transform_slices(const float* x, size_t channels, const int64_t* size,
                                 size_t channel, int64_t first_slice, size_t slices,
                                 const Tiles& tiles, const int64_t* pad, float* turned,
                                 float* columns, float* to, size_t position_step, size_t slice_step,
                                 size_t tile_step) {
  const auto area = static_cast<size_t>(size[1] * size[2]);
  const Span exist(-first_slice, size[0] - first_slice, static_cast<int64_t>(slices));
  for (size_t z = exist.first; z < exist.last; ++z) {
    const float* const slice =
        x + static_cast<size_t>(first_slice + static_cast<int64_t>(z)) * area;
    for (size_t c = 0; c < channels; c += kN) {
      const Image image{slice + c * channel, size[1], size[2], static_cast<ptrdiff_t>(channel),
                        std::min(kN, channels - c)};
      transform_tiles<kTile, Map>(image, tiles, pad, turned, columns, to + z * slice_step + c,
                                  position_step, tile_step);
    }
  }
}

// Tiles of 4x4 take 36 products for 16 outputs, those of 2x2 16 for 4. Small images leave part of
// their tiles empty.
inline bool large_tiles(int64_t height, int64_t width) {
  const auto products = [&](int64_t tile, int64_t each) {
    return (height + tile - 1) / tile * ((width + tile - 1) / tile) * each;
  };
  return products(4, 36) <= products(2, 16);
}

// Few tiles take ways of their own, for which there are to be registers enough.
inline bool is_few(const Space& space) {
  constexpr bool kHasFew = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2;
  if (!kHasFew || space.taps != 1 || space.in[0] != 1 || space.out[0] != 1 || space.pad[0] != 0) {
    return false;
  }
  constexpr int64_t kMost = 4;
  if (space.out[1] > 4 * kMost || space.out[2] > 4 * kMost) return false;
  return (space.out[1] + 3) / 4 * ((space.out[2] + 3) / 4) <= kMost &&
         large_tiles(space.out[1], space.out[2]);
}

// All tiles of 4x4.
inline Tiles tiles_of(const Space& space) {
  return {0, 0, static_cast<size_t>(space.out[1] + 3) / 4,
          static_cast<size_t>(space.out[2] + 3) / 4};
}

// The transforms of few tiles as to[channel][position][tile]; `seen` has room for one row of `step`
// elements for each position and tile.
template <size_t kTiles, class Map>
HWY_INLINE void transform_few(const float* x, size_t channels, const int64_t* size,
                              const Tiles& tiles, const int64_t* pad, float* turned, float* columns,
                              float* seen, size_t step, float* to) {
  const auto area = static_cast<size_t>(size[1] * size[2]);
  transform_slices<4, Map>(x, channels, size, area, 0, 1, tiles, pad, turned, columns, seen,
                           kTiles * step, 0, step);
  constexpr size_t kRows = 36 * kTiles;
  pack_transposed(seen, static_cast<ptrdiff_t>(step), channels, kRows, kRows, to);
}

// Brings the taps of so many channels near, in `rows` rows that are `row` elements apart.
HWY_INLINE void prefetch_taps(const float* w, size_t row, size_t rows, size_t channels) {
  constexpr size_t kLine = Workspace::kLine / sizeof(float);
  for (size_t i = 0; i < rows; ++i, w += row) {
    for (size_t k = 0; k < 9 * channels; k += kLine) hwy::Prefetch(w + k);
  }
}

}  // namespace
}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_CONV_TILES_INL_H_
