// SPDX-License-Identifier: Apache-2.0
//
// What must move. The forward pass reads a weight at every call that the program makes with it; a
// call on a whole sequence reads it once. Playback sees the whole tape: it reads a weight once for
// all uses whose gradients do not depend on each other, and not at all where the input needs no
// gradient. The update reads and writes every element that has a gradient once. Multiply-adds: one
// for the forward pass, one for the gradient of the weight, one for that of the input if needed.
#include "bounds.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "specs.h"

namespace bench {
namespace {

// The reference machine.
constexpr double kPeak = 79.4e9;  // operations/s, float32 multiply-add
struct Level {
  double bytes;  // what fits
  double read;   // bytes/s
  double write;
};
constexpr Level kLevels[] = {
    {32e3, 149e9, 75e9},  // L1
    {512e3, 64e9, 60e9},  // L2
    {6e6, 53e9, 47e9},    // L3
    {32e6, 30e9, 20e9},   // L3, shared with others
    {1e18, 16e9, 12e9},   // memory
};

// What one step costs at least. Weights are counted in floats.
class Cost {
 public:
  // A weight of which `elements` stay in the cache.
  Cost& holds(double elements) {
    held_ += elements;
    return *this;
  }
  // `times` reads of n elements.
  Cost& reads(double n, double times = 1) {
    reads_ += n * times;
    return *this;
  }
  Cost& updates(double n) {
    reads_ += n;
    writes_ += n;
    return *this;
  }
  Cost& multiplies(double n) {
    multiplies_ += n;
    return *this;
  }

  // A dense layer of n weights. `calls` in the forward pass on `vectors` in all; `gathers` is how
  // often playback reads it, 0 where its input needs no gradient.
  Cost& layer(double n, double calls, double vectors, double gathers) {
    holds(n).reads(n, calls).reads(n, gathers).updates(n);
    return multiplies(n * vectors * (gathers > 0 ? 3 : 2));
  }
  // `rows` rows of a table.
  Cost& rows(double n, double width) {
    return holds(n * width).reads(n * width).updates(n * width);
  }

  double us() const {
    const double bytes = 4 * held_;
    const Level* level = kLevels;
    while (level->bytes < bytes) ++level;
    return 1e6 * (4 * reads_ / level->read + 4 * writes_ / level->write + 2 * multiplies_ / kPeak);
  }

 private:
  double held_ = 0;
  double reads_ = 0;
  double writes_ = 0;
  double multiplies_ = 0;
};

double d(int64_t n) { return static_cast<double>(n); }

double mlp_bound() {
  using namespace mlp;
  return Cost()
      .layer(d(kIn * kHidden1), 1, 1, 0)
      .layer(d(kHidden1 * kHidden2), 1, 1, 1)
      .layer(d(kHidden2 * kClasses), 1, 1, 1)
      .us();
}

// Forward, and twice as much for the gradients, but that of the first layer's input.
double lenet_bound() {
  using namespace lenet;
  const double side1 = d(kSide - kKernel + 1);
  const double side2 = side1 / 2 - d(kKernel) + 1;
  const double w1 = d(kConv1 * kKernel * kKernel);
  const double w2 = d(kConv2 * kConv1 * kKernel * kKernel);
  return Cost()
      .layer(w1, 1, side1 * side1, 0)
      .layer(w2, 1, side2 * side2, 1)
      .layer(d(kFlat * kHidden1), 1, 1, 1)
      .layer(d(kHidden1 * kHidden2), 1, 1, 1)
      .layer(d(kHidden2 * mlp::kClasses), 1, 1, 1)
      .us();
}

// With `stacked`, layers that can take the whole sequence at once do.
double language_bound(const LanguageModel& m, bool stacked) {
  const double t = d(m.length);
  return Cost()
      .rows(t, d(m.embedding))
      .layer(d(4 * m.hidden * m.embedding), stacked ? 1 : t, t, 1)
      .layer(d(4 * m.hidden * m.hidden), t, t, t)
      .layer(d(m.vocabulary * m.hidden), stacked ? 1 : t, t, 1)
      .us();
}

double tree_bound(bool stacked) {
  using namespace tree;
  double sum = 0;
  const std::vector<Tree> trees = samples();
  for (const Tree& t : trees) {
    // Nodes of one height do not depend on each other.
    std::vector<int> height(t.size(), 0);
    double leaves = 0;
    for (size_t i = 0; i < t.size(); ++i) {
      if (t[i].left < 0) {
        ++leaves;
      } else {
        height[i] = 1 + std::max(height[static_cast<size_t>(t[i].left)],
                                 height[static_cast<size_t>(t[i].right)]);
      }
    }
    const double inner = d(static_cast<int64_t>(t.size())) - leaves;
    const double all = leaves + inner;
    sum += Cost()
               .rows(leaves, d(kEmbedding))
               .layer(d(3 * kHidden * kEmbedding), stacked ? 1 : leaves, leaves, 1)
               .layer(d(5 * kHidden * 2 * kHidden), inner, inner, height.back())
               .layer(d(kHidden * kClasses), stacked ? 1 : all, all, 1)
               .us();
  }
  return sum / d(static_cast<int64_t>(trees.size()));
}

double transformer_bound() {
  using namespace transformer;
  const double w = d(kWidth);
  const double t = d(kLength);
  return Cost()
      .layer(3 * w * w, 1, t, 1)
      .layer(w * w, 1, t, 1)
      .layer(w * d(kFeedForward), 1, t, 1)
      .layer(w * d(kFeedForward), 1, t, 1)
      .multiplies(2 * 3 * t * t * w)  // scores and their use
      .us();
}

double ista_bound() {
  using namespace ista;
  const double n = d(kPixels * kAtoms);
  // Two products an iteration, each with one in playback, and the energy's own.
  const double uses = 2 * kIterations + 1;
  return Cost().holds(n).reads(n, 2 * uses).updates(n).multiplies(3 * n * uses).us();
}

double latent_bound() {
  using namespace latent;
  const double n = d(kCode * kHidden + kHidden * kOut);
  const double first = d(kCode * kHidden);
  // Forward and back to z at every step; then once more, back to the weights: the code needs no
  // gradient there.
  return Cost()
      .holds(n)
      .reads(n, 2 * kInferenceSteps + 2)
      .reads(-first)
      .updates(n)
      .multiplies(n * 2 * kInferenceSteps + 3 * n - first)
      .us();
}

double penalty_bound() {
  using namespace penalty;
  const double n = d(kIn * kHidden + kHidden * kHidden + kHidden);
  // Forward, back to x, and playback through both.
  return Cost().holds(n).reads(n, 4).updates(n).multiplies(6 * n).us();
}

double tagger_bound(const std::string& folder, bool stacked) {
  using namespace tagger;
  const Corpus corpus = read(folder);
  double sum = 0;
  for (const Sentence& s : corpus.sentences) {
    const double words = d(static_cast<int64_t>(s.size()));
    double letters = 0;
    double longest = 0;
    for (const Word& w : s) {
      const double n = d(static_cast<int64_t>(w.characters.size()));
      letters += n;
      longest = std::max(longest, n);
    }
    const double word_in = d(kWordEmbedding + 2 * kCharHidden);
    Cost cost;
    cost.rows(words, d(kWordEmbedding)).rows(d(corpus.characters), d(kCharEmbedding));
    for (int direction = 0; direction < 2; ++direction) {
      cost.layer(d(4 * kCharHidden * kCharEmbedding), stacked ? 1 : words, letters, 1)
          .layer(d(4 * kCharHidden * kCharHidden), stacked ? longest : letters, letters, longest)
          .layer(d(4 * kHidden) * word_in, 1, words, 1)
          .layer(d(4 * kHidden * kHidden), words, words, words);
    }
    sum += cost.layer(d(2 * kHidden * corpus.tags), 1, words, 1).us();
  }
  return sum / d(static_cast<int64_t>(corpus.sentences.size()));
}

}  // namespace

double bound_us(const std::string& workload, const std::string& ud) {
  const auto dot = workload.rfind('.');
  const std::string family = dot == std::string::npos ? workload : workload.substr(0, dot);
  const double n = dot == std::string::npos ? 0 : std::strtod(&workload[dot + 1], nullptr);
  if (family == "micro.matrix_vector")
    return Cost().holds(n * n).reads(n * n, 2).multiplies(2 * n * n).us();
  if (family == "micro.matrix_product" || family == "kernel.mm")
    return Cost().multiplies(n * n * n).us();
  if (family == "kernel.mv" || family == "kernel.mv_t") {
    return Cost().holds(n * n).reads(n * n).multiplies(n * n).us();
  }
  if (family == "kernel.ger") return Cost().holds(n * n).updates(n * n).multiplies(n * n).us();
  if (workload == "mlp") return mlp_bound();
  if (workload == "lenet") return lenet_bound();
  if (workload == "lstm_lm") return language_bound(kLstmLm, false);
  if (workload == "lstm_lm_stacked") return language_bound(kLstmLm, true);
  if (workload == "lstm_char") return language_bound(kLstmChar, false);
  if (workload == "lstm_char_stacked") return language_bound(kLstmChar, true);
  if (workload == "tree_lstm") return tree_bound(false);
  if (workload == "tree_lstm_stacked") return tree_bound(true);
  if (workload == "transformer_block") return transformer_bound();
  if (workload == "ista") return ista_bound();
  if (workload == "latent_inference") return latent_bound();
  if (workload == "gradient_penalty") return penalty_bound();
  if (workload == "bilstm_tagger") return tagger_bound(ud, false);
  if (workload == "bilstm_tagger_packed") return tagger_bound(ud, true);
  return 0;
}

}  // namespace bench
