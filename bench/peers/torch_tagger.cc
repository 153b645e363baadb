// SPDX-License-Identifier: Apache-2.0
// The tagger with character LSTMs in LibTorch.
#include <algorithm>
#include <optional>

#include "../specs.h"
#include "torch_workloads.h"

namespace bench {
namespace {

using namespace tagger;

enum class Spelling {
  kByHand,  // cells by hand, inputs of a sequence in one product
  kModule,  // nn::LSTM on every word's characters and on the sentence
  kPacked,  // all words of a sentence as one packed batch
};

class Tagger : public Model {
 public:
  Tagger(const Style& style, Spelling spelling, bool sparse)
      : spelling_(spelling), sparse_(sparse) {
    const Corpus corpus = read(options().ud);
    words_ = trained("tagger.words.weight", {corpus.words, kWordEmbedding});
    characters_ = trained("tagger.characters.weight", {corpus.characters, kCharEmbedding});
    out_w_ = trained("tagger.out.weight", {corpus.tags, 2 * kHidden});
    out_b_ = trained("tagger.out.bias", {corpus.tags});
    std::vector<Tensor> parameters = {words_, characters_, out_w_, out_b_};
    std::vector<Tensor> doubled;
    if (spelling == Spelling::kByHand) {
      for (const char* suffix : {"", "_reverse"}) {
        char_gates_.emplace_back("tagger.char_lstm", suffix, kCharEmbedding, kCharHidden, false);
        gates_.emplace_back("tagger.lstm", suffix, kWordEmbedding + 2 * kCharHidden, kHidden,
                            false);
      }
      for (const auto* pair : {&char_gates_, &gates_}) {
        for (const Gates& g : *pair) {
          g.list(parameters);
          doubled.push_back(g.bias);
        }
      }
    } else {
      char_lstm_ = make_lstm("tagger.char_lstm", kCharEmbedding, kCharHidden, parameters);
      lstm_ = make_lstm("tagger.lstm", kWordEmbedding + 2 * kCharHidden, kHidden, parameters);
    }
    for (const Sentence& s : corpus.sentences) samples_.push_back(prepared(s));
    sgd_.emplace(parameters, kRate, style.gradients, doubled);
  }

  void step(int64_t i) override {
    const Sample& s = samples_[static_cast<size_t>(i)];
    const Tensor w = at::embedding(words_, s.words, -1, false, sparse_);
    const Tensor x = at::cat({w, spelled(s)}, 1);
    const Tensor states = spelling_ == Spelling::kByHand
                              ? sentence(x)
                              : std::get<0>(lstm_->forward(x.unsqueeze(1))).squeeze(1);
    const Tensor scores = at::addmm(out_b_, states, out_w_.t());
    learn(at::nll_loss_nd(at::log_softmax(scores, -1), s.tags, {}, at::Reduction::Sum), *sgd_);
  }
  int64_t period() const override { return kSamples; }

 private:
  struct Sample {
    Tensor words;
    Tensor tags;
    std::vector<Tensor> characters;  // of each word
    // For packing: words by falling length, and where each went.
    Tensor padded;  // [longest, words]
    Tensor lengths;
    Tensor order_back;
  };

  static torch::nn::LSTM make_lstm(const std::string& name, int64_t in, int64_t hidden,
                                   std::vector<Tensor>& parameters) {
    torch::nn::LSTM lstm(torch::nn::LSTMOptions(in, hidden).bidirectional(true));
    fill(name, *lstm);
    for (const Tensor& p : lstm->parameters()) parameters.push_back(p);
    return lstm;
  }

  static Sample prepared(const Sentence& s) {
    Sample out;
    std::vector<int64_t> ids;
    std::vector<int64_t> tags;
    for (const Word& w : s) {
      ids.push_back(w.id);
      tags.push_back(w.tag);
      out.characters.push_back(torch::tensor(w.characters));
    }
    out.words = torch::tensor(ids);
    out.tags = torch::tensor(tags);
    std::vector<int64_t> order(s.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return s[static_cast<size_t>(a)].characters.size() >
             s[static_cast<size_t>(b)].characters.size();
    });
    std::vector<int64_t> lengths;
    std::vector<int64_t> back(order.size());
    const size_t longest = s[static_cast<size_t>(order[0])].characters.size();
    std::vector<int64_t> padded(longest * order.size(), 0);
    for (size_t k = 0; k < order.size(); ++k) {
      const auto& letters = s[static_cast<size_t>(order[k])].characters;
      lengths.push_back(static_cast<int64_t>(letters.size()));
      back[static_cast<size_t>(order[k])] = static_cast<int64_t>(k);
      for (size_t t = 0; t < letters.size(); ++t) padded[t * order.size() + k] = letters[t];
    }
    out.lengths = torch::tensor(lengths);
    out.order_back = torch::tensor(back);
    out.padded = torch::tensor(padded).view(
        {static_cast<int64_t>(longest), static_cast<int64_t>(order.size())});
    return out;
  }

  // The last states over the characters of every word, both directions: [words, 2 * hidden].
  Tensor spelled(const Sample& s) {
    if (spelling_ == Spelling::kPacked) {
      const Tensor x = at::embedding(characters_, s.padded);
      const auto packed = torch::nn::utils::rnn::pack_padded_sequence(x, s.lengths);
      const auto result = char_lstm_->forward_with_packed_input(packed);
      const Tensor h = std::get<0>(std::get<1>(result));  // [2, words, hidden]
      const Tensor both = h.transpose(0, 1).reshape({h.size(1), 2 * kCharHidden});
      return at::index_select(both, 0, s.order_back);
    }
    std::vector<Tensor> out;
    for (const Tensor& letters : s.characters) {
      const Tensor x = at::embedding(characters_, letters);
      if (spelling_ == Spelling::kModule) {
        const auto result = char_lstm_->forward(x.unsqueeze(1));
        out.push_back(std::get<0>(std::get<1>(result)).view({2 * kCharHidden}));
      } else {
        for (size_t d = 0; d < 2; ++d) out.push_back(states(char_gates_[d], x, d == 1).back());
      }
    }
    return (spelling_ == Spelling::kModule ? at::stack(out) : at::cat(out))
        .view({static_cast<int64_t>(s.characters.size()), 2 * kCharHidden});
  }

  Tensor sentence(const Tensor& x) const {
    const std::vector<Tensor> forward = states(gates_[0], x, false);
    std::vector<Tensor> backward = states(gates_[1], x, true);
    std::reverse(backward.begin(), backward.end());
    return at::cat({at::stack(forward), at::stack(backward)}, 1);
  }

  // The states of one direction, in the order in which they were reached.
  static std::vector<Tensor> states(const Gates& gates, const Tensor& x, bool reverse) {
    std::vector<Tensor> inputs = at::addmm(gates.bias, x, gates.w.t()).unbind(0);
    if (reverse) std::reverse(inputs.begin(), inputs.end());
    std::vector<Tensor> out;
    Tensor h;
    Tensor c;
    for (const Tensor& sums : inputs) {
      gates.advance(h.defined() ? at::addmv(sums, gates.u, h) : sums, h, c, h.defined());
      out.push_back(h);
    }
    return out;
  }

  Spelling spelling_;
  bool sparse_;
  Tensor words_, characters_, out_w_, out_b_;
  std::vector<Gates> char_gates_;
  std::vector<Gates> gates_;
  torch::nn::LSTM char_lstm_{nullptr};
  torch::nn::LSTM lstm_{nullptr};
  std::optional<Sgd> sgd_;
  std::vector<Sample> samples_;
};

}  // namespace

std::vector<Entry> tagger_workloads() {
  std::vector<Entry> out;
  if (options().ud.empty()) return out;
  for (const bool sparse : {true, false}) {
    const std::string suffix = sparse ? ",sparse" : "";
    add_entries<Tagger>(out, "bilstm_tagger", "by-hand" + suffix, Spelling::kByHand, sparse);
    add_entries<Tagger>(out, "bilstm_tagger", "nn::LSTM" + suffix, Spelling::kModule, sparse);
    add_entries<Tagger>(out, "bilstm_tagger_packed", "nn::LSTM" + suffix, Spelling::kPacked,
                        sparse);
  }
  return out;
}

}  // namespace bench
