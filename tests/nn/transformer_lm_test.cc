// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/transformer_lm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "ebb/ebb.h"
#include "ebb/tests/nn/attention_reference.h"

namespace ebb {
namespace {

using nn::models::PositionKind;
using testing::doubles;
using testing::expect_near;

constexpr PositionKind kKinds[] = {PositionKind::kLearned, PositionKind::kSinusoidal,
                                   PositionKind::kRotary, PositionKind::kAlibi,
                                   PositionKind::kNone};

nn::models::TransformerLMOptions small(PositionKind kind) {
  return {.d_model = 16,
          .nhead = 2,
          .num_layers = 2,
          .max_length = 12,
          .dropout = 0,
          .positions = kind};
}

Tensor ids_of(std::vector<int64_t> ids) { return from_vector(ids); }

// Scores of a token do not depend on those after it, and do on each before it.
TEST(TransformerLM, SeesThePastOnly) {
  for (const PositionKind kind : kKinds) {
    manual_seed(4);
    nn::models::TransformerLM model(7, small(kind));
    model.to(kFloat64);
    const Tensor y = model(ids_of({1, 2, 3, 4, 5}));
    EXPECT_EQ(y.shape(), Shape({5, 7}));
    const Tensor other = model(ids_of({1, 2, 6, 4, 5}));
    expect_near(narrow(y, 0, 0, 2), narrow(other, 0, 0, 2));
    for (int64_t i = 2; i < 5; ++i) {
      EXPECT_GT(sum(abs(y[i] - other[i])).item(), 1e-6) << i;
    }
  }
}

// Only without positions is the past a bag of tokens.
TEST(TransformerLM, KnowsTheOrder) {
  for (const PositionKind kind : kKinds) {
    manual_seed(4);
    nn::models::TransformerLM model(7, small(kind));
    model.to(kFloat64);
    // Enough that positions tell: first values are small.
    for (const Parameter& p : model.parameters()) p.copy_from(p.tensor().detach() * 10.0);
    const Tensor a = model(ids_of({1, 2, 3, 4}))[-1];
    const Tensor b = model(ids_of({2, 1, 3, 4}))[-1];
    // In two layers even the causal order alone tells 1 2 from 2 1.
    EXPECT_GT(sum(abs(a - b)).item(), 1e-9);
  }
}

TEST(TransformerLM, StepsAreTheWholeOneByOne) {
  for (const PositionKind kind : kKinds) {
    manual_seed(5);
    nn::models::TransformerLM model(7, small(kind));
    model.to(kFloat64);
    model.eval();
    const Tensor ids = ids_of({1, 2, 3, 4, 5, 6, 0, 1});
    const Tensor whole = model(ids);
    nn::models::TransformerLM::State state;
    expect_near(model.step(narrow(ids, 0, 0, 3), state), narrow(whole, 0, 0, 3));
    for (int64_t i = 3; i < 6; ++i) {
      expect_near(model.step(narrow(ids, 0, i, 1), state), narrow(whole, 0, i, 1));
    }
    EXPECT_EQ(state.length(), 6);
    expect_near(model.step(narrow(ids, 0, 6, 2), state), narrow(whole, 0, 6, 2));
    // Several sequences at once.
    const Tensor two_list[] = {ids, flip(ids)};
    const Tensor two = stack(two_list);
    nn::models::TransformerLM::State both;
    model.step(narrow(two, 1, 0, 5), both);
    expect_near(model.step(narrow(two, 1, 5, 3), both)[0], narrow(whole, 0, 5, 3));
  }
}

TEST(TransformerLM, TiesTheOutputToTheEmbedding) {
  nn::models::TransformerLM tied(7, small(PositionKind::kLearned));
  nn::models::TransformerLMOptions o = small(PositionKind::kLearned);
  o.tie_weights = false;
  nn::models::TransformerLM apart(7, o);
  EXPECT_EQ(apart.parameters().size(), tied.parameters().size() + 1);
  const auto state = apart.state_dict();
  for (const char* name :
       {"embedding.weight", "positions.weight", "encoder.layers.1.self_attn.in_proj_weight",
        "encoder.layers.0.linear1.bias", "encoder.norm.weight", "head.weight"}) {
    EXPECT_EQ(state.count(name), 1u) << name;
  }
  // What the embedding learns, it learns from both ends: a token that was not read too.
  cross_entropy(tied(ids_of({1, 2})), ids_of({2, 3})).backward();
  EXPECT_NE(sum(abs(tied.embedding.weight.grad()[5])).item(), 0);
  cross_entropy(apart(ids_of({1, 2})), ids_of({2, 3})).backward();
  EXPECT_EQ(sum(abs(apart.embedding.weight.grad()[5])).item(), 0);
}

TEST(TransformerLM, StartsUnsure) {
  manual_seed(1);
  nn::models::TransformerLM model(50, {.d_model = 64, .nhead = 4, .num_layers = 3, .dropout = 0});
  const Tensor ids = randint(0, 50, {40});
  const Tensor next = randint(0, 50, {40});
  EXPECT_NEAR(cross_entropy(model(ids), next).item(), std::log(50), 0.15);
}

TEST(TransformerLM, LearnsASequence) {
  manual_seed(2);
  nn::models::TransformerLM model(5, small(PositionKind::kRotary));
  optim::Adam adam(model.parameters(), {.lr = 1e-2});
  std::vector<int64_t> text;
  for (int64_t i = 0; i < 24; ++i) text.push_back(i % 6 < 3 ? i % 6 : 6 - i % 6);  // 0 1 2 3 2 1
  const Tensor ids = from_vector(text);
  double loss = 0;
  for (int step = 0; step < 120; ++step) {
    const Tensor l = cross_entropy(model(narrow(ids, 0, 0, 23)), narrow(ids, 0, 1, 23));
    loss = l.item();
    adam.zero_grad();
    l.backward();
    adam.step();
  }
  EXPECT_LT(loss, 0.15);
  const std::vector<int64_t> prompt{0, 1, 2, 3};
  EXPECT_EQ(model.generate(prompt, 8, {.temperature = 0}),
            (std::vector<int64_t>{2, 1, 0, 1, 2, 3, 2, 1}));
  EXPECT_TRUE(model.is_training());
}

TEST(TransformerLM, GeneratesBeyondItsPositions) {
  manual_seed(3);
  nn::models::TransformerLM model(7, small(PositionKind::kLearned));
  Generator a(1);
  Generator b(1);
  const std::vector<int64_t> prompt(30, 2);  // longer than max_length as well
  const auto text = model.generate(prompt, 40, {.temperature = 1.5}, a);
  EXPECT_EQ(text.size(), 40u);
  EXPECT_EQ(text, model.generate(prompt, 40, {.temperature = 1.5}, b));
  EXPECT_GT(std::set<int64_t>(text.begin(), text.end()).size(), 3u);
  // Of one candidate there is one choice.
  EXPECT_EQ(model.generate(prompt, 9, {.top_k = 1}), model.generate(prompt, 9, {.temperature = 0}));
}

TEST(TransformerLM, GeneratesFromAContext) {
  manual_seed(4);
  auto options = small(PositionKind::kRotary);
  options.tie_weights = false;
  nn::models::TransformerLM model(7, options);
  // Large values, so that what is seen makes a difference.
  for (const Parameter& p : model.parameters()) {
    if (p->dim() == 2) nn::init::normal_(p);
  }
  constexpr size_t kContext = 6;
  constexpr size_t kPrompt = 9;
  std::vector<int64_t> all{0, 1, 2, 3, 4, 5, 6, 0, 1};
  const auto text =
      model.generate(all, 20, {.temperature = 0, .context = static_cast<int64_t>(kContext)});
  model.eval();
  const NoGradGuard no_grad;
  size_t start = kPrompt - kContext;
  for (int i = 0; i < 20; ++i) {
    if (all.size() - start > kContext) start = all.size() - kContext / 2;
    const std::vector<int64_t> seen(all.begin() + static_cast<ptrdiff_t>(start), all.end());
    all.push_back(static_cast<int64_t>(argmax(model(ids_of(seen))[-1]).item()));
  }
  EXPECT_EQ(text, std::vector<int64_t>(all.begin() + kPrompt, all.end()));
  EXPECT_NE(text, model.generate(std::vector<int64_t>(all.begin(), all.begin() + kPrompt), 20,
                                 {.temperature = 0}));
}

TEST(TransformerLM, SaysWhatIsWrong) {
  nn::models::TransformerLM model(7, small(PositionKind::kLearned));
  EXPECT_THROW(nn::models::TransformerLM(0), ValueError);
  EXPECT_THROW(nn::models::TransformerLM(5, {.d_model = 10, .nhead = 3}), ValueError);
  EXPECT_THROW(model(ids_of({7})), IndexError);
  EXPECT_THROW(model(ids_of(std::vector<int64_t>(13, 1))), ShapeError);
  EXPECT_THROW(model(full({2, 2, 2}, 1)), ShapeError);
  EXPECT_THROW(model.generate({}, 3), ValueError);
  EXPECT_THROW(model.generate(std::vector<int64_t>{7, 1}, 3, {.context = 1}), IndexError);
  EXPECT_THROW(model.generate(std::vector<int64_t>{7}, 0), IndexError);
  EXPECT_THROW(model.generate(std::vector<int64_t>{1}, -3), ValueError);
  EXPECT_THROW(model.generate(std::vector<int64_t>{1}, 3, {.temperature = -1}), ValueError);
  EXPECT_THROW(model.generate(std::vector<int64_t>{1}, 3, {.top_k = 0}), ValueError);
  EXPECT_THROW(model.generate(std::vector<int64_t>{1}, 3, {.context = 0}), ValueError);
}

TEST(TransformerLM, IsCloned) {
  nn::models::TransformerLM model(7, small(PositionKind::kRotary));
  const auto copy = model.clone();
  const Tensor ids = ids_of({1, 2, 3});
  EXPECT_EQ(doubles(static_cast<nn::models::TransformerLM&>(*copy)(ids)), doubles(model(ids)));
}

}  // namespace
}  // namespace ebb
