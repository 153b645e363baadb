// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/transformer_lm.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/nn/init.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/random.h"
#include "ebb/ops/shape.h"

namespace ebb::nn::models {

namespace {

TransformerLMOptions checked(int64_t vocabulary, TransformerLMOptions o) {
  if (o.dim_feedforward == 0) o.dim_feedforward = 4 * o.d_model;
  if (vocabulary < 1 || o.d_model < 1 || o.dim_feedforward < 1 || o.max_length < 1) {
    throw ValueError(absl::StrCat("TransformerLM: vocabulary is ", vocabulary, ", d_model ",
                                  o.d_model, ", dim_feedforward ", o.dim_feedforward,
                                  ", max_length ", o.max_length, "; each must be at least 1"));
  }
  return o;
}

}  // namespace

TransformerLM::TransformerLM(int64_t vocabulary, TransformerLMOptions options) try
    : options_(checked(vocabulary, options)),
      embedding(*this, "embedding", vocabulary, options_.d_model),
      encoder(*this, "encoder", options_.d_model, options_.nhead, options_.num_layers,
              encoder_options()) {
  start(vocabulary);
} catch (const Error&) {
  ebb::detail::rethrow_as("TransformerLM");
}

TransformerLM::TransformerLM(Module& parent, std::string name, int64_t vocabulary,
                             TransformerLMOptions options) try
    : Module(parent, std::move(name)),
      options_(checked(vocabulary, options)),
      embedding(*this, "embedding", vocabulary, options_.d_model),
      encoder(*this, "encoder", options_.d_model, options_.nhead, options_.num_layers,
              encoder_options()) {
  start(vocabulary);
} catch (const Error&) {
  ebb::detail::rethrow_as("TransformerLM");
}

TransformerOptions TransformerLM::encoder_options() const {
  return {.layer = {.dim_feedforward = options_.dim_feedforward,
                    .dropout = options_.dropout,
                    .activation = TransformerActivation::kGelu,
                    .batch_first = true,
                    .norm_first = true,
                    .bias = options_.bias,
                    .rotary = options_.positions == PositionKind::kRotary,
                    .alibi = options_.positions == PositionKind::kAlibi}};
}

void TransformerLM::start(int64_t vocabulary) {
  if (options_.positions == PositionKind::kLearned) {
    positions = std::make_unique<LearnedPositions>(*this, "positions", options_.max_length,
                                                   options_.d_model);
  }
  if (!options_.tie_weights) {
    head = std::make_unique<Linear>(*this, "head", options_.d_model, vocabulary,
                                    LinearOptions{.bias = false});
    init::normal_(head->weight, 0, 0.02);
  }
  init::normal_(embedding.weight, 0, 0.02);
  const double last = 0.02 / std::sqrt(2.0 * static_cast<double>(options_.num_layers));
  for (const TransformerEncoderLayer& layer : encoder.layers) {
    init::normal_(layer.self_attn.in_proj_weight, 0, 0.02);
    init::normal_(layer.self_attn.out_proj.weight, 0, last);
    init::normal_(layer.linear1.weight, 0, 0.02);
    init::normal_(layer.linear2.weight, 0, last);
    if (!options_.bias) continue;
    init::zeros_(layer.linear1.bias);
    init::zeros_(layer.linear2.bias);
  }
}

Tensor TransformerLM::embed(const Tensor& ids, int64_t start) const {
  if (ids.dim() != 1 && ids.dim() != 2) {
    throw ShapeError(
        absl::StrCat("TransformerLM: ids are ", ids.shape().str(), "; they must be [T] or [N,T]"));
  }
  Tensor x = embedding(ids);
  if (positions != nullptr) x = positions->at(x, start);
  if (options_.positions == PositionKind::kSinusoidal) {
    // Embeddings and positions of one size, as in the paper.
    x = x * std::sqrt(static_cast<double>(options_.d_model)) +
        sinusoidal_positional_encoding(x.size(-2), options_.d_model, {.dtype = x.dtype()}, 10000,
                                       start);
  }
  return dropout(x, options_.dropout, is_training());
}

Tensor TransformerLM::scores(const Tensor& ids, State* state) const {
  Tensor x = embed(ids, state != nullptr ? state->length() : 0);
  size_t i = 0;
  for (const TransformerEncoderLayer& layer : encoder.layers) {
    KeyValueCache* cache = state != nullptr ? &state->layers[i++] : nullptr;
    x = layer(x, {.is_causal = true, .cache = cache});
  }
  x = (*encoder.norm)(x);
  return head != nullptr ? (*head)(x) : linear(x, embedding.weight);
}

Tensor TransformerLM::operator()(const Tensor& ids, Where where) const {
  const ebb::detail::PlaceScope scope(where);
  return scores(ids, nullptr);
}

Tensor TransformerLM::step(const Tensor& ids, State& state) const {
  const NoGradGuard no_grad;
  state.layers.resize(encoder.layers.size());
  return scores(ids, &state);
}

namespace {

// A token by its scores.
int64_t draw(const Tensor& scores, const SampleOptions& options, Generator& generator) {
  std::vector<double> p = scores.to_vector<double>();
  const auto largest = std::max_element(p.begin(), p.end());
  if (options.temperature == 0) return largest - p.begin();
  double least = -std::numeric_limits<double>::infinity();
  if (options.top_k && *options.top_k < static_cast<int64_t>(p.size())) {
    std::vector<double> sorted = p;
    const auto kth = sorted.begin() + (*options.top_k - 1);
    std::nth_element(sorted.begin(), kth, sorted.end(), std::greater<>());
    least = *kth;
  }
  const double top = *largest;
  double sum = 0;
  for (double& v : p) {
    v = v >= least ? std::exp((v - top) / options.temperature) : 0;
    sum += v;
  }
  double left = generator.uniform() * sum;
  for (size_t i = 0; i < p.size(); ++i) {
    left -= p[i];
    if (left < 0) return static_cast<int64_t>(i);
  }
  return largest - p.begin();  // what rounding left over
}

}  // namespace

std::vector<int64_t> TransformerLM::generate(Span<const int64_t> prompt, int64_t count,
                                             const SampleOptions& options, Generator& generator) {
  if (prompt.empty()) {
    throw ValueError("TransformerLM: the prompt is empty; it must have a token at least");
  }
  const int64_t vocabulary = embedding.weight.size(0);
  for (const int64_t token : prompt) {
    if (token >= -vocabulary && token < vocabulary) continue;
    throw IndexError(absl::StrCat("TransformerLM: the prompt has token ", token,
                                  ", the vocabulary ", vocabulary, " tokens"));
  }
  if (count < 0 || !(options.temperature >= 0)) {
    throw ValueError(absl::StrCat("TransformerLM: count is ", count, ", temperature ",
                                  options.temperature, "; neither may be negative"));
  }
  const auto require_some = [](const char* name, std::optional<int64_t> n) {
    if (n.value_or(1) >= 1) return;
    throw ValueError(absl::StrCat("TransformerLM: ", name, " is ", *n, "; it must be at least 1"));
  };
  require_some("top_k", options.top_k);
  require_some("context", options.context);
  struct Evaluation {
    explicit Evaluation(TransformerLM& m) : model(m), was_training(m.is_training()) { m.eval(); }
    ~Evaluation() { model.train(was_training); }
    TransformerLM& model;
    bool was_training;
  } const evaluation(*this);

  int64_t window = options.context.value_or(std::numeric_limits<int64_t>::max());
  if (positions != nullptr) window = std::min(window, options_.max_length);
  std::vector<int64_t> all(prompt.begin(), prompt.end());
  const auto last = [&](int64_t n) {
    n = std::min(n, static_cast<int64_t>(all.size()));
    return Tensor(Array::of<int64_t>({n}, Span<const int64_t>(all).last(static_cast<size_t>(n))));
  };
  State state;
  Tensor next = last(window);
  for (int64_t i = 0; i < count; ++i) {
    if (state.length() + next.size(0) > window) {
      for (KeyValueCache& layer : state.layers) layer.clear();
      next = last(std::max<int64_t>(window / 2, 1));
    }
    const Tensor scores = step(next, state);
    all.push_back(draw(scores[-1], options, generator));
    next = last(1);
  }
  return std::vector<int64_t>(all.begin() + static_cast<std::ptrdiff_t>(prompt.size()), all.end());
}

}  // namespace ebb::nn::models
