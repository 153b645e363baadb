// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/nn/module.h"
#include "ebb/ops/creation.h"

// What tells a model where in a sequence something stands. Rotary positions and ALiBi are options
// of MultiheadAttention; the ops behind are in ops/position.h.
namespace ebb::nn {

/// [length, d_model] of sines and cosines that tell positions apart: element [t,2i] is
/// sin((start + t) / base^(2i / d_model)), element [t,2i+1] the cosine of the same: Vaswani et al.,
/// "Attention is all you need", 2017, section 3.5. float32 unless options name another floating
/// type. Throws ValueError where length is negative, d_model below 1 or base not positive,
/// DTypeError on another type.
Tensor sinusoidal_positional_encoding(int64_t length, int64_t d_model,
                                      const TensorOptions& options = {}, double base = 10000,
                                      int64_t start = 0);

struct PositionalEncodingOptions {
  double dropout = 0;  ///< of the sum, in training
  double base = 10000;
};

/// Adds sinusoidal_positional_encoding() to x [T,E] or [N,T,E]. Keeps nothing, so that T is as
/// large as you like.
class PositionalEncoding : public Layer {
 public:
  /// Throws ValueError where d_model is below 1, base not positive or dropout outside [0, 1].
  explicit PositionalEncoding(int64_t d_model, PositionalEncodingOptions options = {});
  PositionalEncoding(Module& parent, std::string name, int64_t d_model,
                     PositionalEncodingOptions options = {});
  Tensor forward(const Tensor& x) const override { return at(x, 0); }
  /// The same for a piece of a sequence that begins at position `start`. Throws ShapeError.
  Tensor at(const Tensor& x, int64_t start) const;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, d_model_, options_); }

 private:
  void check() const;

  int64_t d_model_;
  PositionalEncodingOptions options_;
};

/// Adds the first T rows of `weight` [max_length, d_model] to x [T,E] or [N,T,E]: positions that
/// are learned, as in BERT and GPT. Starts from N(0, 0.02^2).
class LearnedPositions : public Layer {
 public:
  /// Throws ValueError where a size is below 1.
  LearnedPositions(int64_t max_length, int64_t d_model);
  LearnedPositions(Module& parent, std::string name, int64_t max_length, int64_t d_model);
  Tensor forward(const Tensor& x) const override { return at(x, 0); }
  /// The same for a piece of a sequence that begins at position `start`. Throws ShapeError, also
  /// where the sequence is longer than max_length.
  Tensor at(const Tensor& x, int64_t start) const;
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, weight.size(0), weight.size(1));
  }

  Parameter weight;

 private:
  void start(int64_t max_length, int64_t d_model);
};

struct RelativePositionBiasOptions {
  int64_t num_buckets = 32;
  int64_t max_distance = 128;
  bool bidirectional = true;  ///< keys after the query are told apart too
};

/// A number for each head and bucket of distances, to add to the scores: T5 (Raffel et al. 2020),
/// as relative_position_buckets(). Parameter `weight` [num_buckets, heads], drawn from N(0, 1/sqrt
/// of the heads).
///
///   Tensor y = scaled_dot_product_attention(q, k, v, {.attn_mask = bias(T, S)});
class RelativePositionBias : public Module {
 public:
  /// Throws ValueError where heads is below 1, and as relative_position_buckets().
  explicit RelativePositionBias(int64_t heads, RelativePositionBiasOptions options = {});
  RelativePositionBias(Module& parent, std::string name, int64_t heads,
                       RelativePositionBiasOptions options = {});
  /// [heads, queries, keys], where the last query stands at the last key if `aligned_at_end`, else
  /// the first at the first.
  Tensor operator()(int64_t queries, int64_t keys, bool aligned_at_end = false,
                    Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, weight.size(1), options_);
  }

  Parameter weight;

 private:
  void start(int64_t heads);

  RelativePositionBiasOptions options_;
};

}  // namespace ebb::nn
