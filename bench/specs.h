// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

// What the workloads compute: sizes, learning rates, samples, initial weights. Both sides of a
// comparison read it from here. All steps have batch size one and end with plain SGD.
namespace bench {

/// Initial value of the parameter of this name: spread evenly over +-1/sqrt(fan in), the elements
/// behind the first size (of a vector: all), but 1 for the weight of a normalisation.
std::vector<float> parameter(const std::string& name, const std::vector<int64_t>& shape);

/// "name.64"
inline std::string with_size(const std::string& name, int64_t n) {
  return name + "." + std::to_string(n);
}

namespace micro {
inline constexpr int64_t kChain = 1000;  // ops of a chain
inline constexpr int64_t kSizes[] = {1, 16, 64, 256, 1024, 4096, 65536};
inline constexpr int64_t kVectorSizes[] = {64, 256, 1024};
inline constexpr int64_t kProductSizes[] = {8, 16, 32, 64, 128, 256};
inline constexpr int64_t kSliceOf = 1024;  // elements that slices are taken from
inline constexpr int64_t kSlice = 16;      // elements of a slice
inline constexpr int64_t kSamples = 8;
}  // namespace micro

namespace kernel {
inline constexpr int64_t kProductSizes[] = {8, 16, 32, 64, 128, 256};
inline constexpr int64_t kVectorSizes[] = {64, 256, 512, 1024};
inline constexpr int64_t kFunctionSizes[] = {16, 128, 1024, 65536};
inline constexpr int64_t kSoftmaxSizes[] = {10, 1000, 10000};
inline constexpr const char* kFunctions[] = {"exp", "log", "tanh", "sigmoid", "erf"};
}  // namespace kernel

// A classifier 784-256-128-10 with ReLU, cross entropy.
namespace mlp {
inline constexpr int64_t kIn = 784;
inline constexpr int64_t kHidden1 = 256;
inline constexpr int64_t kHidden2 = 128;
inline constexpr int64_t kClasses = 10;
inline constexpr int64_t kSamples = 64;
inline constexpr double kRate = 0.01;
struct Sample {
  std::vector<float> image;
  int64_t label;
};
std::vector<Sample> samples();
}  // namespace mlp

// LeNet-5 (LeCun et al. 1998) on 28 x 28 pixels without padding: convolutions of 5 x 5 to 6 and 16
// channels, ReLU, maxima over 2 x 2; linear layers. The images are those of `mlp`.
namespace lenet {
inline constexpr int64_t kSide = 28;
inline constexpr int64_t kConv1 = 6;
inline constexpr int64_t kConv2 = 16;
inline constexpr int64_t kKernel = 5;
inline constexpr int64_t kFlat = kConv2 * 4 * 4;
inline constexpr int64_t kHidden1 = 120;
inline constexpr int64_t kHidden2 = 84;
inline constexpr double kRate = 0.01;
}  // namespace lenet

// A language model: Embedding, LSTM, Linear; summed cross entropy of every next token.
struct LanguageModel {
  const char* name;
  int64_t vocabulary;
  int64_t embedding;
  int64_t hidden;
  int64_t length;  // tokens that are predicted
  int64_t samples;
  double rate;
};
inline constexpr LanguageModel kLstmLm = {"lstm_lm", 10000, 128, 256, 30, 32, 0.01};
inline constexpr LanguageModel kLstmChar = {"lstm_char", 64, 64, 128, 30, 64, 0.01};
/// Sequences of length + 1 symbols: symbol t + 1 is the target at t.
std::vector<std::vector<int64_t>> sequences(const LanguageModel& m);

// A binary Tree-LSTM (Tai, Socher and Manning 2015) on random trees; summed cross entropy at every
// node.
namespace tree {
inline constexpr int64_t kVocabulary = 5000;
inline constexpr int64_t kEmbedding = 150;
inline constexpr int64_t kHidden = 150;
inline constexpr int64_t kClasses = 5;
inline constexpr int64_t kMinLeaves = 10;
inline constexpr int64_t kMaxLeaves = 30;
inline constexpr int64_t kSamples = 32;
inline constexpr double kRate = 0.005;
struct Node {
  int left = -1;  // indices of nodes; -1 of a leaf
  int right = -1;
  int64_t word = 0;
  int64_t label = 0;
};
/// Children stand before their parents; the root is last.
using Tree = std::vector<Node>;
std::vector<Tree> samples();
}  // namespace tree

// A pre-norm encoder block with ReLU; mean squared distance from a target.
namespace transformer {
inline constexpr int64_t kWidth = 128;
inline constexpr int64_t kHeads = 4;
inline constexpr int64_t kFeedForward = 512;
inline constexpr int64_t kLength = 32;
inline constexpr int64_t kSamples = 32;
inline constexpr double kRate = 0.1;
inline constexpr double kEps = 1e-5;
struct Sample {
  std::vector<float> x;  // [length, width], as the target
  std::vector<float> target;
};
std::vector<Sample> samples();
}  // namespace transformer

// Sparse coding unrolled (Gregor and LeCun 2010): z <- shrink(z - step W'(W z - y), step lambda)
// from zero; 1/2 |y - W z|^2 + lambda |z|_1 is played back to W.
namespace ista {
inline constexpr int64_t kPixels = 144;
inline constexpr int64_t kAtoms = 256;
inline constexpr int kIterations = 50;
inline constexpr int64_t kSamples = 64;
inline constexpr double kStep = 0.16;
inline constexpr double kLambda = 0.05;
inline constexpr double kRate = 0.01;
std::vector<float> dictionary();            // [pixels, atoms], columns of about unit norm
std::vector<std::vector<float>> samples();  // [pixels] each
}  // namespace ista

// E(y, z) = |y - Dec(z)|^2 + 0.1 |z|_1, Dec an MLP 32-256-784 with tanh: gradient steps on z from
// zero, then one playback of E to the weights.
namespace latent {
inline constexpr int64_t kCode = 32;
inline constexpr int64_t kHidden = 256;
inline constexpr int64_t kOut = 784;
inline constexpr int kInferenceSteps = 20;
inline constexpr double kInferenceRate = 0.02;
inline constexpr double kSparsity = 0.1;
inline constexpr int64_t kSamples = 64;
inline constexpr double kRate = 0.0005;
std::vector<std::vector<float>> samples();
}  // namespace latent

// |dE/dx|^2 of an MLP 2-64-64-1 with tanh, played back to its weights.
namespace penalty {
inline constexpr int64_t kIn = 2;
inline constexpr int64_t kHidden = 64;
inline constexpr int64_t kSamples = 64;
inline constexpr double kRate = 0.02;
std::vector<std::vector<float>> samples();
}  // namespace penalty

// Part-of-speech tags of English sentences: a word is its embedding and the last states of a
// bidirectional LSTM over its characters; a bidirectional LSTM over the words; Linear; summed cross
// entropy. After Plank, Sogaard and Goldberg 2016, "Multilingual part-of-speech tagging with
// bidirectional long short-term memory models and auxiliary loss".
namespace tagger {
inline constexpr int64_t kWordEmbedding = 64;
inline constexpr int64_t kCharEmbedding = 32;
inline constexpr int64_t kCharHidden = 32;  // of each direction, as the next
inline constexpr int64_t kHidden = 64;
inline constexpr int64_t kSamples = 32;
inline constexpr double kRate = 0.005;
struct Word {
  int64_t id;
  std::vector<int64_t> characters;  // one at least
  int64_t tag;
};
using Sentence = std::vector<Word>;
struct Corpus {
  int64_t words = 0;
  int64_t characters = 0;
  int64_t tags = 0;
  std::vector<Sentence> sentences;
};
/// Words, characters and tags of `folder`/train.conllu (Universal Dependencies), and of its
/// sentences of 5 words and more every 300th. Throws std::runtime_error.
Corpus read(const std::string& folder);
}  // namespace tagger

}  // namespace bench
