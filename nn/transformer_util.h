// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/nn/transformer.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/random.h"

// What all Transformer layers do, whatever their attention.
namespace ebb::nn::detail {

/// x plus what `part` makes of it, with the norm before the part or after the sum.
template <class F>
Tensor residual(const TransformerLayerOptions& o, bool training, const Tensor& x,
                const LayerNorm& norm, const F& part) {
  const auto dropped = [&](const Tensor& y) { return dropout(y, o.dropout, training); };
  if (o.norm_first) return x + dropped(part(norm(x)));
  return norm(x + dropped(part(x)));
}

/// The two linear layers.
inline Tensor feed_forward(const TransformerLayerOptions& o, bool training, const Tensor& x,
                           const Linear& linear1, const Linear& linear2) {
  const Tensor y = linear1(x);
  const Tensor z = o.activation == TransformerActivation::kRelu ? relu(y) : gelu(y);
  return linear2(dropout(z, o.dropout, training));
}

}  // namespace ebb::nn::detail
