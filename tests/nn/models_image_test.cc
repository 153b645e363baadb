// SPDX-License-Identifier: Apache-2.0
// AlexNet, VGG and MobileNetV2: sizes, names and shapes as published, gradients, learning, copies.
#include <map>

#include "absl/strings/str_cat.h"
#include "ebb/nn/init.h"
#include "ebb/nn/models/alexnet.h"
#include "ebb/nn/models/mobilenet.h"
#include "ebb/nn/models/vgg.h"
#include "ebb/ops/index.h"
#include "ebb/tests/nn/models_testing.h"

namespace ebb::nn::models {
namespace {

using ::testing::ElementsAreArray;

// The published first values let signals fade in networks as narrow as those of the tests.
void keep_signals(const Module& net) {
  for (const Parameter& p : net.parameters()) {
    if (p.shape().rank() >= 2) init::kaiming_normal_(p);
  }
}

// What a network of `hidden` 4096 would count, from one that is the same but for a `hidden` that
// costs nothing to draw: the linear layers' shapes are looked at, and their sizes replaced.
int64_t count_at_full_width(const Module& net, int64_t in, int64_t hidden) {
  int64_t n = 0;
  std::vector<Shape> linear;
  for (const auto& [name, p] : net.named_parameters()) {
    if (name.rfind("classifier.", 0) == 0) {
      linear.push_back(p.shape());
    } else {
      n += p.numel();
    }
  }
  EXPECT_THAT(linear, ElementsAreArray({Shape{hidden, in}, Shape{hidden}, Shape{hidden, hidden},
                                        Shape{hidden}, Shape{1000, hidden}, Shape{1000}}));
  return n + (in + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000;
}

TEST(AlexNet, HasThePublishedNamesAndSize) {
  const AlexNet net({.hidden = 8});
  EXPECT_EQ(count_at_full_width(net, 256 * 6 * 6, 8), 61100840);
  std::vector<std::string> expected;
  for (const char* layer : {"features.0", "features.3", "features.6", "features.8", "features.10",
                            "classifier.1", "classifier.4", "classifier.6"}) {
    expected.push_back(absl::StrCat(layer, ".weight"));
    expected.push_back(absl::StrCat(layer, ".bias"));
  }
  EXPECT_THAT(names(net), ElementsAreArray(expected));
  EXPECT_EQ(net.features(randn({3, 224, 224})).shape(), Shape({256, 6, 6}));
}

AlexNetOptions tiny_alexnet() {
  return {.in_channels = 1, .num_classes = 3, .channels = {6, 8, 7, 6, 5}, .hidden = 12};
}

TEST(AlexNet, ScoresAnImageOrABatch) {
  AlexNet net(tiny_alexnet());
  EXPECT_EQ(net(randn({1, 63, 70})).shape(), Shape({3}));
  EXPECT_EQ(net(randn({2, 1, 63, 63})).shape(), Shape({2, 3}));
  EXPECT_THROW(net(randn({3, 63, 63})), ShapeError);
  EXPECT_THROW(net(randn({1, 40, 40})), ShapeError);
  EXPECT_THROW(AlexNet({.dropout = 1.5}), ValueError);
  EXPECT_THROW(AlexNet({.num_classes = 0, .hidden = 1}), ValueError);
}

TEST(AlexNet, DropsInTrainingOnly) {
  AlexNetOptions options = tiny_alexnet();
  options.hidden = 64;
  AlexNet net(options);
  const Tensor x = randn({1, 63, 63});
  EXPECT_NE(net(x).to_vector<float>(), net(x).to_vector<float>());
  net.eval();
  EXPECT_EQ(net(x).to_vector<float>(), net(x).to_vector<float>());
}

TEST(AlexNet, LearnsAndIsCopied) {
  default_generator() = Generator(6);
  AlexNetOptions options = tiny_alexnet();
  options.dropout = 0;
  AlexNet net(options);
  keep_signals(net);
  const std::vector<Tensor> samples = {randn({1, 63, 63}), randn({1, 63, 63}), randn({1, 63, 63})};
  expect_trains(net, samples[0], 1);
  expect_learns(net, samples, 0.002, 100);
  AlexNet other(options);
  expect_copies(net, other, samples[1]);
  AlexNet exact(options);
  exact.to(kFloat64);
  const Tensor x = randn({1, 63, 63}, {.dtype = kFloat64});
  expect_right_gradients(exact, [&] { return square(exact(x)).sum(); });
}

struct Published {
  VGGOptions options;
  int64_t count;
};

class VGGSizes : public ::testing::TestWithParam<Published> {};

TEST_P(VGGSizes, AreThePublishedOnes) {
  VGGOptions options = GetParam().options;
  options.hidden = 8;
  const VGG net(options);
  EXPECT_EQ(count_at_full_width(net, 512 * 7 * 7, 8), GetParam().count);
}

INSTANTIATE_TEST_SUITE_P(
    Models, VGGSizes,
    ::testing::Values(Published{vgg11(), 132863336}, Published{vgg13(), 133047848},
                      Published{vgg16(), 138357544}, Published{vgg19(), 143667240},
                      Published{vgg11_bn(), 132868840}, Published{vgg13_bn(), 133053736},
                      Published{vgg16_bn(), 138365992}, Published{vgg19_bn(), 143678248}),
    [](const auto& variant) {
      return absl::StrCat("Of", variant.param.count);  // unique, and says what failed
    });

VGGOptions narrow(VGGOptions options) {
  options.width = 2;
  options.hidden = 6;
  options.dropout = 0;
  return options;
}

TEST(VGG, HasThePublishedNames) {
  std::vector<std::string> expected;
  for (const int i : {0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28}) {
    expected.push_back(absl::StrCat("features.", i, ".weight"));
    expected.push_back(absl::StrCat("features.", i, ".bias"));
  }
  for (const int i : {0, 3, 6}) {
    expected.push_back(absl::StrCat("classifier.", i, ".weight"));
    expected.push_back(absl::StrCat("classifier.", i, ".bias"));
  }
  EXPECT_THAT(names(VGG(narrow(vgg16()))), ElementsAreArray(expected));
}

TEST(VGG, HasThePublishedNamesWithNorms) {
  std::vector<std::string> parameters;
  std::vector<std::string> buffers;
  for (const int i : {0, 4, 8, 11, 15, 18, 22, 25}) {
    for (const int layer : {i, i + 1}) {
      parameters.push_back(absl::StrCat("features.", layer, ".weight"));
      parameters.push_back(absl::StrCat("features.", layer, ".bias"));
    }
    for (const char* buffer : {"running_mean", "running_var", "num_batches_tracked"}) {
      buffers.push_back(absl::StrCat("features.", i + 1, ".", buffer));
    }
  }
  for (const int i : {0, 3, 6}) {
    parameters.push_back(absl::StrCat("classifier.", i, ".weight"));
    parameters.push_back(absl::StrCat("classifier.", i, ".bias"));
  }
  parameters.insert(parameters.end(), buffers.begin(), buffers.end());
  EXPECT_THAT(names(VGG(narrow(vgg11_bn()))), ElementsAreArray(parameters));
}

TEST(VGG, ChannelsAndSizesAreThePapers) {
  VGGOptions options = narrow(vgg11(5));
  const VGG net(options);
  EXPECT_EQ(net.features(randn({3, 64, 96})).shape(), Shape({16, 2, 3}));
  EXPECT_EQ(net(randn({3, 64, 96})).shape(), Shape({5}));
  EXPECT_EQ(net(randn({2, 3, 32, 32})).shape(), Shape({2, 5}));
  EXPECT_THROW(net(randn({3, 16, 16})), ShapeError);
  EXPECT_THROW(net(randn({1, 32, 32})), ShapeError);
  options.layers = {};
  EXPECT_THROW(VGG{options}, ValueError);
  options.layers = {1, 0};
  EXPECT_THROW(VGG{options}, ValueError);
}

TEST(VGG, FirstValuesAreThePublishedOnes) {
  VGGOptions options = narrow(vgg11());
  options.width = 32;
  options.hidden = 64;
  const VGG net(options);
  for (const auto& [name, p] : net.named_parameters()) {
    const double deviation = std::sqrt(square(p.tensor().detach()).mean().item());
    if (p.shape().rank() == 4) {
      const double expected = std::sqrt(2.0 / static_cast<double>(p.size(0) * 9));
      EXPECT_NEAR(deviation, expected, 0.1 * expected) << name;
    } else {
      EXPECT_NEAR(deviation, p.shape().rank() == 2 ? 0.01 : 0, 1e-3) << name;
    }
  }
}

TEST(VGG, DropsInTrainingOnly) {
  VGGOptions options = narrow(vgg11(3));
  options.hidden = 64;
  options.dropout = 0.5;
  VGG net(options);
  const Tensor x = randn({3, 32, 32});
  EXPECT_NE(net(x).to_vector<float>(), net(x).to_vector<float>());
  net.eval();
  EXPECT_EQ(net(x).to_vector<float>(), net(x).to_vector<float>());
}

TEST(VGG, LearnsAndIsCopied) {
  default_generator() = Generator(4);
  VGGOptions options = {
      .layers = {1, 1, 1}, .width = 4, .num_classes = 3, .dropout = 0, .hidden = 16};
  options.norm = Normalization{.kind = Normalization::Kind::kGroup, .groups = 2};
  // Before it has learned: the values are the same on every machine, and far from where the
  // rectifiers turn.
  VGG exact(options);
  keep_signals(exact);
  exact.to(kFloat64);
  const Tensor x = randn({3, 16, 16}, {.dtype = kFloat64});
  expect_right_gradients(exact, [&] { return square(exact(x)).sum(); });

  VGG net(options);
  keep_signals(net);
  const std::vector<Tensor> samples = {randn({3, 16, 16}), randn({3, 16, 16}), randn({3, 16, 16})};
  expect_trains(net, samples[0], 1);
  expect_learns(net, samples, 0.001, 150);
  VGG other(options);
  expect_copies(net, other, samples[1]);
}

TEST(MobileNetV2, HasThePublishedSizes) {
  EXPECT_EQ(count(MobileNetV2(mobilenet_v2())), 3504872);
  // By the paper's table of blocks and its rounding, added up elsewhere.
  const std::map<double, int64_t> expected = {
      {0.35, 1677128}, {0.5, 1968680}, {0.75, 2636424}, {1.4, 6108776}};
  for (const auto& [width, n] : expected) {
    EXPECT_EQ(count(MobileNetV2(mobilenet_v2(1000, width))), n) << width;
  }
}

TEST(MobileNetV2, ChannelsAreRounded) {
  EXPECT_EQ(round_channels(32), 32);
  EXPECT_EQ(round_channels(0.75 * 24), 24);  // 18 to 16 would be more than a tenth off
  EXPECT_EQ(round_channels(0.35 * 32), 16);  // 11.2 to 8, too
  EXPECT_EQ(round_channels(1.4 * 24), 32);
  EXPECT_EQ(round_channels(1), 8);
  EXPECT_EQ(round_channels(20), 24);  // half goes up
}

TEST(MobileNetV2, HasThePublishedNames) {
  std::vector<std::string> parameters;
  std::vector<std::string> buffers;
  auto norm = [&](const std::string& name) {
    parameters.push_back(name + ".weight");
    parameters.push_back(name + ".bias");
    for (const char* b : {".running_mean", ".running_var", ".num_batches_tracked"}) {
      buffers.push_back(name + b);
    }
  };
  auto pair = [&](const std::string& convolution, const std::string& its_norm) {
    parameters.push_back(convolution + ".weight");
    norm(its_norm);
  };
  pair("features.0.0", "features.0.1");
  pair("features.1.conv.0.0", "features.1.conv.0.1");
  pair("features.1.conv.1", "features.1.conv.2");
  for (int i = 2; i <= 17; ++i) {
    const std::string block = absl::StrCat("features.", i, ".conv.");
    pair(block + "0.0", block + "0.1");
    pair(block + "1.0", block + "1.1");
    pair(block + "2", block + "3");
  }
  pair("features.18.0", "features.18.1");
  parameters.push_back("classifier.1.weight");
  parameters.push_back("classifier.1.bias");
  parameters.insert(parameters.end(), buffers.begin(), buffers.end());
  EXPECT_THAT(names(MobileNetV2(mobilenet_v2(2, 0.35))), ElementsAreArray(parameters));
}

TEST(MobileNetV2, ScoresAnImageOrABatch) {
  MobileNetV2 net(mobilenet_v2(7, 0.35));
  EXPECT_EQ(net.features(randn({3, 64, 96})).shape(), Shape({1280, 2, 3}));
  const Tensor x = randn({2, 3, 64, 64});
  EXPECT_NE(net(x).to_vector<float>(), net(x).to_vector<float>());  // dropout
  net.eval();
  const Tensor all = net(x);
  EXPECT_EQ(all.shape(), Shape({2, 7}));
  const Tensor one = net(x[1]);
  EXPECT_EQ(one.shape(), Shape({7}));
  EXPECT_LT(abs(all[1] - one).max().item(), 1e-5);
  EXPECT_THROW(net(randn({1, 64, 64})), ShapeError);
  EXPECT_THROW(MobileNetV2(mobilenet_v2(7, 0)), ValueError);
  EXPECT_THROW(MobileNetV2(mobilenet_v2(0)), ValueError);
  EXPECT_THROW(MobileNetV2({.stages = {{0, 8, 1, 1}}}), ValueError);
}

TEST(MobileNetV2, LearnsAndIsCopied) {
  default_generator() = Generator(4);
  MobileNetV2Options options{.in_channels = 1,
                             .num_classes = 3,
                             .dropout = 0,
                             .stages = {{1, 8, 1, 1}, {2, 8, 2, 2}},
                             .first_channels = 8,
                             .last_channels = 16};
  options.norm = {.kind = Normalization::Kind::kGroup, .groups = 2};
  // Before it has learned: the values are the same on every machine, and far from where the
  // rectifiers turn.
  MobileNetV2 exact(options);
  exact.to(kFloat64);
  const Tensor x = randn({1, 16, 16}, {.dtype = kFloat64});
  expect_right_gradients(exact, [&] { return square(exact(x)).sum(); });

  MobileNetV2 net(options);
  const std::vector<Tensor> samples = {randn({1, 16, 16}), randn({1, 16, 16}), randn({1, 16, 16})};
  expect_trains(net, samples[0], 1);
  expect_learns(net, samples, 0.005, 100);
  MobileNetV2 other(options);
  expect_copies(net, other, samples[1]);
}

}  // namespace
}  // namespace ebb::nn::models
