// SPDX-License-Identifier: Apache-2.0
// Recurrent and recursive networks, written as a user of Ebb would.
#include <ebb/ebb.h>

#include "ebb_workloads.h"
#include "specs.h"

namespace bench {
namespace {

using ebb::Tensor;
using ebb::nn::LSTMState;

const ebb::CrossEntropyOptions kSum = {.reduction = ebb::Reduction::kSum};

// ---- language models
// -----------------------------------------------------------------------------

template <class Lstm>
struct LanguageNet : ebb::nn::Module {
  explicit LanguageNet(const LanguageModel& m)
      : embedding(*this, "embedding", m.vocabulary, m.embedding),
        lstm(*this, "lstm", m.embedding, m.hidden),
        out(*this, "out", m.hidden, m.vocabulary) {}
  ebb::nn::Embedding embedding;
  Lstm lstm;
  ebb::nn::Linear out;
};

// Step by step, an output for each token.
class Stepwise : public Model {
 public:
  explicit Stepwise(const LanguageModel& m)
      : net_(m), sgd_(net_.parameters(), {.lr = m.rate}), samples_(sequences(m)) {
    fill(m.name, net_);
  }
  void step(int64_t i) override {
    const std::vector<int64_t>& s = samples_[static_cast<size_t>(i)];
    Tensor loss = ebb::zeros({});
    LSTMState state;
    for (size_t t = 0; t + 1 < s.size(); ++t) {
      state = net_.lstm(net_.embedding(s[t]), state);
      loss = loss + cross_entropy(net_.out(state.h), s[t + 1]);
    }
    learn(loss, sgd_);
  }
  int64_t period() const override { return static_cast<int64_t>(samples_.size()); }

 private:
  LanguageNet<ebb::nn::LSTMCell> net_;
  ebb::optim::SGD sgd_;
  std::vector<std::vector<int64_t>> samples_;
};

// The whole sequence through one layer, all outputs in one product.
class Stacked : public Model {
 public:
  explicit Stacked(const LanguageModel& m) : net_(m), sgd_(net_.parameters(), {.lr = m.rate}) {
    fill(m.name, net_);
    for (const std::vector<int64_t>& s : sequences(m)) {
      const Tensor ids = ebb::from_vector(s);
      samples_.push_back({ids.narrow(0, 0, m.length), ids.narrow(0, 1, m.length)});
    }
  }
  void step(int64_t i) override {
    const auto& [inputs, targets] = samples_[static_cast<size_t>(i)];
    const Tensor scores = net_.out(net_.lstm(net_.embedding(inputs)).output);
    learn(cross_entropy(scores, targets, kSum), sgd_);
  }
  int64_t period() const override { return static_cast<int64_t>(samples_.size()); }

 private:
  LanguageNet<ebb::nn::LSTM> net_;
  ebb::optim::SGD sgd_;
  std::vector<std::pair<Tensor, Tensor>> samples_;
};

// ---- trees
// ---------------------------------------------------------------------------------------

class TreeLstm : public Model {
 public:
  TreeLstm() : samples_(tree::samples()) { fill("tree_lstm", net_); }
  void step(int64_t i) override {
    const tree::Tree& t = samples_[static_cast<size_t>(i)];
    Tensor loss = ebb::zeros({});
    net_.encode(t, static_cast<int>(t.size()) - 1, loss);
    learn(loss, sgd_);
  }
  int64_t period() const override { return tree::kSamples; }
  bool uneven() const override { return true; }

 private:
  struct Encoder : ebb::nn::Module {
    ebb::nn::Embedding words{*this, "embedding", tree::kVocabulary, tree::kEmbedding};
    ebb::nn::BinaryTreeLSTMCell cell{*this, "cell", tree::kEmbedding, tree::kHidden};
    ebb::nn::Linear classify{*this, "out", tree::kHidden, tree::kClasses};

    LSTMState encode(const tree::Tree& t, int at, Tensor& loss) {
      const tree::Node& node = t[static_cast<size_t>(at)];
      LSTMState state = node.left < 0
                            ? cell.leaf(words(node.word))
                            : cell(encode(t, node.left, loss), encode(t, node.right, loss));
      loss = loss + cross_entropy(classify(state.h), node.label);
      return state;
    }
  };
  Encoder net_;
  ebb::optim::SGD sgd_{net_.parameters(), {.lr = tree::kRate}};
  std::vector<tree::Tree> samples_;
};

// ---- tagger
// --------------------------------------------------------------------------------------

class Tagger : public Model {
 public:
  Tagger() : corpus_(tagger::read(options().ud)), net_(corpus_) {
    fill("tagger", net_);
    for (const tagger::Sentence& s : corpus_.sentences) {
      Sample sample;
      std::vector<int64_t> words;
      std::vector<int64_t> tags;
      for (const tagger::Word& w : s) {
        words.push_back(w.id);
        tags.push_back(w.tag);
        sample.characters.push_back(ebb::from_vector(w.characters));
      }
      sample.words = ebb::from_vector(words);
      sample.tags = ebb::from_vector(tags);
      samples_.push_back(std::move(sample));
    }
  }
  void step(int64_t i) override {
    const Sample& s = samples_[static_cast<size_t>(i)];
    spelled_.clear();
    for (const Tensor& letters : s.characters) {
      spelled_.push_back(net_.char_lstm(net_.characters(letters)).state.h.flatten());
    }
    const Tensor x = ebb::cat({net_.words(s.words), ebb::stack(spelled_)}, 1);
    const Tensor loss = cross_entropy(net_.out(net_.lstm(x).output), s.tags, kSum);
    spelled_.clear();
    learn(loss, sgd_);
  }
  int64_t period() const override { return tagger::kSamples; }
  bool uneven() const override { return true; }

 private:
  struct Sample {
    Tensor words;
    Tensor tags;
    std::vector<Tensor> characters;  // of each word
  };
  struct Net : ebb::nn::Module {
    explicit Net(const tagger::Corpus& c)
        : words(*this, "words", c.words, tagger::kWordEmbedding),
          characters(*this, "characters", c.characters, tagger::kCharEmbedding),
          char_lstm(*this, "char_lstm", tagger::kCharEmbedding, tagger::kCharHidden,
                    {.bidirectional = true}),
          lstm(*this, "lstm", tagger::kWordEmbedding + 2 * tagger::kCharHidden, tagger::kHidden,
               {.bidirectional = true}),
          out(*this, "out", 2 * tagger::kHidden, c.tags) {}
    ebb::nn::Embedding words;
    ebb::nn::Embedding characters;
    ebb::nn::LSTM char_lstm;
    ebb::nn::LSTM lstm;
    ebb::nn::Linear out;
  };
  tagger::Corpus corpus_;
  Net net_;
  ebb::optim::SGD sgd_{net_.parameters(), {.lr = tagger::kRate}};
  std::vector<Sample> samples_;
  std::vector<Tensor> spelled_;
};

}  // namespace

std::vector<Entry> recurrent_workloads() {
  std::vector<Entry> out;
  for (const LanguageModel& m : {kLstmLm, kLstmChar}) {
    out.push_back(entry<Stepwise>(m.name, m));
    out.push_back(entry<Stacked>(std::string(m.name) + "_stacked", m));
  }
  // The peer batches by hand in the second of each; Ebb's program is the same.
  out.push_back(entry<TreeLstm>("tree_lstm"));
  out.push_back(entry<TreeLstm>("tree_lstm_stacked"));
  if (!options().ud.empty()) {
    out.push_back(entry<Tagger>("bilstm_tagger"));
    out.push_back(entry<Tagger>("bilstm_tagger_packed"));
  }
  return out;
}

}  // namespace bench
