// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "ebb/ops/kernels/conv_plan.h"

namespace ebb::kernels::detail {

struct ConvFftTable;

/// How a pass of a convolution goes by way of Fourier transforms.
///
/// The image of each channel is cut in tiles, each transformed together with what it sees around
/// it (overlap-save); where one tile holds all, what it sees beyond the image may be the padding of
/// the other side. Spectra of images in, weights and images out are products of matrices for each
/// frequency, and have two indices each of the three: input channel, output channel and tile. The
/// one that is summed over is k; the others are u and v, of which u is a channel and v a channel
/// only of the weight gradient, else a tile. A vector's lanes run over u or v in one factor and the
/// result; the other factor's numbers are taken one by one. A convolution of each channel by
/// itself has only tiles to count, and lanes are channels throughout.
struct ConvFftPlan {
  enum class Lanes { kU, kV, kChannels };

  int64_t rows;      ///< of a tile, transformed; 1: along rows only
  int64_t half;      ///< half of the columns of it
  int64_t out_rows;  ///< of a tile
  int64_t out_cols;
  int64_t tiles_down, tiles_across;
  Lanes lanes;
  int64_t k, u, v;
  int64_t k_part;  ///< at a time; of the weight gradient only
  int64_t u_part, v_part;
  size_t bytes;            ///< that a call takes; 0: the form will not do
  double cost;             ///< estimated, in cycles
  const ConvFftTable* by;  ///< whose vectors it is for

  int64_t frequencies() const { return rows * (half + 1); }
};

/// Whether there is enough to do that a plan is worth the microseconds it takes.
bool conv_fft_may_pay(const ConvPlan& p);

/// The best plan for one image, all groups, within `bound` bytes taken from the pool, with vectors
/// of n lanes.
ConvFftPlan plan_conv_fft(const ConvPlan& p, ConvPass pass, int64_t n, size_t bound);

/// The same with this machine's vectors or with shorter ones, which few channels fill better:
/// what is estimated to be quicker. No plan (`bytes` 0) where the direct form is.
ConvFftPlan choose_conv_fft(const ConvPlan& p, ConvPass pass, size_t bound);

/// Numbers of vectors, real and imaginary, for each frequency: of the factor whose numbers are
/// taken one by one, of that in lanes, and of the result.
struct ConvFftSizes {
  int64_t single, lanes, result;
};
ConvFftSizes conv_fft_sizes(const ConvFftPlan& plan, int64_t n);

/// Vectors between frequencies: an even number, twice an odd one so that they do not share a few
/// sets of a cache.
inline int64_t conv_fft_step(int64_t vectors) { return 2 * (vectors | 1); }

/// Part `index` of `count` of a pass: of the groups, or, where those are few, of tiles or channels.
struct ConvFftPart {
  int64_t index, count;
};

/// All groups of one image each.
struct ConvFftTable {
  int64_t lanes;
  /// plan_conv_fft() with as many.
  ConvFftPlan (*plan)(const ConvPlan& p, ConvPass pass, size_t bound);
  void (*forward)(const ConvPlan& p, const ConvFftPlan& plan, ConvFftPart part, const float* x,
                  const float* w, const float* bias, float* y);
  void (*grad_input)(const ConvPlan& p, const ConvFftPlan& plan, ConvFftPart part, const float* dy,
                     const float* w, float* dx);
  void (*grad_weight)(const ConvPlan& p, const ConvFftPlan& plan, ConvFftPart part, const float* x,
                      const float* dy, bool add, float* dw);
};
extern constinit const Dispatch<ConvFftTable> conv_fft;

/// The same with vectors of half the length where those are of 16 lanes, else null.
const ConvFftTable* shorter_conv_fft();

}  // namespace ebb::kernels::detail
