// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "ebb/nn/attention_relative.h"
#include "ebb/nn/transformer.h"

// Transformer-XL: long sequences one segment at a time, each of which sees the hidden states of
// those before. Dai et al., "Transformer-XL: attentive language models beyond a fixed-length
// context", 2019.
namespace ebb::nn {

/// Self-attention by TransformerXLAttention, then two linear layers with an activation between,
/// each added to what came in. Of the options rotary, alibi and batch_first are not used; samples
/// come first. Parameters under `self_attn`, `linear1`, `linear2`, `norm1` and `norm2`.
class TransformerXLLayer : public Module {
 private:
  // First of all, since the parts are made by them.
  int64_t d_model_;
  int64_t nhead_;
  TransformerLayerOptions options_;

 public:
  /// Throws ValueError as TransformerXLAttention and Linear do.
  TransformerXLLayer(int64_t d_model, int64_t nhead, TransformerLayerOptions options = {})
      : d_model_(d_model), nhead_(nhead), options_(options) {}
  TransformerXLLayer(Module& parent, std::string name, int64_t d_model, int64_t nhead,
                     TransformerLayerOptions options = {})
      : Module(parent, std::move(name)), d_model_(d_model), nhead_(nhead), options_(options) {}

  /// x [T,E] or [N,T,E] to the same; memory as in TransformerXLAttention, but without a
  /// gradient to it. A position sees those before it and the memory.
  Tensor operator()(const Tensor& x, const Tensor& memory = {},
                    Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, d_model_, nhead_, options_);
  }

  TransformerXLAttention self_attn{
      *this, "self_attn", d_model_, nhead_, {.dropout = options_.dropout, .bias = false}};
  Linear linear1{*this, "linear1", d_model_, options_.dim_feedforward, {.bias = options_.bias}};
  Linear linear2{*this, "linear2", options_.dim_feedforward, d_model_, {.bias = options_.bias}};
  LayerNorm norm1{*this, "norm1", {d_model_}, {.eps = options_.layer_norm_eps}};
  LayerNorm norm2{*this, "norm2", {d_model_}, {.eps = options_.layer_norm_eps}};
};

/// What each layer was given in the segments of before: the last `capacity` positions, without
/// history. Of one sequence, or of N of one length.
class SegmentMemory {
 public:
  /// Throws ValueError where capacity is negative.
  explicit SegmentMemory(int64_t capacity);

  int64_t capacity() const { return capacity_; }
  /// Positions that are there.
  int64_t length() const { return states_.empty() ? 0 : states_.front().size(-2); }
  /// What layer i sees; undefined at the start of a sequence.
  Tensor of_layer(size_t i) const { return i < states_.size() ? states_[i] : Tensor(); }
  /// Puts the inputs [...,T,E] of all layers behind those that are there.
  void append(const std::vector<Tensor>& inputs);
  void clear() { states_.clear(); }

 private:
  int64_t capacity_;
  std::vector<Tensor> states_;
};

/// Layers one after the other, `layers.0` and so on, and `norm` where final_norm.
///
///   nn::TransformerXL model{*this, "model", 128, 4, 6};
///   nn::SegmentMemory memory(64);
///   for (const Tensor& segment : segments) loss = loss_of(model(segment, &memory));
class TransformerXL : public Module {
 public:
  /// Throws ValueError where num_layers is below 1, and as the layers do.
  TransformerXL(int64_t d_model, int64_t nhead, int64_t num_layers,
                TransformerOptions options = {.final_norm = false});
  TransformerXL(Module& parent, std::string name, int64_t d_model, int64_t nhead,
                int64_t num_layers, TransformerOptions options = {.final_norm = false});

  /// A segment x [T,E] or [N,T,E] to the same; then the memory, where there is one, has moved on by
  /// it. No gradient goes to segments of before. Throws ShapeError where the memory is of sequences
  /// of another kind.
  Tensor operator()(const Tensor& x, SegmentMemory* memory = nullptr,
                    Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, d_model_, nhead_, static_cast<int64_t>(layers.size()), options_);
  }

  ModuleList<TransformerXLLayer> layers{*this, "layers"};
  std::unique_ptr<LayerNorm> norm;  ///< null without

 private:
  void start(int64_t num_layers);

  int64_t d_model_;
  int64_t nhead_;
  TransformerOptions options_;
};

}  // namespace ebb::nn
