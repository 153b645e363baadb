// SPDX-License-Identifier: Apache-2.0
#include "specs.h"

#include <array>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

#include "data.h"

namespace bench {

std::vector<float> parameter(const std::string& name, const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (const int64_t s : shape) n *= s;
  const bool scale = shape.size() == 1 && name.find("norm") != std::string::npos &&
                     name.find("weight") != std::string::npos;
  if (scale) return std::vector<float>(static_cast<size_t>(n), 1.0F);
  return initial(name, n, shape.size() == 1 ? n : n / shape[0]);
}

namespace {

// n vectors of `size` numbers in [-bound, bound).
std::vector<std::vector<float>> vectors(const std::string& name, int64_t n, int64_t size,
                                        double bound) {
  std::vector<std::vector<float>> out;
  for (int64_t k = 0; k < n; ++k) out.push_back(uniform(with_size(name, k), size, -bound, bound));
  return out;
}

}  // namespace

std::vector<mlp::Sample> mlp::samples() {
  // Each class has an image of its own, which noise covers in part.
  std::vector<Sample> out;
  for (int64_t k = 0; k < kSamples; ++k) {
    const int64_t label = k % kClasses;
    std::vector<float> image = uniform(with_size("mlp.class", label), kIn, 0, 0.6);
    const std::vector<float> noise = uniform(with_size("mlp.noise", k), kIn, 0, 0.4);
    for (size_t i = 0; i < image.size(); ++i) image[i] += noise[i];
    out.push_back({std::move(image), label});
  }
  return out;
}

std::vector<std::vector<int64_t>> sequences(const LanguageModel& m) {
  // Every symbol has a favourite successor; frequencies fall off as the square of a uniform number.
  std::vector<std::vector<int64_t>> out;
  const std::string name = m.name;
  const Stream choice(name + ".choice");
  const Stream fresh(name + ".fresh");
  for (int64_t k = 0; k < m.samples; ++k) {
    std::vector<int64_t> s;
    for (int64_t t = 0; t <= m.length; ++t) {
      const int64_t at = k * (m.length + 1) + t;
      if (t > 0 && choice[at] < 0.5) {
        s.push_back((s.back() * 7 + 3) % m.vocabulary);
      } else {
        const double u = fresh[at];
        s.push_back(static_cast<int64_t>(u * u * static_cast<double>(m.vocabulary)));
      }
    }
    out.push_back(std::move(s));
  }
  return out;
}

namespace tree {
namespace {

// Adds a random tree of `leaves` leaves and gives the index of its root.
int grow(Tree& tree, int64_t leaves, const Stream& random, int64_t& draws) {
  Node node;
  if (leaves > 1) {
    const int64_t left = 1 + random.index(draws++, leaves - 1);
    node.left = grow(tree, left, random, draws);
    node.right = grow(tree, leaves - left, random, draws);
    node.label =
        (tree[static_cast<size_t>(node.left)].label + tree[static_cast<size_t>(node.right)].label) %
        kClasses;
  } else {
    node.word = random.index(draws++, kVocabulary);
    node.label = node.word % kClasses;
  }
  tree.push_back(node);
  return static_cast<int>(tree.size()) - 1;
}

}  // namespace

std::vector<Tree> samples() {
  std::vector<Tree> out;
  for (int64_t k = 0; k < kSamples; ++k) {
    const Stream random(with_size("tree", k));
    int64_t draws = 0;
    const int64_t leaves = kMinLeaves + random.index(draws++, kMaxLeaves - kMinLeaves + 1);
    Tree tree;
    grow(tree, leaves, random, draws);
    out.push_back(std::move(tree));
  }
  return out;
}

}  // namespace tree

std::vector<transformer::Sample> transformer::samples() {
  std::vector<Sample> out;
  for (int64_t k = 0; k < kSamples; ++k) {
    out.push_back({uniform(with_size("transformer.x", k), kLength * kWidth, -1, 1),
                   uniform(with_size("transformer.target", k % 4), kLength * kWidth, -1, 1)});
  }
  return out;
}

std::vector<float> ista::dictionary() { return uniform("ista.w", kPixels * kAtoms, -0.144, 0.144); }

std::vector<std::vector<float>> ista::samples() {
  return vectors("ista.y", kSamples, kPixels, 0.5);
}

std::vector<std::vector<float>> latent::samples() {
  return vectors("latent.y", kSamples, kOut, 0.5);
}

std::vector<std::vector<float>> penalty::samples() {
  return vectors("penalty.x", kSamples, kIn, 1);
}

namespace tagger {
namespace {

// Numbers things in the order in which they are first seen.
class Numbering {
 public:
  int64_t operator()(const std::string& s) {
    return numbers_.emplace(s, static_cast<int64_t>(numbers_.size())).first->second;
  }
  int64_t size() const { return static_cast<int64_t>(numbers_.size()); }

 private:
  std::map<std::string, int64_t> numbers_;
};

// The characters of UTF-8 text.
std::vector<std::string> characters(const std::string& s) {
  std::vector<std::string> out;
  for (const char c : s) {
    const bool continues = (static_cast<unsigned char>(c) & 0xC0) == 0x80;
    if (continues && !out.empty()) {
      out.back() += c;
    } else {
      out.emplace_back(1, c);
    }
  }
  return out;
}

}  // namespace

Corpus read(const std::string& folder) {
  constexpr size_t kMinWords = 5;
  constexpr int64_t kEvery = 300;
  const std::string path = folder + "/train.conllu";
  std::ifstream in(path);
  if (!in) throw std::runtime_error("cannot read " + path);
  Corpus corpus;
  Numbering words;
  Numbering letters;
  Numbering tags;
  std::vector<std::array<std::string, 2>> rows;  // form and tag
  std::string line;
  int64_t eligible = 0;
  while (std::getline(in, line)) {
    if (line.empty()) {
      // All are numbered, so that tables have their real sizes.
      Sentence sentence;
      for (const auto& [form, tag] : rows) {
        Word word{words(form), {}, tags(tag)};
        for (const std::string& c : characters(form)) word.characters.push_back(letters(c));
        sentence.push_back(std::move(word));
      }
      if (rows.size() >= kMinWords && eligible++ % kEvery == 0 &&
          corpus.sentences.size() < static_cast<size_t>(kSamples)) {
        corpus.sentences.push_back(std::move(sentence));
      }
      rows.clear();
      continue;
    }
    // A word: number, form, lemma, tag, ... Ranges (3-4) and empty nodes (3.1) are no words.
    std::istringstream fields(line);
    std::string id;
    std::string form;
    std::string lemma;
    std::string tag;
    std::getline(fields, id, '\t');
    if (id.find_first_not_of("0123456789") != std::string::npos) continue;
    std::getline(fields, form, '\t');
    std::getline(fields, lemma, '\t');
    std::getline(fields, tag, '\t');
    if (form.empty() || tag.empty()) throw std::runtime_error(path + ": bad line '" + line + "'");
    rows.push_back({form, tag});
  }
  if (corpus.sentences.size() < static_cast<size_t>(kSamples)) {
    throw std::runtime_error(path + " has too few sentences");
  }
  corpus.words = words.size();
  corpus.characters = letters.size();
  corpus.tags = tags.size();
  return corpus;
}

}  // namespace tagger
}  // namespace bench
