// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/nn/linear.h"

// Attention to a sequence itself that knows how far apart a query and a key stand. A sequence is
// x [T,E], or [N,T,E] of N samples of one length.
namespace ebb::nn {

struct RelativeAttentionOptions {
  double dropout = 0;  ///< of the weights, in training
  bool bias = true;    ///< of the projections
};

/// How one call attends.
struct RelativeAttentionCall {
  /// [T,S], or [N,1,T,S] of N samples, true where a query may *not* see a key. A query that may see
  /// nothing gets zeros, and with them the bias of the last projection.
  Tensor attn_mask = {};
  bool is_causal = false;  ///< a query sees no key after it
};

/// Vectors for clipped distances are added to keys and values: the score of i and j is q_i (k_j +
/// a_(j-i)) / sqrt(D), the result the mean of v_j + b_(j-i). Shaw, Uszkoreit and Vaswani,
/// "Self-attention with relative position representations", 2018. Parameters `in_proj.weight`
/// [3E,E], `out_proj.weight` [E,E], their biases, and, the same for all heads, `key_distances` and
/// `value_distances` [2 max_distance + 1, D = E / num_heads], whose rows are those of the distances
/// -max_distance to max_distance. The tables start from Glorot and Bengio's uniform distribution.
class RelativePositionAttention : public Module {
 public:
  /// Throws ValueError where a size is below 1, embed_dim is no multiple of num_heads,
  /// max_distance is negative or dropout outside [0, 1].
  RelativePositionAttention(int64_t embed_dim, int64_t num_heads, int64_t max_distance,
                            RelativeAttentionOptions options = {});
  RelativePositionAttention(Module& parent, std::string name, int64_t embed_dim, int64_t num_heads,
                            int64_t max_distance, RelativeAttentionOptions options = {});

  /// x to the same shape. Memory grows with T^2: the weights are kept. Throws ShapeError where x or
  /// the mask do not fit, DTypeError where the mask is not bool.
  Tensor operator()(const Tensor& x, const RelativeAttentionCall& call = {},
                    Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, embed_dim_, num_heads_, max_distance_, options_);
  }

 private:
  // First of all, since the parts are made by them.
  int64_t embed_dim_;
  int64_t num_heads_;
  int64_t max_distance_;
  RelativeAttentionOptions options_;

 public:
  Linear in_proj{*this, "in_proj", embed_dim_, 3 * embed_dim_, {.bias = options_.bias}};
  Linear out_proj{*this, "out_proj", embed_dim_, embed_dim_, {.bias = options_.bias}};
  Parameter key_distances;
  Parameter value_distances;

 private:
  void start();
};

/// The score of i and j is ((q_i + u) k_j + (q_i + v) r_(i-j)) / sqrt(D), where r is a projection
/// of sines and cosines of the distance, so that it serves distances that training never met; keys
/// and values are those of `memory` [M,E], hidden states of before without a gradient, and of x
/// behind it. Dai et al., "Transformer-XL: attentive language models beyond a fixed-length
/// context", 2019. Parameters `qkv_net.weight` [3E,E], `r_net.weight` [E,E], `o_net.weight` [E,E],
/// and u and v as `r_w_bias` and `r_r_bias` [num_heads, E / num_heads], from zeros.
class TransformerXLAttention : public Module {
 public:
  /// Throws ValueError where a size is below 1, embed_dim is no multiple of num_heads or dropout
  /// outside [0, 1].
  TransformerXLAttention(int64_t embed_dim, int64_t num_heads,
                         RelativeAttentionOptions options = {.bias = false});
  TransformerXLAttention(Module& parent, std::string name, int64_t embed_dim, int64_t num_heads,
                         RelativeAttentionOptions options = {.bias = false});

  /// x to the same shape; memory [M,E] or [N,M,E], may be undefined. It gets a gradient, so
  /// detach() hidden states that are to get none, as TransformerXL does. Throws ShapeError where x,
  /// the memory or the mask, of T queries and S = M + T keys, do not fit, DTypeError where the mask
  /// is not bool.
  Tensor operator()(const Tensor& x, const Tensor& memory = {},
                    const RelativeAttentionCall& call = {.is_causal = true},
                    Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, embed_dim_, num_heads_, options_);
  }

 private:
  int64_t embed_dim_;
  int64_t num_heads_;
  RelativeAttentionOptions options_;

 public:
  Linear qkv_net{*this, "qkv_net", embed_dim_, 3 * embed_dim_, {.bias = options_.bias}};
  Linear r_net{*this, "r_net", embed_dim_, embed_dim_, {.bias = false}};
  Linear o_net{*this, "o_net", embed_dim_, embed_dim_, {.bias = options_.bias}};
  Parameter r_w_bias;
  Parameter r_r_bias;

 private:
  void start();
};

}  // namespace ebb::nn
