// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/module.h"

#include <gtest/gtest.h>

#include "ebb/autograd/testing.h"
#include "ebb/ebb.h"

namespace ebb {
namespace {

struct Net : nn::Module {
  nn::Linear hidden{*this, "hidden", 3, 4};
  nn::Linear out{*this, "out", 4, 2, {.bias = false}};
  Tensor mean = zeros({4});
  Net() { register_buffer("mean", &mean); }
  Tensor operator()(const Tensor& x) { return out(relu(hidden(x) - mean)); }
};

std::vector<std::string> names(const nn::Module& m) {
  std::vector<std::string> all;
  for (const auto& [name, p] : m.named_parameters()) all.push_back(name);
  return all;
}

TEST(Module, ListsParametersByFullName) {
  const Net net;
  EXPECT_EQ(names(net), (std::vector<std::string>{"hidden.weight", "hidden.bias", "out.weight"}));
  ASSERT_EQ(net.named_buffers().size(), 1u);
  EXPECT_EQ(net.named_buffers()[0].first, "mean");
  EXPECT_EQ(net.hidden.weight.leaf().name, "hidden.weight");
}

TEST(Module, ASharedWeightIsListedOnce) {
  struct Tied : nn::Module {
    nn::Linear a{*this, "a", 2, 2};
    nn::Linear b{*this, "b", 2, 2};
    Tied() { register_parameter("again", a.weight); }
  };
  const Tied net;
  EXPECT_EQ(net.parameters().size(), 4u);
}

// A value that is given away is taken over; any other is copied, so that no two write to one.
TEST(Module, CopiesWhatOthersHold) {
  struct Holder : nn::Module {
    Holder(Tensor kept, Tensor given) {
      held = kept;
      address = given.value().raw();
      from_kept = register_parameter("kept", kept);
      shared = register_parameter("shared", std::move(kept));
      taken = register_parameter("taken", std::move(given));
    }
    Tensor held;
    const void* address;
    Parameter from_kept, shared, taken;
  };
  Holder net(ones({2, 2}), ones({2, 2}));
  EXPECT_EQ(net.taken.tensor().value().raw(), net.address);
  for (const Parameter& p : {net.from_kept, net.shared}) nn::init::zeros_(p);
  EXPECT_EQ(net.held.to_vector<float>(), std::vector<float>(4, 1));
  EXPECT_EQ(net.named_parameters().size(), 3u);
}

TEST(Module, RefusesDuplicateAndBadNames) {
  struct Twice : nn::Module {
    nn::Linear a{*this, "a", 2, 2};
    nn::Linear b{*this, "a", 2, 2};
  };
  EXPECT_THROW(Twice(), ValueError);
  struct Dotted : nn::Module {
    nn::Linear a{*this, "a.b", 2, 2};
  };
  EXPECT_THROW(Dotted(), ValueError);
}

TEST(Module, IsAdoptedOnce) {
  struct Holder : nn::Module {
    using nn::Module::adopt;
  };
  Holder one;
  Holder other;
  nn::Linear part(2, 2);
  one.adopt("part", part);
  EXPECT_THROW(other.adopt("part", part), ValueError);
  EXPECT_THROW(one.adopt("again", part), ValueError);
}

TEST(Module, CannotHoldItself) {
  struct Holder : nn::Module {
    using nn::Module::adopt;
  };
  Holder outer;
  Holder inner;
  EXPECT_THROW(outer.adopt("self", outer), ValueError);
  outer.adopt("inner", inner);
  EXPECT_THROW(inner.adopt("outer", outer), ValueError);
}

TEST(Module, APartThatGoesLeaves) {
  struct Net2 : nn::Module {
    std::unique_ptr<nn::Linear> head = std::make_unique<nn::Linear>(*this, "head", 2, 2);
  };
  Net2 net;
  EXPECT_EQ(net.parameters().size(), 2u);
  net.head.reset();
  EXPECT_EQ(net.parameters().size(), 0u);
  net.head = std::make_unique<nn::Linear>(net, "head", 2, 3);
  EXPECT_EQ(net.parameters()[0].shape(), Shape({3, 2}));

  // A part that outlives what it was a part of may join another.
  struct Holder : nn::Module {
    using nn::Module::adopt;
  };
  nn::Linear part(2, 2);
  { Holder().adopt("part", part); }
  Holder other;
  other.adopt("part", part);
  EXPECT_EQ(names(other), (std::vector<std::string>{"part.weight", "part.bias"}));
}

TEST(Module, APartWhoseConstructorThrowsIsNotListed) {
  struct Fails : nn::Module {
    explicit Fails(nn::Module& parent) : nn::Module(parent, "fails") { throw ValueError("no"); }
  };
  nn::Linear fc(2, 2);
  EXPECT_THROW(Fails{fc}, ValueError);
  EXPECT_EQ(fc.parameters().size(), 2u);
}

// The optimiser stores its state by these names, so asking a part for its parameters must not
// change them.
TEST(Module, ParametersKeepTheirNameFromTheOutermostModule) {
  struct Inner : nn::Module {
    nn::Linear fc{*this, "fc", 2, 2};
    using nn::Module::Module;
  };
  struct Outer : nn::Module {
    Inner inner{*this, "inner"};
    nn::Sequential tail{*this, "tail"};
    Outer() { tail.add<nn::Linear>(2, 2); }
  };
  const Outer net;
  EXPECT_EQ(net.inner.fc.weight.leaf().name, "inner.fc.weight");
  EXPECT_EQ(names(net.inner), (std::vector<std::string>{"fc.weight", "fc.bias"}));
  EXPECT_EQ(net.inner.fc.weight.leaf().name, "inner.fc.weight");
  EXPECT_EQ(net.tail.parameters()[1].leaf().name, "tail.0.bias");
}

TEST(Module, ASharedParameterLoadsUnderAnyOfItsNames) {
  struct Tied : nn::Module {
    nn::Embedding words{*this, "words", 3, 2};
    Tied() { register_parameter("decoder", words.weight); }
  };
  Tied net;
  EXPECT_EQ(net.state_dict().size(), 1u);
  EXPECT_EQ(net.words.weight.leaf().name, "words.weight");
  net.load_state_dict({{"decoder", ones({3, 2})}});
  EXPECT_EQ(net.words.weight->to_vector<float>(), std::vector<float>(6, 1));
  net.load_state_dict({{"decoder", zeros({3, 2})}, {"words.weight", zeros({3, 2})}});
  EXPECT_EQ(net.words.weight->to_vector<float>(), std::vector<float>(6, 0));
  EXPECT_THROW(net.load_state_dict({}), ValueError);
}

TEST(Module, IsStoredAndConvertedWithWhatItsOptimiserPutOff) {
  const auto train = [](nn::Embedding& table, optim::SGD& sgd) {
    table(testing::indices({1, 2})).sum().backward();
    sgd.step();
    sgd.zero_grad();
  };
  nn::Embedding table(600, 4);
  table.weight.copy_from(ones({600, 4}));
  optim::SGD sgd(table.parameters(), {.lr = 0.5, .weight_decay = 1});
  train(table, sgd);
  EXPECT_EQ(table.state_dict().at("weight")[300][0].item(), 0.5);
  train(table, sgd);
  table.to(kFloat64);
  EXPECT_EQ(table.weight->value().at({300, 0}), 0.25);
  train(table, sgd);
  EXPECT_EQ(nn::clone_as(table, 600, 4)->weight->value().at({300, 0}), 0.125);
}

TEST(Module, TrainAndEvalReachAllParts) {
  Net net;
  net.eval();
  EXPECT_FALSE(net.hidden.is_training());
  net.train();
  EXPECT_TRUE(net.out.is_training());
}

TEST(Module, StateGoesOutAndIn) {
  Net a;
  Net b;
  a.mean = ones({4});
  b.load_state_dict(a.state_dict());
  const Tensor x = randn({3});
  EXPECT_EQ(a(x).to_vector<float>(), b(x).to_vector<float>());
  EXPECT_EQ(b.mean.to_vector<float>(), (std::vector<float>{1, 1, 1, 1}));
}

TEST(Module, LoadingReportsWhatDoesNotFitAndChangesNothing) {
  Net net;
  const auto before = net.hidden.weight->to_vector<float>();
  nn::StateDict state = net.state_dict();
  state["hidden.weight"] = zeros({4, 3});
  state["hidden.bias"] = zeros({5});
  EXPECT_THROW(net.load_state_dict(state), ShapeError);
  state.erase("hidden.bias");
  state["stranger"] = zeros({1});
  try {
    net.load_state_dict(state);
    FAIL();
  } catch (const ValueError& e) {
    EXPECT_STREQ(e.what(), "load_state_dict: missing {hidden.bias}, unexpected {stranger}");
  }
  EXPECT_EQ(net.hidden.weight->to_vector<float>(), before);
  net.load_state_dict(state, /*strict=*/false);
  EXPECT_EQ(net.hidden.weight->to_vector<float>(), std::vector<float>(12, 0));
}

TEST(Module, ConvertsItsType) {
  Net net;
  net.to(kFloat64);
  EXPECT_EQ(net(randn({3}, {.dtype = kFloat64})).dtype(), kFloat64);
  EXPECT_EQ(net.mean.dtype(), kFloat64);
  EXPECT_THROW(net.to(kInt64), DTypeError);
}

TEST(Module, ClonesByState) {
  Net net;
  net.to(kFloat64);
  net.eval();
  const auto copy = nn::clone_as(net);
  const Tensor x = randn({3}, {.dtype = kFloat64});
  EXPECT_EQ(net(x).to_vector<double>(), (*copy)(x).to_vector<double>());
  EXPECT_FALSE(copy->is_training());
  copy->hidden.weight.copy_from(zeros({4, 3}));
  EXPECT_NE(net.hidden.weight->to_vector<double>(), copy->hidden.weight->to_vector<double>());
  EXPECT_THROW(net.clone(), Error);
}

TEST(Module, ClonesKeepTheModeOfEachPart) {
  Net net;
  net.hidden.eval();
  const auto copy = nn::clone_as(net);
  EXPECT_TRUE(copy->is_training());
  EXPECT_FALSE(copy->hidden.is_training());
  EXPECT_TRUE(copy->out.is_training());
}

TEST(ModuleList, HoldsModulesByNumber) {
  struct Deep : nn::Module {
    nn::ModuleList<nn::Linear> layers{*this, "layers"};
    Deep() {
      for (int i = 0; i < 3; ++i) layers.emplace_back(2, 2, nn::LinearOptions{.bias = false});
    }
  };
  const Deep net;
  EXPECT_EQ(names(net),
            (std::vector<std::string>{"layers.0.weight", "layers.1.weight", "layers.2.weight"}));
  Tensor x = randn({2});
  size_t count = 0;
  for (const nn::Linear& layer : net.layers) {
    x = layer(x);
    ++count;
  }
  EXPECT_EQ(count, net.layers.size());
  EXPECT_EQ(&net.layers[1], &*++net.layers.begin());
  EXPECT_THROW(net.layers[3], IndexError);
}

TEST(Sequential, ChainsAdoptsAndClones) {
  nn::Sequential net;
  net.add<nn::Linear>(3, 5);
  net.add<nn::ReLU>();
  net.append(std::make_unique<nn::Linear>(5, 2));
  EXPECT_EQ(names(net), (std::vector<std::string>{"0.weight", "0.bias", "2.weight", "2.bias"}));
  const Tensor x = randn({3});
  EXPECT_EQ(net(x).shape(), Shape({2}));
  const auto copy = net.clone();
  EXPECT_EQ((*static_cast<nn::Sequential*>(copy.get()))(x).to_vector<float>(),
            net(x).to_vector<float>());
  EXPECT_THROW(net.append(nullptr), ValueError);
  EXPECT_THROW(net[3], IndexError);
}

}  // namespace
}  // namespace ebb
