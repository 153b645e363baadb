// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/nn/attention.h"
#include "ebb/nn/layers.h"
#include "ebb/nn/module_list.h"
#include "ebb/ops/creation.h"

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
  bool bias = true;  ///< of attention and linear layers; the norms always have one
};

struct TransformerEncoderMasks {
  Tensor src_mask = {};              ///< [T,T]: query, key
  Tensor src_key_padding_mask = {};  ///< [T] or [N,T]
  bool is_causal = false;
};

struct TransformerDecoderMasks {
  Tensor tgt_mask = {};                 ///< [T,T]
  Tensor memory_mask = {};              ///< [T,S]
  Tensor tgt_key_padding_mask = {};     ///< [T] or [N,T]
  Tensor memory_key_padding_mask = {};  ///< [S] or [N,S]
  bool tgt_is_causal = false;
  bool memory_is_causal = false;
};

/// Self-attention, then two linear layers with an activation between, each added to what came in.
/// Parameters under `self_attn`, `linear1`, `linear2`, `norm1` and `norm2`.
class TransformerEncoderLayer : public Module {
 public:
  /// Throws ValueError as MultiheadAttention and Linear do.
  TransformerEncoderLayer(int64_t d_model, int64_t nhead, TransformerLayerOptions options = {});
  TransformerEncoderLayer(Module& parent, std::string name, int64_t d_model, int64_t nhead,
                          TransformerLayerOptions options = {});

  /// Throws ShapeError where sizes or masks do not fit.
  Tensor operator()(const Tensor& src, const TransformerEncoderMasks& masks = {},
                    Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override;

  MultiheadAttention self_attn;
  Linear linear1;
  Linear linear2;
  LayerNorm norm1;
  LayerNorm norm2;

 private:
  int64_t d_model_;
  int64_t nhead_;
  TransformerLayerOptions options_;
};

/// Self-attention, attention to `memory`, then two linear layers with an activation between, each
/// added to what came in. Parameters under `self_attn`, `multihead_attn`, `linear1`, `linear2`,
/// `norm1`, `norm2` and `norm3`.
class TransformerDecoderLayer : public Module {
 public:
  /// Throws ValueError as MultiheadAttention and Linear do.
  TransformerDecoderLayer(int64_t d_model, int64_t nhead, TransformerLayerOptions options = {});
  TransformerDecoderLayer(Module& parent, std::string name, int64_t d_model, int64_t nhead,
                          TransformerLayerOptions options = {});

  /// tgt [T,E], memory [S,E] to [T,E]. Throws ShapeError where sizes or masks do not fit.
  Tensor operator()(const Tensor& tgt, const Tensor& memory,
                    const TransformerDecoderMasks& masks = {},
                    Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override;

  MultiheadAttention self_attn;
  MultiheadAttention multihead_attn;
  Linear linear1;
  Linear linear2;
  LayerNorm norm1;
  LayerNorm norm2;
  LayerNorm norm3;

 private:
  int64_t d_model_;
  int64_t nhead_;
  TransformerLayerOptions options_;
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

/// [length, d_model] of sines and cosines that tell positions apart: element [t,2i] is
/// sin(t / base^(2i / d_model)), element [t,2i+1] the cosine of the same: Vaswani et al. 2017,
/// section 3.5. float32 unless options name another floating type. Throws ValueError where length
/// is negative, d_model below 1 or base not positive, DTypeError on another type.
Tensor sinusoidal_positional_encoding(int64_t length, int64_t d_model,
                                      const TensorOptions& options = {}, double base = 10000);

}  // namespace ebb::nn
