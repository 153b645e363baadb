// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/transformer.h"

#include "absl/strings/str_cat.h"
#include "ebb/nn/transformer_util.h"

namespace ebb::nn {

template <class F>
Tensor TransformerLayer::residual(const Tensor& x, const LayerNorm& norm, const F& part) const {
  return detail::residual(options_, is_training(), x, norm, part);
}

Tensor TransformerLayer::feed_forward(const Tensor& x) const {
  return detail::feed_forward(options_, is_training(), x, linear1, linear2);
}

Tensor TransformerEncoderLayer::operator()(const Tensor& src, const TransformerEncoderMasks& masks,
                                           Where where) const {
  const ebb::detail::PlaceScope scope(where);
  const MultiheadAttentionCall call{.key_padding_mask = masks.src_key_padding_mask,
                                    .need_weights = false,
                                    .attn_mask = masks.src_mask,
                                    .is_causal = masks.is_causal,
                                    .cache = masks.cache};
  const Tensor x =
      residual(src, norm1, [&](const Tensor& y) { return self_attn(y, y, y, call).output; });
  return residual(x, norm2, [&](const Tensor& y) { return feed_forward(y); });
}

Tensor TransformerDecoderLayer::operator()(const Tensor& tgt, const Tensor& memory,
                                           const TransformerDecoderMasks& masks,
                                           Where where) const {
  const ebb::detail::PlaceScope scope(where);
  const MultiheadAttentionCall to_self{.key_padding_mask = masks.tgt_key_padding_mask,
                                       .need_weights = false,
                                       .attn_mask = masks.tgt_mask,
                                       .is_causal = masks.tgt_is_causal};
  const MultiheadAttentionCall to_memory{.key_padding_mask = masks.memory_key_padding_mask,
                                         .need_weights = false,
                                         .attn_mask = masks.memory_mask,
                                         .is_causal = masks.memory_is_causal};
  Tensor x =
      residual(tgt, norm1, [&](const Tensor& y) { return self_attn(y, y, y, to_self).output; });
  x = residual(x, norm2, [&](const Tensor& y) {
    return multihead_attn(y, memory, memory, to_memory).output;
  });
  return residual(x, norm3, [&](const Tensor& y) { return feed_forward(y); });
}

template <class L>
TransformerStack<L>::TransformerStack(int64_t d_model, int64_t nhead, int64_t num_layers,
                                      TransformerOptions options)
    : d_model_(d_model), nhead_(nhead), options_(options) {
  start(num_layers);
}

template <class L>
TransformerStack<L>::TransformerStack(Module& parent, std::string name, int64_t d_model,
                                      int64_t nhead, int64_t num_layers, TransformerOptions options)
    : Module(parent, std::move(name)), d_model_(d_model), nhead_(nhead), options_(options) {
  start(num_layers);
}

template <class L>
void TransformerStack<L>::start(int64_t num_layers) {
  if (num_layers < 1) {
    throw ValueError(
        absl::StrCat("Transformer: num_layers is ", num_layers, "; it must be at least 1"));
  }
  for (int64_t i = 0; i < num_layers; ++i) layers.emplace_back(d_model_, nhead_, options_.layer);
  if (!options_.final_norm) return;
  norm = std::make_unique<LayerNorm>(*this, "norm", Shape{d_model_},
                                     LayerNormOptions{.eps = options_.layer.layer_norm_eps});
}

template class TransformerStack<TransformerEncoderLayer>;
template class TransformerStack<TransformerDecoderLayer>;

Tensor TransformerEncoder::operator()(const Tensor& src, const TransformerEncoderMasks& masks,
                                      Where where) const {
  const ebb::detail::PlaceScope scope(where);
  Tensor x = src;
  for (const TransformerEncoderLayer& layer : layers) x = layer(x, masks);
  return finish(x);
}

Tensor TransformerDecoder::operator()(const Tensor& tgt, const Tensor& memory,
                                      const TransformerDecoderMasks& masks, Where where) const {
  const ebb::detail::PlaceScope scope(where);
  Tensor x = tgt;
  for (const TransformerDecoderLayer& layer : layers) x = layer(x, memory, masks);
  return finish(x);
}

}  // namespace ebb::nn
