// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/module.h"

#include <gtest/gtest.h>

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
