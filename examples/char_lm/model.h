// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ebb/ebb.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// Two networks that read a text character by character and say what comes next.
namespace char_lm {

using Tokens = std::vector<int64_t>;

/// What both do for the program.
class Model {
 public:
  virtual ~Model() = default;
  virtual ebb::nn::Module& module() = 0;
  /// The mean loss, nats a character, of the next piece of the training text.
  virtual ebb::Tensor next_loss() = 0;
  /// Pieces that make a pass over the training text.
  virtual int64_t pieces() const = 0;
  /// Nats a character over `text` from its character 64 on, each scored with 64 or more before it.
  virtual double score(const Tokens& text) = 0;
  /// `count` characters that go on from `prompt`.
  virtual Tokens sample(const Tokens& prompt, int64_t count, double temperature) = 0;
};

/// Characters that a score may look back on at least.
inline constexpr int64_t kContext = 64;

/// An embedding, LSTM layers and a score for each character. It reads the training text from front
/// to back in pieces of `length`, its state going on from piece to piece.
std::unique_ptr<Model> make_lstm(const Tokens& train, int64_t vocabulary, int64_t hidden,
                                 int64_t layers, int64_t length, double dropout);

/// A Transformer that reads windows of `length` characters, at random places of the training text.
std::unique_ptr<Model> make_transformer(const Tokens& train, int64_t vocabulary, int64_t width,
                                        int64_t layers, int64_t length, double dropout);

}  // namespace char_lm
