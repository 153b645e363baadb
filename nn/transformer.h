// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/nn/attention.h"
#include "ebb/nn/layers.h"
#include "ebb/nn/module_list.h"
#include "ebb/nn/position.h"

// The Transformer of Vaswani et al., "Attention is all you need", 2017, and its form that
// normalises before each part (norm_first) rather than after: Xiong et al., "On layer normalization
// in the Transformer architecture", 2020. A sequence is [T,E], or of N samples [T,N,E] ([N,T,E]
// where batch_first). Masks are those of MultiheadAttentionCall: true where something is not seen.
namespace ebb::nn {

enum class TransformerActivation { kRelu, kGelu };

struct TransformerLayerOptions {
  int64_t dim_feedforward = 2048;
  double dropout = 0.1;  ///< in training: of the attention weights and after each part
  TransformerActivation activation = TransformerActivation::kRelu;
  double layer_norm_eps = 1e-5;
  bool batch_first = false;
  bool norm_first = false;
  bool bias = true;     ///< of attention and linear layers; the norms always have one
  bool rotary = false;  ///< positions in self-attention: MultiheadAttentionOptions
  bool alibi = false;

  /// Of the attention to the sequence itself, and to another.
  MultiheadAttentionOptions self_attention() const {
    MultiheadAttentionOptions o = attention();
    o.rotary = rotary;
    o.alibi = alibi;
    return o;
  }
  MultiheadAttentionOptions attention() const {
    return {.dropout = dropout, .bias = bias, .batch_first = batch_first};
  }
};

struct TransformerEncoderMasks {
  Tensor src_mask = {};              ///< [T,T]: query, key
  Tensor src_key_padding_mask = {};  ///< [T] or [N,T]
  bool is_causal = false;
  KeyValueCache* cache = nullptr;  ///< of one layer: MultiheadAttentionCall
};

struct TransformerDecoderMasks {
  Tensor tgt_mask = {};                 ///< [T,T]
  Tensor memory_mask = {};              ///< [T,S]
  Tensor tgt_key_padding_mask = {};     ///< [T] or [N,T]
  Tensor memory_key_padding_mask = {};  ///< [S] or [N,S]
  bool tgt_is_causal = false;
  bool memory_is_causal = false;
};

/// What the layers share: self-attention, two linear layers with an activation between, and norms.
class TransformerLayer : public Module {
 private:
  // First of all, since the parts are made by them.
  int64_t d_model_;
  int64_t nhead_;
  TransformerLayerOptions options_;

 public:
  MultiheadAttention self_attn{*this, "self_attn", d_model_, nhead_, options_.self_attention()};
  Linear linear1{*this, "linear1", d_model_, options_.dim_feedforward, {.bias = options_.bias}};
  Linear linear2{*this, "linear2", options_.dim_feedforward, d_model_, {.bias = options_.bias}};
  LayerNorm norm1{*this, "norm1", {d_model_}, {.eps = options_.layer_norm_eps}};
  LayerNorm norm2{*this, "norm2", {d_model_}, {.eps = options_.layer_norm_eps}};

 protected:
  TransformerLayer(int64_t d_model, int64_t nhead, const TransformerLayerOptions& options)
      : d_model_(d_model), nhead_(nhead), options_(options) {}
  TransformerLayer(Module& parent, std::string name, int64_t d_model, int64_t nhead,
                   const TransformerLayerOptions& options)
      : Module(parent, std::move(name)), d_model_(d_model), nhead_(nhead), options_(options) {}

  int64_t d_model() const { return d_model_; }
  int64_t nhead() const { return nhead_; }
  const TransformerLayerOptions& options() const { return options_; }
  // x plus what `part` makes of it, with the norm before the part or after the sum.
  template <class F>
  Tensor residual(const Tensor& x, const LayerNorm& norm, const F& part) const;
  // The two linear layers.
  Tensor feed_forward(const Tensor& x) const;
};

/// Self-attention, then two linear layers with an activation between, each added to what came in.
/// Parameters under `self_attn`, `linear1`, `linear2`, `norm1` and `norm2`.
class TransformerEncoderLayer : public TransformerLayer {
 public:
  /// Throws ValueError as MultiheadAttention and Linear do.
  TransformerEncoderLayer(int64_t d_model, int64_t nhead, TransformerLayerOptions options = {})
      : TransformerLayer(d_model, nhead, options) {}
  TransformerEncoderLayer(Module& parent, std::string name, int64_t d_model, int64_t nhead,
                          TransformerLayerOptions options = {})
      : TransformerLayer(parent, std::move(name), d_model, nhead, options) {}

  /// Throws ShapeError where sizes or masks do not fit.
  Tensor operator()(const Tensor& src, const TransformerEncoderMasks& masks = {},
                    Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, d_model(), nhead(), options());
  }
};

/// Self-attention, attention to `memory`, then two linear layers with an activation between, each
/// added to what came in. Parameters under `self_attn`, `multihead_attn`, `linear1`, `linear2`,
/// `norm1`, `norm2` and `norm3`.
class TransformerDecoderLayer : public TransformerLayer {
 public:
  /// Throws ValueError as MultiheadAttention and Linear do.
  TransformerDecoderLayer(int64_t d_model, int64_t nhead, TransformerLayerOptions options = {})
      : TransformerLayer(d_model, nhead, options) {}
  TransformerDecoderLayer(Module& parent, std::string name, int64_t d_model, int64_t nhead,
                          TransformerLayerOptions options = {})
      : TransformerLayer(parent, std::move(name), d_model, nhead, options) {}

  /// tgt [T,E], memory [S,E] to [T,E]. Throws ShapeError where sizes or masks do not fit.
  Tensor operator()(const Tensor& tgt, const Tensor& memory,
                    const TransformerDecoderMasks& masks = {},
                    Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, d_model(), nhead(), options());
  }

  MultiheadAttention multihead_attn{*this, "multihead_attn", d_model(), nhead(),
                                    options().attention()};
  LayerNorm norm3{*this, "norm3", {d_model()}, {.eps = options().layer_norm_eps}};
};

struct TransformerOptions {
  TransformerLayerOptions layer = {};
  bool final_norm = true;  ///< a LayerNorm at the end, `norm`; pre-norm stacks need it
};

/// Layers one after the other, `layers.0` and so on, and `norm`. Each layer starts from numbers of
/// its own.
template <class L>
class TransformerStack : public Module {
 public:
  /// Throws ValueError where num_layers is below 1, and as the layers do.
  TransformerStack(int64_t d_model, int64_t nhead, int64_t num_layers,
                   TransformerOptions options = {});
  TransformerStack(Module& parent, std::string name, int64_t d_model, int64_t nhead,
                   int64_t num_layers, TransformerOptions options = {});

  ModuleList<L> layers{*this, "layers"};
  std::unique_ptr<LayerNorm> norm;  ///< null without

 protected:
  Tensor finish(const Tensor& x) const { return norm != nullptr ? (*norm)(x) : x; }
  template <class Stack>
  std::unique_ptr<Module> clone_stack(const Stack& stack) const {
    return clone_as(stack, d_model_, nhead_, static_cast<int64_t>(layers.size()), options_);
  }

 private:
  void start(int64_t num_layers);

  int64_t d_model_;
  int64_t nhead_;
  TransformerOptions options_;
};
extern template class TransformerStack<TransformerEncoderLayer>;
extern template class TransformerStack<TransformerDecoderLayer>;

class TransformerEncoder : public TransformerStack<TransformerEncoderLayer> {
 public:
  using TransformerStack::TransformerStack;
  /// src [T,E] to [T,E], every layer with the same masks.
  Tensor operator()(const Tensor& src, const TransformerEncoderMasks& masks = {},
                    Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override { return clone_stack(*this); }
};

class TransformerDecoder : public TransformerStack<TransformerDecoderLayer> {
 public:
  using TransformerStack::TransformerStack;
  /// tgt [T,E] to [T,E], every layer with the same memory [S,E] and masks.
  Tensor operator()(const Tensor& tgt, const Tensor& memory,
                    const TransformerDecoderMasks& masks = {},
                    Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override { return clone_stack(*this); }
};

}  // namespace ebb::nn
