// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/transformer.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/random.h"

namespace ebb::nn {

namespace {

MultiheadAttentionOptions attention_options(const TransformerLayerOptions& o) {
  return {.dropout = o.dropout, .bias = o.bias, .batch_first = o.batch_first};
}

LayerNormOptions norm_options(const TransformerLayerOptions& o) {
  return {.eps = o.layer_norm_eps};
}

// x plus what `part` makes of it, with the norm before the part or after the sum.
template <class F>
Tensor residual(const Tensor& x, const TransformerLayerOptions& o, bool training,
                const LayerNorm& norm, const F& part) {
  const auto dropped = [&](const Tensor& y) { return dropout(y, o.dropout, training); };
  if (o.norm_first) return x + dropped(part(norm(x)));
  return norm(x + dropped(part(x)));
}

// The two linear layers of a transformer layer.
Tensor feed_forward(const Tensor& x, const TransformerLayerOptions& o, bool training,
                    const Linear& linear1, const Linear& linear2) {
  const Tensor y = linear1(x);
  const Tensor z = o.activation == TransformerActivation::kRelu ? relu(y) : gelu(y);
  return linear2(dropout(z, o.dropout, training));
}

}  // namespace

TransformerEncoderLayer::TransformerEncoderLayer(int64_t d_model, int64_t nhead,
                                                 TransformerLayerOptions options)
    : self_attn(*this, "self_attn", d_model, nhead, attention_options(options)),
      linear1(*this, "linear1", d_model, options.dim_feedforward, {.bias = options.bias}),
      linear2(*this, "linear2", options.dim_feedforward, d_model, {.bias = options.bias}),
      norm1(*this, "norm1", {d_model}, norm_options(options)),
      norm2(*this, "norm2", {d_model}, norm_options(options)),
      d_model_(d_model),
      nhead_(nhead),
      options_(options) {}

TransformerEncoderLayer::TransformerEncoderLayer(Module& parent, std::string name, int64_t d_model,
                                                 int64_t nhead, TransformerLayerOptions options)
    : Module(parent, std::move(name)),
      self_attn(*this, "self_attn", d_model, nhead, attention_options(options)),
      linear1(*this, "linear1", d_model, options.dim_feedforward, {.bias = options.bias}),
      linear2(*this, "linear2", options.dim_feedforward, d_model, {.bias = options.bias}),
      norm1(*this, "norm1", {d_model}, norm_options(options)),
      norm2(*this, "norm2", {d_model}, norm_options(options)),
      d_model_(d_model),
      nhead_(nhead),
      options_(options) {}

Tensor TransformerEncoderLayer::operator()(const Tensor& src, const TransformerEncoderMasks& masks,
                                           Where where) const {
  const ebb::detail::PlaceScope scope(where);
  const MultiheadAttentionCall call{.key_padding_mask = masks.src_key_padding_mask,
                                    .need_weights = false,
                                    .attn_mask = masks.src_mask,
                                    .is_causal = masks.is_causal};
  const Tensor x = residual(src, options_, is_training(), norm1,
                            [&](const Tensor& y) { return self_attn(y, y, y, call).output; });
  return residual(x, options_, is_training(), norm2, [&](const Tensor& y) {
    return feed_forward(y, options_, is_training(), linear1, linear2);
  });
}

std::unique_ptr<Module> TransformerEncoderLayer::clone() const {
  return clone_as(*this, d_model_, nhead_, options_);
}

TransformerDecoderLayer::TransformerDecoderLayer(int64_t d_model, int64_t nhead,
                                                 TransformerLayerOptions options)
    : self_attn(*this, "self_attn", d_model, nhead, attention_options(options)),
      multihead_attn(*this, "multihead_attn", d_model, nhead, attention_options(options)),
      linear1(*this, "linear1", d_model, options.dim_feedforward, {.bias = options.bias}),
      linear2(*this, "linear2", options.dim_feedforward, d_model, {.bias = options.bias}),
      norm1(*this, "norm1", {d_model}, norm_options(options)),
      norm2(*this, "norm2", {d_model}, norm_options(options)),
      norm3(*this, "norm3", {d_model}, norm_options(options)),
      d_model_(d_model),
      nhead_(nhead),
      options_(options) {}

TransformerDecoderLayer::TransformerDecoderLayer(Module& parent, std::string name, int64_t d_model,
                                                 int64_t nhead, TransformerLayerOptions options)
    : Module(parent, std::move(name)),
      self_attn(*this, "self_attn", d_model, nhead, attention_options(options)),
      multihead_attn(*this, "multihead_attn", d_model, nhead, attention_options(options)),
      linear1(*this, "linear1", d_model, options.dim_feedforward, {.bias = options.bias}),
      linear2(*this, "linear2", options.dim_feedforward, d_model, {.bias = options.bias}),
      norm1(*this, "norm1", {d_model}, norm_options(options)),
      norm2(*this, "norm2", {d_model}, norm_options(options)),
      norm3(*this, "norm3", {d_model}, norm_options(options)),
      d_model_(d_model),
      nhead_(nhead),
      options_(options) {}

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
  Tensor x = residual(tgt, options_, is_training(), norm1,
                      [&](const Tensor& y) { return self_attn(y, y, y, to_self).output; });
  x = residual(x, options_, is_training(), norm2, [&](const Tensor& y) {
    return multihead_attn(y, memory, memory, to_memory).output;
  });
  return residual(x, options_, is_training(), norm3, [&](const Tensor& y) {
    return feed_forward(y, options_, is_training(), linear1, linear2);
  });
}

std::unique_ptr<Module> TransformerDecoderLayer::clone() const {
  return clone_as(*this, d_model_, nhead_, options_);
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
  norm = std::make_unique<LayerNorm>(*this, "norm", Shape{d_model_}, norm_options(options_.layer));
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

Tensor sinusoidal_positional_encoding(int64_t length, int64_t d_model, const TensorOptions& options,
                                      double base) {
  if (length < 0 || d_model < 1 || !(base > 0)) {
    throw ValueError(absl::StrCat("sinusoidal_positional_encoding: length is ", length,
                                  ", d_model ", d_model, ", base ", base,
                                  "; they must be at least 0, at least 1 and positive"));
  }
  const DType dtype = options.dtype.value_or(kFloat32);
  if (!is_differentiable(dtype)) {
    throw DTypeError(absl::StrCat("sinusoidal_positional_encoding: the type is ", name_of(dtype),
                                  "; it must be float32 or float64"));
  }
  Array y = Array::empty(dtype, {length, d_model});
  visit_differentiable(dtype, [&](auto t) {
    using T = decltype(t);
    T* to = y.mutable_data<T>();
    for (int64_t i = 0; i < length; ++i) {
      for (int64_t j = 0; j < d_model; ++j) {
        const double part = static_cast<double>(j - j % 2) / static_cast<double>(d_model);
        const double angle = static_cast<double>(i) * std::pow(base, -part);
        *to++ = static_cast<T>(j % 2 == 0 ? std::sin(angle) : std::cos(angle));
      }
    }
  });
  return Tensor(std::move(y));
}

}  // namespace ebb::nn
