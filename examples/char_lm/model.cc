// SPDX-License-Identifier: Apache-2.0
#include "model.h"

#include <algorithm>
#include <cmath>

namespace char_lm {

using ebb::Tensor;

namespace {

Tensor ids(const Tokens& text, int64_t begin, int64_t count) {
  const auto first = text.begin() + begin;
  return ebb::from_vector(Tokens(first, first + count));
}

void require_length(const Tokens& train, int64_t length, int64_t least) {
  if (length >= least && static_cast<int64_t>(train.size()) > 2 * length) return;
  throw ebb::ValueError("the length of a step is " + std::to_string(length) +
                        "; it must be at least " + std::to_string(least) +
                        " and less than half of the training text's " +
                        std::to_string(train.size()) + " characters");
}

class Lstm final : public Model {
 public:
  Lstm(const Tokens& train, int64_t vocabulary, int64_t hidden, int64_t layers, int64_t length,
       double dropout)
      : train_(train), length_(length), net_(vocabulary, hidden, layers, dropout) {
    require_length(train, length, 1);
  }

  ebb::nn::Module& module() override { return net_; }

  Tensor next_loss() override {
    if (at_ + length_ >= static_cast<int64_t>(train_.size())) {
      // Another pass begins somewhere else, so that pieces are cut at other places.
      at_ = static_cast<int64_t>(
          ebb::default_generator().uniform_int(static_cast<uint64_t>(length_)));
      state_ = {};
    }
    const Tensor scores = net_(ids(train_, at_, length_), state_);
    state_ = {state_.h.detach(), state_.c.detach()};
    const Tensor targets = ids(train_, at_ + 1, length_);
    at_ += length_;
    return cross_entropy(scores, targets);
  }

  int64_t pieces() const override { return static_cast<int64_t>(train_.size()) / length_; }

  double score(const Tokens& text) override {
    const ebb::NoGradGuard no_grad;
    net_.eval();
    constexpr int64_t kPiece = kContext;
    ebb::LSTMState state;
    double sum = 0;
    int64_t scored = 0;
    for (int64_t at = 0; at + 1 < static_cast<int64_t>(text.size()); at += kPiece) {
      const int64_t n = std::min(kPiece, static_cast<int64_t>(text.size()) - 1 - at);
      const Tensor scores = net_(ids(text, at, n), state);
      if (at + 1 < kContext) continue;
      sum +=
          cross_entropy(scores, ids(text, at + 1, n), {.reduction = ebb::Reduction::kSum}).item();
      scored += n;
    }
    net_.train();
    return sum / static_cast<double>(scored);
  }

  Tokens sample(const Tokens& prompt, int64_t count, double temperature) override {
    const ebb::NoGradGuard no_grad;
    net_.eval();
    ebb::LSTMState state;
    Tensor scores = net_(ids(prompt, 0, static_cast<int64_t>(prompt.size())), state);
    Tokens result;
    for (int64_t i = 0; i < count; ++i) {
      const Tensor p = softmax(select(scores, 0, -1) / temperature, 0);
      const int64_t next = multinomial(p, 1).value().integer_item();
      result.push_back(next);
      scores = net_(ebb::from_vector(Tokens{next}), state);
    }
    net_.train();
    return result;
  }

 private:
  struct Net : ebb::nn::Module {
    Net(int64_t vocabulary, int64_t hidden, int64_t layers, double dropout)
        : embedding{*this, "embedding", vocabulary, hidden},
          lstm{*this, "lstm", hidden, hidden, {.num_layers = layers, .dropout = dropout}},
          drop{*this, "drop", dropout},
          head{*this, "head", hidden, vocabulary} {}

    // Scores [T,V] of what comes after each of the tokens; `state` goes on.
    Tensor operator()(const Tensor& tokens, ebb::LSTMState& state) const {
      const auto result = lstm(embedding(tokens), state);
      state = result.state;
      return head(drop(result.output));
    }

    ebb::nn::Embedding embedding;
    ebb::nn::LSTM lstm;
    ebb::nn::Dropout drop;
    ebb::nn::Linear head;
  };

  const Tokens& train_;
  int64_t length_;
  int64_t at_ = INT64_MAX / 2;
  ebb::LSTMState state_;
  Net net_;
};

class Transformer final : public Model {
 public:
  Transformer(const Tokens& train, int64_t vocabulary, int64_t width, int64_t layers,
              int64_t length, double dropout)
      : train_(train),
        length_(length),
        net_(vocabulary, {.d_model = width,
                          .nhead = std::max<int64_t>(1, width / 32),
                          .num_layers = layers,
                          .dropout = dropout,
                          .positions = ebb::nn::models::PositionKind::kRotary}) {
    // Windows are scored behind their first kContext characters.
    require_length(train, length, kContext + 1);
  }

  ebb::nn::Module& module() override { return net_; }

  Tensor next_loss() override {
    const auto places = static_cast<uint64_t>(static_cast<int64_t>(train_.size()) - length_);
    const auto at = static_cast<int64_t>(ebb::default_generator().uniform_int(places));
    return cross_entropy(net_(ids(train_, at, length_)), ids(train_, at + 1, length_));
  }

  int64_t pieces() const override { return static_cast<int64_t>(train_.size()) / length_; }

  // Windows that overlap, of each of which the part behind the first kContext is scored.
  double score(const Tokens& text) override {
    const ebb::NoGradGuard no_grad;
    net_.eval();
    const auto size = static_cast<int64_t>(text.size());
    const int64_t step = length_ - kContext;
    double sum = 0;
    int64_t scored = 0;
    for (int64_t at = 0; at + kContext + 1 < size; at += step) {
      const int64_t n = std::min(length_, size - 1 - at);
      const int64_t fresh = n - kContext + 1;
      if (fresh < 1) break;
      const Tensor scores = net_(ids(text, at, n)).narrow(0, kContext - 1, fresh);
      const Tensor targets = ids(text, at + kContext, fresh);
      // The last one is the first of the next window.
      const int64_t count = at + n + 1 < size ? fresh - 1 : fresh;
      sum += cross_entropy(scores.narrow(0, 0, count), targets.narrow(0, 0, count),
                           {.reduction = ebb::Reduction::kSum})
                 .item();
      scored += count;
    }
    net_.train();
    return sum / static_cast<double>(scored);
  }

  Tokens sample(const Tokens& prompt, int64_t count, double temperature) override {
    return net_.generate(prompt, count, {.temperature = temperature, .context = length_});
  }

 private:
  const Tokens& train_;
  int64_t length_;
  ebb::nn::models::TransformerLM net_;
};

}  // namespace

std::unique_ptr<Model> make_lstm(const Tokens& train, int64_t vocabulary, int64_t hidden,
                                 int64_t layers, int64_t length, double dropout) {
  return std::make_unique<Lstm>(train, vocabulary, hidden, layers, length, dropout);
}

std::unique_ptr<Model> make_transformer(const Tokens& train, int64_t vocabulary, int64_t width,
                                        int64_t layers, int64_t length, double dropout) {
  return std::make_unique<Transformer>(train, vocabulary, width, layers, length, dropout);
}

}  // namespace char_lm
