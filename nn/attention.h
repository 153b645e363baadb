// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/nn/linear.h"
#include "ebb/ops/attention.h"

namespace ebb::nn {

struct MultiheadAttentionOptions {
  double dropout = 0;  ///< of the weights, in training
  bool bias = true;
  int64_t kdim = 0;          ///< size of a key; 0: embed_dim
  int64_t vdim = 0;          ///< size of a value; 0: embed_dim
  bool batch_first = false;  ///< samples come before positions: [N,T,E] and not [T,N,E]
  /// Queries and keys are turned by their positions, rotary_embedding(), each from its first row
  /// on.
  bool rotary = false;
  double rotary_base = 10000;
  bool alibi = false;  ///< scores fall off with the distance: AttentionOptions
};

/// Keys and values of the positions that were attended to so far, so that the next ones of a
/// sequence need only their own: for making a sequence one element at a time. Holds values without
/// history, of one sequence or several of one length.
class KeyValueCache {
 public:
  /// Positions.
  int64_t length() const { return length_; }
  void clear() {
    length_ = 0;
    if (room_.defined()) room_.bump_version();
  }
  /// Puts rows [...,T,W] behind those that are there; all of them, [...,length,W], without a copy.
  /// They are overwritten by a later call after clear(). Throws ShapeError, DTypeError where the
  /// rows are of another kind than before.
  Tensor append(const Tensor& rows);

 private:
  Array room_;  // [...,capacity,W]
  int64_t length_ = 0;
};

/// How one call attends. As in PyTorch, and other than in scaled_dot_product_attention, a bool mask
/// is true where a query may *not* see a key; a floating one, of the type of the query, is added to
/// the scores. Masks hold together. A query that may see nothing gets zeros.
struct MultiheadAttentionCall {
  /// [S], or [N,S] for N samples: keys that no query sees.
  Tensor key_padding_mask = {};
  bool need_weights = true;
  /// [T,S], or [N H,T,S] for N samples (1 if unbatched) and H heads.
  Tensor attn_mask = {};
  bool average_attn_weights = true;  ///< over the heads
  /// Query i sees the keys 0..i only; needs no attn_mask.
  bool is_causal = false;
  /// The positions of before, to which those of this call are added: keys are all of them, and
  /// masks as wide. Self-attention only, without a gradient to what is in the cache.
  KeyValueCache* cache = nullptr;
};

struct MultiheadAttentionOutput {
  Tensor output;
  /// What the values were multiplied by: [T,S], or [H,T,S] not averaged; [N,...] for N samples.
  /// Undefined where need_weights is false.
  Tensor weights;
};

/// Attention with several heads, each of which sees its own projection of query, key and value:
/// Vaswani et al., "Attention is all you need", 2017. query [T,E], key [S,kdim], value [S,vdim] to
/// [T,E], or of N samples [T,N,E], [S,N,kdim], [S,N,vdim] to [T,N,E]. Parameters `in_proj_weight`
/// [3E,E] (or, where kdim or vdim differ from E, `q_proj_weight` [E,E], `k_proj_weight` [E,kdim],
/// `v_proj_weight` [E,vdim]) from Glorot and Bengio's uniform distribution, `in_proj_bias` [3E] of
/// zeros, `out_proj.weight` [E,E] and `out_proj.bias` [E], of zeros.
///
///   nn::MultiheadAttention attend{*this, "attend", 128, 4};
///   Tensor y = attend(x, x, x).output;
class MultiheadAttention : public Module {
 public:
  /// Throws ValueError where a size is below 1, embed_dim is no multiple of num_heads (of twice
  /// that if rotary), or dropout is outside [0, 1].
  MultiheadAttention(int64_t embed_dim, int64_t num_heads, MultiheadAttentionOptions options = {});
  MultiheadAttention(Module& parent, std::string name, int64_t embed_dim, int64_t num_heads,
                     MultiheadAttentionOptions options = {});

  /// Where query, key and value are one tensor (or key and value are), they are projected by one
  /// product. Weights that are not needed are not kept either where they are many. Throws
  /// ShapeError where sizes or masks do not fit, DTypeError on the type of a mask, ValueError where
  /// there is a cache but query, key and value are not one tensor.
  MultiheadAttentionOutput operator()(const Tensor& query, const Tensor& key, const Tensor& value,
                                      const MultiheadAttentionCall& call = {},
                                      Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override;

  Parameter in_proj_weight;
  Parameter q_proj_weight;
  Parameter k_proj_weight;
  Parameter v_proj_weight;
  Parameter in_proj_bias;  ///< undefined without
  Linear out_proj;

 private:
  void start();
  bool packed() const { return in_proj_weight.defined(); }
  Tensor project(const Tensor& x, int first, int count) const;
  Tensor turned(const Tensor& projected, int64_t columns, int64_t position) const;
  Tensor mask_of(const MultiheadAttentionCall& call, const Tensor& query, int64_t cols) const;

  int64_t embed_dim_;
  int64_t num_heads_;
  MultiheadAttentionOptions options_;
};

}  // namespace ebb::nn
