// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "ebb/nn/embedding.h"
#include "ebb/nn/position.h"
#include "ebb/nn/transformer.h"

namespace ebb::nn::models {

enum class PositionKind : uint8_t {
  kLearned,     ///< LearnedPositions, up to max_length: GPT
  kSinusoidal,  ///< PositionalEncoding: Vaswani et al. 2017
  kRotary,      ///< queries and keys turned: Su et al. 2021
  kAlibi,       ///< scores that fall off with the distance: Press et al. 2022
  kNone,        ///< the causal order alone
};

struct TransformerLMOptions {
  int64_t d_model = 128;
  int64_t nhead = 4;
  int64_t num_layers = 4;
  int64_t dim_feedforward = 0;  ///< 0: four times d_model
  int64_t max_length = 256;     ///< of learned positions
  double dropout = 0.1;
  PositionKind positions = PositionKind::kLearned;
  /// The weight of the output is that of the embedding: Press and Wolf, "Using the output embedding
  /// to improve language models", 2017.
  bool tie_weights = true;
  bool bias = true;  ///< of attention and linear layers
};

struct SampleOptions {
  double temperature = 1;  ///< 0: the most likely token
  /// Only the so many most likely tokens are drawn from.
  std::optional<int64_t> top_k = std::nullopt;
  /// At most so many tokens are looked back on, beside max_length of learned positions: as many as
  /// the model was trained with, since positions further away than those mean nothing to it.
  std::optional<int64_t> context = std::nullopt;
};

/// A language model of tokens 0 to vocabulary - 1: embedding, causal Transformer layers that
/// normalise before each part, a norm, and a score for each token that may come next. First values
/// as in GPT-2 (Radford et al., "Language models are unsupervised multitask learners", 2019):
/// weights from N(0, 0.02^2), those that end in a sum of 2 num_layers parts divided by the root of
/// that number. Parameters under `embedding`, `positions` (learned ones), `encoder` (a
/// TransformerEncoder) and `head`.
///
///   nn::models::TransformerLM model(65, {.d_model = 128, .nhead = 4, .num_layers = 4});
///   Tensor loss = cross_entropy(model(ids.narrow(0, 0, n - 1)), ids.narrow(0, 1, n - 1));
class TransformerLM : public Module {
 public:
  /// What is kept of the tokens seen so far, so that the next costs one step and not all of them.
  struct State {
    std::vector<KeyValueCache> layers;
    int64_t length() const { return layers.empty() ? 0 : layers[0].length(); }
  };

  /// Throws ValueError where a size is below 1, and as TransformerEncoder does.
  explicit TransformerLM(int64_t vocabulary, TransformerLMOptions options = {});
  TransformerLM(Module& parent, std::string name, int64_t vocabulary,
                TransformerLMOptions options = {});

  /// Scores of the token after each of `ids`: integers [T] or [N,T] to [T,V] or [N,T,V]. Throws
  /// ShapeError, also beyond max_length of learned positions, IndexError, DTypeError.
  Tensor operator()(const Tensor& ids, Where where = Where::current()) const;
  /// The same of the tokens [T] or [N,T] that follow those in `state`, which they join. Records no
  /// tape. Call it in evaluation mode.
  Tensor step(const Tensor& ids, State& state) const;
  /// `count` tokens that go on from `prompt`, which has at least one, drawn one after the other.
  /// Where learned positions or the context come to an end, the later half of what they hold is
  /// read again as if the sequence began there. Dropout is off, and the mode afterwards as before.
  /// Throws ValueError where the prompt is empty, count or temperature negative or top_k or context
  /// below 1, IndexError.
  std::vector<int64_t> generate(Span<const int64_t> prompt, int64_t count,
                                const SampleOptions& options = {},
                                Generator& generator = default_generator());
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, embedding.weight.size(0), options_);
  }
  const TransformerLMOptions& options() const { return options_; }

 private:
  // First of all, since the parts are made by them.
  TransformerLMOptions options_;

 public:
  Embedding embedding;
  std::unique_ptr<LearnedPositions> positions;  ///< null where they are not learned
  TransformerEncoder encoder;
  std::unique_ptr<Linear> head;  ///< null where the embedding's weight is tied to it

 private:
  void start(int64_t vocabulary);
  TransformerOptions encoder_options() const;
  Tensor embed(const Tensor& ids, int64_t start) const;
  Tensor scores(const Tensor& ids, State* state) const;
};

}  // namespace ebb::nn::models
