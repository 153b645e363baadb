// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "ebb/autograd/tensor.h"
#include "ebb/core/random.h"

// Attention: each query takes a mean of the values, weighted by how well it fits their keys. One
// op, which keeps the weights for the gradient. Tensors are float32 or float64, of one type.
namespace ebb {

struct AttentionOptions {
  /// Broadcasts to [...,T,S]. bool: true where a query may see a key; floating, of the type of the
  /// others: is added to the scores, and is differentiated too (a bias of positions). A query that
  /// may see nothing (false, or -infinity, all along its row) gets zeros, and no gradient; PyTorch
  /// gives NaN.
  Tensor attn_mask = {};
  /// Sets each weight to 0 with this probability and scales the others by 1 / (1 - dropout_p).
  double dropout_p = 0;
  /// Query i sees the keys 0..i only; with attn_mask both hold.
  bool is_causal = false;
  std::optional<double> scale = {};  ///< factor of the scores; by default 1 / sqrt(D)
};

/// softmax(scale query key' + mask) value: query [...,T,D], key [...,S,D], value [...,S,Dv] to
/// [...,T,Dv]. The axes in front, as heads and samples, broadcast. With dropout the generator moves
/// on by as many numbers as there are weights. Vaswani et al., "Attention is all you need", 2017.
/// Throws ShapeError where sizes do not fit, DTypeError, and ValueError where dropout_p is outside
/// [0, 1].
Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const AttentionOptions& options = {},
                                    Generator& generator = default_generator(),
                                    Where where = Where::current());

struct AttentionOutput {
  Tensor output;
  Tensor weights;  ///< before dropout
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

}  // namespace ebb
