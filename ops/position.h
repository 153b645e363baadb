// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/autograd/tensor.h"

// Positions in sequences: what attention itself does not know. ALiBi is an option of attention
// (ops/attention.h), causal order too; layers are in nn/position.h.
namespace ebb {

struct RotaryOptions {
  int64_t offset = 0;   ///< position of the first row
  double base = 10000;  ///< wavelengths run from 2 pi to 2 pi base
  /// Columns that turn, from the first on, a multiple of head_dim; by default all. The rest passes
  /// unchanged: of query, key and value side by side, [...,T,3E], the first 2E turn.
  int64_t columns = -1;
  /// Which two of a head's numbers turn together: i and i + head_dim / 2 (LLaMA, GPT-NeoX), or, as
  /// in the paper, 2i and 2i + 1.
  bool interleaved = false;
};

/// Turns pairs of each head's numbers in the row of position p, x [...,T,heads * head_dim], by the
/// angle p / base^(2i / head_dim) for pair i, so that products of turned queries and keys depend on
/// how far apart they stand: Su et al., "RoFormer: Enhanced transformer with rotary position
/// embedding", 2021. One op. Throws ShapeError where x has no rows or its last axis is no multiple
/// of head_dim, ValueError where head_dim is odd or below 2, base is not positive or columns do not
/// fit.
Tensor rotary_embedding(const Tensor& x, int64_t head_dim, const RotaryOptions& options = {},
                        Where where = Where::current());

/// From numbers for every distance to numbers for every pair: y[i,j] = x[i, j - i + T - 1], x
/// [...,T,T+S-1] to [...,T,S], where column T - 1 is that of distance 0 and the next one that of a
/// key after the query. With scores q_i . r_d of queries and vectors of distances it gives those of
/// pairs: Shaw, Uszkoreit and Vaswani, "Self-attention with relative position representations",
/// 2018; Dai et al., "Transformer-XL", 2019, appendix B. One op. Throws ShapeError where x is not
/// as wide as that for `keys` = S.
Tensor relative_shift(const Tensor& x, int64_t keys, Where where = Where::current());

/// Its adjoint: y[i,d] = x[i, d + i - T + 1], or 0 outside, x [...,T,S] to [...,T,T+S-1]. With
/// weights of pairs it gives those of vectors of distances. One op. Throws ShapeError where x is no
/// matrix or has neither queries nor keys.
Tensor relative_unshift(const Tensor& x, Where where = Where::current());

/// Numbers of T + S - 1 distances, from that of the last query to the first key to that of the
/// first query to the last key, cut to [-max_distance, max_distance] and counted from 0: the rows
/// of a table of 2 max_distance + 1 vectors, [T+S-1] int64. Throws ValueError where a number is
/// negative or above 2^61.
Tensor clipped_distances(int64_t queries, int64_t keys, int64_t max_distance);

/// The same distances by buckets, [T+S-1] int64: one each up to half of `num_buckets`, then
/// logarithmically wider ones up to max_distance, and the last for all beyond; `bidirectional` uses
/// half of the buckets for keys after the query, which otherwise all are in bucket 0. Raffel et
/// al., "Exploring the limits of transfer learning with a unified text-to-text transformer" (T5),
/// 2020. Throws ValueError where a number is negative or above 2^61, there are fewer than 2 buckets
/// (4 where bidirectional), or max_distance is no larger than what the first half covers.
Tensor relative_position_buckets(int64_t queries, int64_t keys, int64_t num_buckets = 32,
                                 int64_t max_distance = 128, bool bidirectional = true);

}  // namespace ebb
