// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "ebb/autograd/tensor.h"
#include "ebb/core/random.h"
#include "ebb/ops/creation.h"

// Attention: each query takes a mean of the values, weighted by how well it fits their keys. One
// op. Tensors are float32 or float64, of one type. Positions are in ops/position.h.
namespace ebb {

struct AttentionOptions {
  /// Broadcasts to [...,T,S]. bool: true where a query may see a key; floating, of the type of the
  /// others: is added to the scores, and is differentiated too (a bias of positions). A query that
  /// may see nothing (false, or -infinity, all along its row) gets zeros, and no gradient; PyTorch
  /// gives NaN.
  Tensor attn_mask = {};
  /// Sets each weight to 0 with this probability and scales the others by 1 / (1 - dropout_p).
  double dropout_p = 0;
  /// Query i sees the keys 0..i + query_offset only; with attn_mask both hold.
  bool is_causal = false;
  std::optional<double> scale = {};  ///< factor of the scores; by default 1 / sqrt(D)
  /// Subtracts slope * |distance| from the scores, where query i is at the place of key i +
  /// query_offset and the slope is that of the head, alibi_slopes(): Press, Smith and Lewis, "Train
  /// short, test long", 2022. The last of the axes before the last two counts the heads.
  bool alibi = false;
  /// Where the first query stands among the keys: queries that come late, with keys kept of before.
  int64_t query_offset = 0;
  /// Whether the weights are kept for the gradient. If not they are computed again there, for some
  /// queries at a time, so that memory grows with T + S and not with T S: after Rabe and Staats,
  /// "Self-attention does not need O(n^2) memory", 2021. By default they are kept up to
  /// kKeptWeights of them; where they are a result, always.
  std::optional<bool> keep_weights = {};
};
inline constexpr int64_t kKeptWeights = int64_t{1} << 20;

/// softmax(scale query key' + mask) value: query [...,T,D], key [...,S,D], value [...,S,Dv] to
/// [...,T,Dv]. The axes in front, as heads and samples, broadcast. With dropout the generator moves
/// on by as many numbers as there are weights. Vaswani et al., "Attention is all you need", 2017.
/// Throws ShapeError where sizes do not fit, DTypeError, and ValueError where dropout_p is outside
/// [0, 1], scale not finite or query_offset beyond 2^61.
Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const AttentionOptions& options = {},
                                    Generator& generator = default_generator(),
                                    Where where = Where::current());

struct AttentionOutput {
  Tensor output;
  Tensor weights;  ///< before dropout; undefined with keep_weights = false
};

/// The same for `heads` heads side by side in the last axis, which each attend by themselves:
/// query [...,T,H D], key [...,S,H D], value [...,S,H Dv] to [...,T,H Dv], with weights and mask
/// [...,H,T,S]. `inputs` are {query, key, value}, or, as they come out of one product, {query,
/// key and value side by side [...,S,2 H D]} or all side by side {[...,T,3 H D]}: nothing is moved.
/// Throws ValueError where there is another number of inputs or heads < 1, and as above.
AttentionOutput multi_head_attention(Span<const Tensor> inputs, int64_t heads,
                                     const AttentionOptions& options = {},
                                     Generator& generator = default_generator(),
                                     Where where = Where::current());

/// What ALiBi takes off the score of head h for each step between query and key, [heads]: 2^(-8 (h
/// + 1) / heads) where heads is a power of two, else those of the next lower one and between them
/// some of the next higher. Throws ValueError where heads is below 1, DTypeError where the type is
/// neither float32 nor float64.
Tensor alibi_slopes(int64_t heads, const TensorOptions& options = {});

}  // namespace ebb
